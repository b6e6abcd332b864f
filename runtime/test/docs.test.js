'use strict';
const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { Pod } = require('./pod.js');

const page = fs.readFileSync(path.join(__dirname, '../../docs/handlers.md'), 'utf8');
const examples = Object.fromEntries(
  [...page.matchAll(/```js\n\/\/ (\S+)\n([^]*?)```/g)].map(([, name, source]) => [name, source]),
);

const json = (body) => ({ method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } });
const CALLS = {
  'hello.js': [
    ['/fn/f?name=Vik', {}, 200, 'Hello Vik'],
    ['/fn/f', {}, 200, 'Hello World'],
  ],
  'shapes.js': [
    ['/fn/f', {}, 200, 'try /square?n=3'],
    ['/fn/f/square?n=3', {}, 200, '{"area":9,"handler":"square"}'],
    ['/fn/f/square?n=x', {}, 400, 'n is not a number'],
    ['/fn/f/circle', {}, 404, /it has: index, square/],
  ],
  'order.js': [
    ['/fn/f', json({ items: [1] }), 201, '{"items":[1]}'],
    ['/fn/f', {}, 201, '{"items":[]}'],
  ],
};

test('every example of docs/handlers.md is called here', () => {
  assert.deepEqual(Object.keys(examples), Object.keys(CALLS));
});

for (const [name, calls] of Object.entries(CALLS)) {
  test(`the example ${name} of docs/handlers.md does what it seems to`, async () => {
    const pod = await Pod.active({ [name]: examples[name] });
    try {
      for (const [url, options, status, text] of calls) {
        const answer = await pod.fetch(url, options);
        assert.equal(answer.status, status);
        if (text instanceof RegExp) assert.match(answer.text, text);
        else assert.equal(answer.text, text);
      }
    } finally {
      await pod.stop();
    }
  });
}
