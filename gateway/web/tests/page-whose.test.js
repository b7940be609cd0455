// Whose words are sent: never somebody's as another's, and each once when its author is back.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';

import { Pages, TIME, isEmpty, open, remembered, said as saidIn, write } from './page.js';
import { eventually } from './stack.js';

const pages = await Pages.start();
const { stack, mira, joe } = pages;
after(() => pages.stop());

const said = (story) => saidIn(pages, story);
const texts = async (page) => (await remembered(page)).map((one) => one.said.text);
const hasTold = (page, words) => page.waitForFunction((part) => document.getElementById('door-problem').textContent.includes(part), words);
const KEPT = 'Your words that were not sent are kept in this tab until you are back.';

/** What is written gets nowhere, and nobody is told. */
async function unsent(page, words) {
  stack.wire.hold();
  await write(page, words);
  await page.waitForSelector('#outbox li');
}

/** Another page in the same tab. */
async function go(page, hash) {
  await page.goto('about:blank');
  stack.wire.mend();
  await page.goto(`${stack.url}/${hash}`);
}

/** Of a gateway that signs no tokens. */
const signsNone = (page) => page.route('**/v1/tokens*', (route) => route.fulfill({ status: 409, json: { code: 'not_issued_here', detail: 'this gateway signs no tokens' } }));

async function byTicket(token, story) {
  const { ticket } = await stack.api(token, '/v1/tickets', { method: 'POST', url: stack.behind });
  return `#ticket=${ticket}&story=${story}`;
}

test('nobody else who uses the tab sends them', TIME, async (t) => {
  await stack.create(mira, 'whose');
  const page = await pages.enter(t, mira, 'whose');
  await open(page);
  stack.wire.cut();
  await page.waitForFunction(() => document.getElementById('news').textContent.includes('lost'));
  await write(page, 'I am Mira.');
  await page.evaluate((token) => sessionStorage.setItem('storyfleet.token', token), joe);
  const sent = [];
  page.on('websocket', (socket) => socket.on('framesent', ({ payload }) => sent.push(JSON.parse(payload).t)));
  await page.goto('about:blank');
  stack.wire.mend();
  await page.goto(`${stack.url}/#story=whose`);
  await open(page);
  await write(page, 'I am Joe.');
  await eventually('Joe is heard', async () => (await said('whose')).includes('I am Joe.'));
  assert.deepEqual(await said('whose'), ['I am Joe.']);
  assert.deepEqual(await texts(page), ['I am Mira.']);
  assert.equal(sent.filter((kind) => kind === 'publish').length, 1);
});

test('whoever comes by a ticket is nobody who was here before', TIME, async (t) => {
  await stack.create(mira, 'ticket');
  const page = await pages.enter(t, mira, 'ticket');
  await signsNone(page);
  await open(page);
  await unsent(page, 'I am Mira.');
  const place = await byTicket(joe, 'ticket');
  await go(page, place);
  await open(page);
  await write(page, 'I am Joe.');
  await eventually('Joe is heard', async () => (await said('ticket')).includes('I am Joe.'));
  await isEmpty(page);
  assert.deepEqual(await said('ticket'), ['I am Joe.']);
  assert.deepEqual(await texts(page), ['I am Mira.']);
  stack.wire.snap();
  await page.waitForSelector('#token:visible');
  await page.evaluate((token) => sessionStorage.setItem('storyfleet.token', token), mira);
  await page.unroute('**/v1/tokens*');
  await go(page, place);
  await hasTold(page, 'ticket');
  assert.ok(await page.isVisible('#token'));
});

