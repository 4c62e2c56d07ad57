/** DICOMweb of the own origin: what a study holds, metadata, frames. */

import { ViewerError } from '../errors';
import type { Exam } from '../exam';
import { get } from '../http';
import { type DataSet, number, text } from './json';

const ROOT = '/dicom-web';
const JSON_TYPE = 'application/dicom+json';
const EXPLICIT_LITTLE = '1.2.840.10008.1.2.1';

/** What the exam or QIDO-RS tells of a series. */
export interface Series {
  study: string;
  uid: string;
  modality: string;
  description: string;
  number: number;
  count: number;
  /** UID of an instance in its middle; '' when that has to be searched for. */
  middle: string;
}

/** What QIDO-RS tells of an instance. */
export interface Instance {
  uid: string;
  sopClass: string;
  number: number;
}

/** Series that the exam tells, in their order; none when they have to be searched for. */
export function toldSeries(exam: Exam): Series[] | undefined {
  if (!Array.isArray(exam.series)) return undefined;
  const told = exam.series.map((one) => ({
    study: exam.study,
    uid: one.uid,
    modality: one.modality ?? '',
    description: one.description ?? '',
    number: one.number ?? 0,
    count: one.count ?? 0,
    middle: one.middle ?? '',
  }));
  return inOrder(told);
}

/** Series of a study, in their order. */
export async function fetchSeries(study: string): Promise<Series[]> {
  const sets = await fetchSets(`${studyPath(study)}/series`);
  const found = sets.map((set) => ({
    study,
    uid: text(set, '0020000E'),
    modality: text(set, '00080060'),
    description: text(set, '0008103E'),
    number: number(set, '00200011') ?? 0,
    count: number(set, '00201209') ?? 0,
    middle: '',
  }));
  return inOrder(found.filter((series) => series.uid !== ''));
}

function inOrder(series: Series[]): Series[] {
  return series.sort((a, b) => a.number - b.number || (a.uid < b.uid ? -1 : 1));
}

/** Instances of a series, by their number. */
export async function fetchInstances(series: Series): Promise<Instance[]> {
  const sets = await fetchSets(`${seriesPath(series)}/instances`);
  return sets
    .map((set) => ({
      uid: text(set, '00080018'),
      sopClass: text(set, '00080016'),
      number: number(set, '00200013') ?? 0,
    }))
    .filter((instance) => instance.uid !== '')
    .sort((a, b) => a.number - b.number || (a.uid < b.uid ? -1 : 1));
}

/** Metadata of a series, or of one of its instances. */
export function fetchMetadata(series: Series, instance?: string): Promise<DataSet[]> {
  const below = instance === undefined ? '' : `/instances/${encodeURIComponent(instance)}`;
  return fetchSets(`${seriesPath(series)}${below}/metadata`);
}

/** Path of the small picture of a series. */
export function thumbnailPath(series: Series): string {
  return `${seriesPath(series)}/thumbnail?viewport=160,160`;
}

/** Path of an instance. */
export function instancePath(of: { study: string; series: string; instance: string }): string {
  return `${studyPath(of.study)}/series/${encodeURIComponent(of.series)}/instances/${encodeURIComponent(of.instance)}`;
}

/** What is asked of the server for one frame. */
export interface FrameRequest {
  study: string;
  series: string;
  instance: string;
  frame: number;
}

/**
 * The answer with one frame: as it is stored, decoded by the server, or as a picture.
 *
 * The first two are multipart/related; `transfer-syntax=*` asks for what is stored (PS3.18 8.7.3).
 */
export async function fetchFrame(
  frame: FrameRequest,
  form: 'stored' | 'decoded' | 'rendered',
  signal?: AbortSignal,
): Promise<{ type: string; body: ArrayBuffer }> {
  const path = `${instancePath(frame)}/frames/${frame.frame}`;
  const octets = (syntax: string): string =>
    `multipart/related; type="application/octet-stream"; transfer-syntax=${syntax}`;
  const response =
    form === 'rendered'
      ? await get(`${path}/rendered`, 'image/jpeg', signal)
      : await get(path, octets(form === 'stored' ? '*' : EXPLICIT_LITTLE), signal);
  return { type: response.headers.get('Content-Type') ?? '', body: await response.arrayBuffer() };
}

async function fetchSets(path: string): Promise<DataSet[]> {
  const response = await get(path, JSON_TYPE);
  if (response.status === 204) return [];
  const answer: unknown = await response.json();
  if (!Array.isArray(answer)) throw new ViewerError('unreadable', "La réponse du centre n'a pas pu être lue.");
  return answer as DataSet[];
}

function studyPath(study: string): string {
  return `${ROOT}/studies/${encodeURIComponent(study)}`;
}

function seriesPath(series: Series): string {
  return `${studyPath(series.study)}/series/${encodeURIComponent(series.uid)}`;
}
