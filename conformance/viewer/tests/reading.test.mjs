// What a reader finds in exams of every kind: graphics, key images, hanging, cine, video, planes, measures, tools.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DESKTOP, imageShown, measured, PHONE, press, toolsShown } from '../browser.mjs';
import { assertClean, open, page, site } from '../reader.mjs';
import { examOf, picture, sample } from '../setting.mjs';

const instancesOf = (name, series = 0) => sample(name).series[series].instances.map((one) => one.sop_instance_uid);
const textOf = (selector) => page.$eval(selector, (element) => element.textContent);
const textHas = (selector, text) =>
  page.waitForFunction((where, wanted) => document.querySelector(where)?.textContent.includes(wanted), {}, selector, text);
const placeIs = (text) =>
  page.waitForFunction((wanted) => document.querySelector('.slider').getAttribute('aria-valuetext') === wanted, {}, text);

/** Takes the entry of the list of series, from 0. */
async function take(at) {
  await page.waitForSelector('.entry');
  await page.$$eval('.entry', (entries, index) => entries[index].click(), at);
}

/** Drags from one place of the current view to another, in CSS pixels from its middle. */
async function drag([fromX, fromY], ...to) {
  const box = await (await page.$('.view.current .port, .view .port')).boundingBox();
  const [x, y] = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
  await page.mouse.move(x + fromX, y + fromY);
  await page.mouse.down();
  for (const [toX, toY] of to) await page.mouse.move(x + toX, y + toY, { steps: 4 });
  await page.mouse.up();
}

/** Tools on, one screen pixel for one of the image. */
async function withTools(key) {
  await page.keyboard.press(key);
  await toolsShown(page);
  await page.keyboard.press('t');
  await page.waitForFunction(() => document.querySelector('.corner.bottom.left').textContent.endsWith('100 %'));
}


/** The pixels of a canvas: how many of it are brighter than a level, and of the colour of graphics. */
const lit = (selector, level = 60) =>
  page.$$eval(
    selector,
    (all, limit) =>
      all.map((canvas) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext('2d');
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, 0, copy.width, copy.height);
        let [bright, graphic] = [0, 0];
        for (let at = 0; at < data.length; at += 4) {
          if (data[at] > limit) bright += 1;
          if (data[at] > 200 && data[at + 1] > 160 && data[at + 2] < 120) graphic += 1;
        }
        return { bright, graphic, pixels: data.length / 4 };
      }),
    level,
  );

for (const [at, what] of [[0, 'of its own bytes'], [1, 'in unused bits of the samples']]) {
  test(`a graphic ${what} is laid over the image on the reader's wish, with and without tools`, async () => {
    await open(examOf('overlays'));
    await imageShown(page);
    await placeIs(`Image 2 sur 2`);
    if (at === 0) await page.keyboard.press('Home');
    await imageShown(page, instancesOf('overlays')[at]);
    assert.equal((await lit('.canvas-viewer canvas'))[0].graphic, 0, 'nothing before it is asked for');
    await page.keyboard.press('t');
    await page.keyboard.press('g');
    await page.waitForSelector('.canvas-viewer[data-overlay="true"]');
    assert.equal((await lit('.canvas-viewer canvas'))[0].graphic, 20 * 60, 'every point of the graphic at 100 %');
    await picture(page, `overlay-${at}`);
    await withTools('l');
    await page.waitForSelector('.view[data-overlay="true"]');
    await page.waitForFunction(
      (points) => {
        const canvas = document.querySelector('.view .layer');
        const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        // Its edge is smoothed.
        return Math.abs(data.filter((value, at) => at % 4 === 3 && value > 128).length - points) < 170;
      },
      {},
      20 * 60,
    );
    await page.keyboard.press('g');
    await page.waitForSelector('.view[data-overlay="false"]');
    assertClean();
  });
}

