/** The light viewer: one stack on one canvas. */

import type { Image, Window } from '../dicom/image';
import { asViewerError, isAbort } from '../errors';
import { type Frame, type Frames, isLossy } from '../frames';
import { defaultVoi, fullRange, paint, type Voi } from '../render/grey';
import { markOnce } from '../marks';
import { bindGestures, type GestureTarget } from './gestures';
import { edgeLetters } from './orientation';
import { overlayPicture } from './overlay';
import type { Stack } from './stack';
import { VideoPlayer } from './video';
import type { Mode, Shown, Viewer } from './viewer';

const MAX_ZOOM = 30;
const MIN_ZOOM = 0.05;

/** One stack on one canvas, with the pointer's gestures. */
export class CanvasViewer implements Viewer, GestureTarget {
  readonly element: HTMLElement;
  readonly shown: Shown = {
    stack: undefined,
    index: 0,
    image: undefined,
    window: undefined,
    zoom: 1,
    lossy: false,
    loading: false,
    letters: undefined,
    captioned: false,
    progress: undefined,
    error: undefined,
  };
  mode: Mode = 'scroll';

  readonly #canvas = document.createElement('canvas');
  readonly #picture = document.createElement('canvas');
  readonly #observer: ResizeObserver;
  readonly #end = new AbortController();
  readonly #video = new VideoPlayer(() => this.#refuse());
  /** The graphics of the image that is shown. */
  #overlay: HTMLCanvasElement | undefined;
  #overlays = false;
  #frame: Frame | undefined;
  /** The window that the reader chose; none for the image's own. */
  #chosen: Voi | 'full' | undefined;
  #inverted = false;
  #turns = 0;
  #flipped = false;
  /** Zoom against the fit, and the shift from the middle in canvas pixels. */
  #scale: number | undefined;
  #x = 0;
  #y = 0;
  #painted = false;
  #drawn = 0;

