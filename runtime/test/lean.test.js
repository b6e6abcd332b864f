'use strict';
const assert = require('node:assert/strict');
const { test } = require('node:test');
const iconv = require('iconv-lite');
const mime = require('mime-types');
const lean = require('../src/lean/iconv-lite.js');
const { COMMON } = require('../src/lean/mime-types.js');

test('the common content types are those of mime-types', () => {
  for (const [type, value] of COMMON) assert.equal(value, mime.contentType(type) || 'application/octet-stream', type);
});

test('text is decoded as by iconv-lite, split anywhere', () => {
  const text = 'Grüße, 世界 🙂';
  for (const encoding of ['utf-8', 'utf-16le', 'iso-8859-1']) {
    const sent = encoding === 'iso-8859-1' ? 'Grüße' : text;
    const bytes = iconv.encode(sent, encoding);
    assert.equal(lean.decode(bytes, encoding), sent);
    const decoder = lean.getDecoder(encoding);
    let got = '';
    for (const byte of bytes) got += decoder.write(Buffer.of(byte));
    assert.equal(got + decoder.end(), sent);
  }
  assert.equal(lean.encodingExists('no-such'), false);
});
