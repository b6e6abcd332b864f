'use strict';
// All tables, and their handlers as one function: `c0` is the handler of the first row.

const rows = [...require('./request.js'), ...require('./response.js'), ...require('./files.js')];
rows.forEach((row, i) => (row.name = `c${i}`));

module.exports = Object.fromEntries(rows.map(({ name, handler }) => [name, handler]));
Object.defineProperty(module.exports, 'rows', { value: rows }); // not enumerable: no handler
