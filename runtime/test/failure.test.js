'use strict';
const assert = require('node:assert/strict');
const http = require('node:http');
const { test } = require('node:test');
const { Pod, ACTIVATION } = require('./pod.js');

async function using(source, use) {
  const pod = await Pod.active(source);
  try {
    await use(pod);
  } finally {
    await pod.stop();
  }
}

test('a throw and a rejection are 500 with the request id, and the stack is in the logs', () =>
  using(
    `exports.sync = (req, res) => { res.setHeader('X-Half', '1'); res.type('text'); throw new TypeError('secret one'); };
     exports.later = async (req, res) => { await null; throw new TypeError('secret two'); };
     exports.odd = () => Promise.reject();
     exports.fine = (req, res) => res.send('fine');`,
    async (pod) => {
      for (const [url, text] of [['/fn/f/sync', 'secret one'], ['/fn/f/later?q=1', 'secret two'], ['/fn/f/odd', 'undefined']]) {
        const answer = await pod.fetch(url);
        assert.equal(answer.status, 500);
        assert.equal(answer.json.error.code, 'handler_failed');
        assert.equal(answer.json.error.request_id, 'request-1');
        assert.equal(answer.headers['x-half'], undefined);
        assert.equal(answer.headers['content-type'], 'application/json; charset=utf-8');
        assert.doesNotMatch(answer.text, /secret/);
        const log = await pod.log(`GET ${url} failed (request request-1): `);
        assert.equal(log.level, 'error');
        assert.ok(log.text.includes(text));
      }
      assert.equal((await pod.log('at exports.sync')).level, 'error');
      assert.equal((await pod.fetch('/fn/f/fine')).text, 'fine');
    },
  ));

test('whatever is thrown, the process lives and the caller gets 500', () =>
  using(
    `const { inspect } = require('node:util');
     exports.secretive = () => { throw { [inspect.custom]() { throw new Error('not for you'); } }; };
     exports.half = () => ({ then() { throw new Error('half a promise'); } });
     exports.nothing = () => { throw null; };
     exports.fine = (req, res) => res.send('fine');`,
    async (pod) => {
      for (const [name, text] of [['secretive', 'cannot be shown'], ['half', 'half a promise'], ['nothing', 'null']]) {
        assert.equal((await pod.fetch(`/fn/f/${name}`)).status, 500);
        await pod.log((m) => m.text.startsWith(`GET /fn/f/${name} failed`) && m.text.includes(text));
      }
      assert.equal((await pod.fetch('/fn/f/fine')).text, 'fine');
      pod.send({ type: 'drain' });
      await pod.message((m) => m.type === 'drained');
    },
  ));

test('a failure in the middle of an answer breaks the connection', () =>
  using(
    `module.exports = async (req, res) => { res.write('a part'); await new Promise(setImmediate); throw new Error('half'); };`,
    async (pod) => {
      await assert.rejects(pod.fetch('/fn/f'), { code: 'ECONNRESET' });
      await pod.log('Error: half');
    },
  ));

test('a failure after a complete answer is logged and harms nobody', () =>
  using(`module.exports = async (req, res) => { res.send('all'); await null; throw new Error('too late'); };`, async (pod) => {
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 3; i++) assert.equal((await pod.fetch('/fn/f', { agent })).text, 'all');
    agent.destroy();
    await pod.log('too late');
  }));

test('req.signal aborts when the client leaves, and not when it was answered', () =>
  using(
    `exports.slow = async (req, res) => { console.log('began'); await require('node:events').once(req.signal, 'abort'); console.log('left', req.signal.aborted); };
     exports.quick = (req, res) => { const { signal } = req; res.on('close', () => setImmediate(() => console.log('answered', signal.aborted))); res.send('x'); };
     exports.late = async (req, res) => { await new Promise((closed) => res.on('close', closed)); console.log('late', req.signal.aborted); };`,
    async (pod) => {
      for (const name of ['slow', 'late']) {
        const socket = await pod.raw(`GET /fn/f/${name} HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\n\r\n`);
        if (name === 'slow') await pod.log('began');
        else await pod.fetch('/fn/f/quick');
        socket.destroy();
      }
      await pod.log('left true');
      await pod.log('late true');
      await pod.log('answered false');
    },
  ));

test('an error outside any request answers the running ones, is logged, and ends the process', async () => {
  for (const cause of [`setImmediate(() => { throw new Error('stray'); })`, `Promise.reject(new Error('stray'))`]) {
    await using(`module.exports = (req, res) => { ${cause}; };`, async (pod) => {
      const answer = await pod.fetch('/fn/f');
      assert.deepEqual([answer.status, answer.json.error.code], [500, 'handler_failed']);
      assert.equal((await pod.log('the process ends: Error: stray')).level, 'error');
      const [code] = await pod.exited;
      assert.equal(code, 1);
    });
  }
});

test('a handler that exits takes its connections with it', () =>
  using(`module.exports = () => process.exit(3);`, async (pod) => {
    await assert.rejects(pod.fetch('/fn/f'), { code: 'ECONNRESET' });
    assert.equal((await pod.exited)[0], 3);
  }));

test('a handler that never answers keeps nobody else waiting', () =>
  using(`exports.never = () => {}; exports.quick = (req, res) => res.send('x');`, async (pod) => {
    const socket = await pod.raw(`GET /fn/f/never HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\n\r\n`);
    assert.equal((await pod.fetch('/fn/f/quick')).text, 'x');
    pod.send({ type: 'drain' });
    assert.equal((await pod.message((m) => m.type === 'draining')).in_flight, 1);
    socket.destroy();
    await pod.message((m) => m.type === 'drained');
  }));
