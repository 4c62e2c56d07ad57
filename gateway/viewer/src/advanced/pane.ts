/** One of up to four views: its element, what it shows, the letters at its edges. */

import { type Types } from '@cornerstonejs/core';

import type { Image } from '../dicom/image';
import { h } from '../ui/dom';
import { lettersOf } from '../view/orientation';
import type { Stack } from '../view/stack';

/** One view. */
export class Pane {
  readonly port = h('div', { class: 'port' });
  readonly caption = h('div', { class: 'caption' });
  readonly #letters = ['north', 'east', 'south', 'west'].map((edge) => h('div', { class: `letter ${edge}`, 'aria-hidden': true }));
  readonly element: HTMLElement;
  stack: Stack | undefined;
  index = 0;
  image: Image | undefined;
  loading = false;
  error: string | undefined;
  turns = 0;
  flipped = false;
  inverted = false;
  /** Where a view that follows another wants to be, in millimetres along its normal. */
  wish: number | undefined;

  constructor(
    readonly id: string,
    /** The plane of a view of a volume; none for the images as they are. */
    readonly plane: 'axial' | 'sagittal' | 'coronal' | undefined,
    taken: () => void,
  ) {
    this.element = h('div', { class: 'view', onpointerdown: taken }, this.port, this.caption, ...this.#letters);
  }

  /** Writes the letters of the sides that the camera sees. */
  orient(camera: Types.ICamera | undefined): void {
    const { viewUp, viewPlaneNormal } = camera ?? {};
    const known = this.plane !== undefined || this.image?.orientation !== undefined;
    const letters = known && viewUp && viewPlaneNormal ? edges(viewUp, viewPlaneNormal) : ['', '', '', ''];
    this.#letters.forEach((letter, edge) => (letter.textContent = letters[edge] ?? ''));
  }
}

function edges(up: Types.Point3, normal: Types.Point3): string[] {
  const [a, b, c] = up;
  const [d, e, f] = normal;
  // The normal points at the reader, so up × normal points to the right.
  const right = [b * f - c * e, c * d - a * f, a * e - b * d];
  const opposite = (direction: readonly number[]): number[] => direction.map((value) => -value);
  return [up, right, opposite(up), opposite(right)].map((direction) => lettersOf([...direction]));
}
