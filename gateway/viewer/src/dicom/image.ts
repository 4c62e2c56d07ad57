/** One frame as the renderer sees it, made from an instance's metadata. */

import { bytes, type DataSet, entries, items, number, numbers, text, texts } from './json';

/** A lookup table (PS3.3 C.11.1.1, C.11.2.1.1, C.7.6.3.1.5). */
export interface Lut {
  /** First stored value mapped. */
  first: number;
  /** Bits of each entry. */
  bits: number;
  data: Uint16Array;
}

/** A window of PS3.3 C.11.2.1.2. */
export interface Window {
  center: number;
  width: number;
  name?: string;
}

/** How samples are laid out (PS3.3 C.7.6.3.1). */
export interface PixelModel {
  rows: number;
  columns: number;
  samples: number;
  photometric: string;
  planar: boolean;
  bitsAllocated: number;
  bitsStored: number;
  highBit: number;
  signed: boolean;
  /** Samples are IEEE numbers: (7FE0,0008) or (7FE0,0009). */
  float: boolean;
  /** Bits of each sample that hold a graphic beside the stored ones (retired, PS3.3 2004 C.9.2). */
  overlayBits: number[];
}

/** A graphic over the image (PS3.3 C.9.2). */
export interface Overlay {
  rows: number;
  columns: number;
  /** Row and column of the image at its first point, from 0. */
  top: number;
  left: number;
  /** First frame of the image that it lies on, from 1, and how many in a row. */
  firstFrame: number;
  frames: number;
  /** Where it lies in the samples; none when it has bytes of its own. */
  bit: number | undefined;
  /** Its bytes, one bit a point, asked for when it is shown. */
  load(): Promise<Uint8Array | undefined>;
}

/** Where a distance in pixels becomes one in millimetres. */
export interface Spacing {
  row: number;
  column: number;
  /** `detector`: at the detector, not in the patient: lengths in the body are smaller. */
  kind: 'patient' | 'detector' | 'ultrasound';
}

/** One frame of an instance. */
export interface Image extends PixelModel {
  study: string;
  series: string;
  instance: string;
  sopClass: string;
  modality: string;
  /** From 1. */
  frame: number;
  frames: number;
  instanceNumber: number;
  slope: number;
  intercept: number;
  unit: string;
  modalityLut: Lut | undefined;
  windows: Window[];
  voiLut: Lut | undefined;
  voiFunction: 'LINEAR' | 'LINEAR_EXACT' | 'SIGMOID';
  /** Small values are shown bright (MONOCHROME1, PS3.3 C.11.6). */
  inverse: boolean;
  palette: [Lut, Lut, Lut] | undefined;
  spacing: Spacing | undefined;
  /** Height of a pixel in widths of one. */
  aspect: number;
  position: [number, number, number] | undefined;
  orientation: number[] | undefined;
  frameOfReference: string;
  thickness: number | undefined;
  /** Milliseconds between frames, for cine. */
  frameTime: number | undefined;
  /** Transfer syntax in which it is stored (0008,3002), '' when the server does not tell it. */
  stored: string;
  /** (0028,2110): compressed with loss at some time. */
  lossy: boolean;
  lossyRatio: number | undefined;
  /** L, R, B or U. */
  laterality: string;
  /** View of a projection: CC, MLO, PA, LL… */
  view: string;
  /** Where rows and columns run to, for images without a place: 'P', 'FR'… (PS3.3 C.7.6.1.1.1). */
  patientOrientation: [string, string] | undefined;
  overlays: Overlay[];
  /** The whole instance is a video, in this media type. */
  video: string | undefined;
}

/** Frames that one instance may have before the rest are left out. */
const MAX_FRAMES = 20_000;

/**
 * The frames of an instance, in its order.
 *
 * An instance without Rows and Columns has none.
 */
