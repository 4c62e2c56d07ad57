// What people do with the link of a report, one story each.

const SESSION = '__Host-drimbox';
const RADIOLOGIST = '899700218896';
const DESKTOP = { width: 1280, height: 900, deviceScaleFactor: 1 };
const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

const heading = (page) => page.$eval('h1', (h1) => h1.textContent.trim().replace(/\s+/g, ' '));
const text = (page) => page.$eval('body', (body) => body.innerText);
const pathOf = (page) => new URL(page.url()).pathname;

async function follow(page, selector) {
  const click = page.$eval(selector, (element) => element.click());
  const [answer] = await Promise.all([page.waitForNavigation(), click]);
  return answer;
}

/** Keeps what the page asks for, and what it must not do. */
function watch(kit, page) {
  const own = kit.url(kit.given.hosts[0], '');
  const seen = { origins: new Set(), referers: [], reports: 0, failed: [] };
  page.on('request', (request) => {
    const { origin, pathname, protocol } = new URL(request.url());
    if (protocol.startsWith('http')) seen.origins.add(origin);
    if (pathname === '/viewer/csp-report') seen.reports += 1;
    if (request.headers().referer) seen.referers.push(request.headers().referer);
  });
  page.on('response', (response) => {
    if (response.status() >= 400 && response.url().startsWith(own)) seen.failed.push(`${response.status()} ${new URL(response.url()).pathname}`);
  });
  return seen;
}

/** An image is drawn, and its whole series is known. */
async function imageShown(page) {
  await page.waitForFunction(
    () => document.querySelector('.stage')?.dataset.state === 'ready' && !document.querySelector('.corner.bottom.right').textContent.includes('…'),
    { timeout: 120_000 },
  );
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

const place = (page) => page.$eval('.slider', (slider) => slider.getAttribute('aria-valuetext'));

/** From the link to the first image. */
async function comeIn(kit, page) {
  const [host] = kit.given.hosts;
  await page.goto(kit.url(host, kit.given.link));
  kit.assert.equal(pathOf(page), '/viewer/entree');
  kit.assert.equal(new URL(page.url()).search, '');
  kit.assert.equal(await heading(page), "Accès aux images de l'examen");
  await follow(page, 'a.button');
  kit.assert.equal(await heading(page), 'Qui êtes-vous ?');
  await follow(page, `button[value="${RADIOLOGIST}"]`);
  kit.assert.equal(pathOf(page), '/auth/situation');
  await follow(page, 'button[type=submit]');
  kit.assert.equal(page.url(), kit.url(host, '/viewer/'));
  await imageShown(page);
  await leftNoTrace(kit, page);
}

/** The way back holds no link. */
async function leftNoTrace(kit, page) {
  const devtools = await page.createCDPSession();
  const { entries } = await devtools.send('Page.getNavigationHistory');
  kit.assert(entries.length > 1, 'there is a way back');
  const told = entries.filter(({ url, title }) => /IHEInvoke|studyUID|idCDA/i.test(`${url} ${title}`) || url.includes(kit.given.accession));
  kit.assert.deepEqual(told, []);
  await devtools.detach();
}

/** From the link to the question of the patient's proof. */
async function toTheQuestion(kit, page) {
  await page.goto(kit.url(kit.given.hosts[0], kit.given.link));
  await follow(page, 'a[href="/viewer/patient"]');
  kit.assert.equal(await heading(page), "Vérifions qu'il s'agit bien de vous");
}

/** Types what proves who somebody is. */
async function give(page, fields) {
  for (const [name, value] of Object.entries(fields)) {
    await page.$eval(`input[name="${name}"]`, (input) => input.focus());
    await page.keyboard.type(value);
  }
  const [answer] = await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
  return answer;
}

async function keepPicture(kit, page, name) {
  if (kit.given.pictures) await page.screenshot({ path: `${kit.given.pictures}/link-${name}.png` });
}

/** The image is there, its patient above it, and only what was published. */
async function looksRight(kit, page) {
  const lit = await page.$eval('.canvas-viewer canvas', (canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, at) => at % 4 === 0 && value > 40).length / (data.length / 4);
  });
  kit.assert(lit > 0.1, `${lit} of the screen is lit`);
  const banner = await page.$eval('header.banner', (header) => header.innerText);
  // The traits that are shown to everybody, the place of birth as its code; those of the KOS.
  const traits = await page.$$eval('header.banner .who > .traits dd', (all) => all.map((one) => one.textContent));
  kit.assert.deepEqual(traits, ['ESSAI', 'AMELIE', '15/03/1979', 'Féminin', '63220'], banner);
  const others = await page.$$eval('header.banner .identity dd', (all) => all.map((one) => one.textContent));
  kit.assert.deepEqual(others.slice(0, 4), ['MARTIN', 'AMELIE', 'AMELIE JEANNE', '299999999999999']);
  kit.assert.equal((await page.$$('nav.series button.entry')).length, kit.given.series.length);
  await page.waitForFunction(() => [...document.querySelectorAll('nav.series img')].every((img) => img.complete && img.naturalWidth > 0));
  kit.assert.match(await place(page), new RegExp(`Image \\d+ sur ${kit.given.images}$`));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  kit.assert(wide <= 0, `${wide} pixels beside the screen`);
}

