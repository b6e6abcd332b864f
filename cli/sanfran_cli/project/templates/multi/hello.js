// Answers at /fn/@name@-hello.
module.exports = (req, res) => res.json({ hello: req.query.name ?? 'World', stage: process.env.STAGE });