export async function imagesOf(set: DataSet): Promise<Image[]> {
  const rows = number(set, '00280010') ?? 0;
  const columns = number(set, '00280011') ?? 0;
  if (rows < 1 || columns < 1 || rows * columns > 2 ** 28) return [];

  const video = videoOf(set);
  // A video is played, not looked at frame by frame.
  const frames = video === undefined ? Math.min(Math.max(number(set, '00280008') ?? 1, 1), MAX_FRAMES) : 1;
  const directions = texts(set, '00200020');
  const shared = items(set, '52009229')[0];
  const perFrame = items(set, '52009230');
  const palette = text(set, '00280004') === 'PALETTE COLOR' ? await paletteOf(set) : undefined;
  const modalityLut = await lutOf(items(set, '00283000')[0]);
  const voiLut = await lutOf(items(set, '00283010')[0]);
  const common = {
    ...pixelsOf(set, rows, columns),
    study: text(set, '0020000D'),
    series: text(set, '0020000E'),
    instance: text(set, '00080018'),
    sopClass: text(set, '00080016'),
    modality: text(set, '00080060'),
    frames,
    instanceNumber: number(set, '00200013') ?? 0,
    modalityLut,
    voiLut,
    inverse: text(set, '00280004') === 'MONOCHROME1' || text(set, '20500020') === 'INVERSE',
    palette,
    frameOfReference: text(set, '00200052'),
    frameTime: frameTimeOf(set),
    stored: text(set, '00083002'),
    lossy: text(set, '00282110') === '01',
    lossyRatio: numbers(set, '00282112').at(-1),
    laterality: text(set, '00200062') || text(set, '00200060'),
    view: viewOf(set),
    patientOrientation: directions[0] && directions[1] ? ([directions[0], directions[1]] as [string, string]) : undefined,
    overlays: overlaysOf(set),
    video,
  };

  return Array.from({ length: frames }, (_, index) => {
    const at = (sequence: string): DataSet | undefined =>
      items(perFrame[index], sequence)[0] ?? items(shared, sequence)[0];
    const measures = at('00289110') ?? set;
    const transformation = at('00289145') ?? set;
    const voi = at('00289132') ?? set;
    const spacing = spacingOf(set, measures);
    const position = numbers(at('00209113') ?? set, '00200032');
    const orientation = numbers(at('00209116') ?? set, '00200037');
    return {
      ...common,
      frame: index + 1,
      slope: number(transformation, '00281053') ?? 1,
      intercept: number(transformation, '00281052') ?? 0,
      unit: text(transformation, '00281054') || (common.modality === 'CT' ? 'HU' : ''),
      windows: windowsOf(voi),
      voiFunction: functionOf(text(voi, '00281056')),
      spacing,
      aspect: spacing === undefined ? aspectOf(set) : spacing.row / spacing.column,
      position: position.length === 3 ? (position as [number, number, number]) : undefined,
      orientation: orientation.length === 6 ? orientation : undefined,
      thickness: number(measures, '00180050'),
    };
  });
}

/** Order of viewing: along the normal of the slices when all have a place, else by number. */
export function inViewingOrder(images: Image[]): Image[] {
  const first = images[0];
  const normal = first?.orientation && normalOf(first.orientation);
  const placed =
    normal !== undefined &&
    images.every(
      (image) => image.position && image.orientation && Math.abs(dot(normalOf(image.orientation), normal)) > 0.99,
    );
  const byNumber = (a: Image, b: Image): number =>
    a.instanceNumber - b.instanceNumber || compare(a.instance, b.instance) || a.frame - b.frame;
  if (!placed) return [...images].sort(byNumber);
  const along = (image: Image): number => dot(image.position ?? [0, 0, 0], normal);
  const span = new Set(images.map((image) => along(image).toFixed(2))).size;
  // Several images at each place: phases, echoes. Their numbers tell the order that was meant.
  if (span < images.length) return [...images].sort(byNumber);
  const sorted = [...images].sort((a, b) => along(a) - along(b));
  // The direction stays the one of the numbers: what was made first is shown first.
  const head = sorted[0];
  const tail = sorted.at(-1);
  return head && tail && head.instanceNumber > tail.instanceNumber ? sorted.reverse() : sorted;
}

/** Normal of a slice, from its two direction cosines (PS3.3 C.7.6.2.1.1). */
export function normalOf(orientation: number[]): [number, number, number] {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = orientation;
  return [b * f - c * e, c * d - a * f, a * e - b * d];
}

