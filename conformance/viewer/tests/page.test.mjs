// What a reader does with the page, in a real browser.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DESKTOP, drawn, imageShown, measured, PHONE, press, shotOf, toolsShown } from '../browser.mjs';
import { line, pdfOf } from '../pdf.mjs';
import { assertClean, open, page, site } from '../reader.mjs';
import { examOf, GATEWAY, picture, sample, seriesOf } from '../setting.mjs';

const place = () => page.$eval('.slider', (slider) => slider.getAttribute('aria-valuetext'));
const placeIs = (text) =>
  page.waitForFunction((wanted) => document.querySelector('.slider').getAttribute('aria-valuetext') === wanted, {}, text);

for (const [name, viewport] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  test(`the first image of a JPEG-LS scanner is on screen, ${name}`, async () => {
    await open(examOf('ct'), viewport);
    await imageShown(page);
    const lit = await page.$eval('.canvas-viewer canvas', (canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return data.filter((value, at) => at % 4 === 0 && value > 40).length / (data.length / 4);
    });
    assert.ok(lit > 0.1, `${lit} of the screen is lit`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${wide} pixels beside the screen`);
    assertClean();
    await picture(page, `first-image-${name}`);
  });
}

test('nothing is asked for between the exam and its first image but that image', async () => {
  const series = seriesOf('ct');
  const release = site.hold((path) => path.includes('/frames/'));
  await open(examOf('ct', { series }));
  await page.waitForSelector('.stage[data-state=loading]');
  await drawn(page);
  const asked = () => site.seen.paths.filter((path) => path.startsWith('/dicom-web/'));
  const image = `/dicom-web/studies/${sample('ct').study_instance_uid}/series/${series[0].uid}/instances/${series[0].middle}`;
  assert.deepEqual(asked().sort(), [`${image}/frames/1`, `${image}/metadata`]);
  assert.equal((await page.$$('.entry')).length, series.length, 'the series are listed already');
  release();
  await imageShown(page, series[0].middle);
  await placeIs('Image 5 sur 8');
  await page.waitForFunction(() => [...document.querySelectorAll('.entry img')].every((img) => img.naturalWidth > 0));
  assert.equal(asked().filter((path) => path === `${image}/frames/1`).length, 1, 'the frame is asked for once');
  assert.deepEqual(asked().filter((path) => /\/(series|instances)$/.test(path)), [], 'nothing is searched for');
  assertClean();
});

test('the exam is asked for once, while the script is on its way', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  assert.equal(site.seen.paths.filter((path) => path === '/viewer/api/exam').length, 1);
  const by = await page.evaluate(() => performance.getEntriesByName(`${location.origin}/viewer/api/exam`).map((entry) => entry.initiatorType));
  assert.ok(by.includes('link'), `asked for by ${by}`);
});

test('an exam that tells an image that is there no more is shown all the same', async () => {
  const series = seriesOf('ct').map((one) => ({ ...one, middle: '1.2.3.4' }));
  await open(examOf('ct', { series }));
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  assert.deepEqual(site.seen.reports, []);
});

test('the page, its codec and its worker are small', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  assert.ok(site.seen.bytes < 160_000, `${site.seen.bytes} bytes with worker and codec`);
  assert.ok(!site.seen.paths.some((path) => path.includes('/assets/viewer-')), 'the tools are not loaded yet');
});

test('keys, wheel and slider scroll through the series', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  await page.keyboard.press('ArrowDown');
  assert.equal(await place(), 'Image 6 sur 8');
  await page.keyboard.press('Home');
  assert.equal(await place(), 'Image 1 sur 8');
  const box = await (await page.$('.screen')).boundingBox();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.wheel({ deltaY: 120 });
  await placeIs('Image 2 sur 8');
  await page.focus('.slider');
  await page.keyboard.press('End');
  await placeIs('Image 8 sur 8');
  await imageShown(page);
  assertClean();
});

test('a finger scrolls and two fingers enlarge', async () => {
  await open(examOf('ct'), PHONE);
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  const box = await (await page.$('.screen')).boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const touch = await page.touchscreen.touchStart(x, y);
  for (let step = 1; step <= 5; step += 1) await touch.move(x, y + 5 * step);
  await touch.end();
  await placeIs('Image 7 sur 8');

  const zoom = () => page.$eval('.corner.bottom.left', (corner) => Number(/(\d+)\s%/.exec(corner.textContent)[1]));
  const before = await zoom();
  const one = await page.touchscreen.touchStart(x - 40, y);
  const two = await page.touchscreen.touchStart(x + 40, y);
  for (let step = 1; step <= 4; step += 1) {
    await one.move(x - 40 - 10 * step, y);
    await two.move(x + 40 + 10 * step, y);
  }
  await one.end();
  await two.end();
  await page.waitForFunction(
    (small) => Number(/(\d+)\s%/.exec(document.querySelector('.corner.bottom.left').textContent)[1]) > 1.5 * small,
    {},
    before,
  );
  assertClean();
});

test('windows of the scanner change the picture and can be undone', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const corner = () => page.$eval('.corner.bottom.left', (element) => element.textContent);
  const own = await corner();
  await page.select('.windows', 'ct/1');
  await page.waitForFunction(() => document.querySelector('.corner.bottom.left').textContent.startsWith('C -600'));
  await page.keyboard.press('r');
  await page.waitForFunction((text) => document.querySelector('.corner.bottom.left').textContent === text, {}, own);
  assertClean();
});

test('a line of 200 pixels measures its millimetres within 0.5 %', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await page.keyboard.press('l');
  await toolsShown(page);
  await page.keyboard.press('t');
  await page.waitForFunction(() => document.querySelector('.corner.bottom.left').textContent.endsWith('100 %'));
  const box = await (await page.$('.port')).boundingBox();
  const [x, y] = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
  await page.mouse.move(x - 100, y);
  await page.mouse.down();
  await page.mouse.move(x, y, { steps: 4 });
  await page.mouse.move(x + 100, y, { steps: 4 });
  await page.mouse.up();
  const exam = sample('ct');
  const spacing = await page.evaluate(async (study, series) => {
    const answer = await fetch(`/dicom-web/studies/${study}/series/${series}/metadata`, { headers: { Accept: 'application/dicom+json' } });
    return (await answer.json())[0]['00280030'].Value[1];
  }, exam.study_instance_uid, exam.series[0].series_instance_uid);
  await measured(page, /([\d\s,]+) mm$/, 200 * spacing, 0.005);
  assertClean();
  await picture(page, 'measure');
});

test('three planes are made of a series', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  const captions = await page.$$eval('.view .caption', (all) => all.map((one) => one.textContent));
  assert.deepEqual(captions, ['Axial', 'Sagittal', 'Coronal']);
  await page.waitForFunction(() =>
    [...document.querySelectorAll('.view .port canvas')].every((canvas) => {
      const copy = new OffscreenCanvas(canvas.width, canvas.height);
      const context = copy.getContext('2d');
      context.drawImage(canvas, 0, 0);
      const { data } = context.getImageData(0, 0, copy.width, copy.height);
      return data.some((value, at) => at % 4 === 0 && value > 60);
    }),
  );
  await page.keyboard.press('b');
  assertClean();
  await picture(page, 'three-planes');
});

test('three planes say how far they are, and that they are ready', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  // Another series, of which nothing is there yet but its image in the middle.
  const middle = seriesOf('ct')[1].middle;
  const release = site.hold((path) => path.includes('/frames/') && !path.includes(middle));
  await page.keyboard.press('ArrowRight');
  await placeIs('Image 2 sur 3');
  await imageShown(page, middle);
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  const said = (text) => page.waitForFunction((wanted) => document.querySelector('.message').textContent === wanted, {}, text);
  await said('Préparation des trois plans : 30 %');
  assert.equal(await page.evaluate(() => performance.getEntriesByName('drimbox:mpr-ready').length), 0);
  release();
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
  await said('');
  assertClean();
});

test('three planes that lack an image say so, and are made again when asked to', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const middle = seriesOf('ct')[1].middle;
  site.intercept = (path, answer) => path.includes('/frames/') && !path.includes(middle) && (answer.writeHead(404).end(), true);
  await page.keyboard.press('ArrowRight');
  await placeIs('Image 2 sur 3');
  await imageShown(page, middle);
  await page.keyboard.press('3');
  await toolsShown(page, 'mpr');
  await page.waitForFunction(() => /Coupes incomplètes.* : 2\./.test(document.querySelector('.message').textContent));
  assert.equal(await page.evaluate(() => performance.getEntriesByName('drimbox:mpr-ready').length), 0);
  site.intercept = undefined;
  await page.click('.message button');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1);
  await page.waitForFunction(() => document.querySelector('.message').textContent === '');
});

test('two series of one frame of reference scroll together', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  await page.keyboard.press('2');
  await toolsShown(page, '1x2');
  await page.waitForFunction(() => document.querySelectorAll('.view')[1].classList.contains('current'));
  await page.keyboard.press('ArrowRight');
  await page.waitForFunction(() => document.querySelectorAll('.view .caption')[1].textContent.includes('Abdomen'));
  await page.waitForFunction(() => document.querySelectorAll('.view .caption')[1].textContent.endsWith('/ 3'));
  const other = () => page.$eval('.view .caption', (caption) => caption.lastChild.textContent);
  await page.keyboard.press('Home');
  await imageShown(page);
  const first = await other();
  await page.keyboard.press('End');
  await page.waitForFunction((text) => document.querySelector('.view .caption').lastChild.textContent !== text, {}, first);
  assertClean();
  await picture(page, 'compare');
});

test('an exam of before is compared side by side', async () => {
  const prior = { study: sample('ct300').study_instance_uid, description: 'Scanner antérieur', date: '20240101' };
  await open(examOf('ct', { priors: [prior] }));
  await imageShown(page);
  await press(page, 'Examen antérieur Scanner antérieur');
  await page.waitForSelector('::-p-xpath(//h2[contains(., "01/01/2024")])');
  await page.keyboard.press('2');
  await toolsShown(page, '1x2');
  const entries = await page.$$('.entry');
  await entries.at(-1).evaluate((entry) => entry.click());
  await page.waitForFunction(() => document.querySelectorAll('.view .caption')[1].textContent.endsWith('/ 6'));
  // Of another frame of reference: it moves as far as the other does.
  const before = await page.$eval('.view .caption', (caption) => caption.lastChild.textContent);
  await page.keyboard.press('Home');
  await page.waitForFunction((text) => document.querySelector('.view .caption').lastChild.textContent !== text, {}, before);
  assertClean();
});

/** Where the images of a series lie along the patient, in millimetres, by instance. */
async function placesOf(name, series) {
  const exam = sample(name);
  const path = `/dicom-web/studies/${exam.study_instance_uid}/series/${exam.series[series].series_instance_uid}/metadata`;
  const sets = await (await fetch(GATEWAY + path, { headers: { Accept: 'application/dicom+json' } })).json();
  return new Map(sets.map((set) => [set['00080018'].Value[0], Number(set['00200032'].Value[2])]));
}

const nearest = (places, wanted) =>
  [...places].reduce((best, one) => (Math.abs(one[1] - wanted) < Math.abs(best[1] - wanted) ? one : best))[0];
const rendered = (view) => page.$$eval('.view', (all, at) => all[at].dataset.rendered, view);
const renders = (view, instance) =>
  page.waitForFunction((at, wanted) => document.querySelectorAll('.view')[at].dataset.rendered === wanted, {}, view, instance);

test('a view that is slow to follow ends where the reader went meanwhile', async () => {
  const [slow, quick] = await Promise.all([placesOf('ct', 0), placesOf('ct', 1)]);
  const { middle, uid } = seriesOf('ct')[0];
  const release = site.hold((path) => path.includes('/frames/') && path.includes(uid) && !path.includes(middle));
  await open(examOf('ct'));
  await imageShown(page, middle);
  await page.keyboard.press('2');
  await toolsShown(page, '1x2');
  await page.keyboard.press('ArrowRight');
  await placeIs('Image 2 sur 3');
  await imageShown(page, seriesOf('ct')[1].middle);
  const places = [];
  for (const [key, image] of [['ArrowUp', 1], ['ArrowDown', 2], ['ArrowDown', 3], ['ArrowUp', 2], ['ArrowUp', 1]]) {
    await page.keyboard.press(key);
    await placeIs(`Image ${image} sur 3`);
    await imageShown(page);
    places.push(nearest(slow, quick.get(await rendered(1))));
  }
  const [first, , last] = places;
  assert.notEqual(first, last, 'the reader goes far enough to be followed');
  assert.equal(await rendered(0), middle, 'nothing came yet');
  if (places.at(-1) === middle) await page.keyboard.press('End');
  release();
  await renders(0, places.at(-1) === middle ? last : places.at(-1));
  assertClean();
});

test('moves that an exam of before could not follow at once add up', async () => {
  const [slow, quick] = await Promise.all([placesOf('ct', 0), placesOf('ct300', 0)]);
  const { middle, uid } = seriesOf('ct')[0];
  const release = site.hold((path) => path.includes('/frames/') && path.includes(uid) && !path.includes(middle));
  const prior = { study: sample('ct300').study_instance_uid, description: 'Scanner antérieur', date: '20240101' };
  await open(examOf('ct', { priors: [prior] }));
  await imageShown(page, middle);
  await press(page, 'Examen antérieur Scanner antérieur');
  await page.waitForSelector('::-p-xpath(//h2[contains(., "01/01/2024")])');
  await page.keyboard.press('2');
  await toolsShown(page, '1x2');
  const entries = await page.$$('.entry');
  await entries.at(-1).evaluate((entry) => entry.click());
  await placeIs('Image 4 sur 6');
  await imageShown(page);
  const from = quick.get(await rendered(1));
  for (const image of [3, 2, 1]) {
    await page.keyboard.press('ArrowUp');
    await placeIs(`Image ${image} sur 6`);
    await imageShown(page);
  }
  const moved = quick.get(await rendered(1)) - from;
  const wanted = nearest(slow, slow.get(middle) + moved);
  assert.notEqual(wanted, nearest(slow, slow.get(middle) + moved / 3), 'one step is not all of it');
  assert.equal(await rendered(0), middle, 'nothing came yet');
  release();
  await renders(0, wanted);
  assertClean();
});

test('the banner has the traits of identity, the others on demand', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const shown = () => page.$eval('.banner', (banner) => banner.innerText.replace(/\s+/g, ' '));
  for (const trait of ['ESSAI', 'AMELIE', '29/02/1980', 'Féminin', '75056']) assert.ok((await shown()).includes(trait), trait);
  assert.ok(!(await shown()).includes('280027505612345'));
  await page.click('.identity summary');
  for (const trait of ['280027505612345', '1.2.250.1.213.1.4.8', 'AMELIE JEANNE', 'MARTIN', 'qualifiée']) {
    assert.ok((await shown()).includes(trait), trait);
  }
  const notice = await page.$eval('.notice', (element) => element.textContent);
  assert.equal(notice, "Consultation — ne remplace pas une console d'interprétation");
});

test('an image that was compressed with loss is marked', async () => {
  await open(examOf('fragments'));
  await imageShown(page);
  await page.waitForFunction(() => document.querySelector('.corner.top.right').textContent.startsWith('Image compressée avec pertes'));
  await open(examOf('ct'));
  await imageShown(page);
  assert.equal(await page.$eval('.corner.top.right', (corner) => corner.textContent), '');
});

test('an image that the server decodes keeps the mark of what its transfer syntax lost', async () => {
  const series = sample('syntaxes').series[1];
  const of = (syntax) => series.instances.findIndex((one) => one.transfer_syntax_uid.endsWith(syntax));
  const [extended, lossless] = [of('.4.51'), of('.4.57')];
  // As devices write them that say nothing of the loss; neither does this server tell what is stored.
  site.intercept = async (path, answer) => {
    if (!path.endsWith('/metadata')) return false;
    const told = await fetch(GATEWAY + path, { headers: { Accept: 'application/dicom+json' } });
    const sets = await told.json();
    for (const set of sets) {
      if (set['00080018'].Value[0] !== series.instances[extended].sop_instance_uid) continue;
      for (const tag of ['00282110', '00282112', '00282114', '00083002']) delete set[tag];
    }
    answer.writeHead(200, { 'Content-Type': 'application/dicom+json' });
    answer.end(JSON.stringify(sets));
    return true;
  };
  await open(examOf('syntaxes'));
  await imageShown(page);
  await page.waitForSelector('.entry');
  await page.$$eval('.entry', (entries) => entries[1].click());
  await imageShown(page, series.instances[series.instances.length >> 1].sop_instance_uid);
  const mark = () => page.$eval('.corner.top.right', (corner) => corner.textContent);
  const goTo = async (at) => {
    await page.$eval('.slider', (slider, value) => {
      slider.value = String(value);
      slider.dispatchEvent(new Event('input'));
    }, at + 1);
    await imageShown(page, series.instances[at].sop_instance_uid);
  };
  await goTo(extended);
  assert.equal(await mark(), 'Image compressée avec pertes');
  await goTo(lossless);
  assert.equal(await mark(), '');
});

test('an image that nobody decodes is shown as the server draws it, and marked', async () => {
  const series = sample('syntaxes').series[1];
  const at = series.instances.findIndex((one) => one.transfer_syntax_uid.endsWith('.4.57'));
  const frame = `/instances/${series.instances[at].sop_instance_uid}/frames/1`;
  const forms = [];
  site.intercept = (path, answer, { headers }) => {
    if (!path.includes(frame)) return false;
    const form = path.endsWith('/rendered') ? 'rendered' : headers.accept.includes('transfer-syntax=*') ? 'stored' : 'decoded';
    forms.push(form);
    if (form === 'decoded') answer.writeHead(406).end();
    return form === 'decoded';
  };
  await open(examOf('syntaxes'));
  await imageShown(page);
  await page.waitForSelector('.entry');
  await page.$$eval('.entry', (entries) => entries[1].click());
  await imageShown(page, series.instances[series.instances.length >> 1].sop_instance_uid);
  await page.$eval('.slider', (slider, value) => {
    slider.value = String(value);
    slider.dispatchEvent(new Event('input'));
  }, at + 1);
  await imageShown(page, series.instances[at].sop_instance_uid);
  assert.deepEqual(forms, ['stored', 'decoded', 'rendered']);
  assert.equal(await page.$eval('.corner.top.right', (corner) => corner.textContent), 'Image compressée avec pertes');
  const { levels } = await shotOf(page, '.canvas-viewer canvas');
  assert.ok(levels.filter((level) => level > 40).length > levels.length / 10, 'the picture of the server is drawn');
  assert.deepEqual(site.seen.reports, []);
});

/** What was asked of the server for frames, in the order in which the page asked for it. */
const framesAsked = () =>
  page.evaluate(() =>
    performance
      .getEntriesByType('resource')
      .filter(({ name }) => name.includes('/frames/'))
      .sort((one, other) => one.startTime - other.startTime)
      .map(({ name }) => /instances\/([\d.]+)\//.exec(name)[1]),
  );

test('images are fetched ahead in the order in which they will be looked at', async () => {
  const images = sample('ct').series[0].instances.map((one) => one.sop_instance_uid);
  await open(examOf('ct'));
  await imageShown(page);
  await placeIs('Image 5 sur 8');
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:series-ready').length === 1);
  const places = (await framesAsked()).map((instance) => images.indexOf(instance) + 1);
  // The one on screen; then onwards, and half as many behind.
  assert.deepEqual(places, [5, 6, 4, 7, 8, 3, 2, 1]);
});

test('images are decoded beside the page, which stays free for the reader', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const codecs = (where) =>
    where.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name).filter((name) => name.includes('charls')).length);
  assert.equal(await codecs(page), 0, 'no decoder in the page itself');
  const workers = page.workers().filter((worker) => worker.url().includes('/assets/worker-'));
  const counts = await Promise.all(workers.map(codecs));
  assert.ok(counts.some((count) => count > 0), `decoders of the workers: ${counts}`);
});

test('the page is dark, whatever the reader has chosen for other pages', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await press(page, 'Aide');
  await page.waitForSelector('dialog[open]');
  for (const value of ['light', 'dark']) {
    await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value }]);
    const found = await page.evaluate(() => {
      const light = (colour) => {
        const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
        return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
      };
      return ['body', '.banner', '.toolbar button', '.windows', '.stage', '.notice', 'dialog'].map((selector) => {
        let element = document.querySelector(selector);
        const text = light(getComputedStyle(element).color);
        // What has no ground of its own stands on that of what holds it.
        while (getComputedStyle(element).backgroundColor === 'rgba(0, 0, 0, 0)') element = element.parentElement;
        return { selector, ground: light(getComputedStyle(element).backgroundColor), text };
      });
    });
    assert.deepEqual(found.filter(({ ground, text }) => ground > 0.2 || text < 0.6), [], value);
  }
});

test('leaving ends the session on the server and leaves nothing of the exam', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await press(page, 'Se déconnecter');
  await page.waitForSelector('.end');
  assert.equal(site.seen.logouts, 1);
  const left = await page.evaluate(() => document.documentElement.innerHTML);
  assert.ok(!left.includes('ESSAI') && !left.includes('<canvas'));
  assertClean();
  await picture(page, 'end');
});

test('idleness is announced, then ends the session', async () => {
  await open(examOf('ct', { idleSeconds: 16 }));
  await imageShown(page);
  await page.waitForSelector('dialog[open]');
  await press(page, 'Rester');
  await page.waitForFunction(() => document.querySelector('dialog') === null);
  await page.waitForSelector('.end');
  assert.equal(site.seen.logouts, 1);
  assert.ok((await page.$eval('.end', (end) => end.textContent)).includes("faute d'activité"));
});

for (const [status, words] of [[401, 'Votre session est terminée'], [403, "n'est pas autorisé"], [410, "n'est plus proposé"]]) {
  test(`a session that the server answers ${status} shows a plain last page`, async () => {
    site.status = status;
    await open(examOf('ct'));
    await page.waitForSelector('.end');
    assert.ok((await page.$eval('.end', (end) => end.textContent)).includes(words));
    assert.deepEqual(site.seen.reports, []);
  });
}

test('a session that ends while images are read closes the page', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  site.status = 401;
  await page.keyboard.press('ArrowRight');
  await page.waitForSelector('.end');
  assert.ok(!(await page.evaluate(() => document.body.innerHTML)).includes('ESSAI'));
});

test('an image that the centre cannot give is said in French, with a way out', async () => {
  site.intercept = (path, answer) => path.includes('/frames/') && (answer.writeHead(404).end(), true);
  await open(examOf('ct'));
  await page.waitForSelector('.message button');
  assert.ok((await page.$eval('.message', (message) => message.textContent)).includes("n'est pas disponible"));
  site.intercept = undefined;
  await press(page, 'Réessayer');
  await imageShown(page);
});

test('text from images and from the server is never markup', async () => {
  const attack = '<img src=x onerror="window.taken=1"><script>window.taken=1</script>';
  site.intercept = (path, answer) => {
    if (!path.endsWith('/series')) return false;
    const series = sample('ct').series[0];
    answer.writeHead(200, { 'Content-Type': 'application/dicom+json' });
    answer.end(
      JSON.stringify([
        {
          '0020000E': { vr: 'UI', Value: [series.series_instance_uid] },
          '00080060': { vr: 'CS', Value: ['CT'] },
          '0008103E': { vr: 'LO', Value: [attack] },
        },
      ]),
    );
    return true;
  };
  const exam = examOf('ct', { description: attack });
  exam.patient.name.birth = attack;
  await open(exam);
  await imageShown(page);
  assert.equal(await page.evaluate(() => window.taken), undefined);
  assert.equal(await page.$$eval('.banner img, .banner script, .name img', (found) => found.length), 0);
  assert.ok((await page.$eval('.name', (name) => name.textContent)).includes('<script>'));
  assertClean();
});

test('a script can be made neither from text nor from another place', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const refused = await page.evaluate(() => {
    const attempts = [
      () => eval('1'),
      () => new Function('return 1')(),
      () => (document.createElement('div').innerHTML = '<b>x</b>'),
      () => new Worker('data:text/javascript,1'),
      () => new Worker('/dicom-web/studies'),
    ];
    const refuses = (attempt) => {
      try {
        attempt();
        return false;
      } catch {
        return true;
      }
    };
    // From a timer: what the debugging protocol runs itself is exempt from the policy.
    return new Promise((resolve) => setTimeout(() => resolve(attempts.map(refuses))));
  });
  assert.deepEqual(refused, [true, true, true, true, true]);
});

test('the report is shown in a frame that can run nothing', async () => {
  const href = '/viewer/api/report';
  const text = '<!doctype html><title>CR</title><h1>Conclusion</h1><script>parent.taken=1;document.title="run"</script>';
  site.files.set(href, { type: 'text/html; charset=utf-8', body: Buffer.from(text) });
  await open(examOf('ct', { report: { href, type: 'text/html' } }));
  await imageShown(page);
  await press(page, 'Compte rendu');
  const frame = await (await page.waitForSelector('iframe')).contentFrame();
  await frame.waitForSelector('h1');
  assert.equal(await page.evaluate(() => window.taken), undefined);
  assert.equal(await page.$eval('iframe', (element) => element.getAttribute('sandbox')), '');
  await picture(page, 'report-html');
});

for (const [name, viewport] of [['desktop', DESKTOP], ['phone', PHONE]]) {
  test(`a report in PDF is drawn beside or under the images, ${name}`, async () => {
    const href = '/viewer/api/report';
    site.files.set(href, { type: 'application/pdf', body: pdfOf([line('Conclusion : examen normal.')]) });
    await open(examOf('ct', { report: { href, type: 'application/pdf' } }), viewport);
    await imageShown(page);
    await press(page, 'Compte rendu');
    await page.waitForSelector('.page canvas');
    assert.ok((await page.$eval('.page .hidden-text', (words) => words.textContent)).includes('examen normal'));
    assertClean();
    await picture(page, `report-pdf-${name}`);
  });
}

test('documents of the exam are readable', async () => {
  await open(examOf('documents'));
  await imageShown(page);
  for (const series of sample('documents').series.filter((one) => ['SR', 'DOC', 'KO'].includes(one.modality))) {
    const at = sample('documents').series.indexOf(series);
    const entries = await page.$$('.entry');
    await entries[at].evaluate((entry) => entry.click());
    await page.waitForSelector(series.modality === 'DOC' ? '.page canvas' : '.structured h3');
  }
  assertClean();
});

test('a session on a shared computer ends when the page is left', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  await page.click('.shared input');
  await page.goto('about:blank');
  await site.until(() => site.seen.logouts === 1);
});

/** Takes the clock of the page in hand; the function moves it on, and waits until the page has looked at it. */
async function clockInHand() {
  await page.evaluate(() => {
    const now = Date.now.bind(Date);
    window.clock = { ahead: 0, looks: 0 };
    Date.now = () => {
      window.clock.looks += 1;
      return now() + window.clock.ahead;
    };
  });
  return async (seconds) => {
    const looks = await page.evaluate((ahead) => {
      window.clock.ahead += ahead;
      return window.clock.looks;
    }, 1000 * seconds);
    await page.waitForFunction((before) => window.clock.looks > before, {}, looks);
  };
}

test('a session on a shared computer ends after two minutes without anybody, with a warning', async () => {
  await open(examOf('ct'));
  await imageShown(page);
  const passes = await clockInHand();
  await passes(400);
  assert.equal(await page.$('dialog[open]'), null, 'on the own computer of the reader there is time');
  await page.click('.shared input');
  await passes(55);
  assert.equal(await page.$('dialog[open]'), null);
  await passes(30);
  await page.waitForSelector('dialog[open]');
  await press(page, 'Rester');
  await passes(55);
  assert.equal(await page.$('dialog[open]'), null, 'whoever is there again has two minutes again');
  await passes(30);
  await page.waitForSelector('dialog[open]');
  await passes(40);
  await page.waitForSelector('.end');
  assert.equal(site.seen.logouts, 1);
  assert.ok((await page.$eval('.end', (end) => end.textContent)).includes("faute d'activité"));
});
