// Measures pages in a real browser for the benchmark, each in a browser context of its own: nothing is in its cache.
//
//     node bench.mjs '{"hosts": {"HOST:PORT": "127.0.0.1:PORT"}, "certificates": [PEM FILE]}'
//
// Orders come in as lines of JSON, and every one is answered by a line: {"error": TEXT} when it did not work.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

import { DESKTOP, PHONE, startBrowser } from './browser.mjs';
import { watch } from './watch.mjs';

const given = JSON.parse(process.argv[2]);
/** Far above what a measure takes. */
const LIMIT = 300_000;
const PHONE_AGENT =
  'Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36';
/** How much slower a phone computes: the main thread of the page; the debugging protocol cannot slow workers down. */
const SLOWER = 4;

const rules = Object.entries(given.hosts).map(([host, address]) => `MAP ${host} ${address}`);
// Certificates that are trusted, not errors that are overlooked: after an error the browser would keep nothing.
const trusted = given.certificates.map((file) => {
  const key = new X509Certificate(readFileSync(file)).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
});
const browser = await startBrowser([
  `--host-resolver-rules=${rules.join(', ')}`,
  `--ignore-certificate-errors-spki-list=${trusted.join(',')}`,
  '--no-proxy-server',
  '--disable-background-networking',
]);

let cookies = [];

/** Follows the link of a report and logs in at the provider; the session is kept for the measures. */
async function login({ link, page: end, professional }) {
  const context = await browser.createBrowserContext();
  try {
    const page = await context.newPage();
    const client = await page.createCDPSession();
    // The provider's certificate is not among those that are trusted.
    await client.send('Security.setIgnoreCertificateErrors', { ignore: true });
    await page.goto(link);
    for (const selector of ['a[href="/viewer/pro"]', `button[value="${professional}"]`, 'button[type=submit]']) {
      const click = page.$eval(selector, (element) => element.click());
      await Promise.all([page.waitForNavigation(), click]);
    }
    if (page.url() !== end) throw new Error(`the link leads to ${page.url()}`);
    const { hostname } = new URL(end);
    cookies = (await context.cookies()).filter((cookie) => cookie.domain === hostname);
    return {};
  } finally {
    await context.close();
  }
}

let opened;
let page;

/** The mark that the exam page sets when the three planes are ready. */
const READY = 'drimbox:mpr-ready';
/** How long a picture may not change to be the last. */
const SETTLED = 10_000;

/**
 * Opens a page and waits for images; it stays open until `close`. `phone`: the profile. `planes`, `press`: see `watch`.
 * Answers `seconds` after the start of the navigation, and `at`, the same moment in milliseconds of the clock.
 */
async function open({ url, phone = false, planes = 1, press = [] }) {
  // One that did not come to its end is not to disturb this one.
  await close();
  opened = await browser.createBrowserContext();
  const { hostname } = new URL(url);
  await opened.setCookie(...cookies.filter((cookie) => cookie.domain === hostname));
  page = await opened.newPage();
  page.setDefaultTimeout(LIMIT);
  await page.setViewport(phone ? PHONE : DESKTOP);
  if (phone) {
    await page.setUserAgent({ userAgent: PHONE_AGENT });
    await page.emulateCPUThrottling(SLOWER);
  }
  await page.evaluateOnNewDocument(watch, { planes, press, ready: READY });
  await page.goto(url, { waitUntil: 'domcontentloaded' });
  try {
    const end = await page.waitForFunction(() => globalThis.drimboxBench.end, { polling: 100 });
    return await end.jsonValue();
  } catch (error) {
    const lacking = await page.evaluate(() => globalThis.drimboxBench?.lacks());
    throw new Error(`${error}; what the page lacks: ${lacking}`);
  }
}

/** The last change of the images of the open page, when they change no more; answers as `open`. */
async function last() {
  const settled = (still) => performance.now() - 1000 * globalThis.drimboxBench.last.seconds > still && globalThis.drimboxBench.last;
  const end = await page.waitForFunction(settled, { polling: 100 }, SETTLED);
  return end.jsonValue();
}

/** Keeps a picture of the open page. */
async function picture({ file }) {
  await page.screenshot({ path: file });
  return {};
}

/** Closes what `open` opened. */
async function close() {
  await opened?.close();
  opened = undefined;
  return {};
}

/** The browser's name and version. */
const version = async () => ({ version: await browser.version() });

const orders = { login, open, last, picture, close, version };

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let answer;
  try {
    answer = await orders[order.order](order);
  } catch (error) {
    answer = { error: String(error) };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
