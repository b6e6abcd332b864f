'use strict';
// Functions written for Google Cloud register handlers by name instead of exporting them. Theirs is
// the package's interface; in its place stands this one, which opens no port and loads nothing.

const fs = require('node:fs');
const path = require('node:path');

const PACKAGE = '@google-cloud/functions-framework';
const NAME = /^[A-Za-z](?:[-_A-Za-z0-9]{0,61}[A-Za-z0-9])?$/;

/**
 * Makes `require` and `import` of the function's own copy of the package give our registry.
 *
 * @param {string} root folder of the function, with its node_modules
 * @param {NodeJS.Require} require the entry's
 * @returns {Map<string, Function>} handlers by name, in which registered ones appear
 */
function interceptRegistrations(root, require) {
  const handlers = new Map();
  if (!fs.existsSync(path.join(root, 'node_modules', PACKAGE))) return handlers;
  const { Module } = require('node:module');
  const module = new Module(require.resolve(PACKAGE));
  module.filename = module.id;
  module.loaded = true;
  module.exports = registry(handlers);
  require.cache[module.id] = module;
  return handlers;
}

function registry(handlers) {
  return {
    http(name, handler) {
      if (!NAME.test(name)) throw new Error(`Invalid function name: ${name}`);
      if (typeof handler !== 'function') throw new TypeError(`functions.http('${name}') needs a function, not a ${typeof handler}`);
      handlers.set(name, handler);
    },
    cloudEvent(name) {
      throw new Error(`functions.cloudEvent('${name}') cannot be served: functions are called over HTTP; use functions.http`);
    },
  };
}

/**
 * What a module with registered handlers exports, so to speak: the one that FUNCTION_TARGET names, the
 * only one, or all by name.
 *
 * @param {Map<string, Function>} handlers
 * @param {unknown} exported what it really exports; only its `config` and `upgrade` count
 */
function asExports(handlers, exported) {
  const target = handlers.get(process.env.FUNCTION_TARGET) ?? (handlers.size === 1 ? [...handlers.values()][0] : undefined);
  const { config, upgrade } = exported ?? {};
  return { ...(target ? { default: target } : Object.fromEntries(handlers)), config, upgrade };
}

module.exports = { asExports, interceptRegistrations };
