// What the screen shows, pixel by pixel, against what pydicom makes of the same files.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { DESKTOP, openPage, toolsShown, windowOf } from '../browser.mjs';
import { examOf, manifest, start } from '../setting.mjs';

/** What pydicom says, made by expected.py. */
const expected = new Map(
  JSON.parse(readFileSync(path.join(process.env.DRIMBOX_TEST_EXPECTED, 'expected.json'), 'utf8')).map((one) => [one.instance, one]),
);

/** JPEG with the DCT, of 8 and of 12 bits: decoders differ by the rounding of their transforms. */
const WITH_DCT = new Set(['1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.4.51']);
/** JPEG without the item of its offset table, which pydicom does not read. */
const NOT_EXPECTED = new Set(['fragments/5.dcm']);
/** Native, RLE, and every JPEG that images of the samples have. */
const COMPARED = ['1.2', '1.2.1', '1.2.1.99', '1.2.2', '1.2.5', ...[50, 51, 57, 70, 80, 81, 90, 91].map((last) => `1.2.4.${last}`)].map((last) => `1.2.840.10008.${last}`);
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

/** Transfer syntaxes of the images that were compared. */
const compared = new Set();
const VIEWPORT = { ...DESKTOP, width: 1100, height: 1000 };

const EXAMS = ['ct', 'mr', 'us', 'dx', 'syntaxes', 'multiframe', 'fragments', 'pixels', 'looks', 'radiograph'];

