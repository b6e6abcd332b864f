'use strict';
// Stands in for `mime-types` in the bundle. The package builds tables of 2,500 types when it is
// loaded; nearly every answer needs one of the few below, whose values a test compares with the
// package's own.

const COMMON = new Map([
  ['html', 'text/html; charset=utf-8'],
  ['text/html', 'text/html; charset=utf-8'],
  ['text/html; charset=utf-8', 'text/html; charset=utf-8'],
  ['txt', 'text/plain; charset=utf-8'],
  ['text', 'text/plain; charset=utf-8'],
  ['text/plain', 'text/plain; charset=utf-8'],
  ['text/plain; charset=utf-8', 'text/plain; charset=utf-8'],
  ['json', 'application/json; charset=utf-8'],
  ['application/json', 'application/json; charset=utf-8'],
  ['application/json; charset=utf-8', 'application/json; charset=utf-8'],
  ['bin', 'application/octet-stream'],
  ['application/octet-stream', 'application/octet-stream'],
]);

const whole = () => require('mime-types');

exports.COMMON = COMMON;
exports.contentType = (type) => COMMON.get(type) ?? whole().contentType(type);
exports.lookup = (path) => whole().lookup(path);
exports.charset = (type) => whole().charset(type);
exports.extension = (type) => whole().extension(type);
