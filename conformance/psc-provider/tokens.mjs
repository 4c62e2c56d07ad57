// Signed tokens with the shape of those of Pro Santé Connect, and the keys that sign them.

import { createHash } from 'node:crypto';
import * as jose from 'jose';

import { knobs } from './state.mjs';

let signing;
let published = [];

/** Signs with a new key from now on. The keys before it stay published unless they are dropped. */
export async function rotate({ drop = false } = {}) {
  const { privateKey, publicKey } = await jose.generateKeyPair('RS256', { extractable: true });
  const jwk = { ...(await jose.exportJWK(publicKey)), use: 'sig', alg: 'RS256' };
  jwk.kid = await jose.calculateJwkThumbprint(jwk);
  signing = { key: privateKey, publicKey, kid: jwk.kid };
  published = drop ? [jwk] : [jwk, ...published];
  return jwk.kid;
}

export const keySet = () => ({
  // Keycloak publishes a key for encryption too.
  keys: [...published, { ...published[0], use: 'enc', alg: 'RSA-OAEP', kid: 'encryption' }],
});

/** A private JWK for the library, which wants one. */
export async function libraryKey() {
  const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true });
  return { ...(await jose.exportJWK(privateKey)), use: 'sig', alg: 'RS256', kid: 'library' };
}

const TIMES = ['exp', 'iat', 'nbf', 'auth_time'];

/** The claims by a clock that is ahead, or behind. */
const byItsClock = (claims) => Object.fromEntries(Object.entries(claims).map(([name, value]) => (
  [name, TIMES.includes(name) && typeof value === 'number' ? value + knobs.clockOffsetSeconds : value])));

export function sign(claims, typ = 'JWT') {
  let payload = JSON.stringify(byItsClock(claims));
  if (knobs.repeatedAcr && 'acr' in claims) payload = payload.replace('"acr":', '"acr":"1","acr":');
  return new jose.CompactSign(new TextEncoder().encode(payload))
    .setProtectedHeader({ alg: 'RS256', typ, kid: signing.kid })
    .sign(signing.key);
}

/** The claims of a token that was signed here, whatever its age; undefined for any other text. */
export async function verified(token) {
  try {
    const local = jose.createLocalJWKSet({ keys: published });
    const { payload } = await jose.compactVerify(token, local);
    return JSON.parse(new TextDecoder().decode(payload));
  } catch {
    return undefined;
  }
}

/** `at_hash` under RS256 (OpenID Connect Core §3.1.3.6). */
export const halfHash = (token) => createHash('sha256').update(token).digest().subarray(0, 16).toString('base64url');

/** `cnf` for a certificate: RFC 8705 §3.1, or as ANS writes it. */
export function confirmation(form, certificate) {
  if (!form || !certificate) return undefined;
  const digest = createHash('sha256').update(certificate.raw).digest();
  const value = form === 'ans' ? Buffer.from(digest.toString('hex')).toString('base64') : digest.toString('base64url');
  return { 'x5t#S256': value };
}

/** Whether the certificate is the one that `cnf` names, in either form. */
export function confirms(cnf, certificate) {
  const value = cnf?.['x5t#S256'];
  return ['rfc', 'ans'].some((form) => confirmation(form, certificate)?.['x5t#S256'] === value);
}

