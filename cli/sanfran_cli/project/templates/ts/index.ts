// Answers at /fn/@name@ and everything below it, with Express's req and res. Node takes the types away
// when it loads the file; `npm install --save-dev @types/express` lets an editor know them.
type Query = { name?: string };

export default function handler(req: any, res: any): void {
  const { name = 'World' }: Query = req.query;
  res.json({ hello: name, greeting: process.env.GREETING, path: req.path });
}
