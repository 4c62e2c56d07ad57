/** Reading of the DICOM JSON Model (PS3.18 annex F). Every value may be absent or of a wrong kind. */

import { ownPath } from '../exam';
import { get } from '../http';

interface Element {
  vr?: string;
  Value?: unknown[];
  InlineBinary?: string;
  BulkDataURI?: string;
}

/** A data set: elements by their tag of eight hexadecimal digits. */
export type DataSet = Record<string, Element | undefined>;

/** All values of an element as text; empty ones are left out. */
export function texts(set: DataSet | undefined, tag: string): string[] {
  return (set?.[tag]?.Value ?? []).flatMap((value) => {
    if (typeof value === 'string') return [value];
    if (typeof value === 'number') return [String(value)];
    // A person's name (PS3.18 F.2.2): the alphabetic group stands first.
    const name = value as { Alphabetic?: string; Ideographic?: string; Phonetic?: string } | null;
    const group = name?.Alphabetic ?? name?.Ideographic ?? name?.Phonetic;
    return typeof group === 'string' ? [group] : [];
  });
}

/** First value as text, '' when there is none. */
export function text(set: DataSet | undefined, tag: string): string {
  return texts(set, tag)[0] ?? '';
}

/** All values as numbers; what is none is left out. */
export function numbers(set: DataSet | undefined, tag: string): number[] {
  return texts(set, tag).flatMap((value) => {
    const number = value.trim() === '' ? NaN : Number(value);
    return Number.isFinite(number) ? [number] : [];
  });
}

/** First value as a number. */
export function number(set: DataSet | undefined, tag: string): number | undefined {
  return numbers(set, tag)[0];
}

/** Items of a sequence. */
export function items(set: DataSet | undefined, tag: string): DataSet[] {
  return (set?.[tag]?.Value ?? []).filter((item): item is DataSet => typeof item === 'object' && item !== null);
}

/** Bytes of an element, wherever the answer put them. */
export async function bytes(set: DataSet, tag: string): Promise<Uint8Array | undefined> {
  const element = set[tag];
  if (element?.InlineBinary !== undefined) {
    return Uint8Array.from(atob(element.InlineBinary), (character) => character.charCodeAt(0));
  }
  const path = element?.BulkDataURI === undefined ? undefined : ownPath(element.BulkDataURI);
  if (path === undefined) return undefined;
  const response = await get(path, 'application/octet-stream');
  return new Uint8Array(await response.arrayBuffer());
}

/** Entries of a lookup table: numbers in the answer, or bytes of 8 or 16 bits each. */
export async function entries(set: DataSet, tag: string, count: number): Promise<Uint16Array | undefined> {
  const plain = numbers(set, tag);
  if (plain.length >= count) return Uint16Array.from(plain);
  const raw = await bytes(set, tag);
  if (raw === undefined) return undefined;
  if (raw.length >= 2 * count) {
    const view = new DataView(raw.buffer, raw.byteOffset);
    return Uint16Array.from({ length: count }, (_, index) => view.getUint16(2 * index, true));
  }
  return raw.length >= count ? Uint16Array.from(raw.subarray(0, count)) : undefined;
}
