// What was written and is not answered yet, across reloads of the page: kept, sent once, and said why it waits.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Kept } from '../kept.js';
import { Pages, TIME, isEmpty, open, remembered, said as saidIn, write } from './page.js';
import { eventually } from './stack.js';

const pages = await Pages.start();
const { stack, mira } = pages;
after(() => pages.stop());

const said = (story) => saidIn(pages, story);
const texts = async (page) => (await remembered(page)).map((one) => one.said.text);

test('what is written while the gateway is away outlives reloads, and is sent once and in its order', TIME, async (t) => {
  await stack.create(mira, 'away');
  const page = await pages.enter(t, mira, 'away');
  await open(page);
  await stack.endGateway('SIGKILL');
  await page.waitForFunction(() => document.getElementById('news').textContent.includes('lost'));
  for (const words of ['I wait.', 'I wait on.']) await write(page, words);
  await assert.rejects(page.reload());
  // The browser's own page comes after the failure, and would end another way begun before.
  await page.waitForURL('chrome-error://**', { waitUntil: 'commit' });
  await stack.startGateway();
  await page.goto(`${stack.url}/#story=away`);
  await open(page);
  await eventually('the words arrive', async () => (await said('away')).length === 2);
  await isEmpty(page);
  await page.reload();
  await open(page);
  await write(page, 'I am back.');
  await eventually('what comes after arrives', async () => (await said('away')).includes('I am back.'));
  await isEmpty(page);
  assert.deepEqual(await said('away'), ['I wait.', 'I wait on.', 'I am back.']);
  assert.deepEqual(await texts(page), []);
  assert.deepEqual(page.faults, []);
});

test('what was taken while its answer was lost is in the story once after a reload', TIME, async (t) => {
  await stack.create(mira, 'unanswered');
  let isDeaf = true;
  const pass = (message, give) => (isDeaf && (message.status || message.event) ? undefined : give(message));
  const page = await pages.between(t, mira, 'unanswered', pass);
  await write(page, 'I knock.');
  await eventually('it is taken', async () => (await said('unanswered')).length === 1);
  assert.deepEqual(await texts(page), ['I knock.']);
  isDeaf = false;
  await page.reload();
  await open(page);
  await page.waitForSelector('#log .mine');
  await isEmpty(page);
  assert.deepEqual(await said('unanswered'), ['I knock.']);
  assert.deepEqual(await texts(page), []);
});

test('a Redis that is full is told of where the words wait, and they arrive when it has room', TIME, async (t) => {
  await stack.create(mira, 'full');
  const page = await pages.enter(t, mira, 'full');
  await open(page);
  await stack.configure('maxmemory', '1mb');
  t.after(() => stack.configure('maxmemory', '0'));
  await write(page, 'I squeeze in.');
  const told = page.locator('#outbox .late .state');
  await told.waitFor();
  assert.match(await told.textContent(), /^Not sent yet: .*takes nothing new now.* It is tried again by itself\.$/);
  await page.reload();
  await told.waitFor();
  await stack.configure('maxmemory', '0');
  await eventually('the words arrive', async () => (await said('full')).length === 1);
  await isEmpty(page);
  assert.deepEqual(await said('full'), ['I squeeze in.']);
});

test('what was refused for too long waits for its author, across reloads, and keeps the time it was sent first', TIME, async (t) => {
  await stack.create(mira, 'refused');
  let isFull = true;
  const say = (message, give, answer) => {
    if (!isFull || message.t !== 'publish') return give(message);
    return answer({ t: 'err', ref: message.ref, code: 'unavailable', message: 'no room', after_ms: 50 });
  };
  const page = await pages.between(t, mira, 'refused', (message, give) => give(message), say);
  await page.clock.install();
  await write(page, 'I squeeze in.');
  await page.waitForSelector('#outbox .late');
  const [{ at }] = await remembered(page);
  const failed = page.locator('#outbox .failed .state');
  for (const times of [1, 2]) {
    await page.clock.fastForward(61_000);
    await failed.waitFor();
    assert.equal(await failed.textContent(), 'Not sent: no room');
    await page.reload();
    await open(page);
    await failed.waitFor();
    assert.equal(await failed.textContent(), 'Not sent: no room');
    isFull = times === 1;
    await page.getByText('Send again').click();
    if (isFull) await page.waitForSelector('#outbox .late');
    assert.deepEqual((await remembered(page)).filter((one) => one.at !== at), []);
  }
  await isEmpty(page);
  assert.deepEqual(await said('refused'), ['I squeeze in.']);
  assert.deepEqual(await texts(page), []);
  assert.deepEqual(page.faults, []);
});

