'use strict';
// The notation of the tables beside this file: a handler, and the requests that it is asked.

/**
 * @param {Record<string, [Function, ...(string | [string, string | Buffer])[]]>} members by what is shown:
 *   a handler, and requests as 'METHOD /more?query | Header: value | …', each with its body, if any;
 *   a lone '' is a plain GET
 */
function table(members) {
  return Object.entries(members).map(([what, [handler, ...requests]]) => ({
    what,
    handler,
    requests: (requests.length > 0 ? requests : ['']).map((request) => {
      const [text, body] = Array.isArray(request) ? request : [request];
      const [line, ...headers] = text.split(' | ');
      const [, method = 'GET', target] = /^([A-Z]+)? ?(.*)$/.exec(line);
      return { text, method, target, headers, body };
    }),
  }));
}

module.exports = { table };
