/** Decoded frames: asked for once, kept within a number of bytes, those on screen first. */

import { DecodePool } from './codecs/pool';
import type { Pixels } from './codecs/samples';
import type { Image } from './dicom/image';
import { fetchFrame, type FrameRequest } from './dicom/web';
import { isAbort, ViewerError } from './errors';
import { markOnce } from './marks';

/** A frame ready to show. */
export interface Frame {
  pixels: Pixels;
  /** In which it is stored, whoever decoded it. */
  transferSyntax: string;
  /** A picture made by the server: its window is already applied. */
  rendered: boolean;
}

interface Entry {
  promise: Promise<Frame>;
  frame: Frame | undefined;
  abort: AbortController;
  wanted: boolean;
}

/** JPEG baseline, extended, JPEG-LS near-lossless, JPEG 2000, HTJ2K and JPEG XL that may lose. */
const LOSSY = new Set(
  ['50', '51', '81', '91', '203', '112'].map((last) => `1.2.840.10008.1.2.4.${last}`),
);
const PARALLEL = 4;

/** The frames of the page. */
export class Frames {
  readonly #pool: DecodePool;
  readonly #entries = new Map<string, Entry>();
  /** Transfer syntaxes that the server decodes. */
  readonly #byServer = new Set<string>();
  /** Answers that were asked for before the image was known. */
  readonly #expected = new Map<string, ReturnType<typeof fetchFrame>>();
  readonly #end = new AbortController();
  #ahead: Image[] = [];
  #active = 0;
  /** More than one image was ever wanted. */
  #promised = false;
  #bytes = 0;

  constructor(readonly limit = memoryLimit()) {
    this.#pool = new DecodePool(Math.min(Math.max((navigator.hardwareConcurrency || 2) - 1, 1), 4));
  }

  /** The frame if it is there already. */
  peek(image: Image): Frame | undefined {
    return this.#entries.get(keyOf(image))?.frame;
  }

  /** The frame of an image that somebody looks at. */
  get(image: Image): Promise<Frame> {
    return this.#entry(image, true).promise;
  }

