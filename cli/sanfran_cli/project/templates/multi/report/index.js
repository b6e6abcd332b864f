// Several handlers: /fn/@name@-report, /fn/@name@-report/size.
const rows = require('./rows.js');

exports.index = (req, res) => res.json({ rows, stage: process.env.STAGE });
exports.size = (req, res) => res.json({ size: rows.length });
