// Who is here and who types: over both transports of our client, and on the page of two browsers.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import WebSocket from 'ws';

import { connect } from '../client.js';
import { words } from '../typists.js';
import { Pages, TIME, fits, open, shot } from './page.js';
import { eventually } from './stack.js';

const EVIL = '<img src=x onerror="window.hacked=1">';

const pages = await Pages.start();
after(() => pages.stop());
const { stack, mira } = pages;
const joe = await stack.token('joe', { name: EVIL });

/** A reader who keeps what they are told of others. */
function reader(t, token, story, transport) {
  const told = { typing: [], here: [], cursors: new Set() };
  const gateway = connect({ url: stack.url, transport, WebSocket, getToken: async () => token, onState: ({ state }) => (told.state = state) });
  t.after(() => gateway.close());
  told.gateway = gateway;
  told.story = gateway.join(story, {
    onPresence: ({ people, count }) => {
      told.here = people.map(({ sub }) => sub);
      told.count = count;
      told.names = people.map(({ name }) => name);
    },
    onTyping: ({ sub, name }) => told.typing.push([sub, name]),
  });
  return told;
}

for (const transport of ['ws', 'sse']) {
  test(`our client tells over ${transport} who is here and who types`, TIME, async (t) => {
    const story = `company-${transport}`;
    await stack.create(mira, story);
    const one = reader(t, mira, story, transport);
    const two = reader(t, joe, story, transport);
    for (const told of [one, two]) {
      await eventually('both are here', () => told.here.join() === 'joe,mira');
      assert.deepEqual([told.count, told.names], [2, [EVIL, 'Mira']]);
    }
    const cursor = one.story.cursor;
    // As a person writes: much more often than it is sent.
    const writing = setInterval(() => two.story.typing(), 50);
    t.after(() => clearInterval(writing));
    await eventually('it is heard twice', () => one.typing.length >= 2);
    const since = Date.now();
    await eventually('and again', () => one.typing.length >= 3);
    assert.ok(Date.now() - since > 1_000, 'not with every letter');
    assert.deepEqual(one.typing[0], ['joe', EVIL]);
    assert.deepEqual(two.typing, [], 'nobody hears of themselves');
    assert.equal(one.story.cursor, cursor);
    clearInterval(writing);
    two.gateway.close();
    await eventually('one is left', () => one.here.join() === 'mira');
  });
}

test('who may only read types for nobody, and goes on reading', TIME, async (t) => {
  await stack.create(mira, 'silent');
  const silent = await stack.token('ron', { role: 'reader' });
  for (const transport of ['ws', 'sse']) {
    const one = reader(t, mira, 'silent', 'ws');
    const two = reader(t, silent, 'silent', transport);
    await eventually('both are here', () => one.here.join() === 'mira,ron');
    two.story.typing();
    await one.story.publish({ mode: 'do', text: `I wait for ${transport}.` });
    await eventually('it goes on', () => two.story.cursor === one.story.cursor && two.story.cursor);
    assert.deepEqual([one.typing, two.state], [[], 'open']);
    one.gateway.close();
    two.gateway.close();
  }
});

test('names of those who type are few words', () => {
  assert.deepEqual([[], ['A'], ['A', 'B'], ['A', 'B', 'C']].map(words), ['', 'A is writing …', 'A and B are writing …', '3 people are writing …']);
});

async function visit(t, token, viewport) {
  const page = await pages.enter(t, token, 'hall', viewport && { viewport });
  await open(page);
  return page;
}

const people = (page, count) => page.waitForFunction((wanted) => document.querySelectorAll('#people li').length === wanted && !document.getElementById('people').hidden, count);
const typing = (page, text) => page.waitForFunction((wanted) => document.getElementById('typing').textContent === wanted, text);

test('two browsers see each other come, type and go', TIME, async (t) => {
  await stack.create(mira, 'hall');
  const one = await visit(t, mira, { width: 360, height: 640 });
  await people(one, 1);
  const two = await visit(t, joe);
  await Promise.all([people(one, 2), people(two, 2)]);
  assert.deepEqual(await one.$$eval('#people .badge', (badges) => badges.map((badge) => badge.title)), [EVIL, 'Mira']);
  await two.locator('#text').pressSequentially('I light');
  await typing(one, `${EVIL} is writing …`);
  await shot(one, 'typing-phone');
  assert.ok(await fits(one), 'it fits');
  assert.equal(await two.textContent('#typing'), '', 'nobody is told of themselves');
  // Who stops is soon forgotten, and who sends at once.
  await typing(one, '');
  await two.locator('#text').pressSequentially(' the lamp');
  await typing(one, `${EVIL} is writing …`);
  await two.press('#text', 'Enter');
  await one.waitForSelector('#log .theirs');
  assert.equal(await one.textContent('#typing'), '');
  await two.click('#leave');
  await people(one, 1);
  assert.equal(await one.evaluate(() => window.hacked), undefined);
  assert.deepEqual([...one.faults, ...two.faults], []);
});
