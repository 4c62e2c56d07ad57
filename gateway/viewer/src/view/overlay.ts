/** Graphics over an image (PS3.3 C.9.2) as one picture of its size. */

import type { Pixels } from '../codecs/samples';
import type { Image } from '../dicom/image';

/** Red, green, blue and alpha of a point: seen on white bone as on black air. */
const COLOUR = new Uint8Array([255, 214, 64, 255]);

/** True when something may be laid over this image. */
export function hasOverlays(image: Image): boolean {
  return image.overlays.some(({ firstFrame, frames }) => image.frame >= firstFrame && image.frame < firstFrame + frames);
}

/** The graphics of an image; none when it has none, or when they cannot be read. */
export async function overlayPicture(image: Image, pixels: Pixels): Promise<HTMLCanvasElement | undefined> {
  if (!hasOverlays(image)) return undefined;
  const canvas = document.createElement('canvas');
  canvas.width = image.columns;
  canvas.height = image.rows;
  const context = canvas.getContext('2d');
  if (context === null) return undefined;
  const data = context.createImageData(image.columns, image.rows);
  const rgba = new Uint32Array(data.data.buffer);
  const [point = 0] = new Uint32Array(COLOUR.buffer);
  for (const overlay of image.overlays) {
    const frame = image.frame - overlay.firstFrame;
    if (frame < 0 || frame >= overlay.frames) continue;
    const plane = overlay.bit === undefined ? undefined : pixels.graphics?.[image.overlayBits.indexOf(overlay.bit)];
    const packed = overlay.bit === undefined ? await overlay.load() : undefined;
    // Frames follow each other without a gap, also within a byte.
    const first = overlay.frames > image.frames ? 0 : frame * overlay.rows * overlay.columns;
    const isSet = (at: number): boolean =>
      plane === undefined ? (((packed?.[(first + at) >> 3] ?? 0) >> ((first + at) & 7)) & 1) === 1 : plane[at] === 1;
    for (let row = Math.max(0, -overlay.top); row < overlay.rows && row + overlay.top < image.rows; row += 1) {
      for (let column = Math.max(0, -overlay.left); column < overlay.columns && column + overlay.left < image.columns; column += 1) {
        if (isSet(row * overlay.columns + column)) rgba[(row + overlay.top) * image.columns + column + overlay.left] = point;
      }
    }
  }
  context.putImageData(data, 0, 0);
  return canvas;
}
