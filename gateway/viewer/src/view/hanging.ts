/** How the images of a mammography are hung: right beside left, view under view, chest walls together. */

import type { Image } from '../dicom/image';
import type { Stack } from './stack';

/** One image of a hanging. */
export interface Hung {
  stack: Stack;
  index: number;
  /** To be mirrored, so that the chest wall is in the middle of the pair. */
  flip: boolean;
  /** Column of the chest wall in the image as it is stored. */
  wall: number;
}

/** As a reader expects them, from the left to the right and from the top down. */
const PLACES = ['R CC', 'L CC', 'R MLO', 'L MLO'];

/** The images of a bilateral mammography in their places; none when there is no pair of them. */
export function mammography(stacks: Stack[]): Hung[] | undefined {
  const found = new Map<string, Hung>();
  for (const stack of stacks) {
    for (const [index, image] of stack.images.entries()) {
      const place = `${image.laterality} ${image.view}`;
      if (image.modality === 'MG' && PLACES.includes(place) && !found.has(place)) found.set(place, { stack, index, ...turned(image) });
    }
  }
  const pairs = [PLACES.slice(0, 2), PLACES.slice(2)].filter((pair) => pair.every((place) => found.has(place)));
  if (pairs.length === 0) return undefined;
  return pairs.flat().flatMap((place) => found.get(place) ?? []);
}

/** Rows of a right breast run to the back (the chest wall at the right), those of a left one to the front. */
function turned(image: Image): { flip: boolean; wall: number } {
  const rows = image.patientOrientation?.[0].charAt(0);
  const wanted = image.laterality === 'R' ? 'P' : 'A';
  const known = rows === 'A' || rows === 'P';
  return {
    flip: known && rows !== wanted,
    wall: (known ? rows : wanted) === 'A' ? 0 : image.columns,
  };
}
