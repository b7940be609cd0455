// The reducer: what a reader knows after any order of messages that the gateway may give.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Story } from '../story.js';

const delta = (i, n, text, { re = 'r', attempt = 1 } = {}) => ({ t: 'delta', re, attempt, i, n, text, cursor: `e-1-aaaa:${re}.${attempt}.${i + n}` });
const snapshot = (upto, text, { re = 'r', attempt = 1 } = {}) => ({ t: 'snapshot', re, attempt, upto, text, cursor: `e-1-aaaa:${re}.${attempt}.${upto}` });
const event = (seq, id, fields = {}) => ({ t: 'event', seq, cursor: `e-${seq}-aaaa`, event: { id, type: 'narration', ...fields } });
const after = (...messages) => {
  const story = new Story();
  const changes = messages.flatMap((message) => story.take(message));
  return { story, changes, kinds: changes.map((change) => change.kind) };
};

test('a draft grows by what is added and ends with its event', () => {
  const { story, changes } = after(delta(0, 2, 'The lamp'), delta(2, 1, ' burns'), event(2, 'r', { text: 'The lamp burns.' }));
  assert.deepEqual(changes.map(({ kind, text, added, done }) => [kind, text, added, done]), [
    ['text', 'The lamp', 'The lamp', false],
    ['text', 'The lamp burns', ' burns', false],
    ['text', 'The lamp burns.', '.', true],
    ['event', undefined, undefined, undefined],
  ]);
  assert.equal(story.drafts.size, 0);
  assert.equal(story.cursor, 'e-2-aaaa');
});

test('what was seen already changes nothing', () => {
  const { story, changes } = after(delta(0, 2, 'ab'), delta(0, 1, 'a'), delta(1, 1, 'b'), snapshot(2, 'ab'), snapshot(1, 'a'));
  assert.equal(changes.length, 1);
  assert.equal(story.drafts.get('r').text, 'ab');
});

test('a delta that begins elsewhere is a hole, and the cursor stays where it was', () => {
  for (const bad of [delta(3, 1, 'd'), delta(1, 2, 'bc'), delta(1, 1, 'x', { re: 'other' }), delta(1, 1, 'x', { attempt: 2 })]) {
    const { story, kinds } = after(delta(0, 2, 'ab'), bad);
    assert.deepEqual(kinds, ['text', 'hole']);
    assert.equal(story.cursor, 'e-1-aaaa:r.1.2');
    assert.equal(story.restart(), 'e-1-aaaa');
    assert.equal(story.drafts.get('r').text, 'ab');
  }
});

test('a new attempt replaces the text, and the old one adds nothing more', () => {
  const { story, changes } = after(delta(0, 1, 'old'), { t: 'reset', re: 'r', attempt: 2 }, delta(1, 1, 'er'), delta(0, 1, 'new', { attempt: 2 }));
  assert.deepEqual(changes.map(({ text, added }) => [text, added]), [['old', 'old'], ['', null], ['new', 'new']]);
  assert.equal(story.drafts.get('r').text, 'new');
});

test('a snapshot gives a late reader all of it, and one that was there the rest', () => {
  assert.deepEqual(after(snapshot(3, 'abc')).changes[0].added, null);
  assert.deepEqual(after(delta(0, 1, 'a'), snapshot(3, 'abc')).changes[1].added, 'bc');
  assert.equal(after(snapshot(3, 'abc'), delta(3, 1, 'd')).story.drafts.get('r').text, 'abcd');
});

test('committed text that differs replaces what was shown', () => {
  const { changes } = after(delta(0, 1, 'a rude word'), event(2, 'r', { text: 'a word' }));
  assert.deepEqual([changes[1].text, changes[1].added, changes[1].done], ['a word', null, true]);
});

test('a draft that never comes is removed, and may be tried again', () => {
  const { story, changes } = after(delta(0, 1, 'half'), { ...event(2, 'f', { type: 'failed' }), void: ['r'] }, delta(0, 1, 'again', { attempt: 2 }));
  assert.deepEqual(changes.map(({ kind, why }) => [kind, why]), [['text', undefined], ['event', undefined], ['removed', 'void'], ['text', undefined]]);
  assert.equal(story.drafts.get('r').text, 'again');
});

