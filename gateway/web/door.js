// Who comes in, and to which story: what the address brings, what the tab remembers, and the form that asks for the rest.

const REMEMBERED = 'storyfleet.token';

/**
 * What stands behind the # of the address: {token, ticket, story}. What is secret is taken out of the address at once.
 */
export function arrive() {
  const said = new URLSearchParams(location.hash.slice(1));
  const [token, ticket, story] = ['token', 'ticket', 'story'].map((name) => said.get(name) ?? undefined);
  if (token || ticket) show(story);
  return { token, ticket, story };
}

/** Names the story in the address, so that a reload and whoever it is shared with find it. */
export function show(story) {
  const place = story ? `#story=${encodeURIComponent(story)}` : location.pathname;
  history.replaceState(null, '', place);
}

/**
 * The token of this tab: kept until the tab is closed, so that a reload goes on. Where the browser allows no storage a
 * reload asks for it again.
 */
export const keys = {
  get token() {
    return current;
  },
  set token(given) {
    current = given;
    remember((storage) => (given ? storage.setItem(REMEMBERED, given) : storage.removeItem(REMEMBERED)));
  },
};

let current = remember((storage) => storage.getItem(REMEMBERED)) ?? undefined;

function remember(how) {
  try {
    return how(sessionStorage);
  } catch {
    // It is known until the page is left.
    return undefined;
  }
}

/** One request of the API. @throws {Problem} */
export async function ask(path, { method = 'GET', body, token } = {}) {
  const headers = {};
  if (token) headers.authorization = `Bearer ${token}`;
  if (body) headers['content-type'] = 'application/json';
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  // What is no JSON is of something on the way to the gateway.
  const answer = await response.json().catch(() => undefined);
  if (!response.ok || !answer) throw new Problem(response.status, { detail: `status ${response.status}`, ...answer });
  return answer;
}

export class Problem extends Error {
  constructor(status, { code, detail }) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** A token for a ticket, if this gateway signs tokens; else the ticket is as good as before. */
export async function redeem(ticket) {
  try {
    const { token } = await ask(`/v1/tokens?ticket=${encodeURIComponent(ticket)}`, { method: 'POST' });
    return { token };
  } catch (problem) {
    if (problem.code === 'not_issued_here') return { ticket };
    throw problem;
  }
}

/** The form. `onOpen({token, story, made})`: `made` when the story is to be created first. */
export class Door {
  #at = (id) => document.getElementById(id);
  #onOpen;

  constructor(onOpen) {
    this.#onOpen = onOpen;
    this.#at('enter').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#open();
    });
    this.#at('create').addEventListener('click', () => this.#at('enter').reportValidity() && this.#open(this.#made()));
  }

  /** @param {object} known `story` to begin with, `problem` to tell, `asks` whether a token is needed. */
  open({ story, problem, asks }) {
    this.#at('door').hidden = false;
    this.#at('token-field').hidden = !asks;
    this.#at('token').required = asks;
    this.#at('token').value = '';
    if (story) this.#at('story').value = story;
    this.#at('door-problem').hidden = !problem;
    this.#at('door-problem').textContent = problem ?? '';
    this.#at(asks ? 'token' : 'story').focus();
  }

  close() {
    this.#at('door').hidden = true;
    this.#at('token').value = '';
  }

  #open(made) {
    this.#onOpen({ token: this.#at('token').value.trim() || undefined, story: this.#at('story').value.trim(), made });
  }

  #made() {
    const lines = this.#at('new-characters').value.split('\n');
    const pairs = lines.map((line) => line.split(/:(.*)/s)).map(([name, words = '']) => [name.trim(), words.trim()]);
    const characters = pairs.filter(([name]) => name).map(([name, description]) => [name, { description }]);
    return {
      title: this.#at('new-title').value.trim(),
      premise: this.#at('new-premise').value.trim(),
      characters: Object.fromEntries(characters),
      policies: { input: this.#at('new-moderated').checked ? 'hold' : 'off' },
    };
  }
}
