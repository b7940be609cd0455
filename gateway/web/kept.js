// What was written and is not answered yet, kept in the tab beside the page: after a reload it is sent again under the ids
// it had, and so it counts once. What cannot be kept holds the page back from leaving.

const KEPT = 'storyfleet.unsent';

/** Lines, of which each is as long as may be sent: about a third of what a tab may keep. */
const MOST = 100;
/** Milliseconds. For a day the gateway knows an id that it took: after that it would take it again. */
const LASTS = 20 * 3_600_000;

export class Kept {
  #storage;
  #now;
  /** Ids of what is not in the tab's memory. */
  #left = new Set();

  /** @param {() => Storage} storage is asked for each time: where a browser allows none, asking throws. */
  constructor(storage, now = Date.now) {
    this.#storage = storage;
    this.#now = now;
  }

  /** Whether a reload would lose something. */
  get loses() {
    return this.#left.size > 0;
  }

  /** @param {{id, sub, story, said, label}} one `id` as it is sent, `sub` whose it is, `label` what is shown of it. */
  add(one) {
    const all = this.#all();
    // Since when it is known to the gateway, if it is, counts from the first time.
    if (all.some(({ id }) => id === one.id)) return;
    const isKept = one.sub !== undefined && all.length < MOST && this.#write([...all, { ...one, at: this.#now() }]);
    if (isKept) this.#left.delete(one.id);
    else this.#left.add(one.id);
  }

  remove(id) {
    this.#left.delete(id);
    const all = this.#all();
    const others = all.filter((one) => one.id !== id);
    if (others.length < all.length) this.#write(others);
  }

  /** Whoever wrote it went away from it: it is there again as far as it is kept. */
  leave(id) {
    this.#left.delete(id);
  }

  /** What this person wrote in this story, in its order. */
  of(story, sub) {
    return this.#all().filter((one) => one.story === story && one.sub === sub);
  }

  #all() {
    try {
      const all = JSON.parse(this.#storage().getItem(KEPT) ?? '[]');
      return all.filter(({ at }) => this.#now() - at < LASTS);
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
