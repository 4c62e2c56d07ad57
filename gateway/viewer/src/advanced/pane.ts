/** One of up to four views: its element, what it shows, the letters at its edges. */

import { type Types } from '@cornerstonejs/core';

import type { Image } from '../dicom/image';
import { h } from '../ui/dom';
import { isOriented, lettersOf, sideOf } from '../view/orientation';
import type { Hung } from '../view/hanging';
import type { Stack } from '../view/stack';
import { worldOf } from './images';

/** One view. */
export class Pane {
  readonly port = h('div', { class: 'port' });
  /** The graphics of the image, over it. */
  readonly layer = h('canvas', { class: 'layer', 'aria-hidden': true });
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
  /** The graphics of `image`. */
  overlay: HTMLCanvasElement | undefined;
  /** How the image of a mammography is hung. */
  hung: Hung | undefined;
  /** Where a view that follows another wants to be, in millimetres along its normal. */
  wish: number | undefined;

  constructor(
    readonly id: string,
    /** The plane of a view of a volume; none for the images as they are. */
    readonly plane: 'axial' | 'sagittal' | 'coronal' | undefined,
    taken: () => void,
  ) {
    this.element = h('div', { class: 'view', onpointerdown: taken }, this.port, this.layer, this.caption, ...this.#letters);
  }

  /** Draws the graphics where the camera has the image. */
  drawLayer(viewport: Types.IViewport | undefined): void {
    const { layer, overlay, image } = this;
    layer.hidden = overlay === undefined;
    this.element.dataset['overlay'] = String(overlay !== undefined);
    if (overlay === undefined || image === undefined || viewport === undefined) return;
    const ratio = devicePixelRatio;
    layer.width = Math.max(this.port.clientWidth * ratio, 1);
    layer.height = Math.max(this.port.clientHeight * ratio, 1);
    const context = layer.getContext('2d');
    if (context === null) return;
    const at = (column: number, row: number): Types.Point2 => viewport.worldToCanvas(worldOf(image, column, row));
    const [x, y] = at(-0.5, -0.5);
    const [rightX, rightY] = at(image.columns - 0.5, -0.5);
    const [downX, downY] = at(-0.5, image.rows - 0.5);
    context.setTransform(
      (ratio * (rightX - x)) / image.columns,
      (ratio * (rightY - y)) / image.columns,
      (ratio * (downX - x)) / image.rows,
      (ratio * (downY - y)) / image.rows,
      ratio * x,
      ratio * y,
    );
    context.drawImage(overlay, 0, 0);
  }

  /** Writes the letters of the sides that the camera sees. */
  orient(camera: Types.ICamera | undefined): void {
    const { viewUp, viewPlaneNormal } = camera ?? {};
    const image = this.plane === undefined ? this.image : undefined;
    const known = this.plane !== undefined || isOriented(image);
    // An image without a place has coordinates of its own rows and columns.
    const name = image?.orientation === undefined && image ? (side: number[]): string => sideOf(image, side) : lettersOf;
    const letters = known && viewUp && viewPlaneNormal ? edges(viewUp, viewPlaneNormal).map(name) : ['', '', '', ''];
    this.#letters.forEach((letter, edge) => (letter.textContent = letters[edge] ?? ''));
  }
}

function edges(up: Types.Point3, normal: Types.Point3): number[][] {
  const [a, b, c] = up;
  const [d, e, f] = normal;
  // The normal points at the reader, so up × normal points to the right.
  const right = [b * f - c * e, c * d - a * f, a * e - b * d];
  const opposite = (direction: readonly number[]): number[] => direction.map((value) => -value);
  return [[...up], right, opposite(up), opposite(right)];
}
