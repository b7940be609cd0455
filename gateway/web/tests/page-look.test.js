// How the page looks and sounds.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, draft, open, write } from './page.js';

const pages = await Pages.start();
const { stack, mira } = pages;
after(() => pages.stop());

test('everything has a name, nothing is read twice, and still text is not animated', TIME, async (t) => {
  await stack.create(mira, 'heard');
  const page = await pages.enter(t, mira, 'heard', { reducedMotion: 'reduce' });
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
  await pages.quiet('heard', page);
  await pages.agrees(page, 'heard');
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
    await pages.quiet(story);
    const page = await pages.enter(t, mira, story, { colorScheme });
    await open(page);
    await pages.agrees(page, story);
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
