// A client of the gateway for browsers and Node (>= 22, or with a WebSocket given). Copy client.js, outbox.js,
// transport.js and story.js; nothing else is needed.
//
//   import { connect } from './client.js';
//
//   const gateway = connect({
//     url: 'https://stories.example',                 // left out: where the page is from
//     getToken: async ({ renew }) => '…',             // renew: the last one is over or about to be; nothing: signed out
//     onState: ({ state, reason, after_ms, transport, sub, name }) => …,
//   });
//   const castle = gateway.join('castle', {
//     onText: (re, text, { done, added, attempt }) => …, // a response grows; `re` is the id that its event will have
//     onEvent: (event, { seq }) => …,                   // something happened: an action, a narration, a verdict …
//     onLive: ({ end }) => …,                           // all up to the place `end` was told: what comes now happens now
//     onRemoved: (id, { why, reason }) => …,            // show it no more, if it was shown
//     onGap: () => …,                                   // show nothing of before: the story is told anew from here
//     onError: ({ code, message }) => …,                // the story cannot be joined
//     onDelay: (error) => …,                            // it cannot yet, and is tried again; undefined: now it is joined
//     onPresence: ({ people, count }) => …,             // who is here: [{sub, name}], at most 20 of them
//     onTyping: ({ sub, name }) => …,                   // somebody else types; true for 3 s
//   });
//   const { id, status } = await castle.publish({ mode: 'do', text: 'I draw the sword' });  // logged, held or duplicate
//   await castle.publish(said, { onDelay: (error) => … });  // refused for a time, and tried again
//   castle.typing();                                     // as often as one likes: it is sent every 2 s
//   castle.leave(); gateway.close();
//
// Options besides: `ticket` (a one-use ticket instead of the first token, for a WebSocket), `transport` ('ws' or 'sse'
// alone), `WebSocket` and `fetch` of one's own.
//
// States: connecting, open, waiting (`after_ms` until the next try), signed-out (`wake()` after there is a token again),
// refused (this page's origin may not connect), closed.
//
// Every character comes once, across cuts and on both transports: onText gives a whole text and what was added to it.
// What is published is sent again after a cut, under an id of its own or the one that is given with it, and counts once.

import { Outbox } from './outbox.js';
import { Story } from './story.js';
import { Pace, openSocket, openStreams, pause, retryAfter } from './transport.js';

export { Refused } from './outbox.js';
export { Story } from './story.js';
export { openSocket, openStreams } from './transport.js';

/** Milliseconds. */
const OPENS = 10_000;
const LOOKS = 5_000;
const STABLE = 5_000;
const PING = 15_000;
const TYPES = 2_000;
/** setTimeout takes no more. */
const FAR = 2 ** 31 - 1;

/** Sockets that fail in a row before streams are tried. */
const FAILS = 2;

const CLOSED = { code: 'closed', message: 'the client was closed' };

export function connect(options) {
  const gateway = new Gateway(options);
  gateway.wake();
  return gateway;
}

class Gateway {
  #options;
  #way;
  #pace = new Pace();
  #state = { state: 'closed' };
  #stories = new Map();
  /** Stories whose leaving is not answered: what comes of them is not for who joins them anew. */
  #leaving = new Set();
  /** What waits for an answer: ref → what to do with it. */
  #asked = new Map();
  #ref = 0;
  #tries = 0;
  #refusals = 0;
  #fails = 0;
  #hadSocket = false;
  #welcomed = 0;
  #bye;
  #why;
  #ping = PING;
  #timers = {};
  #isClosed = false;
  #look = () => globalThis.document?.visibilityState !== 'hidden' && this.wake();

