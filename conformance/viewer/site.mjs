// A server in the place of a `vi` name: the built page with the headers that the gateway gives it, an exam
// that the test describes, and the gateway's DICOMweb behind the same origin.

import { createServer, request } from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';

/** The folder `gateway/viewer`. */
const viewer = process.env.DRIMBOX_TEST_VIEWER;

/** Serves the page for tests. `exam` may be changed between pages; what came in is kept in `seen`. */
export async function startSite(gateway) {
  const list = await readFile(path.join(viewer, 'dist/files.tsv'), 'utf8');
  const manifest = list.trim().split('\n').map((line) => line.split('\t')).map(([name, type]) => ({ name, type }));
  const files = new Map(manifest.map((file) => [`/viewer/${file.name}`, file]));
  const documentHeaders = await headers('document');
  const assetHeaders = await headers('asset');
  const waiting = new Set();
  const site = {
    /** As before the first page. */
    reset() {
      Object.assign(site, { exam: {}, status: 200, files: new Map(), intercept: undefined, progress: [] });
      site.seen = { reports: [], logouts: 0, launches: 0, bytes: 0, paths: [] };
    },
    /** Waits until a request makes the condition true. */
    until(condition) {
      return new Promise((resolve) => {
        const check = () => {
          if (!condition()) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      });
    },
  };
  /** Keeps the answers to such DICOMweb paths until the function returned is called. */
  site.hold = (held) => {
    const { promise, resolve } = Promise.withResolvers();
    site.intercept = async (asked) => {
      if (held(asked)) await promise;
      return false;
    };
    return resolve;
  };
  site.reset();

  const server = createServer(async (incoming, answer) => {
    const { pathname } = new URL(incoming.url, 'http://site');
    site.seen.paths.push(pathname);
    if (pathname === '/viewer/csp-report') {
      site.seen.reports.push(await body(incoming));
      answer.writeHead(204).end();
      waiting.forEach((check) => check());
    } else if (pathname === '/viewer/api/archive/progress') {
      // The answers in their order, the last one again and again.
      json(answer, site.status, site.progress.length > 1 ? site.progress.shift() : site.progress[0]);
    } else if (pathname === '/viewer/api/weasis') {
      const form = new URLSearchParams(await body(incoming));
      const allowed = incoming.method === 'POST' && form.get('csrf') === site.exam.csrf;
      site.seen.launches += allowed ? 1 : 0;
      answer.writeHead(allowed ? 200 : 403, { 'Content-Type': 'text/plain', 'Cache-Control': 'no-store' });
      answer.end(allowed ? site.launch : '');
    } else if (pathname === site.exam.logout) {
      const form = new URLSearchParams(await body(incoming));
      site.seen.logouts += incoming.method === 'POST' && form.get('csrf') === site.exam.csrf ? 1 : 0;
      site.status = 401;
      answer.writeHead(204).end();
      waiting.forEach((check) => check());
    } else if (pathname === '/viewer/api/exam') {
      json(answer, site.status, site.exam);
    } else if (site.files.has(pathname)) {
      const file = site.files.get(pathname);
      answer.writeHead(200, { ...documentHeaders, 'Content-Security-Policy': "default-src 'none'; sandbox", 'X-Frame-Options': 'SAMEORIGIN', 'Content-Type': file.type, 'Content-Length': file.body.length });
      answer.end(file.body);
    } else if (pathname.startsWith('/dicom-web/')) {
      if (site.status !== 200) json(answer, site.status, {});
      else if (await site.intercept?.(pathname, answer, incoming)) return;
      else forward(incoming, answer);
    } else {
      const file = files.get(pathname === '/viewer/' ? '/viewer/index.html' : pathname);
      if (file === undefined) {
        answer.writeHead(404).end();
        return;
      }
      const encoded = await readFile(path.join(viewer, 'dist/site', `${file.name}.gz`));
      const hashed = pathname.startsWith('/viewer/assets/');
      answer.writeHead(200, { ...(hashed ? assetHeaders : documentHeaders), 'Content-Type': file.type, 'Content-Encoding': 'gzip', 'Content-Length': encoded.length });
      site.seen.bytes += encoded.length;
      answer.end(encoded);
    }
  });

  function forward(incoming, answer) {
    const target = new URL(incoming.url, gateway);
    const onward = request(target, { method: incoming.method, headers: { accept: incoming.headers.accept ?? '*/*' } }, (response) => {
      const kept = {};
      for (const name of ['content-type', 'content-length', 'retry-after', 'content-encoding']) {
        if (response.headers[name]) kept[name] = response.headers[name];
      }
      answer.writeHead(response.statusCode, { ...kept, 'Cache-Control': 'no-store', 'Cross-Origin-Resource-Policy': 'same-origin' });
      response.pipe(answer);
    });
    onward.on('error', () => answer.destroy());
    answer.on('close', () => onward.destroy());
    onward.end();
  }

  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  site.origin = `http://127.0.0.1:${server.address().port}`;
  site.close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return site;
}

async function headers(name) {
  const text = await readFile(path.join(viewer, 'headers', `${name}.txt`), 'utf8');
  return Object.fromEntries(
    text
      .split('\n')
      .filter(Boolean)
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
  );
}

function json(answer, status, value) {
  answer.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  answer.end(JSON.stringify(value));
}

async function body(incoming) {
  const chunks = [];
  for await (const chunk of incoming) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