for (const name of EXAMS) {
  test(`the images of ${name} look as pydicom makes them`, { timeout: 400_000 }, async () => {
    setting.site.reset();
    setting.site.exam = examOf(name);
    const page = await openPage(setting.browser, setting.site, VIEWPORT);
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
      } else if (wanted.error) {
        if (!NOT_EXPECTED.has(instance.file)) wrong.push(`${label}: pydicom: ${wanted.error}`);
      } else {
        compared.add(instance.transfer_syntax_uid);
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

test('no transfer syntax was left out', () => {
  assert.deepEqual([...compared].sort(), COMPARED.sort());
});

/** Opens the first series of an exam at its first image at 100 %, with tools or without; answers its images. */
async function openAt(name, tools) {
  setting.site.reset();
  setting.site.exam = examOf(name);
  const page = await openPage(setting.browser, setting.site, VIEWPORT);
  await settled(page);
  if (tools) {
    await page.keyboard.press('c');
    await page.keyboard.press('l');
    await toolsShown(page);
  }
  await page.focus('.screen');
  await page.keyboard.press('Home');
  await page.keyboard.press('t');
  return { page, images: manifest.exams.find((one) => one.name === name).series[0].instances, canvas: tools ? '.view .port canvas' : '.canvas-viewer canvas' };
}

/** Waits until an image is drawn, by whichever viewer there is. */
async function shows(page, instance) {
  await page.waitForFunction(
    (wanted) => {
      const view = document.querySelector('.view');
      return document.querySelector('.stage').dataset.instance === wanted && (!view || view.dataset.rendered === wanted);
    },
    {},
    instance.sop_instance_uid,
  );
  await settled(page, [instance.sop_instance_uid]);
}

/**
 * True when the picture is the one wanted. The graphics card, which draws for the tools, smooths edges: there every pixel
 * lies between the levels of its neighbourhood but for the `rounding`, and the picture as a whole is neither brighter nor darker.
 */
const near = (tools, { worst, mean, beside, brighter, pixels }, rounding = 2) =>
  pixels > 10_000 && (tools ? beside <= rounding && Math.abs(brighter) <= 0.5 : worst <= 2 && mean <= 0.5);

for (const name of ['looks', 'ct', 'mr', 'dx', 'us']) {
  test(`the tools show the grey levels that each image of ${name} asks for, as pydicom makes them`, { timeout: 400_000 }, async () => {
    const { page, images, canvas } = await openAt(name, true);
    const wrong = [];
    for (const [at, instance] of images.entries()) {
      // There, away and back: the look of one image is not left over for another.
      for (const key of at === 0 ? [] : ['ArrowDown', 'ArrowUp', 'ArrowDown']) await page.keyboard.press(key);
      await shows(page, instance);
      const apart = compare(await readScreen(page, canvas), expected.get(instance.sop_instance_uid));
      if (!near(true, apart, WITH_DCT.has(instance.transfer_syntax_uid) ? 14 : 2)) wrong.push({ at, ...apart });
    }
    assert.deepEqual(wrong, []);
    assert.deepEqual(setting.site.seen.reports, []);
    await page.browserContext().close();
  });
}

for (const [tools, where] of [[false, 'on the first page'], [true, 'with the tools']]) {
  test(`a scanner in the windows of the page looks as pydicom makes it, ${where}`, { timeout: 400_000 }, async () => {
    const { page, images, canvas } = await openAt('ct', tools);
    const wrong = [];
    for (const [which, option] of ['ct/1', 'ct/3'].entries()) {
      await page.keyboard.press('Home');
      await shows(page, images[0]);
      await page.select('.windows', option);
      for (const [at, instance] of images.entries()) {
        if (at > 0) await page.keyboard.press('ArrowDown');
        await shows(page, instance);
        const wanted = expected.get(instance.sop_instance_uid);
        const { center, width, picture } = wanted.windows[which];
        const { zoom, ...written } = await windowOf(page);
        assert.deepEqual([written, zoom], [{ center, width }, 100]);
        const apart = compare(await readScreen(page, canvas), wanted, readFileSync(picture));
        if (!near(tools, apart)) wrong.push({ at, option, ...apart });
      }
    }
    assert.deepEqual(wrong, []);
    await page.browserContext().close();
  });

  for (const name of ['ct', 'mr', 'dx']) {
    test(`the window that a drag makes of ${name} is that of the standard, ${where}`, { timeout: 400_000 }, async () => {
      const { page, images, canvas } = await openAt(name, tools);
      await shows(page, images[0]);
      const before = await windowOf(page);
      const text = await page.$eval('.corner.bottom.left', (corner) => corner.textContent);
      await page.keyboard.press('c');
      const box = await (await page.$(canvas)).boundingBox();
      const [x, y] = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
      await page.mouse.move(x, y);
      await page.mouse.down();
      await page.mouse.move(x + 60, y - 30, { steps: 5 });
      await page.mouse.up();
      await page.waitForFunction((old) => document.querySelector('.corner.bottom.left').textContent !== old, {}, text);
      await settled(page);
      const after = await windowOf(page);
      assert.ok(after.width > before.width && after.center !== before.center, JSON.stringify([before, after]));
      const wanted = expected.get(images[0].sop_instance_uid);
      const apart = compare(await readScreen(page, canvas), wanted, windowed(wanted, after));
      assert.ok(near(tools, apart), JSON.stringify([after, apart]));
      await page.browserContext().close();
    });
  }
}

/** The values of an image in a window (PS3.3 C.11.2.1.2.1), as RGB. */
function windowed({ values, inverse }, { center, width }) {
  const bytes = readFileSync(values);
  const rgb = Buffer.alloc((bytes.length / 4) * 3);
  for (let at = 0; at < bytes.length / 4; at += 1) {
    const part = (bytes.readFloatLE(4 * at) - (center - 0.5)) / (width - 1) + 0.5;
    const level = Math.floor(Math.min(Math.max(part, 0), 1) * 255 + 0.5);
    rgb.fill(inverse ? 255 - level : level, 3 * at, 3 * at + 3);
  }
  return rgb;
}

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

/**
 * How far the pixels that are on screen are apart: at `worst` and in the `mean`; how far at worst `beside` the range of
 * the pixels around, away from the border; how much `brighter` the picture is.
 */
function compare(shown, wanted, rgb = readFileSync(wanted.picture)) {
  const rgba = Buffer.from(shown.rgba, 'base64');
  const left = Math.round(shown.width / 2) - Math.floor(wanted.columns / 2);
  const top = Math.round(shown.height / 2) - Math.floor(wanted.rows / 2);
  const level = (row, column, channel) => rgb[3 * (row * wanted.columns + column) + channel];
  let [worst, sum, beside, brighter, pixels] = [0, 0, 0, 0, 0];
  for (let row = Math.max(0, -top); row < wanted.rows && row + top < shown.height; row += 1) {
    for (let column = Math.max(0, -left); column < wanted.columns && column + left < shown.width; column += 1) {
      pixels += 1;
      for (let channel = 0; channel < 3; channel += 1) {
        const is = rgba[4 * ((row + top) * shown.width + column + left) + channel];
        const difference = is - level(row, column, channel);
        worst = Math.max(worst, Math.abs(difference));
        sum += Math.abs(difference);
        brighter += difference;
        const within = row > 1 && row < wanted.rows - 2 && column > 1 && column < wanted.columns - 2;
        if (!within || Math.abs(difference) <= beside) continue;
        let [low, high] = [255, 0];
        for (let down = row - 1; down <= row + 1; down += 1) {
          for (let across = column - 1; across <= column + 1; across += 1) {
            low = Math.min(low, level(down, across, channel));
            high = Math.max(high, level(down, across, channel));
          }
        }
        beside = Math.max(beside, low - is, is - high);
      }
    }
  }
  return { worst, mean: sum / (3 * pixels), beside, brighter: brighter / (3 * pixels), pixels };
}
