// Documents for the page to draw.

import { deflateSync } from 'node:zlib';

/** A PDF with a page for each of `contents`, compressed; `more` are its objects from number 4 on, resources name them. */
export function pdfOf(contents, { box = [0, 0, 595, 842], resources = '/Font << /F1 4 0 R >>', more = [FONT] } = {}) {
  const first = 4 + more.length;
  const pages = contents.map((_, at) => first + 2 * at);
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    `<< /Type /Pages /Kids [${pages.map((page) => `${page} 0 R`).join(' ')}] /Count ${pages.length} >>`,
    `<< ${resources} >>`,
    ...more,
    ...contents.flatMap((content, at) => [
      `<< /Type /Page /Parent 2 0 R /MediaBox [${box.join(' ')}] /Contents ${pages[at] + 1} 0 R /Resources 3 0 R >>`,
      streamOf('', content),
    ]),
  ];
  const parts = [Buffer.from('%PDF-1.4\n', 'latin1')];
  let length = parts[0].length;
  const places = objects.map((object, at) => {
    const place = length;
    const part = Buffer.concat([Buffer.from(`${at + 1} 0 obj\n`), Buffer.from(object), Buffer.from('\nendobj\n')]);
    parts.push(part);
    length += part.length;
    return String(place).padStart(10, '0');
  });
  const table = `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n${places.map((place) => `${place} 00000 n \n`).join('')}`;
  const trailer = `trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${length}\n%%EOF\n`;
  return Buffer.concat([...parts, Buffer.from(table + trailer)]);
}

/** A stream of these bytes, compressed, with these entries in its dictionary. */
export function streamOf(entries, bytes) {
  const packed = deflateSync(bytes);
  return Buffer.concat([Buffer.from(`<< ${entries} /Filter /FlateDecode /Length ${packed.length} >>\nstream\n`), packed, Buffer.from('\nendstream')]);
}

/** The steps that write a line of text at the top of a page. */
export const line = (text) => `BT /F1 24 Tf 50 700 Td (${text}) Tj ET`;

const FONT = '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>';
