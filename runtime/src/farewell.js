'use strict';
// What a pod that takes no requests any more says of itself to the routers that keep connections to it. A
// router may not have heard yet, or not from a controller that lives, and this process may be killed as
// soon as nothing runs in it: what is sent to it then would be lost, and might have run.

const { Server } = require('node:net');

// Nobody asked. But a request that is on its way here gets this for its answer, and is sent elsewhere.
const FAREWELL =
  'HTTP/1.1 421 Misdirected Request\r\nX-Sanfran-Retry: draining\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';
// Milliseconds that new connections are still taken, and answered as above. Less than a controller lets a
// fenced pod live: those that come later have to be refused, and not lost.
const LISTEN_MS = 50;

class RouterConnections {
  #open = new Set();

  /** @param {import('node:net').Socket} socket of the server */
  add(socket) {
    this.#open.add(socket);
    socket.on('close', () => this.forget(socket));
  }

  /** It speaks another protocol from now on, or is closed. */
  forget(socket) {
    this.#open.delete(socket);
  }

  /** Tells all that are idle, and ends listening in a moment. @param {import('node:http').Server} server */
  part(server) {
    for (const socket of this.#open) {
      // The answer that Node's server is writing there: `tell` comes behind it.
      if (!socket._httpMessage) this.tell(socket);
    }
    // Not its own close(), which cuts off connections that were taken and have not been read from yet.
    setTimeout(() => Server.prototype.close.call(server), LISTEN_MS);
  }

  /** Once. What comes over that connection is refused by the fence, should its router not have read this. */
  tell(socket) {
    if (this.#open.delete(socket) && socket.writable) socket.write(FAREWELL, 'latin1');
  }
}

module.exports = { RouterConnections };
