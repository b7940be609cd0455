// What was written and is not answered yet, across reloads of the page: kept, sent once, and said why it waits.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Kept } from '../kept.js';
import { Pages, TIME, open, write } from './page.js';
import { eventually } from './stack.js';

const pages = await Pages.start();
const { stack, mira, joe } = pages;
after(() => pages.stop());

const said = async (story) => (await stack.log(mira, story)).filter((event) => event.type === 'action').map((event) => event.text);
const isEmpty = (page) => page.waitForFunction(() => !document.querySelector('#outbox li'));
const remembered = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem('storyfleet.unsent') ?? '[]').map((one) => one.said.text));

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
  assert.deepEqual(await remembered(page), []);
  assert.deepEqual(page.faults, []);
});

test('what was taken while its answer was lost is in the story once after a reload', TIME, async (t) => {
  await stack.create(mira, 'unanswered');
  let isDeaf = true;
  const pass = (message, give) => (isDeaf && (message.status || message.event) ? undefined : give(message));
  const page = await pages.between(t, mira, 'unanswered', pass);
  await write(page, 'I knock.');
  await eventually('it is taken', async () => (await said('unanswered')).length === 1);
  assert.deepEqual(await remembered(page), ['I knock.']);
  isDeaf = false;
  await page.reload();
  await open(page);
  await page.waitForSelector('#log .mine');
  await isEmpty(page);
  assert.deepEqual(await said('unanswered'), ['I knock.']);
  assert.deepEqual(await remembered(page), []);
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

test('nobody else who uses the tab sends them', TIME, async (t) => {
  await stack.create(mira, 'whose');
  const page = await pages.enter(t, mira, 'whose');
  await open(page);
  stack.wire.cut();
  await page.waitForFunction(() => document.getElementById('news').textContent.includes('lost'));
  await write(page, 'I am Mira.');
  await page.evaluate((token) => sessionStorage.setItem('storyfleet.token', token), joe);
  const sent = [];
  page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload).t)));
  await page.goto('about:blank');
  stack.wire.mend();
  await page.goto(`${stack.url}/#story=whose`);
  await open(page);
  await write(page, 'I am Joe.');
  await eventually('Joe is heard', async () => (await said('whose')).includes('I am Joe.'));
  assert.deepEqual(await said('whose'), ['I am Joe.']);
  assert.deepEqual(await remembered(page), ['I am Mira.']);
  assert.equal(sent.filter((kind) => kind === 'publish').length, 1);
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
  now = 21 * 3_600_000;
  assert.deepEqual(kept.of('s', 'mira'), []);
  const closed = new Kept(() => { throw new Error('no storage'); });
  closed.add(one('a'));
  assert.equal(closed.loses, true);
  closed.leave('a');
  assert.equal(closed.loses, false);
});
