// Two ways to a gateway that speak the same messages: a WebSocket, and streams (SSE) with requests for where no WebSocket
// gets through. Both are objects of
//   send(message)    what a client says: auth, join, leave, publish, typing, ping
//   close()          ends it; nothing is heard of it afterwards
//   check(ping, isUrgent)   ends it if the network is dead, which says nothing: `ping` ms are the most between two signs of
//                    life; urgent where somebody waits for it
// and call
//   on.open()           it can be sent to
//   on.message(object)  what the gateway says
//   on.end({code, reason})   it is over; the code is that of a WebSocket's close frame
// Besides: how much is said at a time (Pace), and when it is tried again (pause, retryAfter).

const SUBPROTOCOL = 'storyfleet.v1';

/** So many messages at once, and one more each so many ms: half of what a gateway takes when nobody told it otherwise. */
const BURST = 20;
const EVERY = 100;
const SLOWEST = 2_000;

/** How long to wait before it is tried again. */
const FIRST = 250;
const LONGEST = 15_000;
const LATER = 1_000;

/** Refusals that are over by themselves. */
const PASSES = new Set(['rate', 'unavailable', 'full']);

/** How soon one who is asked answers; where somebody waits for it; and how many signs of life may be lost. */
const ANSWERS = 10_000;
const ANSWERS_URGENTLY = 3_000;
const LOST = 3;
const SILENT = 'the connection fell silent';

/** `ticket`, where there is one, stands for the auth message. */
export function openSocket(base, on, { ticket, WebSocket: Socket = globalThis.WebSocket } = {}) {
  const url = new URL('/v1/ws', base);
  url.protocol = url.protocol.replace('http', 'ws');
  if (ticket) url.searchParams.set('ticket', ticket);
  const socket = new Socket(url, SUBPROTOCOL);
  let isOver = false;
  let heard = Date.now();
  /** It was asked, and is over if nothing is heard in time. */
  let asked;
  let urgent;
  const calm = () => {
    for (const timer of [asked, urgent]) clearTimeout(timer);
    asked = urgent = undefined;
  };
  const finish = () => {
    isOver = true;
    calm();
  };
  const end = (code, reason) => {
    if (isOver) return;
    finish();
    on.end({ code, reason });
  };
  const silent = () => end(1006, SILENT);
  const send = (message) => socket.send(JSON.stringify(message));
  const way = {
    kind: 'ws',
    send,
    check: (ping, isUrgent = false) => {
      if (!asked && (isUrgent || Date.now() - heard > ping)) {
        asked = setTimeout(silent, ANSWERS);
        send({ t: 'ping' });
      }
      if (isUrgent) urgent ??= setTimeout(silent, ANSWERS_URGENTLY);
    },
    close: () => {
      finish();
      socket.close(1000);
    },
  };
  socket.onopen = () => isOver || on.open();
  socket.onmessage = ({ data }) => {
    heard = Date.now();
    calm();
    if (!isOver) on.message(JSON.parse(data));
  };
  socket.onclose = ({ code, reason }) => end(code, reason);
  // Its close event follows, at once or when the system gives up.
  socket.onerror = () => {};
  return way;
}

export function openStreams(base, on, { fetch: ask = globalThis.fetch } = {}) {
  const streams = new Map();
  const posts = new Set();
  let token;
  let isOver = false;
  const finish = () => {
    isOver = true;
    for (const { controller } of streams.values()) controller.abort();
    for (const controller of posts) controller.abort();
  };
  const end = (code, reason) => {
    if (isOver) return;
    finish();
    on.end({ code, reason });
  };
  const hear = (message) => isOver || on.message(message);
  const headers = () => ({ authorization: `Bearer ${token}` });

  async function read({ ref, story, cursor }) {
    const controller = new AbortController();
    const stream = { controller, heard: Date.now(), isAnswered: false };
    streams.set(story, stream);
    const url = new URL(`/v1/stories/${encodeURIComponent(story)}/stream`, base);
    if (cursor) url.searchParams.set('cursor', cursor);
    const take = (block) => {
      if (controller.signal.aborted) return undefined;
      stream.heard = Date.now();
      const message = block.data ? JSON.parse(block.data) : undefined;
      if (block.event === 'error') {
        if (message.code === 'auth') return end(4401, message.message);
        streams.delete(story);
        return hear({ ...message, ref });
      }
      if (!stream.isAnswered) hear({ t: 'ok', ref });
      stream.isAnswered = true;
      if (message) hear(message);
    };
    try {
      const response = await ask(url, { headers: headers(), signal: controller.signal, cache: 'no-store' });
      if (!response.ok) return end(response.status === 401 ? 4401 : 1006, `status ${response.status}`);
      await blocks(response.body, take);
    } catch (error) {
      if (controller.signal.aborted) return;
      return end(1006, String(error));
    }
    if (streams.get(story) === stream) end(1012, 'the stream ended');
  }

  async function publish({ ref, story, event }) {
    try {
      const { response, answer } = await post(story, 'events', event);
      if (!response) return hear({ t: 'err', ref, code: 'unavailable', message: 'nobody answered' });
      const { id, status, code = fault(response), detail = `status ${response.status}`, after_ms } = answer;
      if (response.status === 401) return end(4401, detail);
      if (response.ok && id) return hear({ t: 'ok', ref, id, status });
      return hear({ t: 'err', ref, code, message: detail, after_ms });
    } catch (error) {
      return end(1006, String(error));
    }
  }

  /** @returns {{response, answer}} nothing of them where nobody answered. */
  async function post(story, what, body) {
    const url = new URL(`/v1/stories/${encodeURIComponent(story)}/${what}`, base);
    const type = body && { 'content-type': 'application/json' };
    const controller = new AbortController();
    posts.add(controller);
    // Its connection may be another than that of the streams, and dead where they live.
    const patience = setTimeout(() => controller.abort(), ANSWERS);
    try {
      const response = await ask(url, { method: 'POST', headers: { ...headers(), ...type }, body: JSON.stringify(body), signal: controller.signal });
      return { response, answer: await response.json().catch(() => ({})) };
    } catch (error) {
      if (controller.signal.aborted) return {};
      throw error;
    } finally {
      clearTimeout(patience);
      posts.delete(controller);
    }
  }

  const way = {
    kind: 'sse',
    send: (message) => {
      switch (message.t) {
        case 'auth':
          ({ token } = message);
          hear({ t: 'welcome', ...claims(token) });
          break;
        case 'join':
          read(message);
          break;
        case 'leave':
          streams.get(message.story)?.controller.abort();
          streams.delete(message.story);
          hear({ t: 'ok', ref: message.ref });
          break;
        case 'publish':
          publish(message);
          break;
        case 'typing':
          // Nobody waits for it.
          post(message.story, 'typing').catch(() => {});
          break;
        default: // Streams have their own signs of life.
      }
    },
    check: (ping) => {
      const all = [...streams.values()];
      const answered = all.filter(({ isAnswered }) => isAnswered);
      // A browser lets few through at a time: the others wait for their turn, and nothing is wrong with them.
      const judged = answered.length > 0 ? answered : all;
      if (judged.some(({ heard }) => Date.now() - heard > LOST * ping)) end(1006, SILENT);
    },
    close: finish,
  };
  queueMicrotask(() => isOver || on.open());
  return way;
}

