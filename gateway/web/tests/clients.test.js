// Clients that others wrote, and ours, against a real gateway: each is cut off in the middle of an answer and goes on.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { EventSource } from 'eventsource';
import WebSocket from 'ws';

import { connect } from '../client.js';
import { Story } from '../story.js';
import { Stack, eventually } from './stack.js';

const stack = await Stack.start();
after(() => stack.stop());
const token = await stack.token('mira', { name: 'Mira' });

/** What a reader of plain messages was given of responses: id → its text, made of deltas as they came. */
function reader() {
  const story = new Story();
  const shown = new Map();
  const take = (message) => {
    for (const change of story.take(message)) {
      assert.notEqual(change.kind, 'hole');
      if (change.kind !== 'text') continue;
      const text = change.added === null ? change.text : (shown.get(change.re) ?? '') + change.added;
      assert.equal(text, change.text);
      shown.set(change.re, text);
    }
  };
  return { story, shown, take, length: () => Math.max(0, ...[...shown.values()].map((text) => text.length)) };
}

/** A client that ends with its test. */
function client(t, options) {
  const gateway = connect(options);
  t.after(() => gateway.close());
  return gateway;
}

test('the ws package resumes in the middle of an answer', { timeout: 60_000 }, async (t) => {
  await stack.create(token, 'ws');
  const read = reader();
  const kinds = [];
  const open = () => {
    const socket = new WebSocket(`${stack.url.replace('http', 'ws')}/v1/ws`, 'storyfleet.v1', { headers: { authorization: `Bearer ${token}` } });
    socket.on('open', () => socket.send(JSON.stringify({ t: 'join', story: 'ws', cursor: read.story.cursor })));
    socket.on('message', (data) => {
      const message = JSON.parse(data);
      kinds.push(message.t);
      read.take(message);
    });
    return socket;
  };
  let socket = open();
  t.after(() => socket.terminate());
  await eventually('joined', () => kinds.includes('ok'));
  const { id } = await stack.say(token, 'ws', 'I light the lamp.');
  for (let cut = 1; cut <= 3; cut += 1) {
    await eventually(`text before cut ${cut}`, () => read.length() >= cut * 20);
    socket.terminate();
    kinds.length = 0;
    socket = open();
    await eventually('joined again', () => kinds.includes('ok'));
    assert.ok(!kinds.includes('gap'));
  }
  const answer = await stack.answer(token, 'ws', id);
  await eventually('the event', () => read.story.drafts.size === 0 && read.shown.has(answer.id));
  assert.equal(read.shown.get(answer.id), answer.text);
});

test('the eventsource package resumes in the middle of an answer by itself', { timeout: 60_000 }, async (t) => {
  await stack.create(token, 'sse');
  const read = reader();
  let opened = 0;
  const stream = new EventSource(`${stack.url}/v1/stories/sse/stream`, {
    fetch: (url, init) => fetch(url, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
  });
  t.after(() => stream.close());
  stream.addEventListener('open', () => (opened += 1));
  for (const kind of ['event', 'delta', 'reset', 'snapshot', 'retracted', 'gap']) {
    stream.addEventListener(kind, ({ data }) => read.take(JSON.parse(data)));
  }
  await eventually('open', () => opened === 1);
  const { id } = await stack.say(token, 'sse', 'I light the lamp.');
  await eventually('text before the cut', () => read.length() >= 20);
  stack.wire.snap();
  const before = read.length();
  await eventually('open again', () => opened === 2);
  const answer = await stack.answer(token, 'sse', id);
  assert.ok(before < answer.text.length, 'cut before its end');
  await eventually('the event', () => read.story.drafts.size === 0 && read.shown.has(answer.id));
  assert.equal(read.shown.get(answer.id), answer.text);
});

for (const transport of ['ws', 'sse']) {
  test(`our client loses and doubles nothing over ${transport}, through cuts, an outage and the gateway's death`, { timeout: 60_000 }, async (t) => {
    const id = `ours-${transport}`;
    await stack.create(token, id);
    const shown = new Map();
    const done = new Map();
    const states = [];
    let gaps = 0;
    const gateway = client(t, { url: stack.url, transport, WebSocket, getToken: async () => token, onState: ({ state }) => states.push(state) });
    const story = gateway.join(id, {
      onText: (re, text, { added, done: isDone }) => {
        const now = added === null ? text : (shown.get(re) ?? '') + added;
        assert.equal(now, text);
        shown.set(re, now);
        if (isDone) done.set(re, now);
      },
      onGap: () => (gaps += 1),
    });
    const disturb = [() => stack.wire.snap(), () => outage(states), () => restart('SIGKILL'), () => restart('SIGTERM')];
    for (const [i, disturbance] of disturb.entries()) {
      const known = new Set(shown.keys());
      const length = () => Math.max(0, ...[...shown].map(([re, text]) => (known.has(re) ? 0 : text.length)));
      const { id: action } = await story.publish({ mode: 'do', text: `I light the lamp, ${i}.` });
      await eventually('some text', () => length() >= 10);
      await disturbance();
      const answer = await stack.answer(token, id, action);
      await eventually('all of it', () => done.has(answer.id));
      assert.equal(done.get(answer.id), answer.text);
    }
    assert.equal(gaps, 0);
    assert.ok(states.filter((state) => state === 'open').length >= disturb.length, states.join(' '));
  });
}

/** Until it was tried in vain to come back. */
async function outage(states) {
  const known = states.length;
  stack.wire.cut();
  await eventually('a try in vain', () => states.slice(known).filter((state) => state === 'waiting').length >= 2);
  stack.wire.mend();
}

async function restart(signal) {
  await stack.endGateway(signal);
  await stack.startGateway();
}

test('what is said during an outage is said once, when it is over', { timeout: 60_000 }, async (t) => {
  await stack.create(token, 'outage');
  const gateway = client(t, { url: stack.url, WebSocket, getToken: async () => token });
  const story = gateway.join('outage', {});
  await story.publish({ mode: 'do', text: 'first' });
  stack.wire.cut();
  const published = story.publish({ mode: 'do', text: 'second' });
  stack.wire.mend();
  const { id, status } = await published;
  assert.equal(status, 'logged');
  const said = (await stack.log(token, 'outage')).filter((event) => event.type === 'action');
  assert.deepEqual(said.map((event) => event.text), ['first', 'second']);
  assert.equal(said[1].id, id);
});

/** Says of every token that it ends in a second: there is no hurry for who renews it. */
class Hasty extends WebSocket {
  set onmessage(take) {
    super.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.t === 'welcome') message.expires_at = Date.now() / 1000 + 1;
      take({ data: JSON.stringify(message) });
    };
  }
}

