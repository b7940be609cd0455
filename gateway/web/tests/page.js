// The page in a real browser against real processes, and what people do there. Screenshots are kept in target/page.
import assert from 'node:assert/strict';
import { accessSync, constants, mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { Stack, eventually } from './stack.js';

export const TIME = { timeout: 90_000 };

const SHOTS = fileURLToPath(new URL('../../../target/page', import.meta.url));
const OPTIONS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** Where the browser is, by the names that scripts/need-browser looks for. */
function executable() {
  const names = process.env.CHROMIUM ? [process.env.CHROMIUM] : ['chromium', 'chromium-browser', 'google-chrome'];
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  const places = names.flatMap((name) => (name.includes('/') ? [name] : folders.map((folder) => path.join(folder, name))));
  const found = places.find((place) => {
    try {
      accessSync(place, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (!found) throw new Error(`no ${names.join(', ')} here: scripts/need-browser installs one`);
  return found;
}

/** A stack and a browser, with two people who may do everything. */
export class Pages {
  static async start(options) {
    const pages = new Pages();
    try {
      mkdirSync(SHOTS, { recursive: true });
      pages.stack = await Stack.start(options);
      pages.mira = await pages.stack.token('mira', { name: 'Mira' });
      pages.joe = await pages.stack.token('joe', { name: 'Joe' });
      pages.browser = await chromium.launch({ executablePath: executable(), args: OPTIONS });
    } catch (error) {
      await pages.stop();
      throw error;
    }
    return pages;
  }

  async stop() {
    await this.browser?.close();
    await this.stack?.stop();
  }

  /** A page of somebody; what goes wrong in it is in its `faults`. */
  async visit(t, place = '', options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1000, height: 800 }, ...options });
    t.after(() => context.close());
    const page = await context.newPage();
    page.faults = [];
    page.on('pageerror', (error) => page.faults.push(String(error)));
    page.on('console', (message) => {
      // A refused connection is the browser's own word for an outage.
      if (message.type() === 'error' && !/ERR_|WebSocket connection/.test(message.text())) page.faults.push(message.text());
    });
    await page.goto(`${this.stack.url}/${place}`);
    return page;
  }

  enter(t, token, story, options) {
    return this.visit(t, `#token=${token}&story=${story}`, options);
  }

  /** A page of somebody in a story, which was prepared before. */
  async prepared(t, token, story, prepare) {
    const page = await this.visit(t);
    await prepare(page);
    await page.evaluate(([hash]) => {
      location.hash = hash;
      location.reload();
    }, [`#token=${token}&story=${story}`]);
    await open(page);
    return page;
  }

  /** A page whose messages from the gateway go through `pass(message, give)`, and its own through `say(message, give, answer)`. */
  between(t, token, story, pass, say = (message, give) => give(message)) {
    const join = (near) => {
      const far = near.connectToServer();
      const [up, down] = [far, near].map((side) => (message) => side.send(JSON.stringify(message)));
      near.onMessage((text) => say(JSON.parse(text), up, down));
      far.onMessage((text) => pass(JSON.parse(text), down));
    };
    return this.prepared(t, token, story, (page) => page.routeWebSocket(/\/v1\/ws/, join));
  }

  /** Waits until the page shows exactly what the log has. */
  async agrees(page, story) {
    await eventually('the page shows the log', async () => {
      const log = await this.stack.log(this.mira, story);
      const told = log.filter((event) => ['action', 'narration', 'dialogue'].includes(event.type) && event.mode !== 'choose');
      const here = await shown(page);
      for (const { id, text } of told) assert.equal(here[id], text);
      return told.length > 0;
    });
  }

  /** Waits until what was written in these pages is in the log, every action is answered and nothing is being written. */
  async quiet(story, ...writers) {
    await Promise.all(writers.map((page) => page.waitForFunction(() => !document.querySelector('#outbox li'))));
    await eventually('all is answered', async () => {
      const log = await this.stack.log(this.mira, story);
      const answered = new Set(log.flatMap((event) => event.cause ?? []));
      const waits = log.some((event) => event.type === 'action' && !answered.has(event.id));
      const speak = log.flatMap((event) => (event.speak ?? []).map(() => event.id));
      return !waits && log.filter((event) => event.type === 'dialogue').length >= speak.length;
    });
  }
}

/** What a page shows of events: id → text. */
const shown = (page) => page.$$eval('#log [data-id]', (items) => Object.fromEntries(items.map((item) => [item.dataset.id, item.querySelector('.text')?.textContent])));

export const open = (page) => page.waitForSelector('body[data-link="open"]');

export const said = async ({ stack, mira }, story) => (await stack.log(mira, story)).filter((event) => event.type === 'action').map((event) => event.text);

/** Waits until nothing of what was written waits any more. */
export const isEmpty = (page) => page.waitForFunction(() => !document.querySelector('#outbox li'));

/** What the tab keeps of what was written. */
export const remembered = (page) => page.evaluate(() => JSON.parse(sessionStorage.getItem('storyfleet.unsent') ?? '[]'));

export async function write(page, text, mode = 'do') {
  await page.check(`input[name=mode][value=${mode}]`);
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

/** Waits for so much of an answer. */
export const draft = (page, length = 20) => page.waitForFunction((least) => (document.querySelector('.draft .text')?.textContent.length ?? 0) >= least, length);

export const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth && document.getElementById('scroll').scrollWidth <= document.getElementById('scroll').clientWidth);

export const shot = (page, name) => page.screenshot({ path: path.join(SHOTS, `${name}.png`) });
