// Shows what a handler learns about a request, and sets a header of its own.
//   curl -i 'http://127.0.0.1:8080/fn/headers/any/path?a=1'

module.exports = (req, res) => {
  res.set('X-Served-By', 'SanFran').json({
    method: req.method,
    url: req.url,
    baseUrl: req.baseUrl,
    query: req.query,
    ip: req.ip,
    headers: req.headers,
  });
};