test('a draft that is blocked is removed with the reason', () => {
  const verdict = { type: 'verdict', decision: 'block', target: 'r', reason: 'no' };
  const { story, changes } = after(delta(0, 1, 'half'), { ...event(2, 'v', verdict), void: ['r'] });
  const { kind, id, why, reason } = changes.at(-1);
  assert.deepEqual([kind, id, why, reason], ['removed', 'r', 'blocked', 'no']);
  assert.equal(story.drafts.size, 0);
});

test('a draft that failed while nobody listened is removed when all was told again', () => {
  const { story, changes } = after(delta(0, 1, 'half'), delta(0, 1, 'x', { re: 's' }), event(2, 'f', { type: 'failed' }), { t: 'live', drafts: ['s'] });
  assert.deepEqual([changes.at(-1).kind, changes.at(-1).id, changes.at(-1).why], ['removed', 'r', 'void']);
  assert.deepEqual([...story.drafts.keys()], ['s']);
  assert.equal(story.cursor, 'e-2-aaaa');
});

test('what is retracted is removed, as a draft and as an event, and does not come back', () => {
  const gone = { t: 'retracted', seq: 3, cursor: 'e-3-aaaa', event: { id: 'x', type: 'retracted', target: 'r', reason: 'no' } };
  for (const before of [[delta(0, 1, 'bad')], [event(2, 'r', { text: 'bad' })]]) {
    const { story, changes } = after(...before, gone, delta(1, 1, 'worse'), snapshot(4, 'worst'));
    const { kind, id, why, reason } = changes.at(-1);
    assert.deepEqual([kind, id, why, reason], ['removed', 'r', 'retracted', 'no']);
    assert.equal(story.drafts.size, 0);
  }
});

test('an event that was seen already is not told again', () => {
  assert.deepEqual(after(event(2, 'a'), event(2, 'a'), event(1, 'b')).kinds, ['event']);
});

test('after a gap everything is told anew', () => {
  const { story, kinds } = after(event(9, 'a'), delta(0, 1, 'x'), { t: 'gap', cursor: 'f-0-0000' }, event(1, 'a'), snapshot(1, 'y'));
  assert.deepEqual(kinds, ['event', 'text', 'gap', 'event', 'text']);
  assert.equal(story.drafts.get('r').text, 'y');
});

test('two drafts grow side by side', () => {
  const { story } = after(delta(0, 1, 'a'), delta(0, 1, 'x', { re: 's' }), delta(1, 1, 'b'), delta(1, 1, 'y', { re: 's' }));
  assert.deepEqual([story.drafts.get('r').text, story.drafts.get('s').text], ['ab', 'xy']);
});

// A reader of every cut: at each message it may be cut off and given the rest, a snapshot, or things twice.
test('whatever way the rest comes, each character is there once', () => {
  for (let seed = 1; seed <= 2000; seed += 1) {
    const random = dice(seed);
    const chunks = Array.from({ length: 1 + random(30) }, (_, i) => String.fromCodePoint(0x1f600 + i));
    const story = new Story();
    let shown = '';
    const take = (message) => {
      for (const change of story.take(message)) {
        assert.notEqual(change.kind, 'hole', `seed ${seed}`);
        if (change.kind !== 'text') continue;
        shown = change.added === null ? change.text : shown + change.added;
        assert.equal(shown, change.text);
      }
    };
    for (let i = 0; i < chunks.length; ) {
      const n = 1 + random(Math.min(4, chunks.length - i));
      const way = random(4);
      if (way === 0) take(snapshot(i + n, chunks.slice(0, i + n).join('')));
      else take(delta(i, n, chunks.slice(i, i + n).join('')));
      if (way === 1) take(delta(i, n, chunks.slice(i, i + n).join('')));
      i += n;
      assert.equal(shown, chunks.slice(0, i).join(''), `seed ${seed}`);
    }
    take(event(2, 'r', { text: chunks.join('') }));
    assert.equal(shown, chunks.join(''));
  }
});

function dice(seed) {
  let state = seed;
  return (below) => {
    state = (state * 1103515245 + 12345) % 2 ** 31;
    return Math.floor((state / 2 ** 31) * below);
  };
}
