'use strict';
const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const { test } = require('node:test');
const { Pod } = require('./pod.js');

test('the function\'s environment is set before it loads, and nothing of the engine\'s is in it', async () => {
  const pod = await Pod.active(`const env = { ...process.env, cwd: process.cwd(), main: process.argv[1] }; module.exports = (req, res) => res.json(env);`, {
    order: { env: { MINE: 'yes', PATH: '/mine' } },
    env: { SANFRAN_RPC_SECRET: 'secret', NOTIFY_SOCKET: '/run/x' },
  });
  try {
    const { json } = await pod.fetch('/fn/f');
    assert.deepEqual(json, { MINE: 'yes', PATH: '/mine', NODE_ENV: 'production', cwd: pod.root, main: `${pod.root}/function.js` });
  } finally {
    await pod.stop();
  }
});

test('warming leaves no trace', async () => {
  const pod = await Pod.active(`
    const { Module } = require('node:module');
    const seen = JSON.stringify([Object.keys(require.cache), Object.keys(Module._pathCache), process.argv, require.main?.children.map((m) => m.id)]);
    module.exports = (req, res) => res.send(seen);`);
  try {
    assert.deepEqual(fs.readdirSync(pod.cwd), []);
    assert.doesNotMatch((await pod.fetch('/fn/f')).text, /warm/);
    assert.deepEqual(pod.messages.map((m) => m.type), ['ready', 'loaded']);
  } finally {
    await pod.stop();
  }
});

test('a pod may listen on all addresses, as in a container', async () => {
  const pod = await Pod.start({ env: { SANFRAN_HTTP_HOST: '0.0.0.0' } });
  await pod.stop();
});

test('when the control socket ends, the process and all that it started end', async () => {
  const pod = await Pod.active(`
    const child = require('node:child_process').spawn('sleep', ['60'], { stdio: 'ignore' });
    module.exports = (req, res) => res.json(child.pid);`);
  const child = Number((await pod.fetch('/fn/f')).text);
  assert.doesNotThrow(() => process.kill(child, 0));
  pod.control.destroy();
  const [code, signal] = await pod.exited;
  assert.deepEqual([code, signal], [null, 'SIGKILL']);
  while (alive(child)) await new Promise(setImmediate);
  fs.rmSync(pod.folder, { recursive: true });
});

function alive(pid) {
  try {
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('without a sidecar it says what is missing', () => {
  const runtime = require.resolve(process.env.SANFRAN_TEST_RUNTIME ?? '../../sidecar/sanfran_sidecar/node/runtime.cjs');
  const { status, stderr } = spawnSync(process.execPath, [runtime], { env: {}, encoding: 'utf8' });
  assert.equal(status, 1);
  assert.match(stderr, /SANFRAN_CONTROL is not set/);
});

test('several orders in one packet, and one order in several, are read', async () => {
  const pod = await Pod.start();
  try {
    fs.writeFileSync(`${pod.root}/function.js`, `module.exports = (req, res) => res.send('ü' + process.env.A);`);
    const order = Buffer.from(JSON.stringify({ type: 'load', activation_id: 'the-activation', name: 'f', version: 1, root: pod.root, entry: 'function.js', env: { A: 'ü' } }) + '\n');
    const middle = order.indexOf(0xc3) + 1;
    pod.control.write(order.subarray(0, middle));
    await once(pod.process.stdout, 'data', { signal: AbortSignal.timeout(50) }).catch(() => {});
    pod.control.write(Buffer.concat([order.subarray(middle), Buffer.from('{"type":"unknown"}\n')]));
    await pod.message((m) => m.type === 'loaded');
    assert.equal((await pod.fetch('/fn/f')).text, 'üü');
    pod.control.write('{"type":"drain"}\n{"type":"drain"}\n');
    await pod.message((m) => m.type === 'drained');
  } finally {
    await pod.stop();
  }
});
