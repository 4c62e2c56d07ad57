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

/** Letters of an image that was turned by quarters, then mirrored. */
export function edgeLetters(image: Image, turns: number, flipped: boolean): Letters | undefined {
  if (image.orientation === undefined) return undefined;
  const right = image.orientation.slice(0, 3);
  const down = image.orientation.slice(3, 6);
  const opposite = (direction: number[]): number[] => direction.map((value) => -value);
  let edges = [opposite(down), right, down, opposite(right)].map(lettersOf);
  // The picture is mirrored first and turned then, as it is drawn.
  if (flipped) edges = [edges[0] ?? '', edges[3] ?? '', edges[2] ?? '', edges[1] ?? ''];
  for (let turn = 0; turn < turns; turn += 1) edges = [edges[3] ?? '', edges[0] ?? '', edges[1] ?? '', edges[2] ?? ''];
  return edges as Letters;
}
