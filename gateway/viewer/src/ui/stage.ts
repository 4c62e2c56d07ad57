/** The image with what surrounds it: texts in the corners, slider, messages, cine. */

import type { Image } from '../dicom/image';
import { captionOf } from '../view/caption';
import type { KeyImages } from '../view/keys';
import type { Stack } from '../view/stack';
import type { Shown, Viewer } from '../view/viewer';
import { h } from './dom';
import { decimal } from './text';

/** Frames per second of a cine whose images tell none. */
const CINE_RATE = 10;
const MAX_CINE_RATE = 60;

/** Holds one viewer at a time. */
export class Stage {
  readonly #holder = h('div', { class: 'holder' });
  readonly #series = h('div', { class: 'corner top left' });
  readonly #lossy = h('div', { class: 'corner top right' });
  readonly #window = h('div', { class: 'corner bottom left' });
  readonly #place = h('div', { class: 'corner bottom right' });
  readonly #letters = ['north', 'east', 'south', 'west'].map((edge) => h('div', { class: `letter ${edge}`, 'aria-hidden': true }));
  readonly #message = h('div', { class: 'message', role: 'status' });
  readonly #live = h('div', { class: 'hidden-text', 'aria-live': 'polite' });
  readonly #slider = h('input', { type: 'range', min: 1, max: 1, value: 1, 'aria-label': "Numéro de l'image", class: 'slider' });
  readonly element: HTMLElement;
  #viewer: Viewer | undefined;
  #cine: number | undefined;
  #told = false;
  #spoken = 0;
  /** Called after every change of what is shown. */
  onchange: () => void = () => undefined;

  constructor(private readonly keys: KeyImages) {
    this.#slider.addEventListener('input', () => {
      this.stopCine();
      this.#viewer?.goTo(Number(this.#slider.value) - 1);
    });
    this.element = h(
      'section',
      { class: 'stage', 'aria-label': 'Images' },
      h('div', { class: 'screen', tabindex: 0, role: 'group', 'aria-label': 'Image, flèches haut et bas pour défiler' },
        this.#holder, this.#series, this.#lossy, this.#window, this.#place, ...this.#letters, this.#message),
      this.#slider,
      this.#live,
    );
  }

  /** The viewer that is on. */
  get viewer(): Viewer {
    if (this.#viewer === undefined) throw new Error('stage without viewer');
    return this.#viewer;
  }

  /** Puts another viewer on; the one before is ended by whoever made it. */
  set viewer(viewer: Viewer) {
    this.#viewer = viewer;
    this.#holder.replaceChildren(viewer.element);
    this.refresh();
  }

  /** Says something in the middle of the screen; '' takes it away. */
  say(text: string, retry?: () => void, label = 'Réessayer'): void {
    // What is said already is not said again to those who listen.
    if (retry === undefined && this.#message.textContent === text) return;
    this.#message.replaceChildren();
    if (text !== '') this.#message.append(h('p', {}, text));
    if (retry) this.#message.append(h('button', { type: 'button', class: 'primary', onclick: retry }, label));
  }

  /** As `say`, until the reader closes it or moves on. */
  tell(text: string): void {
    this.#told = true;
    this.say(text, () => {
      this.#told = false;
      this.refresh();
    }, 'Fermer');
  }

  /** Shows a stack from an image on. */
  show(stack: Stack, index: number): void {
    this.stopCine();
    this.#told = false;
    this.viewer.show(stack, index);
  }

  /** Moves by images. */
  step(by: number): void {
    this.stopCine();
    this.#told = false;
    this.viewer.goTo(this.viewer.shown.index + by);
  }

  /** Cine is on. */
  get playing(): boolean {
    return this.#cine !== undefined;
  }

  /** Starts or stops the cine, at the rate of the images. */
  toggleCine(): void {
    if (this.#cine !== undefined) {
      this.stopCine();
      return;
    }
    const every = 1000 / rateOf(this.viewer.shown.image);
    this.#cine = window.setInterval(() => {
      const { shown } = this.viewer;
      // An image that is still on its way is waited for.
      if (!shown.loading) this.viewer.goTo((shown.index + 1) % (shown.stack?.images.length ?? 1));
    }, every);
    this.onchange();
  }

  /** Stops the cine. */
  stopCine(): void {
    if (this.#cine === undefined) return;
    clearInterval(this.#cine);
    this.#cine = undefined;
    this.refresh();
  }

  /** Brings the texts up to date. */
  refresh(): void {
    const shown = this.viewer.shown;
    const { stack, image } = shown;
    const count = stack?.images.length ?? 0;
    this.#slider.max = String(Math.max(count, 1));
    this.#slider.value = String(shown.index + 1);
    this.#slider.hidden = count < 2;
    this.#slider.setAttribute('aria-valuetext', `Image ${shown.index + 1} sur ${count}`);
    const caption = [stack?.series.description ?? '', ...captionOf(image, this.keys)].filter(Boolean);
    this.#series.replaceChildren(...(shown.captioned ? [] : caption.map((line) => h('div', {}, line))));
    const rate = this.playing ? `${decimal(rateOf(image))} images/s · ` : '';
    this.#place.textContent = rate + placeOf(shown, count);
    this.#window.textContent = windowOf(shown);
    this.#lossy.textContent = shown.lossy
      ? `Image compressée avec pertes${image?.lossyRatio ? ` (${decimal(image.lossyRatio, 0)}:1)` : ''}`
      : '';
    this.#letters.forEach((letter, edge) => (letter.textContent = shown.letters?.[edge] ?? ''));
    this.element.dataset['state'] = shown.error !== undefined ? 'error' : shown.loading ? 'loading' : image ? 'ready' : 'empty';
    this.element.dataset['instance'] = image?.instance ?? '';
    this.element.dataset['frame'] = String(image?.frame ?? 0);
    if (!this.#told) {
      if (shown.error !== undefined) this.say(shown.error, () => this.viewer.goTo(this.viewer.shown.index));
      else if (shown.progress !== undefined) this.say(shown.progress);
      else if (!shown.loading) this.say('');
    }
    this.#speak(shown, count);
    this.onchange();
  }

  /** A screen reader is told the place when the reader has stopped moving. */
  #speak(shown: Shown, count: number): void {
    clearTimeout(this.#spoken);
    this.#spoken = window.setTimeout(() => {
      const text = count === 0 ? '' : `Image ${shown.index + 1} sur ${count}`;
      if (this.#live.textContent !== text && !this.playing) this.#live.textContent = text;
    }, 600);
  }
}

/** Frames per second: what the object asks for, as far as a screen can follow. */
function rateOf(image: Image | undefined): number {
  return Math.min(image?.frameTime === undefined ? CINE_RATE : 1000 / image.frameTime, MAX_CINE_RATE);
}

function placeOf(shown: Shown, count: number): string {
  if (shown.image === undefined) return '';
  const thickness = shown.image.thickness === undefined ? '' : ` · ${decimal(shown.image.thickness, 2)} mm`;
  return `${shown.index + 1} / ${count}${shown.stack?.complete === false ? '…' : ''}${thickness}`;
}

function windowOf(shown: Shown): string {
  if (shown.image === undefined || shown.image.video !== undefined) return '';
  const window = shown.window === undefined ? '' : `C ${decimal(shown.window.center, 1)}  L ${decimal(shown.window.width, 1)} · `;
  return `${window}${decimal(shown.zoom * 100, 0)} %`;
}
