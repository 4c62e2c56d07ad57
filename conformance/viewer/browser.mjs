// Chromium as a reader's browser: what it asked for, what it complained about, and the page's own state.

import { accessSync } from 'node:fs';

import puppeteer from 'puppeteer-core';

/** What a machine with much else to do takes for a step, milliseconds. */
export const PATIENCE = 120_000;
const BROWSERS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

export const DESKTOP = { width: 1280, height: 900, deviceScaleFactor: 1 };
export const PHONE = { width: 390, height: 844, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

/** Starts Chromium, with these arguments too. */
export function startBrowser(more = []) {
  const executablePath = BROWSERS.find((file) => {
    try {
      accessSync(file);
      return true;
    } catch {
      return false;
    }
  });
  if (executablePath === undefined) throw new Error('no Chromium: install the package chromium');
  return puppeteer.launch({
    executablePath,
    headless: true,
    protocolTimeout: 5 * PATIENCE,
    args: ['--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--disable-dev-shm-usage', '--lang=fr', '--enable-blink-features=ForceEagerMeasureMemory', ...more],
  });
}

/** Opens the page in a browser context of its own. `page.watched` has what went wrong. */
export async function openPage(browser, site, viewport, path = '/viewer/') {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.setViewport(viewport);
  page.watched = { foreign: [], errors: [] };
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol.startsWith('http') && origin !== site.origin) page.watched.foreign.push(request.url());
  });
  page.on('pageerror', (error) => page.watched.errors.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') page.watched.errors.push(message.text());
  });
  await page.goto(`${site.origin}${path}`);
  return page;
}

/** Waits until an image is on screen, the one given or any, and its series is known. */
export async function imageShown(page, instance) {
  await page.waitForFunction(
    (wanted) => {
      const stage = document.querySelector('.stage');
      const known = stage && !stage.querySelector('.corner.bottom.right').textContent.includes('…');
      return known && stage.dataset.state === 'ready' && (!wanted || stage.dataset.instance === wanted);
    },
    {},
    instance,
  );
  await drawn(page);
}

/** Waits until what the page has made ready is on the screen. */
export async function drawn(page) {
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
}

/** Waits until the viewer with tools has drawn. */
export async function toolsShown(page, layout = '1x1') {
  await page.waitForFunction(
    (wanted) => {
      const views = document.querySelector(`.views[data-layout="${wanted}"]`);
      return views?.querySelector('canvas') && views.querySelector('.view[data-rendered]');
    },
    {},
    layout,
  );
}

/** Presses the button with this text. */
export async function press(page, text) {
  const button = await page.waitForSelector(`::-p-xpath(//button[normalize-space()="${text}"])`);
  await button.evaluate((element) => element.click());
}

/** Waits until a mark's words tell a number near the one expected; `far` is how far it may be, as a part of it. */
export async function measured(page, pattern, expected, far) {
  const words = () => page.$$eval('.svg-layer tspan', (all) => all.map((one) => one.textContent));
  try {
    await page.waitForFunction(
      (source, wanted, apart) => {
        const found = [...document.querySelectorAll('.svg-layer tspan')].flatMap((one) => new RegExp(source).exec(one.textContent)?.[1] ?? []);
        return found.some((text) => Math.abs(Number(text.replace(/\s/g, '').replace(',', '.')) - wanted) <= (apart * wanted || apart));
      },
      { timeout: PATIENCE },
      pattern.source,
      expected,
      far,
    );
  } catch {
    throw new Error(`no mark tells ${expected}: ${(await words()).join(', ')}`);
  }
}

/** The picture on a canvas: `level(x, y)` is the grey of a point from its middle, in pixels of the canvas. */
export async function shotOf(page, selector) {
  await drawn(page);
  const { width, height, greys } = await page.$eval(selector, (canvas) => {
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    const context = copy.getContext('2d');
    context.drawImage(canvas, 0, 0);
    const { data } = context.getImageData(0, 0, copy.width, copy.height);
    let greys = '';
    for (let at = 0; at < data.length; at += 4) greys += String.fromCharCode(data[at]);
    return { width: copy.width, height: copy.height, greys: btoa(greys) };
  });
  const levels = Buffer.from(greys, 'base64');
  const [middleX, middleY] = [Math.round(width / 2), Math.round(height / 2)];
  return { width, height, levels, level: (x, y) => levels[(y + middleY) * width + x + middleX] };
}

/** What is written beside the image: its window, and how large a pixel of it is, in percent. */
export async function windowOf(page) {
  const text = await page.$eval('.corner.bottom.left', (corner) => corner.textContent);
  const plain = text.replaceAll('−', '-').replaceAll(',', '.').replace(/(\d)\s(?=\d)/g, '$1');
  const [, center, width, zoom] = /^C (\S+)\s+L (\S+) · (\S+)\s%$/.exec(plain);
  return { center: Number(center), width: Number(width), zoom: Number(zoom) };
}
