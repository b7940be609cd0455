// How soon an answer is seen to begin.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { firstWords } from './first-words.js';
import { Pages, TIME } from './page.js';

// Not at once: an answer that is whole before any of it was sent has no first words.
const pages = await Pages.start({ between: 2 });
after(() => pages.stop());

test('the first words of an answer are on the screen within 100 ms of reaching the browser', TIME, async (t) => {
  await pages.stack.create(pages.mira, 'swift');
  const page = await pages.enter(t, pages.mira, 'swift');
  const waits = await firstWords(page, pages.stack.url, 'swift', 16);
  assert.ok(waits.length >= 16);
  const sorted = waits.map(({ came }) => Math.round(came)).sort((a, b) => a - b);
  t.diagnostic(`ms from the browser to the screen: ${sorted.join(' ')}`);
  assert.ok(sorted.at(-1) < 100, sorted.join(' '));
});

test('an action that nobody answers ends the measurement by its name', TIME, async (t) => {
  await pages.stack.create(pages.mira, 'mute');
  const ron = await pages.stack.token('ron', { role: 'reader' });
  const page = await pages.enter(t, ron, 'mute');
  await assert.rejects(firstWords(page, pages.stack.url, 'mute', 1, 200), /not in time: the answer to "I light lamp 1\."/);
});
