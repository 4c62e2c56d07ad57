/** The series of the exam, with a small picture each. */

import { type Series, thumbnailPath } from '../dicom/web';
import { isDocument } from '../view/stack';
import { h } from './dom';
import { frenchDate, modalityName } from './text';

/** A list of series; `chosen` is called with the one that the reader takes. */
export class SeriesList {
  readonly #exams = h('div', {});
  readonly #offers = h('div', { class: 'offers' });
  readonly element = h('nav', { class: 'series', 'aria-label': "Séries de l'examen" }, this.#exams, this.#offers);
  readonly #buttons = new Map<string, HTMLButtonElement>();
  readonly #order: Series[] = [];
  readonly #seen: IntersectionObserver;

  constructor(private readonly chosen: (series: Series) => void) {
    // Pictures of series that nobody scrolls to are not asked for.
    this.#seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const picture = entry.target as HTMLImageElement;
        if (!entry.isIntersecting || picture.dataset['path'] === undefined) continue;
        this.#seen.unobserve(picture);
        picture.src = picture.dataset['path'];
        delete picture.dataset['path'];
      }
    });
  }

  /** Adds the series of one exam. */
  add(series: Series[], title: string, date?: string): void {
    const list = h('ul', {});
    for (const one of series) {
      list.append(h('li', {}, this.#entry(one)));
      this.#order.push(one);
    }
    const heading = h('h2', {}, [title, frenchDate(date)].filter(Boolean).join(' '));
    this.#exams.append(h('section', {}, heading, list));
  }

  /** Adds a button under the list. */
  offer(button: HTMLElement): void {
    this.#offers.append(button);
  }

  /** Series of images, in the order of the list. */
  get imaging(): Series[] {
    return this.#order.filter((series) => !isDocument(series));
  }

  /** Series that are read: reports, selections. */
  get documents(): Series[] {
    return this.#order.filter(isDocument);
  }

  /** Pictures are asked for from now on: the first image goes first. */
  loadPictures(): void {
    for (const picture of this.element.querySelectorAll<HTMLImageElement>('img[data-path]')) this.#seen.observe(picture);
  }

  /** Marks the series that is shown. */
  mark(uid: string): void {
    for (const [other, button] of this.#buttons) {
      const current = other === uid;
      if (current) button.setAttribute('aria-current', 'true');
      else button.removeAttribute('aria-current');
      if (current) this.#reveal(button);
    }
  }

  /** Scrolls the list, and never the page, so that the entry is seen. */
  #reveal(button: HTMLElement): void {
    for (const box of [this.element, button.closest('ul')]) {
      if (box === null) continue;
      const outer = box.getBoundingClientRect();
      const inner = button.getBoundingClientRect();
      box.scrollTop += Math.max(inner.bottom - outer.bottom, 0) - Math.max(outer.top - inner.top, 0);
      box.scrollLeft += Math.max(inner.right - outer.right, 0) - Math.max(outer.left - inner.left, 0);
    }
  }

  #entry(series: Series): HTMLButtonElement {
    const kind = modalityName(series.modality);
    const name = series.description || kind;
    const count = series.count > 0 && !isDocument(series) ? `${series.count} image${series.count > 1 ? 's' : ''}` : '';
    const picture = isDocument(series)
      ? h('span', { class: 'glyph', 'aria-hidden': true }, glyphOf(series.modality))
      : h('img', { alt: '', width: 72, height: 72, fetchpriority: 'low', 'data-path': thumbnailPath(series) });
    picture.addEventListener('error', () => {
      picture.classList.add('missing');
      picture.removeAttribute('src');
    });
    const button = h(
      'button',
      { type: 'button', class: 'entry', onclick: () => this.chosen(series) },
      picture,
      h('span', { class: 'name' }, name),
      h('span', { class: 'muted' }, [name === kind ? '' : kind, count].filter(Boolean).join(' · ')),
    );
    this.#buttons.set(series.uid, button);
    return button;
  }
}

/** What stands for a series that has no picture. */
function glyphOf(modality: string): string {
  return { KO: '★', SR: '≡', DOC: 'PDF' }[modality] ?? '…';
}
