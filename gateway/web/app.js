// The page: the door, the room, and the client between them.

import { connect } from './client.js';
import { Door, arrive, ask, keys, redeem, show } from './door.js';
import { Kept } from './kept.js';
import { Scene } from './scene.js';
import { claims, eventId, newId } from './transport.js';
import { Typists } from './typists.js';

const at = (id) => document.getElementById(id);
/** Events of one look back. */
const PAGE = 100;
/** Characters that are sent at once. */
const LONGEST = 8000;
const HINTS = { do: 'What do you do?', say: 'What do you say?', story: 'What happens?' };

const scene = new Scene({ onChoose: ({ id, label, again }) => publish({ mode: 'choose', choice: id }, { label, again }) });
const typists = new Typists(at('typing'));
const door = new Door(open);
const kept = new Kept(() => sessionStorage);
/** What is half written, by whose it is, until they are back. */
const drafts = new Map();
let room;
let me = {};

start();

async function start() {
  const { token, ticket, story } = arrive();
  // Whoever comes by a link may be somebody else than who was here before.
  if (token || ticket) keys.token = ticket ? undefined : token;
  let problem;
  let left;
  if (ticket) {
    try {
      const redeemed = await redeem(ticket);
      if (redeemed.token) keys.token = redeemed.token;
      left = redeemed.ticket;
    } catch (error) {
      problem = error.message;
    }
  }
  const isKnown = keys.token !== undefined || left !== undefined;
  if (story && isKnown && !problem) enter(story, left);
  else door.open({ story, problem, asks: !isKnown });
}

async function open({ token, story, made }) {
  if (token) keys.token = token;
  try {
    if (made) await ask('/v1/stories', { method: 'POST', body: { id: story, ...made }, token: keys.token });
    else await ask(`/v1/stories/${encodeURIComponent(story)}`, { token: keys.token });
    door.close();
    enter(story);
  } catch (problem) {
    if (problem.status === 401) keys.token = undefined;
    door.open({ story, problem: problem.message, asks: keys.token === undefined });
  }
}

function enter(id, ticket) {
  show(id);
  // Until the gateway says it.
  const { name = 'You' } = claims(keys.token);
  me = { name };
  scene.begin();
  scene.people([]);
  at('room').hidden = false;
  at('title').textContent = id;
  at('premise').hidden = true;
  document.title = `${id} · Storyfleet`;
  // One's own words that were sent, by their id, and what ended actions whose id is not known yet.
  const here = { id, claimed: claims(keys.token).sub, sent: new Map(), ends: new Map(), isWelcome: false };
  here.welcome = new Promise((then) => (here.welcomed = then));
  here.gateway = connect({
    ticket,
    // Only a person has a new one: until then the old one is all there is.
    getToken: async () => keys.token,
    onState: stateOf,
  });
  here.story = here.gateway.join(id, {
    onText: (re, text, { done }) => scene.text(re, text, done),
    onEvent: (event, { seq }) => {
      scene.event(event, seq);
      settle(here, event);
      if (event.type === 'action') typists.done(event.author.id);
    },
    onLive: ({ end }) => reach(end),
    onRemoved: (removed, how) => scene.removed(removed, how),
    onGap: () => scene.clear(),
    onError: (error) => leave(error.message),
    onDelay: (error) => banner(error && `The story cannot be read yet: ${error.message}. It is tried again by itself.`),
    onPresence: ({ people, count }) => scene.people(people, count),
    onTyping: (typist) => typists.heard(typist),
  });
  room = here;
  describe(id);
  grow();
  at('text').focus();
}

/** What is known of the story beside its events. Without a token there is nothing to ask with: its name must do. */
async function describe(id) {
  if (!keys.token) return;
  try {
    const { title, premise, characters } = await ask(`/v1/stories/${encodeURIComponent(id)}`, { token: keys.token });
    if (room?.id !== id) return;
    at('title').textContent = title || id;
    document.title = `${title || id} · Storyfleet`;
    at('premise').textContent = premise;
    at('premise').hidden = !premise;
    addressees(Object.keys(characters));
  } catch (problem) {
    // The connection tells the same in its own way, and tries again.
    console.warn('the story cannot be described', problem.message);
  }
}

/** Where nothing of the story's last events, up to this place, is for this person, something of what happened earlier may be. */
function reach(end) {
  if (end !== undefined && scene.first === Infinity && keys.token) scene.earlier([], end + 1);
}

