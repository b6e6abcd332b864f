'use strict';
// Apps of frameworks as functions: each with the function's own copy of the real package.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const zlib = require('node:zlib');
const { Pod, ACTIVATION } = require('./pod.js');

const PACKAGES = path.join(__dirname, 'packages/node_modules');
const EXPRESS = JSON.stringify(require.resolve('express'));

/** A generic pod whose function has its packages beside it. */
async function start(order) {
  const pod = await Pod.start();
  fs.symlinkSync(PACKAGES, path.join(pod.root, 'node_modules'));
  return { pod, load: (files) => pod.load(files, order) };
}

async function using(files, use, order) {
  const { pod, load } = await start(order);
  try {
    const answer = await load(files);
    assert.equal(answer.type, 'loaded', answer.stack);
    await use(pod);
  } finally {
    await pod.stop();
  }
}

async function loadError(files) {
  const { pod, load } = await start();
  try {
    const answer = await load(files);
    assert.equal(answer.type, 'load_failed');
    return answer;
  } finally {
    await pod.stop();
  }
}

const post = (body, type = 'application/json') => ({ method: 'POST', body, headers: { 'Content-Type': type } });
const APP = `
  app.use(express.json({ limit: 20 }), express.urlencoded({ extended: false }));
  app.get('/where/:id', (req, res) => res.json([req.params.id, req.baseUrl, req.url, req.originalUrl, req.ip]));
  app.post('/echo', (req, res) => res.json(req.body));
  app.post('/hook', express.raw({ type: () => true }), (req, res) => res.json([Buffer.isBuffer(req.body), req.body?.a]));
  app.post('/count', (req, res) => { let n = 0; req.on('data', (part) => (n += part.length)).on('end', () => res.json(n)); });
  app.get('/throw', () => { throw Object.assign(new Error('no'), { status: 418 }); });
  app.use('/sub', express.Router().get('/signal', (req, res) => res.json([req.signal instanceof AbortSignal, req.signal.aborted])));
  app.post('/signal', (req, res) => setImmediate(() => res.json([req.body, req.signal.aborted])));
  app.get('/slow', async (req, res) => { console.log('began'); await require('node:events').once(req.signal, 'abort'); console.log('left'); });`;

for (const [version, package_] of [['5', EXPRESS], ['4', "'express4'"]]) {
  test(`an Express ${version} app works as it does at home`, () =>
    using(`const express = require(${package_}); const app = express(); ${APP} module.exports = app;`, async (pod) => {
      assert.deepEqual((await pod.fetch('/fn/f/where/7?x=1')).json, ['7', '/fn/f', '/where/7?x=1', '/fn/f/where/7?x=1', '127.0.0.1']);
      assert.deepEqual((await pod.fetch('/fn/f/echo', post('{"a":1}'))).json, { a: 1 });
      assert.deepEqual((await pod.fetch('/fn/f/echo', post('a=1', 'application/x-www-form-urlencoded'))).json, { a: '1' });
      // Its own parsers and limits count, none of ours.
      assert.equal((await pod.fetch('/fn/f/echo', post('{"a":"123456789012345678"}'))).status, 413);
      assert.deepEqual((await pod.fetch('/fn/f/hook', post('x', 'text/plain'))).json, [true, null]);
      const large = post(Buffer.alloc(11 * 1024 * 1024), 'application/octet-stream');
      assert.equal((await pod.fetch('/fn/f/count', large)).json, 11 * 1024 * 1024);
      const nowhere = await pod.fetch('/fn/f/nowhere');
      assert.deepEqual([nowhere.status, nowhere.headers['content-type']], [404, 'text/html; charset=utf-8']);
      assert.match(nowhere.text, /Cannot GET \/fn\/f\/nowhere/);
      assert.equal((await pod.fetch('/fn/f/throw')).status, 418);
      assert.deepEqual((await pod.fetch('/fn/f/sub/signal')).json, [true, false]);
      assert.deepEqual((await pod.fetch('/fn/f/signal', post('{"b":2}'))).json, [{ b: 2 }, false], 'a body that was read is no client that left');
      const socket = await pod.raw(`GET /fn/f/slow HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\n\r\n`);
      await pod.log('began');
      socket.destroy();
      await pod.log('left');
    }));
}