test('a graphic lies over its place of the image, also when the view is turned', async () => {
  await open(examOf('overlays'));
  await imageShown(page);
  await page.keyboard.press('Home');
  await page.keyboard.press('g');
  await withTools('l');
  await page.waitForSelector('.view[data-overlay="true"]');
  /** Waits until the middle of the graphic is at a place, from the middle of the view. */
  const liesAt = (...wanted) =>
    page.waitForFunction((atX, atY) => {
      const canvas = document.querySelector('.view .layer');
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      let [x, y, count] = [0, 0, 0];
      for (let at = 3; at < data.length; at += 4) {
        if (data[at] < 128) continue;
        const pixel = (at - 3) / 4;
        x += (pixel % canvas.width) - canvas.width / 2;
        y += Math.floor(pixel / canvas.width) - canvas.height / 2;
        count += 1;
      }
      return Math.abs(x / count - atX) < 2 && Math.abs(y / count - atY) < 2;
    }, {}, ...wanted);
  // Rows 30–50 and columns 50–110 of 256 × 320: left of and above the middle.
  await liesAt(-80, -88);
  await page.keyboard.press('m');
  await liesAt(80, -88);
  assertClean();
});

test('images that a selection names are marked, and shown one after the other', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowDown');
  await page.keyboard.press('ArrowDown');
  await textHas('.corner.top.left', '★ Image clé');
  await page.keyboard.press('ArrowDown');
  await imageShown(page);
  assert.ok(!(await textOf('.corner.top.left')).includes('★'));
  await take(2);
  await page.waitForSelector('.structured button');
  await placeIs('Image 1 sur 2');
  await imageShown(page, instancesOf('crossed')[2]);
  await page.keyboard.press('End');
  await imageShown(page, instancesOf('crossed')[6]);
  assertClean();
  await picture(page, 'key-images');
});

test('a mammography is hung right beside left, chest walls together', async () => {
  await open(examOf('mammography'));
  await toolsShown(page, '2x2');
  await page.waitForFunction(() => document.querySelectorAll('.view[data-rendered]').length === 4);
  const captions = await page.$$eval('.view .caption', (all) => all.map((one) => one.textContent));
  for (const [at, place] of ['Droite · CC', 'Gauche · CC', 'Droite · MLO', 'Gauche · MLO'].entries()) {
    assert.ok(captions[at].includes(place), `${captions[at]} in place ${at}`);
  }
  // Front outside, back in the middle.
  await page.waitForFunction(
    () => [...document.querySelectorAll('.view')].map((view) => view.querySelector('.west').textContent + view.querySelector('.east').textContent).join() === 'AP,PA,AP,PA',
    {},
  );
  await picture(page, 'mammography');
  // The breast touches the middle of its pair, and only that.
  await page.waitForFunction(
    () =>
      [...document.querySelectorAll('.view .port canvas')].every((canvas, at) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext('2d');
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, canvas.height >> 1, canvas.width, 1);
        const touches = (from) => data.subarray(4 * from, 4 * (from + 10)).some((value, index) => index % 4 === 0 && value > 100);
        return touches(2) === (at % 2 === 1) && touches(canvas.width - 12) === (at % 2 === 0);
      }),
    {},
  );
  assertClean();
});

test('a mammography on a phone is shown image by image, and hung on demand', async () => {
  await open(examOf('mammography'), PHONE);
  await imageShown(page);
  await page.waitForSelector('::-p-xpath(//button[normalize-space()="Mammographie"])');
  assert.equal(await page.$('.views'), null);
  await picture(page, 'mammography-phone');
});

test('a radiograph of five megapixels is shown, its sides named, its measures called those of the detector', async () => {
  await open(examOf('radiograph'));
  await imageShown(page);
  const letters = await page.$$eval('.screen > .letter', (all) => all.map((one) => one.textContent));
  assert.deepEqual(letters, ['H', 'L', 'F', 'R']);
  await withTools('l');
  await textHas('.view .caption', 'Mesures au détecteur');
  await drag([-100, 0], [0, 0], [100, 0]);
  await measured(page, /([\d\s,]+) mm$/, 200 * 0.15, 0.005);
  assertClean();
  await picture(page, 'radiograph');
});

test('letters follow the image when it is turned and mirrored, with and without tools', async () => {
  await open(examOf('radiograph'));
  await imageShown(page);
  const light = () => page.$$eval('.screen > .letter', (all) => all.map((one) => one.textContent));
  const heavy = () => page.$$eval('.view .letter', (all) => all.map((one) => one.textContent));
  await page.keyboard.press('m');
  await page.waitForFunction(() => document.querySelector('.screen > .letter.east').textContent === 'R');
  await page.keyboard.press('r');
  await page.keyboard.press('o');
  await page.waitForFunction(() => document.querySelector('.screen > .letter.north').textContent === 'R');
  assert.deepEqual(await light(), ['R', 'H', 'L', 'F']);
  await page.keyboard.press('l');
  await toolsShown(page);
  await page.waitForFunction(() => document.querySelector('.view .letter.north').textContent === 'H');
  await page.keyboard.press('o');
  await page.waitForFunction(() => document.querySelector('.view .letter.north').textContent === 'R');
  assert.deepEqual(await heavy(), ['R', 'H', 'L', 'F']);
  await page.keyboard.press('r');
  await page.waitForFunction(() => document.querySelector('.view .letter.north').textContent === 'H');
});

