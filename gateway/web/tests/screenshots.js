// The pictures of the documents: the page, and `storyfleet top` in a terminal. By hand: make screenshots
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { Pages, draft, open, write } from './page.js';
import { BINARIES, eventually } from './stack.js';

const IMAGES = fileURLToPath(new URL('../../../docs/images', import.meta.url));
const XTERM = fileURLToPath(new URL('node_modules/@xterm/xterm', import.meta.url));
const STORYFLEET = path.join(BINARIES, 'storyfleet');
const [COLUMNS, ROWS] = [96, 18];

mkdirSync(IMAGES, { recursive: true });
const ends = [];
const pages = await Pages.start({ between: 30 });
try {
  await thePage({ after: (end) => ends.push(end) });
  await top();
} finally {
  await Promise.all(ends.map((end) => end()));
  await pages.stop();
}

/** A story of two people, light; and on a phone in the dark, in the middle of an answer. */
async function thePage(t) {
  const { stack, mira, joe } = pages;
  await stack.create(mira, 'lamp');
  const wide = await pages.enter(t, mira, 'lamp', { colorScheme: 'light', viewport: { width: 900, height: 720 } });
  await open(wide);
  const small = { colorScheme: 'dark', viewport: { width: 360, height: 640 }, deviceScaleFactor: 2 };
  const phone = await pages.enter(t, joe, 'lamp', small);
  await open(phone);
  for (const [page, words] of [[wide, 'I light the lamp and lift it over the water.'], [phone, 'I follow the prints to the arch.']]) {
    await write(page, words);
    await pages.quiet('lamp', wide);
  }
  await write(wide, 'Who else came this way?', 'say');
  await draft(phone, 40);
  await phone.screenshot({ path: path.join(IMAGES, 'page-phone.png') });
  await pages.quiet('lamp', wide);
  await pages.agrees(wide, 'lamp');
  await wide.screenshot({ path: path.join(IMAGES, 'page.png') });
}

/** What top shows of a fleet with more to do than places, in a terminal of its own. */
async function top() {
  const data = mkdtempSync(path.join(tmpdir(), 'storyfleet-top-'));
  const up = spawn(STORYFLEET, ['up', '--data', data, '--workers', '4', '--listen', '127.0.0.1:0'], { stdio: ['ignore', 'ignore', 'inherit'] });
  const gone = once(up, 'exit');
  try {
    const scraped = await eventually('the fleet is up', () => JSON.parse(readFileSync(path.join(data, 'prometheus.json'))));
    const urls = scraped.flatMap(({ targets }) => targets.map((target) => `http://${target}`));
    const stories = ['harbour', 'lamp', 'mirror', 'orchard', 'tower', 'well'];
    for (const story of stories) tell(data, ['story', 'create', story, '--character', 'Sibyl=The keeper of the lamp.']);
    for (const words of ['I open the door.', 'I look behind me.', 'I go down to the water.', 'I wait.']) {
      for (const story of stories) tell(data, ['send', story, words]);
    }
    await draw(await screen(['top', '--data', data, '--every', '500ms', '--metrics', ...urls]));
  } finally {
    up.kill('SIGTERM');
    await gone;
    rmSync(data, { recursive: true, force: true });
  }
}

function tell(data, words) {
  const { status, stderr } = spawnSync(STORYFLEET, ['--data', data, ...words], { encoding: 'utf8' });
  if (status) throw new Error(`storyfleet ${words.join(' ')}: ${stderr}`);
}

/** What a program writes to a terminal in four seconds. */
async function screen(words) {
  const quoted = [STORYFLEET, ...words].map((word) => `'${word}'`).join(' ');
  const command = `stty rows ${ROWS} cols ${COLUMNS}; exec ${quoted}`;
  const terminal = spawn('script', ['-qefc', command, '/dev/null'], { env: { ...process.env, TERM: 'xterm-256color', SHELL: '/bin/sh' } });
  const pieces = [];
  terminal.stdout.on('data', (piece) => pieces.push(piece));
  const gone = once(terminal, 'exit');
  await new Promise((then) => setTimeout(then, 4_000));
  // What it writes when it ends clears the screen.
  const written = Buffer.concat(pieces);
  terminal.kill('SIGTERM');
  await gone;
  return written;
}

async function draw(written) {
  const page = await pages.browser.newPage({ deviceScaleFactor: 2 });
  await page.setContent('<div id="terminal" style="display: inline-block"></div>');
  await page.addStyleTag({ path: path.join(XTERM, 'css/xterm.css') });
  await page.addScriptTag({ path: path.join(XTERM, 'lib/xterm.js') });
  await page.evaluate(([bytes, cols, rows]) => new Promise((then) => {
    const terminal = new window.Terminal({ cols, rows, fontSize: 13, scrollback: 0, cursorStyle: 'bar', theme: { background: '#14161a' } });
    terminal.open(document.getElementById('terminal'));
    terminal.write(Uint8Array.from(bytes), () => requestAnimationFrame(() => requestAnimationFrame(then)));
  }), [[...written], COLUMNS, ROWS]);
  await page.locator('.xterm-screen').screenshot({ path: path.join(IMAGES, 'top.png') });
}
