'use strict';
// Starts the real bundled runtime and stands in for its sidecar: the other end of the control
// socket.

const { spawn } = require('node:child_process');
const { once, EventEmitter } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const RUNTIME =
  process.env.SANFRAN_TEST_RUNTIME ?? path.join(__dirname, '../../sidecar/sanfran_sidecar/node/runtime.cjs');
const ACTIVATION = 'the-activation';

class Pod {
  #events = new EventEmitter();
  messages = [];
  output = '';

  /** @param {{env?: object, flags?: string[]}} options */
  static async start({ env = {}, flags = [] } = {}) {
    const pod = new Pod();
    pod.folder = fs.mkdtempSync(path.join(os.tmpdir(), 'pod-'));
    pod.cwd = path.join(pod.folder, 'private');
    pod.root = path.join(pod.folder, 'function');
    fs.mkdirSync(pod.cwd);
    fs.mkdirSync(pod.root);
    const socketPath = path.join(pod.folder, 'control');
    const server = net.createServer();
    server.listen(socketPath);
    await once(server, 'listening');
    pod.process = spawn(process.execPath, [...flags, RUNTIME], {
      cwd: pod.cwd,
      detached: true,
      env: { PATH: process.env.PATH, SANFRAN_CONTROL: socketPath, SANFRAN_HTTP_PORT: '0', SANFRAN_OTHER: 'x', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    pod.process.stdout.on('data', (data) => (pod.output += data));
    pod.process.stderr.on('data', (data) => (pod.output += data));
    pod.exited = once(pod.process, 'exit');
    const died = pod.exited.then(([code]) => {
      throw new Error(`the runtime ended with ${code}: ${pod.output}`);
    });
    died.catch(() => {});
    [pod.control] = await Promise.race([once(server, 'connection'), died]);
    server.close();
    pod.control.on('error', () => {});
    let rest = '';
    pod.control.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        pod.messages.push(JSON.parse(line));
        pod.#events.emit('message');
      }
    });
    const ready = await Promise.race([pod.message((m) => m.type === 'ready'), died]);
    pod.port = ready.port;
    return pod;
  }

  /** A generic pod with the function in `files` loaded; fails when it does not load. */
  static async active(files, { order, ...options } = {}) {
    const pod = await Pod.start(options);
    const answer = await pod.load(files, order);
    if (answer.type !== 'loaded') {
      await pod.stop();
      throw new Error(`${answer.message}\n${answer.stack}`);
    }
    return pod;
  }

  /** @param {string | Record<string, string>} files content of function.js, or contents by path, the entry first */
  async load(files, order = {}) {
    const contents = typeof files === 'string' ? { 'function.js': files } : files;
    for (const [name, content] of Object.entries(contents)) {
      const file = path.join(this.root, name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, content);
    }
    this.send({
      type: 'load',
      activation_id: ACTIVATION,
      name: 'f',
      version: 1,
      root: this.root,
      entry: Object.keys(contents)[0],
      env: {},
      cwd: this.root,
      ...order,
    });
    return await this.message((m) => m.type === 'loaded' || m.type === 'load_failed');
  }

  send(message) {
    this.control.write(JSON.stringify(message) + '\n');
  }

  /** The first message, sent already or yet to come, that fits. */
  async message(fits) {
    for (;;) {
      const found = this.messages.find(fits);
      if (found) return found;
      await once(this.#events, 'message');
    }
  }

  log(fits) {
    return this.message((m) => m.type === 'log' && (typeof fits === 'string' ? m.text.includes(fits) : fits(m)));
  }

  /** @returns {Promise<{status: number, headers: object, text: string, json: unknown}>} */
  async fetch(url, { activation = ACTIVATION, headers = {}, body, ...options } = {}) {
    const request = http.request({
      host: '127.0.0.1',
      port: this.port,
      path: url,
      headers: { ...(activation && { 'X-Sanfran-Activation': activation }), 'X-Request-Id': 'request-1', ...headers },
      ...options,
    });
    request.end(body);
    const [response] = await once(request, 'response');
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    return {
      status: response.statusCode,
      headers: response.headers,
      text,
      get json() {
        return JSON.parse(text);
      },
    };
  }

  /** Sends bytes on a new connection; returns the socket. */
  async raw(text) {
    const socket = net.connect(this.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(text);
    return socket;
  }

  async stop() {
    this.control.destroy();
    await this.exited;
    fs.rmSync(this.folder, { recursive: true });
  }
}

module.exports = { Pod, ACTIVATION };
