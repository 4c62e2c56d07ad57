/** What shows a stack: the light canvas of the first page, or the tools loaded on need. */

import type { Image, Window } from '../dicom/image';
import type { Letters } from './orientation';
import type { Stack } from './stack';

/** What the pointer does. */
export type Mode = 'scroll' | 'window' | 'zoom' | 'pan';

/** State that the page shows around the image. */
export interface Shown {
  stack: Stack | undefined;
  index: number;
  image: Image | undefined;
  window: Window | undefined;
  /** Screen pixels per image pixel. */
  zoom: number;
  lossy: boolean;
  letters: Letters | undefined;
  /** The view names its series itself. */
  captioned: boolean;
  loading: boolean;
  /** What more than the image is being made ready, and how far it is. */
  progress: string | undefined;
  error: string | undefined;
}

/** A view of stacks. Calls `changed` after every change of `shown`. */
export interface Viewer {
  readonly element: HTMLElement;
  readonly shown: Shown;
  show(stack: Stack, index: number): void;
  goTo(index: number): void;
  setMode(mode: Mode): void;
  setWindow(window: Window | 'default' | 'full'): void;
  invert(): void;
  rotate(): void;
  flip(): void;
  reset(): void;
  /** Lays the graphics of the images over them, or takes them away. */
  setOverlays(on: boolean): void;
  actualSize(): void;
  zoomBy(factor: number): void;
  panBy(x: number, y: number): void;
  /** The picture as it is seen, for print. */
  snapshot(): HTMLElement[];
  dispose(): void;
}
