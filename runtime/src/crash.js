'use strict';
// An error that no request can be blamed for leaves the process in an unknown state: running
// requests are answered, the stack is logged, and the process ends. The sidecar starts another.

const { describe } = require('./failure.js');

// Taken before any function's code can replace them, with clocks of its tests for instance.
const { exit } = process;
const { setTimeout } = globalThis;

// For the answers and the log lines to leave, in milliseconds.
const LAST_WORDS_MS = 100;

/** @param {import('./activation.js').Activation} activation */
function crashOnUncaught(activation) {
  let crashing = false;
  process.on('uncaughtException', (error, origin) => {
    activation.log.write('error', `${origin}, the process ends: ${describe(error)}`);
    if (crashing) return;
    crashing = true;
    activation.crash();
    setTimeout(() => exit.call(process, 1), LAST_WORDS_MS);
  });
}

module.exports = { crashOnUncaught };