test('an Express app may be one of several handlers, a default export, or called by a handler', async () => {
  const app = `require(${EXPRESS})().use((req, res) => res.json([req.baseUrl, req.url]))`;
  await using(`exports.api = ${app}; exports.plain = (req, res) => res.json(req.body);`, async (pod) => {
    assert.deepEqual((await pod.fetch('/fn/f/api/x')).json, ['/fn/f', '/api/x']);
    assert.deepEqual((await pod.fetch('/fn/f/plain', post('{"a":1}'))).json, { a: 1 });
  });
  await using({ 'index.mjs': `import express from ${EXPRESS}; export default express().get('/x', (req, res) => res.send('x'));` }, async (pod) => {
    assert.equal((await pod.fetch('/fn/f/x')).text, 'x');
  });
  for (const package_ of [EXPRESS, "'express4'"]) {
    await using(
      `const express = require(${package_}); const app = express().use(express.json()).post('/', (req, res) => res.json(req.body));
       module.exports = (req, res) => app(req, res);`,
      async (pod) => assert.deepEqual((await pod.fetch('/fn/f', post('{"twice":"read"}'))).json, { twice: 'read' }),
    );
  }
});

test('a lone Express router ends in the engine\'s 404 and 500', () =>
  using(
    `module.exports = require(${EXPRESS}).Router().get('/a', (req, res) => res.send(req.baseUrl)).get('/b', () => { throw new Error('no'); });`,
    async (pod) => {
      assert.equal((await pod.fetch('/fn/f/a')).text, '/fn/f');
      assert.equal((await pod.fetch('/fn/f/x')).json.error.code, 'not_found');
      assert.equal((await pod.fetch('/fn/f/b')).json.error.code, 'handler_failed');
    },
  ));

const KOA = `
  const Koa = require('koa'); const { bodyParser } = require('@koa/bodyparser');
  const app = new Koa().use(bodyParser()).use(async (ctx) => {
    if (ctx.path === '/throw') ctx.throw(409, 'busy');
    if (ctx.path === '/slow') { console.log('began'); await require('node:events').once(ctx.req.signal, 'abort'); console.log('left'); return; }
    ctx.body = [ctx.method, ctx.url, ctx.query.a ?? null, ctx.request.body ?? null, ctx.req.signal.aborted];
  });`;

for (const [what, exported] of [['app.callback()', 'app.callback()'], ['an app itself', 'app']]) {
  test(`Koa: ${what}`, () =>
    using(`${KOA} module.exports = ${exported};`, async (pod) => {
      assert.deepEqual((await pod.fetch('/fn/f/x?a=1')).json, ['GET', '/x?a=1', '1', null, false]);
      assert.deepEqual((await pod.fetch('/fn/f', post('{"a":[1]}'))).json, ['POST', '/', null, { a: [1] }, false]);
      assert.deepEqual((await pod.fetch('/fn/f', post('a=b', 'application/x-www-form-urlencoded'))).json[3], { a: 'b' });
      assert.equal((await pod.fetch('/fn/f/throw')).status, 409);
      const socket = await pod.raw(`GET /fn/f/slow HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\n\r\n`);
      await pod.log('began');
      socket.destroy();
      await pod.log('left');
    }));
}

const FASTIFY = `
  const app = require('fastify')();
  let ready = false;
  app.register(async () => { await new Promise((wait) => setTimeout(wait, 20)); ready = true; });
  app.get('/item/:id', async (request) => [ready, request.params.id, request.query, request.url, request.raw.signal.aborted]);
  app.post('/echo', { schema: { body: { type: 'object', required: ['a'] } } }, async (request, reply) => reply.code(201).send(request.body));
  app.get('/throw', async () => { throw Object.assign(new Error('busy'), { statusCode: 409 }); });`;

for (const [what, files] of [
  ['exported', `${FASTIFY} module.exports = app;`],
  ['as default export', { 'index.mjs': `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url); ${FASTIFY} export default app;` }],
  ['after its own ready()', `${FASTIFY} module.exports = async (req, res) => { await app.ready(); app.routing(req, res); };`],
]) {
  test(`a Fastify instance ${what} is ready, routes and validates`, () =>
    using(files, async (pod) => {
      assert.deepEqual((await pod.fetch('/fn/f/item/7?b=c')).json, [true, '7', { b: 'c' }, '/item/7?b=c', false]);
      const made = await pod.fetch('/fn/f/echo', post('{"a":1}'));
      assert.deepEqual([made.status, made.json], [201, { a: 1 }]);
      assert.equal((await pod.fetch('/fn/f/echo', post('{}'))).status, 400);
      assert.equal((await pod.fetch('/fn/f/throw')).status, 409);
      assert.equal((await pod.fetch('/fn/f/none')).json.message, 'Route GET:/none not found');
    }));
}

