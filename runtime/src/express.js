'use strict';
// Express 5's req and res on the classes that Node's server itself makes. Express swaps the
// prototype of every request and response, which costs more than all the rest of it; here its
// own members stand on the prototypes from the start.

const { EventEmitter } = require('node:events');
const http = require('node:http');
const querystring = require('node:querystring');
const { Readable } = require('node:stream');
const requestMembers = require('express/lib/request.js');
const responseMembers = require('express/lib/response.js');
const { wetag } = require('express/lib/utils.js');
const { nextFor } = require('./failure.js');
const { parseCookies } = require('./cookies.js');
const { emitFor } = require('./logs.js');

// The settings of an Express app that its req and res members read, with Express's defaults.
// Only the router is trusted to say who the client is: it is always the first hop.
const settings = Object.assign(Object.create(null), {
  etag: 'weak',
  'etag fn': wetag,
  'jsonp callback name': 'callback',
  'query parser': 'simple',
  'query parser fn': querystring.parse,
  'subdomain offset': 2,
  'trust proxy': 1,
  'trust proxy fn': (_address, hop) => hop < 1,
});

const app = {
  locals: Object.create(null),
  settings,
  get: (name) => settings[name],
  enabled: (name) => Boolean(settings[name]),
  disabled: (name) => !settings[name],
  render(view, _options, done) {
    done(new Error(`res.render('${view}') needs an Express app of your own, with a view engine`));
  },
};

const ENGINE_HEADER = /^x-sanfran-/i;
const BEGUN = 'HTTP/1.1 102 Processing\r\nX-Sanfran-Begun: 1\r\n\r\n';

// Puts a value in the place of an accessor.
function own(object, name, value) {
  Object.defineProperty(object, name, { value, configurable: true, enumerable: true, writable: true });
}

// Moves the header line at `i` to where the kept ones end; returns where they end then.
function keep(lines, i, kept) {
  if (kept !== i) {
    lines[kept] = lines[i];
    lines[kept + 1] = lines[i + 1];
  }
  return kept + 2;
}

class FunctionRequest extends http.IncomingMessage {
  #activation;
  #early = false;
  #requestId;
  #leaving = null;

  constructor(socket) {
    super(socket);
    this.res = undefined;
    this.originalUrl = '';
    this.baseUrl = '';
    this.params = undefined;
    this.body = undefined;
  }

  /** The activation id that a request was routed to; undefined when it carries none. */
  static activationOf(req) {
    return req.#activation;
  }

  /** Whether its router was told of the activation while that was still being loaded. */
  static isEarly(req) {
    return req.#early;
  }

  /** The request's id, as the router sent it; undefined when it did not, or when this is not the request itself. */
  static idOf(req) {
    return #requestId in req ? req.#requestId : undefined;
  }

  // Node's parser hands over the raw header lines here, once for the head and once for trailers,
  // before any of them is looked at: the cheapest place to take out the engine's own.
  _addHeaderLines(lines, count) {
    let kept = 0;
    for (let i = 0; i < count; i += 2) {
      const name = lines[i];
      if (name.charCodeAt(1) === 0x2d && ENGINE_HEADER.test(name)) {
        if (name.length === 20 && name.toLowerCase() === 'x-sanfran-activation') {
          // Sent twice it means nothing, and no activation has an empty id.
          this.#activation = this.#activation === undefined ? lines[i + 1] : '';
        } else if (name.length === 15 && name.toLowerCase() === 'x-sanfran-early') {
          this.#early = true;
        } else if (name.length === 14 && name.toLowerCase() === 'x-sanfran-user') {
          // Who calls a private function: the router's word, and the one header that handlers get to see.
          kept = keep(lines, i, kept);
        }
      } else {
        // Taken here, since the first look at req.headers makes all of them.
        if (name.length === 12 && name.toLowerCase() === 'x-request-id') this.#requestId ??= lines[i + 1];
        kept = keep(lines, i, kept);
      }
    }
    lines.length = kept;
    super._addHeaderLines(lines, kept);
  }

