// Small things of HTTP that the parts share.

const LIMIT = 1024 * 1024;

export async function read(req) {
  const chunks = [];
  let size = 0;
  for await (const chunk of req) {
    size += chunk.length;
    if (size > LIMIT) throw new Error('the body is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

export const form = async (req) => Object.fromEntries(new URLSearchParams(await read(req)));

export function json(res, value, status = 200) {
  res.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  res.end(JSON.stringify(value));
}

export function html(res, text, status = 200) {
  res.writeHead(status, { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' });
  res.end(text);
}

/** The client certificate, when it chains to the authority of the tests. */
export function certificate(req) {
  return req.socket.authorized ? req.socket.getPeerX509Certificate() : undefined;
}

/** The attributes of a subject: {C, O, OU, CN}. */
export function subjectOf(certificate) {
  const lines = certificate.subject.split('\n').map((line) => line.split(/=(.*)/s));
  return Object.fromEntries(lines);
}

/** What the report says of the certificate that came with a request: its CN and its serial number, in hexadecimal. */
export const presented = (certificate) => ({
  certificate: certificate ? subjectOf(certificate).CN : null,
  serial: certificate?.serialNumber ?? null,
});

/** Whether this certificate is the one registered for the client, by its CN. */
export function belongsTo(certificate, client) {
  return certificate !== undefined && client !== undefined && subjectOf(certificate).CN === client.certificateName;
}
