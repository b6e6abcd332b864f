'use strict';
// Files that res sends.
const path = require('node:path');
const { table } = require('./table.js');

const root = path.join(__dirname, 'files');
const page = path.join(root, 'page.html');
// The validator of whatever file is sent, asked for by the request itself.
const conditional = (name, value) => (req, res) => {
  const { mtime, size } = require('node:fs').statSync(page);
  req.headers[name] = value({ etag: `W/"${size.toString(16)}-${mtime.getTime().toString(16)}"`, modified: mtime.toUTCString(), mtime });
  res.sendFile(page);
};

module.exports = table({
  'res.sendFile': [(req, res) => res.sendFile(page), '', 'HEAD', ' | Range: bytes=0-2', ' | Range: bytes=-3', ' | Range: bytes=5-', ' | Range: bytes=0-1,4-5', ' | Range: bytes=500-', ' | Range: nonsense', 'HEAD | Range: bytes=0-2', ' | If-None-Match: *', ' | If-Match: "other"', ' | If-Unmodified-Since: Tue, 01 Jul 1980 00:00:00 GMT', ' | If-Range: "other" | Range: bytes=0-2', 'POST'],
  'res.sendFile If-None-Match': [conditional('if-none-match', ({ etag }) => etag), '', 'HEAD'],
  'res.sendFile If-Modified-Since': [conditional('if-modified-since', ({ modified }) => modified)],
  'res.sendFile If-Modified-Since, changed later': [conditional('if-modified-since', ({ mtime }) => new Date(mtime - 5000).toUTCString())],
  'res.sendFile If-Match': [conditional('if-match', ({ etag }) => etag)],
  'res.sendFile with a root': [(req, res) => res.sendFile(req.query.name, { root }), '?name=hello.txt', '?name=/page.html', '?name=../table.js', '?name=.dot', '?name=.hidden/note.txt', '?name=none', '?name=.', '?name=a%00b', '?name=a%20name.json', '?name=hello.txt/x'],
  'res.sendFile with dotfiles allowed': [(req, res) => res.sendFile(req.query.name, { root, dotfiles: 'allow' }), '?name=.dot', '?name=.hidden/note.txt'],
  'res.sendFile with dotfiles denied': [(req, res) => res.sendFile('.dot', { root, dotfiles: 'deny' })],
  'res.sendFile with options': [(req, res) => res.sendFile(page, { maxAge: '1d', immutable: true, lastModified: false, acceptRanges: false, headers: { 'X-A': 'b' } }), '', ' | Range: bytes=0-2'],
  'res.sendFile without an ETag': [(req, res) => res.sendFile(page, { etag: false, cacheControl: false })],
  'res.sendFile with a status and type': [(req, res) => res.status(404).type('text').sendFile(page), '', ' | Range: bytes=0-2', ' | If-None-Match: *'],
  'res.sendFile with a callback': [(req, res) => res.sendFile(path.join(root, req.query.name), (error) => { if (error) res.status(error.status ?? 500).send(error.code ?? error.message); }), '?name=page.html', '?name=none', '?name=.'],
  'res.sendFile of a folder': [(req, res) => res.sendFile(root)],
  'res.sendFile of what is no path': [
    (req, res) => {
      try {
        res.sendFile([undefined, 7, 'relative.txt'][req.query.i]);
      } catch (error) {
        res.json([error.name, error.message]);
      }
    },
    '?i=0', '?i=1', '?i=2',
  ],
  'res.download': [(req, res) => res.download(page), '', 'HEAD', ' | Range: bytes=0-2'],
  'res.download with a name': [(req, res) => res.download(page, req.query.name), '?name=other.txt', '?name=%C3%BC.txt', '?name=a/b.txt'],
  'res.download with options': [(req, res) => res.download('hello.txt', 'x.txt', { root, headers: { 'X-A': 'b', 'Content-Disposition': 'no' } })],
  'res.download of a missing file': [(req, res) => res.download(path.join(root, 'none')), '', 'HEAD'],
  'res.download of a missing file with a callback': [(req, res) => res.download(path.join(root, 'none'), (error) => res.status(404).send(error.code))],
});
