// Who types now: whoever was heard of in the last moments. Names get on the page as text alone.

/** What was heard is true for so long, in ms. */
const TRUE = 3_000;

export class Typists {
  #place;
  /** sub → {name, timer} */
  #known = new Map();

  /** @param {Element} place where it is shown. */
  constructor(place) {
    this.#place = place;
  }

  heard({ sub, name }) {
    clearTimeout(this.#known.get(sub)?.timer);
    this.#known.set(sub, { name: name || sub, timer: setTimeout(() => this.done(sub), TRUE) });
    this.#show();
  }

  /** What they typed is there, or they are gone. */
  done(sub) {
    clearTimeout(this.#known.get(sub)?.timer);
    if (this.#known.delete(sub)) this.#show();
  }

  clear() {
    for (const sub of [...this.#known.keys()]) this.done(sub);
  }

  #show() {
    this.#place.textContent = words([...this.#known.values()].map(({ name }) => name));
  }
}

export function words(names) {
  const [one, two] = names;
  if (names.length === 0) return '';
  if (names.length === 1) return `${one} is writing …`;
  if (names.length === 2) return `${one} and ${two} are writing …`;
  return `${names.length} people are writing …`;
}
