// A story on the screen. What people and models wrote gets there as text alone, never as markup.

import { Typist } from './typist.js';

/** For so long after joining what comes is history, which is not spoken. Milliseconds. */
const SETTLES = 1_500;
/** The latest lines for those who listen. */
const LINES = 3;

/** How far from the end one who comes back to it follows it again. Pixels. */
const NEAR = 120;

/** People who are shown each; of the others the number. */
const FACES = 4;

const VERBS = { do: '', say: 'says', story: 'tells', choose: 'chooses', regenerate: 'asks for another answer', undo: 'takes something back' };

export class Scene {
  #at = (id) => document.getElementById(id);
  #entries = new Map();
  #removed = new Set();
  #spoken = new Map();
  #labels = new Map();
  #onChoose;
  #me;
  #first = Infinity;
  #settled = 0;
  #isFollowing = true;
  /** How far it was scrolled when last seen. */
  #top = 0;
  /** The row of choices that is. */
  #open;
  #calm = matchMedia('(prefers-reduced-motion: reduce)');

  /** @param {{onChoose: (choice: {id, label, again}) => void}} on `again` lets one choose anew. */
  constructor({ onChoose }) {
    this.#onChoose = onChoose;
    const scroll = this.#at('scroll');
    scroll.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#at('down').addEventListener('click', () => this.#follow());
  }

  /** The place of the first event that is shown. */
  get first() {
    return this.#first;
  }

  set me(sub) {
    this.#me = sub;
  }

  /** Another story: nothing is left of the one before. */
  begin() {
    this.#at('outbox').replaceChildren();
    this.clear();
  }

  /** The story is told anew. One's own words that are not in it yet stay. */
  clear() {
    for (const list of ['log', 'drafts', 'spoken']) this.#at(list).replaceChildren();
    for (const map of [this.#entries, this.#removed, this.#spoken, this.#labels]) map.clear();
    this.#first = Infinity;
    this.#isFollowing = true;
    this.#top = 0;
    this.#open = undefined;
    this.#settled = Date.now() + SETTLES;
    this.#offer('earlier', false);
  }

  /** Whether it is in the story, or was. */
  has(id) {
    return this.#entries.has(id) || this.#removed.has(id);
  }

  text(re, text, isDone) {
    this.#stay(() => {
      const entry = this.#entries.get(re) ?? this.#draft(re);
      entry.typist?.write(text);
      if (isDone) entry.isSpoken = true;
    });
  }

