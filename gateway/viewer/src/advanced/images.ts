/** The page's images for Cornerstone3D: its loader and its metadata. */

import { Enums, imageLoader, metaData, type Types, utilities } from '@cornerstonejs/core';

import type { Pixels } from '../codecs/samples';
import type { Image } from '../dicom/image';
import type { Frames } from '../frames';
import { defaultVoi, modality, paint } from '../render/grey';

const SCHEME = 'exam';
const known = new Map<string, Image>();

/** The identifier of an image; makes the image known. */
export function imageIdOf(image: Image): string {
  const id = `${SCHEME}:${image.series}/${image.instance}/${image.frame}`;
  known.set(id, image);
  return id;
}

/** The image of an identifier. */
export function imageOf(id: string | undefined): Image | undefined {
  return id === undefined ? undefined : known.get(id);
}

/** Registers loader and metadata, once. */
export function registerImages(frames: Frames): void {
  imageLoader.registerImageLoader(SCHEME, (id: string) => {
    const image = known.get(id);
    const promise: Promise<Types.IImage> = image === undefined ? Promise.reject(new Error('unknown image')) : load(id, image, frames);
    return { promise, cancelFn: () => undefined };
  });
  metaData.addProvider((type: string, id: string) => {
    const image = typeof id === 'string' ? known.get(id) : undefined;
    return image && moduleOf(type, image);
  }, 1000);
}


/** Bytes that the volume of a series takes. */
export function volumeBytes(images: Image[]): number {
  const first = images[0];
  return first === undefined ? 0 : images.length * first.rows * first.columns * (needsFloat(first) ? 4 : 2);
}

async function load(id: string, image: Image, frames: Frames): Promise<Types.IImage> {
  const frame = await frames.get(image);
  const colour = frame.pixels.channels === 3 || image.palette !== undefined;
  const data = colour ? rgbOf(image, frame.pixels) : valuesOf(image, frame.pixels);
  const ends = colour ? [0, 255] : [modality(image, frame.pixels.min), modality(image, frame.pixels.max)];
  const voi = colour ? undefined : defaultVoi(image, frame.pixels);
  const window = colour
    ? { center: 128, width: 256 }
    : voi?.kind === 'window'
      ? voi.window
      : { center: (voi?.lut.first ?? 0) + (voi?.lut.data.length ?? 1) / 2, width: voi?.lut.data.length ?? 1 };
  const voxelManager = utilities.VoxelManager.createImageVoxelManager({
    width: image.columns,
    height: image.rows,
    numberOfComponents: colour ? 3 : 1,
    scalarData: data,
    id,
  });
  const plane = planeOf(image);
  return {
    imageId: id,
    dataType: data.constructor.name as Types.PixelDataTypedArrayString,
    color: colour,
    rgba: false,
    numberOfComponents: colour ? 3 : 1,
    rows: image.rows,
    columns: image.columns,
    height: image.rows,
    width: image.columns,
    columnPixelSpacing: plane.columnPixelSpacing,
    rowPixelSpacing: plane.rowPixelSpacing,
    slope: 1,
    intercept: 0,
    preScale: { enabled: true, scaled: true, scalingParameters: { rescaleSlope: 1, rescaleIntercept: 0, modality: image.modality } },
    isPreScaled: true,
    windowCenter: window.center,
    windowWidth: window.width,
    voiLUTFunction: image.voiFunction as Enums.VOILUTFunctionType,
    minPixelValue: Math.min(...ends),
    maxPixelValue: Math.max(...ends),
    invert: !colour && image.inverse,
    // A change of it has the library make the view anew.
    photometricInterpretation: colour ? 'RGB' : image.inverse ? 'MONOCHROME1' : 'MONOCHROME2',
    sizeInBytes: data.byteLength,
    getPixelData: () => data,
    getCanvas: undefined as never,
    voxelManager,
    FrameOfReferenceUID: plane.frameOfReferenceUID,
    ...(image.thickness === undefined ? {} : { sliceThickness: image.thickness }),
    imageFrame: { pixelData: data } as never,
  } as Types.IImage;
}

/** Values of the modality, in 16 bits where they fit. */
function valuesOf(image: Image, pixels: Pixels): Int16Array | Float32Array | Uint8Array {
  const { data } = pixels;
  const out = needsFloat(image) ? new Float32Array(data.length) : new Int16Array(data.length);
  if (image.modalityLut === undefined) {
    // Without a call for each value: a volume has a hundred million of them.
    const { slope, intercept } = image;
    for (let at = 0; at < out.length; at += 1) out[at] = (data[at] ?? 0) * slope + intercept;
    return out;
  }
  for (let at = 0; at < out.length; at += 1) out[at] = modality(image, data[at] ?? 0);
  return out;
}

