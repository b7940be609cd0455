// The client and the bounds of a gateway: how much may be said, and how many stories can be read.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Pace } from '../transport.js';
import { WELCOME, pass, stage } from './stage.js';

/** A gateway that takes so many messages at once and one more each so many ms, and ends who says more. */
function strict(burst, every) {
  const free = new WeakMap();
  return (message, socket) => {
    const now = Date.now();
    const next = Math.max(free.get(socket) ?? 0, now) + every;
    const after_ms = next - now - burst * every;
    if (after_ms > 0) {
      socket.hear({ t: 'err', code: 'rate', message: 'too many messages', after_ms });
      return socket.end(4429);
    }
    free.set(socket, next);
    if (message.t === 'auth') return socket.hear(WELCOME());
    return socket.hear({ t: 'ok', ref: message.ref, id: message.event?.id, status: 'logged' });
  };
}

test('as many stories as a socket may be in are joined on one socket', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const { gateway, sockets, until } = stage(t, { hears: strict(40, 50) });
  const said = Array.from({ length: 64 }, (_, i) => gateway.join(`s${i}`, {}).publish({ mode: 'do', text: 'x' }));
  await until(() => sockets.length > 0);
  await pass(t, 30_000);
  await Promise.all(said);
  assert.equal(sockets.length, 1);
});

test('where a gateway takes little at a time less is said until it is not too much', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const { gateway, sockets, states, until } = stage(t, { hears: strict(2, 1000) });
  const story = gateway.join('s', {});
  const said = Array.from({ length: 5 }, () => story.publish({ mode: 'do', text: 'x' }));
  await until(() => sockets.length > 0);
  await pass(t, 60_000);
  await Promise.all(said);
  assert.ok(sockets.length <= 6, `${sockets.length} sockets`);
  assert.equal(states.at(-1).state, 'open');
});

test('a story that cannot be read yet is tried again by itself, and the others go on', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let isFull = true;
  const hears = (message, socket) => {
    if (message.t === 'auth') return socket.hear(WELCOME());
    if (message.story !== 'new' || !isFull) return socket.hear({ t: 'ok', ref: message.ref, id: 'x', status: 'logged' });
    return socket.hear({ t: 'err', ref: message.ref, code: 'unavailable', message: 'as many stories are read here as can be', after_ms: 1000 });
  };
  const { gateway, sockets, states, until } = stage(t, { hears });
  const delays = [];
  const old = gateway.join('old', {});
  const story = gateway.join('new', { onDelay: (error) => delays.push(error?.code) });
  const said = story.publish({ mode: 'do', text: 'x' });
  await until(() => sockets.length > 0);
  await pass(t, 6_000);
  await old.publish({ mode: 'do', text: 'x' });
  assert.ok(delays.length >= 4 && delays.every((code) => code === 'unavailable'), delays.join());
  isFull = false;
  await pass(t, 2_000);
  await said;
  assert.equal(delays.at(-1), undefined);
  assert.deepEqual(states.map(({ state }) => state), ['connecting', 'open']);
  assert.equal(sockets.length, 1);
});

test('a story that cannot be read any more is joined again when it is told when, and what was said meanwhile is said then', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let isOver = false;
  const hears = (message, socket) => {
    if (message.t === 'auth') return socket.hear(WELCOME());
    if (message.t === 'join') isOver = false;
    if (isOver) return socket.hear({ t: 'err', ref: message.ref, code: 'not_joined', message: 'you are not in s' });
    return socket.hear({ t: 'ok', ref: message.ref, id: 'x', status: 'logged' });
  };
  const { gateway, sockets, states, until } = stage(t, { hears });
  const delays = [];
  const story = gateway.join('s', { onDelay: (error) => delays.push(error?.code), onError: assert.fail });
  await until(() => sockets.length > 0);
  await pass(t, 1_000);
  isOver = true;
  const crossed = story.publish({ mode: 'do', text: 'x' });
  sockets[0].hear({ t: 'err', code: 'unavailable', message: 's cannot be read now', after_ms: 5000, story: 's' });
  const later = story.publish({ mode: 'do', text: 'y' });
  await pass(t, 20_000);
  await Promise.all([crossed, later]);
  assert.deepEqual(delays, ['unavailable', undefined]);
  assert.deepEqual(states.map(({ state }) => state), ['connecting', 'open']);
});

test('what comes of something that is said waits until it is said', () => {
  const pace = new Pace();
  const done = [];
  pace.take(() => {
    done.push('begun');
    pace.take(() => done.push('next'));
    done.push('ended');
  });
  assert.deepEqual(done, ['begun', 'ended', 'next']);
});
