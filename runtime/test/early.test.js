'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { test } = require('node:test');
const { Pod, ACTIVATION } = require('./pod.js');

const COUNTING = `let ran = 0; module.exports = (req, res) => { ran++; res.json({ ran, headers: req.rawHeaders }); };`;
const SLOW = {
  'function.mjs': `
    console.log('loading');
    await new Promise((go) => process.once('SIGUSR2', go));
    export default (req, res) => res.send('ran');`,
};
const BEGUN = 'HTTP/1.1 102 Processing\r\nX-Sanfran-Begun: 1\r\n\r\n';

/** Sends a request as a router does that was told of the activation early. */
async function early(pod, { id = ACTIVATION, lines = '', method = 'GET', body = '' } = {}) {
  const length = body && `Content-Length: ${body.length}\r\n`;
  const socket = await pod.raw(
    `${method} /fn/f HTTP/1.1\r\nHost: x\r\nX-Sanfran-Early: 1\r\nX-Sanfran-Activation: ${id}\r\n${length}${lines}\r\n${body}`,
  );
  socket.setEncoding('utf8');
  socket.on('error', () => {});
  return socket;
}

/** All that comes until the text fits. */
async function said(socket, fits) {
  let text = '';
  while (!fits.test(text)) {
    const [more] = await once(socket, 'data');
    text += more;
  }
  socket.destroy();
  return text;
}

/** Returns when the runtime has read all that was sent to it before. */
async function settled(pod) {
  assert.equal((await pod.fetch('/fn/f', { activation: 'nobody' })).status, 421);
}

async function withPod(use) {
  const pod = await Pod.start();
  try {
    await use(pod);
  } finally {
    await pod.stop();
  }
}

test('an early request runs as soon as its activation is loaded, and says before that it begins', () =>
  withPod(async (pod) => {
    const sockets = [await early(pod), await early(pod, { method: 'POST', body: 'abc' })];
    await settled(pod);
    assert.equal((await pod.load(COUNTING)).type, 'loaded');
    for (const [i, socket] of sockets.entries()) {
      const text = await said(socket, /\}$/);
      assert.ok(text.startsWith(`${BEGUN}HTTP/1.1 200 OK\r\n`), text);
      assert.match(text, new RegExp(`"ran":${i + 1},`));
      assert.doesNotMatch(text.slice(BEGUN.length), /sanfran/i, 'the function sees none of it');
    }
  }));

test('an early request that comes after the load begins at once', () =>
  withPod(async (pod) => {
    await pod.load(COUNTING);
    assert.ok((await said(await early(pod), /\}$/)).startsWith(`${BEGUN}HTTP/1.1 200 OK\r\n`));
    assert.match(await said(await early(pod, { id: 'other' }), /\r\n\r\n$/), /^HTTP\/1\.1 421 [^]*X-Sanfran-Retry: fenced/);
  }));

test('an early request of another activation is refused when the load begins, and never runs', () =>
  withPod(async (pod) => {
    const before = await early(pod, { id: 'other' });
    await settled(pod);
    pod.load(SLOW);
    assert.match(await said(before, /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
  }));

test('while a module loads, only requests of its activation wait', () =>
  withPod(async (pod) => {
    const loading = pod.load(SLOW);
    await pod.log('loading');
    const mine = await early(pod);
    assert.match(await said(await early(pod, { id: 'other' }), /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
    assert.equal((await pod.fetch('/fn/f')).status, 421, 'without the word early nothing waits');
    process.kill(pod.process.pid, 'SIGUSR2');
    assert.equal((await loading).type, 'loaded');
    assert.match(await said(mine, /ran$/), /^HTTP\/1\.1 102 [^]*\r\n\r\nHTTP\/1\.1 200 /);
  }));

test('when the code does not load, those who wait are refused and later ones as well', () =>
  withPod(async (pod) => {
    const socket = await early(pod);
    await settled(pod);
    assert.equal((await pod.load(`throw new Error('no')`)).type, 'load_failed');
    assert.match(await said(socket, /\r\n\r\n$/), /^HTTP\/1\.1 421 [^]*X-Sanfran-Retry: fenced/);
    assert.match(await said(await early(pod), /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
  }));

test('a pod that is drained while it loads refuses those who wait, and whatever comes after the load', () =>
  withPod(async (pod) => {
    const loading = pod.load(SLOW);
    await pod.log('loading');
    const socket = await early(pod);
    await settled(pod);
    pod.send({ type: 'drain' });
    assert.match(await said(socket, /\r\n\r\n$/), /^HTTP\/1\.1 421 [^]*X-Sanfran-Retry: draining/);
    process.kill(pod.process.pid, 'SIGUSR2');
    await loading;
    for (const one of [await early(pod), await early(pod)]) assert.match(await said(one, /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
  }));

test('what is never loaded is not waited for longer than a second', () =>
  withPod(async (pod) => {
    assert.match(await said(await early(pod), /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
  }));

test('a hundred wait at most, and a client that leaves makes room and never runs', () =>
  withPod(async (pod) => {
    const sockets = [];
    for (let i = 0; i < 100; i++) sockets.push(await early(pod));
    await settled(pod);
    assert.match(await said(await early(pod), /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
    sockets.pop().destroy();
    for (const socket of sockets.splice(0, 9)) socket.destroy();
    await settled(pod);
    const last = await early(pod);
    await settled(pod);
    await pod.load(COUNTING);
    assert.match(await said(last, /\}$/), /"ran":91,/);
    for (const socket of sockets) socket.destroy();
  }));

test('requests that expect a word do not wait', () =>
  withPod(async (pod) => {
    for (const lines of ['Expect: 100-continue\r\nContent-Length: 1\r\n', 'Expect: magic\r\n']) {
      assert.match(await said(await early(pod, { lines }), /\r\n\r\n$/), /^HTTP\/1\.1 421 /);
    }
  }));

test('the word that a request begins has left before a handler can end the process', () =>
  withPod(async (pod) => {
    const socket = await early(pod, { method: 'POST', body: 'x' });
    await settled(pod);
    let text = '';
    socket.on('data', (more) => (text += more));
    pod.load(`module.exports = () => process.kill(process.pid, 'SIGKILL');`);
    await once(socket, 'close');
    assert.equal(text, BEGUN);
  }));
