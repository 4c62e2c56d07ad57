/** The viewer with tools: measures, several views, three planes. Loaded at the first need. */

import {
  cache,
  Enums,
  init as initCore,
  RenderingEngine,
  setVolumesForViewports,
  type Types,
  volumeLoader,
} from '@cornerstonejs/core';
import { annotation, init as initTools } from '@cornerstonejs/tools';

import { dot, type Image, normalOf, type Window } from '../dicom/image';
import { asViewerError, ViewerError } from '../errors';
import { type Frames, isLossy } from '../frames';
import { defaultVoi, fullRange } from '../render/grey';
import type { Layout, Tool } from '../ui/actions';
import { h } from '../ui/dom';
import { markOnce } from '../marks';
import { ahead } from '../view/canvas';
import { calibrationOf, captionOf } from '../view/caption';
import type { Hung } from '../view/hanging';
import type { KeyImages } from '../view/keys';
import { overlayPicture } from '../view/overlay';
import type { Stack } from '../view/stack';
import type { Mode, Shown, Viewer } from '../view/viewer';
import { imageIdOf, imageOf, registerImages, volumeBytes, worldOf } from './images';
import { noVolume } from './geometry';
import { applyOwnLook, applyWindow, isInverse, rangeOf, windowOf } from './look';
import { Pane } from './pane';
import { Tools } from './tools';
import { loadVolume, onceDrawn } from './volume';

const ENGINE = 'exam';
/** Millimetres of the thick slab. */
const SLAB = 10;
const PLANES = { axial: 'Axial', sagittal: 'Sagittal', coronal: 'Coronal' } as const;
const PANES = { '1x1': 1, '1x2': 2, '2x2': 4, mpr: 3 } as const;

const NO_VOLUME = 'Cette série ne permet pas les coupes dans trois plans.';

let started = false;

/** Starts the library once and makes a viewer. */
export async function createAdvanced(frames: Frames, keys: KeyImages, changed: () => void): Promise<AdvancedViewer> {
  if (!started) {
    await initCore();
    await initTools();
    cache.setMaxCacheSize(frames.limit);
    registerImages(frames);
    started = true;
  }
  return new AdvancedViewer(frames, keys, changed);
}

/** Up to four views of the page's images. */
export class AdvancedViewer implements Viewer {
  readonly element = h('div', { class: 'views' });
  layout: Layout = '1x1';

  readonly #engine = new RenderingEngine(ENGINE);
  readonly #tools = new Tools(ENGINE);
  readonly #observer: ResizeObserver;
  #panes: Pane[] = [];
  #current = 0;
  #mode: Mode | Tool = 'scroll';
  #linked = true;
  #following = false;
  /** A move of a view that the others have not followed yet, and where they were brought for the last. */
  #behind: { leader: Pane; from: Image | undefined } | undefined;
  /** The view that is being brought to its place: that is no move of the reader's. */
  #brought: Pane | undefined;
  #overlays = false;
  #thick = false;
  /** What is being shown; views are not rearranged under it. */
  #filling: Promise<void> = Promise.resolve();
  /** How far the three planes are. */
  #progress: string | undefined;
  #leaveVolume: () => void = () => undefined;

  constructor(
    private readonly frames: Frames,
    private readonly keys: KeyImages,
    private readonly changed: () => void,
  ) {
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(this.element);
    this.#arrange('1x1');
  }

  get shown(): Shown {
    const pane = this.#pane;
    const frame = pane.image && this.frames.peek(pane.image);
    return {
      stack: pane.stack,
      index: pane.index,
      image: pane.image,
      window: this.#windowOf(pane),
      zoom: this.#scaleOf(pane),
      lossy: pane.image !== undefined && isLossy(pane.image, frame),
      letters: undefined,
      captioned: true,
      loading: pane.loading,
      progress: this.#progress,
      error: pane.error,
    };
  }

