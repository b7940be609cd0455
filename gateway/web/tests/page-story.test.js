// A story on the page, as those see it who are in it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, draft, open, shot, write } from './page.js';

const EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>';

const scenario = `rules:
  - when: {agent: narrator, regex: (?i)break the page}
    reply: {text: 'Then ${EVIL.replaceAll("'", "''")} & <b>more</b>.'}
  - when: {agent: narrator, regex: (?i)read me the card}
    reply: {text: 'It says 4111 1111 1111 1111, and nothing else that anybody could read in this light.'}
`;
const pages = await Pages.start({ scenario });
const { stack, mira, joe } = pages;
after(() => pages.stop());

test('one writes, and both see the same story', TIME, async (t) => {
  await stack.create(mira, 'castle');
  const [one, two] = [await pages.enter(t, mira, 'castle'), await pages.enter(t, joe, 'castle')];
  await Promise.all([open(one), open(two)]);
  assert.equal(await one.evaluate(() => location.hash), '#story=castle');
  await one.waitForFunction(() => document.getElementById('title').textContent === 'The lamp');
  await write(one, 'I light the lamp.');
  await one.waitForSelector('#outbox .pending, #log .mine');
  await Promise.all([draft(one), draft(two)]);
  await shot(one, 'writing-light');
  await write(two, 'Who is there?', 'say');
  await pages.quiet('castle', one, two);
  await Promise.all([pages.agrees(one, 'castle'), pages.agrees(two, 'castle')]);
  assert.equal(await one.locator('#log .mine').count(), 1);
  assert.equal(await one.locator('#log .theirs').count(), 1);
  assert.equal(await one.locator('#outbox li, #drafts li').count(), 0);
  const hues = await two.$$eval('#log .action', (items) => items.map((item) => item.style.getPropertyValue('--hue')));
  assert.equal(new Set(hues).size, 2);
  assert.deepEqual(await one.$$eval('#log .action', (items) => items.map((item) => item.style.getPropertyValue('--hue'))), hues);
  const spoken = await two.textContent('#spoken');
  const log = await stack.log(mira, 'castle');
  assert.ok(spoken.includes(log.findLast((event) => event.text && event.type !== 'action').text), 'what is whole is spoken');
  await shot(one, 'story-light');
  await one.emulateMedia({ colorScheme: 'dark' });
  await shot(one, 'story-dark');
  assert.deepEqual([...one.faults, ...two.faults], []);
});

test('a choice is taken with a button, and shown in its words', TIME, async (t) => {
  await stack.create(mira, 'fork');
  const page = await pages.enter(t, mira, 'fork');
  await open(page);
  await write(page, 'I look around.');
  const choice = page.locator('.choices:not([hidden]) button').first();
  await choice.waitFor();
  const label = await choice.textContent();
  await choice.focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction((words) => [...document.querySelectorAll('#log .mine .text')].some((text) => text.textContent === words), label);
  const log = await stack.log(mira, 'fork');
  const taken = log.find((event) => event.mode === 'choose');
  const given = log.flatMap((event) => event.choices ?? []);
  assert.equal(given.find(({ id }) => id === taken.choice).label, label);
  await pages.quiet('fork', page);
  await pages.agrees(page, 'fork');
  assert.deepEqual(page.faults, []);
});

test('names, words and what the model says stay text', TIME, async (t) => {
  const evil = await stack.token('evil', { name: EVIL.slice(0, 60) });
  await stack.create(evil, 'evil', { title: EVIL, premise: EVIL, characters: { [EVIL.slice(0, 60)]: { description: EVIL } } });
  const page = await pages.enter(t, evil, 'evil');
  await open(page);
  await write(page, `${EVIL} break the page`);
  await pages.quiet('evil', page);
  await pages.agrees(page, 'evil');
  const log = await stack.log(evil, 'evil');
  assert.ok(log.some((event) => event.type === 'narration' && event.text.includes('<img')), 'the model said it');
  assert.equal(await page.textContent('#title'), EVIL);
  assert.equal(await page.evaluate(() => globalThis.hacked), undefined);
  assert.equal(await page.locator('#room img, #room script, #spoken img').count(), 0);
  assert.deepEqual(page.faults, []);
  await shot(page, 'evil');
});

test('what the moderator stops is told, and one can drop it', TIME, async (t) => {
  await stack.create(mira, 'held', { policies: { input: 'hold' } });
  const [page, other] = [await pages.enter(t, mira, 'held'), await pages.enter(t, joe, 'held')];
  await Promise.all([open(page), open(other)]);
  await write(page, 'My card is 4111 1111 1111 1111, I pay with it.');
  await page.waitForSelector('#outbox .blocked');
  await shot(page, 'blocked');
  await page.click('#outbox .blocked button');
  await write(page, 'I light the lamp.');
  await other.waitForSelector('#log .theirs');
  await pages.quiet('held', page);
  await pages.agrees(page, 'held');
  assert.equal(await page.locator('#outbox li').count(), 0);
  assert.equal((await other.textContent('body')).includes('4111'), false);
  assert.deepEqual([...page.faults, ...other.faults], []);
});

test('what is taken back vanishes, for those who saw it and for those who come later', TIME, async (t) => {
  await stack.create(mira, 'taken', { policies: { output: 'retract' } });
  const page = await pages.enter(t, mira, 'taken');
  await open(page);
  await write(page, 'Read me the card.');
  await page.waitForSelector('#log .stone');
  const log = await stack.log(mira, 'taken');
  assert.ok(log.some((event) => event.type === 'retracted'), 'it was taken back');
  const later = await pages.enter(t, joe, 'taken');
  await later.waitForSelector('#log .mine, #log .theirs');
  await shot(page, 'retracted');
  for (const one of [page, later]) {
    assert.equal((await one.textContent('#room')).includes('4111'), false);
    assert.equal((await one.textContent('#spoken')).includes('4111'), false);
    assert.deepEqual(one.faults, []);
  }
});

test('what happened long ago is shown when asked for', TIME, async (t) => {
  await stack.create(mira, 'long', { policies: {} });
  for (let i = 1; i <= 130; i += 1) await stack.say(mira, 'long', `word ${i}`, { audience: ['mira'] });
  const page = await pages.enter(t, mira, 'long');
  await open(page);
  const earlier = page.locator('#earlier');
  await earlier.waitFor();
  while (await earlier.isVisible()) {
    // By the first: the latest may still come, and be added at the other end.
    const before = await page.locator('#log li').first().textContent();
    await earlier.click();
    await page.waitForFunction((text) => document.querySelector('#log li').textContent !== text, before);
  }
  await pages.agrees(page, 'long');
  const words = await page.$$eval('#log .mine .text', (items) => items.map((item) => item.textContent));
  assert.deepEqual(words.slice(0, 130), Array.from({ length: 130 }, (_, i) => `word ${i + 1}`));
  assert.deepEqual(page.faults, []);
});