test('who comes by tickets alone finds what was not sent with the next one', TIME, async (t) => {
  await stack.create(mira, 'tickets');
  const page = await pages.visit(t);
  await signsNone(page);
  await go(page, await byTicket(joe, 'tickets'));
  await open(page);
  await unsent(page, 'I wait.');
  await go(page, await byTicket(joe, 'tickets'));
  await open(page);
  await eventually('the words arrive', async () => (await said('tickets')).length === 1);
  await isEmpty(page);
  const [{ author }] = (await stack.log(mira, 'tickets')).filter((event) => event.type === 'action');
  assert.equal(author.id, 'joe');
  assert.deepEqual(await texts(page), []);
});

test('nothing is sent before the gateway says whose it is, or after it says that this is somebody else', TIME, async (t) => {
  await stack.create(mira, 'else');
  let as;
  const sent = [];
  const pass = (message, give) => (message.t === 'welcome' && as ? give({ ...message, sub: as, name: as }) : give(message));
  const say = (message, give) => {
    if (message.t !== 'publish') return give(message);
    sent.push(message.event.text);
    return as === undefined && sent.length > 1 && give(message);
  };
  const page = await pages.between(t, mira, 'else', pass, say);
  await write(page, 'I am Mira.');
  await eventually('it is sent', () => sent.length === 1);
  as = 'joe';
  stack.wire.snap();
  await hasTold(page, `You are somebody else now. Open the story again to go on. ${KEPT}`);
  await page.reload();
  await open(page);
  await write(page, 'I am Joe.');
  await eventually('the next is sent', () => sent.length === 2);
  assert.deepEqual(sent, ['I am Mira.', 'I am Joe.']);
  as = undefined;
  await page.reload();
  await open(page);
  await eventually('the words arrive', async () => (await said('else')).length === 1);
  await isEmpty(page);
  assert.deepEqual(await said('else'), ['I am Mira.']);
  assert.deepEqual(await texts(page), ['I am Joe.']);
});

test('what was written before the gateway says whose it is goes after what was kept', TIME, async (t) => {
  await stack.create(mira, 'early');
  const late = [];
  let isLate = false;
  const pass = (message, give) => (isLate && message.t === 'welcome' ? late.push(() => give(message)) : give(message));
  const page = await pages.between(t, mira, 'early', pass);
  await unsent(page, 'I wait.');
  isLate = true;
  await go(page, '#story=early');
  await eventually('it is welcome', () => late.length > 0);
  await write(page, 'I wait on.');
  late.pop()();
  await eventually('the words arrive', async () => (await said('early')).length === 2);
  await isEmpty(page);
  assert.deepEqual(await said('early'), ['I wait.', 'I wait on.']);
  assert.deepEqual(await texts(page), []);
});

test('words whose story is not to be had are kept until it is', TIME, async (t) => {
  await stack.create(mira, 'barred');
  const page = await pages.enter(t, mira, 'barred');
  await open(page);
  await unsent(page, 'I wait.');
  const elsewhere = await stack.token('mira', { story: 'elsewhere' });
  await page.evaluate((token) => sessionStorage.setItem('storyfleet.token', token), elsewhere);
  await go(page, '#story=barred');
  await hasTold(page, KEPT);
  assert.match(await page.textContent('#door-problem'), /does not let you read barred/);
  await page.evaluate((token) => sessionStorage.setItem('storyfleet.token', token), mira);
  await go(page, '#story=barred');
  await eventually('the words arrive', async () => (await said('barred')).length === 1);
  await isEmpty(page);
  assert.deepEqual(await said('barred'), ['I wait.']);
  assert.deepEqual(await texts(page), []);
});

test('words that wait when their story is gone are sent once when it is there again', TIME, async (t) => {
  await stack.create(mira, 'gone');
  let isGone = false;
  const say = (message, give, answer) => {
    if (!isGone || message.t !== 'join') return give(message);
    return answer({ t: 'err', ref: message.ref, code: 'no_story', message: 'there is no story gone' });
  };
  const page = await pages.between(t, mira, 'gone', (message, give) => give(message), say);
  await unsent(page, 'I wait.');
  isGone = true;
  stack.wire.mend();
  await hasTold(page, `there is no story gone. ${KEPT}`);
  isGone = false;
  await page.click('#enter > button');
  await eventually('the words arrive', async () => (await said('gone')).length === 1);
  await isEmpty(page);
  assert.deepEqual(await said('gone'), ['I wait.']);
  assert.deepEqual(page.faults, []);
});