  event(event, seq) {
    this.#first = Math.min(this.#first, seq);
    this.#offer('earlier', this.#first > 1);
    this.#stay(() => {
      const shown = this.#show(event);
      if (shown) this.#at('log').append(shown);
    });
  }

  /** Events from before those that are shown, oldest first: all since the place `from`. */
  earlier(placed, from) {
    this.#look();
    const scroll = this.#at('scroll');
    const below = scroll.scrollHeight - scroll.scrollTop;
    const shown = placed.map(({ event }) => this.#show(event, true)).filter(Boolean);
    this.#at('log').prepend(...shown);
    this.#first = from;
    this.#offer('earlier', this.#first > 1);
    scroll.scrollTop = scroll.scrollHeight - below;
    this.#top = scroll.scrollTop;
  }

  removed(id, { why, reason }) {
    this.#removed.add(id);
    this.#spoken.get(id)?.remove();
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    if (!entry) return;
    if (why === 'void') {
      // It may be tried again.
      this.#removed.delete(id);
      entry.item.remove();
      return;
    }
    const stone = element('li', 'stone', reason || 'The moderator removed this.');
    entry.item.replaceWith(stone);
    this.#at('log').contains(stone) || this.#at('log').append(stone);
  }

  /** A person's own words, before they are in the story. */
  pending(words) {
    const item = this.#card('mine pending', words.who, words.text);
    const state = item.appendChild(element('p', 'state', 'Sending …'));
    this.#at('outbox').append(item);
    this.#follow();
    return {
      /** `kind`: late, waiting, blocked or failed; `actions`: label → what it does. */
      say: (kind, text, actions = {}) => {
        // What is said again is not spoken again.
        if (kind === 'late' && state.textContent === text) return;
        if (!item.isConnected) this.#at('outbox').append(item);
        item.classList.remove('late', 'waiting', 'blocked', 'failed');
        if (kind) item.classList.add(kind);
        state.textContent = text;
        state.setAttribute('role', kind === 'waiting' || !kind ? 'none' : 'alert');
        this.#leave(item);
        item.querySelector('.actions')?.remove();
        const row = element('div', 'actions');
        for (const [label, act] of Object.entries(actions)) row.append(button(label, act, 'quiet'));
        if (row.children.length > 0) item.append(row);
        this.#follow();
      },
      remove: () => {
        this.#leave(item);
        this.#stay(() => item.remove());
      },
    };
  }

  /** Who is here: `count` may be more than those who are listed. */
  people(people, count = people.length) {
    const list = this.#at('people');
    list.hidden = people.length === 0;
    const shown = people.slice(0, FACES);
    list.replaceChildren(...shown.map(({ sub, name }) => named(name || sub)));
    if (count > shown.length) list.append(element('li', 'more', `+${count - shown.length}`));
  }

  #draft(re) {
    const item = element('li', 'entry draft');
    const text = item.appendChild(element('p', 'text'));
    item.dataset.id = re;
    const typist = new Typist(text, { around: (grow) => this.#stay(grow), isCalm: () => this.#calm.matches });
    const entry = { item, typist };
    this.#entries.set(re, entry);
    this.#at('drafts').append(item);
    return entry;
  }

  /** The element of an event, if it has one and is not shown yet. */
  #show(event, isHistory = false) {
    const known = this.#entries.get(event.id);
    if (this.#removed.has(event.id) || (known && !known.typist)) return undefined;
    switch (event.type) {
      case 'action':
        return this.#action(event, isHistory);
      case 'narration':
        return this.#told(event, isHistory);
      case 'dialogue':
        return this.#told(event, isHistory, event.character);
      case 'failed':
        return this.#notice(event);
      default:
        return undefined;
    }
  }

  #action(event, isHistory) {
    const { id, author, mode, to } = event;
    const isMine = author.id === this.#me;
    const words = mode === 'choose' ? (this.#labels.get(event.choice) ?? event.text) : event.text;
    const verb = [VERBS[mode], to && `to ${to}`].filter(Boolean).join(' ');
    const item = this.#card(isMine ? 'mine' : 'theirs', author.name || author.id, words, verb);
    item.dataset.id = id;
    this.#entries.set(id, { item });
    if (!isMine) this.#speak(id, `${author.name} ${verb}: ${words}`, isHistory);
    if (!isHistory) this.#turn();
    return item;
  }

  #told(event, isHistory, character) {
    const { id, text, choices = [], status } = event;
    const draft = this.#entries.get(id);
    const item = draft?.item ?? element('li', 'entry');
    item.dataset.id = id;
    item.classList.remove('draft');
    item.classList.add(event.type);
    if (!draft) item.append(element('p', 'text', text));
    if (character) {
      paint(item, character);
      item.prepend(byline(character));
    }
    if (status === 'truncated') item.append(element('p', 'state', 'The answer breaks off here.'));
    if (choices.length > 0) {
      const row = this.#choices(choices, isHistory);
      item.append(row);
      if (!isHistory) this.#turn(row);
    }
    // What wrote its text is needed no more.
    this.#entries.set(id, { item });
    this.#speak(id, character ? `${character}: ${text}` : text, isHistory, draft?.isSpoken);
    return item;
  }

  #choices(choices, isHistory) {
    const row = element('div', 'choices');
    row.setAttribute('role', 'group');
    row.setAttribute('aria-label', 'What you could do');
    for (const { id, label } of choices) {
      this.#labels.set(id, label);
      row.append(button(label, () => this.#choose(row, { id, label })));
    }
    row.hidden = isHistory;
    return row;
  }

  /** One is chosen once. */
  #choose(row, choice) {
    const able = (is) => {
      for (const one of row.children) one.disabled = !is;
    };
    this.#leave(row);
    able(false);
    this.#onChoose({ ...choice, again: () => able(true) });
  }

  /** Another row of choices is open, or none. */
  #turn(row) {
    if (this.#open) {
      this.#leave(this.#open);
      this.#open.hidden = true;
    }
    this.#open = row;
  }

  /** The keyboard goes on where words are written: its place is about to vanish. */
  #leave(row) {
    if (row.querySelector(':focus-visible')) this.#at('text').focus();
  }

  /** The keyboard goes on in the story where a way to elsewhere in it vanishes. */
  #offer(id, isOffered) {
    const way = this.#at(id);
    if (!isOffered && way.matches(':focus-visible')) this.#at('scroll').focus({ preventScroll: true });
    way.hidden = !isOffered;
  }

  #notice({ id, notice, agent }) {
    const item = element('li', 'notice', notice || `The ${agent} could not answer.`);
    this.#entries.set(id, { item });
    this.#speak(id, item.textContent, false);
    return item;
  }

  #card(kind, who, words, verb = '') {
    const item = element('li', `entry action ${kind}`);
    paint(item, who);
    item.append(byline(who, verb), element('p', 'text', words));
    return item;
  }

  /** For those who listen: what is whole, once, and not what was there before them. */
  #speak(id, words, isHistory, wasDraft = false) {
    if (isHistory || (!wasDraft && Date.now() < this.#settled)) return;
    const line = this.#at('spoken').appendChild(element('p', '', words));
    this.#spoken.set(id, line);
    if (this.#spoken.size <= LINES) return;
    const [[oldest, old]] = this.#spoken;
    this.#spoken.delete(oldest);
    old.remove();
  }

  #scrolled() {
    this.#look();
    if (this.#isFollowing) this.#offer('down', false);
  }

  /** Who went up from where they were follows the end no more, until they are there or come near it. */
  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#at('scroll');
    const left = scrollHeight - scrollTop - clientHeight;
    if (left <= 1) this.#isFollowing = true;
    else if (scrollTop < this.#top) this.#isFollowing = false;
    else if (scrollTop > this.#top && left < NEAR) this.#isFollowing = true;
    this.#top = scrollTop;
  }

  /** Where the text grows, by however much: who was at its end is there again, the others are told. */
  #stay(grow) {
    // Before it: the event of somebody's scrolling may still be under way.
    this.#look();
    grow();
    if (this.#isFollowing) this.#follow();
    else this.#offer('down', true);
  }

  #follow() {
    this.#isFollowing = true;
    const scroll = this.#at('scroll');
    scroll.scrollTop = scroll.scrollHeight;
    this.#top = scroll.scrollTop;
    this.#offer('down', false);
  }
}

function element(name, kind, text = '') {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

function button(label, act, kind = '') {
  const made = element('button', kind, label);
  made.type = 'button';
  made.addEventListener('click', act);
  return made;
}

function byline(who, verb = '') {
  const line = element('p', 'who');
  const initial = badge('span', who);
  initial.setAttribute('aria-hidden', 'true');
  line.append(initial, element('b', '', who));
  if (verb) line.append(' ', element('span', 'verb', verb));
  return line;
}

function named(name) {
  const item = element('li');
  const face = badge('span', name);
  face.setAttribute('aria-hidden', 'true');
  item.append(face, element('span', 'unseen', name));
  return item;
}

function badge(kind, name) {
  const made = element(kind, 'badge', [...name.trim()][0]?.toUpperCase() ?? '?');
  made.title = name;
  paint(made, name);
  return made;
}

/** The same name has the same colour everywhere. */
function paint(item, name) {
  item.style.setProperty('--hue', hue(name));
}

export function hue(name) {
  let hash = 2166136261;
  for (const letter of name) hash = Math.imul(hash ^ letter.codePointAt(0), 16777619);
  // Steps that can be told apart.
  return ((hash >>> 0) % 24) * 15;
}
