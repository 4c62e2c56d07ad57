// Accessibility: axe-core finds nothing (WCAG 2.0 to 2.2, A and AA), and the page holds together when it is enlarged.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { DESKTOP, imageShown, PHONE, press, toolsShown } from '../browser.mjs';
import { line, pdfOf } from '../pdf.mjs';
import { open, page, site } from '../reader.mjs';
import { examOf, picture, sample } from '../setting.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const RULES = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

async function openOn(viewport, name = 'ct') {
  await open(examOf(name, { download: true, priors: [{ study: '1.2.3', description: 'Scanner' }] }), viewport);
  await imageShown(page);
}

async function assertAccessible() {
  // In a world of its own, where the page's policy of scripts does not hold.
  const client = await page.createCDPSession();
  const { frameTree } = await client.send('Page.getFrameTree');
  const { executionContextId: contextId } = await client.send('Page.createIsolatedWorld', { frameId: frameTree.frame.id });
  await client.send('Runtime.evaluate', { expression: axe, contextId });
  const { result } = await client.send('Runtime.evaluate', {
    expression: `axe.run(document, { runOnly: ${JSON.stringify(RULES)} }).then((found) => JSON.stringify({ passed: found.passes.length, wrong: found.violations.map((one) => [one.id, one.nodes.map((node) => node.html)]) }))`,
    contextId,
    awaitPromise: true,
  });
  const { passed, wrong } = JSON.parse(result.value);
  assert.deepEqual(wrong, []);
  assert.ok(passed >= 5, `only ${passed} rules had something to look at`);
}

for (const [name, viewport] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  test(`axe finds nothing on the first page, ${name}`, async () => {
    await openOn(viewport);
    await assertAccessible();
  });
}

test('axe finds nothing with the tools, the help and the last page', async () => {
  await openOn(DESKTOP);
  await page.keyboard.press('2');
  await toolsShown(page, '1x2');
  await assertAccessible();
  await page.keyboard.press('h');
  await page.waitForSelector('dialog[open]');
  await assertAccessible();
  await picture(page, 'help');
  await press(page, 'Fermer');
  await press(page, 'Se déconnecter');
  await page.waitForSelector('.end');
  await assertAccessible();
});

test('axe finds nothing with key images, a structured report, graphics and a download', async () => {
  await openOn(DESKTOP, 'documents');
  for (const modality of ['SR', 'KO']) {
    const at = sample('documents').series.findIndex((one) => one.modality === modality);
    await page.$$eval('.entry', (entries, index) => entries[index].click(), at);
    await page.waitForSelector('.structured h3');
    await imageShown(page);
    await assertAccessible();
  }
  site.progress = [{ sent: 3, total: 12, state: 'running' }];
  site.files.set('/viewer/api/archive', { type: 'application/zip', body: Buffer.alloc(10) });
  await press(page, 'Télécharger');
  await page.waitForSelector('dialog progress[value]');
  await assertAccessible();
});

test('axe finds nothing in three planes, in four views and on the sheet to print', async () => {
  await openOn(DESKTOP, 'crossed');
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
  await assertAccessible();
  await page.keyboard.press('4');
  await toolsShown(page, '2x2');
  await assertAccessible();
  await page.evaluate(() => (window.print = () => undefined));
  await page.keyboard.press('u');
  await page.emulateMediaType('print');
  await assertAccessible();
});

for (const [name, viewport] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  test(`axe finds nothing with every action and the report open, ${name}`, async () => {
    const href = '/viewer/api/report';
    site.files.set(href, { type: 'application/pdf', body: pdfOf([line('Conclusion : examen normal.')]) });
    await open(examOf('ct', { download: true, weasis: true, report: { href, type: 'application/pdf' } }), viewport);
    await imageShown(page);
    await press(page, 'Compte rendu');
    await page.waitForSelector('.page canvas');
    await assertAccessible();
  });
}

test('axe finds nothing with a report and an image that cannot be shown', async () => {
  const href = '/viewer/api/report';
  site.files.set(href, { type: 'application/pdf', body: Buffer.from('nothing of a PDF') });
  site.intercept = (path, answer) => path.includes('/frames/') && (answer.writeHead(404).end(), true);
  await open(examOf('ct', { report: { href, type: 'application/pdf' } }));
  await page.waitForSelector('.message button');
  await press(page, 'Compte rendu');
  await page.waitForSelector('.panel .body button');
  await assertAccessible();
});

test('axe finds nothing in the warning of idleness', async () => {
  await open(examOf('ct', { absoluteSeconds: 3600, idleSeconds: 100 }));
  await imageShown(page);
  await page.evaluate(() => {
    const now = Date.now.bind(Date);
    Date.now = () => now() + 60_000;
  });
  await page.waitForSelector('dialog[open]');
  await assertAccessible();
});

for (const status of [401, 403, 410]) {
  test(`axe finds nothing on the last page after ${status}`, async () => {
    site.status = status;
    await open(examOf('ct'));
    await page.waitForSelector('.end');
    await assertAccessible();
  });
}

for (const [name, width, height] of [['200 %', 640, 450], ['400 %', 320, 256]]) {
  test(`nothing lies beside the screen at ${name}`, async () => {
    await openOn({ width, height, deviceScaleFactor: 1 });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} pixels beside the screen`);
    assert.equal(await page.evaluate(() => scrollY), 0, 'the page begins at its top');
    await picture(page, `enlarged-${width}`);
  });
}

test('every button is reached and used by the keyboard alone', async () => {
  await openOn(DESKTOP);
  const wanted = await page.$$eval('button:not([disabled])', (all) => all.filter((one) => one.checkVisibility()).map((one) => one.textContent));
  const reached = new Set();
  for (let step = 0; step < wanted.length + 20; step += 1) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate(() => document.activeElement?.textContent ?? ''));
  }
  assert.deepEqual(wanted.filter((text) => !reached.has(text)), []);
});