/** Scalar product of two vectors. */
export function dot(a: readonly number[], b: readonly number[]): number {
  return (a[0] ?? 0) * (b[0] ?? 0) + (a[1] ?? 0) * (b[1] ?? 0) + (a[2] ?? 0) * (b[2] ?? 0);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function pixelsOf(set: DataSet, rows: number, columns: number): PixelModel {
  const bitsAllocated = number(set, '00280100') ?? 16;
  const bitsStored = Math.min(number(set, '00280101') ?? bitsAllocated, bitsAllocated);
  return {
    rows,
    columns,
    samples: number(set, '00280002') === 3 ? 3 : 1,
    photometric: text(set, '00280004') || 'MONOCHROME2',
    planar: number(set, '00280006') === 1,
    bitsAllocated,
    bitsStored,
    highBit: number(set, '00280102') ?? bitsStored - 1,
    signed: number(set, '00280103') === 1,
    float: set['7FE00008'] !== undefined || set['7FE00009'] !== undefined,
    overlayBits: overlaysOf(set).flatMap(({ bit }) => bit ?? []),
  };
}

/** Graphics of the sixteen groups that may hold one. */
function overlaysOf(set: DataSet): Overlay[] {
  return Array.from({ length: 16 }, (_, at) => (0x6000 + 2 * at).toString(16).toUpperCase()).flatMap((group) => {
    const rows = number(set, `${group}0010`) ?? 0;
    const columns = number(set, `${group}0011`) ?? 0;
    const own = set[`${group}3000`] !== undefined;
    const bit = number(set, `${group}0102`) ?? 0;
    if (rows < 1 || columns < 1 || rows * columns > 2 ** 26 || (!own && bit < 1)) return [];
    const [top = 1, left = 1] = numbers(set, `${group}0050`);
    return [
      {
        rows,
        columns,
        top: top - 1,
        left: left - 1,
        firstFrame: number(set, `${group}0051`) ?? 1,
        // Bits of the samples, and a graphic that names no frames, belong to all.
        frames: own ? (number(set, `${group}0015`) ?? MAX_FRAMES) : MAX_FRAMES,
        bit: own ? undefined : bit,
        load: () => bytes(set, `${group}3000`),
      },
    ];
  });
}

/** View Position (0018,5101), else what the code of the view stands for (PS3.16 CID 4014). */
function viewOf(set: DataSet): string {
  const code = text(items(set, '00540220')[0], '00080100');
  const coded: Record<string, string> = { 'R-10242': 'CC', '399162004': 'CC', 'R-10226': 'MLO', '399368009': 'MLO' };
  return text(set, '00185101') || (coded[code] ?? '');
}

/** Media type of a video by its transfer syntax, else its SOP class (PS3.5 A.4.5 and following). */
function videoOf(set: DataSet): string | undefined {
  const syntax = /^1\.2\.840\.10008\.1\.2\.4\.(10[0-8])/.exec(text(set, '00083002'))?.[1];
  if (syntax !== undefined) return syntax === '100' || syntax === '101' ? 'video/mpeg' : 'video/mp4';
  const videos = ['1.2.840.10008.5.1.4.1.1.77.1.1.1', '1.2.840.10008.5.1.4.1.1.77.1.2.1', '1.2.840.10008.5.1.4.1.1.77.1.4.1'];
  return text(set, '00083002') === '' && videos.includes(text(set, '00080016')) ? 'video/mp4' : undefined;
}

function windowsOf(voi: DataSet): Window[] {
  const centers = numbers(voi, '00281050');
  const widths = numbers(voi, '00281051');
  const names = texts(voi, '00281055');
  return centers.flatMap((center, index) => {
    const width = widths[index];
    if (width === undefined || width <= 0) return [];
    const name = names[index];
    return [{ center, width, ...(name ? { name } : {}) }];
  });
}

function functionOf(name: string): Image['voiFunction'] {
  return name === 'LINEAR_EXACT' || name === 'SIGMOID' ? name : 'LINEAR';
}

function spacingOf(set: DataSet, measures: DataSet): Spacing | undefined {
  const [row, column] = numbers(measures, '00280030');
  if (row !== undefined && column !== undefined && row > 0 && column > 0) {
    // In projection radiography the value is either of the detector or corrected (PS3.3 10.7.1.3).
    const projection = ['CR', 'DX', 'MG', 'XA', 'RF', 'PX', 'IO'].includes(text(set, '00080060'));
    const calibrated = text(set, '00280402') !== '';
    return { row, column, kind: projection && !calibrated ? 'detector' : 'patient' };
  }
  const [detectorRow, detectorColumn] = numbers(set, '00181164');
  if (detectorRow !== undefined && detectorColumn !== undefined && detectorRow > 0 && detectorColumn > 0) {
    return { row: detectorRow, column: detectorColumn, kind: 'detector' };
  }
  // Ultrasound regions (PS3.3 C.8.5.5): one region in centimetres gives the scale.
  const regions = items(set, '00186011').filter(
    (region) => number(region, '00186024') === 3 && number(region, '00186026') === 3,
  );
  const region = regions[0];
  const width = Math.abs(number(region, '0018602C') ?? 0);
  const height = Math.abs(number(region, '0018602E') ?? 0);
  if (regions.length === 1 && width > 0 && height > 0) {
    return { row: height * 10, column: width * 10, kind: 'ultrasound' };
  }
  return undefined;
}

function aspectOf(set: DataSet): number {
  const [vertical, horizontal] = numbers(set, '00280034');
  return vertical && horizontal && vertical > 0 && horizontal > 0 ? vertical / horizontal : 1;
}

function frameTimeOf(set: DataSet): number | undefined {
  const rate = number(set, '00082144') ?? number(set, '00180040');
  if (rate !== undefined && rate > 0) return 1000 / rate;
  const time = number(set, '00181063') ?? numbers(set, '00181065')[1];
  return time !== undefined && time > 0 ? time : undefined;
}

async function lutOf(item: DataSet | undefined, data = '00283006', descriptor = '00283002'): Promise<Lut | undefined> {
  const [count = 0, first = 0, bits = 16] = numbers(item, descriptor);
  if (item === undefined || numbers(item, descriptor).length < 3) return undefined;
  // 65536 does not fit its 16 bits and is written as 0.
  const table = await entries(item, data, count === 0 ? 65_536 : count);
  return table && { first, bits, data: table };
}

async function paletteOf(set: DataSet): Promise<[Lut, Lut, Lut] | undefined> {
  const tables = await Promise.all([
    lutOf(set, '00281201', '00281101'),
    lutOf(set, '00281202', '00281102'),
    lutOf(set, '00281203', '00281103'),
  ]);
  const [red, green, blue] = tables;
  return red && green && blue ? [red, green, blue] : undefined;
}
