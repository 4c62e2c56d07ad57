/** The letters at the edges of an image: which side of the patient lies there (PS3.3 C.7.6.1.1.1). */

import type { Image } from '../dicom/image';

/** Letters at the top, right, bottom and left edge. */
export type Letters = [string, string, string, string];

/** Letters of a direction in the patient, the strongest first: 'L', 'HA'… Head is H, feet F. */
export function lettersOf(direction: readonly number[]): string {
  const names: [string, string][] = [
    ['L', 'R'],
    ['P', 'A'],
    ['H', 'F'],
  ];
  return names
    .map(([plus, minus], axis) => ({ letter: (direction[axis] ?? 0) > 0 ? plus : minus, size: Math.abs(direction[axis] ?? 0) }))
    .filter(({ size }) => size > 0.3)
    .sort((a, b) => b.size - a.size)
    .slice(0, 2)
    .map(({ letter }) => letter)
    .join('');
}

/** True when the sides of the patient are known. */
export function isOriented(image: Image | undefined): boolean {
  return image?.orientation !== undefined || image?.patientOrientation !== undefined;
}

/** Letters of an image that was turned by quarters, then mirrored. */
export function edgeLetters(image: Image, turns: number, flipped: boolean): Letters | undefined {
  const sides = sidesOf(image);
  if (sides === undefined) return undefined;
  const [right, down, left, up] = sides;
  let edges = [up, right, down, left];
  // The picture is mirrored first and turned then, as it is drawn.
  if (flipped) edges = [up, left, down, right];
  for (let turn = 0; turn < turns; turn += 1) edges = [edges[3] ?? '', edges[0] ?? '', edges[1] ?? '', edges[2] ?? ''];
  return edges as Letters;
}

/** Letters of the side to which a direction points, in the coordinates of the rows and columns of an image without a place. */
export function sideOf(image: Image, [along = 0, down = 0]: readonly number[]): string {
  const sides = sidesOf(image);
  if (sides === undefined) return '';
  if (Math.abs(along) > Math.abs(down)) return sides[along > 0 ? 0 : 2];
  return sides[down > 0 ? 1 : 3];
}

/** What lies right, down, left and up in the image as it is stored. */
function sidesOf(image: Image): [string, string, string, string] | undefined {
  if (image.orientation !== undefined) {
    const right = image.orientation.slice(0, 3);
    const down = image.orientation.slice(3, 6);
    const opposite = (direction: number[]): number[] => direction.map((value) => -value);
    return [lettersOf(right), lettersOf(down), lettersOf(opposite(right)), lettersOf(opposite(down))];
  }
  if (image.patientOrientation === undefined) return undefined;
  const [right, down] = image.patientOrientation;
  return [right, down, across(right), across(down)];
}

function across(letters: string): string {
  const other: Record<string, string> = { L: 'R', R: 'L', A: 'P', P: 'A', H: 'F', F: 'H' };
  return [...letters].map((letter) => other[letter] ?? letter).join('');
}
