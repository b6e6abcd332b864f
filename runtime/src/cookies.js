'use strict';
// req.cookies and req.signedCookies, as cookie-parser makes them. Loaded by the first look at them.

/** Sets both on the request. `req.secret` is the secret of signed cookies, or an array of such. */
function parseCookies(req) {
  const { unsign } = require('cookie-signature');
  const { cookie } = req.headers;
  const cookies = cookie ? require('cookie').parse(cookie) : Object.create(null);
  const signed = Object.create(null);
  const secrets = [req.secret ?? []].flat();
  for (const [name, value] of Object.entries(cookies)) {
    if (secrets.length > 0 && value.startsWith('s:')) {
      delete cookies[name];
      // false: it was tampered with.
      signed[name] = fromJson(secrets.reduce((found, secret) => found || unsign(value.slice(2), secret), false));
    } else {
      cookies[name] = fromJson(value);
    }
  }
  req.cookies = cookies;
  req.signedCookies = signed;
}

// res.cookie() writes objects as j:{...}.
function fromJson(value) {
  if (typeof value !== 'string' || !value.startsWith('j:')) return value;
  try {
    return JSON.parse(value.slice(2)) || value;
  } catch {
    return value;
  }
}

module.exports = { parseCookies };
