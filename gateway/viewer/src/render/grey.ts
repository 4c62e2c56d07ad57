/** From stored values to grey levels (PS3.3 C.11.1, C.11.2; PS3.4 N.2.1). */

import type { Pixels } from '../codecs/samples';
import type { Image, Lut, Window } from '../dicom/image';

/** How values of interest become grey levels. */
export type Voi =
  | { kind: 'window'; window: Window; shape: 'LINEAR' | 'LINEAR_EXACT' | 'SIGMOID' }
  | { kind: 'lut'; lut: Lut };

/** The look that the image asks for itself: its first window, its table, or all that it holds. */
export function defaultVoi(image: Image, pixels: Pixels): Voi {
  const window = image.windows[0];
  if (window !== undefined) return { kind: 'window', window, shape: image.voiFunction };
  if (image.voiLut !== undefined) return { kind: 'lut', lut: image.voiLut };
  return fullRange(image, pixels);
}

/** A window from the smallest to the greatest value of the frame. */
export function fullRange(image: Image, pixels: Pixels): Voi {
  const ends = [modality(image, pixels.min), modality(image, pixels.max)];
  const low = Math.min(...ends);
  const width = Math.max(Math.max(...ends) - low, 1);
  return { kind: 'window', window: { center: low + width / 2, width }, shape: 'LINEAR_EXACT' };
}

/** Stored value → value of the modality: Hounsfield units, optical density… */
export function modality(image: Image, stored: number): number {
  const lut = image.modalityLut;
  return lut === undefined ? stored * image.slope + image.intercept : lookup(lut, stored);
}

/** Value of the modality → 0–255. */
export function greyOf(voi: Voi, value: number): number {
  if (voi.kind === 'lut') return (lookup(voi.lut, value) / (2 ** voi.lut.bits - 1)) * 255;
  const { center, width } = voi.window;
  switch (voi.shape) {
    case 'SIGMOID':
      return 255 / (1 + Math.exp((-4 * (value - center)) / width));
    case 'LINEAR_EXACT':
      return clamp(((value - center) / width + 0.5) * 255);
    case 'LINEAR':
      // A width of 1 is a threshold (C.11.2.1.2.1).
      if (width <= 1) return value <= center - 0.5 ? 0 : 255;
      return clamp(((value - (center - 0.5)) / (width - 1) + 0.5) * 255);
  }
}

/** Writes the frame as RGBA. `inverse` is the image's own, or the reader's wish against it. */
export function paint(image: Image, pixels: Pixels, voi: Voi, inverse: boolean, out: Uint8ClampedArray): void {
  const rgba = new Uint32Array(out.buffer, out.byteOffset, out.length >> 2);
  const { data } = pixels;
  if (pixels.channels === 3) {
    const flip = inverse ? 0xffffff : 0;
    for (let at = 0, from = 0; at < rgba.length; at += 1, from += 3) {
      const packed = (data[from] ?? 0) | ((data[from + 1] ?? 0) << 8) | ((data[from + 2] ?? 0) << 16);
      rgba[at] = ((packed ^ flip) | 0xff000000) >>> 0;
    }
    return;
  }
  if (image.palette !== undefined) {
    paintPalette(image.palette, data, inverse, rgba);
    return;
  }
  const grey = (stored: number): number => {
    const level = Math.round(greyOf(voi, modality(image, stored)));
    return inverse ? 255 - level : level;
  };
  const pack = (level: number): number => (0xff000000 | (level << 16) | (level << 8) | level) >>> 0;
  if (pixels.max - pixels.min < 65_536 && Number.isInteger(pixels.min) && Number.isInteger(pixels.max) && !image.float) {
    const table = Uint32Array.from({ length: pixels.max - pixels.min + 1 }, (_, at) => pack(grey(at + pixels.min)));
    for (let at = 0; at < rgba.length; at += 1) rgba[at] = table[(data[at] ?? 0) - pixels.min] ?? 0;
  } else {
    for (let at = 0; at < rgba.length; at += 1) rgba[at] = pack(grey(data[at] ?? 0));
  }
}

function paintPalette(palette: [Lut, Lut, Lut], data: Pixels['data'], inverse: boolean, rgba: Uint32Array): void {
  const flip = inverse ? 0xffffff : 0;
  const cache = new Map<number, number>();
  // Some devices declare 16 bits and fill eight.
  const shifts = palette.map((lut) => (lut.bits > 8 && lut.data.some((entry) => entry > 255) ? lut.bits - 8 : 0));
  for (let at = 0; at < rgba.length; at += 1) {
    const stored = data[at] ?? 0;
    let packed = cache.get(stored);
    if (packed === undefined) {
      const [red, green, blue] = palette.map((lut, channel) => (lookup(lut, stored) >> (shifts[channel] ?? 0)) & 255);
      packed = (((red ?? 0) | ((green ?? 0) << 8) | ((blue ?? 0) << 16)) ^ flip | 0xff000000) >>> 0;
      cache.set(stored, packed);
    }
    rgba[at] = packed;
  }
}

function lookup(lut: Lut, value: number): number {
  const at = Math.min(Math.max(Math.round(value) - lut.first, 0), lut.data.length - 1);
  return lut.data[at] ?? 0;
}

function clamp(level: number): number {
  return level < 0 ? 0 : level > 255 ? 255 : level;
}
