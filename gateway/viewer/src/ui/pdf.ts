/** A PDF as pictures of its pages: what a page contains can run nothing and reach nothing. */

import * as pdfjs from 'pdfjs-dist';
import workerUrl from 'pdfjs-dist/build/pdf.worker.min.mjs?url';

import { ViewerError } from '../errors';
import { get } from '../http';
import { h } from './dom';

const MAX_BYTES = 100e6;
const MAX_PAGES = 200;
/** Width of a page's picture in pixels: sharp on a phone, legible at 200 %. */
const WIDTH = 1400;

/** The pages of the PDF at `path`; each is drawn when it comes near the screen. */
export async function pdfPages(path: string, title: string): Promise<HTMLElement> {
  const response = await get(path, 'application/pdf');
  const bytes = await response.arrayBuffer();
  if (bytes.byteLength > MAX_BYTES) throw new ViewerError('unreadable', 'Ce document est trop volumineux.');
  pdfjs.GlobalWorkerOptions.workerSrc = workerUrl;
  const pdf = await pdfjs.getDocument({
    data: new Uint8Array(bytes),
    enableXfa: false,
    disableFontFace: false,
    useWasm: false,
    useWorkerFetch: false,
    stopAtErrors: false,
  }).promise;
  const count = Math.min(pdf.numPages, MAX_PAGES);
  const holder = h('div', { class: 'pages' });
  const file = URL.createObjectURL(new Blob([bytes], { type: 'application/pdf' }));
  holder.append(h('p', {}, h('a', { href: file, download: `${title}.pdf` }, 'Enregistrer ce document (PDF)')));
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        near.unobserve(entry.target);
        void draw(pdf, entry.target as HTMLElement);
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

async function draw(pdf: pdfjs.PDFDocumentProxy, holder: HTMLElement): Promise<void> {
  const page = await pdf.getPage(Number(holder.dataset['page']));
  const plain = page.getViewport({ scale: 1 });
  const viewport = page.getViewport({ scale: WIDTH / plain.width });
  const canvas = h('canvas', { width: Math.round(viewport.width), height: Math.round(viewport.height), 'aria-hidden': true });
  await page.render({ canvas, viewport }).promise;
  const content = await page.getTextContent();
  // The words of the page for those who hear it.
  const words = content.items.map((item) => ('str' in item ? item.str + (item.hasEOL ? '\n' : ' ') : '')).join('');
  holder.replaceChildren(canvas, h('p', { class: 'hidden-text' }, words));
  page.cleanup();
}
