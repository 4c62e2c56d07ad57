/** The first part of a multipart/related answer (RFC 2046 §5.1, PS3.18 8.6.1). */

/** One part: its bytes and the transfer syntax it declares, '' for none. */
export interface Part {
  transferSyntax: string;
  body: Uint8Array;
}

/** First part of `body`; an answer that is not multipart is its own only part. */
export function firstPart(body: ArrayBuffer, contentType: string): Part {
  const bytes = new Uint8Array(body);
  const boundary = /boundary="?([^";,]+)"?/i.exec(contentType)?.[1];
  if (boundary === undefined) return { transferSyntax: syntaxOf(contentType), body: bytes };

  const start = find(bytes, `--${boundary}`, 0);
  const headersEnd = start < 0 ? -1 : find(bytes, '\r\n\r\n', start);
  if (headersEnd < 0) throw new Error('multipart answer without a part');
  const headers = latin(bytes.subarray(start, headersEnd));
  const from = headersEnd + 4;
  const length = Number(/^content-length:\s*(\d+)/im.exec(headers)?.[1] ?? NaN);
  const to = from + length <= bytes.length ? from + length : find(bytes, `\r\n--${boundary}`, from);
  if (to < 0) throw new Error('multipart answer that ends early');
  const type = /^content-type:(.*)$/im.exec(headers)?.[1] ?? '';
  return { transferSyntax: syntaxOf(type) || syntaxOf(contentType), body: bytes.subarray(from, to) };
}

// Some servers write the parameter inside the quoted media type.
function syntaxOf(type: string): string {
  return /transfer-syntax="?([0-9.]+)/i.exec(type)?.[1] ?? '';
}

function find(bytes: Uint8Array, needle: string, from: number): number {
  const codes = Array.from(needle, (character) => character.charCodeAt(0));
  const first = codes[0] ?? 0;
  for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1)) {
    if (at + codes.length > bytes.length) return -1;
    let matched = 1;
    while (matched < codes.length && bytes[at + matched] === codes[matched]) matched += 1;
    if (matched === codes.length) return at;
  }
  return -1;
}

function latin(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join('');
}
