'use strict';
const assert = require('node:assert/strict');
const http = require('node:http');
const { once } = require('node:events');
const path = require('node:path');
const { test } = require('node:test');
const { Pod } = require('./pod.js');

const DEMO = path.join(__dirname, '../../demo');

async function using(name, entry, use, env = {}) {
  const pod = await Pod.start();
  try {
    const answer = await pod.load({}, { name, root: path.dirname(path.join(DEMO, entry)), entry: path.basename(entry), env });
    assert.equal(answer.type, 'loaded', answer.message);
    await use(pod);
  } finally {
    await pod.stop();
  }
}

test('hello greets, and never with HTML', () =>
  using('hello', 'hello.js', async (pod) => {
    assert.equal((await pod.fetch('/fn/hello?name=Vik')).text, 'Hello Vik');
    assert.equal((await pod.fetch('/fn/hello')).text, 'Hello World');
    const answer = await pod.fetch('/fn/hello?name=%3Cb%3E');
    assert.equal(answer.headers['content-type'], 'text/plain; charset=utf-8');
  }));

test('headers shows the request', () =>
  using('headers', 'headers.js', async (pod) => {
    const answer = await pod.fetch('/fn/headers/a?b=1', { headers: { 'X-Mine': 'yes' } });
    assert.equal(answer.headers['x-served-by'], 'SanFran');
    assert.equal(answer.json.headers['x-mine'], 'yes');
    assert.deepEqual([answer.json.url, answer.json.baseUrl], ['/a?b=1', '/fn/headers']);
  }));

test('greetings has two handlers and a list of them', () =>
  using('greetings', 'greetings.js', async (pod) => {
    assert.equal((await pod.fetch('/fn/greetings/hello')).text, 'Hello World');
    assert.equal((await pod.fetch('/fn/greetings/bye?name=Vik')).text, 'Bye Vik');
    assert.deepEqual((await pod.fetch('/fn/greetings')).json, { handlers: ['/fn/greetings/hello', '/fn/greetings/bye'] });
    assert.equal((await pod.fetch('/fn/greetings/other')).status, 404);
  }));

test('qr draws any text that fits', () =>
  using('qr', 'qr/index.js', async (pod) => {
    const answer = await pod.fetch('/fn/qr?text=%3Cb%3E%20%F0%9F%99%82');
    assert.equal(answer.headers['content-type'], 'image/svg+xml; charset=utf-8');
    assert.match(answer.text, /^<svg[^]*<\/svg>$/);
    assert.doesNotMatch(answer.text, /<b>/);
    assert.equal((await pod.fetch(`/fn/qr?text=${'x'.repeat(2953)}`)).status, 200);
    assert.equal((await pod.fetch(`/fn/qr?text=${'x'.repeat(2954)}`)).status, 400);
  }));

test('chain asks another function at the address that the client used, or at ENGINE_URL', async () => {
  const engine = http.createServer((req, res) => {
    res.statusCode = req.url.includes('nobody') ? 404 : 200;
    res.end(`asked for ${req.url}`);
  });
  engine.listen(0, '127.0.0.1');
  await once(engine, 'listening');
  const address = `127.0.0.1:${engine.address().port}`;
  try {
    await using('chain', 'chain.js', async (pod) => {
      const { text } = await pod.fetch('/fn/chain?name=V%20k', { headers: { Host: address } });
      assert.equal(text, 'asked for /fn/hello?name=V+k, says another function');
      const failed = await pod.fetch('/fn/chain?name=nobody', { headers: { Host: address } });
      assert.deepEqual([failed.status, failed.json], [502, { asked: '/fn/hello', status: 404 }]);
    });
    await using('chain', 'chain.js', async (pod) => {
      assert.equal((await pod.fetch('/fn/chain', { headers: { Host: 'elsewhere.invalid' } })).text, 'asked for /fn/hello, says another function');
    }, { ENGINE_URL: `http://${address}` });
  } finally {
    engine.closeAllConnections();
    engine.close();
  }
});
