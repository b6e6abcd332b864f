'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const net = require('node:net');
const { test } = require('node:test');
const { Pod, ACTIVATION } = require('./pod.js');

const COUNTING = `let ran = 0; module.exports = (req, res) => { ran++; res.json({ ran }); };`;

test('a request with no, a wrong or a doubled activation id never reaches the handler', async () => {
  const pod = await Pod.active(COUNTING);
  try {
    const twice = { 'x-sanfran-activation': [ACTIVATION, ACTIVATION] };
    for (const options of [{ activation: null }, { activation: 'other' }, { activation: '' }, { activation: null, headers: twice }]) {
      const answer = await pod.fetch('/fn/f', { ...options, method: 'POST', body: 'x' });
      assert.deepEqual([answer.status, answer.headers['x-sanfran-retry'], answer.headers['content-length']], [421, 'fenced', '0']);
    }
    assert.deepEqual((await pod.fetch('/fn/f')).json, { ran: 1 });
  } finally {
    await pod.stop();
  }
});

test('a generic pod serves nobody, not even as it served itself while warming', async () => {
  const pod = await Pod.start();
  try {
    for (const activation of [null, '', 'null', 'undefined', 'warm']) {
      assert.equal((await pod.fetch('/fn/warm', { activation })).status, 421);
    }
  } finally {
    await pod.stop();
  }
});

test('a refused request leaves its connection usable', async () => {
  const pod = await Pod.active(COUNTING);
  try {
    const request = (id, more = '') => `POST /fn/f HTTP/1.1\\r\\nHost: x\\r\\nX-Sanfran-Activation: ${id}\\r\\nContent-Length: 3\\r\\n${more}\\r\\nabc`.replaceAll('\\r\\n', '\r\n');
    const socket = await pod.raw(request('stale'));
    assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 421 [^]*\r\nX-Sanfran-Retry: fenced\r\n/);
    socket.write(request(ACTIVATION));
    assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 200 [^]*"ran":1/);
    socket.destroy();
  } finally {
    await pod.stop();
  }
});

test('no 100, no 417 and no upgrade comes before the fence', async () => {
  const pod = await Pod.active(COUNTING);
  try {
    const head = (id, line) => `GET /fn/f HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${id}\r\n${line}\r\n\r\n`;
    const answer = async (text) => {
      const socket = await pod.raw(text);
      const [data] = await once(socket, 'data');
      socket.destroy();
      return String(data);
    };
    assert.match(await answer(head('stale', 'Content-Length: 1\r\nExpect: 100-continue')), /^HTTP\/1\.1 421 [^]*Connection: close/);
    assert.match(await answer(head('stale', 'Expect: magic')), /^HTTP\/1\.1 421 [^]*Connection: close/);
    assert.match(await answer(head(ACTIVATION, 'Expect: magic')), /^HTTP\/1\.1 417 [^]*bad_request/);
    const upgrade = 'Connection: upgrade\r\nUpgrade: websocket';
    assert.match(await answer(head('stale', upgrade)), /^HTTP\/1\.1 421 /);
    assert.match(await answer(head(ACTIVATION, upgrade)), /^HTTP\/1\.1 200 [^]*"ran":1/);
    assert.match(await answer('GET /fn/f HTTP/1.1\r\n\r\n'), /^HTTP\/1\.1 421 /);
  } finally {
    await pod.stop();
  }
});

