'use strict';
// Stands in for `iconv-lite` in the bundle, with the decoders that Node has already: the package's
// tables are half a megabyte of source in every process. What the body parsers call, no more.

// On the web these names mean windows-1252.
const LATIN1 = /^(iso-?8859-?1|latin-?1)$/i;

function decoderOf(encoding) {
  return LATIN1.test(encoding) ? { decode: (bytes) => bytes?.toString('latin1') ?? '' } : new TextDecoder(encoding);
}

function encodingExists(encoding) {
  try {
    decoderOf(encoding);
    return true;
  } catch {
    return false;
  }
}

function getDecoder(encoding) {
  if (!encodingExists(encoding)) throw new Error(`Encoding not recognized: '${encoding}'`);
  const decoder = decoderOf(encoding);
  return {
    write: (bytes) => decoder.decode(bytes, { stream: true }),
    end: () => decoder.decode(),
  };
}

module.exports = {
  decode: (bytes, encoding) => decoderOf(encoding).decode(bytes),
  encodingExists,
  getDecoder,
};