  /** Asks for the frame of an image that is not known yet: `get` takes the answer when it is. */
  expect(frame: FrameRequest): void {
    const key = keyOf(frame);
    if (this.#entries.has(key) || this.#expected.has(key)) return;
    const answer = fetchFrame(frame, 'stored', this.#end.signal);
    // Whoever wants the image is told why it does not come.
    answer.catch(() => undefined);
    this.#expected.set(key, answer);
  }

  /** Says that frames of this transfer syntax are on their way: what decodes them is fetched meanwhile. */
  warm(transferSyntax: string): void {
    this.#pool.warm(transferSyntax);
  }

  /** What will be looked at next, nearest first. Replaces what was said before. */
  prefetch(images: Image[]): void {
    const stills = images.filter((image) => image.video === undefined);
    const room = stills.slice(0, this.#framesWithin(stills[0]));
    const keys = new Set(room.map(keyOf));
    for (const [key, entry] of this.#entries) {
      // A quick scroll leaves requests behind that nobody waits for any more.
      if (entry.frame === undefined && !entry.wanted && !keys.has(key)) entry.abort.abort();
    }
    this.#ahead = room;
    this.#promised ||= room.length > 0;
    this.#pump();
  }

  /** Bytes of decoded frames. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Forgets everything and ends the workers. */
  dispose(): void {
    this.#end.abort();
    for (const entry of this.#entries.values()) entry.abort.abort();
    this.#entries.clear();
    this.#expected.clear();
    this.#ahead = [];
    this.#pool.dispose();
  }

  #framesWithin(image: Image | undefined): number {
    if (image === undefined) return 0;
    const size = image.rows * image.columns * (image.samples === 3 ? 3 : Math.max(image.bitsAllocated / 8, 1));
    return Math.max(Math.floor((0.8 * this.limit) / size), 1);
  }

  #pump(): void {
    while (this.#active < PARALLEL) {
      const image = this.#ahead.shift();
      if (image === undefined) {
        if (this.#active === 0 && this.#promised) markOnce('drimbox:series-ready');
        return;
      }
      if (this.#entries.has(keyOf(image))) continue;
      this.#active += 1;
      this.#entry(image, false)
        .promise.catch(() => undefined)
        .finally(() => {
          this.#active -= 1;
          this.#pump();
        });
    }
  }

  #entry(image: Image, wanted: boolean): Entry {
    const key = keyOf(image);
    const known = this.#entries.get(key);
    if (known !== undefined) {
      known.wanted ||= wanted;
      // Used last, dropped last.
      this.#entries.delete(key);
      this.#entries.set(key, known);
      return known;
    }
    const abort = new AbortController();
    const entry: Entry = { promise: this.#load(image, abort.signal), frame: undefined, abort, wanted };
    this.#entries.set(key, entry);
    entry.promise.then(
      (frame) => {
        entry.frame = frame;
        this.#bytes += frame.pixels.data.byteLength;
        this.#shrink(key);
      },
      () => {
        if (this.#entries.get(key) === entry) this.#entries.delete(key);
      },
    );
    return entry;
  }

  #shrink(newest: string): void {
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.limit) return;
      if (entry.frame === undefined || key === newest) continue;
      this.#bytes -= entry.frame.pixels.data.byteLength;
      this.#entries.delete(key);
    }
  }

  /** An answer serves once: its bytes go to the decoder. */
  #takeExpected(image: Image): ReturnType<typeof fetchFrame> | undefined {
    const key = keyOf(image);
    const answer = this.#expected.get(key);
    this.#expected.delete(key);
    return answer;
  }

  async #load(image: Image, signal: AbortSignal): Promise<Frame> {
    let { stored } = image;
    if (!this.#byServer.has(stored)) {
      const answer = await (this.#takeExpected(image) ?? fetchFrame(image, 'stored', signal));
      const outcome = await this.#pool.decode(answer.body, answer.type, image);
      if ('pixels' in outcome) return { ...outcome, rendered: false };
      stored = outcome.transferSyntax;
      this.#byServer.add(stored);
    }
    try {
      const answer = await fetchFrame(image, 'decoded', signal);
      const outcome = await this.#pool.decode(answer.body, answer.type, image);
      // What was lost is lost, however the samples come.
      if ('pixels' in outcome) return { ...outcome, transferSyntax: stored, rendered: false };
    } catch (error) {
      // The server may know the picture and not the samples.
      if (isAbort(error) || (error instanceof ViewerError && error.kind === 'ended')) throw error;
    }
    return renderedFrame(image, signal);
  }
}

/** True when what is shown may have lost something (PS3.3 C.7.6.1.1.5). */
export function isLossy(image: Image, frame: Frame | undefined): boolean {
  return image.lossy || (frame !== undefined && (frame.rendered || LOSSY.has(frame.transferSyntax)));
}

async function renderedFrame(image: Image, signal: AbortSignal): Promise<Frame> {
  const answer = await fetchFrame(image, 'rendered', signal);
  const bitmap = await createImageBitmap(new Blob([answer.body], { type: 'image/jpeg' }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d');
  if (context === null || bitmap.width !== image.columns || bitmap.height !== image.rows) {
    throw new ViewerError('unreadable', "Cette image n'a pas pu être affichée.");
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const data = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    data[to] = rgba[from] ?? 0;
    data[to + 1] = rgba[from + 1] ?? 0;
    data[to + 2] = rgba[from + 2] ?? 0;
  }
  return { pixels: { data, channels: 3, min: 0, max: 255 }, transferSyntax: '', rendered: true };
}

/** Bytes of decoded frames that this device may hold: a phone's tab is ended beyond some 200 MB. */
function memoryLimit(): number {
  const small = matchMedia('(pointer: coarse)').matches || ((navigator as { deviceMemory?: number }).deviceMemory ?? 8) < 4;
  return (small ? 96 : 512) * 1024 * 1024;
}

function keyOf(image: { instance: string; frame: number }): string {
  return `${image.instance}/${image.frame}`;
}
