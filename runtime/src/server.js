'use strict';
// The HTTP server that the router talks to. Clients never reach it: limits on slow heads, idle
// connections and sizes are the router's, so none of Node's own may come first.

const http = require('node:http');
const { readBody } = require('./body.js');
const { FunctionRequest, FunctionResponse, listenForRequest } = require('./express.js');
const { describe, fail, failFor } = require('./failure.js');
const { requests } = require('./logs.js');
const { RouterConnections } = require('./farewell.js');
const { takeUpgrade } = require('./upgrade.js');

const OPTIONS = {
  IncomingMessage: FunctionRequest,
  ServerResponse: FunctionResponse,
  // Twice what the router lets through by default: it adds headers of its own.
  maxHeaderSize: 128 * 1024,
  // An idle connection that Node closes just as the router sends on it costs a retry.
  keepAliveTimeout: 0,
  headersTimeout: 0,
  requestTimeout: 0,
  connectionsCheckingInterval: 0x7fffffff,
  // Answered by the fence first, as anything else.
  requireHostHeader: false,
};

/** @param {import('./activation.js').Activation} activation */
function createServer(activation) {
  const connections = new RouterConnections();

  function onRequest(req, res) {
    if (FunctionRequest.isEarly(req)) onEarlyRequest(req, res);
    else if (admit(req, res)) serve(req, res, false);
  }

  function onEarlyRequest(req, res) {
    const id = FunctionRequest.activationOf(req);
    const settle = (refusal) => {
      // Behind another one on its connection it has no socket yet, and could not say that it begins.
      if (refusal !== null || res.socket === null) return FunctionResponse.refuse(res, refusal ?? 'fenced');
      FunctionResponse.tellBegun(res);
      serve(req, res, false);
    };
    const refusal = activation.refusal(id);
    if (refusal === null || !activation.hold(id, res, settle)) settle(refusal);
  }

  function admit(req, res) {
    const refusal = activation.refusal(FunctionRequest.activationOf(req));
    if (refusal === null) return true;
    FunctionResponse.refuse(res, refusal);
    return false;
  }

  function responseClosed() {
    // First: with the last one the process may be killed.
    if (activation.draining) connections.tell(this.req.socket);
    activation.end(this);
    if (!this.headersSent) {
      const { method, originalUrl } = this.req;
      activation.log.write('warning', `${method} ${originalUrl} was not answered before its time was over or its client left`);
    }
  }

  function onCheckContinue(req, res) {
    // Whether the refused body comes anyway is the sender's choice, so nothing may follow it.
    res.shouldKeepAlive = false;
    if (!admit(req, res)) return;
    res.shouldKeepAlive = true;
    serve(req, res, true);
  }

  function onCheckExpectation(req, res) {
    res.shouldKeepAlive = false;
    if (!admit(req, res)) return;
    req.res = res;
    fail(req, res, 417, 'the only expectation that is met is 100-continue');
  }

  function serve(req, res, expectsContinue) {
    activation.begin(res);
    res.on('close', responseClosed);
    req.res = res;
    listenForRequest(req, res);
    mount(req, activation.baseUrl);
    const { handlers } = activation;
    const handler = handlers.select(req);
    if (handler === undefined) {
      fail(req, res, 404, handlers.unknown(req));
    } else if (!handler.readsBody && hasBody(req)) {
      readBody(req, res, handlers.bodyLimit, expectsContinue, (error) => {
        if (!error) return run(handler.listener, req, res);
        if (error.type !== 'request.aborted') fail(req, res, error.status, error.message);
      });
    } else {
      if (expectsContinue) res.writeContinue();
      run(handler.listener, req, res);
    }
  }

  function run(handler, req, res) {
    let outcome;
    try {
      outcome = requests.run(FunctionRequest.idOf(req), handler, req, res);
      if (typeof outcome?.then === 'function') {
        activation.begin(outcome);
        outcome.then(
          () => activation.end(outcome),
          (error) => handlerFailed(req, res, error, outcome),
        );
      }
    } catch (error) {
      handlerFailed(req, res, error, outcome);
    }
  }

  function handlerFailed(req, res, error, outcome) {
    const id = FunctionRequest.idOf(req);
    activation.log.write('error', `${req.method} ${req.originalUrl} failed (request ${id ?? '-'}): ${describe(error)}`, id);
    failFor(req, res, error);
    activation.end(outcome);
  }

  // Others are plain requests, so that what is refused gets an answer and the connection stays.
  function mayUpgrade(req) {
    return activation.handlers?.upgrade !== undefined && activation.refusal(FunctionRequest.activationOf(req)) === null;
  }

  function onUpgrade(req, socket, head) {
    connections.forget(socket);
    mount(req, activation.baseUrl);
    takeUpgrade(activation, req, socket, head);
  }

  const server = http.createServer({ ...OPTIONS, shouldUpgradeCallback: mayUpgrade }, onRequest);
  server.on('connection', (socket) => connections.add(socket));
  server.on('upgrade', onUpgrade);
  server.on('checkContinue', onCheckContinue);
  server.on('checkExpectation', onCheckExpectation);
  // No header may be lost to a limit: the one with the activation id may be the last.
  server.maxHeadersCount = 0;
  activation.onDrain = () => connections.part(server);
  return server;
}

/** Resolves when the server listens. */
function listen(server, host, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', resolve);
    // For an address, listen() ends in _listen2, which is public by its age only. On the way it loads
    // `dns` and `cluster`, for 6.5 ms of the 60 that a pod takes to be ready; listen() on a descriptor
    // or on all addresses still loads `cluster`.
    if (typeof server._listen2 === 'function' && /^[\d.]+$/.test(host)) server._listen2(host, port, 4, 511);
    else server.listen(port, host);
  });
}

function hasBody(req) {
  const { headers } = req;
  const length = headers['content-length'];
  // Clients send a length of 0 with every POST without a body. With a type, Express parses that, too.
  if (length !== undefined) return length !== '0' || headers['content-type'] !== undefined;
  return headers['transfer-encoding'] !== undefined;
}

/** Splits the URL as an Express mount at /fn/<name> does. */
function mount(req, baseUrl) {
  const { url } = req;
  req.originalUrl = url;
  req.baseUrl = baseUrl;
  // The name may be percent-encoded in the URL, so its length is not known.
  let end = 4;
  for (; end < url.length; end++) {
    const char = url.charCodeAt(end);
    if (char === 0x2f || char === 0x3f) break;
  }
  const rest = url.slice(end);
  req.url = rest.charCodeAt(0) === 0x2f ? rest : '/' + rest;
}

module.exports = { createServer, listen };
