// An async handler that asks another function and passes its answer on.
//   curl 'http://127.0.0.1:8080/fn/chain?name=Vik'
//
// Functions reach each other as anyone else does, through the engine. Its address is the one that
// the client used; where functions cannot reach that, or where clients may not choose whom a
// function calls, set ENGINE_URL:
//   sanfran update chain demo/chain.js --env ENGINE_URL=http://router.internal:8080

module.exports = async (req, res) => {
  const engine = process.env.ENGINE_URL ?? `${req.protocol}://${req.host ?? '127.0.0.1:8080'}`;
  const url = new URL('/fn/hello', engine);
  if (req.query.name !== undefined) url.searchParams.set('name', req.query.name);

  // The signal ends the call when the client of this one leaves.
  const answer = await fetch(url, { signal: req.signal });
  if (!answer.ok) {
    return res.status(502).json({ asked: url.pathname, status: answer.status });
  }
  res.type('text').send(`${await answer.text()}, says another function`);
};
