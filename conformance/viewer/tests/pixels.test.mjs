// What the screen shows, pixel by pixel, against what pydicom makes of the same files.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { DESKTOP, openPage, toolsShown } from '../browser.mjs';
import { examOf, manifest, start } from '../setting.mjs';

/** What pydicom says, made by expected.py. */
const expected = new Map(
  JSON.parse(readFileSync(path.join(process.env.DRIMBOX_TEST_EXPECTED, 'expected.json'), 'utf8')).map((one) => [one.instance, one]),
);

/** JPEG with the DCT, of 8 and of 12 bits: decoders differ by the rounding of their transforms. */
const WITH_DCT = new Set(['1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.4.51']);
/** A video that browsers do not play: no decoder here or in the gateway. */
const NOT_SHOWN = new Set(['1.2.840.10008.1.2.4.100']);

let setting;
before(async () => {
  setting = await start();
});
after(() => setting?.stop());

/** Videos after the first: one is enough. */
const OTHER_VIDEOS = new Set(['101', '102', '103'].map((last) => `1.2.840.10008.1.2.4.${last}`));
const manifestInstances = (exam, series) =>
  exam.series.find((one) => one.series_instance_uid === series.series_instance_uid).instances.map((instance) => instance.sop_instance_uid);

const EXAMS = ['ct', 'mr', 'us', 'dx', 'syntaxes', 'multiframe', 'fragments', 'pixels', 'looks', 'radiograph'];

for (const name of EXAMS) {
  test(`the images of ${name} look as pydicom makes them`, { timeout: 400_000 }, async () => {
    setting.site.reset();
    setting.site.exam = examOf(name);
    const page = await openPage(setting.browser, setting.site, { ...DESKTOP, width: 1100, height: 1000 });
    const seen = new Map();
    const exam = manifest.exams.find((one) => one.name === name);
    const imaging = exam.series
      .map((series) => ({ ...series, instances: series.instances.filter((instance) => !OTHER_VIDEOS.has(instance.transfer_syntax_uid)) }))
      .filter((series) => series.instances.some((instance) => instance.frames > 0));
    for (const series of imaging) {
      const at = exam.series.findIndex((one) => one.series_instance_uid === series.series_instance_uid);
      const own = manifestInstances(exam, series);
      await page.waitForSelector('.entry');
      await page.$$eval('.entry', (entries, index) => entries[index].click(), at);
      await settled(page, own);
      await page.focus('.screen');
      await page.keyboard.press('Home');
      await page.keyboard.press('t');
      for (let step = 0; step < 25; step += 1) {
        await settled(page);
        const shown = await readScreen(page);
        if (!seen.has(shown.instance)) seen.set(shown.instance, shown);
        const before = await place(page);
        await page.keyboard.press('ArrowDown');
        if ((await place(page)) === before) break;
      }
    }
    const wrong = [];
    for (const instance of imaging.flatMap((series) => series.instances)) {
      const shown = seen.get(instance.sop_instance_uid);
      const wanted = expected.get(instance.sop_instance_uid);
      const label = `${instance.file} in ${instance.transfer_syntax_uid}`;
      if (NOT_SHOWN.has(instance.transfer_syntax_uid)) {
        if (shown?.state !== 'error') wrong.push(`${label}: shown, though nothing decodes it`);
      } else if (shown?.state !== 'ready') {
        wrong.push(`${label}: ${shown?.state ?? 'never reached'} ${shown?.message ?? ''}`);
      } else if (!wanted.error) {
        const apart = compare(shown, wanted);
        const [worst, mean] = WITH_DCT.has(instance.transfer_syntax_uid) ? [14, 1.5] : [1, 0.3];
        if (!(apart.pixels > 0 && apart.worst <= worst && apart.mean <= mean)) wrong.push(`${label}: ${JSON.stringify(apart)}`);
      }
    }
    assert.deepEqual(wrong, []);
    assert.deepEqual(setting.site.seen.reports, []);
    await page.browserContext().close();
  });
}

test('the tools show the grey levels that each image asks for, as pydicom makes them', { timeout: 400_000 }, async () => {
  setting.site.reset();
  setting.site.exam = examOf('looks');
  const page = await openPage(setting.browser, setting.site, { ...DESKTOP, width: 1100, height: 1000 });
  await settled(page);
  await page.keyboard.press('c');
  await page.keyboard.press('l');
  await toolsShown(page);
  await page.focus('.screen');
  await page.keyboard.press('Home');
  await page.keyboard.press('t');
  const images = manifest.exams.find((one) => one.name === 'looks').series[0].instances;
  const apart = [];
  for (const [at, instance] of images.entries()) {
    // There, away and back: the look of one image is not left over for another.
    for (const key of at === 0 ? [] : ['ArrowDown', 'ArrowUp', 'ArrowDown']) await page.keyboard.press(key);
    await page.waitForFunction(
      (wanted) => document.querySelector('.stage').dataset.instance === wanted && document.querySelector('.view').dataset.rendered === wanted,
      {},
      instance.sop_instance_uid,
    );
    await settled(page, [instance.sop_instance_uid]);
    const shown = await readScreen(page, '.view .port canvas');
    apart.push({ at, ...compare(shown, expected.get(instance.sop_instance_uid)) });
  }
  // The edges of the image are smoothed by the graphics card.
  assert.ok(apart.every(({ mean, pixels }) => pixels > 60_000 && mean <= 1), JSON.stringify(apart));
  assert.deepEqual(setting.site.seen.reports, []);
  await page.browserContext().close();
});

const place = (page) => page.$eval('.slider', (slider) => slider.value);

/** Waits until one of the images, or any, is on screen or has failed, and is drawn. */
async function settled(page, instances) {
  await page.waitForFunction(
    (wanted) => {
      const { state, instance } = document.querySelector('.stage').dataset;
      return (state === 'ready' || state === 'error') && (!wanted || wanted.includes(instance)) && !document.querySelector('.corner.bottom.right').textContent.includes('…');
    },
    {},
    instances,
  );
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** The picture on the canvas at 100 %, with its middle at the middle of the image. */
async function readScreen(page, selector = '.canvas-viewer canvas') {
  return page.evaluate((where) => {
    const canvas = document.querySelector(where);
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
    let text = '';
    for (let at = 0; at < data.length; at += 32_768) text += String.fromCharCode(...data.subarray(at, at + 32_768));
    const { instance, state } = document.querySelector('.stage').dataset;
    return { instance, state, message: document.querySelector('.message').textContent, width: canvas.width, height: canvas.height, rgba: btoa(text) };
  }, selector);
}

/** How far the pixels that are on screen are apart. */
function compare(shown, wanted) {
  const rgba = Buffer.from(shown.rgba, 'base64');
  const rgb = readFileSync(wanted.picture);
  const left = Math.round(shown.width / 2) - Math.floor(wanted.columns / 2);
  const top = Math.round(shown.height / 2) - Math.floor(wanted.rows / 2);
  let [worst, sum, pixels] = [0, 0, 0];
  for (let row = Math.max(0, -top); row < wanted.rows && row + top < shown.height; row += 1) {
    for (let column = Math.max(0, -left); column < wanted.columns && column + left < shown.width; column += 1) {
      pixels += 1;
      for (let channel = 0; channel < 3; channel += 1) {
        const difference = Math.abs(rgba[4 * ((row + top) * shown.width + column + left) + channel] - rgb[3 * (row * wanted.columns + column) + channel]);
        worst = Math.max(worst, difference);
        sum += difference;
      }
    }
  }
  return { worst, mean: sum / (3 * pixels), pixels };
}