  constructor(options) {
    this.#options = { url: globalThis.location?.origin, onState: () => {}, ...options };
    globalThis.addEventListener?.('online', this.#look);
    globalThis.document?.addEventListener('visibilitychange', this.#look);
  }

  /** Connects now if it waits, or makes sure that the connection lives. */
  wake() {
    if (this.#isClosed) return;
    if (!this.#way && this.#state.state !== 'connecting') this.#open();
    else if (this.#state.state === 'open') this.#way.check(this.#ping, true);
  }

  /** @param {object} on what is called, as at the head of this file. */
  join(id, on) {
    if (this.#stories.has(id)) throw new Error(`${id} is joined already`);
    const story = { id, on, known: new Story(), isLate: false, typed: 0 };
    story.outbox = new Outbox((event, ...rest) => this.#ask({ t: 'publish', story: id, event }, ...rest));
    if (this.#isClosed) story.outbox.end(CLOSED);
    this.#stories.set(id, story);
    this.#enter(story);
    return {
      publish: (said, on) => story.outbox.publish(said, on),
      typing: () => this.#types(story),
      leave: () => this.#leave(story),
      get cursor() {
        return story.known.cursor;
      },
    };
  }

  close() {
    this.#isClosed = true;
    globalThis.removeEventListener?.('online', this.#look);
    globalThis.document?.removeEventListener('visibilitychange', this.#look);
    this.#drop();
    for (const { outbox } of this.#stories.values()) outbox.end(CLOSED);
    this.#tell({ state: 'closed' });
  }

  async #open() {
    this.#tell({ state: 'connecting' });
    if (this.#isClosed) return undefined;
    // Good for one use, and streams are many.
    const ticket = this.#options.transport === 'sse' ? undefined : this.#options.ticket;
    this.#options.ticket = undefined;
    let token;
    try {
      if (!ticket) token = await this.#options.getToken({ renew: this.#refusals > 0 });
    } catch (error) {
      return this.#isClosed || this.#wait(undefined, `no token: ${error.message}`);
    }
    if (this.#isClosed) return undefined;
    if (!ticket && !token) return this.#tell({ state: 'signed-out', reason: this.#why });
    let way;
    try {
      way = this.#begin(ticket, {
        open: () => this.#way === way && token && this.#send({ t: 'auth', token }),
        message: (message) => this.#way === way && this.#take(message),
        end: (how) => this.#way === way && this.#ended(how),
      });
    } catch (error) {
      return this.#wait(undefined, `no connection: ${error.message}`);
    }
    this.#way = way;
    return this.#after('open', OPENS, () => this.#ended({ code: 1006, reason: 'nobody answered' }));
  }

  #begin(ticket, on) {
    const { url, transport } = this.#options;
    const streams = transport === 'sse' || (transport !== 'ws' && !ticket && !this.#hadSocket && this.#fails >= FAILS);
    if (!streams) return openSocket(url, on, { ticket, WebSocket: this.#options.WebSocket });
    // If they fail too, it is the turn of sockets again.
    this.#fails = 0;
    return openStreams(url, on, { fetch: this.#options.fetch });
  }

  #take(message) {
    // Behind some proxies one opens, and nothing comes through it.
    if (this.#way.kind === 'ws') this.#hadSocket = true;
    const asked = this.#asked.get(message.ref);
    if (message.ref !== undefined) this.#asked.delete(message.ref);
    switch (message.t) {
      case 'welcome':
        return this.#welcome(message);
      case 'ok':
        return asked?.ok?.(message);
      case 'err':
        if (asked) return asked.err?.(message);
        if (message.story) return this.#refused(this.#reader(message.story), message);
        return this.#warned(message);
      case 'bye':
        return this.#warned(message);
      default:
        return this.#tellStory(this.#reader(message.story), message);
    }
  }

  /** The end of the connection follows, and this is why. */
  #warned({ reason, message, after_ms: after }) {
    this.#why = reason ?? message;
    this.#bye = after;
  }

  #reader(id) {
    return this.#leaving.has(id) ? undefined : this.#stories.get(id);
  }

  #welcome({ sub, name, expires_at: until, ping_ms: ping = PING }) {
    this.#ping = ping;
    this.#renewBefore(until);
    if (this.#state.state === 'open') return;
    clearTimeout(this.#timers.open);
    this.#welcomed = Date.now();
    this.#watch();
    const stories = [...this.#stories.values()];
    // Whoever is told may join more of them, leave them, and close all.
    this.#tell({ state: 'open', transport: this.#way.kind, sub, name });
    for (const story of stories) this.#enter(story);
  }

  #renewBefore(until) {
    const left = until === undefined ? undefined : until * 1000 - Date.now();
    // On streams a new token needs new requests: they end by themselves, and go on where they were.
    if (left === undefined || left <= 0 || this.#way.kind === 'sse') return clearTimeout(this.#timers.renew);
    this.#after('renew', Math.min(FAR, left - Math.min(60_000, left / 5)), async () => {
      const way = this.#way;
      const token = await this.#options.getToken({ renew: true }).catch(() => undefined);
      // Without one the connection ends in its time, and that is when the person is asked.
      if (token && way === this.#way) this.#ask({ t: 'auth', token }, {});
    });
  }

  #enter(story) {
    const { id, known, outbox } = story;
    outbox.close();
    if (this.#state.state !== 'open' || this.#leaving.has(id) || this.#isOver(story)) return;
    this.#ask({ t: 'join', story: id, cursor: known.cursor }, {
      ok: () => {
        if (this.#isOver(story)) return;
        outbox.open();
        if (story.isLate) story.on.onDelay?.();
        story.isLate = false;
      },
      err: (error) => {
        if (this.#isOver(story)) return undefined;
        if (error.code === 'bad_cursor' && known.cursor !== undefined) {
          this.#tellStory(story, { t: 'gap' });
          known.cursor = undefined;
          return this.#enter(story);
        }
        return this.#refused(story, error);
      },
    });
  }

  /** One story is not to be had, or no longer; the others go on. */
  #refused(story, error) {
    if (!story) return undefined;
    story.outbox.close();
    const after = retryAfter(error);
    if (after === undefined) {
      this.#forget(story, error);
      return story.on.onError?.(error);
    }
    story.isLate = true;
    // Before it is told: whoever is told may close all.
    this.#after(`join ${story.id}`, after, () => this.#enter(story));
    return story.on.onDelay?.(error);
  }

  #tellStory(story, message) {
    if (!story) return undefined;
    const { on, known } = story;
    if (message.t === 'presence') on.onPresence?.(message);
    if (message.t === 'typing') on.onTyping?.(message);
    for (const change of known.take(message)) {
      if (this.#isOver(story)) return undefined;
      const { kind, ...rest } = change;
      if (kind === 'text') on.onText?.(rest.re, rest.text, rest);
      else if (kind === 'event') on.onEvent?.(rest.event, rest);
      else if (kind === 'removed') on.onRemoved?.(rest.id, rest);
      else if (kind === 'gap') on.onGap?.();
      else {
        known.restart();
        this.#bye = 0;
        return this.#ended({ code: 1006, reason: 'characters were missing' });
      }
    }
    if (message.t === 'live' && !this.#isOver(story)) on.onLive?.(message);
    return undefined;
  }

  /** Whoever is told of it may have left it, joined it anew, or closed all. */
  #isOver(story) {
    return this.#isClosed || this.#stories.get(story.id) !== story;
  }

  #leave(story) {
    if (this.#stories.get(story.id) !== story) return;
    this.#forget(story, { code: 'left', message: 'the story was left' });
    const { id } = story;
    if (this.#state.state !== 'open' || this.#leaving.has(id)) return;
    this.#leaving.add(id);
    const left = () => this.#leaving.delete(id) && this.#stories.has(id) && this.#enter(this.#stories.get(id));
    this.#ask({ t: 'leave', story: id }, { ok: left, err: left });
  }

  #forget(story, error) {
    this.#stories.delete(story.id);
    story.outbox.end(error);
  }

  #types(story) {
    const now = Date.now();
    if (!story.outbox.isOpen || now - story.typed < TYPES) return;
    story.typed = now;
    this.#send({ t: 'typing', story: story.id });
  }

  #ask(message, then, isWanted = () => true) {
    this.#pace.take(() => {
      if (!isWanted()) return;
      this.#asked.set((this.#ref += 1), then);
      this.#way.send({ ...message, ref: this.#ref });
    });
  }

  #send(message) {
    this.#pace.take(() => this.#way.send(message));
  }

  #watch() {
    this.#after('watch', LOOKS, () => {
      this.#watch();
      this.#way.check(this.#ping);
    });
  }

  #ended({ code, reason }) {
    const wasSocket = this.#way?.kind === 'ws';
    const unanswered = [...this.#asked.values()];
    this.#drop();
    if (code === 4429 && this.#welcomed > 0) this.#pace.slow();
    const isStable = this.#welcomed > 0 && Date.now() - this.#welcomed > STABLE;
    if (isStable) this.#tries = this.#refusals = 0;
    if (wasSocket && this.#welcomed === 0) this.#fails += 1;
    this.#welcomed = 0;
    const why = this.#why ?? reason;
    // It is one of what was said: nothing tells which.
    if (code === 4400 || code === 1009) for (const { never } of unanswered) never?.({ code: 'too_large', message: reason });
    if (code === 4403) return this.#tell({ state: 'refused', reason: why });
    if (code === 4401) {
      this.#refusals += 1;
      if (this.#refusals > 2) {
        this.#refusals = 1;
        return this.#tell({ state: 'signed-out', reason: why });
      }
      return this.#wait(this.#refusals > 1 ? undefined : 0, why);
    }
    return this.#wait(this.#bye ?? (code === 4429 ? 5_000 : undefined), why);
  }

  #wait(after, reason) {
    const after_ms = Math.round(pause(this.#tries, after));
    this.#tries += 1;
    this.#bye = this.#why = undefined;
    this.#after('again', after_ms, () => this.#state.state === 'waiting' && this.#open());
    this.#tell({ state: 'waiting', reason, after_ms });
  }

  #drop() {
    this.#way?.close();
    this.#way = undefined;
    for (const what of [this.#pace, this.#asked, this.#leaving]) what.clear();
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    for (const { outbox } of this.#stories.values()) outbox.close();
  }

  #after(name, ms, then) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(then, ms);
  }

  #tell(state) {
    this.#state = state;
    this.#options.onState(state);
  }
}