test('who signs in again finds what was not answered sent once, a choice too', TIME, async (t) => {
  await stack.create(mira, 'again');
  await stack.say(mira, 'again', 'I look around.');
  const page = await pages.visit(t);
  let isDeaf = false;
  let isOut = false;
  const sockets = new Set();
  await page.routeWebSocket(/\/v1\/ws/, (near) => {
    if (isOut) return near.close({ code: 4401, reason: 'the token is over' });
    sockets.add(near);
    const far = near.connectToServer();
    far.onMessage((text) => {
      const { status, event } = JSON.parse(text);
      return (isDeaf && (status || event)) || near.send(text);
    });
    return undefined;
  });
  await go(page, `#token=${mira}&story=again`);
  const choice = page.locator('.choices:not([hidden]) button').first();
  await choice.waitFor();
  isDeaf = true;
  await choice.click();
  await write(page, 'I knock.');
  await eventually('both are kept', async () => (await texts(page)).length === 2);
  await page.fill('#text', 'and');
  isOut = true;
  for (const socket of sockets) socket.close({ code: 4401, reason: 'the token is over' });
  await hasTold(page, KEPT);
  assert.equal(await page.inputValue('#text'), '');
  isDeaf = isOut = false;
  await page.fill('#token', mira);
  await page.press('#token', 'Enter');
  await open(page);
  await isEmpty(page);
  const modes = async () => (await stack.log(mira, 'again')).filter((event) => event.type === 'action').map((event) => event.mode);
  await eventually('all is there', async () => (await modes()).length === 3);
  assert.deepEqual(await modes(), ['do', 'choose', 'do']);
  assert.equal(await page.inputValue('#text'), 'and');
});

test('what is half written is nobody else\'s to send', TIME, async (t) => {
  await stack.create(mira, 'half');
  const page = await pages.enter(t, await stack.token('eve'), 'half');
  await open(page);
  await page.fill('#text', 'I am Eve.');
  await stack.revoke('eve');
  await page.waitForSelector('#door:not([hidden])');
  await page.fill('#token', joe);
  await page.press('#token', 'Enter');
  await open(page);
  await page.press('#text', 'Enter');
  await write(page, 'I am Joe.');
  await eventually('Joe is heard', async () => (await said('half')).includes('I am Joe.'));
  assert.deepEqual(await said('half'), ['I am Joe.']);
});

test('what is half written before the gateway has said whose it is, is theirs whose token it was', TIME, async (t) => {
  await stack.create(mira, 'claimed');
  let isDeaf = false;
  const pass = (message, give) => (isDeaf && message.t === 'welcome') || give(message);
  const page = await pages.between(t, await stack.token('ivy'), 'claimed', pass);
  await open(page);
  isDeaf = true;
  await page.reload();
  await page.fill('#text', 'I am Ivy.');
  await stack.revoke('ivy');
  await page.waitForSelector('#door:not([hidden])');
  isDeaf = false;
  await page.fill('#token', joe);
  await page.press('#token', 'Enter');
  await open(page);
  assert.equal(await page.inputValue('#text'), '');
});

test('who leaves is told that what was not sent is kept', TIME, async (t) => {
  await stack.create(mira, 'left');
  const page = await pages.enter(t, mira, 'left');
  await open(page);
  await unsent(page, 'I knock.');
  await page.click('#leave');
  await hasTold(page, KEPT);
  stack.wire.mend();
  await page.press('#story', 'Enter');
  await open(page);
  await eventually('it is sent', async () => (await said('left')).length === 1);
  await isEmpty(page);
});
