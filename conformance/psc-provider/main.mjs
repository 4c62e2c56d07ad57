// A provider with the shape of Pro Santé Connect, and an API behind it. Loopback only, for tests.
//
//     node main.mjs '{"key": FILE, "certificate": FILE, "ca": FILE, "ready": FILE}'
//
// It listens on free ports and writes their origins to `ready`: {issuer, wallet, mtls, api, control}. The control
// port takes orders in clear text; everything else is TLS with the certificate given.

import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';

import { apiHandler } from './api.mjs';
import { json, read } from './http.mjs';
import { endSession } from './logout.mjs';
import { interactionPath, pscHandler, REALM } from './psc.mjs';
import { issue, makeProvider, register, sessionsOf } from './provider.mjs';
import { knobs, release, report, reset, turn } from './state.mjs';
import { rotate } from './tokens.mjs';

const options = JSON.parse(process.argv[2]);
const tls = {
  key: fs.readFileSync(options.key),
  cert: fs.readFileSync(options.certificate),
  ca: fs.readFileSync(options.ca),
  minVersion: 'TLSv1.2',
};
// Whoever comes without a certificate is told so by the answer, as at PSC, and not by the handshake.
const asking = { ...tls, requestCert: true, rejectUnauthorized: false };

const opened = async (server) => {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server.address().port;
};
const servers = {
  issuer: https.createServer(tls),
  wallet: https.createServer(tls),
  mtls: https.createServer(asking),
  api: https.createServer(asking),
};
// The wallet is another host than the issuer.
const hosts = { wallet: 'localhost' };
const origins = {};
for (const [name, server] of Object.entries(servers)) {
  origins[name] = `https://${hosts[name] ?? '127.0.0.1'}:${await opened(server)}`;
}

await rotate();
const issuer = `${origins.issuer}${REALM}`;
const provider = await makeProvider(issuer, interactionPath);
const psc = pscHandler(provider, origins, tls.ca);
const handlers = { issuer: psc, wallet: psc, mtls: psc, api: apiHandler(provider, origins.api) };

const guarded = (handler) => (req, res) => {
  const date = new Date(Date.now() + (knobs.dateOffsetSeconds + knobs.clockOffsetSeconds) * 1000);
  res.setHeader('date', date.toUTCString());
  handler(req, res).catch((error) => {
    console.error(error.stack);
    if (!res.headersSent) json(res, { error: 'server_error' }, 500);
    else res.destroy();
  });
};
for (const [name, server] of Object.entries(servers)) server.on('request', guarded(handlers[name]));

const orders = {
  '/knobs': async (order) => turn(order),
  '/reset': async () => reset(),
  '/clients': async (order) => order.forEach(register),
  '/rotate': async (order) => ({ kid: await rotate(order) }),
  '/release': async () => release(),
  '/issue': async (order) => issue(provider, order),
  '/end': async ({ sid }) => ({ ended: await endSession(provider, issuer, sid, tls.ca) }),
  '/sessions': async ({ user }) => ({ sids: sessionsOf(user) }),
  '/report': async () => report(),
};
const control = http.createServer((req, res) => {
  const act = async () => {
    const order = orders[req.url];
    if (!order) return json(res, { error: 'no such order' }, 404);
    const body = await read(req);
    return json(res, (await order(body ? JSON.parse(body) : {})) ?? {});
  };
  act().catch((error) => json(res, { error: error.message }, 400));
});
origins.control = `http://127.0.0.1:${await opened(control)}`;

fs.writeFileSync(`${options.ready}.new`, JSON.stringify({ ...origins, issuer }));
fs.renameSync(`${options.ready}.new`, options.ready);
