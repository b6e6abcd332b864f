'use strict';
// WebSockets and whatever else a function speaks over a connection of its own, by the `upgrade` that
// it exports. Such a connection counts as a running request for as long as it is open.

const { FunctionRequest, FunctionResponse } = require('./express.js');
const { FAILED, describe, fail } = require('./failure.js');
const { emitFor, requests } = require('./logs.js');

// For words of farewell when the pod drains, in milliseconds; only where somebody watches req.signal.
const FAREWELL_MS = 1000;

/**
 * @param {import('./activation.js').Activation} activation that the request was admitted to
 * @param {import('node:net').Socket} socket from which Node's server has let go
 * @param {Buffer} head what came behind the request's head
 */
function takeUpgrade(activation, req, socket, head) {
  const tunnel = {
    hangUp() {
      if (FunctionRequest.hangUp(req)) setTimeout(() => socket.destroy(), FAREWELL_MS);
      else socket.destroy();
    },
  };
  activation.begin(tunnel);
  socket.once('close', () => activation.end(tunnel));
  // A client that breaks off is no error of the function, and ends no process.
  socket.on('error', () => {});

  const id = FunctionRequest.idOf(req);
  socket.emit = (...event) => emitFor(socket, id, event);
  const sent = socket.bytesWritten;
  const failed = (error) => {
    activation.log.write('error', `upgrade ${req.originalUrl} failed (request ${id ?? '-'}): ${describe(error)}`, id);
    if (socket.bytesWritten === sent) refuse(req, socket);
    else socket.destroy();
  };
  try {
    const outcome = requests.run(id, activation.handlers.upgrade, req, socket, head);
    if (typeof outcome?.then === 'function') outcome.then(undefined, failed);
  } catch (error) {
    failed(error);
  }
}

function refuse(req, socket) {
  const res = new FunctionResponse(req);
  res.shouldKeepAlive = false;
  res.assignSocket(socket);
  res.on('finish', () => socket.end());
  fail(req, res, 500, FAILED);
}

module.exports = { takeUpgrade };
