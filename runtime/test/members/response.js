'use strict';
// What res answers.
const { table } = require('./table.js');

const send = (value, prepare = () => {}) => (req, res) => (prepare(res), res.send(value));
const json = (value, prepare = () => {}) => (req, res) => (prepare(res), res.json(value));
const caught = (act) => (req, res) => {
  try {
    act(res, req);
  } catch (error) {
    res.json({ name: error.name, message: error.message });
  }
};
const set = (headers) => (res) => res.set(headers);
const withEtag = ['', 'HEAD', ' | If-None-Match: *'];

module.exports = table({
  'res.send of a string': [send('Hällo'), ...withEtag, 'POST', 'OPTIONS'],
  'res.send of an empty string': [send(''), ...withEtag],
  'res.send of nothing': [(req, res) => res.send(), '', 'HEAD'],
  'res.send(undefined)': [send(undefined)],
  'res.send(null)': [send(null), '', ' | If-None-Match: *'],
  'res.send of a number': [send(42)],
  'res.send of NaN': [send(NaN)],
  'res.send of booleans': [send(true), '', 'HEAD'],
  'res.send of an object': [send({ a: 1, u: undefined, d: new Date(0) }), ...withEtag],
  'res.send of an array': [send([1, 'two'])],
  'res.send of a Buffer': [send(Buffer.from([1, 2, 3])), ...withEtag],
  'res.send of a Buffer with a type': [send(Buffer.from('<b>'), (res) => res.type('html'))],
  'res.send of a Uint8Array': [send(new Uint8Array([4, 5]))],
  'res.send of a view of a buffer': [send(new Uint16Array([1, 2]))],
  'res.send of a bigint': [send(10n)],
  'res.send of a function': [send(() => 1)],
  'res.send of a long string': [send('0123456789'.repeat(500)), '', 'HEAD'],
  'res.send with a type of its own': [send('x', set({ 'Content-Type': 'text/plain' }))],
  'res.send with a charset of its own': [send('ü', set({ 'Content-Type': 'text/plain; charset=iso-8859-1' }))],
  'res.send with an ETag of its own': [send('x', set({ ETag: '"mine"' })), '', ' | If-None-Match: "mine"', 'HEAD | If-None-Match: "mine"'],
  'res.send with Last-Modified': [send('x', set({ 'Last-Modified': 'Tue, 01 Jul 2025 00:00:00 GMT' })), ' | If-Modified-Since: Tue, 01 Jul 2025 00:00:00 GMT'],
  'res.send with Transfer-Encoding': [send('x', set({ 'Transfer-Encoding': 'chunked' }))],
  'res.send of 204': [send('body', (res) => res.status(204))],
  'res.send of 205': [send('body', (res) => res.status(205))],
  'res.send of 304': [send('body', (res) => res.status(304))],
  'res.send of 404 is never fresh': [send('x', (res) => res.status(404)), ' | If-None-Match: *'],
  'res.send twice': [caught((res) => (res.send('one'), res.send('two')))],
  'res.json': [json({ a: '<&>', b: null }), ...withEtag],
  'res.json of null': [json(null)],
  'res.json of undefined': [json(undefined)],
  'res.json of a string': [json('text')],
  'res.json with a type of its own': [json({ a: 1 }, (res) => res.type('application/vnd.api+json'))],
  'res.json of what has toJSON': [json({ toJSON: () => ({ made: 1 }) })],
  'res.json of a circle': [caught((res) => { const a = {}; a.a = a; res.json(a); })],
  'res.jsonp': [
    (req, res) => res.jsonp({ a: '\u2028\u2029' }),
    '', '?callback=say', '?callback=a.b[0]', '?callback=alert(1)//', '?callback=one&callback=two', '?callback=', '?callback[x]=1', 'HEAD ?callback=say',
  ],
  'res.jsonp of nothing': [(req, res) => res.jsonp(), '?callback=say', ''],
  'res.jsonp with a type': [(req, res) => res.type('text').jsonp(1), '', '?callback=say'],
  'res.status': [(req, res) => res.status(Number(req.query.code)).send('x'), '?code=201', '?code=599', '?code=999'],
  'res.status of what is none': [
    caught((res, req) => res.status([99, 1000, '200', 200.5, null, undefined][req.query.i])),
    '?i=0', '?i=1', '?i=2', '?i=3', '?i=4', '?i=5',
  ],
  'res.sendStatus': [(req, res) => res.sendStatus(Number(req.query.code)), '?code=200', '?code=204', '?code=304', '?code=404', '?code=418', '?code=799', 'HEAD ?code=404'],
  'res.sendStatus of what is none': [caught((res) => res.sendStatus('x'))],
  'res.type, contentType': [
    (req, res) => res.type(req.query.type).contentType(req.query.type).end(),
    '?type=html', '?type=.json', '?type=png', '?type=text', '?type=image/webp', '?type=application/xml', '?type=nonsense', '?type=a/b/c', '?type=js', '?type=txt', '?type=md', '?type=',
  ],
  'res.set, header, get': [
    (req, res) => {
      res.set('X-One', 1).header('X-Two', ['a', 2]).set({ 'X-Three': null, 'Content-Type': 'text/html' });
      res.json([res.get('x-one'), res.get('X-TWO'), res.get('X-None') ?? null, res.get('Content-Type')]);
    },
  ],
  'res.set of Content-Type': [(req, res) => res.set('Content-Type', req.query.type).end('x'), '?type=text/html', '?type=json', '?type=nonsense', '?type=text/x;charset=a'],
  'res.set of many Content-Types': [caught((res) => res.set('Content-Type', ['a/b', 'c/d']))],
  'res.set of what is no header': [caught((res) => res.set('X Y', '1'))],
  'res.set of a line break': [caught((res) => res.set('X-Y', '1\r\nX-Z: 2'))],
  'res.append': [
    (req, res) => res.append('Warning', 'one').append('Warning', ['two', 'three']).append('Set-Cookie', 'a=1').append('Set-Cookie', 'b=2').set('X', 'a').append('X', 'b').end(),
  ],
  'res.vary': [(req, res) => res.vary('Accept').vary(['Accept', 'Origin']).vary('accept').end()],
  'res.vary of everything': [(req, res) => res.vary('*').vary('Accept').end()],
  'res.vary of nothing': [caught((res) => res.vary())],
  'res.cookie': [
    (req, res) => {
      const { now } = Date;
      Date.now = () => 1e12;
      res.cookie('plain', 'a b;c=ü').cookie('json', { a: 1 }).cookie('number', 7);
      res.cookie('all', 'x', { domain: 'example.org', path: '/p', secure: true, httpOnly: true, sameSite: 'strict', priority: 'high', partitioned: true });
      res.cookie('aged', 'x', { maxAge: 1500 }).cookie('dated', 'x', { expires: new Date(0) }).cookie('site', 'x', { sameSite: true }).cookie('own', 'ü', { encode: (text) => `<${text.length}>` });
      res.cookie('odd', 'x', { maxAge: 'nonsense' }).cookie('none', undefined).cookie('null', null, { maxAge: null });
      Date.now = now;
      res.send('set');
    },
  ],
  'res.cookie signed': [
    (req, res) => {
      req.secret = 'a secret';
      res.cookie('s', 'value', { signed: true }).cookie('o', { a: 1 }, { signed: true }).end();
    },
  ],
  'res.cookie signed without a secret': [caught((res, req) => { req.secret = undefined; res.cookie('s', 'value', { signed: true }); })],
  'res.cookie with what is no name or option': [
    caught((res, req) => res.cookie(['a b', 'a', 'a', 'a'][req.query.i], 'x', [{}, { path: 'a;b' }, { domain: 'a;b' }, { sameSite: 'odd' }][req.query.i])),
    '?i=0', '?i=1', '?i=2', '?i=3',
  ],
  'res.clearCookie': [(req, res) => res.clearCookie('a').clearCookie('b', { path: '/p', maxAge: 1000, expires: new Date() }).end()],
  'res.redirect': [
    (req, res) => res.redirect(req.query.to),
    '?to=/there', '?to=https://example.org/a?b=%26', '?to=%3Cb%3E%22', '?to=../up', '?to=%C3%BC%20x', '?to=//evil', '?to=/x | Accept: text/html', '?to=%3Cb%3E | Accept: text/html', '?to=/x | Accept: text/plain', '?to=/x | Accept: application/json', 'HEAD ?to=/x', '?to=%0d%0aX:y',
  ],
  'res.redirect with a status': [(req, res) => res.redirect(Number(req.query.code), '/there'), '?code=301', '?code=307', '?code=308', '?code=399'],
  'res.redirect to nowhere': [caught((res) => res.redirect())],
  'res.location': [(req, res) => res.location(req.query.to).end(res.get('Location')), '?to=/a%20b', '?to=https://ü.example/ü', '?to=%25zz%25', '?to=back'],
  'res.links': [
    (req, res) => res.links({ next: '/2', last: '/5' }).links({ other: ['/a', '/b'] }).end(),
  ],
  'res.format': [
    (req, res) => res.format({ text: () => res.send('text'), html: () => res.send('<p>'), json: (q, s) => s.send({ same: q === req && s === res }), 'application/vnd.x': () => res.send('x') }),
    '', ' | Accept: text/html', ' | Accept: application/json', ' | Accept: */*;q=0.1, application/vnd.x', ' | Accept: image/png', ' | Accept: text/*',
  ],
  'res.format with a default': [(req, res) => res.format({ html: () => res.send('<p>'), default: () => res.send('any') }), ' | Accept: image/png', ''],
  'res.format without anything': [(req, res) => res.format({})],
  'res.attachment': [
    (req, res) => res.attachment(req.query.name).send('x'),
    '', '?name=a.pdf', '?name=%C3%BCber.txt', '?name=/a/b/c.html', '?name=a%22b.json', '?name=%E2%82%AC%20rates.csv', '?name=none',
  ],
  'res.locals': [(req, res) => { res.locals.a = 1; res.json([res.locals, Object.getPrototypeOf(res.locals)]); }],
  'res.locals replaced': [(req, res) => { res.locals = { b: 2 }; res.json(res.locals); }],
  'res.headersSent': [(req, res) => { const before = res.headersSent; res.write('a'); res.end(JSON.stringify([before, res.headersSent])); }],
  'res.end': [(req, res) => res.status(202).end('as it is'), '', 'HEAD'],
  'res.write and writeHead': [(req, res) => { res.writeHead(203, 'Odd words', { 'X-A': 'b' }); res.write('one,'); res.end('two'); }, '', 'HEAD'],
  'res.req, res.app': [(req, res) => res.json([res.req === req, req.res === res, res.app === req.app, res.app.locals !== undefined])],
  'res.statusMessage': [(req, res) => { res.statusMessage = 'All Well'; res.send('x'); }],
  'res.writeEarlyHints': [(req, res) => { res.writeEarlyHints({ link: '</a.css>; rel=preload' }); res.send('x'); }],
  'trailers': [(req, res) => { res.set('Trailer', 'X-Sum'); res.write('x'); res.addTrailers({ 'X-Sum': '1' }); res.end(); }],
  'next()': [(req, res, next) => next()],
  "next('route')": [(req, res, next) => next('route')],
  'next(error)': [(req, res, next) => next(new Error('secret'))],
  'next(error with a status)': [(req, res, next) => next(Object.assign(new Error('you did it'), { status: 422, expose: true })), '', 'HEAD'],
  'next(error with a status for nobody)': [(req, res, next) => next(Object.assign(new Error('secret'), { statusCode: 403 }))],
  'next(error with headers)': [(req, res, next) => { res.set('X-Gone', '1'); next(Object.assign(new Error('slow down'), { status: 429, expose: true, headers: { 'Retry-After': '9' } })); }],
  'a throw': [() => { throw new Error('secret'); }],
  'a throw with a status': [() => { throw Object.assign(new Error('no such thing'), { status: 404, expose: true }); }],
  'a rejection with a status': [async () => { throw Object.assign(new Error('not so'), { statusCode: 409, expose: true }); }],
  'a throw with a status of 5xx': [() => { throw Object.assign(new Error('secret'), { status: 503, expose: true }); }],
  'a throw with what is no status': [() => { throw Object.assign(new Error('secret'), { status: 200 }); }],
});
