// What is published and not answered yet: in which order it is said, for how long, and when no more.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { WELCOME, pass, stage } from './stage.js';

const words = (text) => ({ mode: 'do', text });

/** A gateway that welcomes, lets in, and answers what is published with `answer(event)`: an error, or nothing. */
function answers(answer) {
  return (message, socket) => {
    if (message.t === 'auth') return socket.hear(WELCOME());
    const error = message.t === 'publish' ? answer(message.event) : undefined;
    const told = error ? { t: 'err', message: error.code, ...error } : { t: 'ok', id: message.event?.id, status: 'logged' };
    return socket.hear({ ...told, ref: message.ref });
  };
}

test('what is refused for a time keeps its place', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const taken = [];
  let refusals = 0;
  const hears = answers(({ text }) => {
    if (text === 'a' && (refusals += 1) === 1) return { code: 'unavailable' };
    taken.push(text);
    return undefined;
  });
  const { gateway, sockets, until } = stage(t, { hears });
  const story = gateway.join('s', {});
  const said = ['a', 'b', 'c'].map((text) => story.publish(words(text)));
  await until(() => sockets.length > 0);
  await pass(t, 3_000);
  await Promise.all(said);
  assert.deepEqual(taken, ['a', 'b', 'c']);
});

test('what was kept for long before it could be said is still said again when it is refused for a time', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let isAway = true;
  let refusals = 0;
  const hears = (message, socket) => (isAway ? socket.end(1006) : answers(() => ((refusals += 1) === 1 ? { code: 'rate' } : undefined))(message, socket));
  const { gateway, sockets, until } = stage(t, { hears });
  const said = gateway.join('s', {}).publish(words('a'));
  await until(() => sockets.length > 0);
  await pass(t, 70_000);
  isAway = false;
  await pass(t, 30_000);
  assert.equal((await said).status, 'logged');
  assert.equal(refusals, 2);
});

test('what was given up while it waited for its turn is not said', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const { gateway, sockets, until } = stage(t, { hears: answers(() => undefined) });
  const story = gateway.join('s', {});
  await until(() => sockets.length > 0);
  await pass(t, 5_000);
  // More than is said at once.
  for (let i = 0; i < 30; i += 1) gateway.join(`s${i}`, {});
  const said = assert.rejects(story.publish(words('a')), { code: 'left' });
  story.leave();
  await said;
  await pass(t, 5_000);
  const kinds = sockets[0].said.filter((message) => message.story === 's').map((message) => message.t);
  assert.deepEqual(kinds, ['join', 'leave']);
});

test('where one of what was said is too large, what waits behind it and in other stories is said later', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const taken = [];
  let refusals = 0;
  const hears = (message, socket) => {
    const text = message.event?.text;
    if (text === 'large') return socket.end(1009, 'too large');
    if (text === 'refused' && (refusals += 1) === 1) return socket.hear({ t: 'err', ref: message.ref, code: 'rate', message: 'wait', after_ms: 1_000 });
    if (text) taken.push(text);
    return answers(() => undefined)(message, socket);
  };
  const { gateway, sockets, until } = stage(t, { hears });
  const [one, other] = ['s', 'other'].map((id) => gateway.join(id, {}));
  await until(() => sockets.length > 0);
  await pass(t, 1_000);
  const refused = other.publish(words('refused'));
  await pass(t, 500);
  const large = assert.rejects(one.publish(words('large')), { code: 'too_large', message: 'too large' });
  const later = [one.publish(words('behind')), other.publish(words('next'))];
  await large;
  await pass(t, 5_000);
  await Promise.all([refused, ...later]);
  assert.deepEqual(taken.sort(), ['behind', 'next', 'refused']);
  assert.equal(sockets.length, 2);
});
