'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
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
  'a TypeScript .mts file': { 'function.mts': `export default async (req: any, res: any): Promise<void> => { res.send('Hello ' + (req.query.name satisfies string)); };` },
  'a TypeScript file that imports another': {
    'index.ts': `import { greet, type Greeting } from './greet.ts'; const it: Greeting = greet; export default it;`,
    'greet.ts': `export type Greeting = (req: any, res: any) => void; export const greet: Greeting = ${GREET};`,
  },
  'an ES module that imports JSON and others as it goes': {
    'index.mjs': `import words from './words.json' with { type: 'json' };
      export default async (req, res) => { const { join } = await import('./join.cjs'); res.send(join(words.hello, req.query.name)); };`,
    'words.json': `{ "hello": "Hello" }`,
    'join.cjs': `exports.join = (...words) => words.join(require('./blank.json').blank);`,
    'blank.json': `{ "blank": " " }`,
  },
  'CommonJS modules in a circle': {
    'index.js': `exports.word = 'Hello '; const { greet } = require('./greet'); module.exports = greet;`,
    'greet.js': `const { word } = require('./index'); exports.greet = (req, res) => res.send(word + req.query.name);`,
  },
  'ES modules in a circle': {
    'index.mjs': `import { greet } from './greet.mjs'; export const config = { word: 'Hello ' }; export default greet;`,
    'greet.mjs': `import { config } from './index.mjs'; export const greet = (req, res) => res.send(config.word + req.query.name);`,
  },
  'a CommonJS module that requires an ES module': {
    'index.js': `module.exports = require('./greet.mjs').greet;`,
    'greet.mjs': `export const greet = ${GREET};`,
  },
  'an ES module after top-level await deep below': {
    'index.mjs': `import { greet } from './greet.mjs'; export default greet;`,
    'greet.mjs': `const { greet } = await import('./later.mjs'); export { greet };`,
    'later.mjs': `await new Promise(setImmediate); export const greet = ${GREET};`,
  },
  'an async arrow function with next': `module.exports = async (req, res, next) => res.send('Hello ' + req.query.name);`,
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

test('a handler with three parameters gets next', () =>
  using(
    `exports.error = (req, res, next) => next(new Error('secret'));
     exports.nothing = async (req, res, next) => { await null; next(); };
     exports.mine = (req, res, next) => next(Object.assign(new Error('give a number'), { status: 400, expose: true }));
     exports.this = function (req, res, next) { res.json([this === module.exports, typeof next]); };`,
    async (pod) => {
      const failed = await pod.fetch('/fn/f/error');
      assert.deepEqual([failed.status, failed.json.error.code], [500, 'handler_failed']);
      assert.doesNotMatch(failed.text, /secret/);
      assert.match((await pod.log('Error: secret')).text, /secret/);
      const nothing = await pod.fetch('/fn/f/nothing');
      assert.deepEqual([nothing.status, nothing.json.error.message], [404, 'nothing is at /fn/f/nothing']);
      const mine = await pod.fetch('/fn/f/mine');
      assert.deepEqual([mine.status, mine.json.error.message], [400, 'give a number']);
      assert.deepEqual((await pod.fetch('/fn/f/this')).json, [true, 'function']);
    },
  ));

test('modules behind symbolic links in the folder are found', async () => {
  const pod = await Pod.start();
  try {
    fs.mkdirSync(`${pod.root}/store/greet`, { recursive: true });
    fs.mkdirSync(`${pod.root}/node_modules`);
    fs.writeFileSync(`${pod.root}/store/greet/index.js`, `exports.greet = ${GREET};`);
    fs.symlinkSync('../store/greet', `${pod.root}/node_modules/greet`);
    assert.equal((await pod.load(`module.exports = require('greet').greet;`)).type, 'loaded');
    assert.equal((await pod.fetch('/fn/f?name=Vik')).text, 'Hello Vik');
  } finally {
    await pod.stop();
  }
});

test('while top-level await is pending nothing is answered and nothing is said', async () => {
  const pod = await Pod.start();
  try {
    pod.load(`export default (req, res) => res.send('late'); console.log('pending'); await new Promise((go) => process.once('SIGUSR2', go));`);
    await pod.log('pending');
    assert.equal((await pod.fetch('/fn/f')).status, 421);
    process.kill(pod.process.pid, 'SIGUSR2');
    await pod.message((m) => m.type === 'loaded');
    assert.equal((await pod.fetch('/fn/f')).text, 'late');
  } finally {
    await pod.stop();
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
  'module.exports = {};': /exports nothing;/,
  'module.exports = undefined;': /exports undefined;/,
  'module.exports = 7;': /exports a value of type number/,
  'export default undefined;': /exports as default undefined;/,
  'export default class App {}': /class App cannot be called/,
  'exports.a = class {};': /class .*cannot be called/,
  'module.exports = Promise.resolve(() => 1);': /exports a promise \(await what it gives/,
  'export default (async () => (req, res) => res.end())();': /as default a promise \(await/,
  'module.exports = new (class Shop { constructor() { this.open = true; } handle() {} })();': /an instance of Shop with no function, only open \(boolean\)/,
  'module.exports = new Map([["a", 1]]);': /an instance of Map with nothing/,
  'export default { fetch: (request) => new Response("x") };': /default export has fetch\(\)/,
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

  const { message } = await loadError({ 'index.ts': `enum Kind { A }\nexport default () => Kind.A;` });
  assert.match(message, /TypeScript enum is not supported in strip-only mode/);

  const size = await loadError(`exports.config = { bodyParser: { sizeLimit: 'big' } }; exports.a = () => {};`);
  assert.match(size.message, /sizeLimit is big; write bytes, or such as '4mb'/);

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
