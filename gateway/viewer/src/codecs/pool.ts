/** A few decoding workers, and the frames that wait for one. */

import type { PixelModel } from '../dicom/image';
import { ViewerError } from '../errors';
import type { Pixels } from './samples';
import type { Done, Job, Warming } from './worker';

/** What became of a frame. */
export type Outcome = { pixels: Pixels; transferSyntax: string } | { unsupported: true; transferSyntax: string };

interface Slot {
  worker: Worker;
  job: number | undefined;
}

interface Waiting {
  job: Job;
  settle: { resolve: (outcome: Outcome) => void; reject: (error: unknown) => void };
}

/** Decodes frames, each in one of at most `size` workers, in the order of arrival. */
export class DecodePool {
  readonly #slots: Slot[] = [];
  readonly #queue: Waiting[] = [];
  readonly #running = new Map<number, Waiting['settle']>();
  #next = 1;

  constructor(readonly size: number) {
    // The first worker starts while the page still asks what there is to show.
    this.#start();
  }

  /** Decodes the answer to a request of a frame. Takes `body` over. */
  decode(body: ArrayBuffer, contentType: string, image: PixelModel): Promise<Outcome> {
    const { rows, columns, samples, photometric, planar, bitsAllocated, bitsStored, highBit, signed, float, overlayBits } = image;
    const model = { rows, columns, samples, photometric, planar, bitsAllocated, bitsStored, highBit, signed, float, overlayBits };
    return new Promise((resolve, reject) => {
      const job = { id: this.#next, body, contentType, image: model };
      this.#next += 1;
      this.#queue.push({ job, settle: { resolve, reject } });
      this.#pump();
    });
  }

  /** Has the first worker fetch what it needs for a transfer syntax, before there is a frame to decode. */
  warm(transferSyntax: string): void {
    const order: Warming = { warm: transferSyntax };
    this.#slots[0]?.worker.postMessage(order);
  }

  /** Ends the workers. */
  dispose(): void {
    for (const slot of this.#slots) slot.worker.terminate();
    this.#slots.length = 0;
  }

  #pump(): void {
    let free = this.#slots.find((slot) => slot.job === undefined);
    if (free === undefined && this.#slots.length < this.size) free = this.#start();
    if (free === undefined) return;
    const waiting = this.#queue.shift();
    if (waiting === undefined) return;
    free.job = waiting.job.id;
    this.#running.set(waiting.job.id, waiting.settle);
    free.worker.postMessage(waiting.job, [waiting.job.body]);
    this.#pump();
  }

  #start(): Slot {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
    const slot: Slot = { worker, job: undefined };
    worker.addEventListener('message', (event: MessageEvent<Done>) => this.#done(slot, event.data));
    worker.addEventListener('error', () => {
      // A lost worker takes its frame with it, and is replaced at the next one.
      const settle = slot.job === undefined ? undefined : this.#running.get(slot.job);
      if (slot.job !== undefined) this.#running.delete(slot.job);
      const at = this.#slots.indexOf(slot);
      if (at >= 0) this.#slots.splice(at, 1);
      worker.terminate();
      settle?.reject(new ViewerError('unreadable', "Cette image n'a pas pu être décodée."));
      if (settle) this.#pump();
    });
    this.#slots.push(slot);
    return slot;
  }

  #done(slot: Slot, done: Done): void {
    const settle = this.#running.get(done.id);
    this.#running.delete(done.id);
    slot.job = undefined;
    if ('pixels' in done) settle?.resolve({ pixels: done.pixels, transferSyntax: done.transferSyntax });
    else if (done.unsupported) settle?.resolve({ unsupported: true, transferSyntax: done.transferSyntax });
    else settle?.reject(new ViewerError('unreadable', "Cette image n'a pas pu être décodée."));
    this.#pump();
  }
}
