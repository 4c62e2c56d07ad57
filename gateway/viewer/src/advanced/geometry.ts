/** Whether the images of a series make a volume whose planes have right lengths. */

import { dot, type Image, normalOf } from '../dicom/image';

const MISFIT = 'Cette série ne permet pas les coupes dans trois plans';
const WRONG = 'les distances y seraient fausses.';
/** How far an image may be from its even place, as a part of the step: coordinates are rounded when they are written. */
const UNEVEN = 0.2;
/** How far an image may be beside the first one, in pixels. */
const BESIDE = 0.5;
/** Largest difference of two directions, and of two sizes of a pixel as a part of them. */
const TURNED = 1e-3;
const RESIZED = 1e-3;

/**
 * Why the images of a series make no volume, in words; undefined when they make one.
 *
 * A volume has one step and right angles (PS3.3 C.7.6.2.1.1): images at uneven places, of a tilted gantry, or of other
 * sizes would be drawn as if they had them.
 */
export function noVolume(images: Image[]): string | undefined {
  const first = images[0];
  if (first?.orientation === undefined || first.position === undefined || first.spacing === undefined || images.length < 3) return `${MISFIT}.`;
  const { orientation, position, spacing } = first;
  const normal = normalOf(orientation);
  const places: number[] = [];
  let beside = 0;
  for (const image of images) {
    if (image.samples !== 1 || image.palette !== undefined || image.spacing === undefined || !image.position || !image.orientation) return `${MISFIT}.`;
    if (image.rows !== first.rows || image.columns !== first.columns || image.frameOfReference !== first.frameOfReference) return `${MISFIT}.`;
    if (image.orientation.some((value, at) => Math.abs(value - (orientation[at] ?? 0)) > TURNED)) {
      return `${MISFIT} : ses images ne sont pas parallèles.`;
    }
    if (differs(image.spacing.row, spacing.row) || differs(image.spacing.column, spacing.column)) {
      return `${MISFIT} : ses images n'ont pas la même échelle, ${WRONG}`;
    }
    const from = image.position.map((value, axis) => value - (position[axis] ?? 0));
    const across = Math.abs(dot(from, orientation.slice(0, 3))) / spacing.column;
    const down = Math.abs(dot(from, orientation.slice(3, 6))) / spacing.row;
    beside = Math.max(beside, across, down);
    places.push(dot(from, normal));
  }
  if (beside > BESIDE) return `${MISFIT} : elle est inclinée ou décalée d'une image à l'autre, ${WRONG}`;
  places.sort((a, b) => a - b);
  const start = places[0] ?? 0;
  const step = ((places.at(-1) ?? 0) - start) / (places.length - 1);
  // Several images at one place: phases, echoes, frames of one instance.
  if (!(step > 0.01) || places.some((place, at) => at > 0 && place - (places[at - 1] ?? 0) < 0.005)) return `${MISFIT}.`;
  const uneven = places.some((place, at) => Math.abs(place - (start + at * step)) > UNEVEN * step);
  return uneven ? `${MISFIT} : ses images ne sont pas à égale distance, ${WRONG}` : undefined;
}

function differs(one: number, other: number): boolean {
  return Math.abs(one - other) > RESIZED * other;
}