const viewsShown = (page, layout, count) =>
  page.waitForFunction(
    (wanted, views) => document.querySelectorAll(`.views[data-layout="${wanted}"] .view[data-rendered]`).length >= views,
    { timeout: 120_000 },
    layout,
    count,
  );

/** A reader with keys and a mouse. */
const atDesk = (page) => ({
  does: (key) => page.keyboard.press(key),
  async draws([fromX, y], [toX]) {
    await page.mouse.move(fromX, y);
    await page.mouse.down();
    await page.mouse.move((fromX + toX) / 2, y, { steps: 4 });
    await page.mouse.move(toX, y, { steps: 4 });
    await page.mouse.up();
  },
});

/** A reader with fingers: the same things, by the buttons of the bar. */
const withFingers = (page) => ({
  async does(key) {
    const button = await page.waitForSelector(`.toolbar button[title$="(touche ${key.toUpperCase()})"]`);
    await button.evaluate((element) => {
      element.scrollIntoView();
      globalThis.tapped = false;
      element.addEventListener('click', () => { globalThis.tapped = true; }, { once: true });
    });
    // A finger whose lifting a busy page notices late rests on the button: that is no tap.
    for (let tries = 0; tries < 20; tries += 1) {
      await button.tap();
      const tapped = await page.evaluate(async () => {
        for (let frame = 0; frame < 60 && !globalThis.tapped; frame += 1) await new Promise(requestAnimationFrame);
        return globalThis.tapped;
      });
      if (tapped) return;
    }
    throw new Error(`no tap on ${key}`);
  },
  async draws([fromX, y], [toX]) {
    const touch = await page.touchscreen.touchStart(fromX, y);
    for (let step = 1; step <= 8; step += 1) await touch.move(fromX + (step * (toX - fromX)) / 8, y);
    await touch.end();
  },
});

/** Measures a line of 200 pixels, makes three planes, puts two series, where there are two, side by side: the tools too come from this host. */
async function useTools(kit, page, reader, name) {
  await reader.does('l');
  await viewsShown(page, '1x1', 1);
  await reader.does('t');
  await page.waitForFunction(() => document.querySelector('.corner.bottom.left').textContent.endsWith('100 %'));
  const box = await (await page.$('.port')).boundingBox();
  const [x, y] = [Math.round(box.x + box.width / 2), Math.round(box.y + box.height / 2)];
  // A pixel of the image is one of the screen, of which some have several in one of the page.
  const half = 100 / page.viewport().deviceScaleFactor;
  await reader.draws([x - half, y], [x + half, y]);
  await page.waitForFunction(
    async (description) => {
      const ask = async (path) => (await fetch(path, { headers: { Accept: 'application/dicom+json' } })).json();
      const { study } = await ask('/viewer/api/exam');
      const all = await ask(`/dicom-web/studies/${study}/series`);
      const series = all.find((one) => one['0008103E'].Value[0] === description);
      const [image] = await ask(`/dicom-web/studies/${study}/series/${series['0020000E'].Value[0]}/metadata`);
      const wanted = 200 * image['00280030'].Value[1];
      const told = [...document.querySelectorAll('.svg-layer tspan')].flatMap((one) => /([\d\s,]+) mm$/.exec(one.textContent)?.[1] ?? []);
      return told.some((text) => Math.abs(Number(text.replace(/\s/g, '').replace(',', '.')) - wanted) <= 0.005 * wanted);
    },
    { timeout: 60_000, polling: 500 },
    kit.given.series[0],
  );
  await keepPicture(kit, page, `${name}-measure`);
  await reader.does('3');
  await viewsShown(page, 'mpr', 3);
  await page.waitForFunction(() => performance.getEntriesByName('drimbox:mpr-ready').length === 1, { timeout: 120_000 });
  await keepPicture(kit, page, `${name}-planes`);
  if (kit.given.series.length === 1) return;
  await reader.does('2');
  await viewsShown(page, '1x2', 1);
  await page.$$eval('nav.series button.entry', (entries) => entries.at(-1).click());
  await viewsShown(page, '1x2', 2);
  await page.waitForFunction(
    (wanted) => [...document.querySelectorAll('.view .caption')].every((caption, at) => caption.textContent.includes(wanted[at])),
    {},
    kit.given.series,
  );
  await keepPicture(kit, page, `${name}-compare`);
  await reader.does('1');
  await viewsShown(page, '1x1', 1);
}