test('an ultrasound loop plays at the rate of the object, and has its scale', async () => {
  await open(examOf('cine'));
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  await page.focus('.screen');
  await page.keyboard.press(' ');
  await textHas('.corner.bottom.right', '25 images/s');
  const before = await page.$eval('.slider', (slider) => slider.value);
  await page.waitForFunction((value) => document.querySelector('.slider').value !== value, {}, before);
  await page.keyboard.press(' ');
  await page.waitForFunction(() => !document.querySelector('.corner.bottom.right').textContent.includes('images/s'));
  await withTools('l');
  await drag([-60, 0], [-10, 0], [40, 0]);
  await measured(page, /([\d\s,]+) mm$/, 100 * 0.5, 0.01);
  assertClean();
});

test('an image without a scale says so, and is measured in pixels', async () => {
  await open(examOf('cine'));
  await imageShown(page);
  await take(1);
  await imageShown(page, instancesOf('cine', 1)[0]);
  await withTools('l');
  await textHas('.view .caption', 'Non étalonné : mesures en pixels');
  await drag([-40, 0], [0, 0], [40, 0]);
  await measured(page, /([\d\s,]+) px$/, 80, 0.0125);
  assert.ok(!(await page.$$eval('.svg-layer tspan', (all) => all.map((one) => one.textContent).join())).includes('mm'));
});

test('angles and regions are measured, with their units', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await page.keyboard.press('Home');
  await imageShown(page, instancesOf('crossed')[0]);
  await withTools('k');
  await drag([-20, -20], [0, 0], [20, 20]);
  // 40 × 40 pixels of 0.8 mm, of water.
  await measured(page, /^Surface : ([\d\s,]+) mm²$/, 1600 * 0.64, 0.05);
  await measured(page, /^Moyenne : ([\d\s,]+) HU$/, 0, 0.01);
  await page.keyboard.press('Delete');
  await page.waitForFunction(() => document.querySelectorAll('.svg-layer tspan').length === 0);
  await page.keyboard.press('e');
  // Not where the last drag ended, which would be a double click. From the middle outwards.
  await drag([5, 5], [15, 15], [25, 25]);
  await measured(page, /^Surface : ([\d\s,]+) mm²$/, Math.PI * 400 * 0.64, 0.06);
  await measured(page, /^Écart type : ([\d\s,]+) HU$/, 0, 0.01);
  await page.keyboard.press('Delete');
  await page.keyboard.press('a');
  await drag([-30, 10], [0, 10]);
  await drag([0, 10], [0, -20]);
  await measured(page, /([\d\s,]+)\s?°$/, 90, 0.03);
  await page.keyboard.press('v');
  await drag([20, 20], [22, 22]);
  await measured(page, /([\d\s,]+) HU$/, 0, 0.01);
  assertClean();
  await picture(page, 'measures');
});

/** Waits until the axial plane shows the bright spot, or does not. */
async function axialShows(page, spot) {
  await page.waitForFunction(
    (wanted) => {
      const canvas = document.querySelector('.view .port canvas');
      const copy = new OffscreenCanvas(canvas.width, canvas.height);
      const context = copy.getContext('2d');
      context.drawImage(canvas, 0, 0);
      const { data } = context.getImageData(0, 0, copy.width, copy.height);
      let bright = 0;
      for (let at = 0; at < data.length; at += 4) if (data[at] > 150) bright += 1;
      return bright > 500 === wanted;
    },
    {},
    spot,
  );
}

