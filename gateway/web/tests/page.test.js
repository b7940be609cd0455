// The page in a real browser against real processes. Screenshots are kept in target/page.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { Stack, eventually } from './stack.js';

const SHOTS = fileURLToPath(new URL('../../../target/page', import.meta.url));
const BROWSER = process.env.CHROMIUM ?? '/usr/bin/chromium';
const EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=2</script>';
const TIME = { timeout: 90_000 };

let stack;
let browser;
let mira;
let joe;

before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  const scenario = `rules:
  - when: {agent: narrator, regex: (?i)break the page}
    reply: {text: 'Then ${EVIL.replaceAll("'", "''")} & <b>more</b>.'}
  - when: {agent: narrator, regex: (?i)read me the card}
    reply: {text: 'It says 4111 1111 1111 1111, and nothing else that anybody could read in this light.'}
`;
  stack = await Stack.start({ scenario });
  mira = await stack.token('mira', { name: 'Mira' });
  joe = await stack.token('joe', { name: 'Joe' });
  const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
  browser = await chromium.launch({ executablePath: BROWSER, args });
});
after(async () => {
  await browser?.close();
  await stack?.stop();
});

/** A page of somebody; whatever goes wrong in it fails the test. */
async function visit(t, place = '', options = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 800 }, ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => {
    // A refused connection is the browser's own word for an outage.
    if (message.type() === 'error' && !/ERR_|WebSocket connection/.test(message.text())) page.faults.push(message.text());
  });
  await page.goto(`${stack.url}/${place}`);
  return page;
}

const enter = (t, token, story, options) => visit(t, `#token=${token}&story=${story}`, options);
const open = (page) => page.waitForSelector('body[data-link="open"]');

async function write(page, text, mode = 'do') {
  await page.check(`input[name=mode][value=${mode}]`);
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

/** What a page shows of events: id → text. */
const shown = (page) => page.$$eval('#log [data-id]', (items) => Object.fromEntries(items.map((item) => [item.dataset.id, item.querySelector('.text')?.textContent])));

/** Waits until the page shows exactly what the log has. */
async function agrees(page, story) {
  await eventually('the page shows the log', async () => {
    const log = await stack.log(mira, story);
    const told = log.filter((event) => ['action', 'narration', 'dialogue'].includes(event.type) && event.mode !== 'choose');
    const here = await shown(page);
    for (const { id, text } of told) assert.equal(here[id], text);
    return told.length > 0;
  });
}

/** Waits until every action is answered and nothing is being written. */
async function quiet(story) {
  await eventually('all is answered', async () => {
    const log = await stack.log(mira, story);
    const answered = new Set(log.flatMap((event) => event.cause ?? []));
    const waits = log.some((event) => event.type === 'action' && !answered.has(event.id));
    const speak = log.flatMap((event) => (event.speak ?? []).map(() => event.id));
    return !waits && log.filter((event) => event.type === 'dialogue').length >= speak.length;
  });
}

const draft = (page, length = 20) => page.waitForFunction((least) => (document.querySelector('.draft .text')?.textContent.length ?? 0) >= least, length);
const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.getElementById('scroll').scrollWidth <= document.getElementById('scroll').clientWidth);
const shot = (page, name) => page.screenshot({ path: path.join(SHOTS, `${name}.png`) });

test('one writes, and both see the same story', TIME, async (t) => {
  await stack.create(mira, 'castle');
  const [one, two] = [await enter(t, mira, 'castle'), await enter(t, joe, 'castle')];
  await Promise.all([open(one), open(two)]);
  assert.equal(await one.evaluate(() => location.hash), '#story=castle');
  await one.waitForFunction(() => document.getElementById('title').textContent === 'The lamp');
  await write(one, 'I light the lamp.');
  await one.waitForSelector('#outbox .pending, #log .mine');
  await Promise.all([draft(one), draft(two)]);
  await shot(one, 'writing-light');
  await write(two, 'Who is there?', 'say');
  await quiet('castle');
  await Promise.all([agrees(one, 'castle'), agrees(two, 'castle')]);
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
  const page = await enter(t, mira, 'fork');
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
  await quiet('fork');
  await agrees(page, 'fork');
  assert.deepEqual(page.faults, []);
});