test('what was not sent and is dropped does not come back', TIME, async (t) => {
  await stack.create(mira, 'dropped');
  const page = await pages.enter(t, await stack.token('ron', { role: 'reader' }), 'dropped');
  await open(page);
  await write(page, 'Let me in.');
  await page.reload();
  await page.locator('#outbox .failed').getByText('Discard').click();
  await isEmpty(page);
  assert.deepEqual(await texts(page), []);
});

test('what was taken and is older than what is shown leaves no card, and one that is stopped later is told', TIME, async (t) => {
  await stack.create(mira, 'older', { policies: { input: 'hold' } });
  let isDeaf = true;
  const late = [];
  const pass = (message, give) => {
    if ((message.status && isDeaf) || message.event?.type === 'action') return undefined;
    return message.event?.type === 'verdict' ? late.push(() => give(message)) : give(message);
  };
  const page = await pages.between(t, mira, 'older', pass);
  const comesBack = async () => {
    isDeaf = false;
    late.length = 0;
    await page.reload();
    await open(page);
    await isEmpty(page);
    assert.deepEqual(await texts(page), []);
  };
  await write(page, 'My card is 4111 1111 1111 1111, I pay with it.');
  await eventually('it is stopped', () => late.length > 0);
  await comesBack();
  await eventually('that can be told', () => late.length > 0);
  late.pop()();
  await page.locator('#outbox .blocked').getByText('Discard').click();
  isDeaf = true;
  await write(page, 'I knock.');
  await eventually('it is taken', async () => (await said('older')).length === 1);
  await comesBack();
  assert.deepEqual(page.faults, []);
});

test('a tab that keeps nothing, or has no room, says that it would lose something', () => {
  const storage = new Map();
  const room = { getItem: (name) => storage.get(name) ?? null, setItem: (name, value) => storage.set(name, value) };
  let now = 0;
  const kept = new Kept(() => room, () => now);
  const one = (id) => ({ id, sub: 'mira', story: 's', said: { text: id } });
  for (let i = 0; i < 100; i += 1) kept.add(one(`${i}`));
  assert.equal(kept.loses, false);
  kept.add(one('more'));
  assert.equal(kept.loses, true);
  kept.remove('more');
  assert.equal(kept.loses, false);
  assert.equal(kept.of('s', 'mira').length, 100);
  const closed = new Kept(() => { throw new Error('no storage'); });
  closed.add(one('a'));
  assert.equal(closed.loses, true);
  assert.deepEqual(closed.leave().map(({ id }) => id), ['a']);
  assert.equal(closed.loses, false);
});

test('what nobody answered until the gateway may have forgotten it is sent again only by its author', () => {
  const storage = new Map();
  const room = { getItem: (name) => storage.get(name) ?? null, setItem: (name, value) => storage.set(name, value) };
  let now = 0;
  const kept = new Kept(() => room, () => now);
  const one = { id: 'a', sub: 'mira', story: 's', said: { text: 'a' } };
  const why = () => kept.of('s', 'mira').map((it) => it.why);
  kept.add(one);
  now = 19 * 3_600_000;
  kept.add({ ...one, why: 'no room' });
  assert.deepEqual(why(), ['no room']);
  kept.add(one);
  assert.deepEqual(why(), [undefined]);
  now = 21 * 3_600_000;
  assert.match(why()[0], /^nobody answered for 20 hours/);
});