test('a token is renewed on the open socket before it ends', { timeout: 60_000 }, async (t) => {
  await stack.create(token, 'renewed');
  const asked = [];
  const states = [];
  const gateway = client(t, {
    url: stack.url,
    WebSocket: Hasty,
    getToken: ({ renew }) => {
      asked.push(renew);
      return stack.token('mira', { name: 'Mira' });
    },
    onState: ({ state }) => states.push(state),
  });
  gateway.join('renewed', {});
  await eventually('two renewals', () => asked.length >= 3);
  assert.deepEqual(asked.slice(0, 3), [false, true, true]);
  assert.deepEqual(states, ['connecting', 'open']);
});

test('a token that is not good signs out, with the reason', { timeout: 60_000 }, async (t) => {
  let asked = 0;
  const states = [];
  const gateway = client(t, {
    url: stack.url,
    WebSocket,
    getToken: async () => {
      asked += 1;
      return `${token.slice(0, -4)}AAAA`;
    },
    onState: (state) => states.push(state),
  });
  await eventually('signed out', () => states.at(-1)?.state === 'signed-out');
  assert.ok(states.at(-1).reason, 'a reason');
  assert.ok(asked >= 2 && asked <= 3, `${asked} tries`);
});

test('where no WebSocket gets through streams are used', { timeout: 60_000 }, async (t) => {
  await stack.create(token, 'streams');
  class Nowhere {
    constructor() {
      setTimeout(() => this.onclose({ code: 1006, reason: '' }), 1);
    }
    close() {}
  }
  const states = [];
  const done = new Map();
  const gateway = client(t, { url: stack.url, WebSocket: Nowhere, getToken: async () => token, onState: (state) => states.push(state) });
  const story = gateway.join('streams', { onText: (re, text, how) => how.done && done.set(re, text) });
  const { id } = await story.publish({ mode: 'do', text: 'I light the lamp.' });
  assert.equal(states.at(-1).transport, 'sse');
  assert.equal(states.at(-1).name, 'Mira');
  const answer = await stack.answer(token, 'streams', id);
  await eventually('all of it', () => done.has(answer.id));
  assert.equal(done.get(answer.id), answer.text);
});

test('a story that is not there, or not for you, is told so', { timeout: 60_000 }, async (t) => {
  const reader = await stack.token('ron', { role: 'reader' });
  await stack.create(token, 'quiet');
  for (const transport of ['ws', 'sse']) {
    const errors = [];
    const gateway = client(t, { url: stack.url, transport, WebSocket, getToken: async () => reader });
    gateway.join('nowhere', { onError: ({ code }) => errors.push(code) });
    const quiet = gateway.join('quiet', {});
    await assert.rejects(quiet.publish({ mode: 'do', text: 'I may not.' }), { code: 'forbidden' });
    await eventually('the error', () => errors.includes('no_story'));
  }
});
