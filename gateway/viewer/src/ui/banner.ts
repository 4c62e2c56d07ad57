/** Who the patient is and which exam this is, always in sight. */

import type { Exam } from '../exam';
import { h } from './dom';
import { frenchDate, mainTraits, otherTraits } from './text';

/** The banner; `actions` stand at its end. */
export function banner(exam: Exam, actions: HTMLElement[]): HTMLElement {
  const patient = exam.patient ?? {};
  const main = mainTraits(patient);
  const other = otherTraits(patient);
  const heading = [exam.description, exam.date && `du ${frenchDate(exam.date)}`].filter(Boolean).join(' ');
  return h(
    'header',
    { class: 'banner' },
    h(
      'div',
      { class: 'who' },
      h('h1', {}, heading || "Examen d'imagerie"),
      main.length > 0 ? traits(main) : h('p', { class: 'muted' }, 'Identité non transmise'),
      other.length > 0 &&
        h('details', { class: 'identity' }, h('summary', {}, 'Identité complète'), traits(other)),
    ),
    h('div', { class: 'actions' }, ...actions),
  );
}

function traits(list: [string, string][]): HTMLElement {
  return h(
    'dl',
    { class: 'traits' },
    ...list.map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))),
  );
}