test('planes that are asked for before every image is known wait for the rest', async () => {
  const release = site.hold((path) => /\/series\/[^/]+\/metadata$/.test(path));
  await open(examOf('crossed'));
  await page.waitForFunction(() => document.querySelector('.stage')?.dataset.state === 'ready');
  await page.keyboard.press('3');
  await toolsShown(page, '1x1');
  release();
  await toolsShown(page, 'mpr');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
  assert.equal(await page.$eval('.message', (message) => message.textContent), '');
  assertClean();
});

test('a thick slab shows the brightest of its planes', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await placeIs('Image 7 sur 12');
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
  const axial = async () => (await lit('.view .port canvas', 150))[0].bright;
  const shows = (spot) => axialShows(page, spot);
  // Two planes further the spot is out of sight of a thin one, and within ten millimetres of a thick one.
  await page.focus('.screen');
  for (let step = 0; step < 2; step += 1) await page.keyboard.press('ArrowDown');
  await shows(false);
  await page.keyboard.press('b');
  await shows(true);
  assert.ok((await axial()) > 500);
  await page.keyboard.press('b');
  await shows(false);
  assertClean();
  await picture(page, 'thick-slab');
});

test('a thick slab stays thick in planes that are made again, and says so', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await placeIs('Image 7 sur 12');
  const captions = () => page.$$eval('.view .caption', (all) => all.map((one) => one.textContent));
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
  assert.deepEqual(await captions(), ['Axial', 'Sagittal', 'Coronal']);
  await page.keyboard.press('b');
  await textHas('.view .caption', 'MIP 10 mm');
  await page.keyboard.press('1');
  await toolsShown(page, '1x1');
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  await textHas('.view .caption', 'MIP 10 mm');
  assert.deepEqual(await captions(), ['Axial', 'Sagittal', 'Coronal'].map((plane) => `${plane} · MIP 10 mm`));
  const pressed = await page.$$eval('.toolbar button[aria-pressed="true"]', (all) => all.map((one) => one.textContent));
  assert.ok(pressed.includes('Coupe épaisse'), String(pressed));
  await axialShows(page, true);
  // Two planes further the spot is out of sight of a thin one, and within ten millimetres of a thick one.
  await page.focus('.screen');
  for (let step = 0; step < 2; step += 1) await page.keyboard.press('ArrowDown');
  await page.keyboard.press('b');
  await axialShows(page, false);
  await page.keyboard.press('b');
  await axialShows(page, true);
  await page.keyboard.press('b');
  await page.waitForFunction(() => document.querySelector('.view .caption').textContent === 'Axial');
  assertClean();
});

for (const [at, what, why] of [
  [0, 'at uneven places', 'ne sont pas à égale distance'],
  [1, 'of a tilted gantry', 'est inclinée'],
  [2, 'of several scales', "n'ont pas la même échelle"],
]) {
  test(`no planes are made of images ${what}, whose lengths would be wrong`, async () => {
    await open(examOf('uneven'));
    await imageShown(page);
    await take(at);
    await imageShown(page, instancesOf('uneven', at)[2]);
    await page.keyboard.press('3');
    await textHas('.message', why);
    await textHas('.message', 'les distances y seraient fausses');
    assert.equal(await page.$('.views[data-layout="mpr"]'), null);
    if (at === 0) await picture(page, 'no-planes');
  });
}

test('images whose places were rounded make planes all the same', async () => {
  await open(examOf('uneven'));
  await imageShown(page);
  await take(3);
  await imageShown(page, instancesOf('uneven', 3)[2]);
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
});

test('lines show where the current view cuts the other one, until they are put out', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await placeIs('Image 7 sur 12');
  await page.keyboard.press('2');
  await toolsShown(page, '1x2');
  await take(1);
  await page.waitForFunction(() => document.querySelectorAll('.view[data-rendered]').length === 2);
  const drawn = (count) => page.waitForFunction((wanted) => (document.querySelectorAll('.view .svg-layer line').length > 0) === wanted, {}, count);
  await page.keyboard.press('ArrowDown');
  await drawn(true);
  await picture(page, 'reference-lines');
  await page.keyboard.press('x');
  await page.keyboard.press('ArrowUp');
  await drawn(false);
  assertClean();
});

test('four views stand in two rows', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await page.keyboard.press('4');
  await toolsShown(page, '2x2');
  const boxes = await page.$$eval('.view', (all) => all.map((one) => one.getBoundingClientRect()).map(({ x, y, width }) => [Math.round(x), Math.round(y), Math.round(width)]));
  assert.equal(boxes.length, 4);
  assert.ok(boxes[0][1] === boxes[1][1] && boxes[2][1] === boxes[3][1] && boxes[0][0] === boxes[2][0] && boxes[1][0] > boxes[0][0] && boxes[2][1] > boxes[0][1]);
});

