// What is known of one story, from the messages of a WebSocket or a stream. Pure: no clock, no network, no page.
//
//   const story = new Story();
//   for (const change of story.take(message)) …
//
// A change is one of
//   {kind: 'event', seq, event}                          something happened; its text is final
//   {kind: 'text', re, attempt, text, added, done}       a response grows: `text` is all of it, `added` what is new at its
//                                                        end, or null where the text was replaced; done with its event
//   {kind: 'removed', id, why, reason}                   it is to be shown no more: 'retracted', 'blocked' before it was whole, or
//                                                        'void', failed and perhaps tried again
//   {kind: 'gap'}                                        forget everything: the story is told anew from here
//   {kind: 'hole'}                                       characters are missing: join again with `restart()`
// `re` is the id that the response's event will have.

/** Ids of responses that are over, in case a late piece of one comes. */
const OVER = 256;

export class Story {
  /** Where to go on after a cut; undefined before the first message. */
  cursor;
  /** The place of the last event; 0 = none. */
  seq = 0;
  /** Responses that are being generated: id → {attempt, upto, text}. */
  drafts = new Map();
  #over = new Set();

  /** @returns {object[]} the changes, in order. */
  take(message) {
    const changes = this.#changes(message);
    const isWhole = !changes.some((change) => change.kind === 'hole');
    if (message.cursor !== undefined && isWhole) this.cursor = message.cursor;
    return changes;
  }

  /** The cursor without its place in a draft: after it drafts come whole. */
  restart() {
    this.cursor = this.cursor?.split(':')[0];
    return this.cursor;
  }

  #changes(message) {
    switch (message.t) {
      case 'event':
      case 'retracted':
        return this.#event(message);
      case 'delta':
        return this.#delta(message);
      case 'reset':
        return this.#whole(message, 0, '');
      case 'snapshot':
        return this.#whole(message, message.upto, message.text);
      case 'live':
        return this.#live(message);
      case 'gap':
        this.seq = 0;
        this.drafts.clear();
        this.#over.clear();
        return [{ kind: 'gap' }];
      default:
        return [];
    }
  }

  #event({ seq, event, void: ended = [] }) {
    if (seq <= this.seq) return [];
    this.seq = seq;
    const changes = [];
    const draft = this.drafts.get(event.id);
    this.#end(event.id);
    if (draft && typeof event.text === 'string') {
      const { text } = event;
      const added = text.startsWith(draft.text) ? text.slice(draft.text.length) : null;
      changes.push({ kind: 'text', re: event.id, attempt: draft.attempt, text, added, done: true });
    }
    changes.push({ kind: 'event', seq, event });
    for (const id of ended) {
      const isBlocked = event.type === 'verdict' && event.target === id;
      // What failed may be tried again by hand, so that its id is not over.
      const [why, reason] = isBlocked ? ['blocked', event.reason ?? ''] : ['void', ''];
      if (this.drafts.delete(id)) changes.push({ kind: 'removed', id, why, reason });
    }
    if (event.type === 'retracted') {
      this.#end(event.target);
      changes.push({ kind: 'removed', id: event.target, why: 'retracted', reason: event.reason ?? '' });
    }
    return changes;
  }

  #delta({ re, attempt, i, n, text: added }) {
    if (this.#over.has(re)) return [];
    const draft = this.drafts.get(re);
    const isNew = !draft || attempt > draft.attempt;
    if (isNew) {
      if (i > 0) return [{ kind: 'hole' }];
      this.drafts.set(re, { attempt, upto: n, text: added });
      return [text(re, this.drafts.get(re), draft ? null : added)];
    }
    if (attempt < draft.attempt || i + n <= draft.upto) return [];
    // Chunks have no bounds inside a message, so that a part of one cannot be cut off.
    if (i !== draft.upto) return [{ kind: 'hole' }];
    draft.text += added;
    draft.upto += n;
    return [text(re, draft, added)];
  }

  #whole({ re, attempt }, upto, all) {
    if (this.#over.has(re)) return [];
    const draft = this.drafts.get(re);
    if (draft && (attempt < draft.attempt || (attempt === draft.attempt && upto <= draft.upto))) return [];
    const grows = draft && attempt === draft.attempt && all.startsWith(draft.text);
    this.drafts.set(re, { attempt, upto, text: all });
    return [text(re, this.drafts.get(re), grows ? all.slice(draft.text.length) : null)];
  }

  /** All there is was told. What is not being written any more failed while nobody listened. */
  #live({ drafts }) {
    const left = [...this.drafts.keys()].filter((id) => !drafts.includes(id));
    for (const id of left) this.drafts.delete(id);
    return left.map((id) => ({ kind: 'removed', id, why: 'void', reason: '' }));
  }

  #end(id) {
    this.drafts.delete(id);
    this.#over.add(id);
    if (this.#over.size > OVER) this.#over.delete(this.#over.values().next().value);
  }
}

function text(re, { attempt, text: all }, added) {
  return { kind: 'text', re, attempt, text: all, added, done: false };
}
