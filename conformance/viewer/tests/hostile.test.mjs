// What others can put into an address, a message, a document or an answer: the page asks nobody else, and stays usable.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DESKTOP, imageShown, press } from '../browser.mjs';
import { line, pdfOf, streamOf } from '../pdf.mjs';
import { assertClean, open, page, site } from '../reader.mjs';
import { examOf, picture, sample } from '../setting.mjs';

const ELSEWHERE = 'https://ailleurs.example';

test('no address and no message makes the page ask elsewhere or for another exam', async () => {
  const other = sample('mr').study_instance_uid;
  const query = new URLSearchParams({ url: `${ELSEWHERE}/a.json`, wadoRoot: ELSEWHERE, StudyInstanceUIDs: other, studyUID: other, report: `${ELSEWHERE}/r.pdf` });
  const exam = examOf('ct', { report: { href: `${ELSEWHERE}/r.pdf`, type: 'application/pdf' } });
  await open(exam, DESKTOP, `/viewer/?${query}#${ELSEWHERE}/?${query}`);
  await imageShown(page);
  await page.evaluate((address, study) => {
    for (const message of [address, { url: address }, { type: 'load', study, wadoRoot: address }, { warm: `${address}/codec.js` }]) {
      postMessage(message, '*');
      dispatchEvent(new MessageEvent('message', { data: message, origin: address }));
    }
    history.replaceState({}, '', `/viewer/?url=${address}#${address}`);
    dispatchEvent(new HashChangeEvent('hashchange'));
  }, ELSEWHERE, other);
  await page.keyboard.press('ArrowRight');
  await page.waitForFunction(() => document.querySelector('.slider').getAttribute('aria-valuetext') === 'Image 2 sur 3');
  await imageShown(page);
  await press(page, 'Compte rendu');
  await page.waitForSelector('.panel:not([hidden])');
  assert.equal(await page.$eval('.panel .body', (body) => body.textContent), 'Ce document ne peut pas être affiché ici.');
  const images = site.seen.paths.filter((path) => path.startsWith('/dicom-web/'));
  assert.ok(images.length > 0);
  assert.deepEqual(images.filter((path) => !path.startsWith(`/dicom-web/studies/${exam.study}/`)), []);
  assertClean();
});

for (const href of [`${ELSEWHERE}/r.html`, '//ailleurs.example/r.html', 'javascript:alert(1)', 'data:text/html,<b>x</b>']) {
  test(`a report at ${href} is not opened`, async () => {
    await open(examOf('ct', { report: { href, type: 'text/html' } }));
    await imageShown(page);
    await press(page, 'Compte rendu');
    await page.waitForSelector('.panel:not([hidden])');
    assert.equal(await page.$('iframe'), null);
    assert.deepEqual(await page.$$eval('.panel a', (links) => links.map((one) => one.href)), []);
    assertClean();
  });
}

for (const logout of [`${ELSEWHERE}/quitter`, '//ailleurs.example/quitter']) {
  test(`a session is ended here, not at ${logout}`, async () => {
    await open(examOf('ct', { logout }));
    await imageShown(page);
    await press(page, 'Se déconnecter');
    await page.waitForSelector('.end');
    assert.ok(site.seen.paths.includes('/auth/logout'));
    assert.deepEqual(page.watched.foreign, []);
    assert.deepEqual(site.seen.reports, []);
  });
}

test('what a decoder may not ask for is refused, and reported', { timeout: 120_000 }, async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const decoder = page.workers().find((worker) => worker.url().includes('/assets/worker-'));
  const answer = await decoder.evaluate((address) => fetch(address).then(() => 'asked', () => 'refused'), `${ELSEWHERE}/pixels`);
  assert.equal(answer, 'refused');
  await site.until(() => site.seen.reports.length > 0);
  const [report] = site.seen.reports.map((text) => JSON.parse(text)['csp-report']);
  assert.equal(report['effective-directive'], 'connect-src');
  assert.ok(report['blocked-uri'].startsWith(ELSEWHERE));
});

/** Opens a report that is this PDF, after the page has been prepared for it. */
async function openReport(body, prepare = () => undefined) {
  const href = '/viewer/api/report';
  site.files.set(href, { type: 'application/pdf', body });
  await open(examOf('ct', { report: { href, type: 'application/pdf' } }));
  await imageShown(page);
  await page.evaluate(prepare);
  await press(page, 'Compte rendu');
  await page.waitForSelector('.page');
}

/** Waits until a page of the document has been drawn, or is said not to be; answers what is in its place. */
async function pageOf(number) {
  const holder = await page.waitForSelector(`.page[data-page="${number}"]`);
  await holder.evaluate((element) => element.scrollIntoView());
  await page.waitForFunction((element) => element.children.length > 0, {}, holder);
  return holder.evaluate((element) => {
    const canvas = element.querySelector('canvas');
    const data = canvas?.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    return {
      text: element.textContent,
      alert: element.querySelector('[role=alert]')?.textContent,
      size: canvas && [canvas.width, canvas.height],
      inked: data?.some((value, at) => at % 4 === 0 && value < 128),
    };
  });
}

