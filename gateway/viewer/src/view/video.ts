/** A video of the exam, played by the browser. */

import type { Image } from '../dicom/image';
import { instancePath } from '../dicom/web';

/** The player; without a video it is not there. */
export class VideoPlayer {
  readonly element = document.createElement('video');
  #failed = '';

  /** `changed` is called when a video turns out to be one that the browser does not play. */
  constructor(changed: () => void) {
    this.element.className = 'video';
    this.element.controls = true;
    this.element.playsInline = true;
    this.element.loop = true;
    this.element.muted = true;
    this.element.preload = 'metadata';
    this.element.hidden = true;
    this.element.setAttribute('aria-label', 'Vidéo');
    this.element.addEventListener('error', () => {
      if (this.element.hidden) return;
      this.#failed = this.element.dataset['instance'] ?? '';
      this.element.hidden = true;
      changed();
    });
  }

  /** Shows the video of an instance; takes the one before away when the instance is none. */
  play(image: Image): void {
    const instance = image.video === undefined ? '' : image.instance;
    if ((this.element.dataset['instance'] ?? '') === instance) return;
    this.element.dataset['instance'] = instance;
    this.#failed = '';
    if (instance === '' || this.refusal(image) !== undefined) {
      this.element.hidden = true;
      this.element.removeAttribute('src');
      this.element.load();
      return;
    }
    this.element.hidden = false;
    this.element.src = `${instancePath(image)}/rendered`;
  }

  /** Forgets what was loaded. */
  dispose(): void {
    this.element.hidden = true;
    this.element.removeAttribute('src');
    this.element.load();
  }

  /** Why a video is not shown, for the reader. */
  refusal(image: Image): string | undefined {
    const playable = image.video !== 'video/mpeg' && this.#failed !== image.instance;
    return playable ? undefined : "Les navigateurs ne lisent pas cette vidéo. Téléchargez l'examen, ou demandez-la au centre d'imagerie.";
  }
}
