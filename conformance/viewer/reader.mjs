// The reader of a file of stories: one site and browser for all of them, one tab for each.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';

import { DESKTOP, openPage } from './browser.mjs';
import { start } from './setting.mjs';

let setting;
/** The site, from the first story on. */
export let site;
/** The tab of the story that is told. */
export let page;

before(async () => {
  setting = await start();
  site = setting.site;
});
after(() => setting?.stop());
beforeEach(() => site.reset());
afterEach(async () => {
  await page?.browserContext().close();
  page = undefined;
});

/** Opens an exam in a new tab, at this address of the page. */
export async function open(exam, viewport = DESKTOP, path = '/viewer/') {
  site.exam = exam;
  page = await openPage(setting.browser, site, viewport, path);
  return page;
}

/** Nothing went wrong that the reader does not see. */
export function assertClean() {
  assert.deepEqual(page.watched.foreign, [], 'requests to another origin');
  assert.deepEqual(page.watched.errors, [], 'errors in the console');
  assert.deepEqual(site.seen.reports, [], 'reports of the content security policy');
}
