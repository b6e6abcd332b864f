'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Pod } = require('./pod.js');

async function using(files, use, options) {
  const pod = await Pod.active(files, options);
  try {
    await use(pod);
  } finally {
    await pod.stop();
  }
}

async function loadError(files) {
  const pod = await Pod.start();
  try {
    const answer = await pod.load(files);
    assert.equal(answer.type, 'load_failed');
    assert.equal((await pod.log('the function failed to load: ')).level, 'error');
    return answer;
  } finally {
    await pod.stop();
  }
}

const GREET = `(req, res) => { res.send('Hello ' + req.query.name); }`;

const SINGLE_HANDLERS = {
  'a CommonJS function': `module.exports = ${GREET};`,
  'an async function': `module.exports = async (req, res) => { await null; res.send('Hello ' + req.query.name); };`,
  'a default export in a .js file': `export default ${GREET};`,
  'an ES module after top-level await': `const g = await Promise.resolve('Hello '); export default (req, res) => res.send(g + req.query.name);`,
  'exports.default': `exports.__esModule = true; exports.default = ${GREET};`,
  'an .mjs file': { 'function.mjs': `export default ${GREET};` },
  'a .cjs file': { 'function.cjs': `module.exports = ${GREET};` },
  'a TypeScript ES module': {
    'function.ts': `import type { IncomingMessage } from 'node:http';
      interface Query { name: string }
      export default (req: IncomingMessage & { query: Query }, res: any): void => res.send('Hello ' + req.query.name);`,
  },
  'a TypeScript CommonJS module': { 'function.cts': `module.exports = (req: any, res: any) => res.send('Hello ' + (req.query.name as string));` },
  'a folder of type module': {
    'lib/main.js': `import { greet } from './greet.js'; export default greet;`,
    'lib/greet.js': `export const greet = ${GREET};`,
    'package.json': `{"type": "module"}`,
  },
  'a (req, res) listener of a framework': {
    'function.js': `module.exports = require('frame')();`,
    'node_modules/frame/index.js': `module.exports = () => function listener(req, res, next) { res.setHeader('Content-Type', 'text/plain'); res.end('Hello ' + req.query.name); };`,
  },
};

for (const [what, files] of Object.entries(SINGLE_HANDLERS)) {
  test(`a handler may be ${what}`, () =>
    using(files, async (pod) => {
      const answer = await pod.fetch('/fn/f/any/path?name=Vik');
      assert.equal(answer.text, 'Hello Vik');
      assert.equal(answer.status, 200);
    }));
}

test('an object of handlers is addressed by the next path segment', () =>
  using(
    `const who = (req) => [req.baseUrl, req.url, req.params.handler];
     exports.hello = (req, res) => res.json(['hello', ...who(req)]);
     exports['good bye'] = function (req, res) { res.json(['bye', this === module.exports, ...who(req)]); };
     exports.version = 7;`,
    async (pod) => {
      assert.deepEqual((await pod.fetch('/fn/f/hello')).json, ['hello', '/fn/f', '/hello', 'hello']);
      assert.deepEqual((await pod.fetch('/fn/f/hello/x?y=1')).json, ['hello', '/fn/f', '/hello/x?y=1', 'hello']);
      assert.deepEqual((await pod.fetch('/fn/f/good%20bye')).json, ['bye', true, '/fn/f', '/good%20bye', 'good bye']);
      for (const url of ['/fn/f/version', '/fn/f/toString', '/fn/f/__proto__', '/fn/f/%ff']) {
        const answer = await pod.fetch(url);
        assert.equal(answer.status, 404);
        assert.equal(answer.json.error.code, 'not_found');
        assert.match(answer.json.error.message, /it has: good bye, hello$/);
        assert.equal(answer.json.error.request_id, 'request-1');
      }
      assert.match((await pod.fetch('/fn/f?x')).json.error.message, /no handler for its bare path; it has/);
    },
  ));

test('`index` answers the bare path, `default` whatever names no other handler', async () => {
  await using(
    `for (const name of ['index', 'default', 'bye']) exports[name] = (req, res) => res.json([name, req.params]);`,
    async (pod) => {
      assert.deepEqual((await pod.fetch('/fn/f')).json, ['index', {}]);
      assert.deepEqual((await pod.fetch('/fn/f/?x=1')).json, ['index', {}]);
      assert.deepEqual((await pod.fetch('/fn/f/bye')).json, ['bye', { handler: 'bye' }]);
      assert.deepEqual((await pod.fetch('/fn/f/other')).json, ['default', {}]);
    },
  );
  await using(
    `export default (req, res) => res.send('default'); export const bye = (req, res) => res.send('bye');`,
    async (pod) => {
      assert.equal((await pod.fetch('/fn/f')).text, 'default');
      assert.equal((await pod.fetch('/fn/f/x')).text, 'default');
      assert.equal((await pod.fetch('/fn/f/bye')).text, 'bye');
    },
  );
});

test('named exports and a default object of an ES module are handlers', async () => {
  for (const source of [
    `export const hello = (req, res) => res.send('hello'); export function bye(req, res) { res.send('bye'); }`,
    `export default { hello: (req, res) => res.send('hello'), bye: (req, res) => res.send('bye') };`,
  ]) {
    await using(source, async (pod) => {
      assert.equal((await pod.fetch('/fn/f/hello')).text, 'hello');
      assert.equal((await pod.fetch('/fn/f/bye')).text, 'bye');
      assert.equal((await pod.fetch('/fn/f/default')).status, 404);
    });
  }
});

const WRONG_EXPORTS = {
  '': /exports nothing; a function may export/,
  'module.exports = "text";': /exports a value of type string/,
  'module.exports = null;': /exports null/,
  'module.exports = [() => 1];': /exports an array/,
  'exports.a = 1; exports.b = null;': /no function, only a \(number\), b \(null\);/,
  'module.exports = class Handler {};': /class Handler cannot be called/,
  'export const limit = 5;': /no function, only limit \(number\)/,
};

for (const [source, message] of Object.entries(WRONG_EXPORTS)) {
  test(`a load error says what was found and what is accepted: ${source || 'an empty file'}`, async () => {
    const answer = await loadError(source);
    assert.match(answer.message, message);
    assert.match(answer.message, /one function \(req, res\).*or several by name/);
  });
}

test('a load error carries the stack of what the module threw', async () => {
  const thrown = await loadError(`module.exports = 1;\nthrow new RangeError('no luck');`);
  assert.equal(thrown.message, 'no luck');
  assert.match(thrown.stack, /RangeError: no luck\n +at .*function\.js:2/);

  const syntax = await loadError(`module.exports = 1;\nconst = 2;`);
  assert.match(syntax.stack, /function\.js:2/);

  const missing = await loadError(`require('left-out');`);
  assert.match(missing.message, /Cannot find module 'left-out'/);

  const rejected = await loadError(`await null; throw new Error('late'); export {};`);
  assert.equal(rejected.message, 'late');

  const odd = await loadError(`throw { status: 3 };`);
  assert.match(odd.message, /^threw { status: 3 }/);
});

test('a process takes one function only', () =>
  using(`module.exports = (req, res) => res.send('first');`, async (pod) => {
    pod.messages.length = 0;
    const answer = await pod.load(`module.exports = (req, res) => res.send('second');`);
    assert.equal(answer.type, 'load_failed');
    assert.match(answer.message, /already/);
    assert.equal((await pod.fetch('/fn/f')).text, 'first');
  }));
