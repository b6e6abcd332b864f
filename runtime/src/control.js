'use strict';
// The control socket: JSON lines to and from the sidecar. When it ends, nobody owns this process
// any more, so the process ends with everything that it started.

const net = require('node:net');

// Taken before any function's code can replace them: what a function does to its globals ends its
// own requests, not the talk about them.
const { parse, stringify } = JSON;
const { exit, kill } = process;

// Bytes waiting for a sidecar that does not read. Log lines beyond it are dropped; the few other
// messages always go out, but behind them.
const MAX_WAITING_BYTES = 256 * 1024;

class ControlSocket {
  #socket;
  #received = '';
  #handlers = {};

  /**
   * @param {string} path of the Unix socket that the sidecar listens on
   * @returns {Promise<ControlSocket>} rejects when nobody listens
   */
  static connect(path) {
    return new Promise((resolve, reject) => {
      const socket = net.connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new ControlSocket(socket));
      });
    });
  }

  constructor(socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('error', killOwnProcessGroup);
    socket.on('close', killOwnProcessGroup);
    socket.on('end', killOwnProcessGroup);
    socket.on('data', (text) => this.#read(text));
  }

  /** @param {Record<string, (message: object) => void>} handlers by message type */
  receive(handlers) {
    this.#handlers = handlers;
  }

  /** @param {() => void} [sent] called when the system has taken the bytes */
  send(message, sent) {
    this.#socket.write(stringify(message) + '\n', sent);
  }

  /** @returns {boolean} whether there is room for one more log line */
  get hasRoom() {
    return this.#socket.writableLength < MAX_WAITING_BYTES;
  }

  /** @param {() => void} emptied called once everything that waits has been taken */
  onceDrained(emptied) {
    this.#socket.once('drain', emptied);
  }

  #read(text) {
    const lines = (this.#received + text).split('\n');
    this.#received = lines.pop();
    for (const line of lines) {
      const message = parse(line);
      this.#handlers[message.type]?.(message);
    }
  }
}

function killOwnProcessGroup() {
  try {
    kill.call(process, -process.pid, 'SIGKILL');
  } catch {
    // Started by hand, outside a group of its own: there is only this process to end.
  }
  exit.call(process, 1);
}

module.exports = { ControlSocket };
