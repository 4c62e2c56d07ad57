/** Start of the page. */

import './style.css';

import { App } from './app';
import { asViewerError } from './errors';
import { fetchExam } from './exam';
import { Frames } from './frames';
import { onEnded } from './http';
import { installPolicy } from './trusted';
import { endPage } from './ui/page';

installPolicy();

let app: App | undefined;

onEnded((error) => {
  app?.close();
  const title = error.status === 401 ? 'Consultation terminée' : 'Examen non accessible';
  endPage(title, error.message);
});

async function start(): Promise<void> {
  try {
    // The decoder starts while the exam is asked for.
    const frames = new Frames();
    const exam = await fetchExam();
    app = new App(exam, frames);
    await app.start();
  } catch (thrown) {
    const error = asViewerError(thrown);
    if (error.kind !== 'ended') endPage("L'examen n'a pas pu être ouvert", error.message, () => location.reload());
  }
}

// A page from the browser's memory of the way back shows nothing of an ended session.
addEventListener('pageshow', (event) => {
  if (event.persisted) location.reload();
});

void start();