test('a draining pod refuses new requests, finishes running ones and then says so', async () => {
  const pod = await Pod.active(`
    const { once } = require('node:events');
    const go = new (require('node:events'))();
    exports.wait = async (req, res) => { console.log('waiting'); await once(req, 'data'); res.end('done'); };
    exports.after = async (req, res) => { res.end('early'); await once(go, 'go'); console.log('after'); };
    exports.config = { bodyParser: false };
    process.on('SIGUSR2', () => go.emit('go'));`);
  try {
    const socket = await pod.raw(`POST /fn/f/wait HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\nContent-Length: 1\r\n\r\n`);
    await pod.log('waiting');
    assert.equal((await pod.fetch('/fn/f/after')).text, 'early');
    pod.send({ type: 'drain' });
    assert.equal((await pod.message((m) => m.type === 'draining')).in_flight, 1);
    const refused = await pod.fetch('/fn/f/wait');
    assert.deepEqual([refused.status, refused.headers['x-sanfran-retry']], [421, 'draining']);

    socket.write('x');
    assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 200 /);
    socket.destroy();
    assert.equal(pod.messages.some((m) => m.type === 'drained'), false, 'work after an answer counts too');
    process.kill(pod.process.pid, 'SIGUSR2');
    await pod.message((m) => m.type === 'drained');
    assert.ok(pod.messages.some((m) => m.text === 'after'));
  } finally {
    await pod.stop();
  }
});

test('an idle pod is drained at once', async () => {
  for (const pod of [await Pod.active(COUNTING), await Pod.start()]) {
    try {
      pod.send({ type: 'drain' });
      await pod.message((m) => m.type === 'drained');
      const types = pod.messages.map((m) => m.type).filter((type) => type.startsWith('drain'));
      assert.deepEqual(types, ['draining', 'drained']);
    } finally {
      await pod.stop();
    }
  }
});

test('a draining pod says so over idle connections, behind the last answer of others, and listens no more', async () => {
  const pod = await Pod.active(`
    const { once } = require('node:events');
    exports.quick = (req, res) => res.send('quick');
    exports.wait = async (req, res) => { console.log('waiting'); await once(process, 'SIGUSR2'); res.end('done'); };
    exports.upgrade = (req, socket) => { socket.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: upgrade\\r\\nUpgrade: x\\r\\n\\r\\n'); console.log('upgraded', req.signal.aborted); };`);
  try {
    const get = (what, more = '') => `GET /fn/f/${what} HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\n${more}\r\n`;
    const heard = (socket) => {
      socket.said = '';
      socket.on('data', (data) => (socket.said += data));
      return socket;
    };
    const until = async (socket, pattern) => {
      while (!pattern.test(socket.said)) await once(socket, 'data');
    };
    const idle = heard(await pod.raw(get('quick')));
    const silent = heard(await pod.raw(''));
    const half = heard(await pod.raw('POST /fn/f/quick HT'));
    const tunnel = heard(await pod.raw(get('x', 'Connection: upgrade\r\nUpgrade: x\r\n')));
    const busy = heard(await pod.raw(get('wait')));
    await pod.log('waiting');
    await pod.log('upgraded');
    await until(idle, /quick$/);
    pod.send({ type: 'drain' });
    const farewell = /HTTP\/1\.1 421 [^]*X-Sanfran-Retry: draining\r\n[^]*\r\n\r\n$/;
    for (const socket of [idle, silent, half]) await until(socket, farewell);
    assert.match(tunnel.said, /^HTTP\/1\.1 101 [^]*\r\n\r\n$/);
    assert.equal(busy.said, '');
    // What crosses it is refused like any, and does not run.
    half.write(`TP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\nContent-Length: 0\r\n\r\n`);
    await until(half, /(421 [^]*){2}/);
    for (let refused = false; !refused; ) {
      const socket = net.connect(pod.port, '127.0.0.1');
      refused = await Promise.race([once(socket, 'connect').then(() => false), once(socket, 'error').then(() => true)]).catch(() => true);
      socket.destroy();
    }
    pod.send({ type: 'ping' });
    assert.equal((await pod.message((m) => m.type === 'pong')).port, pod.port, 'which is as it should be');
    process.kill(pod.process.pid, 'SIGUSR2');
    await until(busy, farewell);
    assert.match(busy.said, /^HTTP\/1\.1 200 [^]*done/);
  } finally {
    await pod.stop();
  }
});
