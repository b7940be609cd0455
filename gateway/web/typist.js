// Text that grows smoothly however it comes: a frame shows a part of what waits, so that nothing waits for long.

/** The share of what waits that a frame shows, and the least: characters. */
const SHARE = 1 / 10;
const LEAST = 2;

export class Typist {
  #node;
  #text = '';
  #frame;
  #around;
  #isCalm;

  /** @param {Element} element gets one text node. `around(grow)` lets it grow. `isCalm`: everything is shown at once. */
  constructor(element, { around = (grow) => grow(), isCalm = () => false } = {}) {
    this.#node = element.appendChild(document.createTextNode(''));
    this.#around = around;
    this.#isCalm = isCalm;
  }

  /** All of the text so far. */
  write(text) {
    this.#text = text;
    if (!text.startsWith(this.#node.data)) this.#node.data = '';
    if (this.#isCalm() || document.hidden) this.finish();
    else this.#frame ??= requestAnimationFrame(() => this.#step());
  }

  finish() {
    cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    if (this.#node.data === this.#text) return;
    this.#around(() => (this.#node.data = this.#text));
  }

  #step() {
    this.#frame = undefined;
    const shown = this.#node.data.length;
    const left = this.#text.length - shown;
    if (left <= 0) return;
    let end = shown + Math.max(LEAST, Math.ceil(left * SHARE));
    // The two halves of a character belong together.
    if (/[\uD800-\uDBFF]/.test(this.#text[end - 1] ?? '')) end += 1;
    this.#around(() => this.#node.appendData(this.#text.slice(shown, end)));
    if (end < this.#text.length) this.#frame = requestAnimationFrame(() => this.#step());
  }
}
