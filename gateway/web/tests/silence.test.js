// The client where the network is dead and says nothing: no close, no error, no bytes.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import WebSocket from 'ws';

import { connect } from '../client.js';
import { WELCOME, pass, stage } from './stage.js';
import { Stack, eventually } from './stack.js';

const stack = await Stack.start();
after(() => stack.stop());

const SILENT = 'the connection fell silent';
const reasons = (states) => states.filter(({ state }) => state === 'waiting').map(({ reason }) => reason);
const kinds = (socket) => socket.said.map(({ t }) => t);

function clock(t) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
}

/** A gateway that answers all but pings, those too while `isAlive`. */
function answers(isAlive) {
  return (message, socket) => {
    if (message.t === 'auth') socket.hear(WELCOME());
    else if (message.t !== 'ping' || isAlive()) socket.hear({ t: 'ok', ref: message.ref });
  };
}

test('a socket that says nothing for long is asked, and goes on when it answers', async (t) => {
  clock(t);
  let isAlive = true;
  const { gateway, sockets, states, until } = stage(t, { hears: answers(() => isAlive) });
  gateway.join('s', {});
  await until(() => sockets.length === 1);
  await pass(t, 120_000);
  assert.equal(sockets.length, 1);
  assert.ok(kinds(sockets[0]).filter((kind) => kind === 'ping').length >= 4, kinds(sockets[0]).join(' '));
  isAlive = false;
  await pass(t, 45_000);
  assert.deepEqual(reasons(states)[0], SILENT);
  assert.ok(kinds(sockets[1]).includes('join'));
});

test('who wakes up has an answer at once, or a new socket', async (t) => {
  clock(t);
  let isAlive = true;
  const { gateway, sockets, states, until } = stage(t, { hears: answers(() => isAlive) });
  gateway.join('s', {});
  await until(() => sockets.length === 1);
  await pass(t, 1_000);
  gateway.wake();
  await pass(t, 5_000);
  assert.equal(sockets.length, 1);
  isAlive = false;
  gateway.wake();
  await pass(t, 4_000);
  assert.deepEqual(reasons(states), [SILENT]);
  assert.equal(sockets.length, 2);
});

test('what was heard in the instant in which it is asked is no answer', async (t) => {
  clock(t);
  const { gateway, sockets, states, until } = stage(t, { hears: answers(() => false) });
  await until(() => states.at(-1)?.state === 'open');
  sockets[0].hear({ t: 'ok' });
  gateway.wake();
  await pass(t, 4_000);
  assert.deepEqual(reasons(states), [SILENT]);
});

test('a socket that opens and lets nothing through gives way to streams', async (t) => {
  clock(t);
  let streams = 0;
  const fetch = async () => {
    streams += 1;
    return new Promise(() => {});
  };
  const { gateway, sockets, states, until } = stage(t, { transport: undefined, fetch });
  gateway.join('s', {});
  await until(() => sockets.length === 1);
  await pass(t, 25_000);
  assert.equal(sockets.length, 2);
  assert.equal(streams, 1);
  assert.equal(states.at(-1).transport, 'sse');
});

test('a stream that fell silent is opened again, however lively the others are', async (t) => {
  clock(t);
  const bodies = new Map();
  const opened = [];
  const fetch = async (url) => {
    const story = url.pathname.split('/')[3];
    opened.push(story);
    const start = (body) => {
      bodies.set(story, body);
      body.enqueue(new TextEncoder().encode('retry: 1000\n\n'));
    };
    return new Response(new ReadableStream({ start }));
  };
  const { gateway, states, until } = stage(t, { transport: 'sse', fetch });
  gateway.join('lively', {});
  gateway.join('silent', {});
  await until(() => opened.length === 2);
  for (let passed = 0; passed < 60; passed += 5) {
    bodies.get('lively').enqueue(new TextEncoder().encode(':\n\n'));
    await pass(t, 5_000);
  }
  assert.deepEqual(reasons(states), [SILENT]);
  assert.deepEqual(opened, ['lively', 'silent', 'lively', 'silent']);
});

test('streams without a story have nothing to say, and are left alone', async (t) => {
  clock(t);
  const { states, until } = stage(t, { transport: 'sse', fetch: () => new Promise(() => {}) });
  await until(() => states.at(-1).state === 'open');
  await pass(t, 120_000);
  assert.deepEqual(reasons(states), []);
});

test('what is refused for a time is sent again for a minute, and then told', async (t) => {
  clock(t);
  const hears = (message, socket) => {
    if (message.t === 'auth') return socket.hear(WELCOME());
    if (message.t !== 'publish') return socket.hear({ t: 'ok', ref: message.ref });
    return socket.hear({ t: 'err', ref: message.ref, code: 'full', message: 'full', after_ms: 5_000 });
  };
  const { gateway, sockets, until } = stage(t, { hears });
  const told = assert.rejects(gateway.join('s', {}).publish({ mode: 'do', text: 'x' }), { code: 'full' });
  await until(() => sockets.length === 1);
  await pass(t, 70_000);
  await told;
  const says = kinds(sockets[0]).filter((kind) => kind === 'publish').length;
  assert.ok(says >= 11 && says <= 13, `${says}`);
});

test('a closed client asks for no token any more, whatever comes of the last one', async (t) => {
  clock(t);
  let asked = 0;
  const getToken = async () => {
    asked += 1;
    await new Promise((then) => setTimeout(then, 50));
    throw new Error('offline');
  };
  const { gateway, states } = stage(t, { getToken });
  gateway.close();
  await pass(t, 5_000);
  assert.equal(asked, 1);
  assert.deepEqual(states.map(({ state }) => state), ['connecting', 'closed']);
});

test('where no connection can even be tried the reason is told, and it is tried later', async (t) => {
  clock(t);
  class Forbidden {
    constructor() {
      throw new Error('not from a page of https');
    }
  }
  const { states } = stage(t, { WebSocket: Forbidden });
  await pass(t, 5_000);
  assert.ok(reasons(states).length > 1);
  assert.equal(reasons(states)[0], 'no connection: not from a page of https');
});

test('a ticket is not for streams: they begin with a token', async (t) => {
  clock(t);
  const headers = [];
  const fetch = async (_, options) => {
    headers.push(options.headers.authorization);
    return new Promise(() => {});
  };
  const { gateway, until } = stage(t, { transport: 'sse', ticket: 'once', fetch });
  gateway.join('s', {});
  await until(() => headers.length === 1);
  assert.deepEqual(headers, ['Bearer token 1']);
});

test('a network that holds everything back is noticed by who wakes up, and nothing is lost', { timeout: 90_000 }, async (t) => {
  const token = await stack.token('mira');
  await stack.create(token, 'held');
  const states = [];
  const gateway = connect({ url: stack.url, transport: 'ws', WebSocket, getToken: async () => token, onState: (state) => states.push(state) });
  t.after(() => gateway.close());
  const seen = [];
  const story = gateway.join('held', { onEvent: ({ id }) => seen.push(id) });
  await story.publish({ mode: 'do', text: 'first' });
  stack.wire.hold();
  const { id } = await stack.api(token, '/v1/stories/held/events', { method: 'POST', body: { mode: 'do', text: 'second' }, url: stack.behind });
  gateway.wake();
  await eventually('it is noticed', () => reasons(states).includes(SILENT));
  stack.wire.mend();
  await eventually('what was missed', () => seen.includes(id));
  await eventually('open again', () => states.at(-1).state === 'open');
});
