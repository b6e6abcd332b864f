// Bundles src/ and its dependencies into one file, so that a process starts with one read.
// Usage: node build.mjs [output folder]

import { build } from 'esbuild';
import fs from 'node:fs';
import path from 'node:path';

const here = import.meta.dirname;
const out = path.resolve(process.argv[2] ?? path.join(here, '../sidecar/sanfran_sidecar/node'));

// Packages replaced by leaner ones of our own.
const LEAN = ['debug', 'iconv-lite', 'mime-types'];
// Packages that Express requires at its top and most requests never use: loaded by the first call.
const LAZY = ['accepts', 'content-disposition', 'cookie', 'http-errors', 'proxy-addr', 'qs', 'range-parser', 'send', 'statuses', 'type-is'];

const exactly = (names) => new RegExp(`^(${names.join('|')})$`);

const leanPackages = {
  name: 'lean packages',
  setup(build) {
    build.onResolve({ filter: exactly(LEAN) }, ({ path: name }) => ({ path: path.join(here, 'src/lean', `${name}.js`) }));
    build.onResolve({ filter: exactly(LAZY) }, async ({ path: name, pluginData, importer, ...rest }) => {
      if (pluginData === 'whole' || !importer.includes(`${path.sep}express${path.sep}lib${path.sep}`)) return undefined;
      const whole = await build.resolve(name, { ...rest, importer, pluginData: 'whole' });
      return { path: whole.path, namespace: 'lazy' };
    });
    build.onLoad({ filter: /./, namespace: 'lazy' }, ({ path: file }) => ({
      resolveDir: path.dirname(file),
      contents: `
        const whole = () => require(${JSON.stringify(file)});
        module.exports = new Proxy(function () {}, {
          apply: (_target, self, values) => Reflect.apply(whole(), self, values),
          get: (_target, name) => whole()[name],
        });`,
    }));
  },
};

const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ['src/main.js'],
  outfile: path.join(out, 'runtime.cjs'),
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  minifySyntax: true,
  minifyWhitespace: true,
  lineLimit: 160,
  legalComments: 'none',
  metafile: true,
  plugins: [leanPackages],
});

// The licences of what is in the bundle travel with it.
const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const folder = /^(?:lazy:)?(.*node_modules\/(?:@[^/]+\/)?[^/]+)/.exec(input)?.[1];
  if (folder) packages.add(path.resolve(here, folder));
}
const notices = [...packages].sort().map((folder) => {
  const { name, version, license } = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const file = fs.readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? fs.readFileSync(path.join(folder, file), 'utf8').trim() : '';
  return `${name} ${version} (${license})\n\n${text}\n`;
});
fs.writeFileSync(path.join(out, 'THIRD_PARTY.txt'), notices.join(`\n${'-'.repeat(72)}\n\n`));
