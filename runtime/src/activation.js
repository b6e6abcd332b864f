'use strict';
// What this process is at the moment: generic, active as one function, or draining. It decides
// which requests may run (the fence) and counts those that do.

const { describe, failUnanswered } = require('./failure.js');
const { keepCompiledCode, loadModule } = require('./loader.js');
const { Handlers } = require('./handlers.js');
const { HeldRequests } = require('./held.js');

// Characters of a load error that are passed on: a message may hold a whole source file.
const MAX_MESSAGE = 2000;
const MAX_STACK = 64 * 1024;

class Activation {
  #id = null;
  #draining = false;
  #loading = false;
  // Of the activation that is being loaded; null before, undefined after.
  #awaited = null;
  #held = new HeldRequests();
  #onDrained;
  // Responses that are not complete, promises of handlers that have not settled, and connections that
  // were upgraded, which know how to hang up.
  #running = new Set();

  /**
   * @param {object} parts
   * @param {{write(level: string, text: string): void}} parts.log
   * @param {() => void} parts.onDrained called once nothing runs any more after drain()
   */
  constructor({ log, onDrained }) {
    this.log = log;
    this.#onDrained = onDrained;
    this.baseUrl = '';
    this.handlers = null;
    // Called once when requests are refused from then on.
    this.onDrain = () => {};
  }

  /** Whether new requests are refused because this activation ends. */
  get draining() {
    return this.#draining;
  }

  /** Why a request with this activation id must not run: 'fenced', 'draining', or null. */
  refusal(id) {
    if (id !== this.#id) return 'fenced';
    return this.#draining ? 'draining' : null;
  }

  /**
   * Lets a request wait for the activation that its router was told of while it loads.
   *
   * @param {string} id of that activation
   * @param {import('node:http').ServerResponse} res
   * @param {(refusal: string | null) => void} settle see HeldRequests.add
   * @returns {boolean} false when it cannot come any more
   */
  hold(id, res, settle) {
    if (this.#awaited === undefined || this.#draining) return false;
    return (this.#awaited === null || this.#awaited === id) && this.#held.add(id, res, settle);
  }

  /** Runs the requests that wait for what was loaded, and refuses all others. After load(). */
  admitHeld() {
    this.#held.settle((id) => this.refusal(id));
  }

  /** Requests that have not been answered completely. */
  get inFlight() {
    let responses = 0;
    for (const work of this.#running) if (typeof work.then !== 'function') responses++;
    return responses;
  }

  begin(work) {
    this.#running.add(work);
  }

  end(work) {
    this.#running.delete(work);
    if (this.#draining && this.#running.size === 0) this.#tellDrained();
  }

  /**
   * Becomes a function version; once, unless close() comes between.
   *
   * @param {object} order the `load` message of docs/contracts.md
   * @returns {Promise<object>} the `loaded` or `load_failed` message
   */
  async load(order) {
    // Not performance.now(): the first look at `performance` loads it, in 0.8 ms.
    const started = process.hrtime.bigint();
    try {
      if (this.#loading) throw new Error('this process has been given a function already');
      this.#loading = true;
      this.#awaited = order.activation_id;
      this.#held.settle((id) => (id === order.activation_id ? undefined : 'fenced'));
      process.env.NODE_ENV ??= 'production';
      Object.assign(process.env, order.env);
      if (order.cwd) process.chdir(order.cwd);
      if (order.compile_cache) keepCompiledCode(order.compile_cache);
      await this.#open(order);
    } catch (error) {
      const stack = describe(error).slice(0, MAX_STACK);
      this.log.write('error', `the function failed to load: ${stack}`);
      return { type: 'load_failed', message: messageOf(error), stack };
    } finally {
      this.#awaited = undefined;
    }
    return { type: 'loaded', ms: Number(process.hrtime.bigint() - started) / 1e6 };
  }

  // Loads the module and lets requests in that carry the activation id.
  async #open({ activation_id, name, root, entry }) {
    const { exported } = await loadModule(root, entry);
    const handlers = await Handlers.of(name, exported);
    this.handlers = handlers;
    this.baseUrl = `/fn/${name}`;
    this.#id = activation_id;
  }

  /** Lets nobody in, as before load(), which may be called once more. */
  close() {
    this.#loading = false;
    this.#awaited = null;
    this.#id = null;
    this.handlers = null;
    this.baseUrl = '';
  }

  /** Refuses new requests from now on. */
  drain() {
    const before = this.#draining;
    this.#draining = true;
    if (before) return;
    this.#held.settle(() => 'draining');
    this.onDrain();
    if (this.#running.size === 0) this.#tellDrained();
    for (const work of this.#running) work.hangUp?.();
  }

  /** Refuses new requests and answers those that wait for a process that is about to end. */
  crash() {
    this.#draining = true;
    this.#held.settle(() => 'draining');
    this.onDrain();
    this.#onDrained = () => {};
    for (const work of this.#running) {
      if (work.hangUp) work.hangUp();
      else if (typeof work.then !== 'function') failUnanswered(work, 'the function crashed; see its logs');
    }
  }

  #tellDrained() {
    const tell = this.#onDrained;
    this.#onDrained = () => {};
    tell();
  }
}

function messageOf(error) {
  const { message } = error instanceof Error ? error : { message: `threw ${describe(error)}` };
  return typeof message === 'string' ? message.slice(0, MAX_MESSAGE) : describe(message);
}

module.exports = { Activation };
