// A folder with a dependency from npm: shows a text as a QR code.
//   http://127.0.0.1:8080/fn/qr?text=Hello   (in a browser)

const qrcode = require('qrcode-generator');

// What the largest QR code holds, in bytes.
const MAX_BYTES = 2953;

qrcode.stringToBytes = (text) => [...Buffer.from(text)];

module.exports = (req, res) => {
  const text = String(req.query.text ?? 'https://github.com/');
  if (Buffer.byteLength(text) > MAX_BYTES) {
    return res.status(400).type('text').send(`?text= may have ${MAX_BYTES} bytes at most`);
  }
  const code = qrcode(0, 'L');
  code.addData(text);
  code.make();
  res.type('svg').send(code.createSvgTag({ cellSize: 8, scalable: true }));
};
