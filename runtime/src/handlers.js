'use strict';
// Which function of a module answers a request.

const ACCEPTED =
  'a function may export: one function (req, res), as module.exports or as the default export; ' +
  'or several by name (exports.hello = ..., export function hello), each at /<its name>';

class Handlers {
  #name;
  #named = new Map();
  #index;
  #others;

  /**
   * @param {string} name of the function, for messages
   * @param {unknown} exported what the module exports: module.exports or an ES module's namespace
   * @throws {TypeError} when there is no handler in it
   */
  constructor(name, exported) {
    this.#name = name;
    const config = exported?.config ?? exported?.default?.config;
    this.parsesBody = config?.bodyParser !== false;

    let handlers = exported;
    if (isGroup(handlers) && isGroup(handlers.default)) handlers = handlers.default;
    if (typeof handlers === 'function') {
      this.#others = callable(handlers);
    } else if (isGroup(handlers)) {
      for (const key of Object.keys(handlers)) {
        if (typeof handlers[key] !== 'function') continue;
        this.#named.set(key, callable(handlers[key], handlers));
      }
    }
    if (this.#named.size > 0) {
      this.#others = this.#named.get('default');
      this.#named.delete('default');
      this.#index = this.#named.get('index');
    }
    if (this.#others === undefined && this.#named.size === 0) {
      throw new TypeError(`no handler found: the module exports ${describe(exported)}; ${ACCEPTED}`);
    }
  }

  /**
   * The handler for a request, whose url is already relative to the function. Sets req.params.
   *
   * @returns {((req, res) => unknown) | undefined}
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
    const segment = firstSegment(req.url);
    const what = segment === '' ? 'no handler for its bare path' : `no handler "${segment}"`;
    return `function "${this.#name}" has ${what}; it has: ${[...this.#named.keys()].sort().join(', ')}`;
  }
}

function isGroup(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function callable(handler, group) {
  if (/^class\b/.test(Function.prototype.toString.call(handler))) {
    throw new TypeError(`class ${handler.name} cannot be called as a handler; ${ACCEPTED}`);
  }
  return group === undefined ? handler : handler.bind(group);
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
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object') return `a value of type ${typeof value}`;
  const members = Object.keys(value).filter((key) => key !== '__esModule');
  if (members.length === 0) return 'nothing';
  const shown = members.slice(0, 10).map((key) => `${key} (${value[key] === null ? 'null' : typeof value[key]})`);
  return `no function, only ${shown.join(', ')}${members.length > shown.length ? ', …' : ''}`;
}

module.exports = { Handlers };
