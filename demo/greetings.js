// One function with several handlers. The path's next segment names the one that answers; `index`
// answers when there is none.
//   curl http://127.0.0.1:8080/fn/greetings
//   curl 'http://127.0.0.1:8080/fn/greetings/hello?name=Vik'
//   curl 'http://127.0.0.1:8080/fn/greetings/bye?name=Vik'

const greet = (word) => (req, res) => {
  const { name = 'World' } = req.query;
  res.type('text').send(`${word} ${name}`);
};

exports.hello = greet('Hello');
exports.bye = greet('Bye');

exports.index = (req, res) => {
  res.json({ handlers: ['hello', 'bye'].map((name) => `${req.baseUrl}/${name}`) });
};
