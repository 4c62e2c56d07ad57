// What people do with the login, one story each.

const VI = 'vi1.test.example';
const OTHER_VI = 'vi2.test.example';
const SESSION = '__Host-drimbox';

const RADIOLOGIST = '899700218896';
const PHYSICIAN = '899700366240';
const NURSE = '899700100601';
const STUDENT = '899700100105';
const MANIPULATOR = '899700100981';
const SECRETARY = '500000001815646/CPAT00045';

const heading = (page) => page.$eval('h1', (h1) => h1.textContent.trim().replace(/\s+/g, ' '));
const text = (page) => page.$eval('body', (body) => body.innerText);
const pathOf = (page) => new URL(page.url()).pathname;

/** Clicks, also in a tab in the background, and waits for the page that comes of it. */
async function follow(page, selector) {
  const click = page.$eval(selector, (element) => element.click());
  const [answer] = await Promise.all([page.waitForNavigation(), click]);
  return answer;
}

/** Opens the first page and goes on to the provider's. */
async function toProvider(kit, page, { host = VI, path = '/auth/' } = {}) {
  await page.goto(kit.url(host, path));
  if (pathOf(page) === '/auth/') await follow(page, 'a.button');
  kit.assert.equal(await heading(page), 'Qui êtes-vous ?');
}

const choose = (page, user) => follow(page, `button[value="${user}"]`);

/** Logs a physician in, who has one situation only. */
async function logIn(kit, page, options) {
  await toProvider(kit, page, options);
  const answer = await choose(page, PHYSICIAN);
  kit.assert.equal(await heading(page), 'Votre session');
  return answer;
}

async function isLoggedOut(kit, page, host = VI) {
  await page.goto(kit.url(host, '/auth/'));
  kit.assert.equal(await heading(page), 'Connexion');
}

async function isLoggedIn(kit, page, host = VI) {
  await page.goto(kit.url(host, '/auth/'));
  kit.assert.equal(await heading(page), 'Votre session');
}

async function sessionCookie(person, host = VI) {
  const cookies = await person.cookies();
  return cookies.find(({ name, domain }) => name === SESSION && domain === host);
}

/** The address that the provider sends the browser back to, which this browser does not follow. */
async function returnAddress(page, user) {
  await page.setRequestInterception(true);
  const caught = new Promise((found) => {
    page.on('request', (request) => {
      if (new URL(request.url()).pathname === '/auth/psc/callback') {
        found(request.url());
        request.abort();
      } else {
        request.continue();
      }
    });
  });
  await page.$eval(`button[value="${user}"]`, (button) => button.click());
  const address = await caught;
  page.removeAllListeners('request');
  await page.setRequestInterception(false);
  return address;
}

/** No page complained, but for the console's own word about an error status. */
function nobodyComplained(kit) {
  const real = kit.complaints.filter((line) => !line.startsWith('Failed to load resource: the server responded'));
  kit.assert.deepEqual(real, []);
}

