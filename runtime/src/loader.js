'use strict';
// Loads a function's module as Node itself would: CommonJS, ES modules, and TypeScript by type
// stripping.

const { createRequire } = require('node:module');
const path = require('node:path');

/**
 * @param {string} root absolute path of the unpacked bundle
 * @param {string} entry the module's path, relative to root
 * @returns {Promise<unknown>} module.exports, or the namespace of an ES module
 */
async function loadModule(root, entry) {
  const file = path.join(root, entry);
  process.argv[1] = file;
  const require = createRequire(file);
  try {
    return require(file);
  } catch (error) {
    // require() takes ES modules too, and faster than import(), but not with top-level await. It
    // finds that out before it runs any of them.
    if (error?.code !== 'ERR_REQUIRE_ASYNC_MODULE') throw error;
    const { pathToFileURL } = require('node:url');
    return await import(pathToFileURL(file));
  }
}

/** Removes a module from the caches of require(). */
function forgetModule(file) {
  const { Module } = require('node:module');
  delete Module._cache[file];
  for (const key of Object.keys(Module._pathCache)) {
    if (Module._pathCache[key] === file) delete Module._pathCache[key];
  }
}

module.exports = { loadModule, forgetModule };
