// Runs one story in a real browser. Orders to the test that started it go out as lines of JSON, its answers come in.
//
//     node driver.mjs STORY '{"modules": FOLDER, "chromium": FILE, "hosts": {...}, "port": N, "folder": FOLDER}'
//
// "stories": FILE takes them from another file.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [story, text] = process.argv.slice(2);
const given = JSON.parse(text);
const require = createRequire(`${given.modules}/`);
const puppeteer = require('puppeteer-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const { stories } = await import(given.stories ?? './stories.mjs');

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Gives the test an order, and waits for its answer. */
async function order(what, about = {}) {
  process.stdout.write(`${JSON.stringify({ order: what, ...about })}\n`);
  const { value, done } = await lines.next();
  assert(!done, 'the test went away');
  return JSON.parse(value);
}

const rules = given.hosts.map((host) => `MAP ${host} 127.0.0.1`).join(', ');
const browser = await puppeteer.launch({
  executablePath: given.chromium,
  acceptInsecureCerts: true,
  userDataDir: given.folder,
  args: [
    '--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader',
    '--disable-dev-shm-usage',
    '--disable-gpu',
    '--disable-background-networking',
    '--no-proxy-server',
    `--host-resolver-rules=${rules}`,
  ],
});

/** What the pages complained about: violations of their policy, missing files, script errors. */
const complaints = [];

async function watched(page) {
  page.on('console', (message) => {
    if (['error', 'warn'].includes(message.type())) complaints.push(`${message.text()} ${message.location().url ?? ''}`.trim());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  // A slow machine is no failure.
  page.setDefaultTimeout(120_000);
  page.setDefaultNavigationTimeout(120_000);
  return page;
}

/** A browser of its own: nothing is shared with the others. */
async function someone() {
  const context = await browser.createBrowserContext();
  return { tab: async () => watched(await context.newPage()), cookies: () => context.cookies() };
}

const kit = {
  assert,
  axe,
  complaints,
  given,
  order,
  someone,
  url: (host, path) => `https://${host}:${given.port}${path}`,
};

try {
  assert(stories[story], `no story ${story}`);
  await stories[story](kit);
} finally {
  await browser.close();
}
process.exit(0);
