/** RLE Lossless (PS3.5 annex G). */

/**
 * Decodes one frame into samples in little endian, colour by pixel.
 *
 * The size of the result comes from the caller; segments that are too short leave zeros.
 */
export function decodeRle(data: Uint8Array, pixels: number, samples: number, bytesPerSample: number): Uint8Array {
  const header = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const segments = samples * bytesPerSample;
  if (data.byteLength < 64 || header.getUint32(0, true) !== segments) throw new Error('RLE header');
  const out = new Uint8Array(pixels * segments);
  const stride = segments;
  for (let segment = 0; segment < segments; segment += 1) {
    const start = header.getUint32(4 + 4 * segment, true);
    const next = segment + 1 < segments ? header.getUint32(8 + 4 * segment, true) : data.byteLength;
    const end = Math.min(next > start ? next : data.byteLength, data.byteLength);
    // The most significant byte of a sample comes first.
    const sample = Math.floor(segment / bytesPerSample);
    const byte = bytesPerSample - 1 - (segment % bytesPerSample);
    unpack(data.subarray(start, end), out, sample * bytesPerSample + byte, stride, pixels);
  }
  return out;
}

function unpack(source: Uint8Array, out: Uint8Array, offset: number, stride: number, count: number): void {
  let at = 0;
  let written = 0;
  while (at < source.length && written < count) {
    const control = source[at] ?? 128;
    at += 1;
    if (control < 128) {
      for (let n = Math.min(control + 1, count - written, source.length - at); n > 0; n -= 1) {
        out[offset + stride * written] = source[at] ?? 0;
        written += 1;
        at += 1;
      }
    } else if (control > 128) {
      const value = source[at] ?? 0;
      at += 1;
      for (let n = Math.min(257 - control, count - written); n > 0; n -= 1) {
        out[offset + stride * written] = value;
        written += 1;
      }
    }
  }
}
