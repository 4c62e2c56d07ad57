/** The images of one series in viewing order; at first those already known, later all. */

import { type Image, imagesOf, inViewingOrder } from '../dicom/image';
import { type DataSet, text } from '../dicom/json';
import { fetchInstances, fetchMetadata, type Series } from '../dicom/web';
import { ViewerError } from '../errors';

/** Modalities whose objects are no images to look at. */
const DOCUMENTS = new Set(['SR', 'KO', 'PR', 'DOC', 'RTSTRUCT', 'RTPLAN', 'RTDOSE', 'REG', 'PLAN', 'FID', 'RWV']);

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
  readonly #whole = new Map<string, Promise<Stack>>();

  /**
   * One image of the series as soon as possible: the middle one, which tells more than the first.
   * The whole series follows with `whole`.
   */
  async first(series: Series): Promise<Stack> {
    const stack = this.#stack(series);
    if (stack.images.length > 0) return stack;
    const instances = await fetchInstances(series);
    const middle = instances[instances.length >> 1];
    if (middle === undefined) throw new ViewerError('missing', "Cette série n'a pas d'image.");
    const sets = await fetchMetadata(series, middle.uid);
    // `whole` may have been quicker.
    if (stack.images.length === 0) stack.images = await imagesOfAll(sets, series);
    return stack;
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
