'use strict';
// The first module loaded and the first requests served in a Node process take several times as
// long as the next. A generic process goes through both before it counts as ready, with a
// function of its own that nobody else can reach.

const { randomUUID } = require('node:crypto');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { forgetModule } = require('./loader.js');

// What most first requests are. Twice as many take longer and help little.
const GET = request('GET', '');
const POST = request('POST', '{}');
const REQUESTS = [GET, GET, GET, POST, GET];

function request(method, body) {
  const type = body && `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n`;
  return (id) =>
    `${method} /fn/warm?name=x HTTP/1.1\r\nHost: warm\r\nX-Sanfran-Activation: ${id}\r\n${type}\r\n${body}`;
}

/**
 * @param {import('./activation.js').Activation} activation generic, and generic again afterwards
 * @param {import('node:net').AddressInfo} address the server's
 */
async function warm(activation, address) {
  const id = randomUUID();
  const entry = `.warm-${process.pid}.js`;
  const file = path.resolve(entry);
  const argv = process.argv[1];
  fs.writeFileSync(file, "module.exports = (req, res) => { res.send('Hello ' + req.query.name); };\n");
  try {
    const cwd = process.cwd();
    const order = { activation_id: id, name: 'warm', version: 1, root: cwd, entry, env: {}, cwd };
    // Parsed as an order from the sidecar is: that, too, is slow the first time.
    const answer = await activation.load(JSON.parse(JSON.stringify(order)));
    if (answer.type !== 'loaded') throw new Error(answer.message);
    await serve(address, id);
  } finally {
    activation.close();
    fs.unlinkSync(file);
    forgetModule(file);
    process.argv[1] = argv;
  }
}

/** Sends the requests one after another on one connection and waits for all answers. */
function serve({ address, port, family }, id) {
  const host = address === '0.0.0.0' ? '127.0.0.1' : address === '::' ? '::1' : address;
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host, port, family });
    socket.setEncoding('utf8'); // as the control socket does
    let answered = 0;
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('warming ended early')));
    socket.on('connect', () => socket.write(REQUESTS[0](id)));
    // Each answer is smaller than a packet, and the next request waits for it.
    socket.on('data', () => {
      if (++answered < REQUESTS.length) socket.write(REQUESTS[answered](id));
      else socket.end(resolve);
    });
  });
}

module.exports = { warm };
