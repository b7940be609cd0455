// The client against a gateway of messages: what it does where a real one is hard to bring to it.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { blocks, claims, pause } from '../transport.js';
import { stage } from './stage.js';

const delta = (i, n, text) => ({ t: 'delta', story: 's', re: 'r', attempt: 1, i, n, text, cursor: `e-1-aaaa:r.1.${i + n}` });

test('who is told when to come back does not come before; all come later each time, and not together', () => {
  assert.deepEqual([0, 1, 2, 10].map((tries) => pause(tries, 3000, 0)), [3000, 3000, 3000, 3000]);
  assert.deepEqual([0, 1, 2, 10].map((tries) => pause(tries, 3000, 1)), [3250, 3500, 4000, 18000]);
  assert.deepEqual([0, 1, 2, 10].map((tries) => pause(tries, undefined, 1)), [250, 500, 1000, 15000]);
  assert.deepEqual([0, 1, 2, 10].map((tries) => pause(tries, undefined, 0)), [125, 250, 500, 7500]);
});

test('a new socket goes on at the cursor', async (t) => {
  const { gateway, sockets, joined } = stage(t);
  const texts = [];
  gateway.join('s', { onText: (re, text) => texts.push(text) });
  assert.equal((await joined(1)).cursor, undefined);
  sockets[0].hear(delta(0, 2, 'ab'));
  sockets[0].end(1006);
  assert.equal((await joined(2)).cursor, 'e-1-aaaa:r.1.2');
  sockets[0].hear(delta(2, 1, 'late'));
  sockets[1].hear(delta(2, 1, 'c'));
  assert.deepEqual(texts, ['ab', 'abc']);
});

test('where characters are missing it joins again for whole drafts', async (t) => {
  const { gateway, sockets, joined } = stage(t);
  const texts = [];
  gateway.join('s', { onText: (re, text) => texts.push(text) });
  await joined(1);
  sockets[0].hear(delta(0, 1, 'a'));
  sockets[0].hear(delta(2, 1, 'c'));
  assert.equal((await joined(2)).cursor, 'e-1-aaaa');
  sockets[1].hear({ t: 'snapshot', story: 's', re: 'r', attempt: 1, upto: 3, text: 'abc', cursor: 'e-1-aaaa:r.1.3' });
  assert.deepEqual(texts, ['a', 'abc']);
});

test('what was not answered is said again under the same id, and what was is not', async (t) => {
  const { gateway, sockets, joined, until, said } = stage(t);
  const story = gateway.join('s', {});
  const published = story.publish({ mode: 'do', text: 'x' });
  const first = await joined(1);
  assert.equal(said('publish'), undefined);
  sockets[0].hear({ t: 'ok', ref: first.ref });
  const { event } = await until(() => said('publish'));
  sockets[0].end(1006);
  const second = await joined(2);
  sockets[1].hear({ t: 'ok', ref: second.ref });
  const again = await until(() => said('publish'));
  assert.deepEqual(again.event, event);
  sockets[1].hear({ t: 'ok', ref: again.ref, id: 'c-1', status: 'duplicate' });
  assert.deepEqual(await published, { id: 'c-1', status: 'duplicate' });
  sockets[1].end(1006);
  sockets[1].onmessage({ data: '{"t":"ok"}' });
  const third = await joined(3);
  sockets[2].hear({ t: 'ok', ref: third.ref });
  assert.equal(said('publish'), undefined);
});

test('what cannot be sent is refused, and does not come back', async (t) => {
  for (const code of [4400, 1009]) {
    const { gateway, sockets, joined } = stage(t);
    const story = gateway.join('s', {});
    const published = story.publish({ mode: 'do', text: 'x' });
    const { ref } = await joined(1);
    sockets[0].hear({ t: 'ok', ref });
    sockets[0].end(code, 'the message is too large');
    await assert.rejects(published, { code: 'too_large' });
  }
});

test('a refusal that passes is tried again, one that stays is told', async (t) => {
  const { gateway, sockets, joined, until } = stage(t);
  const story = gateway.join('s', {});
  const { ref } = await joined(1);
  sockets[0].hear({ t: 'ok', ref });
  const says = () => sockets[0].said.filter((message) => message.t === 'publish');
  const published = story.publish({ mode: 'do', text: 'x' });
  sockets[0].hear({ t: 'err', ref: says()[0].ref, code: 'full', message: 'full', after_ms: 1 });
  await until(() => says().length === 2);
  assert.deepEqual(says()[1].event, says()[0].event);
  sockets[0].hear({ t: 'err', ref: says()[1].ref, code: 'bad_message', message: 'no' });
  await assert.rejects(published, { code: 'bad_message', message: 'no' });
});

test('who is told when to join a story again does so then, and the others go on', async (t) => {
  const { gateway, sockets, states, joined, until } = stage(t);
  const errors = [];
  const on = { onError: (error) => errors.push(error) };
  gateway.join('s', on);
  const { ref } = await joined(1);
  sockets[0].hear({ t: 'err', ref, code: 'too_many', message: 'too many', after_ms: 1 });
  await until(() => sockets[0].said.filter((message) => message.t === 'join').length === 2);

  const said = (code, after_ms) => new Response(`retry: 1\nevent: error\ndata: ${JSON.stringify({ t: 'err', code, message: code, after_ms })}\n\n`);
  const answers = [said('too_many', 1), new Response('retry: 1\n\n'), said('no_story', null)];
  const streams = stage(t, { transport: 'sse', fetch: async () => answers.shift() ?? new Promise(() => {}) });
  streams.gateway.join('s', on);
  await until(() => answers.length === 1);
  assert.deepEqual(errors, []);
  // The second ends, and is opened again: what has no time is told.
  await until(() => errors.length === 1);
  assert.equal(errors[0].code, 'no_story');
  assert.ok(states.every(({ state }) => state !== 'waiting'));
});

