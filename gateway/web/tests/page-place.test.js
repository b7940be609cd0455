// Where one is in a story: what is on the screen, where the focus is, and how to get elsewhere.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, open } from './page.js';
import { eventually } from './stack.js';

const pages = await Pages.start();
const { stack, mira, joe } = pages;
after(() => pages.stop());

const ACTION = { type: 'action', author: { id: 'x', name: 'X' }, mode: 'do' };
const PHONE = { viewport: { width: 360, height: 640 } };

/** A page with a scene of twenty actions, and none of its own. */
async function scene(t, options) {
  const page = await pages.visit(t, '', options);
  await page.evaluate(async (action) => {
    const { Scene } = await import('/scene.js');
    document.getElementById('door').hidden = true;
    document.getElementById('room').hidden = false;
    globalThis.scene = new Scene({ onChoose: () => {} });
    globalThis.left = () => {
      const { scrollHeight, scrollTop, clientHeight } = document.getElementById('scroll');
      return scrollHeight - scrollTop - clientHeight;
    };
    for (let i = 1; i <= 20; i += 1) globalThis.scene.event({ ...action, id: `a${i}`, text: `word ${i}` }, i);
  }, ACTION);
  return page;
}

test('who is at the end stays there, however much text comes at once', TIME, async (t) => {
  const page = await scene(t, PHONE);
  const long = 'lorem ipsum dolor sit amet '.repeat(160);
  await page.evaluate((text) => globalThis.scene.text('r', text, false), long);
  await page.waitForFunction((all) => document.querySelector('.draft .text').textContent === all, long);
  assert.ok(await page.evaluate(() => globalThis.left() < 2), 'at the end');
  assert.equal(await page.isVisible('#down'), false);
});

test('who reads further up stays there, is told of new text, and gets to it', TIME, async (t) => {
  const page = await scene(t, PHONE);
  // Before the page is told that it was scrolled.
  await page.evaluate((action) => {
    document.getElementById('scroll').scrollTop = 0;
    globalThis.scene.event({ ...action, id: 'new', text: 'new' }, 21);
  }, ACTION);
  await page.waitForSelector('#down:not([hidden])');
  assert.equal(await page.evaluate(() => document.getElementById('scroll').scrollTop), 0);
  await page.click('#down');
  await page.waitForFunction(() => globalThis.left() < 2 && document.getElementById('down').hidden);
});

test('who goes up a little while an answer is written stays there, and follows again when they come back near its end', TIME, async (t) => {
  const page = await scene(t, PHONE);
  const long = 'lorem ipsum dolor sit amet '.repeat(160);
  const written = (text) => page.waitForFunction((all) => document.querySelector('.draft .text').textContent === all, text);
  const place = await page.evaluate((text) => {
    globalThis.scene.text('r', text, false);
    const scroll = document.getElementById('scroll');
    return (scroll.scrollTop -= 60);
  }, long);
  await written(long);
  assert.equal(await page.evaluate(() => document.getElementById('scroll').scrollTop), place);
  assert.equal(await page.isVisible('#down'), true);
  const more = long + long;
  await page.evaluate((text) => {
    const scroll = document.getElementById('scroll');
    scroll.scrollTop += globalThis.left() - 60;
    globalThis.scene.text('r', text, false);
  }, more);
  await written(more);
  assert.ok(await page.evaluate(() => globalThis.left() < 2), 'at the end');
  assert.equal(await page.isVisible('#down'), false);
});

test('the story is scrolled with the keyboard alone', TIME, async (t) => {
  const page = await scene(t, PHONE);
  await page.evaluate(() => document.activeElement.blur());
  const order = [];
  while (order.at(-1) !== 'scroll' && order.length < 12) {
    await page.keyboard.press('Tab');
    order.push(await page.evaluate(() => document.activeElement.id));
  }
  assert.equal(order.at(-1), 'scroll', order.join(' '));
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
  await page.keyboard.press('Home');
  await page.waitForFunction(() => document.getElementById('scroll').scrollTop === 0);
});

