'use strict';
// Loads a function's module as Node itself would: CommonJS, ES modules, and TypeScript by type
// stripping.

const { createRequire } = require('node:module');
const path = require('node:path');
const { asExports, interceptRegistrations } = require('./google.js');

/**
 * @param {string} root absolute path of the unpacked bundle
 * @param {string} entry the module's path, relative to root
 * @returns {Promise<{exported: unknown}>} module.exports, or the namespace of an ES module; or handlers
 *   that the module registered. Wrapped, since a promise may be what it exports.
 */
async function loadModule(root, entry) {
  const file = path.join(root, entry);
  process.argv[1] = file;
  const require = createRequire(file);
  const registered = interceptRegistrations(root, require);
  const { exported } = await evaluate(file, require);
  return { exported: registered.size > 0 ? asExports(registered, exported) : exported };
}

async function evaluate(file, require) {
  try {
    return { exported: require(file) };
  } catch (error) {
    // require() takes ES modules too, and faster than import(), but not with top-level await. It
    // finds that out before it runs any of them.
    if (error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    const { pathToFileURL } = require('node:url');
    return { exported: await import(pathToFileURL(file)) };
  }
}

// In milliseconds: after the first requests, which compile what loading did not.
const FLUSH_AFTER = 1000;

/**
 * Takes compiled code, and TypeScript without its types, from a folder, and puts there what is not
 * in it yet. Processes may share one.
 */
function keepCompiledCode(folder) {
  const { enableCompileCache, flushCompileCache } = require('node:module');
  enableCompileCache(folder);
  // Node itself writes when a process ends in order, and this one is killed.
  setTimeout(flushCompileCache, FLUSH_AFTER).unref();
}

/** Removes a module from the caches of require(). */
function forgetModule(file) {
  const { Module } = require('node:module');
  delete Module._cache[file];
  for (const key of Object.keys(Module._pathCache)) {
    if (Module._pathCache[key] === file) delete Module._pathCache[key];
  }
}

module.exports = { keepCompiledCode, loadModule, forgetModule };