  /** Aborted when the client leaves before the answer is complete, or an upgraded connection has to end. */
  get signal() {
    if (this.#leaving === null) {
      const leaving = (this.#leaving = new AbortController());
      const { res, socket } = this;
      const watched = res ?? socket; // an upgrade has no response
      const left = () => res?.writableFinished || leaving.abort();
      if (watched.closed) left();
      else watched.once('close', left);
    }
    return this.#leaving.signal;
  }

  /** Fires the signal early. @returns {boolean} whether anybody has looked at it */
  static hangUp(req) {
    req.#leaving?.abort();
    return req.#leaving !== null;
  }

  static {
    // An Express app swaps our prototype for one of its own over Node's, whose signal also fires when
    // the body has been read.
    const { IncomingMessage } = http;
    const { signal: ours } = Object.getOwnPropertyDescriptors(this.prototype);
    const theirs = Object.getOwnPropertyDescriptor(IncomingMessage.prototype, 'signal');
    Object.defineProperty(IncomingMessage.prototype, 'signal', {
      ...ours,
      get() {
        return #leaving in this ? ours.get.call(this) : theirs?.get.call(this);
      },
    });
  }

  // As cookie-parser gives them, parsed when somebody looks. Signed ones need `req.secret` by then.
  get cookies() {
    parseCookies(this);
    return this.cookies;
  }

  get signedCookies() {
    parseCookies(this);
    return this.signedCookies;
  }

  set cookies(cookies) {
    own(this, 'cookies', cookies);
  }

  set signedCookies(cookies) {
    own(this, 'signedCookies', cookies);
  }

  // Express's members report what they cannot answer themselves (a missing file) to `next`.
  get next() {
    return nextFor(this, this.res);
  }

  set next(next) {
    own(this, 'next', next);
  }
}

class FunctionResponse extends http.ServerResponse {
  #refuses = false;

  /** Answers that the handler did not and will not run, in the words that the router understands. */
  static refuse(res, refusal) {
    res.#refuses = true;
    res.writeHead(421, { 'X-Sanfran-Retry': refusal, 'Content-Length': 0 });
    res.end();
  }

  /** Tells the router that an early request runs from now on. It has left, or waits in the system, when this returns. */
  static tellBegun(res) {
    res.socket.write(BEGUN, 'latin1');
  }

  // The same words from a handler would make the router give up this pod, which runs. Headers of the
  // engine mean nothing with any other status, and the router hides them.
  writeHead(status, reason, headers) {
    if (status === 421 && !this.#refuses) {
      for (const name of this.getHeaderNames()) if (ENGINE_HEADER.test(name)) this.removeHeader(name);
      if (typeof reason === 'string') headers = withoutEngineHeaders(headers);
      else reason = withoutEngineHeaders(reason ?? headers);
    }
    return super.writeHead(status, reason, headers);
  }

  get locals() {
    return (this.locals = Object.create(null));
  }

  set locals(locals) {
    own(this, 'locals', locals);
  }
}

// Whoever listens to a request or its answer from here on does so for this request. That takes an emit() of
// its own, which would cost a tenth of the CPU of requests to which nobody listens. Both are own members, since an
// Express app swaps the prototypes.
function listenForRequest(req, res) {
  req.on = onRequestEvent;
  res.on = onResponseEvent;
}

function onRequestEvent(name, listener) {
  if (!Object.hasOwn(this, 'emit')) this.emit = (...event) => emitFor(this, FunctionRequest.idOf(this), event);
  return Readable.prototype.on.call(this, name, listener);
}

function onResponseEvent(name, listener) {
  if (!Object.hasOwn(this, 'emit')) this.emit = (...event) => emitFor(this, FunctionRequest.idOf(this.req), event);
  return EventEmitter.prototype.on.call(this, name, listener);
}

/** @param {object | string[] | [string, string][] | undefined} headers in any form that writeHead() takes */
function withoutEngineHeaders(headers) {
  if (!headers) return headers;
  if (!Array.isArray(headers)) {
    return Object.fromEntries(Object.entries(headers).filter(([name]) => !ENGINE_HEADER.test(name)));
  }
  if (Array.isArray(headers[0])) return headers.filter(([name]) => !ENGINE_HEADER.test(name));
  return headers.filter((_, i) => !ENGINE_HEADER.test(headers[i - (i % 2)]));
}

for (const [type, members] of [[FunctionRequest, requestMembers], [FunctionResponse, responseMembers]]) {
  Object.defineProperties(type.prototype, Object.getOwnPropertyDescriptors(members));
  type.prototype.app = app;
}

module.exports = { FunctionRequest, FunctionResponse, listenForRequest };