test('every tool has a key', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await page.keyboard.press('l');
  await toolsShown(page);
  const tools = [['d', 'Défiler'], ['c', 'Contraste'], ['z', 'Zoom'], ['p', 'Déplacer'], ['l', 'Longueur'], ['a', 'Angle'], ['e', 'Ellipse'], ['k', 'Rectangle'], ['v', 'Valeur']];
  for (const [key, name] of tools) {
    await page.keyboard.press(key);
    const pressed = await page.$$eval('.toolbar button[aria-pressed="true"]', (all) => all.map((one) => one.textContent));
    assert.ok(pressed.includes(name), `${key}: ${pressed}`);
  }
  const titles = await page.$$eval('.toolbar button', (all) => all.map((one) => one.title));
  assert.deepEqual(titles.filter((title) => !/\(touche .+\)$/.test(title)), []);
});

test('a video is played, one that browsers do not know is said to be so', async () => {
  const at = sample('syntaxes').series.findIndex((one) => one.modality === 'ES');
  await open(examOf('video', { priors: [{ study: sample('syntaxes').study_instance_uid, description: 'Autre' }] }));
  const playable = await page.waitForSelector('.video:not([hidden])');
  await page.waitForFunction(() => document.querySelector('.video').readyState >= 2);
  assert.deepEqual(await playable.evaluate((video) => [video.videoWidth, video.videoHeight]), [128, 96]);
  await textHas('.corner.top.right', 'Image compressée avec pertes');
  await picture(page, 'video');
  // A video has no small picture.
  assert.deepEqual(page.watched.errors.filter((error) => !error.includes('406')), []);
  // MPEG-2, of another exam.
  await press(page, 'Examen antérieur Autre');
  await page.waitForFunction(() => document.querySelectorAll('.entry').length > 1);
  await take(at + 1);
  await textHas('.corner.bottom.right', '/ 4');
  await page.focus('.screen');
  await page.keyboard.press('Home');
  await textHas('.message', 'Les navigateurs ne lisent pas cette vidéo');
  assert.equal(await page.$('.video:not([hidden])'), null);
  await page.keyboard.press('l');
  await textHas('.message', "Cet outil ne s'applique pas aux vidéos");
  assert.ok(!site.seen.paths.some((path) => path.includes('/assets/viewer-')), 'no tools for a video');
  assert.deepEqual(site.seen.reports, []);
});

test('what is on screen is printed with the patient, the exam and the notice', async () => {
  await open(examOf('crossed'));
  await imageShown(page);
  await page.evaluate(() => (window.print = () => (window.printed = true)));
  await page.keyboard.press('u');
  assert.ok(await page.evaluate(() => window.printed));
  await page.emulateMediaType('print');
  const sheet = await page.$eval('.sheet', (element) => ({ text: element.innerText, canvases: element.querySelectorAll('canvas').length }));
  for (const part of ['ESSAI', '29/02/1980', 'Scanner en deux plans', 'Axial', "ne remplace pas une console d'interprétation"]) {
    assert.ok(sheet.text.includes(part), part);
  }
  assert.equal(sheet.canvases, 1);
  assert.equal(await page.$eval('.banner', (banner) => getComputedStyle(banner).display), 'none');
  await picture(page, 'print');
  await page.emulateMediaType('screen');
  await page.evaluate(() => dispatchEvent(new Event('afterprint')));
  assert.equal(await page.$('.sheet'), null);
});

test('markup in the texts of images, reports and documents is text', async () => {
  await open(examOf('hostile', { description: sample('hostile').study_description }));
  await imageShown(page);
  await take(1);
  await page.waitForSelector('.structured li');
  assert.ok((await textOf('.structured')).includes('<script>window.taken=1</script>'));
  await take(2);
  await page.waitForSelector('.page canvas');
  assert.ok((await textOf('.panel h2')).includes('<img src=x'));
  const made = await page.$$eval('.structured img, .structured script, .panel img, .panel script, .name img, .windows img', (all) => all.length);
  assert.equal(made, 0);
  assert.equal(await page.evaluate(() => window.taken), undefined);
  assertClean();
  await picture(page, 'hostile');
});