/** When to try again after so many tries that failed, in ms; not before `after` when the gateway named a time. */
export function pause(tries, after, random = Math.random()) {
  const longest = Math.min(LONGEST, FIRST * 2 ** tries);
  return after === undefined ? (0.5 + random / 2) * longest : after + random * longest;
}

/** When to ask again for what was refused, in ms; undefined where it would be refused again. */
export function retryAfter({ code, after_ms: after }) {
  return PASSES.has(code) || after != null ? pause(0, after ?? LATER) : undefined;
}

/** Does things in their order, and not more of them at a time than a gateway takes: it ends who says more. */
export class Pace {
  #burst = BURST;
  #every = EVERY;
  #waits = [];
  #timer;
  #isGoing = false;
  /** When it will be as if nothing had been done. */
  #free = 0;

  take(act) {
    this.#waits.push(act);
    if (this.#timer === undefined && !this.#isGoing) this.#go();
  }

  /** What waits is not done, and what comes is the first. */
  clear() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#waits = [];
    this.#free = 0;
  }

  /** It was too much all the same. */
  slow() {
    this.#burst = Math.ceil(this.#burst / 2);
    this.#every = Math.min(SLOWEST, 2 * this.#every);
  }

  #go() {
    this.#timer = undefined;
    // What is done may bring more, which then waits for its end.
    this.#isGoing = true;
    try {
      this.#timer = this.#work();
    } finally {
      this.#isGoing = false;
    }
  }

  /** @returns the timer of what is still too much. */
  #work() {
    while (this.#waits.length > 0) {
      const now = Date.now();
      const most = this.#burst * this.#every;
      // A clock that is set back holds nothing up.
      const free = Math.min(Math.max(this.#free, now), now + most) + this.#every;
      if (free > now + most) return setTimeout(() => this.#go(), free - now - most);
      this.#free = free;
      this.#waits.shift()();
    }
    return undefined;
  }
}

/** For what is published. Pages that were not served over TLS have no randomUUID. */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * The id that the event has of what `sub` publishes under the id `chosen`. Nothing where it cannot be known: pages that
 * were not served over TLS have no digests either.
 */
export async function eventId(sub, chosen) {
  if (sub === undefined || !crypto.subtle) return undefined;
  const digest = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(`${sub}\0${chosen}`));
  return `c-${hex(new Uint8Array(digest, 0, 16))}`;
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** For an answer that is none of a gateway, but of something on the way to it. */
function fault({ status }) {
  if (status === 429) return 'rate';
  return status >= 400 && status < 500 ? 'refused' : 'unavailable';
}

/** Whose a token is and when it ends, for show: whether it is good only the gateway tells. */
export function claims(token) {
  try {
    const part = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0));
    const { sub, name = sub, exp } = JSON.parse(new TextDecoder().decode(bytes));
    return { sub, name, expires_at: exp };
  } catch {
    return {};
  }
}

/** Reads server-sent events; a block without data is given too, since it is a sign of life. */
export async function blocks(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += value;
    // A CR at the end may be the first half of a line's end.
    const whole = rest.endsWith('\r') ? rest.length - 1 : rest.length;
    const parts = rest.slice(0, whole).replaceAll('\r\n', '\n').replaceAll('\r', '\n').split('\n\n');
    rest = parts.pop() + rest.slice(whole);
    for (const part of parts) take(block(part));
  }
}

function block(text) {
  const fields = { data: [] };
  for (const line of text.split('\n')) {
    const [, name, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line);
    if (name === 'data') fields.data.push(value);
    else if (name) fields[name] = value;
  }
  return { ...fields, data: fields.data.join('\n') };
}
