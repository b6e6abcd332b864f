// Answers at /fn/@name@ and everything below it, with Express's req and res.
module.exports = (req, res) => {
  res.json({ hello: req.query.name ?? 'World', greeting: process.env.GREETING, path: req.path });
};
