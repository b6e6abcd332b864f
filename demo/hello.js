// The smallest function: one handler, with Express's req and res.
//   curl 'http://127.0.0.1:8080/fn/hello?name=Vik'

module.exports = (req, res) => {
  const { name = 'World' } = req.query;
  // As plain text, so that no name is ever taken for HTML.
  res.type('text').send(`Hello ${name}`);
};
