// What is published in one story and not answered yet. It is said in its order, one after the other: what is refused for
// a time keeps its place, and what is not answered before a cut is said again after it.

import { newId, retryAfter } from './transport.js';

/** Milliseconds. */
const GIVES_UP = 60_000;

/** Why something was not done: `code` as the gateway says it. */
export class Refused extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

export class Outbox {
  #ask;
  #waits = new Set();
  /** The one that is being said, or is to be said again. */
  #said;
  #timer;
  /** Since when nothing was taken, of what was said. */
  #since;
  #isOpen = false;
  /** Why nothing can be said any more. */
  #end;

  /**
   * @param {(event, then: {ok, err, never}, isWanted) => void} ask says it to the gateway when its turn comes, if it still
   * `isWanted()`; `never` is called in place of an answer where it is not to be said again.
   */
  constructor(ask) {
    this.#ask = ask;
  }

  get isOpen() {
    return this.#isOpen;
  }

  /** `onDelay(error)`: it is refused for a time, and is tried again. */
  publish(said, { onDelay } = {}) {
    return new Promise((resolve, reject) => {
      if (this.#end) return reject(new Refused(this.#end));
      if (this.#waits.size === 0) this.#since = undefined;
      this.#waits.add({ event: { ...said, id: said.id ?? newId() }, onDelay, resolve, reject });
      this.#say();
    });
  }

  open() {
    this.#isOpen = true;
    this.#say();
  }

  /** Nothing is said until it is opened again. */
  close() {
    this.#isOpen = false;
    this.#said = this.#since = undefined;
    clearTimeout(this.#timer);
  }

  /** What waits will not be said, and neither will what comes. */
  end(error) {
    this.#end = error;
    this.close();
    for (const { reject } of this.#waits) reject(new Refused(error));
    this.#waits.clear();
  }

  #say() {
    const [one] = this.#waits;
    if (!this.#isOpen || !one || this.#said === one) return;
    this.#said = one;
    const isWanted = () => this.#isOpen && this.#waits.has(one);
    const then = {
      ok: ({ id, status }) => {
        this.#since = undefined;
        one.resolve({ id, status });
        this.#answered(one);
      },
      err: (error) => this.#waits.has(one) && this.#refused(one, error),
      never: (error) => {
        one.reject(new Refused(error));
        this.#answered(one);
      },
    };
    this.#ask(one.event, then, isWanted);
  }

  #answered(one) {
    // Around a cut one can be said twice, and is answered as often.
    if (!this.#waits.delete(one)) return;
    clearTimeout(this.#timer);
    this.#say();
  }

  #refused(one, error) {
    const after = retryAfter(error);
    // It crossed the end of the story: said again with the next join.
    if (!this.#isOpen && (after !== undefined || error.code === 'not_joined')) return;
    this.#since ??= Date.now();
    if (after === undefined || Date.now() - this.#since > GIVES_UP) {
      one.reject(new Refused(error));
      this.#answered(one);
      return;
    }
    // Before it is told: whoever is told may end all.
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#said = undefined;
      this.#say();
    }, after);
    one.onDelay?.(error);
  }
}
