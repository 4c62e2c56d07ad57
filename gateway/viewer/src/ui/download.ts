/** The whole exam as a file, with progress. */

import { ARCHIVE } from '../exam';
import { asViewerError, isAbort } from '../errors';
import { get } from '../http';
import { h } from './dom';
import { size } from './text';

/** Above this the browser's own download, which writes to the disk at once, takes over. */
const MAX_IN_MEMORY = 300e6;

/** Starts the download; the dialog shows how far it is and lets the reader give up. */
export async function download(): Promise<void> {
  const abort = new AbortController();
  const bar = h('progress', { 'aria-label': 'Avancement' });
  const text = h('p', { role: 'status' }, 'Préparation…');
  const close = h('button', { type: 'button', onclick: () => finish() }, 'Annuler');
  const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'download-title' },
    h('h2', { id: 'download-title' }, "Téléchargement de l'examen"), text, bar, h('div', { class: 'actions' }, close));
  const finish = (): void => {
    abort.abort();
    dialog.close();
    dialog.remove();
  };
  dialog.addEventListener('cancel', finish);
  document.body.append(dialog);
  dialog.showModal();
  try {
    const response = await get(ARCHIVE, 'application/zip', abort.signal);
    const total = Number(response.headers.get('Content-Length') ?? 0);
    if (total > MAX_IN_MEMORY || response.body === null) {
      finish();
      save(ARCHIVE);
      return;
    }
    const chunks: BlobPart[] = [];
    let received = 0;
    const reader = response.body.getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      chunks.push(next.value);
      received += next.value.length;
      if (total > 0) {
        bar.max = total;
        bar.value = received;
      }
      text.textContent = total > 0 ? `${size(received)} sur ${size(total)}` : size(received);
    }
    const url = URL.createObjectURL(new Blob(chunks, { type: 'application/zip' }));
    save(url);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
    finish();
  } catch (thrown) {
    if (isAbort(thrown)) return;
    text.textContent = `${asViewerError(thrown).message} Le téléchargement n'a pas abouti : réessayez plus tard.`;
    bar.hidden = true;
    close.textContent = 'Fermer';
  }
}

function save(href: string): void {
  const link = h('a', { href, download: 'examen.zip' });
  document.body.append(link);
  link.click();
  link.remove();
}
