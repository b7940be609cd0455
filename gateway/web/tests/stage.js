// The stage of the client's tests: a gateway that is nothing but what the test says for it.
import assert from 'node:assert/strict';

import { connect } from '../client.js';

export const WELCOME = () => ({ t: 'welcome', sub: 'u', name: 'U', expires_at: Date.now() / 1000 + 3600, ping_ms: 15000 });

/** Lets time pass where a test has taken the clock: `t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })`. */
export async function pass(t, ms) {
  for (let passed = 0; passed < ms; passed += 50) {
    t.mock.timers.tick(50);
    await new Promise(setImmediate);
  }
}

/** A gateway that a test speaks for, or `hears(message, socket)` does. */
export function stage(t, { hears = () => {}, ...options } = {}) {
  const sockets = [];
  class Socket {
    said = [];
    constructor(url) {
      this.url = String(url);
      sockets.push(this);
      setImmediate(() => this.onopen());
    }
    send(text) {
      const message = JSON.parse(text);
      this.said.push(message);
      setImmediate(() => hears(message, this));
    }
    close() {}
    hear(message) {
      this.onmessage({ data: JSON.stringify(message) });
    }
    end(code, reason = '') {
      this.onclose({ code, reason });
    }
  }
  const states = [];
  const asked = [];
  const gateway = connect({
    url: 'http://gateway.test',
    transport: 'ws',
    WebSocket: Socket,
    getToken: async ({ renew }) => asked.push(renew) && `token ${asked.length}`,
    onState: (state) => states.push(state),
    ...options,
  });
  t.after(() => gateway.close());
  const until = async (ask) => {
    const end = performance.now() + 30_000;
    while (!ask()) {
      assert.ok(performance.now() < end, `not in time: ${ask}`);
      await new Promise(setImmediate);
    }
    return ask();
  };
  const said = (kind) => sockets.at(-1)?.said.find((message) => message.t === kind);
  const welcome = () => sockets.at(-1).hear(WELCOME());
  /** The nth socket, up to its first join. */
  const joined = async (n) => {
    await until(() => sockets.length === n && sockets.at(-1).said.length > 0);
    welcome();
    return until(() => said('join'));
  };
  return { gateway, sockets, states, asked, until, said, welcome, joined };
}
