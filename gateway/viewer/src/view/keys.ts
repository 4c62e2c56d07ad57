/** The key images of the exam: those that a key object selection names (PS3.3 A.35.4). */

import type { Image } from '../dicom/image';

/** An image that a document points to; without a frame the whole instance. */
export interface Reference {
  series: string;
  instance: string;
  frame: number | undefined;
}

/** What the exam's selections name. */
export class KeyImages {
  readonly #references: Reference[] = [];

  /** Adds what one selection names. */
  add(references: Reference[]): void {
    this.#references.push(...references);
  }

  /** True when somebody selected this image. */
  has(image: Image): boolean {
    return this.#references.some((reference) => names(reference, image));
  }
}

/** True when a reference means this image. */
export function names(reference: Reference, image: Image): boolean {
  return reference.instance === image.instance && (reference.frame === undefined || reference.frame === image.frame);
}
