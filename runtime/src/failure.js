'use strict';
// Error answers in the engine's one form: {"error": {"code", "message", "request_id"}}; and errors
// in words, for logs.

const { STATUS_CODES, validateHeaderValue } = require('node:http');
const { inspect } = require('node:util');

// Never the error itself: it may hold what the client must not know.
const FAILED = 'the function failed; its logs tell why';

const CODES = { 404: 'not_found', 413: 'too_large' };

/**
 * Answers with an error, or, when a part of another answer has left already, breaks the
 * connection, so that the client can tell.
 *
 * @param {number} status 4xx or 5xx
 * @param {object} [headers] besides
 */
function fail(req, res, status, message, headers = {}) {
  if (res.writableEnded || res.destroyed) return;
  if (res.headersSent) {
    res.destroy();
    return;
  }
  for (const name of res.getHeaderNames()) res.removeHeader(name);
  const code = CODES[status] ?? (status < 500 ? 'bad_request' : 'handler_failed');
  const id = req.headers['x-request-id'] ?? '';
  const body = JSON.stringify({ error: { code, message, request_id: id } });
  res.statusCode = status;
  res.statusMessage = undefined;
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
  res.setHeader('Content-Type', 'application/json; charset=utf-8');
  res.setHeader('Content-Length', Buffer.byteLength(body));
  if (id) res.setHeader('X-Request-Id', id);
  res.end(body);
}

/** Answers 500 for a handler that cannot do so any more. */
function failUnanswered(res, message) {
  fail(res.req, res, 500, message);
}

/** Answers for an error as Express does: with the status and the headers that the error carries, else 500. */
function failFor(req, res, error) {
  const { status, message, headers } = ownAnswer(error);
  fail(req, res, status, message, headers);
}

function ownAnswer(error) {
  try {
    const status = error.status ?? error.statusCode;
    if (!Number.isInteger(status) || status < 400 || status > 599) throw error;
    // Written for the client, as http-errors marks it; others may hold what another server answered.
    const { expose = false, headers = {} } = error;
    if (status >= 500 || expose !== true) return { status, message: status < 500 ? (STATUS_CODES[status] ?? FAILED) : FAILED };
    for (const [name, value] of Object.entries(headers)) validateHeaderValue(name, value);
    // With a code it tells of our insides, such as paths.
    return { status, message: error.code === undefined ? String(error.message) : (STATUS_CODES[status] ?? FAILED), headers };
  } catch {
    return { status: 500, message: FAILED };
  }
}

/** The `next` of Express, where nothing comes next: an error is answered, no error is "not found". */
function nextFor(req, res) {
  return (error) => {
    // 'route' and 'router' skip what else is mounted: nothing.
    if (error === undefined || error === null || error === 'route' || error === 'router') {
      return fail(req, res, 404, `nothing is at ${req.originalUrl}`);
    }
    if (ownAnswer(error).status >= 500) console.error(describe(error));
    failFor(req, res, error);
  };
}

/** What was thrown, with its stack and cause. Never throws, though anything can be thrown. */
function describe(error) {
  try {
    return inspect(error);
  } catch {
    return 'something that cannot be shown';
  }
}

module.exports = { FAILED, describe, fail, failFor, failUnanswered, nextFor };
