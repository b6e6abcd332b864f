'use strict';
// What a function prints goes line by line to the sidecar, with a level. Printing never blocks
// and never fills memory: a sidecar that does not read costs lines, and their number is logged.

const { AsyncLocalStorage } = require('node:async_hooks');
const { prototype: { emit } } = require('node:events');
const { Writable } = require('node:stream');

// The id of the request that a handler runs for, and whatever it started. The id and not the
// request, which a timer that goes on would keep in memory.
const requests = new AsyncLocalStorage();

// Taken before any function's code can replace them: a clock that a test of the function stops, or
// that throws, is none for the log.
const { now } = Date;
const { clearTimeout, setTimeout } = globalThis;

// One log line, in characters; longer ones are cut, as the sidecar would with those over 8,192. Also
// bounds text that never ends its line.
const MAX_LINE = 8000;
// Milliseconds that text waits for the end of its line.
const UNENDED_MS = 1000;

class Log {
  #control;
  #dropped = 0;

  constructor(control) {
    this.#control = control;
  }

  /**
   * Sends each line of `text` as one message. Levels: debug, info, warning, error.
   *
   * @param {string} [request] id of the request that it is about, where that is not the running one
   */
  write(level, text, request) {
    for (const line of text.split('\n')) this.line(level, line, request);
  }

  line(level, text, request = requests.getStore()) {
    if (!this.#control.hasRoom) {
      if (this.#dropped++ === 0) this.#control.onceDrained(() => this.#tellDropped());
      return;
    }
    const cut = text.length > MAX_LINE;
    this.#control.send({
      type: 'log',
      time_ms: now(),
      level,
      request_id: request,
      text: cut ? text.slice(0, MAX_LINE) + ' … (line cut)' : text,
    });
  }

  #tellDropped() {
    const dropped = this.#dropped;
    this.#dropped = 0;
    this.line('warning', `${dropped} log lines were dropped: they came faster than they were read`, null);
  }
}

/** Stands in for process.stdout or process.stderr. */
class LineStream extends Writable {
  #log;
  #level;
  #partial = '';
  #partialOf;
  #timer = null;
  #decoder = null;

  constructor(log, level, fd) {
    super({ decodeStrings: false, autoDestroy: false });
    this.#log = log;
    this.#level = level;
    this.fd = fd;
  }

  /** The level for what is written from now on; returns the one before. */
  level(level) {
    const before = this.#level;
    this.#level = level;
    return before;
  }

  _write(chunk, _encoding, done) {
    let text = chunk;
    if (typeof chunk !== 'string') {
      // A character may be split over two chunks.
      this.#decoder ??= new (require('node:string_decoder').StringDecoder)('utf8');
      text = this.#decoder.write(chunk);
    }
    const request = requests.getStore();
    // Two requests never share a line.
    if (request !== this.#partialOf) this.flush();
    this.#partialOf = request;
    const lines = text.split('\n');
    lines[0] = this.#partial + lines[0];
    this.#partial = lines.pop();
    for (const line of lines) this.#log.line(this.#level, line.endsWith('\r') ? line.slice(0, -1) : line);
    if (this.#partial.length > MAX_LINE) this.flush();
    else if (this.#partial !== '') this.#timer ??= setTimeout(() => this.flush(), UNENDED_MS).unref();
    done();
  }

  // Like the streams that it replaces, it cannot be closed.
  _destroy(_error, done) {
    done(null);
    this._undestroy();
  }

  end(chunk) {
    if (typeof chunk === 'string' || ArrayBuffer.isView(chunk)) this.write(chunk);
    return this;
  }

  /** Sends text that has not ended its line. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const text = this.#partial;
    this.#partial = '';
    if (text !== '') this.#log.line(this.#level, text, this.#partialOf ?? null);
  }
}

/**
 * Turns console.*, process.stdout and process.stderr into log messages.
 *
 * @param {import('./control.js').ControlSocket} control
 * @returns {Log} for the runtime's own lines
 */
function captureOutput(control) {
  const log = new Log(control);
  const stdout = new LineStream(log, 'info', 1);
  const stderr = new LineStream(log, 'error', 2);
  const replace = (name, value) =>
    Object.defineProperty(process, name, { value, configurable: true, enumerable: true, writable: true });
  replace('stdout', stdout);
  replace('stderr', stderr);
  levelOf('debug', stdout, 'debug');
  levelOf('warn', stderr, 'warning');
  process.on('exit', () => {
    stdout.flush();
    stderr.flush();
  });
  return log;
}

/**
 * Runs what listens to an event for a request: events come from the connection, and not from what its
 * handler started.
 *
 * @param {EventEmitter} emitter
 * @param {string | undefined} request its id
 * @param {unknown[]} event its name and values
 */
function emitFor(emitter, request, event) {
  if (requests.getStore() === request) return emit.apply(emitter, event);
  return requests.run(request, () => emit.apply(emitter, event));
}

/** Gives what one console method writes a level of its own. */
function levelOf(method, stream, level) {
  const original = console[method];
  console[method] = function (...values) {
    const before = stream.level(level);
    try {
      original.apply(this, values);
    } finally {
      stream.level(before);
    }
  };
}

module.exports = { captureOutput, emitFor, requests };
