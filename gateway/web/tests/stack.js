// The stage of the page's tests: a real redis-server, the mock model, one worker of each agent and a gateway, each a
// process of its own; between the gateway and its readers a wire that can be cut.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const BINARIES = process.env.STORYFLEET_BINARIES ?? fileURLToPath(new URL('../../../target/debug', import.meta.url));
const DEADLINE = 30_000;

/** Asks until there is an answer; tells what it waited for. */
export async function eventually(what, ask, deadline = DEADLINE) {
  const end = Date.now() + deadline;
  let last;
  while (Date.now() < end) {
    try {
      const found = await ask();
      if (found) return found;
    } catch (error) {
      last = error;
    }
    await new Promise((then) => setTimeout(then, 20));
  }
  throw new Error(`not in time: ${what}${last ? ` (${last.message})` : ''}`);
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

export class Stack {
  #children = new Set();
  #folder = mkdtempSync(path.join(tmpdir(), 'storyfleet-page-'));
  #secret = path.join(this.#folder, 'secret');
  #gatewayPort;

  /** `between`: ms between two tokens; `scenario`: YAML of the mock's rules. */
  static async start({ between = 15, scenario = '' } = {}) {
    const stack = new Stack();
    try {
      await stack.#start(between, scenario);
    } catch (error) {
      await stack.stop();
      throw error;
    }
    return stack;
  }

  async #start(between, scenario) {
    writeFileSync(this.#secret, `${randomBytes(48).toString('base64url')}\n`);
    const rules = path.join(this.#folder, 'scenario.yaml');
    writeFileSync(rules, scenario || 'rules: []\n');
    const redisPort = await freePort();
    this.#run('redis-server', ['--port', redisPort, '--save', '', '--appendonly', 'no', '--dir', this.#folder]);
    this.redis = `redis://127.0.0.1:${redisPort}`;
    await eventually('redis listens', () => connects(redisPort));
    const llm = await this.#model(between, rules);
    for (const agent of ['narrator', 'dialogue', 'moderator']) {
      this.#run(path.join(BINARIES, agent), ['run', '--redis', this.redis, '--llm', llm, '--model', 'mock']);
    }
    this.#gatewayPort = await freePort();
    this.behind = `http://127.0.0.1:${this.#gatewayPort}`;
    await this.startGateway();
    this.wire = await Wire.start(this.#gatewayPort);
    this.url = `http://127.0.0.1:${this.wire.port}`;
  }

  async #model(between, rules) {
    const model = this.#run(path.join(BINARIES, 'mock-llm'), ['--json', '--itl', `${between}ms`, '--scenario', rules]);
    const [line] = await once(createInterface(model.stdout), 'line');
    return JSON.parse(line).base_url;
  }

  async startGateway() {
    const listen = `127.0.0.1:${this.#gatewayPort}`;
    const options = ['run', '--listen', listen, '--redis', this.redis, '--jwt-secrets', this.#secret, '--drain', '2s', '--publishes', '100000', '--requests', '100000'];
    this.gateway = this.#run(path.join(BINARIES, 'gateway'), options);
    await eventually('the gateway listens', () => connects(this.#gatewayPort));
  }

  async endGateway(signal) {
    this.gateway.kill(signal);
    if (this.gateway.exitCode === null && this.gateway.signalCode === null) await once(this.gateway, 'exit');
  }

  /** A token of somebody with this role in all stories, or in one. */
  async token(sub, { name = sub, story = '*', role = 'owner' } = {}) {
    const options = ['token', '--sub', sub, '--name', name, '--story', `${story}=${role}`, '--ttl', '1h', '--secret-file', this.#secret];
    const child = this.#run(path.join(BINARIES, 'storyfleet'), options);
    const [line] = await once(createInterface(child.stdout), 'line');
    return line;
  }

  /** Every gateway knows it when this is done. */
  async revoke(sub) {
    const child = this.#run(path.join(BINARIES, 'storyfleet'), ['revoke', '--redis', this.redis, '--sub', sub]);
    await once(child, 'exit');
  }

  /** Sets what Redis goes by. */
  async configure(name, value) {
    const child = this.#run('redis-cli', ['-u', this.redis, 'config', 'set', name, value]);
    const [code] = await once(child, 'exit');
    if (code) throw new Error(`redis-cli ended with ${code}`);
  }

  /** `url`: `behind` for a way beside the wire. */
  async api(token, place, { method = 'GET', body, url = this.url } = {}) {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const response = await fetch(`${url}${place}`, { method, headers, body: body && JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${response.status} ${answer.code}: ${answer.detail}`);
    return answer;
  }

  create(token, id, more = {}) {
    const characters = { Sibyl: { description: 'The keeper of the lamp.', voice: 'Dry.' } };
    return this.api(token, '/v1/stories', { method: 'POST', body: { id, title: 'The lamp', premise: 'The lamp went out.', characters, ...more } });
  }

  say(token, story, text, more = {}) {
    return this.api(token, `/v1/stories/${story}/events`, { method: 'POST', body: { mode: 'do', text, ...more } });
  }

  async log(token, story) {
    const { events } = await this.api(token, `/v1/stories/${story}/events?limit=500`);
    return events.map(({ event }) => event);
  }

  /** Waits for the answer to an action: its events that have words. */
  answer(token, story, id) {
    return eventually(`an answer to ${id}`, async () => {
      const log = await this.log(token, story);
      return log.find((event) => event.cause?.includes(id) && event.text);
    });
  }

  #run(program, options) {
    const child = spawn(program, options.map(String), { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, RUST_LOG: 'warn' } });
    this.#children.add(child);
    child.stdout.resume();
    child.on('exit', (code) => {
      this.#children.delete(child);
      if (code) console.error(`${path.basename(program)} ended with ${code}`);
    });
    return child;
  }

  async stop() {
    this.wire?.stop();
    const ends = [...this.#children].map((child) => once(child, 'exit'));
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.all(ends);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * A way to a port that can be cut: what goes through it is broken off, and nothing gets through until it is mended. Or
 * held: nothing goes through it either, and nobody is told.
 */
class Wire {
  #pairs = new Set();
  #isCut = false;
  #isHeld = false;

  static async start(to) {
    const wire = new Wire();
    wire.server = net.createServer((near) => wire.#join(near, to)).listen(0, '127.0.0.1');
    await once(wire.server, 'listening');
    wire.port = wire.server.address().port;
    return wire;
  }

  #join(near, to) {
    if (this.#isCut) return near.destroy();
    const far = net.connect(to, '127.0.0.1');
    const end = () => {
      near.destroy();
      far.destroy();
      this.#pairs.delete(end);
    };
    this.#pairs.add(end);
    for (const [from, into] of [[near, far], [far, near]]) {
      from.on('data', (bytes) => this.#isHeld || into.write(bytes));
      from.on('close', end);
      from.on('error', end);
    }
    return undefined;
  }

  cut() {
    this.#isCut = true;
    this.snap();
  }

  /** Breaks off what goes through it; who comes back gets through. */
  snap() {
    for (const end of this.#pairs) end();
  }

  hold() {
    this.#isHeld = true;
  }

  /** What was held has lost bytes: it does not go on. */
  mend() {
    if (this.#isHeld) this.snap();
    this.#isCut = this.#isHeld = false;
  }

  stop() {
    this.cut();
    this.server.close();
  }
}

function connects(port) {
  return new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.on('connect', () => socket.end(() => resolve(true)));
    socket.on('error', () => resolve(false));
  });
}
