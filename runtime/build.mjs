// Bundles src/ and its dependencies, so that a process starts with one read: runtime.cjs has what
// every process needs, later.cjs beside it the packages that most never use. Compiling those, if
// only to skip them, would be a tenth of a process's start.
// Usage: node build.mjs [output folder]

import { build } from 'esbuild';
import fs from 'node:fs';
import path from 'node:path';

const here = import.meta.dirname;
const out = path.resolve(process.argv[2] ?? path.join(here, '../sidecar/sanfran_sidecar/node'));

// Packages replaced by leaner ones of our own, in src/lean.
const LEAN = ['debug', 'iconv-lite', 'mime-types'];
// Packages that go into later.cjs, loaded by the first call of each.
const LATER = ['accepts', 'content-disposition', 'cookie', 'mime-types', 'proxy-addr', 'qs', 'range-parser', 'send'];

const exactly = (names) => new RegExp(`^(${names.join('|')})$`);
const lean = (name) => ({ path: path.join(here, 'src/lean', `${name}.js`) });

const leanPackages = {
  name: 'lean packages',
  setup(build) {
    build.onResolve({ filter: exactly(LEAN) }, ({ path: name }) => (name === 'mime-types' ? undefined : lean(name)));
  },
};

const laterPackages = {
  name: 'later packages',
  setup(build) {
    build.onResolve({ filter: exactly(LATER) }, ({ path: name, importer }) => {
      const inLean = path.dirname(importer) === path.join(here, 'src/lean');
      return LEAN.includes(name) && !inLean ? lean(name) : { path: name, namespace: 'later' };
    });
    build.onResolve({ filter: /^\.\/later\.cjs$/ }, ({ path: file }) => ({ path: file, external: true }));
    build.onLoad({ filter: /./, namespace: 'later' }, ({ path: name }) => ({
      contents: `
        const whole = () => require('./later.cjs')[${JSON.stringify(name)}];
        module.exports = new Proxy(function () {}, {
          apply: (_target, self, values) => Reflect.apply(whole(), self, values),
          get: (_target, member) => whole()[member],
        });`,
    }));
  },
};

async function bundle(file, options) {
  const { metafile } = await build({
    absWorkingDir: here,
    outfile: path.join(out, file),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minifySyntax: true,
    minifyWhitespace: true,
    lineLimit: 160,
    legalComments: 'none',
    metafile: true,
    ...options,
  });
  return Object.keys(metafile.inputs);
}

const inputs = await Promise.all([
  bundle('runtime.cjs', { entryPoints: ['src/main.js'], plugins: [laterPackages, leanPackages] }),
  bundle('later.cjs', {
    stdin: {
      contents: `module.exports = { ${LATER.map((name) => `get '${name}'() { return require('${name}'); }`)} };`,
      resolveDir: here,
    },
    plugins: [leanPackages],
  }),
]);

// The licences of what is in the bundles travel with them.
const folders = inputs.flat().map((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]);
const notices = [...new Set(folders.filter(Boolean))].sort().map((folder) => {
  const { name, version, license } = JSON.parse(fs.readFileSync(path.join(here, folder, 'package.json'), 'utf8'));
  const file = fs.readdirSync(path.join(here, folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const text = file ? fs.readFileSync(path.join(here, folder, file), 'utf8').trim() : '';
  return `${name} ${version} (${license})\n\n${text}\n`;
});
fs.writeFileSync(path.join(out, 'THIRD_PARTY.txt'), notices.join(`\n${'-'.repeat(72)}\n\n`));
