// The page where something breaks off in the middle of an answer.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, draft, open, shot, write } from './page.js';
import { eventually } from './stack.js';

// An answer so long that it can be cut three times, however slow the machine.
const scenario = `rules:
  - when: {agent: narrator, regex: (?i)tell it slowly}
    reply: {text: '${'The lamp burns low and somebody breathes. '.repeat(90)}'}
`;
const pages = await Pages.start({ scenario });
const { stack, mira } = pages;
after(() => pages.stop());

test('a reload in the middle of an answer goes on in it', TIME, async (t) => {
  await stack.create(mira, 'reload');
  const page = await pages.enter(t, mira, 'reload');
  await open(page);
  await write(page, 'I tell it slowly.');
  for (let time = 1; time <= 3; time += 1) {
    await draft(page, 15 * time);
    await page.reload();
    await open(page);
  }
  await draft(page, 50);
  await pages.quiet('reload', page);
  await pages.agrees(page, 'reload');
  assert.deepEqual(page.faults, []);
});

test('words that are not sent outlive a gap, and leave with their story', TIME, async (t) => {
  const page = await pages.visit(t);
  const seen = await page.evaluate(async () => {
    const { Scene } = await import('/scene.js');
    const scene = new Scene({ onChoose: () => {} });
    const outbox = () => document.querySelector('#outbox .text')?.textContent;
    scene.pending({ who: 'Mira', text: 'I wait.' }).say('failed', 'Not sent');
    scene.clear();
    const after = outbox();
    scene.begin();
    return [after, outbox()];
  });
  assert.deepEqual(seen, ['I wait.', undefined]);
  assert.deepEqual(page.faults, []);
});

test('where the browser keeps nothing, whoever is put out while the network is away finds all that was not sent when they are back, in its order', TIME, async (t) => {
  await stack.create(mira, 'kept');
  const forbids = () => Object.defineProperty(globalThis, 'sessionStorage', { get: () => { throw new DOMException('denied', 'SecurityError'); } });
  const page = await pages.prepared(t, await stack.token('ann'), 'kept', (it) => it.addInitScript(forbids));
  stack.wire.cut();
  await page.waitForFunction(() => document.getElementById('news').textContent.includes('lost'));
  for (const words of ['one', 'two', 'three']) await write(page, words);
  await page.fill('#text', 'and');
  await stack.revoke('ann');
  stack.wire.mend();
  await page.waitForSelector('#door:not([hidden])');
  assert.equal(await page.inputValue('#text'), '');
  const isHeld = () => !dispatchEvent(new Event('beforeunload', { cancelable: true }));
  assert.equal(await page.evaluate(isHeld), true);
  const ann = await eventually('she is let in again', async () => {
    const token = await stack.token('ann');
    const answer = await fetch(`${stack.behind}/v1/stories/kept`, { headers: { authorization: `Bearer ${token}` } });
    return answer.ok && token;
  });
  await page.fill('#token', ann);
  await page.press('#token', 'Enter');
  await open(page);
  assert.equal(await page.inputValue('#text'), 'one\ntwo\nthree\nand');
  await page.press('#text', 'Enter');
  await eventually('the words arrive', async () => (await stack.log(mira, 'kept')).some((event) => event.text === 'one\ntwo\nthree\nand'));
  assert.deepEqual(page.faults, []);
});

test('who tries again by hand keeps the place, and is told once that the connection is lost', TIME, async (t) => {
  await stack.create(mira, 'again');
  const page = await pages.enter(t, mira, 'again');
  await open(page);
  stack.wire.cut();
  await page.waitForSelector('#again:not([hidden])');
  await page.evaluate(() => {
    globalThis.links = [];
    globalThis.words = 0;
    new MutationObserver(() => links.push(document.body.dataset.link)).observe(document.body, { attributes: true, attributeFilter: ['data-link'] });
    new MutationObserver(() => (words += 1)).observe(document.getElementById('banner'), { childList: true, characterData: true, subtree: true });
    document.getElementById('again').focus();
  });
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => links.indexOf('waiting', links.indexOf('connecting')) > 0);
  assert.deepEqual(await page.evaluate(() => [document.activeElement.id, words]), ['again', 0]);
  stack.wire.mend();
  await open(page);
  await page.waitForFunction(() => document.activeElement.id === 'text');
  assert.deepEqual(page.faults, []);
});

for (const [name, cut, mend] of [
  ['the network is cut', () => stack.wire.cut(), () => stack.wire.mend()],
  ['the gateway dies', () => stack.endGateway('SIGKILL'), () => stack.startGateway()],
]) {
  test(`${name} in the middle of an answer and comes back: nothing is lost or doubled`, TIME, async (t) => {
    const story = name.replaceAll(' ', '-');
    await stack.create(mira, story);
    const page = await pages.enter(t, mira, story);
    await open(page);
    await write(page, 'I light the lamp.');
    await draft(page);
    await cut();
    await page.waitForFunction(() => document.getElementById('news').textContent.includes('lost'));
    await write(page, 'I wait in the dark.');
    await page.waitForSelector('#outbox .pending');
    if (name.startsWith('the network')) await shot(page, 'offline');
    await mend();
    await open(page);
    await page.waitForFunction(() => document.getElementById('news').textContent === '');
    await eventually('the words arrive', async () => (await stack.log(mira, story)).some((event) => event.text === 'I wait in the dark.'));
    await pages.quiet(story, page);
    await pages.agrees(page, story);
    assert.equal((await stack.log(mira, story)).filter((event) => event.type === 'action').length, 2);
    assert.equal(await page.locator('#outbox li').count(), 0);
    assert.deepEqual(page.faults, []);
  });
}
