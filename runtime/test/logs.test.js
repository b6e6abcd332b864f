'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');
const { Pod } = require('./pod.js');

async function using(source, use) {
  const pod = await Pod.active(source);
  try {
    await use(pod);
  } finally {
    await pod.stop();
  }
}

const lines = (pod) => pod.messages.filter((m) => m.type === 'log').map((m) => [m.level, m.text]);

test('each console method has its level, each line is one message', () =>
  using(
    `console.debug('d %d', 1); console.log('l', { a: 1 }); console.info('two\\nlines'); console.warn('w'); console.error('e');
     console.group('g'); console.warn('inside'); console.groupEnd(); console.log('');
     module.exports = () => {};`,
    async (pod) => {
      assert.deepEqual(lines(pod), [
        ['debug', 'd 1'], ['info', 'l { a: 1 }'], ['info', 'two'], ['info', 'lines'], ['warning', 'w'], ['error', 'e'],
        ['info', 'g'], ['warning', '  inside'], ['info', ''],
      ]);
      assert.ok(Math.abs(pod.messages[1].time_ms - Date.now()) < 60_000);
      assert.equal(pod.output, '');
    },
  ));

test('what is written to stdout and stderr is cut into lines, wherever it is split', () =>
  using(
    `const u = Buffer.from('ü'); process.stdout.write('a'); process.stdout.write('b\\r\\nc'); process.stdout.write('\\n');
     process.stdout.write(u.subarray(0, 1)); process.stdout.write(u.subarray(1)); process.stdout.write('\\n');
     process.stderr.write('x\\ny', () => console.log('written')); process.stdout.end('end\\n'); console.log('still');
     module.exports = () => process.exit(0);`,
    async (pod) => {
      await pod.log('still');
      await pod.log('written');
      assert.deepEqual(lines(pod).slice(0, 5), [['info', 'ab'], ['info', 'c'], ['info', 'ü'], ['error', 'x'], ['info', 'end']]);
      await pod.fetch('/fn/f').catch(() => {});
      assert.equal((await pod.log((m) => m.text === 'y')).level, 'error', 'an unfinished line leaves at the end');
    },
  ));

test('a line that is too long is cut', () =>
  using(`console.log('x'.repeat(100_000)); process.stdout.write('y'.repeat(100_000)); module.exports = () => {};`, (pod) => {
    for (const [, text] of lines(pod)) {
      assert.ok(text.length < 17_000);
      assert.match(text, /line cut/);
    }
    assert.equal(lines(pod).length, 2);
  }));

test('a flood of lines that nobody reads neither blocks nor fills memory, and its loss is told', () =>
  using(
    `module.exports = (req, res) => {
       const text = 'z'.repeat(1000);
       for (let i = 0; i < 200_000; i++) console.log(text);
       res.json(process.memoryUsage().rss);
     };`,
    async (pod) => {
      pod.control.pause();
      const { json: rss } = await pod.fetch('/fn/f');
      assert.ok(rss < 200e6, `${rss} bytes`);
      pod.control.resume();
      const told = await pod.log('log lines were dropped');
      assert.equal(told.level, 'warning');
      const arrived = lines(pod).filter(([, text]) => text.startsWith('z')).length;
      assert.equal(Number.parseInt(told.text, 10) + arrived, 200_000);
      await pod.fetch('/fn/f');
    },
  ));

test('what bypasses the streams reaches the process\'s real output', () =>
  using(`require('node:fs').writeSync(1, 'raw\\n'); module.exports = (req, res) => res.send('x');`, async (pod) => {
    await pod.fetch('/fn/f');
    while (!pod.output.includes('raw\n')) await new Promise(setImmediate);
  }));
