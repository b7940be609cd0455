// Who gets in at the page's door, and with what.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, fits, open, shot, write } from './page.js';

const pages = await Pages.start();
const { stack, mira } = pages;
after(() => pages.stop());

test('a story is made at the door, with the keyboard, on a small screen', TIME, async (t) => {
  const page = await pages.visit(t, '', { viewport: { width: 360, height: 640 }, colorScheme: 'dark' });
  await page.waitForSelector('#door:not([hidden])');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'token');
  await page.keyboard.type(mira);
  await page.keyboard.press('Tab');
  await page.keyboard.type('harbour');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.fill('#new-title', 'The harbour');
  await page.fill('#new-premise', 'Fog. A bell somewhere.');
  await page.fill('#new-characters', 'Sibyl: The keeper of the lamp.\nOld Tom: A ferryman.');
  await shot(page, 'door-360-dark');
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), 'no sideways scrolling at the door');
  await page.focus('#create');
  await page.keyboard.press('Enter');
  await open(page);
  await page.waitForFunction(() => document.querySelectorAll('#to option').length === 3);
  await page.check('input[name=mode][value=say]');
  await page.selectOption('#to', 'Sibyl');
  await page.fill('#text', `Is anybody there? ${'A'.repeat(120)}`);
  await page.press('#text', 'Enter');
  await page.waitForSelector('#log .dialogue .choices, #log .dialogue');
  await pages.quiet('harbour', page);
  await pages.agrees(page, 'harbour');
  assert.ok(await fits(page), 'no sideways scrolling in the room');
  await shot(page, 'room-360-dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await shot(page, 'room-360-light');
  const names = await page.$$eval('#log .dialogue .who b', (items) => items.map((item) => item.textContent));
  assert.ok(names.includes('Sibyl'), names.join());
  assert.deepEqual(page.faults, []);
});

test('a wrong token is told, and asked for again', TIME, async (t) => {
  const page = await pages.visit(t);
  await page.fill('#token', 'not.a.token');
  await page.fill('#story', 'castle');
  await page.click('#enter > button');
  await page.waitForSelector('#door-problem:not([hidden])');
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await shot(page, 'door-light');
});

test('an answer that is none of the gateway is told by its status', TIME, async (t) => {
  const page = await pages.visit(t);
  await page.fill('#token', mira);
  await page.fill('#story', 'castle');
  for (const status of [502, 200]) {
    await page.route('**/v1/stories/castle', (route) => route.fulfill({ status, contentType: 'text/html', body: '<html>Bad Gateway</html>' }));
    await page.click('#enter > button');
    await page.waitForFunction((words) => document.getElementById('door-problem').textContent === words, `status ${status}`);
  }
});

test('a ticket opens the page once, leaves the address, and a reload goes on', TIME, async (t) => {
  await stack.create(mira, 'ticket');
  const { ticket } = await stack.api(mira, '/v1/tickets', { method: 'POST' });
  const page = await pages.visit(t, `#ticket=${ticket}&story=ticket`);
  await open(page);
  assert.equal(await page.evaluate(() => location.hash), '#story=ticket');
  await write(page, 'I light the lamp.');
  await page.waitForSelector('#log .mine');
  await page.reload();
  await open(page);
  assert.equal(await page.textContent('#log .mine b'), 'Mira');
  const again = await pages.visit(t, `#ticket=${ticket}&story=ticket`);
  await again.waitForSelector('#door-problem:not([hidden])');
  assert.match(await again.textContent('#door-problem'), /ticket/);
});

test('when a token is good no more the page asks for another one, and goes on with it', TIME, async (t) => {
  await stack.create(mira, 'ends');
  const page = await pages.enter(t, await stack.token('ann'), 'ends');
  await open(page);
  await stack.revoke('ann');
  await page.waitForSelector('#door:not([hidden])');
  assert.match(await page.textContent('#door-problem'), /token|Sign in/i);
  await page.fill('#token', mira);
  await page.press('#token', 'Enter');
  await open(page);
  await write(page, 'I am back.');
  await page.waitForSelector('#log .mine');
});

test('who may only read is told so when they write', TIME, async (t) => {
  await stack.create(mira, 'glass');
  const page = await pages.enter(t, await stack.token('ron', { role: 'reader' }), 'glass');
  await open(page);
  await write(page, 'Let me in.');
  const failed = page.locator('#outbox .failed');
  await failed.waitFor();
  assert.match(await failed.textContent(), /does not let you write/);
  assert.deepEqual(page.faults, []);
});

test('a link that is opened in the tab of another story leads to its own, and its token leaves the address', TIME, async (t) => {
  for (const story of ['one', 'two']) await stack.create(mira, story, { title: story });
  const page = await pages.enter(t, mira, 'one');
  await open(page);
  await page.evaluate((hash) => (location.hash = hash), `#token=${pages.joe}&story=two`);
  await page.waitForFunction(() => document.getElementById('title').textContent === 'two');
  await open(page);
  assert.equal(await page.evaluate(() => location.hash), '#story=two');
  await write(page, 'I am here.');
  await page.waitForSelector('#log .mine');
  assert.equal(await page.textContent('#log .mine b'), 'Joe');
  assert.deepEqual(page.faults, []);
});
