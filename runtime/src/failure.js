'use strict';
// Error answers in the engine's one form: {"error": {"code", "message", "request_id"}}; and errors
// in words, for logs.

const { inspect } = require('node:util');

// Never the error itself: it may hold what the client must not know.
const FAILED = 'the function failed; its logs tell why';

const CODES = { 404: 'not_found', 413: 'too_large' };

/**
 * Answers with an error, or, when a part of another answer has left already, breaks the
 * connection, so that the client can tell.
 *
 * @param {number} status 4xx or 5xx
 */
function fail(req, res, status, message) {
  if (res.writableEnded || res.destroyed) return;
  if (res.headersSent) {
    res.destroy();
    return;
  }
  for (const name of res.getHeaderNames()) res.removeHeader(name);
  const code = CODES[status] ?? (status < 500 ? 'bad_request' : 'handler_failed');
  const body = JSON.stringify({
    error: { code, message, request_id: req.headers['x-request-id'] ?? '' },
  });
  res.statusCode = status;
  res.statusMessage = undefined;
  res.setHeader('Content-Type', 'application/json; charset=utf-8');
  res.setHeader('Content-Length', Buffer.byteLength(body));
  res.end(body);
}

/** Answers 500 for a handler that cannot do so any more. */
function failUnanswered(res, message) {
  fail(res.req, res, 500, message);
}

/**
 * The `next` of Express for what its members cannot answer: an error with its own status, else
 * "not found".
 */
function nextFor(req, res) {
  return (error) => {
    // 'route' and 'router' mean the same where nothing else is mounted.
    if (error === undefined || error === null || error === 'route' || error === 'router') return fail(req, res, 404, `nothing is at ${req.originalUrl}`);
    const status = error.status ?? error.statusCode;
    const ownStatus = Number.isInteger(status) && status >= 400 && status < 600;
    if (!ownStatus || status >= 500) console.error(describe(error));
    fail(req, res, ownStatus ? status : 500, ownStatus && status < 500 ? error.message : FAILED);
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

module.exports = { FAILED, describe, fail, failUnanswered, nextFor };