  show(stack: Stack, index: number): void {
    if (this.layout === 'mpr') {
      // Another series ends the three planes.
      if (this.#pane.stack === stack) return;
      this.#arrange('1x1');
      this.layout = '1x1';
    }
    this.#filling = this.#fill(this.#pane, stack, index);
  }

  goTo(index: number): void {
    const pane = this.#pane;
    if (pane.plane !== undefined) {
      if (pane.error !== undefined && pane.stack !== undefined) {
        void this.#rebuildVolume(pane.stack);
        return;
      }
      const viewport = this.#viewport(pane) as Types.IVolumeViewport | undefined;
      const step = Math.min(Math.max(index, 0), Math.max(this.#slices(pane) - 1, 0)) - pane.index;
      if (viewport && step !== 0) viewport.scroll(step);
      return;
    }
    const stack = pane.stack;
    if (stack === undefined) return;
    const at = Math.min(Math.max(index, 0), stack.images.length - 1);
    void this.#go(pane, at);
  }

  setMode(mode: Mode): void {
    this.#mode = mode;
    this.#tools.activate(mode);
  }

  /** Chooses a tool that leaves a mark. */
  setTool(tool: Tool): void {
    this.#mode = tool;
    this.#tools.activate(tool);
  }

  /**
   * Arranges the views. The current one keeps what it shows; a new one waits for a series.
   *
   * A series that makes no volume stays as it is; the answer is why, in words.
   */
  async setLayout(layout: Layout): Promise<string | undefined> {
    await this.#filling;
    const { stack, index } = this.#pane;
    if (layout === 'mpr') {
      const why = stack?.complete === true ? noVolume(stack.images) : NO_VOLUME;
      if (stack === undefined || why !== undefined) return why ?? NO_VOLUME;
      if (volumeBytes(stack.images) > this.frames.limit) {
        return 'Cette série est trop grande pour les trois plans sur cet appareil.';
      }
      this.#arrange('mpr');
      this.layout = 'mpr';
      await this.#buildVolume(stack);
      return undefined;
    }
    const kept = this.layout === 'mpr' ? [{ stack, index }] : this.#panes.map((pane) => ({ stack: pane.stack, index: pane.index }));
    const first = this.layout === 'mpr' ? 0 : this.#current;
    // The current view stays in sight when there are fewer.
    const order = [...kept.slice(first, first + 1), ...kept.slice(0, first), ...kept.slice(first + 1)];
    this.#arrange(layout);
    this.layout = layout;
    await Promise.all(
      this.#panes.map((pane, at) => {
        const before = order[at];
        return before?.stack ? this.#fill(pane, before.stack, before.index) : undefined;
      }),
    );
    // The next series that the reader takes goes where there is room.
    const empty = this.#panes.findIndex((pane) => pane.stack === undefined);
    this.#take(empty < 0 ? 0 : empty);
    return undefined;
  }

  /** Hangs the images of a mammography, chest walls together. */
  async hang(images: Hung[]): Promise<void> {
    await this.#filling;
    this.layout = images.length > 2 ? '2x2' : '1x2';
    this.#arrange(this.layout);
    await Promise.all(
      images.map(async (hung, at) => {
        const pane = this.#panes[at];
        if (pane === undefined) return;
        await this.#fill(pane, hung.stack, hung.index);
        pane.hung = hung;
        this.#hangPane(pane);
      }),
    );
    this.#take(0);
  }

  /** Views of the same frame of reference scroll together. */
  setLinked(linked: boolean): void {
    this.#linked = linked;
  }

  /** Shows where the current view cuts the others. */
  setReferenceLines(on: boolean): void {
    this.#tools.setReferenceLines(on);
  }

  /** Slabs of maximum intensity instead of thin planes. */
  setThick(thick: boolean): void {
    this.#thick = thick;
    for (const pane of this.#panes) this.#applySlab(pane);
    this.#render();
  }

  /** Takes every mark away. */
  clear(): void {
    annotation.state.removeAllAnnotations();
    this.#render();
  }

  setWindow(window: Window | 'default' | 'full'): void {
    const pane = this.#pane;
    const image = pane.image;
    const pixels = image && this.frames.peek(image)?.pixels;
    if (image === undefined || pixels === undefined || pixels.channels === 3) return;
    const voi = window === 'full' ? fullRange(image, pixels) : defaultVoi(image, pixels);
    const chosen = typeof window === 'object' ? window : voi.kind === 'window' ? voi.window : undefined;
    if (pane.plane !== undefined) {
      if (chosen === undefined) return;
      for (const one of this.#panes) {
        const viewport = this.#viewport(one) as Types.IStackViewport | undefined;
        viewport?.setProperties({ voiRange: rangeOf(chosen) });
        viewport?.render();
      }
      return;
    }
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    if (viewport === undefined) return;
    if (window === 'default') {
      viewport.resetProperties();
      applyOwnLook(viewport, image, pixels, pane.inverted);
    } else if (chosen !== undefined) {
      applyWindow(viewport, image, pixels, chosen, pane.inverted, window === 'full' ? 'LINEAR_EXACT' : image.voiFunction);
    }
    viewport.render();
    this.changed();
  }

  invert(): void {
    const pane = this.#pane;
    for (const one of pane.plane === undefined ? [pane] : this.#panes) {
      one.inverted = !one.inverted;
      const viewport = this.#viewport(one) as Types.IStackViewport | undefined;
      if (one.image) viewport?.setProperties({ invert: isInverse(one.image, this.frames.peek(one.image)?.pixels, one.inverted) });
      viewport?.render();
    }
  }

  rotate(): void {
    const pane = this.#pane;
    pane.turns = (pane.turns + 1) % 4;
    this.#present(pane, { rotation: pane.turns * 90 });
  }

  flip(): void {
    const pane = this.#pane;
    pane.flipped = !pane.flipped;
    this.#present(pane, { flipHorizontal: pane.flipped });
  }

  reset(): void {
    const pane = this.#pane;
    pane.turns = 0;
    pane.flipped = false;
    pane.inverted = false;
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    if (viewport === undefined) return;
    this.#present(pane, { rotation: 0, flipHorizontal: false });
    viewport.resetCamera();
    this.setWindow('default');
    if (pane.hung !== undefined) this.#hangPane(pane);
    viewport.render();
  }

  setOverlays(on: boolean): void {
    this.#overlays = on;
    for (const pane of this.#panes) this.#layOver(pane);
  }

  actualSize(): void {
    const pane = this.#pane;
    const scale = this.#scaleOf(pane);
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    if (viewport === undefined || !(scale > 0)) return;
    viewport.setZoom(viewport.getZoom() / scale);
    viewport.render();
    this.changed();
  }

  zoomBy(factor: number): void {
    const viewport = this.#viewport(this.#pane) as Types.IStackViewport | undefined;
    viewport?.setZoom(viewport.getZoom() * factor);
    viewport?.render();
    this.changed();
  }

  panBy(x: number, y: number): void {
    const viewport = this.#viewport(this.#pane) as Types.IStackViewport | undefined;
    const [atX, atY] = viewport?.getPan() ?? [0, 0];
    viewport?.setPan([atX + x, atY + y]);
    viewport?.render();
  }

  snapshot(): HTMLElement[] {
    return this.#panes.flatMap((pane) => {
      const canvas = this.#viewport(pane)?.getCanvas();
      if (canvas === undefined || pane.stack === undefined) return [];
      const copy = document.createElement('canvas');
      copy.width = canvas.width;
      copy.height = canvas.height;
      const context = copy.getContext('2d');
      context?.drawImage(canvas, 0, 0);
      if (pane.overlay !== undefined) context?.drawImage(pane.layer, 0, 0, copy.width, copy.height);
      // Marks are drawn beside the canvas.
      const marks = pane.port.querySelector('svg')?.cloneNode(true);
      const box = h('div', { class: 'printed' }, copy, marks);
      return [box];
    });
  }

  dispose(): void {
    this.#leaveVolume();
    this.#observer.disconnect();
    this.#tools.dispose();
    this.#engine.destroy();
    cache.purgeCache();
    this.element.remove();
  }

  get #pane(): Pane {
    const pane = this.#panes[this.#current] ?? this.#panes[0];
    if (pane === undefined) throw new Error('viewer without view');
    return pane;
  }

