'use strict';
// Each member of req and res beside a plain Express 5 app: the same handler, the same bytes of a
// request, and the bytes of both answers compared.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const http = require('node:http');
const net = require('node:net');
const path = require('node:path');
const { after, before, test } = require('node:test');
const express = require('express');
const cookieParser = require('./packages/node_modules/cookie-parser');
const { Pod, ACTIVATION } = require('./pod.js');
const { STATUS_CODES } = http;
const handlers = require('./members/index.js');

const REQUEST_ID = 'request-1';
const NOT_COMPARED = /^(Date|Connection|Keep-Alive): .*\r\n/gim;

/** What docs/handlers.md promises, of Express's own parts. */
function plainApp() {
  const app = express();
  app.disable('x-powered-by');
  app.set('trust proxy', 1);
  const options = { limit: '10mb', verify: (req, _res, bytes) => (req.rawBody = bytes) };
  app.use(
    '/fn/f',
    parseBody,
    cookieParser('a secret'),
    (req, res, next) => {
      const handler = req.path.split('/')[1];
      req.params = { handler };
      return handlers[handler](req, res, next);
    },
  );
  const parsers = [
    express.json({ ...options, type: ['json', '+json'] }),
    express.urlencoded({ ...options, extended: true }),
    express.text({ ...options, type: 'text/*' }),
    express.raw({ ...options, type: (req) => !/^multipart\//.test(req.headers['content-type']) }),
  ];
  function parseBody(req, res, next) {
    const left = req.headers['content-length'] === '0' && !req.headers['content-type'] ? [] : [...parsers];
    const then = (error) => {
      if (error) next(Object.assign(error, { fromParser: true }));
      else if (req.body !== undefined || left.length === 0) next();
      else left.shift()(req, res, then);
    };
    then();
  }
  app.use((req, res) => answer(req, res, 404, 'not_found', `nothing is at ${req.originalUrl}`));
  app.use((error, req, res, _next) => {
    const status = error.status ?? error.statusCode;
    if (!(status >= 400 && status < 500)) return answer(req, res, status >= 500 ? status : 500, 'handler_failed', 'the function failed; its logs tell why');
    const code = { 404: 'not_found', 413: 'too_large' }[status] ?? 'bad_request';
    const message = error.fromParser || (error.expose && error.code === undefined) ? error.message : STATUS_CODES[status];
    answer(req, res, status, code, message, error.expose ? error.headers : {});
  });
  return app;
}

/** The engine's form of errors. */
function answer(req, res, status, code, message, headers = {}) {
  for (const name of res.getHeaderNames()) res.removeHeader(name);
  const body = JSON.stringify({ error: { code, message, request_id: req.headers['x-request-id'] } });
  const requestId = { 'X-Request-Id': req.headers['x-request-id'] };
  res.writeHead(status, { ...headers, 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': Buffer.byteLength(body), ...requestId });
  res.end(body);
}

let pod;
let server;
before(async () => {
  pod = await Pod.start();
  const loaded = await pod.load({}, { root: path.join(__dirname, 'members'), entry: 'index.js', env: {} });
  assert.equal(loaded.type, 'loaded', loaded.message);
  server = http.createServer(plainApp());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
after(async () => {
  server.close();
  server.closeAllConnections();
  await pod.stop();
});

/** All bytes that come back, as latin1 text. */
async function ask(port, name, { method, target, headers, body }) {
  const framed = headers.some((line) => /^transfer-encoding:/i.test(line));
  const lines = [
    `${method} /fn/f/${name}${target} HTTP/1.1`,
    'Host: api.shop.example.org:8080',
    `X-Request-Id: ${REQUEST_ID}`,
    'Connection: close',
    ...headers,
    ...(body === undefined || framed ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
    ...(port === pod.port ? [`X-Sanfran-Activation: ${ACTIVATION}`] : []),
  ];
  const socket = net.connect({ port, host: '127.0.0.1', signal: AbortSignal.timeout(10_000) });
  socket.write(Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), Buffer.from(body ?? '')]));
  const parts = [];
  for await (const part of socket) parts.push(part);
  const text = Buffer.concat(parts).toString('latin1');
  const end = text.indexOf('\r\n\r\n') + 2;
  return text.slice(0, end).replace(NOT_COMPARED, '') + text.slice(end);
}

for (const { what, name, requests } of handlers.rows) {
  test(`as in a plain Express 5 app: ${what}`, async () => {
    for (const request of requests) {
      const [ours, theirs] = await Promise.all([ask(pod.port, name, request), ask(server.address().port, name, request)]);
      assert.equal(ours, theirs, request.text);
      assert.match(ours, /^HTTP\/1\.1 \d{3} /);
    }
  });
}

test('enough is compared for the word "entire"', () => {
  assert.ok(handlers.rows.flatMap(({ requests }) => requests).length >= 120);
});
