'use strict';
const assert = require('node:assert/strict');
const { once } = require('node:events');
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

test('streams that are destroyed go on, and text that never ends its line comes all the same', () =>
  using(
    `process.stdout.destroy(); process.stderr.destroy(); console.log('out'); console.error('err');
     module.exports = (req, res) => { process.stdout.write('working'); setTimeout(() => res.send('x'), 10); };`,
    async (pod) => {
      await pod.fetch('/fn/f', { headers: { 'X-Request-Id': 'first' } });
      await pod.fetch('/fn/f', { headers: { 'X-Request-Id': 'second' } });
      await pod.log((m) => m.request_id === 'second');
      assert.deepEqual(
        pod.messages.filter((m) => m.type === 'log').map((m) => [m.level, m.text, m.request_id ?? null]),
        [['info', 'out', null], ['error', 'err', null], ['info', 'working', 'first'], ['info', 'working', 'second']],
      );
    },
  ));

test('what listens to a request, its answer or its connection logs for it', () =>
  using(
    `const log = (what) => () => console.log(what);
     exports.config = { bodyParser: false };
     exports.read = (req, res) => { req.on('data', log('data')).on('end', () => { console.log('end'); res.send('x'); }); };
     exports.wait = (req, res) => {
       console.log('waiting');
       req.on('close', log('request closed'));
       res.on('close', log('answer closed'));
       req.signal.addEventListener('abort', log('aborted'));
     };
     exports.upgrade = (req, socket) => {
       socket.on('data', log('said'));
       socket.write('HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n');
     };`,
    async (pod) => {
      const head = (id, target, more) =>
        `GET /fn/f/${target} HTTP/1.1\r\nHost: x\r\nX-Sanfran-Activation: ${ACTIVATION}\r\nX-Request-Id: ${id}\r\n${more}\r\n`;
      const reads = await pod.raw(head('reads', 'read', 'Content-Length: 2\r\n'));
      reads.write('{}');
      const waits = await pod.raw(head('waits', 'wait', ''));
      await pod.log('waiting');
      waits.destroy();
      const talks = await pod.raw(head('talks', '', 'Connection: Upgrade\r\nUpgrade: any\r\n'));
      await once(talks, 'data');
      talks.write('hello');
      const expected = {
        data: 'reads', end: 'reads', 'request closed': 'waits', 'answer closed': 'waits', aborted: 'waits', said: 'talks',
      };
      for (const [text, id] of Object.entries(expected)) {
        assert.equal((await pod.log((m) => m.text === text)).request_id, id, text);
      }
      const missed = await pod.log('GET /fn/f/wait was not answered');
      assert.deepEqual([missed.level, missed.request_id], ['warning', 'waits']);
      reads.destroy();
      talks.destroy();
    },
  ));
