// The client over streams and requests, where something on the way answers in the gateway's place.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { pass, stage } from './stage.js';

/** Streams of a gateway with nothing but signs of life, beside what `publish` answers. */
function streams(t, publish) {
  const opened = { streams: 0, beat: () => {} };
  const say = (body, text) => body.enqueue(new TextEncoder().encode(text));
  const fetch = async (url, { method, ...request } = {}) => {
    if (method === 'POST') return publish(request);
    opened.streams += 1;
    const start = (body) => {
      say(body, 'retry: 1000\n\n');
      opened.beat = () => say(body, ':\n\n');
    };
    return new Response(new ReadableStream({ start }));
  };
  return { opened, ...stage(t, { transport: 'sse', fetch }) };
}

test('over streams, what something on the way refuses is told, and reading goes on', async (t) => {
  const { gateway, opened } = streams(t, () => new Response('<html>413 Request Entity Too Large</html>', { status: 413 }));
  const story = gateway.join('s', {});
  await assert.rejects(story.publish({ mode: 'do', text: 'x' }), { code: 'refused', message: 'status 413' });
  assert.equal(opened.streams, 1);
});

test('over streams, what something on the way cannot pass on is sent again, for a minute', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  let posts = 0;
  const answers = () => {
    posts += 1;
    return posts === 2 ? Response.json({ id: 'x', status: 'duplicate' }, { status: 202 }) : new Response('<html>502</html>', { status: 502 });
  };
  const { gateway, opened, states, until } = streams(t, answers);
  const story = gateway.join('s', {});
  const said = story.publish({ mode: 'do', text: 'x' });
  await until(() => posts === 1);
  await pass(t, 2_000);
  assert.deepEqual(await said, { id: 'x', status: 'duplicate' });
  const never = assert.rejects(story.publish({ mode: 'do', text: 'y' }), { code: 'unavailable' });
  for (let passed = 0; passed < 65; passed += 5) {
    opened.beat();
    await pass(t, 5_000);
  }
  await never;
  assert.equal(opened.streams, 1);
  assert.equal(states.at(-1).state, 'open');
});

test('over streams, a token that is over when something is published is renewed, and it is sent again', async (t) => {
  let posts = 0;
  const answers = () => {
    posts += 1;
    return posts === 1 ? Response.json({ code: 'auth', detail: 'it is over' }, { status: 401 }) : Response.json({ id: 'x', status: 'logged' }, { status: 202 });
  };
  const { gateway, asked } = streams(t, answers);
  assert.equal((await gateway.join('s', {}).publish({ mode: 'do', text: 'x' })).status, 'logged');
  assert.deepEqual(asked, [false, true]);
});

/** A request that nobody answers: it ends when it is given up. */
const unanswered = ({ signal }) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));

test('over streams, what nobody answers is said again under the same id, and reading goes on', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const posts = [];
  const answer = (request) => {
    posts.push(JSON.parse(request.body).id);
    return posts.length === 1 ? unanswered(request) : Response.json({ id: posts[0], status: 'duplicate' }, { status: 202 });
  };
  const { gateway, opened, until } = streams(t, answer);
  const said = gateway.join('s', {}).publish({ mode: 'do', text: 'x' });
  await until(() => posts.length === 1);
  for (let passed = 0; passed < 15; passed += 5) {
    opened.beat();
    await pass(t, 5_000);
  }
  assert.equal(posts.length, 2);
  assert.equal(posts[1], posts[0]);
  assert.equal((await said).status, 'duplicate');
  assert.equal(opened.streams, 1);
});

test('over streams, what is not answered when all is closed is given up', async (t) => {
  const signals = [];
  const { gateway, until } = streams(t, (request) => {
    signals.push(request.signal);
    return unanswered(request);
  });
  const story = gateway.join('s', {});
  const said = assert.rejects(story.publish({ mode: 'do', text: 'x' }), { code: 'closed' });
  await until(() => signals.length === 1);
  story.typing();
  await until(() => signals.length === 2);
  gateway.close();
  await said;
  assert.ok(signals.every((signal) => signal.aborted));
});
