/** Decodes one frame after another. Each codec is fetched when the first frame asks for it. */

import charls from '@cornerstonejs/codec-charls/decodewasm?url';
import turbo from '@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasm?url';
import openjpeg from '@cornerstonejs/codec-openjpeg/decodewasm?url';

import type { PixelModel } from '../dicom/image';
import { firstPart } from './multipart';
import { decodeRle } from './rle';
import { type Decoded, type Pixels, samplesOf } from './samples';

/** What the pool sends. */
export interface Job {
  id: number;
  body: ArrayBuffer;
  contentType: string;
  image: PixelModel;
}

/** What it sends before there is a frame: the codec of this transfer syntax will be needed. */
export interface Warming {
  warm: string;
}

/** What it gets back. `unsupported`: the server has to decode frames of this transfer syntax. */
export type Done =
  | { id: number; transferSyntax: string; pixels: Pixels }
  | { id: number; transferSyntax: string; unsupported: boolean; error: string };

interface FrameInfo {
  width: number;
  height: number;
  bitsPerSample: number;
  componentCount: number;
  isSigned?: boolean;
}

interface Decoder {
  getEncodedBuffer(length: number): Uint8Array;
  decode(): void;
  getFrameInfo(): FrameInfo;
  getDecodedBuffer(): Uint8Array;
}

interface Options {
  /** Instead of fetching its program itself the codec calls this, and waits for `done`. */
  instantiateWasm(imports: WebAssembly.Imports, done: (instance: WebAssembly.Instance, program: WebAssembly.Module) => void): object;
}

type Codec = Record<string, new () => Decoder>;
type Factory = (options: Options) => Promise<Codec>;

const NATIVE = ['1.2.840.10008.1.2', '1.2.840.10008.1.2.1', '1.2.840.10008.1.2.1.99', ''];
const RLE = '1.2.840.10008.1.2.5';

const decoders = new Map<string, Promise<Decoder>>();

addEventListener('message', (event: MessageEvent<Job | Warming>) => {
  const order = event.data;
  // What goes wrong now goes wrong again when it is needed, and is told then.
  if ('warm' in order) decoderOf(order.warm)?.catch(() => undefined);
  else void run(order);
});

async function run(job: Job): Promise<void> {
  let transferSyntax = '';
  try {
    const part = firstPart(job.body, job.contentType);
    transferSyntax = part.transferSyntax;
    const decoded = await decode(part.body, transferSyntax, job.image);
    if (decoded === undefined) {
      post({ id: job.id, transferSyntax, unsupported: true, error: 'no codec' });
      return;
    }
    const pixels = samplesOf(decoded, job.image);
    post({ id: job.id, transferSyntax, pixels }, [pixels.data.buffer as ArrayBuffer]);
  } catch (error) {
    post({ id: job.id, transferSyntax, unsupported: false, error: String(error) });
  }
}

function post(done: Done, transfer: Transferable[] = []): void {
  (self as unknown as { postMessage(message: Done, transfer: Transferable[]): void }).postMessage(done, transfer);
}

async function decode(body: Uint8Array, syntax: string, image: PixelModel): Promise<Decoded | undefined> {
  const stored = {
    samples: image.samples,
    planar: image.planar,
    photometric: image.photometric,
    bitsStored: image.bitsStored,
    highBit: image.highBit,
  };
  if (NATIVE.includes(syntax)) return { bytes: body, bits: image.bitsAllocated, ...stored };
  if (syntax === RLE) {
    const bytesPerSample = Math.max(image.bitsAllocated >> 3, 1);
    const bytes = decodeRle(body, image.rows * image.columns, image.samples, bytesPerSample);
    return { bytes, bits: 8 * bytesPerSample, ...stored, planar: false };
  }
  const decoder = await decoderOf(syntax);
  if (decoder === undefined) return undefined;
  decoder.getEncodedBuffer(body.length).set(body);
  decoder.decode();
  const info = decoder.getFrameInfo();
  if (info.width !== image.columns || info.height !== image.rows) throw new Error('code stream of another size');
  // Transforms of colour inside the code stream were undone by the decoder.
  const undone = syntax === '1.2.840.10008.1.2.4.50' || image.photometric.startsWith('YBR_R') || image.photometric === 'YBR_ICT';
  return {
    // The decoder's memory is used again for the next frame.
    bytes: decoder.getDecodedBuffer().slice(),
    bits: info.bitsPerSample > 8 ? 16 : 8,
    samples: info.componentCount === 3 ? 3 : 1,
    planar: false,
    photometric: undone ? 'RGB' : image.photometric,
    bitsStored: info.isSigned ? (info.bitsPerSample > 8 ? 16 : 8) : Math.min(image.bitsStored, info.bitsPerSample),
    highBit: info.isSigned ? (info.bitsPerSample > 8 ? 15 : 7) : Math.min(image.bitsStored, info.bitsPerSample) - 1,
  };
}

function decoderOf(syntax: string): Promise<Decoder> | undefined {
  switch (syntax) {
    case '1.2.840.10008.1.2.4.80':
    case '1.2.840.10008.1.2.4.81':
      return once('JpegLSDecoder', charls, () => import('@cornerstonejs/codec-charls/decodewasmjs'));
    case '1.2.840.10008.1.2.4.90':
    case '1.2.840.10008.1.2.4.91':
      return once('J2KDecoder', openjpeg, () => import('@cornerstonejs/codec-openjpeg/decodewasmjs'));
    case '1.2.840.10008.1.2.4.50':
      return once('JPEGDecoder', turbo, () => import('@cornerstonejs/codec-libjpeg-turbo-8bit/decodewasmjs'));
    default:
      return undefined;
  }
}

function once(name: string, wasm: string, load: () => Promise<{ default: unknown }>): Promise<Decoder> {
  const known = decoders.get(name);
  if (known !== undefined) return known;
  const decoder = codecOf(wasm, load).then((codec) => {
    const Made = codec[name];
    if (Made === undefined) throw new Error(`codec without ${name}`);
    return new Made();
  });
  decoders.set(name, decoder);
  // The next frame tries again what the network did not bring.
  decoder.catch(() => decoders.delete(name));
  return decoder;
}

/** The codec: its program is on the way together with the script around it, not after. */
async function codecOf(wasm: string, load: () => Promise<{ default: unknown }>): Promise<Codec> {
  const [program, module] = await Promise.all([WebAssembly.compileStreaming(fetch(wasm)), load()]);
  return new Promise((resolve, reject) => {
    const options: Options = {
      instantiateWasm(imports, done) {
        WebAssembly.instantiate(program, imports).then((instance) => done(instance, program), reject);
        return {};
      },
    };
    (module.default as Factory)(options).then(resolve, reject);
  });
}
