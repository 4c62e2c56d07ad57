/** Structured reports, key object selections and encapsulated documents as readable content. */

import { type DataSet, items, number, numbers, text } from '../dicom/json';
import { fetchMetadata, instancePath, type Series } from '../dicom/web';
import type { Reference } from '../view/keys';
import { h } from './dom';
import type { Document } from './panel';
import { decimal, frenchDate } from './text';

/** Depth of a content tree that is still shown. */
const MAX_DEPTH = 20;

/** The documents of a series as one to show; `follow` opens an image that it points to. */
export async function documentOf(series: Series, follow: (reference: Reference) => void): Promise<Document> {
  const sets = await fetchMetadata(series);
  const title = series.description || (series.modality === 'KO' ? 'Images clés' : 'Document');
  const encapsulated = sets.find((set) => text(set, '00420012') !== '');
  if (encapsulated !== undefined) {
    const href = `${instancePath({ study: series.study, series: series.uid, instance: text(encapsulated, '00080018') })}/rendered`;
    return { title: text(encapsulated, '00420010') || title, content: { href, type: text(encapsulated, '00420012') } };
  }
  const trees = sets.filter((set) => items(set, '0040A730').length > 0);
  if (trees.length === 0) {
    return { title, content: { node: h('p', {}, "Cet objet n'est ni une image ni un texte : il sert à d'autres logiciels.") } };
  }
  return { title, content: { node: h('div', { class: 'structured' }, ...trees.map((tree) => treeOf(tree, follow))) } };
}

/** The images that the documents of a series point to, in their order. */
export async function referencesOf(series: Series): Promise<Reference[]> {
  const sets = await fetchMetadata(series);
  return sets.flatMap((set) => {
    const places = evidenceOf(set);
    const below = (item: DataSet, depth: number): Reference[] => {
      const own = items(item, '00081199').flatMap((reference) => {
        const instance = text(reference, '00081155');
        const place = places.get(instance);
        if (place === undefined) return [];
        const frames = numbers(reference, '00081160');
        return (frames.length > 0 ? frames : [undefined]).map((frame) => ({ series: place, instance, frame }));
      });
      return depth > MAX_DEPTH ? own : [...own, ...items(item, '0040A730').flatMap((one) => below(one, depth + 1))];
    };
    return below(set, 0);
  });
}

/** A content tree (PS3.3 C.17.3) as headings and lines. */
function treeOf(set: DataSet, follow: (reference: Reference) => void): HTMLElement {
  const places = evidenceOf(set);
  const heading = conceptOf(set) || 'Compte rendu structuré';
  const date = text(set, '00080023');
  return h(
    'article',
    {},
    h('h3', {}, heading),
    date !== '' && h('p', { class: 'muted' }, frenchDate(date)),
    listOf(items(set, '0040A730'), 0),
  );

  function listOf(content: DataSet[], depth: number): HTMLElement {
    return h('ul', {}, ...content.map((item) => h('li', {}, ...lineOf(item, depth))));
  }

  function lineOf(item: DataSet, depth: number): (Node | string)[] {
    const name = conceptOf(item);
    const value = valueOf(item);
    const line: (Node | string)[] = [];
    if (name !== '') line.push(h('strong', {}, value === '' ? name : `${name} : `));
    line.push(value);
    const reference = items(item, '00081199')[0];
    if (reference !== undefined) {
      const instance = text(reference, '00081155');
      const place = places.get(instance);
      if (place !== undefined) {
        const frame = number(reference, '00081160');
        line.push(h('button', { type: 'button', onclick: () => follow({ series: place, instance, frame }) }, "Voir l'image"));
      }
    }
    const below = items(item, '0040A730');
    if (below.length > 0 && depth < MAX_DEPTH) line.push(listOf(below, depth + 1));
    return line;
  }
}

function conceptOf(item: DataSet): string {
  return text(items(item, '0040A043')[0], '00080104');
}

function valueOf(item: DataSet): string {
  switch (text(item, '0040A040')) {
    case 'TEXT':
      return text(item, '0040A160');
    case 'CODE':
      return text(items(item, '0040A168')[0], '00080104');
    case 'NUM': {
      const measured = items(item, '0040A300')[0];
      const value = number(measured, '0040A30A');
      const unit = items(measured, '004008EA')[0];
      return value === undefined ? '' : `${decimal(value, 3)} ${text(unit, '00080100')}`.trim();
    }
    case 'PNAME':
      return text(item, '0040A123').replaceAll('^', ' ').trim();
    case 'DATE':
      return frenchDate(text(item, '0040A121'));
    case 'DATETIME':
      return frenchDate(text(item, '0040A120'));
    default:
      return '';
  }
}

/** Series of each instance that the document names (PS3.3 C.17.2.1). */
function evidenceOf(set: DataSet): Map<string, string> {
  const places = new Map<string, string>();
  for (const study of [...items(set, '0040A375'), ...items(set, '0040A385')]) {
    for (const series of items(study, '00081115')) {
      for (const instance of items(series, '00081199')) places.set(text(instance, '00081155'), text(series, '0020000E'));
    }
  }
  return places;
}
