'use strict';
// req.body, as Express's own parsers make it, and req.rawBody beside it. Only requests that have
// a body come here, so everything is loaded by the first of them.

const { Readable } = require('node:stream');

// Bodies that are parsed are held in memory, so they have a limit, in bytes after decompression.
const MAX_PARSED_BYTES = 10 * 1024 * 1024;

// Each is made by the first body of its kind; the limit is the function's, so it is always the same.
const parsers = new Map();
const MAKE = {
  json: (options) => require('body-parser/lib/types/json.js')(options),
  urlencoded: (options) => require('body-parser/lib/types/urlencoded.js')({ ...options, extended: true }),
  text: (options) => require('body-parser/lib/types/text.js')(options),
  raw: (options) => require('body-parser/lib/types/raw.js')(options),
};

function parserOf(kind, limit) {
  let parser = parsers.get(kind);
  if (parser === undefined) {
    parser = MAKE[kind]({ limit, type: () => true, verify: keepRaw });
    parsers.set(kind, parser);
  }
  return parser;
}

function keepRaw(req, _res, bytes) {
  req.rawBody = bytes;
}

/**
 * Reads and parses the body, whose type is known from its headers. A multipart body stays a
 * stream.
 *
 * @param {number | undefined} limit of the body after decompression, in bytes; the default when undefined
 * @param {boolean} expectsContinue the client waits for a 100 before it sends the body
 * @param {(error?: Error & {status: number, type: string}) => void} next
 */
function readBody(req, res, limit = MAX_PARSED_BYTES, expectsContinue, next) {
  const kind = kindOf(req);
  if (kind !== null && Number(req.headers['content-length']) > limit) {
    if (expectsContinue) res.shouldKeepAlive = false;
    next(Object.assign(new Error(`the body is larger than ${limit} bytes`), { status: 413 }));
    return;
  }
  if (expectsContinue) res.writeContinue();
  if (kind === null) return next();
  // Destroyed at its end, the stream could not be rewound.
  req._readableState.autoDestroy = false;
  parserOf(kind, limit)(req, res, (error) => {
    if (!error && req.headers['content-encoding'] === undefined) rewind(req);
    next(error);
  });
}

// What a handler hands the request to (Koa, or a parser of its own) reads the stream for itself, so
// the bytes are in it once more. Where they were compressed they are gone.
function rewind(req) {
  Readable.call(req);
  req._consuming = false; // else the server would not drain it after the answer
  req.push(req.rawBody);
  req.push(null);
}

function kindOf(req) {
  const header = req.headers['content-type'];
  if (header === undefined) return 'raw';
  const semicolon = header.indexOf(';');
  const type = (semicolon < 0 ? header : header.slice(0, semicolon)).trim().toLowerCase();
  if (type === 'application/json' || type.endsWith('+json')) return 'json';
  if (type === 'application/x-www-form-urlencoded') return 'urlencoded';
  if (type.startsWith('text/')) return 'text';
  if (type.startsWith('multipart/')) return null;
  return 'raw';
}

module.exports = { readBody };
