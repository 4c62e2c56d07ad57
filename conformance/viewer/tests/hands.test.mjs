// What fingers, mouse and keys do to an image, seen in its picture: on the first page and with the tools.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { imageShown, PATIENCE, PHONE, press, shotOf, toolsShown, windowOf } from '../browser.mjs';
import { assertClean, open, page } from '../reader.mjs';
import { examOf, picture } from '../setting.mjs';

const STAGES = [
  ['on the first page', '.canvas-viewer canvas', async () => undefined],
  [
    'with the tools',
    '.view .port canvas',
    async () => {
      await page.keyboard.press('l');
      await toolsShown(page);
    },
  ],
];

/** Waits until what is written beside the image is another. */
const changes = (before) => page.waitForFunction((text) => document.querySelector('.corner.bottom.left').textContent !== text, {}, before);
const corner = () => page.$eval('.corner.bottom.left', (element) => element.textContent);

async function middleOf(selector) {
  const box = await (await page.$(selector)).boundingBox();
  return [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
}

/** Drags the mouse by so many pixels, in steps. */
async function drag(selector, [x, y], button = 'left') {
  const [fromX, fromY] = await middleOf(selector);
  await page.mouse.move(fromX, fromY);
  await page.mouse.down({ button });
  await page.mouse.move(fromX + x, fromY + y, { steps: 5 });
  await page.mouse.up({ button });
}

/** Drags a finger by so many pixels. */
async function swipe([x, y]) {
  const [fromX, fromY] = await middleOf('.screen');
  const finger = await page.touchscreen.touchStart(fromX, fromY);
  for (let step = 1; step <= 5; step += 1) await finger.move(fromX + (step * x) / 5, fromY + (step * y) / 5);
  await finger.end();
}

/** How far the grey levels of two pictures are apart on average, around the middle; the second one moved back by `x`, `y`. */
function apart(one, other, [x, y] = [0, 0], changed = (level) => level) {
  let [sum, count] = [0, 0];
  const [across, down] = [Math.floor(one.width / 4), Math.floor(one.height / 4)];
  for (let row = -down; row < down; row += 1) {
    for (let column = -across; column < across; column += 1) {
      sum += Math.abs(changed(one.level(column, row)) - other.level(column + x, row + y));
      count += 1;
    }
  }
  return sum / count;
}

/** How far a picture is on average from what its window makes of the values that another one, in another window, tells. */
function rewindowed(one, from, other, to) {
  let [sum, count] = [0, 0];
  one.levels.forEach((level, at) => {
    // What is black or white has some value beyond.
    if (level < 10 || level > 245) return;
    const value = (level / 255 - 0.5) * (from.width - 1) + from.center;
    const wanted = ((value - to.center) / (to.width - 1) + 0.5) * 255;
    sum += Math.abs(Math.min(Math.max(wanted, 0), 255) - other.levels[at]);
    count += 1;
  });
  assert.ok(count > 1000, `${count} pixels tell their value`);
  return sum / count;
}

/** Waits until the picture is as wanted: what a drag ordered is drawn when the browser comes to it. */
async function becomes(selector, wanted) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const shot = await shotOf(page, selector);
    if (await wanted(shot)) return shot;
    if (Date.now() > end) throw new Error('the picture does not become what was ordered');
  }
}

/** Pixels of a picture that are brighter than half. */
function bright(shot) {
  return shot.levels.reduce((count, level) => count + (level > 127 ? 1 : 0), 0);
}

