// How soon the first words of an answer are on the screen, in a browser. By hand: make bench-page ARGS="--actions 500"
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

import { Pages, open } from './page.js';

/** From one action to the next at least, in ms: nobody's ten messages a second are used up, so that none waits for its turn. */
const PACE = 125;
/** For the answer to one action, in ms. */
const PATIENCE = 30_000;

/**
 * Acts so often in the page, one action after the answer to the last. Of each answer: ms from the button that was pressed
 * last before it came (`pressed`) and from when its first words reached the browser (`came`) to those words on the screen.
 */
export async function firstWords(page, gateway, story, actions, patience = PATIENCE) {
  await open(page);
  return page.evaluate(async ({ gateway, story, actions, pace, patience }) => {
    const { connect } = await import('/client.js');
    const token = sessionStorage.getItem('storyfleet.token');
    const came = new Map();
    const shown = new Map();
    const whole = new Set();
    let pressed;
    // A second reader in the same page tells when words come; the page's own tells when they are seen.
    const watch = connect({ url: gateway, getToken: async () => token });
    await new Promise((onLive) => {
      watch.join(story, {
        onLive,
        onText: (re, text, { done }) => {
          if (!came.has(re)) came.set(re, { at: performance.now(), pressed });
          if (done) whole.add(re);
        },
      });
    });
    const room = document.getElementById('room');
    const seen = new MutationObserver(() => {
      const now = performance.now();
      for (const item of room.querySelectorAll('[data-id]')) {
        if (!shown.has(item.dataset.id) && item.querySelector('.text')?.textContent) shown.set(item.dataset.id, now);
      }
    });
    seen.observe(room, { childList: true, characterData: true, subtree: true });
    const isOver = () => [...came.keys()].every((re) => shown.has(re) && whole.has(re));
    const until = async (what, ask) => {
      const end = performance.now() + patience;
      while (!ask()) {
        if (performance.now() > end) throw new Error(`not in time: ${what}`);
        await new Promise(requestAnimationFrame);
      }
    };
    for (let i = 1; i <= actions; i += 1) {
      const before = came.size;
      const words = `I light lamp ${i}.`;
      document.getElementById('text').value = words;
      pressed = performance.now();
      document.getElementById('composer').requestSubmit();
      await until(`the answer to "${words}"`, () => came.size > before && isOver());
      await new Promise((then) => setTimeout(then, pressed + pace - performance.now()));
    }
    // Some answers begin while nothing is done.
    await until('the end of the last answer', isOver);
    seen.disconnect();
    watch.close();
    return Array.from(came, ([re, { at, pressed }]) => ({ pressed: shown.get(re) - pressed, came: shown.get(re) - at }));
  }, { gateway, story, actions, pace: PACE, patience });
}

/** Of numbers, the one that so many of a hundred do not pass. */
export const percentile = (numbers, of) => [...numbers].sort((a, b) => a - b)[Math.ceil((numbers.length * of) / 100) - 1];

async function bench() {
  const options = { actions: { type: 'string', default: '200' }, json: { type: 'boolean', default: false } };
  const { values } = parseArgs({ options });
  const actions = Number(values.actions);
  if (!Number.isInteger(actions) || actions < 1) throw new Error(`--actions ${values.actions}: give a whole number, 1 or more`);
  const pages = await Pages.start({ between: 0 });
  try {
    // With nobody in it who could speak up, each action has one answer.
    await pages.stack.create(pages.mira, 'swift', { characters: {} });
    const ends = [];
    const page = await pages.enter({ after: (end) => ends.push(end) }, pages.mira, 'swift');
    const waits = await firstWords(page, pages.stack.url, 'swift', actions);
    const rows = Object.fromEntries(['came', 'pressed'].map((from) => {
      const ms = waits.map((wait) => wait[from]);
      return [from, { p50: percentile(ms, 50), p99: percentile(ms, 99), max: Math.max(...ms) }];
    }));
    await Promise.all(ends.map((end) => end()));
    if (values.json) console.log(JSON.stringify({ actions, answers: waits.length, ms_to_screen: rows }));
    else {
      console.log(`${waits.length} answers to ${actions} actions: ms until their first words are on the screen`);
      for (const [from, { p50, p99, max }] of Object.entries(rows)) {
        const what = from === 'came' ? 'from reaching the browser' : 'from pressing the button';
        console.log(`${what.padEnd(26)} p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)}, longest ${max.toFixed(1)}`);
      }
    }
  } finally {
    await pages.stop();
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await bench();