test('one chooses once, the keyboard goes on in the box, and what is shown of before leaves choices open', TIME, async (t) => {
  const page = await scene(t);
  const choices = [{ id: 'c', label: 'Go' }, { id: 'd', label: 'Stay' }];
  await page.evaluate(async (given) => {
    const { Scene } = await import('/scene.js');
    globalThis.chosen = [];
    globalThis.scene = new Scene({ onChoose: (choice) => globalThis.chosen.push(choice) });
    const told = { type: 'narration', text: 'A fork.', speak: [], status: 'complete', choices: given };
    globalThis.scene.event({ ...told, id: 'n' }, 30);
    globalThis.scene.earlier([{ seq: 29, event: { ...told, id: 'm' } }], 29);
  }, choices);
  const open = page.locator('#log .choices:not([hidden]) button');
  assert.equal(await open.count(), 2);
  await page.keyboard.press('Tab');
  await open.first().focus();
  await page.keyboard.press('Enter');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'text');
  await open.first().evaluate((button) => button.click());
  assert.deepEqual(await page.evaluate(() => globalThis.chosen.map(({ id }) => id)), ['c']);
  await page.evaluate(() => globalThis.chosen[0].again());
  await open.last().focus();
  await page.keyboard.press('Enter');
  assert.deepEqual(await page.evaluate(() => globalThis.chosen.map(({ id }) => id)), ['c', 'd']);
  await page.evaluate((action) => globalThis.scene.event({ ...action, id: 'taken', mode: 'choose', choice: 'd' }, 31), ACTION);
  assert.equal(await open.count(), 0);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'text');
});

/** What has the focus: the id of an element, or the words of a button. */
const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);

test('the keyboard goes on in the box when what is done with words of one\'s own is done', TIME, async (t) => {
  const page = await scene(t);
  await page.evaluate(() => {
    const card = globalThis.scene.pending({ who: 'Mira', text: 'I wait.' });
    card.say('failed', 'Not sent', { 'Send again': () => card.say('', 'Sending …'), Discard: () => card.remove() });
    globalThis.fail = () => card.say('failed', 'Not sent', { Discard: () => card.remove() });
  });
  for (const label of ['Send again', 'Discard']) {
    await page.keyboard.press('Tab');
    await page.locator('#outbox button', { hasText: label }).focus();
    await page.keyboard.press('Enter');
    assert.equal(await focused(page), 'text');
    await page.evaluate(() => globalThis.fail());
  }
});

test('the keyboard goes on in the story when it has got to new text', TIME, async (t) => {
  const page = await scene(t, PHONE);
  await page.evaluate((action) => {
    document.getElementById('scroll').scrollTop = 0;
    globalThis.scene.event({ ...action, id: 'new', text: 'new' }, 21);
  }, ACTION);
  await page.keyboard.press('Tab');
  await page.focus('#down');
  await page.keyboard.press('Enter');
  assert.equal(await focused(page), 'scroll');
  assert.ok(await page.evaluate(() => globalThis.left() < 2), 'at the end');
});

test('the keyboard stays where it asks for what happened earlier, and goes on in the story when there is no more', TIME, async (t) => {
  await stack.create(mira, 'keys', { policies: {} });
  for (let i = 1; i <= 210; i += 1) await stack.say(mira, 'keys', `word ${i}`, { audience: ['mira'] });
  const page = await pages.enter(t, mira, 'keys');
  await page.waitForSelector('#earlier:not([hidden])');
  await page.keyboard.press('Tab');
  await page.focus('#earlier');
  while (await page.isVisible('#earlier')) {
    assert.equal(await focused(page), 'earlier');
    await page.keyboard.press('Enter');
    await page.waitForSelector('#earlier:not([aria-disabled])', { state: 'attached' });
  }
  assert.equal(await focused(page), 'scroll');
  assert.equal((await texts(page))[0], 'word 1');
});

/** Pages of history of this page end after so few events, as those with much in them do. */
async function shortPages(page, most) {
  await page.route('**/events?*', async (route) => {
    const url = new URL(route.request().url());
    url.searchParams.set('limit', Math.min(most, url.searchParams.get('limit')));
    await route.fulfill({ response: await route.fetch({ url: url.href }) });
  });
}

const texts = (page) => page.$$eval('#log .action .text', (items) => items.map((item) => item.textContent));