test('a reload in the middle of an answer goes on in it', TIME, async (t) => {
  await stack.create(mira, 'reload');
  const page = await enter(t, mira, 'reload');
  await open(page);
  await write(page, 'I light the lamp.');
  for (let time = 1; time <= 3; time += 1) {
    await draft(page, 15 * time);
    await page.reload();
    await open(page);
  }
  await draft(page, 50);
  await quiet('reload');
  await agrees(page, 'reload');
  assert.deepEqual(page.faults, []);
});

for (const [name, cut, mend] of [
  ['the network is cut', () => stack.wire.cut(), () => stack.wire.mend()],
  ['the gateway dies', () => stack.endGateway('SIGKILL'), () => stack.startGateway()],
]) {
  test(`${name} in the middle of an answer and comes back: nothing is lost or doubled`, TIME, async (t) => {
    const story = name.replaceAll(' ', '-');
    await stack.create(mira, story);
    const page = await enter(t, mira, story);
    await open(page);
    await write(page, 'I light the lamp.');
    await draft(page);
    await cut();
    await page.waitForFunction(() => document.getElementById('banner').textContent.includes('lost'));
    await write(page, 'I wait in the dark.');
    await page.waitForSelector('#outbox .pending');
    if (name.startsWith('the network')) await shot(page, 'offline');
    await mend();
    await open(page);
    await page.waitForFunction(() => document.getElementById('banner').textContent === '');
    await eventually('the words arrive', async () => (await stack.log(mira, story)).some((event) => event.text === 'I wait in the dark.'));
    await quiet(story);
    await agrees(page, story);
    assert.equal((await stack.log(mira, story)).filter((event) => event.type === 'action').length, 2);
    assert.equal(await page.locator('#outbox li').count(), 0);
    assert.deepEqual(page.faults, []);
  });
}

test('names, words and what the model says stay text', TIME, async (t) => {
  const evil = await stack.token('evil', { name: EVIL.slice(0, 60) });
  await stack.create(evil, 'evil', { title: EVIL, premise: EVIL, characters: { [EVIL.slice(0, 60)]: { description: EVIL } } });
  const page = await enter(t, evil, 'evil');
  await open(page);
  await write(page, `${EVIL} break the page`);
  await quiet('evil');
  await agrees(page, 'evil');
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
  const [page, other] = [await enter(t, mira, 'held'), await enter(t, joe, 'held')];
  await Promise.all([open(page), open(other)]);
  await write(page, 'My card is 4111 1111 1111 1111, I pay with it.');
  await page.waitForSelector('#outbox .blocked');
  await shot(page, 'blocked');
  await page.click('#outbox .blocked button');
  await write(page, 'I light the lamp.');
  await other.waitForSelector('#log .theirs');
  await quiet('held');
  await agrees(page, 'held');
  assert.equal(await page.locator('#outbox li').count(), 0);
  assert.equal((await other.textContent('body')).includes('4111'), false);
  assert.deepEqual([...page.faults, ...other.faults], []);
});

test('what is taken back vanishes, for those who saw it and for those who come later', TIME, async (t) => {
  await stack.create(mira, 'taken', { policies: { output: 'retract' } });
  const page = await enter(t, mira, 'taken');
  await open(page);
  await write(page, 'Read me the card.');
  await page.waitForSelector('#log .stone');
  const log = await stack.log(mira, 'taken');
  assert.ok(log.some((event) => event.type === 'retracted'), 'it was taken back');
  const later = await enter(t, joe, 'taken');
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
  const page = await enter(t, mira, 'long');
  await open(page);
  const earlier = page.locator('#earlier');
  await earlier.waitFor();
  while (await earlier.isVisible()) {
    const before = await page.locator('#log li').count();
    await earlier.click();
    await page.waitForFunction((count) => document.querySelectorAll('#log li').length > count, before);
  }
  await agrees(page, 'long');
  const words = await page.$$eval('#log .mine .text', (items) => items.map((item) => item.textContent));
  assert.deepEqual(words.slice(0, 130), Array.from({ length: 130 }, (_, i) => `word ${i + 1}`));
  assert.deepEqual(page.faults, []);
});

