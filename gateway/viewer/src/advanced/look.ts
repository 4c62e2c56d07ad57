/** The grey levels of a view with tools: those that the image asks for, as on the first page. */

import { Enums, getShouldUseCPURendering, type Types, utilities } from '@cornerstonejs/core';

import type { Pixels } from '../codecs/samples';
import type { Image, Lut, Window } from '../dicom/image';
import { defaultVoi, greyOf, type Voi } from '../render/grey';

/** Points of a transfer function that stands for a table. */
const MAX_POINTS = 1024;
/** Views whose transfer function is a table. */
const tables = new WeakSet<object>();

interface TransferFunction {
  setNodes(nodes: { x: number; r: number; g: number; b: number; midpoint: number; sharpness: number }[]): void;
}

/** Values between the ends of a window. */
export function rangeOf(window: Window, shape: Image['voiFunction'] = 'LINEAR'): Types.VOIRange {
  return utilities.windowLevel.toLowHighRange(window.width, window.center, shape as Enums.VOILUTFunctionType);
}

/** The window between two values. */
export function windowOf(range: Types.VOIRange, shape: string | undefined): Window {
  if (shape === 'LINEAR_EXACT') return { center: (range.lower + range.upper) / 2, width: range.upper - range.lower };
  const { windowCenter, windowWidth } = utilities.windowLevel.toWindowLevel(range.lower, range.upper);
  return { center: windowCenter, width: windowWidth };
}

/**
 * Shows an image as it asks for itself, unless the reader chose a window. Without it the library gives every image of
 * a stack the shape of the first one, and knows no table.
 */
export function applyOwnLook(viewport: Types.IStackViewport, image: Image, pixels: Pixels, inverted: boolean): void {
  const inverse = isInverse(image, pixels, inverted);
  viewport.setProperties({ invert: inverse }, true);
  if (isColour(image, pixels) || getShouldUseCPURendering() || viewport.getProperties().isComputedVOI === false) return;
  const voi = defaultVoi(image, pixels);
  viewport.setProperties({ VOILUTFunction: (voi.kind === 'window' ? voi.shape : 'LINEAR') as Enums.VOILUTFunctionType }, true);
  if (voi.kind === 'lut') setTable(viewport, voi, inverse);
  else removeTable(viewport, rangeOf(voi.window, voi.shape), voi.shape, inverse);
}

/** Shows an image with a window that the reader chose. */
export function applyWindow(viewport: Types.IStackViewport, image: Image, pixels: Pixels, window: Window, inverted: boolean, shape = image.voiFunction): void {
  if (isColour(image, pixels)) return;
  const range = rangeOf(window, shape);
  if (getShouldUseCPURendering()) {
    viewport.setProperties({ voiRange: range });
    return;
  }
  removeTable(viewport, range, shape, isInverse(image, pixels, inverted));
  viewport.setProperties({ VOILUTFunction: shape as Enums.VOILUTFunctionType, voiRange: range });
}

/** True when small values are to be bright. */
export function isInverse(image: Image, pixels: Pixels | undefined, inverted: boolean): boolean {
  return (image.inverse && pixels?.channels !== 3 && image.palette === undefined) !== inverted;
}

function isColour(image: Image, pixels: Pixels): boolean {
  return pixels.channels === 3 || image.palette !== undefined;
}

function setTable(viewport: Types.IStackViewport, voi: Voi & { lut: Lut }, inverse: boolean): void {
  const { lut } = voi;
  const last = lut.data.length - 1;
  const steps = Math.min(last, MAX_POINTS - 1);
  const points = Array.from({ length: steps + 1 }, (_, at) => {
    const x = lut.first + Math.round((at * last) / Math.max(steps, 1));
    const grey = greyOf(voi, x) / 255;
    const level = inverse ? 1 - grey : grey;
    return { x, r: level, g: level, b: level, midpoint: 0.5, sharpness: 0 };
  });
  const curve = utilities.createLinearRGBTransferFunction({ lower: lut.first, upper: lut.first + last });
  (curve as unknown as TransferFunction).setNodes(points);
  propertyOf(viewport)?.setRGBTransferFunction(0, curve);
  tables.add(viewport);
}

/** A linear function in place of a table; a sigmoid is made anew by the library. */
function removeTable(viewport: Types.IStackViewport, range: Types.VOIRange, shape: string, inverse: boolean): void {
  if (!tables.delete(viewport) || shape === 'SIGMOID') return;
  const curve = utilities.createLinearRGBTransferFunction(range);
  if (inverse) utilities.invertRgbTransferFunction(curve);
  propertyOf(viewport)?.setRGBTransferFunction(0, curve);
}

function propertyOf(viewport: Types.IStackViewport): { setRGBTransferFunction(index: number, curve: unknown): void } | undefined {
  const actor = viewport.getDefaultActor()?.actor as { getProperty?(): { setRGBTransferFunction(index: number, curve: unknown): void } } | undefined;
  return actor?.getProperty?.();
}
