// Builds the page into dist/: the files of Vite, the notice of licences, a brotli and a gzip form of
// each, and the list that the gateway embeds. Fails when a rule of the page is broken.

import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import zlib from 'node:zlib';

import { build } from 'vite';

import { notice, packagesUsed } from './licences.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const site = path.join(root, 'dist', 'site');

/** Compressed bytes of what the first image needs, without the worker and its codec. */
const FIRST_PAINT = 80_000;
const brotli = promisify(zlib.brotliCompress);
const gzip = promisify(zlib.gzip);

const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.mjs': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.wasm': 'application/wasm',
  '.txt': 'text/plain; charset=utf-8',
};

await rm(path.join(root, 'dist', 'files.tsv'), { force: true });
const { used, plugin } = packagesUsed();
const { output } = await build({ root, logLevel: 'error', plugins: [plugin], worker: { plugins: () => [plugin] } });
const chunks = (Array.isArray(output) ? output : [output]).filter((file) => file.type === 'chunk');
await writeFile(path.join(site, 'licences.txt'), await notice(root, used));

const files = [];
for (const name of await list(site)) {
  const bytes = await readFile(path.join(site, name));
  const type = TYPES[path.extname(name)];
  if (type === undefined) throw new Error(`${name}: no media type is known for this extension`);
  if (type.startsWith('text/javascript')) refuseEval(name, bytes.toString('utf8'));
  const br = await brotli(bytes, { params: { [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
  const gz = await gzip(bytes, { level: 9 });
  await writeFile(path.join(site, `${name}.br`), br);
  await writeFile(path.join(site, `${name}.gz`), gz);
  files.push({ name, type, bytes: bytes.length, br: br.length, gz: gz.length });
}

const first = firstPaint();
const total = first.reduce((sum, file) => sum + file.gz, 0);
console.log(`first paint: ${total} bytes gzip in ${first.map((file) => file.name).join(', ')}`);
console.log(`all: ${files.length} files, ${files.reduce((sum, file) => sum + file.br, 0)} bytes brotli`);
if (total > FIRST_PAINT) throw new Error(`the first page takes ${total} bytes, more than ${FIRST_PAINT}`);
// Last: the gateway embeds what this list names.
await writeFile(path.join(root, 'dist', 'files.tsv'), files.map((file) => `${file.name}\t${file.type}\t${file.bytes}\n`).join(''));

/** The page, its styles, its entry and what that imports at once. */
function firstPaint() {
  const wanted = new Set(['index.html']);
  const add = (name) => {
    if (wanted.has(name)) return;
    wanted.add(name);
    const chunk = chunks.find((one) => one.fileName === name);
    chunk?.imports.forEach(add);
    chunk?.viteMetadata?.importedCss.forEach((css) => wanted.add(css));
  };
  chunks.filter((chunk) => chunk.isEntry).forEach((chunk) => add(chunk.fileName));
  return files.filter((file) => wanted.has(file.name));
}

function refuseEval(name, code) {
  for (const pattern of [/\beval\s*\(/, /\bnew\s+Function\s*\(/]) {
    const found = pattern.exec(code);
    if (found === null) continue;
    const around = code.slice(Math.max(found.index - 60, 0), found.index + 60);
    throw new Error(`${name}: code made from text, which the page's policy forbids: …${around}…`);
  }
}

async function list(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
}