function addressees(names) {
  const one = (name, label) => new Option(label, name);
  at('to').replaceChildren(one('', 'to all'), ...names.map((name) => one(name, `to ${name}`)));
  modeChanged();
}

function stateOf({ state, reason, after_ms, name, sub }) {
  const isOpen = state === 'open';
  document.body.dataset.link = state;
  if (isOpen) {
    if (room.isWelcome && room.sub !== sub) return leave('You are somebody else now. Open the story again to go on.');
    scene.me = sub;
    me = { name: name ?? sub ?? me.name };
    banner();
    welcome(sub);
  } else if (state === 'waiting') {
    // A blink is not worth a word.
    banner(after_ms > 400 ? 'The connection is lost. What you write is kept and sent when it is back.' : undefined, after_ms > 1_500);
  } else if (state === 'signed-out') {
    keys.token = undefined;
    leave(reason ? `Sign in again: ${reason}` : 'Sign in to go on.');
  } else if (state === 'refused') {
    banner(reason);
  }
}

/** Only now it is known whose words are sent. Those of before are the first. */
function welcome(sub) {
  const here = room;
  if (here.isWelcome) return;
  Object.assign(here, { sub, isWelcome: true });
  compose(drafts.get(sub));
  drafts.delete(sub);
  for (const one of kept.of(here.id, sub)) publish(one.said, one);
  here.welcomed();
}

function banner(words = '', canTry = false) {
  // What is said again is not spoken again.
  if (at('news').textContent !== words) at('news').textContent = words;
  const again = at('again');
  if (!canTry && document.activeElement === again) at('text').focus();
  again.hidden = !canTry;
}

function leave(problem) {
  const { id, claimed, sub = claimed } = room;
  room.gateway.close();
  room = undefined;
  // What cannot be kept is there again before what is half written. What can be chosen is offered again by the story.
  const left = kept.leave().map(({ said }) => said.text);
  compose(...left);
  if (sub !== undefined) {
    if (at('text').value) drafts.set(sub, at('text').value);
    at('text').value = '';
  }
  typists.clear();
  at('room').hidden = true;
  banner();
  document.title = 'Storyfleet';
  if (!problem) show();
  if (left.length > 0 || kept.of(id, sub).length > 0) {
    const waits = 'Your words that were not sent are kept in this tab until you are back.';
    problem = problem ? `${problem.replace(/\.?$/, '.')} ${waits}` : waits;
  }
  door.open({ story: id, problem, asks: keys.token === undefined });
}

/**
 * `label`: what is shown of it; `again`: what is done where it is dropped; `id`: what it was sent under before; `why`: it
 * was not sent, and waits to be told what becomes of it.
 */
function publish(said, { label, again, id, why: unsent } = {}) {
  const here = room;
  const isOld = id !== undefined;
  const first = id ?? newId();
  const card = scene.pending({ who: me.name, text: label ?? said.text });
  const keep = (id, why) => kept.add({ id, sub: here.sub, story: here.id, said, label, why });
  const discard = (id) => {
    kept.remove(id);
    card.remove();
    again?.();
  };
  const failed = (why, id) => {
    keep(id, why);
    card.say('failed', `Not sent: ${why}`, { 'Send again': () => send(id), Discard: () => discard(id) });
  };
  const late = ({ message }) => card.say('late', `Not sent yet: ${message}. It is tried again by itself.`);
  /** What was sent under this id before counts once with it, whether it is known to have arrived or not. */
  const send = async (chosen) => {
    let isSettled = false;
    const settles = (how) => (...words) => {
      isSettled = true;
      kept.remove(chosen);
      how(...words);
    };
    const own = {
      remove: settles(card.remove),
      blocked: settles((why) => card.say('blocked', why, { Discard: () => discard(chosen) })),
      // That id is used up.
      failed: settles((why) => failed(why, newId())),
    };
    /** The story may tell what becomes of it before the answer does, or in its place. */
    const expect = (id) => {
      if (isSettled || id === undefined || room !== here) return;
      const end = here.ends.get(id);
      if (scene.has(id)) own.remove();
      else if (end) end(own);
      else here.sent.set(id, own);
    };
    keep(chosen);
    card.say('', 'Sending …');
    if (!here.isWelcome) {
      await here.welcome;
      keep(chosen);
    }
    const answer = here.story.publish({ id: chosen, ...said }, { onDelay: (error) => isSettled || late(error) });
    eventId(here.sub, chosen).then(expect);
    try {
      const { id, status } = await answer;
      kept.remove(chosen);
      expect(id);
      if (isSettled) return;
      // What was sent before a reload may be older than what is shown. If the moderator still stops it, it is shown again.
      if (status === 'duplicate' && isOld) card.remove();
      else card.say('waiting', status === 'held' ? 'The moderator reads it first …' : 'Sent');
    } catch (error) {
      // Who left the story finds it when they are back.
      if (!isSettled && room === here) failed(error.message, chosen);
    }
  };
  if (unsent === undefined) send(first);
  else failed(unsent, first);
}

