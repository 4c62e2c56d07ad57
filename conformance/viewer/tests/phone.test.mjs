// A long scanner on a phone: the tab keeps within the memory that a phone gives one.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { imageShown, openPage, PHONE, toolsShown } from '../browser.mjs';
import { examOf, picture, sample, start } from '../setting.mjs';

/** Phones end a tab at some hundreds of megabytes; all the images decoded would be twice as many. */
const MEMORY = 300e6;

let setting;
before(async () => {
  setting = await start();
});
after(() => setting?.stop());

/** Bytes of the page and its workers, once what nobody holds is gone. */
async function memoryOf(page) {
  assert.ok(await page.evaluate(() => crossOriginIsolated), 'the page is by itself (COOP and COEP)');
  const { bytes } = await page.evaluate(() => performance.measureUserAgentSpecificMemory());
  return bytes;
}

test('a scanner of 1300 images does not end the tab of a phone', { timeout: 900_000 }, async () => {
  const { site } = setting;
  site.reset();
  site.exam = examOf('long');
  const images = sample('long').series[0].instances;
  assert.ok(images.length >= 1300);
  const page = await openPage(setting.browser, site, PHONE);
  await imageShown(page);
  const shows = async (at) => {
    await imageShown(page, images[at].sop_instance_uid);
  };
  await page.waitForFunction((count) => document.querySelector('.slider').max === String(count), {}, images.length);
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:series-ready').length > 0, { timeout: 600_000 });
  const asked = () => site.seen.paths.filter((path) => path.includes('/frames/')).length;
  assert.ok(asked() < 400, `${asked()} images are asked for before anybody looks at them`);
  const quiet = await memoryOf(page);
  assert.ok(quiet < MEMORY, `${quiet} bytes after the first image`);
  await page.focus('.screen');
  await page.keyboard.press('End');
  await shows(images.length - 1);
  await page.keyboard.press('Home');
  await shows(0);
  for (let step = 1; step <= 12; step += 1) {
    await page.keyboard.press('PageDown');
    await shows(10 * step);
  }
  const read = await memoryOf(page);
  assert.ok(read < MEMORY, `${read} bytes after reading on`);
  await picture(page, 'long-phone');
  await page.keyboard.press('l');
  await toolsShown(page);
  for (let step = 1; step <= 6; step += 1) {
    await page.keyboard.press('PageDown');
    await shows(120 + 10 * step);
  }
  const tools = await memoryOf(page);
  assert.ok(tools < 1.5 * MEMORY, `${tools} bytes with the tools`);
  await page.keyboard.press('3');
  await page.waitForFunction(() => document.querySelector('.message').textContent.includes('trop grande'));
  assert.equal(await page.$('.views[data-layout="mpr"]'), null, 'no volume of all the images is begun');
  assert.deepEqual(page.watched.errors, []);
  assert.deepEqual(site.seen.reports, []);
  console.log(`# memory: ${[quiet, read, tools].map((bytes) => `${Math.round(bytes / 1e6)} MB`).join(', ')}; ${asked()} frames asked for`);
});