  constructor(
    private readonly frames: Frames,
    private readonly changed: () => void,
  ) {
    this.element = document.createElement('div');
    this.element.className = 'canvas-viewer';
    this.#canvas.setAttribute('role', 'img');
    this.#canvas.setAttribute('aria-label', 'Image');
    this.element.append(this.#canvas, this.#video.element);
    bindGestures(this.element, this, this.#end.signal);
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(this.element);
  }

  show(stack: Stack, index: number): void {
    const other = this.shown.stack?.series.uid !== stack.series.uid;
    this.shown.stack = stack;
    if (other) {
      this.#chosen = undefined;
      this.#inverted = false;
      this.#turns = 0;
      this.#flipped = false;
      this.#fit();
    }
    this.goTo(index);
  }

  goTo(index: number): void {
    const stack = this.shown.stack;
    if (stack === undefined) return;
    const at = Math.min(Math.max(index, 0), stack.images.length - 1);
    const image = stack.images[at];
    if (image === undefined) return;
    this.shown.index = at;
    this.#video.play(image);
    if (image.video !== undefined) {
      this.#play(image);
      return;
    }
    const ready = this.frames.peek(image);
    if (ready !== undefined) {
      this.#set(image, ready);
    } else {
      this.shown.loading = true;
      this.shown.error = undefined;
      void this.#load(image);
    }
    this.frames.prefetch(ahead(stack.images, at));
    this.changed();
  }

  setOverlays(on: boolean): void {
    this.#overlays = on;
    this.#overlay = undefined;
    if (this.shown.image && this.#frame) this.#layOver(this.shown.image, this.#frame);
    this.#draw();
  }

  setMode(mode: Mode): void {
    this.mode = mode;
    this.element.dataset['mode'] = mode;
  }

  setWindow(window: Window | 'default' | 'full'): void {
    if (window === 'default') this.#chosen = undefined;
    else if (window === 'full') this.#chosen = 'full';
    else this.#chosen = { kind: 'window', window, shape: this.shown.image?.voiFunction ?? 'LINEAR' };
    this.#repaint();
  }

  invert(): void {
    this.#inverted = !this.#inverted;
    this.#repaint();
  }

  rotate(): void {
    this.#turns = (this.#turns + 1) % 4;
    this.#fit();
    this.#draw();
  }

  flip(): void {
    this.#flipped = !this.#flipped;
    this.#draw();
  }

  reset(): void {
    this.#chosen = undefined;
    this.#inverted = false;
    this.#turns = 0;
    this.#flipped = false;
    this.#fit();
    this.#repaint();
  }

  actualSize(): void {
    this.#scale = 1;
    this.#x = 0;
    this.#y = 0;
    this.#draw();
  }

  zoomBy(factor: number): void {
    const box = this.element.getBoundingClientRect();
    this.zoom(factor, box.width / 2, box.height / 2);
  }

  panBy(x: number, y: number): void {
    this.pan(x, y);
  }

  scroll(steps: number): void {
    this.goTo(this.shown.index + steps);
  }

  window(x: number, y: number): void {
    const { image } = this.shown;
    if (image === undefined || this.#frame === undefined || this.#frame.pixels.channels === 3) return;
    const voi = this.#voi(image, this.#frame);
    // A table has no width to change: the reader starts from all values.
    const from = voi.kind === 'window' ? voi : fullRange(image, this.#frame.pixels);
    if (from.kind !== 'window') return;
    const step = Math.max(from.window.width / 400, 0.001);
    const window = {
      center: from.window.center + y * step,
      width: Math.max(from.window.width + x * 2 * step, step),
    };
    this.#chosen = { kind: 'window', window, shape: from.shape };
    this.#repaint();
  }

  zoom(factor: number, x: number, y: number): void {
    const before = this.#zoom();
    const after = Math.min(Math.max(before * factor, MIN_ZOOM), MAX_ZOOM);
    const ratio = devicePixelRatio;
    // The point under the fingers stays there.
    const fromMiddleX = x * ratio - this.#canvas.width / 2;
    const fromMiddleY = y * ratio - this.#canvas.height / 2;
    this.#x = fromMiddleX - ((fromMiddleX - this.#x) * after) / before;
    this.#y = fromMiddleY - ((fromMiddleY - this.#y) * after) / before;
    this.#scale = after;
    this.#draw();
  }

  pan(x: number, y: number): void {
    this.#scale = this.#zoom();
    this.#x += x * devicePixelRatio;
    this.#y += y * devicePixelRatio;
    this.#draw();
  }

  snapshot(): HTMLElement[] {
    const copy = document.createElement('canvas');
    copy.width = this.#canvas.width;
    copy.height = this.#canvas.height;
    this.#render();
    copy.getContext('2d')?.drawImage(this.#canvas, 0, 0);
    return [copy];
  }

  dispose(): void {
    this.#end.abort();
    this.#observer.disconnect();
    cancelAnimationFrame(this.#drawn);
    this.#video.dispose();
    // Frees the memory of the picture at once.
    this.#picture.width = 0;
    this.#canvas.width = 0;
    this.element.remove();
  }

  async #load(image: Image): Promise<void> {
    const stillWanted = (): boolean => {
      const at = this.shown.stack?.images[this.shown.index];
      return at?.instance === image.instance && at.frame === image.frame;
    };
    try {
      const frame = await this.frames.get(image);
      if (stillWanted()) this.#set(image, frame);
    } catch (thrown) {
      if (isAbort(thrown) || !stillWanted()) return;
      this.shown.loading = false;
      this.shown.error = asViewerError(thrown).message;
      this.#frame = undefined;
      this.shown.image = image;
      this.#draw();
    }
    this.changed();
  }

  #set(image: Image, frame: Frame): void {
    const before = this.shown.image;
    if (before !== undefined && (before.rows !== image.rows || before.columns !== image.columns)) this.#fit();
    this.#frame = frame;
    this.shown.image = image;
    this.shown.loading = false;
    this.shown.error = undefined;
    this.shown.lossy = isLossy(image, frame);
    this.#overlay = undefined;
    this.#layOver(image, frame);
    this.#repaint();
  }

  /** A video is shown by its own player, in place of the picture. */
  #play(image: Image): void {
    this.#frame = undefined;
    this.#overlay = undefined;
    Object.assign(this.shown, { image, loading: false, lossy: true, window: undefined, letters: undefined, error: this.#video.refusal(image) });
    this.#draw();
    this.changed();
  }

  #refuse(): void {
    const { image } = this.shown;
    if (image?.video !== undefined) this.#play(image);
  }

  #layOver(image: Image, frame: Frame): void {
    if (!this.#overlays) return;
    overlayPicture(image, frame.pixels).then(
      (picture) => {
        if (this.#frame !== frame) return;
        this.#overlay = picture;
        this.#draw();
      },
      // The image stays without its graphics.
      () => undefined,
    );
  }

  #voi(image: Image, frame: Frame): Voi {
    if (this.#chosen === 'full') return fullRange(image, frame.pixels);
    return this.#chosen ?? defaultVoi(image, frame.pixels);
  }

  #repaint(): void {
    this.#painted = false;
    this.#draw();
  }

  #fit(): void {
    this.#scale = undefined;
    this.#x = 0;
    this.#y = 0;
  }

  #resize(): void {
    const ratio = devicePixelRatio;
    this.#canvas.width = Math.max(Math.round(this.element.clientWidth * ratio), 1);
    this.#canvas.height = Math.max(Math.round(this.element.clientHeight * ratio), 1);
    this.#render();
    // The texts around the image tell its new size.
    this.#draw();
  }

  #draw(): void {
    cancelAnimationFrame(this.#drawn);
    this.#drawn = requestAnimationFrame(() => {
      this.#render();
      this.changed();
    });
  }

  #zoom(): number {
    const { image } = this.shown;
    if (this.#scale !== undefined || image === undefined) return this.#scale ?? 1;
    const height = image.rows * image.aspect;
    const [across, down] = this.#turns % 2 === 1 ? [height, image.columns] : [image.columns, height];
    return Math.min(this.#canvas.width / across, this.#canvas.height / down);
  }

  #render(): void {
    const context = this.#canvas.getContext('2d', { alpha: false });
    if (context === null) return;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = '#000';
    context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    const { image } = this.shown;
    const frame = this.#frame;
    if (image === undefined || frame === undefined) return;
    if (!this.#painted) this.#paint(image, frame);

    const zoom = this.#zoom();
    this.shown.zoom = zoom;
    this.shown.letters = edgeLetters(image, this.#turns, this.#flipped);
    context.translate(Math.round(this.#canvas.width / 2 + this.#x), Math.round(this.#canvas.height / 2 + this.#y));
    context.rotate((this.#turns * Math.PI) / 2);
    context.scale(this.#flipped ? -zoom : zoom, zoom * image.aspect);
    // At 100 % and in whole steps every pixel is shown as it is.
    context.imageSmoothingEnabled = zoom !== 1 || image.aspect !== 1;
    context.imageSmoothingQuality = zoom < 1 ? 'high' : 'low';
    const corner = [-Math.floor(image.columns / 2), -Math.floor(image.rows / 2)] as const;
    context.drawImage(this.#picture, ...corner);
    if (this.#overlay !== undefined) context.drawImage(this.#overlay, ...corner);
    this.element.dataset['overlay'] = String(this.#overlay !== undefined);
    markOnce('drimbox:first-image');
  }

  #paint(image: Image, frame: Frame): void {
    this.#picture.width = image.columns;
    this.#picture.height = image.rows;
    const context = this.#picture.getContext('2d', { alpha: false });
    if (context === null) return;
    const data = new ImageData(image.columns, image.rows);
    const voi = this.#voi(image, frame);
    const inverse = frame.rendered || frame.pixels.channels === 3 ? this.#inverted : image.inverse !== this.#inverted;
    paint(image, frame.pixels, voi, inverse, data.data);
    context.putImageData(data, 0, 0);
    const plain = frame.pixels.channels === 1 && image.palette === undefined && voi.kind === 'window';
    this.shown.window = plain ? voi.window : undefined;
    this.#painted = true;
  }
}

/** Images by the order in which they will be looked at: onwards first, half as many behind. */
export function ahead(images: Image[], at: number): Image[] {
  const cost = (index: number): number => (index > at ? index - at : 2 * (at - index));
  return images
    .map((image, index) => ({ image, index }))
    .filter(({ index }) => index !== at)
    .sort((a, b) => cost(a.index) - cost(b.index))
    .map(({ image }) => image);
}
