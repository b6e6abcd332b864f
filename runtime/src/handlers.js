'use strict';
// Which function of a module answers a request.

const { listenerOf } = require('./apps.js');

const ACCEPTED =
  'a function may export: one function (req, res) or an Express, Koa or Fastify app, as module.exports or as the ' +
  'default export; or several by name (exports.hello = ..., export function hello), each at /<its name>';

/**
 * @typedef {object} Handler
 * @property {(req, res) => unknown} listener
 * @property {boolean} readsBody the listener reads the request's body itself
 */

class Handlers {
  #name;
  #named = new Map();
  #index;
  #others;

  /** @type {((req, socket, head: Buffer) => unknown) | undefined} takes WebSockets and the like */
  upgrade;
  /** @type {number | undefined} the function's own limit of parsed bodies, in bytes */
  bodyLimit;

  /**
   * @param {string} name of the function, for messages
   * @param {unknown} exported what the module exports: module.exports or an ES module's namespace
   * @returns {Promise<Handlers>} once its apps are ready
   * @throws {TypeError} when there is no handler in it
   */
  static async of(name, exported) {
    const handlers = new Handlers();
    handlers.#name = name;
    await handlers.#collect(exported);
    return handlers;
  }

  async #collect(exported) {
    const config = exported?.config ?? exported?.default?.config;
    const bodyParser = config?.bodyParser ?? config?.api?.bodyParser;
    this.bodyLimit = limitOf(bodyParser?.sizeLimit);
    const readsBody = bodyParser === false;
    const upgrade = exported?.upgrade ?? exported?.default?.upgrade;
    if (typeof upgrade === 'function') this.upgrade = upgrade;

    const only = await handlerOf(exported, readsBody);
    if (only !== null) {
      this.#others = only;
    } else if (isGroup(exported)) {
      await this.#collectNamed(exported, readsBody);
      // An ES module's default export may be the object of handlers.
      if (typeof exported.default?.fetch === 'function' && !this.#named.has('default')) {
        throw new TypeError(`the default export has fetch(), for web-standard requests, which is not called here; ${ACCEPTED}`);
      }
      if (isGroup(exported.default) && !this.#named.has('default')) await this.#collectNamed(exported.default, readsBody);
    }
    if (this.#named.size > 0) {
      this.#others = this.#named.get('default');
      this.#named.delete('default');
      this.#index = this.#named.get('index');
    }
    if (this.#others === undefined && this.#named.size === 0 && this.upgrade === undefined) {
      throw new TypeError(`no handler found: the module exports ${describe(exported)}; ${ACCEPTED}`);
    }
  }

  async #collectNamed(group, readsBody) {
    for (const key of Object.keys(group)) {
      const handler = key === 'upgrade' ? null : await handlerOf(group[key], readsBody, group);
      if (handler !== null) this.#named.set(key, handler);
    }
  }

  /**
   * The handler for a request, whose url is already relative to the function. Sets req.params.
   *
   * @returns {Handler | undefined}
   */
  select(req) {
    if (this.#named.size === 0) {
      req.params = {};
      return this.#others;
    }
    const segment = firstSegment(req.url);
    const handler = segment === '' ? (this.#index ?? this.#others) : this.#named.get(segment);
    req.params = handler === undefined || segment === '' ? {} : { handler: segment };
    return handler ?? this.#others;
  }

  /** Why select() found none. */
  unknown(req) {
    if (this.#named.size === 0) return `function "${this.#name}" answers upgrades only, such as WebSockets`;
    const segment = firstSegment(req.url);
    const what = segment === '' ? 'no handler for its bare path' : `no handler "${segment}"`;
    return `function "${this.#name}" has ${what}; it has: ${[...this.#named.keys()].sort().join(', ')}`;
  }
}

function limitOf(sizeLimit) {
  if (sizeLimit === undefined) return undefined;
  const limit = require('bytes').parse(sizeLimit);
  if (limit === null) throw new TypeError(`config.bodyParser.sizeLimit is ${sizeLimit}; write bytes, or such as '4mb'`);
  return limit;
}

function isGroup(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What an exported value is as a handler; null when it is none. `this` in it is the group. */
async function handlerOf(value, readsBody, group) {
  const app = await listenerOf(value);
  if (app !== null) return { listener: app, readsBody: true };
  if (typeof value !== 'function') return null;
  if (/^class\b/.test(Function.prototype.toString.call(value))) {
    throw new TypeError(`class ${value.name} cannot be called as a handler; ${ACCEPTED}`);
  }
  const bound = group === undefined ? value : value.bind(group);
  const listener = value.length < 3 ? bound : (req, res) => bound(req, res, req.next);
  return { listener, readsBody };
}

function firstSegment(url) {
  const [segment] = url.slice(1).split(/[/?]/, 1);
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

function describe(value) {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object') return `a value of type ${typeof value}`;
  if (typeof value.then === 'function') return 'a promise (await what it gives, at the top level of an ES module)';
  const members = Object.keys(value).filter((key) => key !== '__esModule');
  if (members.length === 1 && members[0] === 'default') return `as default ${describe(value.default)}`;
  const kind = Object.getPrototypeOf(value)?.constructor?.name ?? 'Object';
  const what = kind === 'Object' ? '' : `an instance of ${kind} with `;
  if (members.length === 0) return `${what}nothing`;
  const shown = members.slice(0, 10).map((key) => `${key} (${value[key] === null ? 'null' : typeof value[key]})`);
  return `${what}no function, only ${shown.join(', ')}${members.length > shown.length ? ', …' : ''}`;
}

module.exports = { Handlers };
