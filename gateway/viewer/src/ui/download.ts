/** The whole exam as a file, with progress. */

import { asViewerError } from '../errors';
import { ARCHIVE, fetchProgress, type Progress } from '../exam';
import { h } from './dom';

const EVERY_MS = 1000;
/** Questions after which the answer is taken for the archive that was just asked for. */
const STALE_ANSWERS = 3;

/**
 * Starts the download; the dialog tells how far it is.
 *
 * The browser writes the file to the disk as it comes, so that its size does not matter; how many images have left is
 * asked of the server, which does not know the length beforehand.
 */
export async function download(): Promise<void> {
  const bar = h('progress', { 'aria-label': 'Avancement' });
  const text = h('p', { role: 'status' }, 'Préparation…');
  const close = h('button', { type: 'button', onclick: () => finish() }, 'Fermer');
  const dialog = h('dialog', { class: 'dialog', 'aria-labelledby': 'download-title' },
    h('h2', { id: 'download-title' }, "Téléchargement de l'examen"),
    text,
    bar,
    h('p', { class: 'muted' }, "Le fichier examen.zip se lit avec tout logiciel d'imagerie médicale. Gardez cette page ouverte jusqu'à la fin."),
    h('div', { class: 'actions' }, close));
  let open = true;
  const finish = (): void => {
    open = false;
    dialog.close();
    dialog.remove();
  };
  dialog.addEventListener('cancel', finish);
  document.body.append(dialog);
  dialog.showModal();
  try {
    const before = await fetchProgress();
    save(ARCHIVE);
    let asked = 0;
    while (open) {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      const now = await fetchProgress();
      asked += 1;
      // The end of another download of this session is not the end of this one.
      if (asked <= STALE_ANSWERS && now.state !== 'running' && JSON.stringify(now) === JSON.stringify(before)) continue;
      tell(now);
      if (now.state !== 'running') return;
    }
  } catch (thrown) {
    fail(asViewerError(thrown).message);
  }

  function tell({ sent, total, state }: Progress): void {
    if (state === 'failed' || state === 'none') {
      fail('');
      return;
    }
    if (total > 0) {
      bar.max = total;
      bar.value = state === 'done' ? total : sent;
    }
    text.textContent = state === 'done' ? 'Le téléchargement est terminé.' : `${sent} objets sur ${total}`;
  }

  function fail(why: string): void {
    text.textContent = `${why} Le téléchargement n'a pas abouti : réessayez plus tard.`.trim();
    bar.hidden = true;
  }
}

function save(href: string): void {
  const link = h('a', { href, download: 'examen.zip' });
  document.body.append(link);
  link.click();
  link.remove();
}
