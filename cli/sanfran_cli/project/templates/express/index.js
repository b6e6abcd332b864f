import express from 'express';

const app = express();

app.get('/', (req, res) => res.json({ hello: req.query.name ?? 'World' }));
app.get('/items/:id', (req, res) => res.json({ item: req.params.id }));

// No listen: SanFran calls it for every request to /fn/@name@ and everything below.
export default app;
