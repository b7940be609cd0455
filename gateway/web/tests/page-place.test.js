// Where one is in a story: what is on the screen, where the focus is, and how to get elsewhere.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, open, write } from './page.js';

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
  await page.evaluate(() => (document.getElementById('scroll').scrollTop = 0));
  await page.waitForFunction(() => globalThis.left() > 200);
  await page.evaluate((action) => requestAnimationFrame(() => globalThis.scene.event({ ...action, id: 'new', text: 'new' }, 21)), ACTION);
  await page.waitForSelector('#down:not([hidden])');
  assert.equal(await page.evaluate(() => document.getElementById('scroll').scrollTop), 0);
  await page.click('#down');
  await page.waitForFunction(() => globalThis.left() < 2 && document.getElementById('down').hidden);
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
