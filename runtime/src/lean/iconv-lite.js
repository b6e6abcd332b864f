'use strict';
// Stands in for `iconv-lite` in the bundle, with the decoders that Node has already: the package's
// tables are half a megabyte of source in every process. What the body parsers call, no more.

function encodingExists(encoding) {
  try {
    new TextDecoder(encoding);
    return true;
  } catch {
    return false;
  }
}

function getDecoder(encoding) {
  if (!encodingExists(encoding)) throw new Error(`Encoding not recognized: '${encoding}'`);
  const decoder = new TextDecoder(encoding);
  return {
    write: (bytes) => decoder.decode(bytes, { stream: true }),
    end: () => decoder.decode(),
  };
}

module.exports = {
  decode: (bytes, encoding) => new TextDecoder(encoding).decode(bytes),
  encodingExists,
  getDecoder,
};