for (const [where, canvas, begin] of STAGES) {
  test(`inverting turns every grey level over, and back, ${where}`, async () => {
    await open(examOf('ct'));
    await imageShown(page);
    await begin();
    const plain = await shotOf(page, canvas);
    const turned = (level) => 255 - level;
    await page.keyboard.press('i');
    await becomes(canvas, (shot) => apart(plain, shot, [0, 0], turned) <= 1);
    await page.keyboard.press('i');
    await becomes(canvas, (shot) => apart(plain, shot) <= 0.1);
    assert.ok(apart(plain, plain, [0, 0], turned) > 50, 'the two are not the same');
    assertClean();
  });

  test(`a drag changes the window, its width across and its centre down, ${where}`, async () => {
    await open(examOf('ct'));
    await imageShown(page);
    await begin();
    await page.keyboard.press('c');
    const before = await windowOf(page);
    const plain = await shotOf(page, canvas);
    let text = await corner();
    await drag(canvas, [80, 0]);
    await changes(text);
    await becomes(canvas, async (shot) => rewindowed(plain, before, shot, await windowOf(page)) <= 1.5);
    const wide = await windowOf(page);
    assert.ok(wide.width > 1.1 * before.width && Math.abs(wide.center - before.center) < 1, JSON.stringify([before, wide]));
    text = await corner();
    await drag(canvas, [0, 80]);
    await changes(text);
    await becomes(canvas, async (shot) => rewindowed(plain, before, shot, await windowOf(page)) <= 1.5);
    const high = await windowOf(page);
    assert.ok(high.center > wide.center + 5 && Math.abs(high.width - wide.width) < 1, JSON.stringify([wide, high]));
    assertClean();
  });

  for (const [key, button, how] of [['p', 'left', 'its tool'], ['c', 'middle', 'the middle button']]) {
    test(`a drag with ${how} moves the picture by as much, ${where}`, async () => {
      await open(examOf('ct'));
      await imageShown(page);
      await begin();
      await page.keyboard.press(key);
      const plain = await shotOf(page, canvas);
      assert.ok(apart(plain, plain, [60, -40]) > 5, 'the picture is not the same everywhere');
      await drag(canvas, [60, -40], button);
      await becomes(canvas, (shot) => apart(plain, shot, [60, -40]) <= 1.5);
      assertClean();
    });
  }

  for (const [key, button, how] of [['z', 'left', 'its tool'], ['c', 'right', 'the right button']]) {
    test(`a drag with ${how} changes the size of the picture, ${where}`, async () => {
      await open(examOf('ct'));
      await imageShown(page);
      await begin();
      await page.keyboard.press(key);
      const [before, text] = [await windowOf(page), await corner()];
      const plain = await shotOf(page, canvas);
      await drag(canvas, [0, 60], button);
      await changes(text);
      const after = await windowOf(page);
      const times = after.zoom / before.zoom;
      assert.ok(Math.abs(Math.log(times)) > 0.1, JSON.stringify([before, after]));
      assert.ok(Math.abs(after.width - before.width) < 1, 'the window stays');
      if (times < 1) await becomes(canvas, (shot) => Math.abs(bright(shot) / bright(plain) / times ** 2 - 1) < 0.1);
      else await becomes(canvas, (shot) => bright(shot) > bright(plain));
      assertClean();
    });
  }

  test(`a window of the scanner changes the picture, until the image's own is taken back, ${where}`, async () => {
    await open(examOf('ct'));
    await imageShown(page);
    await begin();
    const plain = await shotOf(page, canvas);
    const own = await windowOf(page);
    for (const [option, center, width] of [['ct/1', -600, 1500], ['ct/3', 40, 80]]) {
      await page.select('.windows', option);
      await becomes(canvas, async (shot) => {
        const now = await windowOf(page);
        return now.center === center && now.width === width && apart(plain, shot) > 5;
      });
    }
    await page.select('.windows', 'default');
    await becomes(canvas, (shot) => apart(plain, shot) <= 0.1);
    assert.deepEqual(await windowOf(page), own);
    assertClean();
  });
}

test('a finger changes the window and moves the picture, once it was told to', async () => {
  await open(examOf('ct'), PHONE);
  await imageShown(page);
  const canvas = '.canvas-viewer canvas';
  await press(page, 'Contraste');
  const [before, text] = [await windowOf(page), await corner()];
  const plain = await shotOf(page, canvas);
  await swipe([60, 0]);
  await changes(text);
  const after = await windowOf(page);
  assert.ok(after.width > 1.1 * before.width && after.zoom === before.zoom, JSON.stringify([before, after]));
  const flat = await becomes(canvas, (shot) => apart(plain, shot) > 1);
  await press(page, 'Déplacer');
  await swipe([30, 50]);
  await becomes(canvas, (shot) => apart(flat, shot, [30, 50].map((side) => side * PHONE.deviceScaleFactor)) <= 0.5);
  assert.equal((await windowOf(page)).width, after.width, 'the window stays');
  assert.equal(await page.$eval('.slider', (slider) => slider.getAttribute('aria-valuetext')), 'Image 5 sur 8', 'so does the image');
  assertClean();
  await picture(page, 'moved-phone');
});

test('two fingers that go the same way move the picture', async () => {
  await open(examOf('ct'), PHONE);
  await imageShown(page);
  const canvas = '.canvas-viewer canvas';
  const plain = await shotOf(page, canvas);
  const [x, y] = await middleOf('.screen');
  const one = await page.touchscreen.touchStart(x - 40, y);
  const two = await page.touchscreen.touchStart(x + 40, y);
  // In turns, so that the fingers stay as far apart as they were at the end of each step.
  for (let step = 1; step <= 5; step += 1) {
    await one.move(x - 40, y + 8 * step);
    await two.move(x + 40, y + 8 * step);
  }
  await one.end();
  await two.end();
  assert.ok(apart(plain, plain, [0, 80]) > 5, 'the picture is not the same everywhere');
  await becomes(canvas, (shot) => apart(plain, shot, [0, 40 * PHONE.deviceScaleFactor]) < apart(plain, shot) / 4);
  assertClean();
});
