'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const path = require('node:path');
const { test } = require('node:test');
const WebSocket = require('./packages/node_modules/ws');
const { Pod, ACTIVATION } = require('./pod.js');

const DEMO = path.join(__dirname, '../../demo/websocket');

async function using(files, use, order) {
  const pod = await Pod.active(files, { order });
  try {
    await use(pod);
  } finally {
    await pod.stop();
  }
}

const headers = { 'X-Sanfran-Activation': ACTIVATION, 'X-Request-Id': 'request-1' };
const dial = (pod, target) => new WebSocket(`ws://127.0.0.1:${pod.port}${target}`, { headers });
const head = (target, activation = ACTIVATION) =>
  `GET ${target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: request-1\r\nX-Sanfran-Activation: ${activation}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`;

const ECHO = `
  exports.upgrade = (req, socket, head) => {
    console.log('upgrade', req.method, req.url, req.baseUrl, req.path, req.query.a, req.get('upgrade'), head.toString());
    socket.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n');
    socket.pipe(socket);
  };`;
const PLAIN = `exports.plain = (req, res) => res.json(req.headers.upgrade ?? 'plain');`;

test('upgrade(req, socket, head) gets the connection and Express\'s view of the request', () =>
  using(`${ECHO} ${PLAIN}`, async (pod) => {
    const socket = await pod.raw(`${head('/fn/f/any?a=1')}early`);
    socket.setEncoding('utf8');
    let got = '';
    socket.on('data', (text) => (got += text));
    const log = await pod.log('upgrade GET');
    assert.equal(log.text, 'upgrade GET /any?a=1 /fn/f /any 1 echo early');
    socket.write('said');
    while (!got.endsWith('said')) await once(socket, 'data');
    assert.match(got, /^HTTP\/1\.1 101 [^]*\r\n\r\n/);
    assert.equal((await pod.fetch('/fn/f/plain')).json, 'plain');
    assert.match((await pod.fetch('/fn/f/upgrade')).json.error.message, /it has: plain$/, 'it is no handler');
    socket.destroy();
  }));

test('an upgrade is fenced as requests are, and leaves a refused connection usable', () =>
  using(`${ECHO} ${PLAIN}`, async (pod) => {
    const socket = await pod.raw(head('/fn/f', 'stale'));
    assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 421 [^]*X-Sanfran-Retry: fenced/i);
    socket.write(head('/fn/f'));
    assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 101 /);
    pod.send({ type: 'drain' });
    await pod.message((m) => m.type === 'drained');
    const late = await pod.raw(head('/fn/f'));
    assert.match(String(await once(late, 'data')), /^HTTP\/1\.1 421 [^]*X-Sanfran-Retry: draining/i);
    late.destroy();
  }));

test('without an exported upgrade the request is like any other', () =>
  using(PLAIN, async (pod) => {
    const socket = await pod.raw(head('/fn/f/plain'));
    assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 200 [^]*"echo"$/);
    socket.destroy();
  }));

test('upgrade may stand beside a single handler, in a default object, or alone', async () => {
  const handler = `(req, res) => res.send('x')`;
  const upgrade = `(req, socket) => socket.end('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n')`;
  for (const source of [
    `module.exports = ${handler}; module.exports.upgrade = ${upgrade};`,
    `export default ${handler}; export const upgrade = ${upgrade};`,
    `export default { default: ${handler}, upgrade: ${upgrade} };`,
    `exports.upgrade = ${upgrade};`,
  ]) {
    await using(source, async (pod) => {
      const socket = await pod.raw(head('/fn/f'));
      assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 101 /);
      socket.destroy();
      const plain = await pod.fetch('/fn/f');
      if (source.startsWith('exports')) assert.match(plain.json.error.message, /answers upgrades only/);
      else assert.equal(plain.text, 'x');
    });
  }
});

test('an upgrade that fails is 500, or a broken connection, and the process lives', () =>
  using(
    `exports.upgrade = async (req, socket) => { if (req.path === '/late') { socket.write('HTTP/1.1 101 X\\r\\n\\r\\n'); await null; } throw new Error('no ' + req.path); };
     ${PLAIN}`,
    async (pod) => {
      const socket = await pod.raw(head('/fn/f/early'));
      let answer = '';
      for await (const part of socket.setEncoding('utf8')) answer += part;
      assert.match(answer, /^HTTP\/1\.1 500 [^]*"handler_failed"[^]*"request-1"/);
      await pod.log('upgrade /fn/f/early failed (request request-1): Error: no /early');
      const late = await pod.raw(head('/fn/f/late'));
      late.resume();
      await once(late, 'close');
      await pod.log('Error: no /late');
      assert.equal((await pod.fetch('/fn/f/plain')).json, 'plain');
    },
  ));

test('an upgraded connection counts as running; draining ends it, with a farewell where one is said', async () => {
  await using(`${ECHO}`, async (pod) => {
    const socket = await pod.raw(head('/fn/f'));
    await once(socket, 'data');
    pod.send({ type: 'drain' });
    assert.equal((await pod.message((m) => m.type === 'draining')).in_flight, 1);
    await once(socket.resume(), 'close');
    await pod.message((m) => m.type === 'drained');
  });
  await using(
    `exports.upgrade = (req, socket) => { req.signal.addEventListener('abort', () => socket.write('bye')); socket.write('hello'); };`,
    async (pod) => {
      const socket = await pod.raw(head('/fn/f'));
      assert.equal(String(await once(socket, 'data')), 'hello');
      pod.send({ type: 'drain' });
      assert.equal(String(await once(socket, 'data')), 'bye');
      await once(socket.resume(), 'close'); // it did not end by itself
      await pod.message((m) => m.type === 'drained');
    },
  );
});

test('req.signal of an upgrade fires when the client leaves, also by a reset', () =>
  using(
    `exports.upgrade = (req, socket) => { req.signal.addEventListener('abort', () => console.log('left', socket.destroyed)); socket.resume(); socket.on('end', () => socket.end()); console.log('began'); };`,
    async (pod) => {
      const socket = await pod.raw(head('/fn/f'));
      await pod.log('began');
      socket.resetAndDestroy();
      await pod.log('left true');
    },
  ));

test('the demo: windows hear one another, and close politely when the pod drains', () =>
  using(
    {},
    async (pod) => {
      const page = await pod.fetch('/fn/websocket');
      assert.equal(page.headers['content-type'], 'text/html; charset=utf-8');
      assert.match(page.text, /new WebSocket\(/);
      const one = dial(pod, '/fn/websocket?name=one');
      assert.equal(String((await once(one, 'message'))[0]), 'one came, now there are 1');
      const two = dial(pod, '/fn/websocket?name=%3Ctwo%3E');
      const heard = once(one, 'message');
      await once(two, 'message');
      assert.equal(String((await heard)[0]), '<two> came, now there are 2');
      two.send('hi');
      assert.equal(String((await once(one, 'message'))[0]), '<two>: hi');
      two.send('x'.repeat(5000));
      assert.equal((await once(two, 'close'))[0], 1009);
      pod.send({ type: 'drain' });
      assert.equal((await once(one, 'close'))[0], 1001);
      await pod.message((m) => m.type === 'drained');
    },
    { name: 'websocket', root: DEMO, entry: 'index.js' },
  ));
