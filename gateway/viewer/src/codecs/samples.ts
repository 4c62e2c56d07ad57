/** Bytes of a frame → samples as the modality meant them: sign, bits in use, colour by pixel. */

import type { PixelModel } from '../dicom/image';

/** Samples of one frame. */
export interface Pixels {
  /** One value a pixel, or three of 0–255 (R, G, B). */
  data: Int16Array | Uint16Array | Uint8Array | Int32Array | Uint32Array | Float32Array;
  channels: 1 | 3;
  min: number;
  max: number;
  /** Graphics that lay in unused bits of the samples, one byte a point, as `overlayBits` names them. */
  graphics?: Uint8Array[];
}

/** What a decoder returned. */
export interface Decoded {
  bytes: Uint8Array;
  /** Bits of a sample as it lies in `bytes`: 1, 8, 16 or 32 (64 for doubles). */
  bits: number;
  samples: number;
  /** Planes of colour one after the other. */
  planar: boolean;
  /** PS3.3 C.7.6.3.1.2; what the decoder made of it. */
  photometric: string;
  /** Bits that count, from the lowest up. */
  bitsStored: number;
  highBit: number;
}

/** Samples of one frame. Throws when there are fewer than the image has. */
export function samplesOf(decoded: Decoded, image: PixelModel): Pixels {
  const count = image.rows * image.columns;
  if (decoded.samples === 3) return { data: colour(decoded, image), channels: 3, min: 0, max: 255 };
  const graphics = graphicsOf(decoded, image, count);
  const data = grey(decoded, image, count);
  let min = Infinity;
  let max = -Infinity;
  for (const value of data) {
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return { data, channels: 1, min, max, ...(graphics.length > 0 ? { graphics } : {}) };
}

/** Taken before the bits beside the stored ones are cleared. */
function graphicsOf(decoded: Decoded, image: PixelModel, count: number): Uint8Array[] {
  const size = decoded.bits >> 3;
  if (size !== 1 && size !== 2) return [];
  need(decoded.bytes, count * size);
  return image.overlayBits.map((bit) => {
    const from = bit >> 3;
    const shift = bit & 7;
    return from < size ? Uint8Array.from({ length: count }, (_, at) => ((decoded.bytes[at * size + from] ?? 0) >> shift) & 1) : new Uint8Array(count);
  });
}

function grey(decoded: Decoded, image: PixelModel, count: number): Pixels['data'] {
  const { bytes, bits } = decoded;
  if (bits === 1) return Uint8Array.from({ length: count }, (_, at) => ((bytes[at >> 3] ?? 0) >> (at & 7)) & 1);
  need(bytes, (count * bits) / 8);
  if (image.float) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return Float32Array.from({ length: count }, (_, at) =>
      bits === 64 ? view.getFloat64(8 * at, true) : view.getFloat32(4 * at, true),
    );
  }
  if (bits === 8) {
    const used = bytes.slice(0, count);
    if (image.signed) return Int16Array.from(used, (value) => (value << 24) >> 24);
    return mask(used, decoded, 8);
  }
  const aligned = bytes.slice(0, (count * bits) / 8).buffer;
  if (bits === 32) return image.signed ? new Int32Array(aligned) : new Uint32Array(aligned);
  const words = new Uint16Array(aligned);
  if (!image.signed) return mask(words, decoded, 16);
  const up = 31 - decoded.highBit;
  const down = 32 - decoded.bitsStored;
  const signed = new Int16Array(aligned);
  for (let at = 0; at < words.length; at += 1) signed[at] = ((words[at] ?? 0) << up) >> down;
  return signed;
}

/** Clears the bits beside the stored ones: overlays of old devices live there. */
function mask<T extends Uint8Array | Uint16Array>(data: T, decoded: Decoded, bits: number): T {
  const shift = decoded.highBit + 1 - decoded.bitsStored;
  if (decoded.bitsStored >= bits && shift === 0) return data;
  const kept = 2 ** decoded.bitsStored - 1;
  for (let at = 0; at < data.length; at += 1) data[at] = ((data[at] ?? 0) >> shift) & kept;
  return data;
}

function colour(decoded: Decoded, image: PixelModel): Uint8Array {
  const count = image.rows * image.columns;
  const out = new Uint8Array(3 * count);
  const bytes = decoded.bits === 16 ? high(decoded) : decoded.bytes;
  if (decoded.photometric === 'YBR_FULL_422' && !decoded.planar && bytes.length < 3 * count) {
    // Two luminances share a pair of chrominances (PS3.3 C.7.6.3.1.2).
    need(bytes, 2 * count);
    for (let at = 0; at < count; at += 1) {
      const pair = (at >> 1) * 4;
      rgb(out, 3 * at, bytes[pair + (at & 1)] ?? 0, bytes[pair + 2] ?? 0, bytes[pair + 3] ?? 0);
    }
    return out;
  }
  need(bytes, 3 * count);
  const [step, plane] = decoded.planar ? [1, count] : [3, 1];
  const luminance = decoded.photometric.startsWith('YBR_FULL');
  for (let at = 0; at < count; at += 1) {
    const a = bytes[step * at] ?? 0;
    const b = bytes[step * at + plane] ?? 0;
    const c = bytes[step * at + 2 * plane] ?? 0;
    if (luminance) {
      rgb(out, 3 * at, a, b, c);
    } else {
      out[3 * at] = a;
      out[3 * at + 1] = b;
      out[3 * at + 2] = c;
    }
  }
  return out;
}

function rgb(out: Uint8Array, at: number, y: number, cb: number, cr: number): void {
  out[at] = clamp(y + 1.402 * (cr - 128));
  out[at + 1] = clamp(y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128));
  out[at + 2] = clamp(y + 1.772 * (cb - 128));
}

/** The upper eight of the stored bits of each 16-bit sample. */
function high(decoded: Decoded): Uint8Array {
  const { bytes, bitsStored } = decoded;
  const shift = Math.max(bitsStored - 8, 0);
  const out = new Uint8Array(bytes.length >> 1);
  for (let at = 0; at < out.length; at += 1) {
    out[at] = ((bytes[2 * at] ?? 0) | ((bytes[2 * at + 1] ?? 0) << 8)) >> shift;
  }
  return out;
}

function clamp(value: number): number {
  return value < 0 ? 0 : value > 255 ? 255 : Math.round(value);
}

function need(bytes: Uint8Array, length: number): void {
  if (bytes.length < length) throw new Error('frame shorter than its image');
}
