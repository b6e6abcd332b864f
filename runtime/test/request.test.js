'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
const { after, before, test } = require('node:test');
const zlib = require('node:zlib');
const { Pod, ACTIVATION } = require('./pod.js');

let pod;
before(async () => {
  pod = await Pod.active(`
    exports.mount = (req, res) => res.json({ url: req.url, baseUrl: req.baseUrl, originalUrl: req.originalUrl, path: req.path, query: req.query });
    exports.headers = (req, res) => res.json({ headers: req.headers, raw: req.rawHeaders });
    exports.body = (req, res) => res.json({
      body: Buffer.isBuffer(req.body) ? { buffer: req.body.toString('latin1') } : req.body,
      type: typeof req.body,
      raw: req.rawBody?.toString('latin1'),
    });
    exports.stream = async (req, res) => { let n = 0; for await (const part of req) n += part.length; res.json({ n, body: typeof req.body }); };
    exports.client = (req, res) => res.json({ ip: req.ip, protocol: req.protocol, host: req.host, hostname: req.hostname, secure: req.secure });
    exports.text = (req, res) => { res.locals.x = 1; res.status(201).set('X-A', 'b').type('text').send('plain ' + res.locals.x); };
    exports.missing = (req, res) => res.sendFile('/does/not/exist');
    exports.file = (req, res) => res.sendFile(__filename);
    exports.cookie = (req, res) => res.cookie('a', 'b', { httpOnly: true }).redirect('/there');
    exports.nothing = (req, res) => res.sendStatus(204);
    exports.render = (req, res) => res.render('page');
  `);
});
after(() => pod.stop());

test('the URL is split as by an Express mount', async () => {
  const { json } = await pod.fetch('/fn/f/mount/x%20y?a=1&b=2&b=3');
  assert.deepEqual(json, {
    url: '/mount/x%20y?a=1&b=2&b=3',
    baseUrl: '/fn/f',
    originalUrl: '/fn/f/mount/x%20y?a=1&b=2&b=3',
    path: '/mount/x%20y',
    query: { a: '1', b: ['2', '3'] },
  });
  assert.equal((await pod.fetch('/fn/%66/mount')).json.url, '/mount');

  const single = await Pod.active(`module.exports = (req, res) => res.json([req.baseUrl, req.url]);`);
  try {
    assert.deepEqual((await single.fetch('/fn/f')).json, ['/fn/f', '/']);
    assert.deepEqual((await single.fetch('/fn/f?a=1')).json, ['/fn/f', '/?a=1']);
    assert.deepEqual((await single.fetch('/fn/f/')).json, ['/fn/f', '/']);
    assert.deepEqual((await single.fetch('/fn/f//a/..')).json, ['/fn/f', '//a/..']);
  } finally {
    await single.stop();
  }
});

test('the handler sees none of the engine\'s headers and all of the client\'s', async () => {
  const many = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`x-h${i}`, String(i)]));
  const { json } = await pod.fetch('/fn/f/headers', { headers: { ...many, 'X-SanFran-Trick': '1', 'X-Last': 'z' } });
  assert.equal(json.headers['x-last'], 'z');
  assert.equal(json.headers['x-h2999'], '2999');
  assert.equal(json.headers['x-request-id'], 'request-1');
  assert.doesNotMatch(JSON.stringify(json), /sanfran/i);
  assert.equal(json.raw[json.raw.indexOf('X-Last') + 1], 'z');
});

const BODIES = [
  ['JSON', 'application/json', '{"a":[1]}', { a: [1] }],
  ['JSON of a kind', 'application/vnd.x+json; charset=utf-8', '[1]', [1]],
  ['a form', 'application/x-www-form-urlencoded', 'a[b]=1&c=2', { a: { b: '1' }, c: '2' }],
  ['text', 'text/plain', 'tschüß', 'tschüß'],
  ['bytes', 'image/png', '\x01\x02', { buffer: '\x01\x02' }],
  ['bytes without a type', undefined, 'abc', { buffer: 'abc' }],
];

for (const [what, type, sent, body] of BODIES) {
  test(`req.body is parsed: ${what}`, async () => {
    const { json } = await pod.fetch('/fn/f/body', { method: 'POST', body: sent, headers: type ? { 'Content-Type': type } : {} });
    assert.deepEqual(json.body, body);
    assert.equal(json.raw, Buffer.from(sent).toString('latin1'));
  });
}