async function logOut(kit, page) {
  await page.$eval('button.logout', (button) => button.click());
  await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'Consultation terminée');
}

function nothingWentWrong(kit, seen) {
  kit.assert.deepEqual(seen.failed, []);
  // The provider has no icon.
  const own = kit.complaints.filter((line) => !/^Failed to load resource.*https:\/\/(localhost|127\.0\.0\.1):/.test(line));
  kit.assert.deepEqual(own, []);
  kit.assert.equal(seen.reports, 0, 'reports of the policy');
  const [host] = kit.given.hosts;
  const foreign = [...seen.origins].filter((origin) => origin !== kit.url(host, '') && !origin.startsWith('https://localhost:') && !origin.startsWith('https://127.0.0.1:'));
  kit.assert.deepEqual(foreign, [], 'only this host and the provider');
  const told = seen.referers.filter((referer) => referer.includes(kit.given.accession) || referer.includes('IHEInvoke'));
  kit.assert.deepEqual(told, []);
}

export const stories = {
  async whole_way(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await page.setViewport(DESKTOP);
    const seen = watch(kit, page);
    await comeIn(kit, page);
    await looksRight(kit, page);
    await keepPicture(kit, page, 'desktop');
    const before = await place(page);
    await page.keyboard.press('ArrowDown');
    await page.waitForFunction((old) => document.querySelector('.slider').getAttribute('aria-valuetext') !== old, {}, before);
    await imageShown(page);
    await page.keyboard.press('Home');
    await page.waitForFunction(() => document.querySelector('.slider').getAttribute('aria-valuetext').startsWith('Image 1 '));
    await imageShown(page);
    await useTools(kit, page, atDesk(page), 'desktop');
    // Nothing of the session can be read by a script.
    kit.assert.equal(await page.evaluate(() => document.cookie), '');
    // The tools note what the graphics card can do and how much they log, and nothing of the exam.
    const kept = await page.evaluate(() => [localStorage, sessionStorage].flatMap((storage) => Object.keys(storage)));
    kit.assert.deepEqual(kept.filter((key) => !['cornerstone3D.renderingCapabilities', 'loglevel'].includes(key)), []);
    kit.assert.equal(await page.evaluate(() => crossOriginIsolated), true);
    // A reload shows the same exam.
    await page.reload();
    await imageShown(page);
    nothingWentWrong(kit, seen);
    await logOut(kit, page);
    await keepPicture(kit, page, 'desktop-end');
    // The answer to the page may be a moment ahead of the browser's list of cookies.
    const keptCookie = async () => (await person.cookies()).some(({ name, domain }) => name === SESSION && domain === kit.given.hosts[0]);
    for (let looks = 0; await keptCookie(); looks += 1) {
      kit.assert(looks < 300, 'the cookie of the session is taken away');
      await page.evaluate(() => new Promise((frame) => requestAnimationFrame(frame)));
    }
  },

  async on_a_phone(kit) {
    const page = await (await kit.someone()).tab();
    await page.setViewport(PHONE);
    const seen = watch(kit, page);
    await comeIn(kit, page);
    await looksRight(kit, page);
    await keepPicture(kit, page, 'phone');
    const before = await place(page);
    const box = await (await page.$('.screen')).boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    const touch = await page.touchscreen.touchStart(x, y);
    for (let step = 1; step <= 5; step += 1) await touch.move(x, y + 5 * step);
    await touch.end();
    await page.waitForFunction((old) => document.querySelector('.slider').getAttribute('aria-valuetext') !== old, {}, before);
    await imageShown(page);
    await useTools(kit, page, withFingers(page), 'phone');
    nothingWentWrong(kit, seen);
    await logOut(kit, page);
    await keepPicture(kit, page, 'phone-end');
  },

  async after_logout(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await comeIn(kit, page);
    const other = await person.tab();
    await other.goto(kit.url(kit.given.hosts[0], '/viewer/'));
    await imageShown(other);
    await page.bringToFront();
    await logOut(kit, page);
    kit.assert.doesNotMatch(await text(page), /AMELIE/);
    await page.reload();
    await page.waitForFunction(() => document.querySelector('main.end'));
    kit.assert.doesNotMatch(await text(page), /AMELIE/);
    await page.goBack();
    await page.waitForFunction(() => document.querySelector('h1'));
    kit.assert.doesNotMatch(await text(page), /AMELIE/);
    // The other tab learns it with the next thing that it asks for.
    await other.bringToFront();
    await other.reload();
    await other.waitForFunction(() => document.querySelector('main.end'));
  },

  async patient(kit) {
    const [host] = kit.given.hosts;
    const person = await kit.someone();
    const page = await person.tab();
    await page.setBypassCSP(true);
    const proof = kit.given.sends ? 'sent-code' : Object.keys(kit.given.fields).join('-');
    const accessible = async (what) => {
      await page.evaluate(kit.axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }));
      kit.assert.deepEqual(violations.map(({ id, nodes }) => `patient ${what} ${id}: ${nodes[0].html}`), []);
      await keepPicture(kit, page, `patient-${proof}-${what}`);
    };
    await page.setViewport(PHONE);
    await page.goto(kit.url(host, kit.given.link));
    await accessible('entrance');
    await follow(page, 'a[href="/viewer/patient"]');
    kit.assert.equal(await heading(page), "Vérifions qu'il s'agit bien de vous");
    if (kit.given.sends) {
      await accessible('before-code');
      await follow(page, 'form[action="/viewer/patient/code"] button');
    }
    await accessible('question');
    const refused = await give(page, kit.given.wrong);
    kit.assert.equal(refused.status(), 403);
    kit.assert.match(await page.$eval('[role=alert]', (alert) => alert.innerText), /ne permettent pas/);
    await accessible('refused');
    const fields = kit.given.sends ? { code: await kit.order('code') } : kit.given.fields;
    await give(page, fields);
    kit.assert.equal(page.url(), kit.url(host, '/viewer/'));
    await imageShown(page);
    await leftNoTrace(kit, page);
    await looksRight(kit, page);
    await keepPicture(kit, page, `patient-${proof}-exam`);
    kit.assert.equal(await page.evaluate(() => document.cookie), '');
    if (!kit.given.tools) return;
    // A patient has the tools of a professional; in this tab the policy holds.
    const own = await person.tab();
    await own.setViewport(PHONE);
    const seen = watch(kit, own);
    await own.goto(kit.url(host, '/viewer/'));
    await imageShown(own);
    await useTools(kit, own, withFingers(own), 'patient');
    kit.assert.deepEqual(seen.failed, []);
    kit.assert.equal(seen.reports, 0, 'reports of the policy');
    await logOut(kit, own);
    await page.bringToFront();
    await page.reload();
    await page.waitForFunction(() => document.querySelector('main.end'));
  },

  async shared_computer(kit) {
    const [host] = kit.given.hosts;
    const person = await kit.someone();
    const page = await person.tab();
    // The browser stays when the page is closed.
    await person.tab();
    await page.bringToFront();
    if (kit.given.fields) {
      await toTheQuestion(kit, page);
      await give(page, kit.given.fields);
      await imageShown(page);
    } else {
      await comeIn(kit, page);
    }
    const session = (await person.cookies()).find(({ name, domain }) => name === kit.given.cookie && domain === host);
    const cookie = session.value;
    await page.click('.shared input');
    await kit.order('open', { cookie });
    await (kit.given.closes ? page.close({ runBeforeUnload: true }) : page.goto('about:blank'));
    await kit.order('left', { cookie });
  },

  async weasis(kit) {
    const page = await (await kit.someone()).tab();
    await comeIn(kit, page);
    const watch = await page.createCDPSession();
    await watch.send('Page.enable');
    const leaving = new Promise((resolve) => watch.on('Page.frameRequestedNavigation', ({ url }) => resolve(url)));
    await page.click('button.weasis');
    const address = await leaving;
    kit.assert.match(address, /^weasis:\/\//);
    kit.assert.deepEqual(await kit.order('weasis', { address }), { status: 200 });
    // The page stays.
    kit.assert.equal(page.url(), kit.url(kit.given.hosts[0], '/viewer/'));
    kit.assert.match(await text(page), /AMELIE/);
  },

  async nothing_to_see(kit) {
    const [host] = kit.given.hosts;
    const page = await (await kit.someone()).tab();
    await page.setBypassCSP(true);
    const accessible = async (what) => {
      await page.evaluate(kit.axe);
      const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice'] }));
      kit.assert.deepEqual(violations.map(({ id, nodes }) => `${what} ${id}: ${nodes[0].html}`), []);
      await keepPicture(kit, page, what);
    };
    await page.goto(kit.url(host, kit.given.otherLink));
    await accessible('entrance');
    await follow(page, 'a.button');
    await follow(page, `button[value="${RADIOLOGIST}"]`);
    const answer = await follow(page, 'button[type=submit]');
    kit.assert.equal(answer.status(), 404);
    kit.assert.equal(await heading(page), "Cet examen n'est pas disponible");
    await accessible('unavailable');
    await page.goto(kit.url(host, '/viewer/'));
    await page.waitForFunction(() => document.querySelector('h1')?.textContent === 'Examen non accessible');
  },
};
