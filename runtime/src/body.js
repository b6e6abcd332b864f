'use strict';
// req.body, as Express's own parsers make it, and req.rawBody beside it. Only requests that have
// a body come here, so everything is loaded by the first of them.

// Bodies that are parsed are held in memory, so they have a limit, in bytes after decompression.
const MAX_PARSED_BYTES = 10 * 1024 * 1024;

const options = { limit: MAX_PARSED_BYTES, type: () => true, verify: keepRaw };
// Each is made by the first body of its kind.
const parsers = {
  get json() {
    return keep('json', require('body-parser/lib/types/json.js')(options));
  },
  get urlencoded() {
    const parse = require('body-parser/lib/types/urlencoded.js')({ ...options, extended: true });
    return keep('urlencoded', parse);
  },
  get text() {
    return keep('text', require('body-parser/lib/types/text.js')(options));
  },
  get raw() {
    return keep('raw', require('body-parser/lib/types/raw.js')(options));
  },
};

function keep(kind, parser) {
  Object.defineProperty(parsers, kind, { value: parser });
  return parser;
}

function keepRaw(req, _res, bytes) {
  req.rawBody = bytes;
}

/**
 * Reads and parses the body, whose type is known from its headers. A multipart body stays a
 * stream.
 *
 * @param {boolean} expectsContinue the client waits for a 100 before it sends the body
 * @param {(error?: Error & {status: number, type: string}) => void} next
 */
function readBody(req, res, expectsContinue, next) {
  const parser = parserFor(req);
  if (parser !== null && Number(req.headers['content-length']) > MAX_PARSED_BYTES) {
    if (expectsContinue) res.shouldKeepAlive = false;
    next(Object.assign(new Error(`the body is larger than ${MAX_PARSED_BYTES} bytes`), { status: 413 }));
    return;
  }
  if (expectsContinue) res.writeContinue();
  if (parser === null) next();
  else parser(req, res, next);
}

function parserFor(req) {
  const header = req.headers['content-type'];
  if (header === undefined) return parsers.raw;
  const semicolon = header.indexOf(';');
  const type = (semicolon < 0 ? header : header.slice(0, semicolon)).trim().toLowerCase();
  if (type === 'application/json' || type.endsWith('+json')) return parsers.json;
  if (type === 'application/x-www-form-urlencoded') return parsers.urlencoded;
  if (type.startsWith('text/')) return parsers.text;
  if (type.startsWith('multipart/')) return null;
  return parsers.raw;
}

module.exports = { readBody };
