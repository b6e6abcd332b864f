// WebSockets with `ws`: everybody who has the page open, on the same pod, sees what anybody says.
//   http://127.0.0.1:8080/fn/websocket   (in a browser, in two windows)

const { WebSocketServer } = require('ws');

// Bytes of one message.
const MAX_MESSAGE = 4096;
// Bytes that a window which does not read may have waiting.
const MAX_WAITING = 1024 * 1024;

const sockets = new WebSocketServer({ noServer: true, maxPayload: MAX_MESSAGE });

function tell(text) {
  for (const socket of sockets.clients) {
    if (socket.bufferedAmount > MAX_WAITING) socket.terminate();
    else socket.send(text);
  }
}

// Called for each request to switch protocols, where a handler is called for the others.
exports.upgrade = (req, socket, head) => {
  sockets.handleUpgrade(req, socket, head, (webSocket) => {
    const name = String(req.query.name ?? 'somebody').slice(0, 40);
    webSocket.on('message', (data) => tell(`${name}: ${data}`));
    webSocket.on('close', () => tell(`${name} left`));
    webSocket.on('error', () => {}); // too long a message, or no text: `ws` closes by itself
    // The pod makes room for a new version, say: the page connects again.
    req.signal.addEventListener('abort', () => webSocket.close(1001));
    tell(`${name} came, now there are ${sockets.clients.size}`);
  });
};

exports.index = (req, res) => res.type('html').send(PAGE);

const PAGE = `<!DOCTYPE html>
<meta charset="utf-8">
<title>SanFran: WebSocket</title>
<style>body { font: 16px sans-serif; margin: 2rem auto; max-width: 40rem } input { font: inherit; width: 100% }</style>
<h1>Say something</h1>
<form><input autofocus autocomplete="off" maxlength="500" placeholder="and press Enter"></form>
<ul></ul>
<script>
  const name = 'guest ' + Math.floor(Math.random() * 1000);
  const [form, input, list] = ['form', 'input', 'ul'].map((tag) => document.querySelector(tag));
  let socket;
  function show(text) {
    list.prepend(Object.assign(document.createElement('li'), { textContent: text }));
  }
  function connect() {
    const address = new URL(location.href);
    address.protocol = address.protocol.replace('http', 'ws');
    address.search = new URLSearchParams({ name });
    socket = new WebSocket(address);
    socket.onmessage = ({ data }) => show(data);
    socket.onclose = () => setTimeout(connect, 1000);
  }
  connect();
  form.onsubmit = (event) => {
    event.preventDefault();
    if (socket.readyState === WebSocket.OPEN && input.value) socket.send(input.value);
    input.value = '';
  };
</script>
`;
