'use strict';
// Apps of frameworks that may be a function. They are known by their members: each function brings
// its own copy of its framework.

/**
 * @param {unknown} value something exported
 * @returns {Promise<((req, res) => unknown) | null>} the listener of an app, once the app is ready; null
 *   for anything else
 */
async function listenerOf(value) {
  const has = (...members) => members.every((member) => typeof value?.[member] === 'function');
  if (typeof value === 'function') {
    // Express 4 and 5, and connect. Without `next` they answer with their own 404 and 500. A lone
    // router has no listen(), and is a handler like others.
    return has('handle', 'use', 'listen') ? (req, res) => value(req, res) : null;
  }
  if (has('callback', 'use', 'listen')) return value.callback(); // Koa
  if (has('routing', 'ready', 'listen')) {
    await value.ready();
    return (req, res) => value.routing(req, res); // Fastify
  }
  return null;
}

module.exports = { listenerOf };
