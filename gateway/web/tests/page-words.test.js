// What becomes of one's own words on the page, in whatever order it is told.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, open, write } from './page.js';

const pages = await Pages.start();
const { stack, mira } = pages;
after(() => pages.stop());

const CARD = 'My card is 4111 1111 1111 1111, I pay with it.';

test('who is told why something was stopped before that it was sent still sees why', TIME, async (t) => {
  await stack.create(mira, 'early', { policies: { input: 'hold' } });
  const late = [];
  let isTold = false;
  const page = await pages.between(t, mira, 'early', (message, give) => {
    if (message.status === 'held') return isTold ? give(message) : late.push(message);
    give(message);
    if (message.event?.type !== 'verdict') return undefined;
    isTold = true;
    return late.forEach(give);
  });
  await write(page, CARD);
  await page.waitForSelector('#outbox .blocked');
  await page.click('#outbox .blocked button');
  await page.waitForFunction(() => !document.querySelector('#outbox li'));
  assert.deepEqual(page.faults, []);
});

test('what the moderator could not read is told, and can be sent again', TIME, async (t) => {
  await stack.create(mira, 'unread', { policies: { input: 'hold' } });
  let isFailing = true;
  const page = await pages.between(t, mira, 'unread', (message, give) => {
    const { event } = message;
    if (!isFailing || event?.type !== 'verdict') return give(message);
    isFailing = false;
    return give({ ...message, event: { ...event, type: 'failed', agent: 'moderator', notice: 'The moderator is asleep.', cause: [event.target] } });
  });
  await write(page, CARD);
  const failed = page.locator('#outbox .failed');
  await failed.waitFor();
  assert.match(await failed.textContent(), /Not sent: The moderator is asleep\./);
  await failed.getByText('Send again').click();
  await page.waitForSelector('#outbox .blocked');
  assert.equal(await page.locator('#outbox li').count(), 1);
  assert.deepEqual(page.faults, []);
});

test('a story that cannot be read yet says so, and is there as soon as it can', TIME, async (t) => {
  await stack.create(mira, 'full');
  await stack.say(mira, 'full', 'I light the lamp.');
  let isFull = true;
  const say = (message, give, answer) => {
    if (!isFull || message.t !== 'join') return give(message);
    return answer({ t: 'err', ref: message.ref, code: 'unavailable', message: 'as many stories are read here as can be', after_ms: 50 });
  };
  const page = await pages.between(t, mira, 'full', (message, give) => give(message), say);
  await page.waitForFunction(() => document.getElementById('news').textContent.includes('as many stories'));
  isFull = false;
  await page.waitForSelector('#log .mine');
  await page.waitForFunction(() => document.getElementById('news').textContent === '');
  assert.deepEqual(page.faults, []);
});

test('what is too long to be sent is told, kept whole, and sent when it is shorter', TIME, async (t) => {
  await stack.create(mira, 'lengthy');
  const page = await pages.enter(t, mira, 'lengthy');
  await open(page);
  await write(page, 'a'.repeat(8001));
  assert.equal(await page.evaluate(() => document.getElementById('text').validationMessage), 'At most 8000 characters: these are 8001.');
  assert.equal(await page.inputValue('#text'), 'a'.repeat(8001));
  await write(page, 'a'.repeat(8000));
  await page.waitForSelector('#log .mine');
  assert.equal(await page.textContent('#log .mine .text'), 'a'.repeat(8000));
  assert.deepEqual(page.faults, []);
});
