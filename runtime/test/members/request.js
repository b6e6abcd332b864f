'use strict';
// What req tells.
const { table } = require('./table.js');

const tell = (look) => (req, res) => res.json({ told: look(req) ?? String(look(req)) });
const caught = (look) => (req, res) => {
  try {
    res.json(look(req, res));
  } catch (error) {
    res.json({ name: error.name, message: error.message });
  }
};

module.exports = table({
  'req.query': [
    tell((req) => req.query),
    '', '?a=1&b=two', '?a[b]=1&a[c]=2', '?a=1&a=2', '?a[]=1&a[]=2', '?a.b=1&=x&y', '?a=%20+%C3%BC', '?a=%ff%zz', '?__proto__=1&hasOwnProperty=2', '?a=1?b=2#c',
  ],
  'req.query is made anew by each look': [tell((req) => ((req.query.a = 2), req.query)), '?a=1'],
  'req.params': [tell((req) => req.params), '', '/more'],
  'req.path, url, baseUrl, originalUrl': [
    tell((req) => [req.path, req.url, req.baseUrl, req.originalUrl]),
    '', '/', '/a/b?c=d', '//a//b', '/%2e%2e/a%2Fb', '/%C3%A4', '?', '/a;b=1?x=/y',
  ],
  'req.ip, ips': [
    tell((req) => [req.ip, req.ips]),
    '', ' | X-Forwarded-For: 10.1.1.1', ' | X-Forwarded-For: 9.9.9.9, 10.1.1.1', ' | X-Forwarded-For: ::1', ' | X-Forwarded-For: a, b | X-Forwarded-For: c', ' | X-Forwarded-For:',
  ],
  'req.hostname, host, subdomains': [
    tell((req) => [req.hostname ?? null, req.host ?? null, req.subdomains]),
    '', ' | X-Forwarded-Host: a.b.example.org:8443', ' | X-Forwarded-Host: one.example.org, two.example.org', ' | X-Forwarded-Host: [::1]:80', ' | X-Forwarded-Host: 127.0.0.1:80',
  ],
  'req.protocol, secure': [
    tell((req) => [req.protocol, req.secure]),
    '', ' | X-Forwarded-Proto: https', ' | X-Forwarded-Proto: https, http', ' | X-Forwarded-Proto: HTTPS',
  ],
  'req.xhr': [tell((req) => req.xhr), '', ' | X-Requested-With: XMLHttpRequest', ' | X-Requested-With: fetch'],
  'req.get, header': [
    tell((req) => [req.get('X-One'), req.header('x-one'), req.get('Referrer'), req.get('REFERER'), req.get('X-None') ?? null]),
    ' | X-One: 1', ' | X-One: 1 | x-one: 2 | Referer: there', ' | Referrer: a | Referer: b',
  ],
  'req.get without a name': [caught((req) => req.get())],
  'req.get of no string': [caught((req) => req.get(7))],
  'req.headers and duplicates': [
    tell((req) => req.headers), ' | Accept: a | Accept: b | Cookie: a=1 | Cookie: b=2 | Content-Type: x/y | Content-Type: z/z',
  ],
  'req.accepts': [
    tell((req) => [req.accepts('html', 'json'), req.accepts(['image/png', 'text']), req.accepts('application/*'), req.accepts()]),
    '', ' | Accept: */*', ' | Accept: text/html;q=0.5, application/json', ' | Accept: image/*', ' | Accept: text/plain;q=0', ' | Accept: nonsense',
  ],
  'req.acceptsEncodings': [
    tell((req) => [req.acceptsEncodings('gzip', 'br'), req.acceptsEncodings(['deflate', 'identity']), req.acceptsEncodings()]),
    '', ' | Accept-Encoding: gzip, br;q=0.1', ' | Accept-Encoding: *', ' | Accept-Encoding: identity;q=0',
  ],
  'req.acceptsCharsets': [
    tell((req) => [req.acceptsCharsets('utf-8'), req.acceptsCharsets('latin1', 'utf-8'), req.acceptsCharsets()]),
    '', ' | Accept-Charset: utf-8;q=0.1, iso-8859-1',
  ],
  'req.acceptsLanguages': [
    tell((req) => [req.acceptsLanguages('en'), req.acceptsLanguages(['de', 'en-GB']), req.acceptsLanguages()]),
    '', ' | Accept-Language: de-CH, en;q=0.8', ' | Accept-Language: *',
  ],
  'req.is': [
    tell((req) => [req.is('json'), req.is('html', 'text/*'), req.is(['+json', 'urlencoded']), req.is('*/*')]),
    '',
    ['POST | Content-Type: application/json; charset=utf-8', '{}'],
    ['POST | Content-Type: application/vnd.x+json', '{}'],
    ['POST | Content-Type: text/html', 'x'],
    ['POST | Content-Type: nonsense', 'x'],
    ['POST', 'x'],
  ],
  'req.range': [
    tell((req) => [req.range(100), req.range(10, { combine: true })]),
    '', ' | Range: bytes=0-4', ' | Range: bytes=0-4,5-9,20-', ' | Range: bytes=-5', ' | Range: bytes=200-', ' | Range: items=0-1', ' | Range: nonsense',
  ],
  'req.fresh, stale': [
    (req, res) => {
      res.set({ ETag: '"one"', 'Last-Modified': 'Tue, 01 Jul 2025 00:00:00 GMT' });
      res.status(Number(req.query.status ?? 200)).end(JSON.stringify([req.fresh, req.stale]));
    },
    '', ' | If-None-Match: "one"', ' | If-None-Match: W/"one"', ' | If-None-Match: "two", "one"', ' | If-None-Match: *', ' | If-None-Match: "one" | Cache-Control: no-cache',
    ' | If-Modified-Since: Tue, 01 Jul 2025 00:00:00 GMT', ' | If-Modified-Since: Mon, 30 Jun 2025 00:00:00 GMT', 'POST | If-None-Match: "one"', '?status=404 | If-None-Match: "one"',
  ],
  'req.cookies': [
    (req, res) => {
      req.secret = 'a secret';
      const signed = { ...req.signedCookies };
      res.json({ cookies: req.cookies, signed, proto: [Object.getPrototypeOf(req.cookies), Object.getPrototypeOf(req.signedCookies)] });
    },
    '', ' | Cookie: a=1; b=%20two; c="quoted"; a=3; d', ' | Cookie: j=j%3A%7B%22x%22%3A1%7D; k=j%3Anonsense; l=j:0', ' | Cookie: __proto__=1; empty=; =none; bad=%zz',
    // made by cookie-signature with 'a secret'
    ' | Cookie: s=s%3Avalue.AX7jL7pQF81xC0OqkSuKT88X9p60SamkNQ5qzWwomSQ; o=s%3Aj%3A%7B%22a%22%3A1%7D.C0qFuRWoBClXoK8akSZijf4E%2FLng6sjul4se3CWjNnA; t=s%3Avalue.wrong; plain=1',
  ],
  'req.cookies can be replaced': [
    (req, res) => {
      req.cookies = { mine: 1 };
      res.json(req.cookies);
    },
    ' | Cookie: a=1',
  ],
  'req.body': [
    (req, res) =>
      res.json({
        body: Buffer.isBuffer(req.body) ? { bytes: req.body.toString('hex') } : req.body,
        raw: req.rawBody?.toString('hex'),
      }),
    '', 'DELETE', 'POST', 'POST | Content-Type: application/json',
    ['POST | Content-Type: application/json', '{"a":[1,{"b":null}]}'],
    ['POST | Content-Type: application/json', ' [1] '],
    ['POST | Content-Type: application/json', '7'],
    ['POST | Content-Type: application/json', '"text"'],
    ['POST | Content-Type: application/json', '{"a":'],
    ['POST | Content-Type: application/json', ''],
    ['POST | Content-Type: application/json', '{"__proto__":{"x":1}}'],
    ['POST | Content-Type: application/json; charset=utf-16le', Buffer.from('{"a":"ü"}', 'utf16le')],
    ['POST | Content-Type: application/json; charset=iso-8859-1', '{}'],
    ['POST | Content-Type: application/problem+json', '{"a":1}'],
    ['POST | Content-Type: application/x-www-form-urlencoded', 'a=1&a=2&b[c][d]=3&e[]=4&e[]=5&f=%C3%BC+x'],
    ['POST | Content-Type: application/x-www-form-urlencoded', 'a[0]=x&a[5]=y&__proto__[x]=1&.=2'],
    ['POST | Content-Type: application/x-www-form-urlencoded', 'a'.padEnd(3000, '&a')],
    ['POST | Content-Type: application/x-www-form-urlencoded', `a${'[b]'.repeat(40)}=1`],
    ['POST | Content-Type: application/x-www-form-urlencoded; charset=iso-8859-1', Buffer.from('a=\xfc', 'latin1')],
    ['POST | Content-Type: application/x-www-form-urlencoded; charset=koi8-r', 'a=1'],
    ['POST | Content-Type: text/plain', 'tschüß'],
    ['POST | Content-Type: text/plain; charset=iso-8859-1', Buffer.from('tsch\xfc\xdf \x80\x9f', 'latin1')],
    ['POST | Content-Type: text/plain; charset=windows-1251', Buffer.from([0xcf, 0xf0])],
    ['POST | Content-Type: text/plain; charset=no-such', 'x'],
    ['POST | Content-Type: text/plain', Buffer.from([0xef, 0xbb, 0xbf, 0x61])],
    ['POST | Content-Type: application/octet-stream', Buffer.from([0, 1, 255])],
    ['POST', 'without a type'],
    ['PUT | Content-Type: application/json', '{"method":"any"}'],
    ['POST | Content-Type: application/json | Content-Encoding: gzip', require('node:zlib').gzipSync('{"a":1}')],
    ['POST | Content-Type: application/json | Content-Encoding: DEFLATE', require('node:zlib').deflateSync('{"a":1}')],
    ['POST | Content-Type: application/json | Content-Encoding: br', require('node:zlib').brotliCompressSync('{"a":1}')],
    ['POST | Content-Type: application/json | Content-Encoding: gzip', 'no gzip at all'],
    ['POST | Content-Type: application/json | Content-Encoding: compress', '{}'],
    ['POST | Content-Type: multipart/form-data; boundary=x', '--x--'],
    ['POST | Content-Type: application/json | Transfer-Encoding: chunked', '9\r\n{"a":"b"}\r\n0\r\n\r\n'],
    ['POST | Content-Type: nonsense', 'x'],
  ],
  'req is what middlewares expect': [
    tell((req) => [typeof req.app.get, req.app.enabled('etag'), req.app.get('subdomain offset'), req.res !== undefined, typeof req.next, req.method, req.httpVersion, req.complete]),
    '', 'OPTIONS',
  ],
});
