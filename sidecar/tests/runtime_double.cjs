'use strict';
// A runtime that misbehaves as told, for faults that the real one cannot be made to show.
// `node double.cjs` with `globalThis.FAULT` set by the file that requires this one.
const net = require('node:net');

const fault = globalThis.FAULT;
const socket = net.connect(process.env.SANFRAN_CONTROL);
const send = (message) => socket.write(JSON.stringify(message) + '\n');

socket.on('close', () => process.kill(-process.pid, 'SIGKILL'));
socket.on('connect', () => {
  switch (fault) {
    case 'never ready': return;
    case 'exits before ready': return process.exit(7);
    case 'half a line': return socket.write('{"type":"rea');
    case 'garbage': return socket.write('\0\0 no json\n');
    case 'unknown message': return send({ type: 'coffee' });
    case 'endless line': return socket.write('x'.repeat(2 ** 20 + 2 ** 17));
    default: return send({ type: 'ready', port: 1, pid: process.pid });
  }
});
let received = '';
socket.on('data', (text) => {
  received += text;
  const lines = received.split('\n');
  received = lines.pop();
  for (const { type } of lines.map((line) => JSON.parse(line))) {
    if (type === 'load') {
      switch (fault) {
        case 'never loaded': break;
        case 'exits during load': process.exit(3);
        case 'garbage during load': socket.write('[]\n'); break;
        case 'closes during load': socket.removeAllListeners('close'); socket.destroy(); setInterval(() => {}, 1000); break;
        default: send({ type: 'loaded', ms: 0.1 });
      }
    }
    if (type === 'drain' && fault !== 'never drained') send({ type: 'draining', in_flight: 2 });
  }
});