test('bodies come in charsets and compressed', async () => {
  const latin = await pod.fetch('/fn/f/body', { method: 'POST', body: Buffer.from('tschüß', 'latin1'), headers: { 'Content-Type': 'text/plain; charset=iso-8859-1' } });
  assert.equal(latin.json.body, 'tschüß');
  const packed = await pod.fetch('/fn/f/body', { method: 'POST', body: zlib.gzipSync('{"a":1}'), headers: { 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' } });
  assert.deepEqual(packed.json.body, { a: 1 });
  const unknown = await pod.fetch('/fn/f/body', { method: 'POST', body: 'x', headers: { 'Content-Type': 'text/plain; charset=no-such' } });
  assert.equal(unknown.status, 415);
});

test('a request without a body has none', async () => {
  assert.deepEqual((await pod.fetch('/fn/f/body')).json, { type: 'undefined' });
  assert.deepEqual((await pod.fetch('/fn/f/body', { method: 'DELETE' })).json, { type: 'undefined' });
});

test('a multipart body stays a stream', async () => {
  const { json } = await pod.fetch('/fn/f/stream', { method: 'POST', body: 'x'.repeat(100_000), headers: { 'Content-Type': 'multipart/form-data; boundary=x' } });
  assert.deepEqual(json, { n: 100_000, body: 'undefined' });
});

test('config.bodyParser false leaves every body a stream', async () => {
  const streaming = await Pod.active(`
    exports.config = { bodyParser: false };
    exports.default = async (req, res) => { let n = 0; for await (const part of req) n += part.length; res.json(n); };`);
  try {
    const body = Buffer.alloc(20 * 1024 * 1024);
    const { text } = await streaming.fetch('/fn/f', { method: 'POST', body, headers: { 'Content-Type': 'application/json' } });
    assert.equal(text, String(body.length));
  } finally {
    await streaming.stop();
  }
});

test('the limit of parsed bodies is the function\'s to set, and Next.js\'s form of config counts', async () => {
  const limited = await Pod.active(`exports.config = { api: { bodyParser: { sizeLimit: '1kb' } } }; exports.default = (req, res) => res.json(req.body.length);`);
  const streaming = await Pod.active(`export const config = { api: { bodyParser: false } }; export default (req, res) => res.json(req.body === undefined);`);
  try {
    const post = (pod, length, headers) => pod.fetch('/fn/f', { method: 'POST', body: 'x'.repeat(length), headers: { 'Content-Type': 'text/plain', ...headers } });
    assert.equal((await post(limited, 1024)).text, '1024');
    assert.equal((await post(limited, 1025)).status, 413);
    assert.equal((await post(limited, 1025, { 'Transfer-Encoding': 'chunked' })).status, 413);
    const packed = zlib.gzipSync('x'.repeat(1025));
    const answer = await limited.fetch('/fn/f', { method: 'POST', body: packed, headers: { 'Content-Type': 'text/plain', 'Content-Encoding': 'gzip' } });
    assert.equal(answer.status, 413);
    assert.equal((await post(streaming, 2000)).text, 'true');
  } finally {
    await limited.stop();
    await streaming.stop();
  }
});

test('malformed JSON is the caller\'s mistake', async () => {
  const answer = await pod.fetch('/fn/f/body', { method: 'POST', body: '{"a":', headers: { 'Content-Type': 'application/json' } });
  assert.equal(answer.status, 400);
  assert.equal(answer.json.error.code, 'bad_request');
  assert.match(answer.json.error.message, /JSON/);
});

test('a body over the limit is refused, declared or not', async () => {
  const body = Buffer.alloc(10 * 1024 * 1024 + 1);
  for (const headers of [{}, { 'Transfer-Encoding': 'chunked' }]) {
    const answer = await pod.fetch('/fn/f/body', { method: 'POST', body, headers: { 'Content-Type': 'text/plain', ...headers } });
    assert.equal(answer.status, 413);
    assert.equal(answer.json.error.code, 'too_large');
  }
  assert.equal((await pod.fetch('/fn/f/body', { method: 'POST', body: body.subarray(2), headers: { 'Content-Type': 'image/png' } })).status, 200);
});

test('a client that waits for 100-continue gets it, and a 413 instead of it', async () => {
  const head = (length) =>
    `POST /fn/f/body HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\nContent-Type: text/plain\r\n` +
    `Content-Length: ${length}\r\nExpect: 100-continue\r\n\r\n`;
  const socket = await pod.raw(head(2));
  assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 100 Continue\r\n\r\n$/);
  socket.write('ab');
  assert.match(String(await once(socket, 'data')), /^HTTP\/1\.1 200 [^]*"body":"ab"/);
  socket.destroy();
  const refused = await pod.raw(head(1e9));
  assert.match(String(await once(refused, 'data')), /^HTTP\/1\.1 413 [^]*Connection: close/);
  refused.destroy();
});

test('the router says who the client is', async () => {
  const headers = { 'X-Forwarded-For': '9.9.9.9, 10.1.2.3', 'X-Forwarded-Proto': 'https', 'X-Forwarded-Host': 'example.org:8443', Host: 'inside' };
  assert.deepEqual((await pod.fetch('/fn/f/client', { headers })).json, {
    ip: '10.1.2.3', protocol: 'https', host: 'example.org:8443', hostname: 'example.org', secure: true,
  });
});

test('res has Express\'s members', async () => {
  const text = await pod.fetch('/fn/f/text');
  assert.deepEqual([text.status, text.text, text.headers['content-type'], text.headers['x-a']], [201, 'plain 1', 'text/plain; charset=utf-8', 'b']);
  assert.match(text.headers.etag, /^W\/"/);
  assert.equal((await pod.fetch('/fn/f/mount')).headers['content-type'], 'application/json; charset=utf-8');
  const cookie = await pod.fetch('/fn/f/cookie', { headers: { Accept: 'text/html' } });
  assert.deepEqual([cookie.status, cookie.headers.location, cookie.headers['set-cookie'][0]], [302, '/there', 'a=b; Path=/; HttpOnly']);
  assert.match(cookie.text, /<p>Found/);
  assert.equal((await pod.fetch('/fn/f/nothing')).status, 204);
  const file = await pod.fetch('/fn/f/file');
  assert.match(file.headers['content-type'], /^text\/javascript/);
  assert.match(file.text, /exports\.file/);
});

test('an answer that the client has already is 304', async () => {
  const { headers } = await pod.fetch('/fn/f/mount');
  const again = await pod.fetch('/fn/f/mount', { headers: { 'If-None-Match': headers.etag } });
  assert.deepEqual([again.status, again.text], [304, '']);
});

test('what Express\'s members cannot answer is an error answer', async () => {
  const missing = await pod.fetch('/fn/f/missing');
  assert.deepEqual([missing.status, missing.json.error.code], [404, 'not_found']);
  const render = await pod.fetch('/fn/f/render');
  assert.deepEqual([render.status, render.json.error.code], [500, 'handler_failed']);
  await pod.log('res.render(\'page\') needs an Express app');
});

test('a real Express app may be the function', async () => {
  const app = await Pod.active(`
    const app = require(${JSON.stringify(require.resolve('express'))})();
    app.use(require(${JSON.stringify(require.resolve('express'))}).json());
    app.post('/echo', (req, res) => res.json([req.body, req.baseUrl, req.originalUrl]));
    module.exports = app;`);
  try {
    const answer = await app.fetch('/fn/f/echo', { method: 'POST', body: '{"a":1}', headers: { 'Content-Type': 'application/json' } });
    assert.deepEqual(answer.json, [{ a: 1 }, '/fn/f', '/fn/f/echo']);
    assert.equal((await app.fetch('/fn/f/nowhere')).status, 404);
  } finally {
    await app.stop();
  }
});

test('of the headers of the engine, a handler sees who calls, and no other', async () => {
  const pod = await Pod.active(`module.exports = (req, res) => res.json([req.headers, req.rawHeaders.length]);`);
  try {
    const headers = { 'x-sanfran-user': 'v%C3%ADk', 'x-sanfran-other': 'x' };
    const [seen, raw] = (await pod.fetch('/fn/f', { headers })).json;
    assert.equal(seen['x-sanfran-user'], 'v%C3%ADk');
    assert.deepEqual(Object.keys(seen).filter((name) => name.startsWith('x-sanfran-')), ['x-sanfran-user']);
    assert.equal(raw, Object.keys(seen).length * 2);
  } finally {
    await pod.stop();
  }
});
