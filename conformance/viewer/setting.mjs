// What a test of the page stands on: the gateway and the sample exams that the environment names.

import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { startBrowser } from './browser.mjs';
import { startSite } from './site.mjs';

/** Base address of the gateway's local listener, without path. */
export const GATEWAY = need('DRIMBOX_TEST_GATEWAY');
/** Folder of the sample exams that its PACS holds. */
export const SAMPLES = need('DRIMBOX_TEST_SAMPLES');
/** Folder for pictures of the pages; none are taken without it. */
const PICTURES = process.env.DRIMBOX_TEST_PICTURES;

/** Exams that the gateway's PACS holds besides, made by readings.py; a list in a file of JSON. */
const READINGS = process.env.DRIMBOX_TEST_READINGS;

export const manifest = JSON.parse(readFileSync(path.join(SAMPLES, 'manifest.json'), 'utf8'));
if (READINGS !== undefined) manifest.exams.push(...JSON.parse(readFileSync(READINGS, 'utf8')));

/** The sample exam of that name. */
export function sample(name) {
  const found = manifest.exams.find((exam) => exam.name === name);
  if (found === undefined) throw new Error(`no exam ${name}`);
  return found;
}

/** What the server tells about the series of a sample exam. */
export function seriesOf(name) {
  return sample(name).series.map((series) => ({
    uid: series.series_instance_uid,
    modality: series.modality,
    description: series.series_description,
    number: series.series_number,
    count: series.count,
    middle: series.instances[series.instances.length >> 1].sop_instance_uid,
  }));
}

/** What the server tells about a sample exam. */
export function examOf(name, more = {}) {
  const exam = sample(name);
  return {
    study: exam.study_instance_uid,
    description: exam.study_description || 'Examen',
    date: exam.study_date,
    csrf: 'jeton-de-la-page',
    patient: {
      name: { birth: 'ESSAI', firstGiven: 'AMELIE', givens: 'AMELIE JEANNE', used: 'MARTIN', usedGiven: 'AMELIE' },
      birthDate: '1980-02-29',
      sex: 'F',
      birthPlace: '75056',
      ins: { value: '280027505612345', oid: '1.2.250.1.213.1.4.8', qualified: true },
    },
    report: null,
    logout: '/auth/logout',
    download: false,
    weasis: false,
    priors: [],
    idleSeconds: 900,
    absoluteSeconds: 36000,
    ...more,
  };
}

/** A browser and a site for the tests of one file. */
export async function start() {
  const [browser, site] = await Promise.all([startBrowser(), startSite(GATEWAY)]);
  return {
    browser,
    site,
    async stop() {
      await browser.close();
      await site.close();
    },
  };
}

/** Keeps a picture of the page for whoever wants to look. */
export async function picture(page, name) {
  if (PICTURES === undefined) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: path.join(PICTURES, `${name}.png`) });
}

function need(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: these tests are started by cargo test -p conformance --test viewer`);
  return value;
}