test('what happened earlier is whole, however its pages are cut, and whatever of it is for others', TIME, async (t) => {
  await stack.create(mira, 'whole', { policies: {} });
  await stack.say(mira, 'whole', 'the beginning');
  for (let i = 1; i <= 110; i += 1) await stack.say(mira, 'whole', `whisper ${i}`, { audience: ['mira'] });
  await stack.say(mira, 'whole', 'the end');
  for (const [token, count] of [[mira, 112], [joe, 2]]) {
    const page = await pages.visit(t);
    await shortPages(page, 7);
    await page.evaluate((hash) => (location.hash = hash), `#token=${token}&story=whole`);
    await open(page);
    await page.waitForFunction(() => document.querySelector('#log .action'));
    const earlier = page.locator('#earlier');
    while ((await texts(page)).length < count) {
      await earlier.click();
      await page.waitForSelector('#earlier:not([aria-disabled])', { state: 'attached' });
    }
    const here = await texts(page);
    assert.deepEqual([here.length, here[0], here.at(-1)], [count, 'the beginning', 'the end']);
    if (count > 2) assert.deepEqual(here.slice(1, -1), Array.from({ length: 110 }, (_, i) => `whisper ${i + 1}`));
    assert.deepEqual(page.faults, []);
  }
});

test('what happened earlier is within reach where all that happened since is for others', TIME, async (t) => {
  await stack.create(mira, 'far', { policies: {} });
  await stack.say(mira, 'far', 'the beginning');
  await pages.quiet('far');
  for (let i = 1; i <= 110; i += 1) await stack.say(mira, 'far', `whisper ${i}`, { audience: ['mira'] });
  const page = await pages.enter(t, joe, 'far');
  await page.click('#earlier');
  await page.waitForFunction(() => document.querySelector('#log .action .text')?.textContent === 'the beginning');
  assert.deepEqual(page.faults, []);
});

test('what happens while one comes is shown once, also where what happened earlier is asked for before it is told', TIME, async (t) => {
  await stack.create(mira, 'meanwhile', { policies: {} });
  await stack.say(mira, 'meanwhile', 'the beginning');
  await pages.quiet('meanwhile');
  for (let i = 1; i <= 110; i += 1) await stack.say(mira, 'meanwhile', `whisper ${i}`, { audience: ['mira'] });
  const late = [];
  const page = await pages.between(t, joe, 'meanwhile', async (message, give) => {
    if (message.event) return late.push(() => give(message));
    if (message.t === 'live') await stack.say(mira, 'meanwhile', 'the end');
    return give(message);
  });
  await page.click('#earlier');
  await page.waitForFunction(() => document.querySelector('#log .action'));
  await eventually('it is to be told', () => late.length > 0);
  for (const give of late) give();
  await page.waitForFunction(() => [...document.querySelectorAll('#log .action .text')].some((text) => text.textContent === 'the end'));
  assert.deepEqual(await texts(page), ['the beginning', 'the end']);
  assert.deepEqual(page.faults, []);
});

test('an event that comes twice is shown once, and one that was a draft is shown whole', TIME, async (t) => {
  const page = await scene(t);
  const told = { id: 'r', type: 'narration', text: 'All of it.' };
  await page.evaluate(([action, narration]) => {
    const { scene } = globalThis;
    scene.event({ ...action, id: 'a20', text: 'word 20' }, 20);
    scene.text('r', narration.text, true);
    for (let times = 1; times <= 2; times += 1) scene.event(narration, 21);
    scene.earlier([{ seq: 1, event: { ...action, id: 'a1', text: 'word 1' } }], 1);
  }, [ACTION, told]);
  const ids = await page.$$eval('#room [data-id]', (items) => items.map((item) => item.dataset.id));
  assert.deepEqual(ids, [...Array.from({ length: 20 }, (_, i) => `a${i + 1}`), 'r']);
  await page.waitForFunction((text) => document.querySelector('#log [data-id=r] .text').textContent === text, told.text);
});

test('what was asked for of one story is not shown in another', TIME, async (t) => {
  for (const story of ['before', 'after']) await stack.create(mira, story, { policies: {} });
  for (let i = 1; i <= 110; i += 1) await stack.say(mira, 'before', `whisper ${i}`, { audience: ['mira'] });
  await stack.say(mira, 'after', 'alone');
  const page = await pages.enter(t, mira, 'before');
  await open(page);
  let answer;
  const asked = new Promise((resolve) => page.route('**/before/events?*', (route) => {
    answer = () => route.continue();
    resolve();
  }));
  await page.click('#earlier');
  await asked;
  await page.click('#leave');
  await page.fill('#story', 'after');
  await page.click('#enter > button');
  await page.waitForFunction(() => document.querySelector('#log .action .text')?.textContent === 'alone');
  const answered = page.waitForResponse(/before\/events/);
  await answer();
  await (await answered).finished();
  await page.waitForSelector('#earlier:not([aria-disabled])', { state: 'attached' });
  assert.deepEqual(await texts(page), ['alone']);
  assert.deepEqual(page.faults, []);
});
