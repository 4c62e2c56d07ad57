/** What is on screen, on paper: with the patient, the exam and the notice. */

import type { Exam } from '../exam';
import type { Shown } from '../view/viewer';
import { h } from './dom';
import { frenchDate, mainTraits } from './text';

/** Opens the browser's print dialog with the pictures. */
export function printViews(exam: Exam, shown: Shown, views: HTMLElement[]): void {
  const sheet = h(
    'section',
    { class: 'sheet' },
    h('h1', {}, [exam.description, frenchDate(exam.date)].filter(Boolean).join(' — ')),
    h('p', {}, mainTraits(exam.patient ?? {}).map(([name, value]) => `${name} : ${value}`).join(' · ')),
    h('p', {}, `${shown.stack?.series.description ?? ''} — image ${shown.index + 1}${shown.lossy ? ' — compressée avec pertes' : ''}`),
    h('div', { class: 'pictures' }, ...views),
    h('p', {}, "Consultation — ne remplace pas une console d'interprétation"),
  );
  document.body.append(sheet);
  addEventListener('afterprint', () => sheet.remove(), { once: true });
  print();
}