test('a Fastify plugin that fails is a load error with its stack', async () => {
  const answer = await loadError(`module.exports = require('fastify')().register(async () => { throw new Error('no database'); });`);
  assert.equal(answer.message, 'no database');
  assert.match(answer.stack, /function\.js/);
});

const PORTS = `() => process.getActiveResourcesInfo().filter((kind) => kind === 'TCPServerWrap').length`;

test('a handler registered with functions-framework answers every path, and no server starts', async () => {
  for (const files of [
    `const functions = require('@google-cloud/functions-framework'); const ports = ${PORTS};
     functions.http('greet', (req, res) => res.json([req.query.name, req.path, req.rawBody?.length, ports()]));`,
    { 'index.mjs': `import * as functions from '@google-cloud/functions-framework'; const ports = ${PORTS};
      functions.http('greet', async (req, res) => res.json([req.query.name, req.path, req.rawBody?.length, ports()]));` },
    { 'index.mts': `import { http, type HttpFunction } from '@google-cloud/functions-framework'; const ports = ${PORTS};
      const greet: HttpFunction = (req, res) => res.json([req.query.name, req.path, req.rawBody?.length, ports()]); http('greet', greet);` },
    { 'lib/main.js': `require('./greet.js');`, 'lib/greet.js': `const ports = ${PORTS};
      require('@google-cloud/functions-framework').http('greet', (req, res) => res.json([req.query.name, req.path, req.rawBody?.length, ports()]));` },
  ]) {
    await using(files, async (pod) => {
      assert.deepEqual((await pod.fetch('/fn/f/x?name=Vik', post('{}'))).json, ['Vik', '/x', 2, 1], 'the only port is the runtime\'s');
    });
  }
});

test('several registered handlers go by name, or FUNCTION_TARGET chooses', async () => {
  const source = `const { http } = require('@google-cloud/functions-framework');
    for (const name of ['one', 'two']) http(name, (req, res) => res.send(name));
    exports.config = { bodyParser: false };`;
  await using(source, async (pod) => {
    assert.equal((await pod.fetch('/fn/f/one')).text, 'one');
    assert.equal((await pod.fetch('/fn/f/two')).text, 'two');
    assert.match((await pod.fetch('/fn/f')).json.error.message, /it has: one, two$/);
  });
  await using(source, async (pod) => assert.equal((await pod.fetch('/fn/f/any')).text, 'two'), { env: { FUNCTION_TARGET: 'two' } });
});

test('what functions-framework takes and we cannot is a load error that says so', async () => {
  const of = (call) => loadError(`const functions = require('@google-cloud/functions-framework');\n${call}`);
  const event = await of(`functions.cloudEvent('onUpload', () => {});`);
  assert.match(event.message, /functions\.cloudEvent\('onUpload'\) cannot be served: functions are called over HTTP/);
  assert.match(event.stack, /function\.js:2/);
  assert.match((await of(`functions.http('1st', () => {});`)).message, /Invalid function name: 1st/);
  assert.match((await of(`functions.http('a', 'b');`)).message, /needs a function, not a string/);
  assert.match((await of('')).message, /exports nothing/);
});

test('a body that a handler has as req.body can still be read from the stream', () =>
  using(
    `exports.stream = async (req, res) => { let text = ''; for await (const part of req) text += part; res.json([req.body, text, req.complete, req.readableEnded]); };
     exports.unread = (req, res) => { req.on('close', () => console.log('closed')); res.send('x'); };`,
    async (pod) => {
      const agent = new (require('node:http').Agent)({ keepAlive: true, maxSockets: 1 });
      for (let i = 0; i < 3; i++) {
        assert.deepEqual((await pod.fetch('/fn/f/stream', { agent, ...post('{"a":1}') })).json, [{ a: 1 }, '{"a":1}', true, true]);
        assert.equal((await pod.fetch('/fn/f/unread', { agent, ...post('{"a":1}') })).text, 'x');
      }
      agent.destroy();
      await pod.log('closed');
      const packed = { ...post(zlib.gzipSync('{"a":1}')), headers: { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' } };
      assert.equal((await pod.fetch('/fn/f/unread', packed)).text, 'x');
    },
  ));