test('the first words of an answer are on the screen within 100 ms of reaching the browser', TIME, async (t) => {
  await stack.create(mira, 'swift');
  const page = await enter(t, mira, 'swift');
  await open(page);
  const waits = await page.evaluate(async (gateway) => {
    const { connect } = await import('/client.js');
    const token = sessionStorage.getItem('storyfleet.token');
    const first = new Map();
    const shown = new Map();
    // A second reader in the same page tells when the token came; the page's own tells when it is seen.
    const watch = connect({ url: gateway, getToken: async () => token });
    watch.join('swift', { onText: (re) => first.has(re) || first.set(re, performance.now()) });
    new MutationObserver(() => {
      for (const item of document.querySelectorAll('[data-id]')) {
        if (item.querySelector('.text')?.textContent && !shown.has(item.dataset.id)) shown.set(item.dataset.id, performance.now());
      }
    }).observe(document.getElementById('room'), { childList: true, characterData: true, subtree: true });
    const text = document.getElementById('text');
    for (let i = 1; i <= 8; i += 1) {
      const before = first.size;
      text.value = `I light lamp ${i}.`;
      document.getElementById('composer').requestSubmit();
      while (first.size === before || [...first.keys()].some((re) => !shown.has(re))) await new Promise(requestAnimationFrame);
    }
    watch.close();
    return [...first].map(([re, at]) => shown.get(re) - at);
  }, stack.url);
  assert.ok(waits.length >= 8);
  assert.ok(Math.max(...waits) < 100, waits.map(Math.round).join(' '));
});

test('who may only read is told so when they write', TIME, async (t) => {
  await stack.create(mira, 'glass');
  const page = await enter(t, await stack.token('ron', { role: 'reader' }), 'glass');
  await open(page);
  await write(page, 'Let me in.');
  const failed = page.locator('#outbox .failed');
  await failed.waitFor();
  assert.match(await failed.textContent(), /does not let you write/);
  assert.deepEqual(page.faults, []);
});

test('a story is made at the door, with the keyboard, on a small screen', TIME, async (t) => {
  const page = await visit(t, '', { viewport: { width: 360, height: 640 }, colorScheme: 'dark' });
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
  await quiet('harbour');
  await agrees(page, 'harbour');
  assert.ok(await fits(page), 'no sideways scrolling in the room');
  await shot(page, 'room-360-dark');
  await page.emulateMedia({ colorScheme: 'light' });
  await shot(page, 'room-360-light');
  const names = await page.$$eval('#log .dialogue .who b', (items) => items.map((item) => item.textContent));
  assert.ok(names.includes('Sibyl'), names.join());
  assert.deepEqual(page.faults, []);
});

test('a wrong token is told, and asked for again', TIME, async (t) => {
  const page = await visit(t);
  await page.fill('#token', 'not.a.token');
  await page.fill('#story', 'castle');
  await page.click('#enter > button');
  await page.waitForSelector('#door-problem:not([hidden])');
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  await shot(page, 'door-light');
});

test('a ticket opens the page once, leaves the address, and a reload goes on', TIME, async (t) => {
  await stack.create(mira, 'ticket');
  const { ticket } = await stack.api(mira, '/v1/tickets', { method: 'POST' });
  const page = await visit(t, `#ticket=${ticket}&story=ticket`);
  await open(page);
  assert.equal(await page.evaluate(() => location.hash), '#story=ticket');
  await write(page, 'I light the lamp.');
  await page.waitForSelector('#log .mine');
  await page.reload();
  await open(page);
  assert.equal(await page.textContent('#log .mine b'), 'Mira');
  const again = await visit(t, `#ticket=${ticket}&story=ticket`);
  await again.waitForSelector('#door-problem:not([hidden])');
  assert.match(await again.textContent('#door-problem'), /ticket/);
});

