// The notice of the packages that are part of the page, with their licence texts.

import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/** Licences that may be part of the product. */
const ALLOWED = new Set(['MIT', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', '0BSD', 'Zlib', 'BSL-1.0', '(WTFPL OR MIT)', '(MIT AND Zlib)', 'CC0-1.0']);

const TEXTS = /^(licen[cs]e|notice|copying|authors)/i;

/** Remembers which packages the bundles are made of: `used` is full after the build. */
export function packagesUsed() {
  const used = new Set();
  const note = (id) => {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id ?? '');
    if (found) used.add(found[1]);
  };
  const plugin = {
    name: 'packages-used',
    generateBundle(_options, bundle) {
      for (const file of Object.values(bundle)) {
        if (file.type === 'chunk') file.moduleIds.forEach(note);
        else file.originalFileNames?.forEach(note);
      }
    },
  };
  return { used, plugin };
}

/** Text of the notice for the packages that are in the bundles. */
export async function notice(root, used) {
  const sections = ["Logiciels libres utilisés par la page d'examen, avec leurs licences."];
  for (const name of [...used].sort()) {
    const folder = path.join(root, 'node_modules', name);
    const about = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
    if (!ALLOWED.has(about.license)) throw new Error(`${name}: the licence ${about.license} is not among the allowed ones`);
    const own = (await readdir(folder)).filter((file) => TEXTS.test(file)).sort();
    const texts = await Promise.all(own.map((file) => readFile(path.join(folder, file), 'utf8')));
    const homepage = about.homepage ?? about.repository?.url ?? '';
    sections.push([`${'-'.repeat(78)}\n${name} ${about.version} (${about.license})`, homepage, ...texts].filter(Boolean).join('\n\n'));
  }
  // Compiled into the codecs, whose packages do not carry these texts.
  sections.push(await readFile(path.join(root, 'build', 'licences-codecs.txt'), 'utf8'));
  return `${sections.join('\n\n')}\n`;
}