/** The images are still read. */
async function scrolls() {
  await page.focus('.screen');
  await page.keyboard.press('Home');
  await imageShown(page, sample('ct').series[0].instances[0].sop_instance_uid);
}

/** Says what stands in place of a page that is too much, and that the images are read on. */
async function isGivenUp() {
  const { alert, size } = await pageOf(1);
  assert.match(alert, /demande trop de calculs.*n'a pas pu être affichée : enregistrez le document/);
  assert.equal(size, null);
  await page.waitForSelector('.panel a[download="Compte rendu.pdf"]');
  await scrolls();
  assertClean();
}

test('a page of a million strokes is given up', async () => {
  await openReport(pdfOf(['0 0 m 9 9 l S '.repeat(1e6)]), () => {
    // However long it takes.
    window.setInterval = () => 0;
  });
  await isGivenUp();
  await picture(page, 'pdf-too-much');
});

test('a page that comes to no end is given up after its time', async () => {
  // Each form draws the next one forty times: some hundred bytes, 40^8 strokes.
  const forms = Array.from({ length: 8 }, (_, at) =>
    streamOf(`/Type /XObject /Subtype /Form /BBox [0 0 595 842] /Resources << /XObject << /F ${5 + at} 0 R >> >>`, at < 7 ? '/F Do '.repeat(40) : '0 0 m 9 9 l S '.repeat(40)),
  );
  await openReport(pdfOf(['/F Do'], { resources: '/XObject << /F 4 0 R >>', more: forms }), () => {
    const every = window.setInterval.bind(window);
    window.setInterval = (run, time) => every(run, time / 20);
  });
  await isGivenUp();
});

test('a page whose bytes are two hundred megabytes once inflated leaves the images readable', async () => {
  const steps = Buffer.concat([Buffer.alloc(200_000_000, ' '), Buffer.from(line('Fin du document'))]);
  await openReport(pdfOf([steps]));
  await scrolls();
  const { text } = await pageOf(1);
  assert.ok(text.includes('Fin du document') || text.includes('enregistrez le document'), text);
  assert.deepEqual(page.watched.foreign, []);
  assert.deepEqual(site.seen.reports, []);
});

test('an image of a hundred million pixels is left out of its page', async () => {
  const [width, height] = [10_000, 10_000];
  const black = streamOf(`/Type /XObject /Subtype /Image /Width ${width} /Height ${height} /ColorSpace /DeviceGray /BitsPerComponent 1`, Buffer.alloc((width * height) / 8));
  const small = streamOf('/Type /XObject /Subtype /Image /Width 8 /Height 8 /ColorSpace /DeviceGray /BitsPerComponent 8', Buffer.alloc(64));
  const resources = '/XObject << /Large 4 0 R /Small 5 0 R >>';
  await openReport(pdfOf(['q 500 0 0 500 50 50 cm /Large Do Q', 'q 500 0 0 500 50 50 cm /Small Do Q'], { resources, more: [black, small] }));
  assert.equal((await pageOf(1)).inked, false);
  assert.equal((await pageOf(2)).inked, true);
  await scrolls();
  assert.deepEqual(site.seen.reports, []);
});

for (const [what, box] of [['thin and endless', [0, 0, 1, 100_000]], ['flat and endless', [0, 0, 100_000, 1]], ['vast', [0, 0, 1e7, 1e7]], ['tiny', [0, 0, 0.01, 0.01]]]) {
  test(`a page that is ${what} is drawn within bounds`, async () => {
    await openReport(pdfOf([line('Conclusion')], { box }));
    const { size, alert } = await pageOf(1);
    assert.equal(alert, undefined);
    assert.ok(size[0] >= 1 && size[0] <= 1400 && size[1] >= 1 && size[1] <= 2800, String(size));
    const tall = await page.$eval('.page', (element) => element.getBoundingClientRect().height);
    assert.ok(tall < 3000, `${tall} pixels of the panel`);
    await scrolls();
    assertClean();
  });
}

test('a page that cannot be read is said to be so, and the others are drawn', async () => {
  const file = pdfOf([line('Avant'), line('Ensuite')]);
  // The second page is an object of another kind.
  const at = file.lastIndexOf('/Type /Page /Parent');
  file.write('/Type /Pag', at, 'latin1');
  file.write('(Parent', at + '/Type /Page '.length, 'latin1');
  await openReport(file);
  assert.match((await pageOf(1)).text, /Avant/);
  assert.match((await pageOf(2)).alert, /^Cette page n'a pas pu être affichée/);
  await scrolls();
});
