'use strict';
// One runtime process serves one activation of one function. The sidecar starts it, tells it over
// the control socket what to load, and kills it when the activation ends; see docs/contracts.md.

const { Activation } = require('./activation.js');
const { ControlSocket } = require('./control.js');
const { captureOutput } = require('./logs.js');
const { createServer, listen } = require('./server.js');
const { crashOnUncaught } = require('./crash.js');
const { warm } = require('./warm.js');

async function main() {
  const { controlPath, host, port: wanted } = takeEngineEnvironment();
  const control = await ControlSocket.connect(controlPath);
  const log = captureOutput(control);
  const activation = new Activation({
    log,
    onDrained: () => control.send({ type: 'drained' }),
  });
  crashOnUncaught(activation);
  const server = createServer(activation);
  await listen(server, host, wanted);
  const { port } = server.address();
  await warm(activation, server.address());
  control.receive({
    load: async (order) => {
      control.send(await activation.load(order));
      // Only now: what the first request does with the event loop is no part of loading.
      activation.admitHeld();
    },
    // Answered by the event loop itself: no answer means that a handler holds it. The port says
    // whether the server still listens, which code in the process can end.
    ping: () => control.send({ type: 'pong', port: activation.draining ? port : portOf(server) }),
    drain: () => {
      control.send({ type: 'draining', in_flight: activation.inFlight });
      activation.drain();
    },
  });
  control.send({ type: 'ready', port, pid: process.pid });
}

/** Reads the engine's own variables and removes them, so that no function sees them. */
function takeEngineEnvironment() {
  const { SANFRAN_CONTROL, SANFRAN_HTTP_HOST, SANFRAN_HTTP_PORT } = process.env;
  if (!SANFRAN_CONTROL) {
    throw new Error('SANFRAN_CONTROL is not set: it must name the control socket of a sidecar');
  }
  for (const name of Object.keys(process.env)) {
    if (name.startsWith('SANFRAN_') || name === 'NOTIFY_SOCKET') delete process.env[name];
  }
  return {
    controlPath: SANFRAN_CONTROL,
    host: SANFRAN_HTTP_HOST || '127.0.0.1',
    port: Number(SANFRAN_HTTP_PORT || 0),
  };
}

function portOf(server) {
  try {
    return server.address()?.port ?? 0;
  } catch {
    return 0;
  }
}

main().catch((error) => {
  process._rawDebug(error.stack);
  process.exit(1);
});