/** The same for every image of a series, so that a volume has one type. */
function needsFloat(image: Image): boolean {
  if (image.float || image.bitsStored > 16 || image.modalityLut !== undefined) return true;
  if (!Number.isInteger(image.slope) || !Number.isInteger(image.intercept)) return true;
  const reach = image.signed ? 2 ** (image.bitsStored - 1) : 2 ** image.bitsStored - 1;
  return Math.abs(reach * image.slope) + Math.abs(image.intercept) > 32_767;
}

function rgbOf(image: Image, pixels: Pixels): Uint8Array {
  if (pixels.channels === 3) return new Uint8Array(pixels.data);
  const rgba = new Uint8ClampedArray(image.rows * image.columns * 4);
  paint(image, pixels, defaultVoi(image, pixels), false, rgba);
  const out = new Uint8Array(image.rows * image.columns * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    out[to] = rgba[from] ?? 0;
    out[to + 1] = rgba[from + 1] ?? 0;
    out[to + 2] = rgba[from + 2] ?? 0;
  }
  return out;
}

/** Where the middle of a point of an image lies, by column and row. */
export function worldOf(image: Image, column: number, row: number): Types.Point3 {
  const { imagePositionPatient, rowCosines, columnCosines, rowPixelSpacing, columnPixelSpacing } = planeOf(image);
  return [0, 1, 2].map(
    (axis) =>
      (imagePositionPatient[axis] ?? 0) + column * columnPixelSpacing * (rowCosines[axis] ?? 0) + row * rowPixelSpacing * (columnCosines[axis] ?? 0),
  ) as Types.Point3;
}

interface Plane extends Record<string, unknown> {
  rowPixelSpacing: number;
  columnPixelSpacing: number;
  frameOfReferenceUID: string;
  imagePositionPatient: number[];
  rowCosines: number[];
  columnCosines: number[];
}

function planeOf(image: Image): Plane {
  const orientation = image.orientation ?? [1, 0, 0, 0, 1, 0];
  const spaced = image.spacing !== undefined;
  return {
    // Marks cannot pass from one image to another without a common frame.
    frameOfReferenceUID: image.frameOfReference || `${image.series}.${image.instance}`,
    rows: image.rows,
    columns: image.columns,
    imageOrientationPatient: orientation,
    rowCosines: orientation.slice(0, 3),
    columnCosines: orientation.slice(3, 6),
    imagePositionPatient: image.position ?? [0, 0, image.frame - 1],
    sliceThickness: image.thickness,
    pixelSpacing: [image.spacing?.row ?? image.aspect, image.spacing?.column ?? 1],
    rowPixelSpacing: image.spacing?.row ?? image.aspect,
    columnPixelSpacing: image.spacing?.column ?? 1,
    usingDefaultValues: !spaced,
  };
}

function moduleOf(type: string, image: Image): unknown {
  switch (type) {
    case Enums.MetadataModules.IMAGE_PLANE:
      return planeOf(image);
    case Enums.MetadataModules.IMAGE_PIXEL: {
      const colour = image.samples === 3 || image.palette !== undefined;
      const float = !colour && needsFloat(image);
      return {
        samplesPerPixel: colour ? 3 : 1,
        photometricInterpretation: colour ? 'RGB' : image.inverse ? 'MONOCHROME1' : 'MONOCHROME2',
        rows: image.rows,
        columns: image.columns,
        bitsAllocated: colour ? 8 : float ? 32 : 16,
        bitsStored: colour ? 8 : float ? 32 : 16,
        highBit: colour ? 7 : float ? 31 : 15,
        pixelRepresentation: colour ? 0 : 1,
      };
    }
    case Enums.MetadataModules.GENERAL_SERIES:
      return { modality: image.modality, seriesInstanceUID: image.series, studyInstanceUID: image.study };
    case Enums.MetadataModules.VOI_LUT: {
      const window = image.windows[0];
      return window && { windowCenter: [window.center], windowWidth: [window.width], voiLUTFunction: image.voiFunction };
    }
    case Enums.MetadataModules.MODALITY_LUT:
      return { rescaleSlope: image.slope, rescaleIntercept: image.intercept, rescaleType: image.unit || undefined };
    case Enums.MetadataModules.SOP_COMMON:
      return { sopClassUID: image.sopClass, sopInstanceUID: image.instance };
    case Enums.MetadataModules.CALIBRATION:
      // Without a spacing lengths are in pixels.
      return image.spacing === undefined ? { type: Enums.CalibrationTypes.UNCALIBRATED } : undefined;
    default:
      return undefined;
  }
}
