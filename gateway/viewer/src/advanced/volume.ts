/** The loading of a volume, image after image: how far it is, and its end. */

import { Enums, eventTarget, type Types } from '@cornerstonejs/core';

const { IMAGE_RENDERED, IMAGE_VOLUME_MODIFIED, IMAGE_VOLUME_LOADING_COMPLETED } = Enums.Events;
/** Milliseconds between two drawings of planes whose images are still coming. */
const REDRAW = 1000;

/** What the library keeps of a volume and does not declare. */
interface Streaming extends Types.IStreamingImageVolume {
  loadStatus: { loaded: boolean };
  /** It draws every view at every fiftieth of the images. */
  autoRenderOnLoad: boolean;
  framesLoaded: number;
}

/** Who follows the loading of a volume. */
export interface Follower {
  /** How far it is, in words. */
  tell(text: string): void;
  /** So much more is there that the views are worth drawing. */
  draw(): void;
  /** Nothing more will come; so many images could not be read. */
  ended(lacking: number): void;
}

/** Loads what a volume lacks; the function returned ends the interest of its follower. */
export function loadVolume(loaded: Types.IStreamingImageVolume, follower: Follower): () => void {
  const volume = loaded as Streaming;
  const count = volume.imageIds.length;
  const end = (): void => follower.ended(count - volume.framesLoaded);
  if (volume.loadStatus.loaded) {
    end();
    return () => undefined;
  }
  let told = -1;
  let drawn = performance.now();
  const isOwn = (event: Event): boolean => (event as CustomEvent<{ volumeId: string }>).detail.volumeId === volume.volumeId;
  const came = (event: Event): void => {
    if (!isOwn(event)) return;
    const part = 5 * Math.floor((20 * volume.framesLoaded) / count);
    if (part !== told) {
      told = part;
      follower.tell(`Préparation des trois plans : ${part} %`);
    }
    if (performance.now() - drawn < REDRAW) return;
    drawn = performance.now();
    follower.draw();
  };
  const completed = (event: Event): void => {
    if (!isOwn(event)) return;
    stop();
    end();
  };
  const stop = (): void => {
    eventTarget.removeEventListener(IMAGE_VOLUME_MODIFIED, came);
    eventTarget.removeEventListener(IMAGE_VOLUME_LOADING_COMPLETED, completed);
  };
  eventTarget.addEventListener(IMAGE_VOLUME_MODIFIED, came);
  eventTarget.addEventListener(IMAGE_VOLUME_LOADING_COMPLETED, completed);
  volume.autoRenderOnLoad = false;
  // Nothing new when it is under way already and the reader comes back to it.
  volume.load();
  return stop;
}

/** Runs once every one of the views has been drawn again. */
export function onceDrawn(ports: HTMLElement[], run: () => void): void {
  const waiting = new Set(ports);
  for (const port of ports) {
    const drawn = (): void => {
      waiting.delete(port);
      if (waiting.size === 0) run();
    };
    port.addEventListener(IMAGE_RENDERED, drawn, { once: true });
  }
}
