// What was written and was not sent, or is not answered yet, kept in the tab beside the page: after a reload, or when its
// author is back, it is sent again under the ids it had, and so it counts once. What was refused is kept with the reason
// until its author says what becomes of it. What cannot be kept holds the page back from leaving.

const KEPT = 'storyfleet.unsent';

/** Lines, of which each is as long as may be sent: about a third of what a tab may keep. */
const MOST = 100;
/** Milliseconds. For a day the gateway knows an id that it took: after that it would take it again. */
const LASTS = 20 * 3_600_000;
const TOO_LATE = 'nobody answered for 20 hours. Look whether it is in the story before you send it again.';

export class Kept {
  #storage;
  #now;
  /** What is not in the tab's memory, by its id. */
  #left = new Map();

  /** @param {() => Storage} storage is asked for each time: where a browser allows none, asking throws. */
  constructor(storage, now = Date.now) {
    this.#storage = storage;
    this.#now = now;
  }

  /** Whether a reload would lose something. */
  get loses() {
    return this.#left.size > 0;
  }

  /**
   * @param {{id, sub, story, said, label, why}} one `id` as it is sent, `sub` whose it is, `label` what is shown of it,
   * `why` it was not sent and waits for its author. It takes the place of what has its id.
   */
  add(one) {
    const all = this.#all();
    const place = all.findIndex(({ id }) => id === one.id);
    if (place >= 0) {
      // Since when it is known to the gateway, if it is, counts from the first time. Without room it stays as it was.
      all[place] = { ...one, at: all[place].at };
      this.#write(all);
      return;
    }
    const isKept = one.sub !== undefined && all.length < MOST && this.#write([...all, { ...one, at: this.#now() }]);
    if (isKept) this.#left.delete(one.id);
    else this.#left.set(one.id, one);
  }

  remove(id) {
    this.#left.delete(id);
    const all = this.#all();
    const others = all.filter((one) => one.id !== id);
    if (others.length < all.length) this.#write(others);
  }

  /** What could not be kept, in its order: from now on it is with whoever asks. */
  leave() {
    const left = [...this.#left.values()];
    this.#left.clear();
    return left;
  }

  /** What this person wrote in this story, in its order. What is too old to be sent unasked says so in its `why`. */
  of(story, sub) {
    const own = this.#all().filter((one) => one.story === story && one.sub === sub);
    return own.map((one) => (this.#now() - one.at < LASTS ? one : { ...one, why: TOO_LATE }));
  }

  #all() {
    try {
      return JSON.parse(this.#storage().getItem(KEPT) ?? '[]');
    } catch {
      // Nothing of ours, or a browser that allows no storage.
      return [];
    }
  }

  #write(all) {
    try {
      this.#storage().setItem(KEPT, JSON.stringify(all));
      return true;
    } catch {
      // A tab that may keep nothing, or no more.
      return false;
    }
  }
}