/** One's own words are in the story, or will not be. Either may be told before the answer to those who sent them. */
function settle({ sent, ends }, event) {
  sent.get(event.id)?.remove();
  sent.delete(event.id);
  const [ids, end] = ending(event);
  for (const id of ids) {
    if (sent.has(id)) end(sent.get(id));
    else ends.set(id, end);
    sent.delete(id);
  }
}

/** The actions that this event ends before they are in the story, and how. */
function ending({ type, decision, target, reason, cause = [], notice }) {
  if (type === 'failed') return [cause, (own) => own.failed(notice || 'The moderator could not read it.')];
  if (type !== 'verdict' || decision !== 'block') return [[]];
  return [[target], (own) => own.blocked(reason || 'The moderator did not let it through.')];
}

async function earlier() {
  const button = at('earlier');
  // One that is disabled would lose the focus.
  if (button.getAttribute('aria-disabled') === 'true') return;
  const here = room;
  const { first } = scene;
  button.setAttribute('aria-disabled', 'true');
  try {
    const { events, from } = await before(here.id, first);
    // Meanwhile another story was opened, or this one begun anew.
    if (room === here && scene.first === first) scene.earlier(events, from);
  } catch (problem) {
    if (room === here) banner(`What happened earlier cannot be shown now: ${problem.message}`);
  } finally {
    button.removeAttribute('aria-disabled');
  }
}

/** Events from before the place `from`, as many as are asked for at a time; more where none of them is for this person. */
async function before(id, from) {
  const events = [];
  while (from > 1 && events.length === 0) {
    const end = from - 1;
    from = Math.max(1, from - PAGE);
    // A page may end before its range does.
    for (let after = from - 1; after < end; ) {
      const path = `/v1/stories/${encodeURIComponent(id)}/events?after=${after}&limit=${end - after}`;
      const page = await ask(path, { token: keys.token });
      events.push(...page.events);
      after = page.next ?? end;
    }
  }
  return { events, from };
}

/** Puts these words before what is half written. */
function compose(...words) {
  at('text').value = [...words, at('text').value].filter(Boolean).join('\n');
  grow();
}

function mode() {
  return at('composer').elements.mode.value;
}

function modeChanged() {
  at('text').placeholder = HINTS[mode()];
  at('to-field').hidden = mode() !== 'say' || at('to').options.length < 2;
}

function grow() {
  const text = at('text');
  const { length } = text.value.trim();
  // The browser says so when it is to be sent: nothing is cut off without a word.
  text.setCustomValidity(length > LONGEST ? `At most ${LONGEST} characters: these are ${length}.` : '');
  text.style.setProperty('--height', 'auto');
  text.style.setProperty('--height', `${text.scrollHeight}px`);
}

at('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('text').value.trim();
  if (!text || !room) return;
  const to = at('to').value;
  publish({ mode: mode(), text, ...(mode() === 'say' && to ? { to } : {}) });
  at('text').value = '';
  grow();
});
at('text').addEventListener('keydown', (event) => {
  // Where letters are composed, Enter ends one.
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at('composer').requestSubmit();
});
at('text').addEventListener('input', () => {
  grow();
  if (at('text').value.trim()) room?.story.typing();
});
at('composer').addEventListener('change', modeChanged);
at('again').addEventListener('click', () => room?.gateway.wake());
addEventListener('beforeunload', (event) => (kept.loses || drafts.size > 0) && event.preventDefault());
// Another link was opened in this tab.
addEventListener('hashchange', () => location.reload());
at('leave').addEventListener('click', () => leave());
at('earlier').addEventListener('click', earlier);
modeChanged();