test('when a token ends the page asks for another one, and goes on with it', TIME, async (t) => {
  await stack.create(mira, 'ends');
  const page = await enter(t, await stack.token('mira', { name: 'Mira', ttl: '3s' }), 'ends');
  await open(page);
  await page.waitForSelector('#door:not([hidden])', { timeout: 30_000 });
  assert.match(await page.textContent('#door-problem'), /token|Sign in/i);
  await page.fill('#token', mira);
  await page.press('#token', 'Enter');
  await open(page);
  await write(page, 'I am back.');
  await page.waitForSelector('#log .mine');
});

test('everything has a name, nothing is read twice, and still text is not animated', TIME, async (t) => {
  await stack.create(mira, 'heard');
  const page = await enter(t, mira, 'heard', { reducedMotion: 'reduce' });
  await open(page);
  await write(page, 'I light the lamp.');
  await draft(page);
  const faults = await page.evaluate(() => {
    const found = [];
    for (const item of document.querySelectorAll('button, input, select, textarea')) {
      const label = item.labels?.[0]?.textContent || item.getAttribute('aria-label') || (item.tagName === 'BUTTON' && item.textContent);
      if (!label?.trim()) found.push(`no name: ${item.outerHTML}`);
    }
    for (const list of document.querySelectorAll('#log, #drafts, #outbox')) {
      if (!list.getAttribute('aria-label')) found.push(`no name: ${list.id}`);
      if (list.closest('[aria-live], [role=log], [role=status]')) found.push(`each token would be spoken: ${list.id}`);
    }
    const ids = [...document.querySelectorAll('[id]')].map((item) => item.id);
    if (new Set(ids).size !== ids.length) found.push('an id is there twice');
    if (!document.documentElement.lang) found.push('no language');
    if ([...document.querySelectorAll('h1')].filter((item) => item.checkVisibility()).length !== 1) found.push('not one heading');
    if ([...document.querySelectorAll('main')].filter((item) => item.checkVisibility()).length !== 1) found.push('not one main');
    const caret = getComputedStyle(document.querySelector('.draft .text'), '::after');
    if (caret.animationName !== 'none') found.push('the caret blinks');
    return found;
  });
  assert.deepEqual(faults, []);
  await quiet('heard');
  await agrees(page, 'heard');
  const { text } = (await stack.log(mira, 'heard')).find((event) => event.type === 'narration');
  const times = (await page.textContent('#spoken')).split(text).length - 1;
  assert.equal(times, 1);
});

for (const colorScheme of ['light', 'dark']) {
  test(`text stands out from what is behind it: ${colorScheme}`, TIME, async (t) => {
    const story = `seen-${colorScheme}`;
    await stack.create(mira, story);
    const { id } = await stack.say(mira, story, 'I light the lamp.');
    await stack.answer(mira, story, id);
    await quiet(story);
    const page = await enter(t, mira, story, { colorScheme });
    await open(page);
    await agrees(page, story);
    await page.waitForSelector('#log .action .badge');
    const weak = await page.evaluate(() => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 }).getContext('2d', { willReadFrequently: true });
      const rgb = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
      };
      const light = (colour) => {
        const parts = colour.slice(0, 3).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const behind = (item) => {
        for (let at = item; at; at = at.parentElement) {
          const colour = rgb(getComputedStyle(at).backgroundColor);
          if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
      };
      const found = new Set();
      const action = document.querySelector('#log .action');
      for (let hue = 0; hue < 360; hue += 15) {
        action.style.setProperty('--hue', hue);
        for (const badge of action.querySelectorAll('.badge')) badge.style.setProperty('--hue', hue);
        for (const item of document.querySelectorAll('#room p, #room b, #room button, #room span, #room h1')) {
          if (!item.checkVisibility() || !item.textContent.trim() || item.closest('.unseen')) continue;
          const [a, b] = [light(rgb(getComputedStyle(item).color)), light(behind(item))].sort((x, y) => y - x);
          const ratio = (a + 0.05) / (b + 0.05);
          if (ratio < 4.5) found.add(`${item.tagName}.${item.className} ${item.textContent.slice(0, 20)} ${hue}: ${ratio.toFixed(2)}`);
        }
      }
      return [...found];
    });
    assert.deepEqual(weak, []);
  });
}
