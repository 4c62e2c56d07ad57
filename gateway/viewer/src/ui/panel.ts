/** The report and other documents, beside the images or under them. */

import { asViewerError } from '../errors';
import { ownPath } from '../exam';
import { h } from './dom';

/** A document to show. */
export interface Document {
  title: string;
  /** A path of the own origin with its media type, or ready content. */
  content: { href: string; type: string } | { node: HTMLElement };
}

/** One document at a time. */
export class Panel {
  readonly #title = h('h2', { tabindex: -1 });
  readonly #body = h('div', { class: 'body' });
  readonly element: HTMLElement;

  constructor(private readonly changed: () => void) {
    this.element = h(
      'aside',
      { class: 'panel', 'aria-label': 'Document', hidden: true },
      h('div', { class: 'head' }, this.#title, h('button', { type: 'button', onclick: () => this.close() }, 'Fermer')),
      this.#body,
    );
  }

  /** A document is shown. */
  get isOpen(): boolean {
    return !this.element.hidden;
  }

  /** Shows a document. */
  async open(document: Document): Promise<void> {
    this.#title.textContent = document.title;
    this.element.hidden = false;
    this.changed();
    this.#title.focus({ preventScroll: true });
    this.element.scrollIntoView({ block: 'nearest' });
    const { content } = document;
    if ('node' in content) {
      this.#body.replaceChildren(content.node);
      return;
    }
    const path = ownPath(content.href);
    if (path === undefined) {
      this.#body.replaceChildren(h('p', {}, 'Ce document ne peut pas être affiché ici.'));
      return;
    }
    this.#body.replaceChildren(h('p', { role: 'status' }, 'Ouverture du document…'));
    try {
      this.#body.replaceChildren(await contentOf(path, content.type, document.title));
    } catch (thrown) {
      this.#body.replaceChildren(
        h('p', {}, `${asViewerError(thrown).message} Le document n'a pas pu être ouvert.`),
        h('button', { type: 'button', class: 'primary', onclick: () => void this.open(document) }, 'Réessayer'),
      );
    }
  }

  /** Takes the document away. */
  close(): void {
    this.element.hidden = true;
    this.#body.replaceChildren();
    this.changed();
  }
}

async function contentOf(path: string, type: string, title: string): Promise<HTMLElement> {
  if (type.startsWith('application/pdf')) {
    // Pages are drawn by our own code: the reader of the browser does not run in a sandboxed frame,
    // and shows the first page only on phones.
    const { pdfPages } = await import('./pdf');
    return pdfPages(path, title);
  }
  if (type.startsWith('text/html') || type.startsWith('image/')) {
    // No script, no form, no origin, whatever the document contains.
    return h('iframe', { src: path, sandbox: '', title, class: 'frame' });
  }
  return h('p', {}, 'Ce document ne peut pas être affiché ici. ', h('a', { href: path, download: true }, 'Le télécharger'));
}
