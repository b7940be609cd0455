// The client where whoever is told of something answers at once: with the end of all, or with more.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { WELCOME, pass, stage } from './stage.js';

/** A gateway that welcomes, and answers a join with what `join()` gives: an error, or nothing. */
function answers(join = () => undefined) {
  return (message, socket) => {
    if (message.t === 'auth') return socket.hear(WELCOME());
    const code = message.t === 'join' ? join() : undefined;
    return socket.hear(code ? { t: 'err', ref: message.ref, code, message: code } : { t: 'ok', ref: message.ref });
  };
}

/** Long after it was closed nothing was tried, or thrown. */
async function isQuiet(t, { sockets }) {
  const [count, said] = [sockets.length, sockets.at(-1).said.length];
  await pass(t, 20_000);
  assert.deepEqual([sockets.length, sockets.at(-1).said.length], [count, said]);
}

test('who closes all when it is open hears no more of it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const told = [];
  const onState = ({ state }) => {
    told.push(state);
    if (state === 'open') on.gateway.close();
  };
  const on = stage(t, { hears: answers(), onState });
  on.gateway.join('s', {});
  await on.until(() => told.includes('closed'));
  await isQuiet(t, on);
  assert.deepEqual(told, ['connecting', 'open', 'closed']);
});

test('who closes all when a story is late hears no more of it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const on = stage(t, { hears: answers(() => 'unavailable') });
  on.gateway.join('s', { onDelay: () => on.gateway.close() });
  await on.until(() => on.states.at(-1).state === 'closed');
  await isQuiet(t, on);
});

test('who closes all when a story begins anew hears no more of it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let joins = 0;
  const on = stage(t, { hears: answers(() => ((joins += 1) === 2 ? 'bad_cursor' : undefined)) });
  on.gateway.join('s', { onGap: () => on.gateway.close() });
  await on.until(() => joins === 1);
  on.sockets[0].hear({ t: 'reset', story: 's', re: 'r', attempt: 1, cursor: 'e-1-aaaa' });
  on.sockets[0].end(1006);
  await pass(t, 5_000);
  assert.equal(on.states.at(-1).state, 'closed');
  await isQuiet(t, on);
});

for (const [how, end] of [
  ['leaves the story', ({ story }) => story.leave()],
  ['closes all', ({ on }) => on.gateway.close()],
  ['leaves the story and joins it anew', ({ on, story }) => story.leave() || on.gateway.join('s', {})],
]) {
  test(`who ${how} when an answer is whole hears no more of its event`, async (t) => {
    const told = [];
    const on = stage(t, { hears: answers() });
    const onText = (re, text, { done }) => told.push(text) && done && end({ on, story });
    const story = on.gateway.join('s', { onText, onEvent: ({ id }) => told.push(id) });
    await on.until(() => on.said('join'));
    on.sockets[0].hear({ t: 'delta', story: 's', re: 'r', attempt: 1, i: 0, n: 1, text: 'a', cursor: 'e-0-0000:r.1.1' });
    on.sockets[0].hear({ t: 'event', story: 's', seq: 1, cursor: 'e-1-aaaa', event: { id: 'r', type: 'narration', text: 'ab' } });
    assert.deepEqual(told, ['a', 'ab']);
  });
}

test('who leaves a story when a draft of it ends hears of no other, and not that it is live', async (t) => {
  const told = [];
  const on = stage(t, { hears: answers() });
  const story = on.gateway.join('s', { onRemoved: (id) => told.push(id) && story.leave(), onLive: () => told.push('live') });
  await on.until(() => on.said('join'));
  for (const re of ['q', 'r']) on.sockets[0].hear({ t: 'reset', story: 's', re, attempt: 1, cursor: `e-0-0000:${re}.1.0` });
  on.sockets[0].hear({ t: 'live', story: 's', drafts: [] });
  assert.deepEqual(told, ['q']);
});

test('over streams, who leaves a story when it begins anew does not join it again', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const cursors = [];
  const fetch = async (url) => {
    cursors.push(url.searchParams.get('cursor'));
    const place = 'data: {"t":"reset","story":"s","re":"r","attempt":1,"cursor":"e-1-aaaa"}\n\n';
    return new Response(cursors.length === 1 ? place : 'event: error\ndata: {"t":"err","code":"bad_cursor","message":"of no place"}\n\n');
  };
  const on = stage(t, { transport: 'sse', fetch });
  const story = on.gateway.join('s', { onGap: () => story.leave() });
  await on.until(() => cursors.length > 0);
  await pass(t, 5_000);
  assert.deepEqual(cursors, [null, 'e-1-aaaa']);
});

test('who follows a story hears when all of before was told, and up to where that is', async (t) => {
  const told = [];
  const on = stage(t, { hears: answers() });
  on.gateway.join('s', { onEvent: (_, { seq }) => told.push(seq), onLive: ({ end }) => told.push(['live', end]) });
  await on.until(() => on.said('join'));
  for (const seq of [1, 2]) on.sockets[0].hear({ t: 'event', story: 's', seq, cursor: `e-${seq}-aaaa`, event: { id: `x${seq}`, type: 'narration', text: 't' } });
  // The third is not for this person.
  on.sockets[0].hear({ t: 'live', story: 's', end: 3, drafts: [] });
  assert.deepEqual(told, [1, 2, ['live', 3]]);
});

test('a story that is joined when it is open is joined once, and one that is left then is not', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const errors = [];
  const onState = ({ state }) => {
    if (state !== 'open') return;
    left.leave();
    on.gateway.join('new', { onError: (error) => errors.push(error) });
  };
  const on = stage(t, { hears: answers(), onState });
  const left = on.gateway.join('left', {});
  await on.until(() => on.sockets.length > 0);
  await pass(t, 5_000);
  const joins = on.sockets[0].said.filter((message) => message.t === 'join').map(({ story }) => story);
  assert.deepEqual([joins, errors], [['new'], []]);
});

test('who closes all while it waits leaves nothing behind, and nothing can be said any more', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const tokens = [];
  const timers = t.mock.method(globalThis, 'clearTimeout');
  const { gateway, sockets, until } = stage(t, {
    onState: ({ state }) => state === 'waiting' && gateway.close(),
    getToken: async () => tokens.push('one') && Promise.reject(new Error('none')),
  });
  const story = gateway.join('s', {});
  await until(() => tokens.length > 0);
  await assert.rejects(story.publish({ mode: 'do', text: 'x' }), { code: 'closed' });
  await assert.rejects(gateway.join('another', {}).publish({ mode: 'do', text: 'y' }), { code: 'closed' });
  assert.ok(timers.mock.calls.some(({ arguments: [timer] }) => timer !== undefined), 'its timer is cleared');
  await pass(t, 30_000);
  assert.deepEqual([tokens.length, sockets.length], [1, 0]);
});
