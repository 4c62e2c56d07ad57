/** The images of one series in viewing order; at first those already known, later all. */

import { type Image, imagesOf, inViewingOrder } from '../dicom/image';
import { type DataSet, text } from '../dicom/json';
import { fetchInstances, fetchMetadata, type Series } from '../dicom/web';
import { asViewerError, ViewerError } from '../errors';
import type { Frames } from '../frames';

/** Modalities whose objects are no images to look at. */
const DOCUMENTS = new Set(['SR', 'KO', 'PR', 'DOC', 'RTSTRUCT', 'RTPLAN', 'RTDOSE', 'REG', 'PLAN', 'FID', 'RWV']);

/** Modalities whose images are mostly of one frame, and compressed by JPEG-LS where they are. */
const SECTIONS = new Set(['CT', 'MR']);
const JPEG_LS = '1.2.840.10008.1.2.4.80';
const TRANSFER_SYNTAX = '00083002';

/** True when a series is read and not looked at. */
export function isDocument(series: Series): boolean {
  return DOCUMENTS.has(series.modality);
}

/** The images of a series. */
export class Stack {
  images: Image[] = [];
  /** Every image is known. */
  complete = false;

  constructor(readonly series: Series) {}

  /** Where an image is, or the nearest valid place. */
  indexOf(image: Image | undefined): number {
    const at = this.images.findIndex((other) => other.instance === image?.instance && other.frame === image.frame);
    return Math.max(at, 0);
  }
}

/** Loads the stacks of the page, each once. */
export class Stacks {
  readonly #stacks = new Map<string, Stack>();
  readonly #first = new Map<string, Promise<Stack>>();
  readonly #whole = new Map<string, Promise<Stack>>();

  constructor(private readonly frames: Frames) {}

  /**
   * One image of the series as soon as possible: the middle one, which tells more than the first.
   * The whole series follows with `whole`.
   */
  first(series: Series): Promise<Stack> {
    const known = this.#first.get(series.uid);
    if (known !== undefined) return known;
    const promise = this.#loadFirst(series);
    promise.catch(() => this.#first.delete(series.uid));
    this.#first.set(series.uid, promise);
    return promise;
  }

  async #loadFirst(series: Series): Promise<Stack> {
    const stack = this.#stack(series);
    if (stack.images.length > 0) return stack;
    const sets = (await this.#told(series)) ?? (await this.#found(series));
    // `whole` may have been quicker.
    if (stack.images.length === 0) stack.images = await imagesOfAll(sets, series);
    return stack;
  }

  /** Metadata of the instance that the exam told; none when it told none, or one that is there no more. */
  async #told(series: Series): Promise<DataSet[] | undefined> {
    if (series.middle === '') return undefined;
    if (SECTIONS.has(series.modality)) {
      // One way and back instead of three: the frame and its codec do not wait for the metadata.
      this.frames.expect({ study: series.study, series: series.uid, instance: series.middle, frame: 1 });
      this.frames.warm(JPEG_LS);
    }
    try {
      const sets = await fetchMetadata(series, series.middle);
      this.frames.warm(text(sets[0], TRANSFER_SYNTAX));
      return sets;
    } catch (thrown) {
      if (asViewerError(thrown).kind !== 'missing') throw thrown;
      return undefined;
    }
  }

  /** Metadata of the instance in the middle of those that are found. */
  async #found(series: Series): Promise<DataSet[]> {
    const instances = await fetchInstances(series);
    const middle = instances[instances.length >> 1];
    if (middle === undefined) throw new ViewerError('missing', "Cette série n'a pas d'image.");
    return fetchMetadata(series, middle.uid);
  }

  /** Every image of the series, in viewing order. */
  whole(series: Series): Promise<Stack> {
    const known = this.#whole.get(series.uid);
    if (known !== undefined) return known;
    const promise = fetchMetadata(series).then(async (sets) => {
      const stack = this.#stack(series);
      stack.images = inViewingOrder(await imagesOfAll(sets, series));
      stack.complete = true;
      if (stack.images.length === 0) throw new ViewerError('missing', "Cette série n'a pas d'image.");
      return stack;
    });
    promise.catch(() => this.#whole.delete(series.uid));
    this.#whole.set(series.uid, promise);
    return promise;
  }

  #stack(series: Series): Stack {
    const stack = this.#stacks.get(series.uid) ?? new Stack(series);
    this.#stacks.set(series.uid, stack);
    return stack;
  }
}

async function imagesOfAll(sets: DataSet[], series: Series): Promise<Image[]> {
  const images = await Promise.all(sets.map((set) => imagesOf(complete(set, series))));
  return images.flat();
}

/** Metadata name their study and series; an answer that does not is still of this one. */
function complete(set: DataSet, series: Series): DataSet {
  const named = { ...set };
  if (text(set, '0020000D') === '') named['0020000D'] = { vr: 'UI', Value: [series.study] };
  if (text(set, '0020000E') === '') named['0020000E'] = { vr: 'UI', Value: [series.uid] };
  return named;
}
