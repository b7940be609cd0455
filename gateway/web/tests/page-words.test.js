// What becomes of one's own words on the page, in whatever order it is told.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, open, write } from './page.js';
import { eventually } from './stack.js';

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

/** Where no WebSocket opens, and what is published gets to the gateway while its answers do not get back. */
async function oneWay(page) {
  await page.addInitScript(() => {
    globalThis.WebSocket = class {
      constructor() {
        setTimeout(() => this.onclose({ code: 1006, reason: '' }));
      }
      close() {}
    };
  });
  await page.route(/\/events$/, (route) => route.fetch().catch(() => {}));
}

test('over streams, words that are in the story do not wait for an answer that is lost', TIME, async (t) => {
  await stack.create(mira, 'one-way', { policies: {} });
  const page = await pages.prepared(t, mira, 'one-way', oneWay);
  await write(page, 'I light the lamp.');
  await page.waitForSelector('#log .mine');
  await page.waitForFunction(() => !document.querySelector('#outbox li'), undefined, { timeout: 5_000 });
  assert.deepEqual(page.faults, []);
});

test('what is sent again after nobody answered is in the story once, whenever it is told', TIME, async (t) => {
  await stack.create(mira, 'unheard', { policies: {} });
  let isLost = true;
  const late = [];
  const ids = [];
  const pass = (message, give) => {
    if (message.event?.type === 'action') return late.push(() => give(message));
    if (message.id && isLost) return give({ t: 'err', ref: message.ref, code: 'refused', message: 'nobody answered' });
    return give(message);
  };
  const say = (message, give) => {
    if (message.t === 'publish') ids.push(message.event.id);
    give(message);
  };
  const page = await pages.between(t, mira, 'unheard', pass, say);
  for (const times of [1, 2]) {
    await write(page, `I wait, ${times}.`);
    const failed = page.locator('#outbox .failed');
    await failed.waitFor();
    assert.match(await failed.textContent(), /Not sent: nobody answered/);
    isLost = times === 1;
    await failed.getByText('Send again').click();
    await page.waitForFunction((given) => document.querySelectorAll('#outbox .failed').length === given, isLost ? 1 : 0);
    await eventually('it is to be told', () => late.length > 0);
    late.pop()();
    await page.waitForFunction(() => !document.querySelector('#outbox li'));
    isLost = true;
  }
  assert.deepEqual(await page.$$eval('#log .mine .text', (items) => items.map((item) => item.textContent)), ['I wait, 1.', 'I wait, 2.']);
  assert.deepEqual([ids[1], ids[3]], [ids[0], ids[2]]);
  const log = await stack.log(mira, 'unheard');
  assert.equal(log.filter((event) => event.type === 'action').length, 2);
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
