'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
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