test('the exam is saved by the browser while the page tells how far it is', async () => {
  site.files.set('/viewer/api/archive', { type: 'application/zip', body: Buffer.alloc(3_000_000) });
  site.progress = [
    { sent: 0, total: 0, state: 'none' },
    { sent: 3, total: 12, state: 'running' },
    { sent: 12, total: 12, state: 'done' },
  ];
  await open(examOf('ct', { download: true, instances: 12 }));
  await imageShown(page);
  const client = await page.createCDPSession();
  const begun = new Promise((resolve) => client.on('Browser.downloadWillBegin', resolve));
  await client.send('Browser.setDownloadBehavior', { behavior: 'deny', eventsEnabled: true, browserContextId: page.browserContext().id });
  await press(page, 'Télécharger');
  assert.equal((await begun).suggestedFilename, 'examen.zip');
  await textHas('dialog [role=status]', '3 objets sur 12');
  assert.equal(await page.$eval('dialog progress', (bar) => bar.value / bar.max), 0.25);
  await picture(page, 'download');
  await textHas('dialog [role=status]', 'Le téléchargement est terminé');
  await press(page, 'Fermer');
  assert.deepEqual(site.seen.reports, []);
});

test('a download that fails is said to have failed', async () => {
  site.files.set('/viewer/api/archive', { type: 'application/zip', body: Buffer.alloc(10) });
  site.progress = [{ sent: 0, total: 0, state: 'none' }, { sent: 3, total: 12, state: 'failed' }];
  await open(examOf('ct', { download: true }));
  await imageShown(page);
  await press(page, 'Télécharger');
  await textHas('dialog [role=status]', "n'a pas abouti");
});

test('Weasis is launched with the address that the server made, and with no other', async () => {
  await open(examOf('ct', { weasis: true }));
  await imageShown(page);
  const asked = [];
  const client = await page.createCDPSession();
  await client.send('Page.enable');
  client.on('Page.frameRequestedNavigation', ({ url }) => asked.push(url));
  site.launch = 'https://elsewhere.example/';
  await press(page, 'Ouvrir dans Weasis');
  await page.waitForResponse((answer) => answer.url().endsWith('/weasis'));
  site.launch = 'weasis://%24dicom%3Ars%20--url%20x';
  await press(page, 'Ouvrir dans Weasis');
  await new Promise((resolve) => client.once('Page.frameRequestedNavigation', resolve));
  assert.deepEqual(asked, [site.launch]);
  assert.equal(site.seen.launches, 2);
});

test('a patient leaves by the way of patients', async () => {
  await open(examOf('ct', { visitor: 'patient', logout: '/viewer/patient/quitter' }));
  await imageShown(page);
  await press(page, 'Se déconnecter');
  await page.waitForSelector('.end');
  assert.equal(site.seen.logouts, 1);
  assert.ok(site.seen.paths.includes('/viewer/patient/quitter') && !site.seen.paths.includes('/auth/logout'));
});

for (const [name, viewport] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  test(`the way out and the notice are in sight, ${name}`, async () => {
    await open(examOf('ct', { download: true, weasis: true, report: { href: '/viewer/api/report', type: 'application/pdf' } }), viewport);
    await imageShown(page);
    const box = await page.$eval('.logout', (button) => button.getBoundingClientRect().toJSON());
    assert.ok(box.top >= 0 && box.left >= 0 && box.right <= viewport.width && box.bottom <= viewport.height, JSON.stringify(box));
    await picture(page, `all-actions-${name}`);
  });
}

test('moments of the page are marked for whoever measures it', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await page.waitForFunction(() => ['drimbox:first-image', 'drimbox:series-ready'].every((name) => performance.getEntriesByName(name).length === 1));
});

test('nothing moves by itself for a reader who wants no motion', async () => {
  await open(examOf('cine'));
  await page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
  await imageShown(page);
  await press(page, 'Aide');
  await page.waitForSelector('dialog[open]');
  const moving = await page.evaluate(() => document.getAnimations().length + [...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).transitionDuration !== '0s').length);
  assert.equal(moving, 0);
  assert.equal(await page.$eval('.toolbar button[title*="Espace"]', (button) => button.getAttribute('aria-pressed')), 'false', 'no loop starts by itself');
});