  #viewport(pane: Pane): Types.IViewport | undefined {
    return this.#engine.getViewport(pane.id);
  }

  #arrange(layout: Layout): void {
    this.#leaveVolume();
    this.#progress = undefined;
    for (const pane of this.#panes) this.#engine.disableElement(pane.id);
    this.element.dataset['layout'] = layout;
    const planes = layout === 'mpr' ? (['axial', 'sagittal', 'coronal'] as const) : undefined;
    this.#panes = Array.from({ length: PANES[layout] }, (_, at) => {
      const pane = new Pane(`${layout}-${at}`, planes?.[at], () => this.#take(at));
      pane.caption.textContent = planes ? '' : 'Choisissez une série';
      return pane;
    });
    this.#current = 0;
    this.element.replaceChildren(...this.#panes.map((pane) => pane.element));
    this.#tools.forget();
    for (const pane of this.#panes) {
      this.#engine.enableElement({
        viewportId: pane.id,
        type: pane.plane === undefined ? Enums.ViewportType.STACK : Enums.ViewportType.ORTHOGRAPHIC,
        element: pane.port,
        defaultOptions: {
          background: [0, 0, 0],
          ...(pane.plane === undefined ? {} : { orientation: pane.plane as Enums.OrientationAxis }),
        },
      });
      this.#tools.add(pane.id);
      this.#listen(pane);
    }
    this.#take(0);
    this.#tools.activate(this.#mode);
  }

  #take(at: number): void {
    this.#current = at;
    this.#panes.forEach((pane, index) => pane.element.classList.toggle('current', this.#panes.length > 1 && index === at));
    this.#tools.source(this.#pane.id);
    this.changed();
  }

  #listen(pane: Pane): void {
    const on = (type: string, run: (event: CustomEvent) => void): void => pane.port.addEventListener(type, run as EventListener);
    on(Enums.Events.STACK_NEW_IMAGE, (event) => {
      const detail = event.detail as { imageId: string; imageIdIndex: number };
      const before = pane.image;
      pane.index = detail.imageIdIndex;
      pane.image = imageOf(detail.imageId);
      pane.loading = false;
      this.#look(pane);
      this.#layOver(pane);
      this.#afterMove(pane, before);
    });
    on(Enums.Events.VOLUME_NEW_IMAGE, (event) => {
      pane.index = (event.detail as { imageIndex: number }).imageIndex;
      this.changed();
    });
    on(Enums.Events.VOI_MODIFIED, () => {
      if (pane === this.#pane) this.changed();
    });
    on(Enums.Events.CAMERA_MODIFIED, () => {
      pane.orient(this.#viewport(pane)?.getCamera());
      if (pane === this.#pane) this.changed();
    });
    on(Enums.Events.IMAGE_RENDERED, () => {
      pane.element.dataset['rendered'] = pane.image?.instance ?? '';
      pane.drawLayer(this.#viewport(pane));
    });
  }

  async #fill(pane: Pane, stack: Stack, index: number): Promise<void> {
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    if (viewport === undefined) return;
    const same = pane.stack?.series.uid === stack.series.uid;
    const view = same ? { ...viewport.getViewPresentation() } : undefined;
    const properties = same ? viewport.getProperties() : undefined;
    pane.stack = stack;
    pane.index = index;
    pane.loading = true;
    pane.error = undefined;
    if (!same) {
      pane.turns = 0;
      pane.flipped = false;
      pane.inverted = false;
      pane.hung = undefined;
      // A window that was chosen for another series is not for this one.
      if (pane.image !== undefined) viewport.resetProperties();
    }
    pane.overlay = undefined;
    this.changed();
    try {
      await viewport.setStack(stack.images.map(imageIdOf), index);
      pane.image = stack.images[index];
      if (view) viewport.setViewPresentation(view);
      if (properties?.voiRange && properties.isComputedVOI === false) viewport.setProperties({ voiRange: properties.voiRange });
      this.#look(pane);
      this.#layOver(pane);
      viewport.render();
      pane.loading = false;
    } catch (thrown) {
      pane.loading = false;
      pane.error = asViewerError(thrown).message;
    }
    this.#caption(pane);
    this.frames.prefetch(ahead(stack.images, index));
    pane.orient(viewport.getCamera());
    this.changed();
  }

  async #go(pane: Pane, index: number): Promise<void> {
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    if (viewport === undefined || index === pane.index) return;
    pane.loading = true;
    pane.error = undefined;
    try {
      await viewport.setImageIdIndex(index);
    } catch (thrown) {
      pane.error = asViewerError(thrown).message;
    }
    pane.loading = false;
    this.changed();
  }

  #afterMove(pane: Pane, before: Image | undefined): void {
    if (pane.stack !== undefined && pane === this.#pane) this.frames.prefetch(ahead(pane.stack.images, pane.index));
    if (pane === this.#pane && pane !== this.#brought) {
      pane.wish = undefined;
      if (this.#linked) this.#lead(pane, before);
    }
    this.#caption(pane);
    this.changed();
  }

  /** Has the other views follow; what the reader does while they are on their way adds up, and they follow again. */
  #lead(leader: Pane, before: Image | undefined): void {
    const from = this.#behind?.leader === leader ? this.#behind.from : before;
    this.#behind = { leader, from };
    if (!this.#following) void this.#follow();
  }

  async #follow(): Promise<void> {
    this.#following = true;
    try {
      for (let next = this.#behind; next !== undefined; next = this.#behind) {
        this.#behind = undefined;
        if (this.#linked && this.#panes.includes(next.leader)) await this.#bring(next.leader, next.from);
      }
    } finally {
      this.#following = false;
      this.#brought = undefined;
    }
  }

  /**
   * Brings the other views to the same place of the patient; those of another frame of reference, an exam of
   * before, as far as this one moved.
   */
  async #bring(leader: Pane, before: Image | undefined): Promise<void> {
    const image = leader.image;
    if (image?.position === undefined || image.orientation === undefined) return;
    const normal = normalOf(image.orientation);
    const place = dot(image.position, normal);
    const moved = before?.series === image.series && before.position ? place - dot(before.position, normal) : 0;
    for (const pane of this.#panes) {
      // The reader may have gone on to another arrangement meanwhile.
      if (!this.#panes.includes(leader)) return;
      if (pane === leader || pane.stack === undefined) continue;
      const of = pane.image;
      if (of?.position === undefined || of.orientation === undefined) continue;
      const same = of.frameOfReference !== '' && of.frameOfReference === image.frameOfReference;
      // What rounding to whole images takes away is not lost for the next step.
      pane.wish = same ? place : (pane.wish ?? dot(of.position, normal)) + moved;
      const at = nearest(pane.stack.images, normal, pane.wish);
      if (at === undefined) continue;
      this.#brought = pane;
      await this.#go(pane, at);
      this.#brought = undefined;
    }
  }

  /** The image's own grey levels, which the library knows in part only. */
  #look(pane: Pane): void {
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    const pixels = pane.image && this.frames.peek(pane.image)?.pixels;
    if (viewport && pane.image && pixels && pane.plane === undefined) applyOwnLook(viewport, pane.image, pixels, pane.inverted);
  }

  #layOver(pane: Pane): void {
    const { image } = pane;
    pane.overlay = undefined;
    pane.drawLayer(undefined);
    const pixels = image && this.frames.peek(image)?.pixels;
    if (!this.#overlays || pane.plane !== undefined || image === undefined || pixels === undefined) return;
    overlayPicture(image, pixels).then(
      (picture) => {
        if (pane.image !== image) return;
        pane.overlay = picture;
        pane.drawLayer(this.#viewport(pane));
      },
      // The image stays without its graphics.
      () => undefined,
    );
  }

  /** Mirrors the image of a mammography where it must be, and brings its chest wall to the middle of the pair. */
  #hangPane(pane: Pane): void {
    if (pane.hung === undefined) return;
    pane.flipped = pane.hung.flip;
    this.#present(pane, { rotation: 0, flipHorizontal: pane.hung.flip });
    this.#toWall(pane);
  }

  #toWall(pane: Pane): void {
    const viewport = this.#viewport(pane) as Types.IStackViewport | undefined;
    const { hung, image } = pane;
    if (viewport === undefined || hung === undefined || image === undefined || pane.turns !== 0) return;
    const [wall] = viewport.worldToCanvas(worldOf(image, hung.wall - 0.5, image.rows / 2));
    const inner = this.#panes.indexOf(pane) % 2 === 0 ? pane.port.clientWidth : 0;
    const [x, y] = viewport.getPan();
    viewport.setPan([x + inner - wall, y]);
    viewport.render();
  }

  /** The slab that the reader chose, also for planes that were made since. */
  #applySlab(pane: Pane): void {
    const viewport = this.#viewport(pane) as Types.IVolumeViewport | undefined;
    // Planes without their volume yet have nothing to blend.
    if (pane.plane === undefined || viewport === undefined || pane.loading) return;
    viewport.setBlendMode(this.#thick ? Enums.BlendModes.MAXIMUM_INTENSITY_BLEND : Enums.BlendModes.COMPOSITE);
    if (this.#thick) viewport.setSlabThickness(SLAB);
    else viewport.resetSlabThickness();
    pane.caption.textContent = PLANES[pane.plane] + (this.#thick ? ` · MIP ${SLAB} mm` : '');
  }

  #caption(pane: Pane): void {
    const image = pane.image;
    const lines = [pane.stack?.series.description ?? ''];
    if (this.#panes.length > 1) lines.push(`${pane.index + 1} / ${pane.stack?.images.length ?? 0}`);
    lines.push(...captionOf(image, this.keys), calibrationOf(image));
    pane.caption.replaceChildren(...lines.filter(Boolean).map((line) => h('div', {}, line)));
  }

  /** Once more from the start: what is there of the volume is not asked to load again. */
  async #rebuildVolume(stack: Stack): Promise<void> {
    this.#leaveVolume();
    for (const pane of this.#panes) pane.error = undefined;
    if (cache.getVolume(volumeIdOf(stack)) !== undefined) cache.removeVolumeLoadObject(volumeIdOf(stack));
    await this.#buildVolume(stack);
  }

  async #buildVolume(stack: Stack): Promise<void> {
    const id = volumeIdOf(stack);
    const imageIds = stack.images.map(imageIdOf);
    const panes = this.#panes;
    for (const pane of panes) {
      pane.stack = stack;
      pane.image = stack.images[stack.images.length >> 1];
      pane.loading = true;
    }
    this.changed();
    try {
      const middle = stack.images[stack.images.length >> 1];
      const frame = middle && (await this.frames.get(middle));
      const volume = (await volumeLoader.createAndCacheVolume(id, { imageIds })) as Types.IStreamingImageVolume;
      // The reader may have gone on to another arrangement meanwhile.
      if (this.#panes !== panes) return;
      await setVolumesForViewports(this.#engine, [{ volumeId: id }], panes.map((pane) => pane.id));
      if (this.#panes !== panes) return;
      const voi = middle && frame && defaultVoi(middle, frame.pixels);
      if (voi?.kind === 'window') this.setWindow(voi.window);
      this.#loadVolume(volume);
      for (const pane of panes) {
        pane.loading = false;
        this.#applySlab(pane);
        pane.index = (this.#viewport(pane) as Types.IVolumeViewport).getSliceIndex();
        pane.orient(this.#viewport(pane)?.getCamera());
      }
    } catch (thrown) {
      const text = thrown instanceof ViewerError ? thrown.message : "Les trois plans n'ont pas pu être calculés.";
      for (const pane of panes) {
        pane.loading = false;
        pane.error = text;
      }
    }
    this.#render();
    this.changed();
  }

  #loadVolume(volume: Types.IStreamingImageVolume): void {
    this.#leaveVolume = loadVolume(volume, {
      tell: (text) => {
        this.#progress = text;
        this.changed();
      },
      draw: () => this.#render(),
      ended: (lacking) => {
        this.#progress = undefined;
        const ports = this.#panes.map((pane) => pane.port);
        if (lacking === 0) onceDrawn(ports, () => markOnce('drimbox:mpr-ready'));
        else for (const pane of this.#panes) pane.error = `Coupes incomplètes. Images de la série qui n'ont pas pu être lues : ${lacking}.`;
        this.#render();
        this.changed();
      },
    });
  }

  #resize(): void {
    // A view without an image has no camera to keep.
    if (this.#panes.every((pane) => pane.stack === undefined)) return;
    this.#engine.resize(true, true);
    for (const pane of this.#panes) this.#toWall(pane);
  }

  #slices(pane: Pane): number {
    const viewport = this.#viewport(pane) as Types.IVolumeViewport | undefined;
    return pane.plane === undefined ? (pane.stack?.images.length ?? 0) : (viewport?.getNumberOfSlices() ?? 0);
  }

  #present(pane: Pane, view: Types.ViewPresentation): void {
    const viewport = this.#viewport(pane);
    viewport?.setViewPresentation(view);
    viewport?.render();
    pane.orient(viewport?.getCamera());
    this.changed();
  }

  #windowOf(pane: Pane): Window | undefined {
    const { voiRange, VOILUTFunction } = (this.#viewport(pane) as Types.IStackViewport | undefined)?.getProperties() ?? {};
    // Without an image the library has none, whatever its types say.
    if (voiRange == null || pane.image?.samples !== 1 || pane.image.palette !== undefined) return undefined;
    return windowOf(voiRange, VOILUTFunction);
  }

  /** Screen pixels per image pixel. */
  #scaleOf(pane: Pane): number {
    const scale = this.#viewport(pane)?.getCamera().parallelScale ?? 0;
    const row = pane.image?.spacing?.row ?? pane.image?.aspect ?? 1;
    return scale > 0 ? (pane.port.clientHeight / (2 * scale)) * row * devicePixelRatio : 1;
  }

  #render(): void {
    this.#engine.renderViewports(this.#panes.map((pane) => pane.id));
  }
}

/** The image nearest to a place along a direction, if all lie across it. */
function nearest(images: Image[], normal: readonly number[], place: number): number | undefined {
  let best: number | undefined;
  let distance = Infinity;
  for (const [at, image] of images.entries()) {
    if (image.position === undefined || image.orientation === undefined) return undefined;
    if (Math.abs(dot(normalOf(image.orientation), normal)) < 0.95) return undefined;
    const apart = Math.abs(dot(image.position, normal) - place);
    if (apart < distance) {
      distance = apart;
      best = at;
    }
  }
  return best;
}

function volumeIdOf(stack: Stack): string {
  return `cornerstoneStreamingImageVolume:${stack.series.uid}`;
}
