/** A PDF as pictures of its pages: what a page contains can run nothing, reach nothing, and take no more than its part. */

import * as pdfjs from 'pdfjs-dist';
import workerUrl from 'pdfjs-dist/build/pdf.worker.min.mjs?url';

import { ViewerError } from '../errors';
import { get } from '../http';
import { h } from './dom';

const MAX_BYTES = 100e6;
const MAX_PAGES = 200;
/** Width of a page's picture in pixels: sharp on a phone, legible at 200 %. */
const WIDTH = 1400;
/** Height of a page's picture in pixels; a page that is longer is narrower. */
const MAX_HEIGHT = 2 * WIDTH;
/** Pixels of one image within a page, which is left out beyond: a sheet of A3 scanned at 600 dpi has 70 million. */
const MAX_IMAGE = 80e6;
/** Steps of one page's drawing: some bytes can ask for billions. */
const MAX_STEPS = 400e3;
/** Seconds, with the page in sight, until a document has been opened or a page drawn. */
const MAX_SECONDS = 60;

/** The pages of the PDF at `path`; each is drawn when it comes near the screen. */
export async function pdfPages(path: string, title: string): Promise<HTMLElement> {
  const response = await get(path, 'application/pdf');
  const bytes = await response.arrayBuffer();
  if (bytes.byteLength > MAX_BYTES) throw new ViewerError('unreadable', 'Ce document est trop volumineux.');
  const file = new Blob([bytes], { type: 'application/pdf' });
  const reader = new Reader(bytes);
  const count = Math.min(await reader.count(), MAX_PAGES);
  const holder = h('div', { class: 'pages' });
  holder.append(h('p', {}, h('a', { href: URL.createObjectURL(file), download: `${title}.pdf` }, 'Enregistrer ce document (PDF)')));
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        void fill(reader, entry.target as HTMLElement);
      }
    },
    { rootMargin: '600px' },
  );
  for (let number = 1; number <= count; number += 1) {
    const page = h('div', { class: 'page', 'data-page': number, role: 'group', 'aria-label': `Page ${number} sur ${count}` });
    holder.append(page);
    near.observe(page);
  }
  return holder;
}

/** A document with a worker of its own, which is ended when the document asks for too much. */
class Reader {
  readonly #worker = new Worker(workerUrl, { type: 'module' });
  readonly #pdf: Promise<pdfjs.PDFDocumentProxy>;
  #over = false;

  constructor(bytes: ArrayBuffer) {
    this.#worker.addEventListener('error', () => (this.#over = true));
    pdfjs.GlobalWorkerOptions.workerPort = this.#worker;
    this.#pdf = pdfjs.getDocument({
      data: new Uint8Array(bytes),
      enableXfa: false,
      disableFontFace: false,
      useWasm: false,
      useWorkerFetch: false,
      stopAtErrors: false,
      maxImageSize: MAX_IMAGE,
    }).promise;
  }

  /** Pages of the document. */
  count(): Promise<number> {
    return this.#within(this.#pdf.then((pdf) => pdf.numPages));
  }

  /** The picture of a page, from 1, and its words. Throws a `ViewerError` when it asks for too much. */
  page(number: number): Promise<{ canvas: HTMLCanvasElement; words: string }> {
    return this.#within(this.#draw(number));
  }

  async #draw(number: number): Promise<{ canvas: HTMLCanvasElement; words: string }> {
    const page = await (await this.#pdf).getPage(number);
    const plain = page.getViewport({ scale: 1 });
    const viewport = page.getViewport({ scale: Math.min(WIDTH / plain.width, MAX_HEIGHT / plain.height) });
    const [width, height] = [viewport.width, viewport.height].map((side) => Math.max(Math.round(side), 1));
    const canvas = h('canvas', { width, height, 'aria-hidden': true });
    const operationsFilter = (_: number, { fnArray }: { fnArray: unknown[] }): boolean => {
      if (fnArray.length > MAX_STEPS) throw this.#end();
      return true;
    };
    await page.render({ canvas, viewport, operationsFilter }).promise;
    const content = await page.getTextContent();
    // The words of the page for those who hear it.
    const words = content.items.map((item) => ('str' in item ? item.str + (item.hasEOL ? '\n' : ' ') : '')).join('');
    page.cleanup();
    return { canvas, words };
  }

  /** What a worker that was ended owes nobody waits for. */
  #within<T>(work: Promise<T>): Promise<T> {
    let left = MAX_SECONDS;
    let timer: number | undefined;
    const limit = new Promise<never>((_, reject) => {
      timer = window.setInterval(() => {
        // Nothing is drawn while nobody sees the page.
        if (!document.hidden) left -= 1;
        if (left <= 0 || this.#over) reject(this.#end());
      }, 1000);
    });
    return Promise.race([work, limit]).finally(() => clearInterval(timer));
  }

  #end(): ViewerError {
    this.#over = true;
    this.#worker.terminate();
    return new ViewerError('unreadable', 'Ce document demande trop de calculs.');
  }
}

/** Draws a page into its place, or says there that it could not be. */
async function fill(reader: Reader, holder: HTMLElement): Promise<void> {
  try {
    const { canvas, words } = await reader.page(Number(holder.dataset['page']));
    holder.replaceChildren(canvas, h('p', { class: 'hidden-text' }, words));
  } catch (thrown) {
    const why = thrown instanceof ViewerError ? `${thrown.message} ` : '';
    holder.replaceChildren(h('p', { role: 'alert' }, `${why}Cette page n'a pas pu être affichée : enregistrez le document pour le lire autrement.`));
  }
}