export const stories = {
  async whole_way(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await toProvider(kit, page);
    await choose(page, RADIOLOGIST);
    kit.assert.equal(pathOf(page), '/auth/situation');
    const places = await page.$$eval('label', (labels) => labels.map((label) => label.innerText));
    kit.assert.equal(places.length, 2);
    await page.click('p.choice:nth-of-type(2) input');
    await follow(page, 'button[type=submit]');
    kit.assert.equal(pathOf(page), '/auth/');
    kit.assert.match(await text(page), /CAMILLE ESSAI-DEUX[\s\S]*Médecin, radiodiagnostic[\s\S]*CABINET DES ESSAIS/);

    const cookie = await sessionCookie(person);
    kit.assert.deepEqual(
      { secure: cookie.secure, httpOnly: cookie.httpOnly, sameSite: cookie.sameSite, path: cookie.path, session: cookie.session },
      { secure: true, httpOnly: true, sameSite: 'Lax', path: '/', session: true },
    );
    // Three segments in base64url: what a token looks like.
    const token = /eyJ[\w-]+\.[\w-]+\.[\w-]*/;
    const seen = [await page.content(), JSON.stringify(await person.cookies()), page.url()];
    seen.push(await page.evaluate(() => JSON.stringify([localStorage, sessionStorage, document.cookie])));
    kit.assert.doesNotMatch(seen.join(' '), token);
    kit.assert.equal(await page.evaluate(() => document.cookie), '');

    await follow(page, 'button:not([name])');
    kit.assert.equal(await heading(page), 'Vous êtes déconnecté');
    kit.assert.equal(await sessionCookie(person), undefined);
    await isLoggedOut(kit, page);
    // Logged out at the provider too: it asks again who it is.
    await toProvider(kit, page);
    nobodyComplained(kit);
  },

  async situation_can_be_changed(kit) {
    const page = await (await kit.someone()).tab();
    await toProvider(kit, page);
    await choose(page, RADIOLOGIST);
    // Until it is chosen, nothing else is shown.
    await page.goto(kit.url(VI, '/auth/'));
    kit.assert.equal(pathOf(page), '/auth/situation');
    await follow(page, 'button[type=submit]');
    kit.assert.match(await text(page), /HOPITAL DES ESSAIS/);
    await follow(page, 'a[href="/auth/situation"]');
    await page.click('p.choice:nth-of-type(2) input');
    await follow(page, 'button[type=submit]');
    kit.assert.match(await text(page), /CABINET DES ESSAIS/);
    nobodyComplained(kit);
  },

  async back_button(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    const answer = await logIn(kit, page);
    const callback = answer.request().redirectChain().map((one) => one.url()).find((url) => url.includes('/callback?'));
    const { value } = await sessionCookie(person);
    // To the return from the provider once more, as the history or a reload does.
    await page.goto(callback);
    kit.assert.equal(await heading(page), 'Votre session');
    await page.goBack();
    await isLoggedIn(kit, page);
    kit.assert.equal((await sessionCookie(person)).value, value);
    await follow(page, 'button:not([name])');
    // Back from the goodbye: nothing of the session is shown again.
    await page.goBack();
    kit.assert.doesNotMatch(await text(page), /DOMINIQUE/);
    nobodyComplained(kit);
  },

  async double_submit(kit) {
    const person = await kit.someone();
    const [page, twin] = [await person.tab(), await person.tab()];
    await toProvider(kit, page);
    const callback = await returnAddress(page, RADIOLOGIST);
    await Promise.all([page.goto(callback), twin.goto(callback)]);
    kit.assert.deepEqual([pathOf(page), pathOf(twin)], ['/auth/situation', '/auth/situation']);
    await Promise.all([follow(page, 'button[type=submit]'), follow(twin, 'button[type=submit]')]);
    kit.assert.deepEqual([pathOf(page), pathOf(twin)], ['/auth/', '/auth/']);
    // Logging out twice is no error either.
    await Promise.all([follow(page, 'button:not([name])'), follow(twin, 'button:not([name])')]);
    kit.assert.deepEqual([pathOf(page), pathOf(twin)], ['/auth/bye', '/auth/bye']);
    nobodyComplained(kit);
  },

  async two_tabs(kit) {
    const person = await kit.someone();
    const [first, second] = [await person.tab(), await person.tab()];
    await toProvider(kit, first);
    const late = await returnAddress(first, PHYSICIAN);
    // The provider knows the person by now, and asks nothing.
    await second.goto(kit.url(VI, '/auth/'));
    await follow(second, 'a.button');
    kit.assert.equal(await heading(second), 'Votre session');
    const { value: before } = await sessionCookie(person);
    await first.goto(late);
    kit.assert.equal(await heading(first), 'Votre session');
    await isLoggedIn(kit, second);
    // Each login has an id of its own; whoever planted or kept the one before has nothing.
    kit.assert.notEqual((await sessionCookie(person)).value, before);
    const keeper = await (await kit.someone()).tab();
    await keeper.setCookie({ name: SESSION, value: before, url: kit.url(VI, '/'), secure: true, httpOnly: true, path: '/' });
    await isLoggedOut(kit, keeper);
    // One of them logs out: the other is out too.
    await follow(first, 'button:not([name])');
    await isLoggedOut(kit, second);
    nobodyComplained(kit);
  },

  async expired_state(kit) {
    const page = await (await kit.someone()).tab();
    await toProvider(kit, page);
    const callback = await returnAddress(page, PHYSICIAN);
    // What a login needs is in memory only.
    await kit.order('restart');
    const answer = await page.goto(callback);
    kit.assert.equal(answer.status(), 400);
    kit.assert.equal(await heading(page), "Cette connexion n'est plus valable");
    // Known at the provider by now: no question is asked.
    await follow(page, 'a.button');
    kit.assert.equal(await heading(page), 'Votre session');
    nobodyComplained(kit);
  },

  async replayed_code(kit) {
    const [person, thief] = [await kit.someone(), await kit.someone()];
    const page = await person.tab();
    const answer = await logIn(kit, page);
    const callback = answer.request().redirectChain().map((one) => one.url()).find((url) => url.includes('/callback?'));
    const stolen = await thief.tab();
    kit.assert.equal((await stolen.goto(callback)).status(), 400);
    await isLoggedOut(kit, stolen);
    await isLoggedIn(kit, page);
    await follow(page, 'button:not([name])');
    kit.assert.equal((await page.goto(callback)).status(), 400);
    await isLoggedOut(kit, page);
    nobodyComplained(kit);
  },

  async cookie_theft(kit) {
    const [person, thief] = [await kit.someone(), await kit.someone()];
    await logIn(kit, await person.tab());
    const { value } = await sessionCookie(person);
    const page = await thief.tab();
    const bring = (host) => page.setCookie({ name: SESSION, value, url: kit.url(host, '/'), secure: true, httpOnly: true, path: '/' });
    await bring(OTHER_VI);
    await isLoggedOut(kit, page, OTHER_VI);
    // It is the cookie, and nothing else, that was refused there.
    await bring(VI);
    await isLoggedIn(kit, page);
    nobodyComplained(kit);
  },

  async login_csrf(kit) {
    const [attacker, victim] = [await kit.someone(), await kit.someone()];
    const bait = await attacker.tab();
    await toProvider(kit, bait);
    const callback = await returnAddress(bait, PHYSICIAN);
    const page = await victim.tab();
    kit.assert.equal((await page.goto(callback)).status(), 400);
    kit.assert.equal(await sessionCookie(victim), undefined);
    // Nor while the victim has a login of its own under way.
    await toProvider(kit, page);
    kit.assert.equal((await page.goto(callback)).status(), 400);
    kit.assert.equal(await sessionCookie(victim), undefined);
    nobodyComplained(kit);
  },

  async forged_forms(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await logIn(kit, page);
    const token = await page.$eval('input[name=csrf]', (input) => input.value);
    // A page of another host, which even knows the token.
    const evil = await person.tab();
    await evil.goto(kit.url(OTHER_VI, '/auth/'));
    await evil.setBypassCSP(true);
    await evil.reload();
    const post = (action, fields) => {
      const form = document.createElement('form');
      Object.assign(form, { method: 'post', action });
      for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement('input'), { name, value }));
      }
      document.body.append(form);
      form.submit();
    };
    await Promise.all([evil.waitForNavigation(), evil.evaluate(post, kit.url(VI, '/auth/logout'), { csrf: token })]);
    await isLoggedIn(kit, page);
    // A page of the host without the token.
    await page.setBypassCSP(true);
    await page.reload();
    const [answer] = await Promise.all([page.waitForNavigation(), page.evaluate(post, '/auth/logout', { csrf: 'x' })]);
    kit.assert.equal(answer.status(), 403);
    await isLoggedIn(kit, page);
    nobodyComplained(kit);
  },

  async open_redirect(kit) {
    const places = ['https://evil.example/', '//evil.example/', '/\\evil.example/', '/\t/evil.example', 'javascript:alert(1)'];
    const person = await kit.someone();
    const page = await person.tab();
    for (const place of places) {
      await toProvider(kit, page, { path: `/auth/?return_to=${encodeURIComponent(place)}` });
      await choose(page, PHYSICIAN);
      kit.assert.equal(page.url(), kit.url(VI, '/auth/'), place);
      // With a session the answer comes at once.
      await page.goto(kit.url(VI, `/auth/psc/login?return_to=${encodeURIComponent(place)}`));
      kit.assert.equal(page.url(), kit.url(VI, '/auth/'), place);
      await follow(page, 'button:not([name])');
    }
    // A path of the host is followed.
    await toProvider(kit, page, { path: '/auth/?return_to=%2Fviewer%2F%3Fa%3D1' });
    await choose(page, PHYSICIAN);
    kit.assert.equal(page.url(), kit.url(VI, '/viewer/?a=1'));
  },

  async restart(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await toProvider(kit, page);
    await choose(page, RADIOLOGIST);
    await page.click('p.choice:nth-of-type(2) input');
    await follow(page, 'button[type=submit]');
    const out = await kit.someone();
    const other = await out.tab();
    await logIn(kit, other);
    const { value } = await sessionCookie(out);
    await follow(other, 'button:not([name])');
    await kit.order('restart');
    await isLoggedIn(kit, page);
    kit.assert.match(await text(page), /CABINET DES ESSAIS/);
    // Who logged out before stays out.
    await other.setCookie({ name: SESSION, value, url: kit.url(VI, '/'), secure: true, httpOnly: true, path: '/' });
    await isLoggedOut(kit, other);
    nobodyComplained(kit);
  },

  async refused(kit) {
    const others = [NURSE, SECRETARY, STUDENT, MANIPULATOR].map((user) => [user, "Accès réservé à d'autres professions"]);
    for (const [user, title] of [...others, ['refuse', 'Connexion abandonnée']]) {
      const person = await kit.someone();
      const page = await person.tab();
      await toProvider(kit, page);
      const answer = await choose(page, user);
      kit.assert.equal(answer.status(), 403);
      kit.assert.equal(await heading(page), title);
      kit.assert.match(await text(page), /le secrétariat d'essai, 01 00 00 00 00/);
      kit.assert.equal(await sessionCookie(person), undefined);
      await isLoggedOut(kit, page);
    }
    nobodyComplained(kit);
  },

  async everywhere(kit) {
    const [here, there] = [await kit.someone(), await kit.someone()];
    const [page, other] = [await here.tab(), await there.tab()];
    await logIn(kit, page);
    await logIn(kit, other, { host: OTHER_VI });
    // One logout leaves the other machine alone.
    await logIn(kit, await (await kit.someone()).tab());
    await follow(page, 'button[name=everywhere]');
    await isLoggedOut(kit, page);
    await isLoggedOut(kit, other, OTHER_VI);
    nobodyComplained(kit);
  },

  async ended_at_provider(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await logIn(kit, page);
    await kit.order('end', { user: PHYSICIAN });
    await isLoggedOut(kit, page);
    nobodyComplained(kit);
  },

  async accessible(kit) {
    const person = await kit.someone();
    const page = await person.tab();
    await page.setBypassCSP(true);
    const look = async (what) => {
      for (const scheme of ['light', 'dark']) {
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
        await page.evaluate(kit.axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run({
          runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
        }));
        kit.assert.deepEqual(violations.map(({ id, nodes }) => `${what} ${scheme} ${id}: ${nodes[0].html}`), []);
      }
      // A phone, and 200 % on a small screen: no scrolling sideways.
      await page.setViewport({ width: 320, height: 640 });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      kit.assert(wide <= 320, `${what} is ${wide} pixels wide`);
      if (kit.given.pictures) await page.screenshot({ path: `${kit.given.pictures}/${what}-320.png`, fullPage: true });
      await page.setViewport({ width: 1024, height: 700 });
      if (kit.given.pictures) await page.screenshot({ path: `${kit.given.pictures}/${what}.png` });
    };
    await page.goto(kit.url(VI, '/auth/'));
    await look('entrance');
    await follow(page, 'a.button');
    await choose(page, 'refuse');
    await look('failure');
    await toProvider(kit, page);
    await choose(page, RADIOLOGIST);
    await look('situation');
    // By keyboard alone: to the choice, the other one, on.
    await page.focus('input[type=radio]:checked');
    await page.keyboard.press('ArrowDown');
    await Promise.all([page.waitForNavigation(), page.keyboard.press('Enter')]);
    kit.assert.match(await text(page), /CABINET/);
    await look('home');
    await page.goto(kit.url(VI, '/auth/logout'));
    await look('logout');
    await follow(page, 'button:not([name])');
    await look('bye');
  },
};