test('who leaves a story and joins it again misses nothing of it, and is told nothing that was under way', async (t) => {
  const { gateway, sockets, joined, until } = stage(t);
  const event = (seq) => ({ t: 'event', story: 's', seq, cursor: `e-${seq}-aaaa`, event: { id: `x${seq}`, type: 'narration', text: 't' } });
  const first = gateway.join('s', {});
  const { ref } = await joined(1);
  const [socket] = sockets;
  socket.hear({ t: 'ok', ref });
  first.leave();
  const seen = [];
  const again = gateway.join('s', { onEvent: (_, { seq }) => seen.push(seq) });
  const published = again.publish({ mode: 'do', text: 'x' });
  socket.hear(event(40));
  socket.hear({ t: 'ok', ref: socket.said.find((message) => message.t === 'leave').ref });
  const join = await until(() => socket.said.filter((message) => message.t === 'join')[1]);
  assert.equal(join.cursor, undefined);
  socket.hear({ t: 'ok', ref: join.ref });
  for (const seq of [39, 40, 41]) socket.hear(event(seq));
  assert.deepEqual(seen, [39, 40, 41]);
  const said = await until(() => socket.said.find((message) => message.t === 'publish'));
  socket.hear({ t: 'ok', ref: said.ref, id: 'x42', status: 'logged' });
  assert.equal((await published).status, 'logged');
  again.leave();
  socket.end(1006);
  again.typing();
});

test('close codes: 4401 asks for a new token at once, 1012 waits as told, 4403 ends it', async (t) => {
  const { gateway, sockets, states, asked, joined } = stage(t);
  gateway.join('s', {});
  await joined(1);
  sockets[0].end(4401);
  assert.ok(states.at(-1).after_ms <= 250);
  await joined(2);
  assert.deepEqual(asked, [false, true]);
  sockets[1].hear({ t: 'bye', after_ms: 40, reason: 'the server restarts' });
  sockets[1].end(1012);
  const { state, reason, after_ms } = states.at(-1);
  assert.deepEqual([state, reason], ['waiting', 'the server restarts']);
  assert.ok(after_ms >= 40 && after_ms <= 540, `${after_ms}`);
  await joined(3);
  sockets[2].end(4403, 'not from here');
  assert.deepEqual(states.at(-1), { state: 'refused', reason: 'not from here' });
});

test('a cursor that cannot be read is a gap, and the story is told anew', async (t) => {
  const { gateway, sockets, joined, until } = stage(t);
  let gaps = 0;
  gateway.join('s', { onGap: () => (gaps += 1) });
  await joined(1);
  sockets[0].hear(delta(0, 1, 'a'));
  sockets[0].end(1006);
  const { ref } = await joined(2);
  sockets[1].hear({ t: 'err', ref, code: 'bad_cursor', message: 'no' });
  const joins = await until(() => sockets[1].said.filter((message) => message.t === 'join').length === 2 && sockets[1].said);
  assert.equal(joins.at(-1).cursor, undefined);
  assert.equal(gaps, 1);
});

test('a ticket is used for one socket, and then there must be a token', async (t) => {
  const { sockets, until, welcome, asked } = stage(t, { ticket: 'once' });
  await until(() => sockets.length === 1);
  assert.match(sockets[0].url, /\?ticket=once$/);
  welcome();
  assert.deepEqual(asked, []);
  sockets[0].end(1006);
  await until(() => sockets.length === 2 && sockets[1].said.length === 1);
  assert.doesNotMatch(sockets[1].url, /ticket/);
  assert.deepEqual(sockets[1].said, [{ t: 'auth', token: 'token 1' }]);
});

test('server-sent events are read however their bytes are cut, with any line ends', async () => {
  const text = ':\n\nretry: 5\n\nevent: delta\nid: c\ndata: {"text":"é😀"}\n\ndata:one\ndata: two\n\n';
  const whole = [
    { data: '' },
    { data: '', retry: '5' },
    { data: '{"text":"é😀"}', event: 'delta', id: 'c' },
    { data: 'one\ntwo' },
  ];
  for (const lineEnd of ['\n', '\r\n', '\r']) {
    const bytes = new TextEncoder().encode(text.replaceAll('\n', lineEnd) + lineEnd);
    for (let size = 1; size <= bytes.length; size += 1) {
      const parts = [];
      for (let at = 0; at < bytes.length; at += size) parts.push(bytes.slice(at, at + size));
      const found = [];
      await blocks(ReadableStream.from(parts), (block) => found.push(block));
      assert.deepEqual(found.filter((block) => block.data || block.retry), whole.slice(1), `${JSON.stringify(lineEnd)} in ${size}`);
    }
  }
});

test('claims are read for show, and what has none has none', () => {
  const body = Buffer.from(JSON.stringify({ sub: 'u', name: 'Zoë', exp: 7 })).toString('base64url');
  assert.deepEqual(claims(`x.${body}.y`), { sub: 'u', name: 'Zoë', expires_at: 7 });
  for (const token of ['', 'x', 'x.y.z', undefined]) assert.deepEqual(claims(token), {});
});
