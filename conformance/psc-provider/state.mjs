// What the tests set and read while the provider runs: knobs, counters, clients, faults.

/** Knobs and their start values; a test changes some of them, and `reset` brings all of them back. */
const defaults = () => ({
  accessTokenSeconds: 120,
  refreshTokenSeconds: 1800,
  /** Value of `acr`; null leaves it out. */
  acr: 'eidas1',
  /** Two `acr` members in every signed token, as PSC had in 2021. */
  repeatedAcr: false,
  /** `cnf` in access tokens: null, "rfc" (RFC 8705) or "ans" (base64 of the hexadecimal digest). */
  cnf: null,
  /** Who logs in without being asked: null shows the page, "refuse" refuses. */
  user: null,
  /** What the user does with a CIBA request: "accept", "refuse" or "ignore". */
  ciba: 'accept',
  /** Questions that are answered `authorization_pending` before the user has answered. */
  cibaPending: 0,
  /** Questions that are answered `slow_down`, before the pending ones. */
  cibaSlowDown: 0,
  cibaSeconds: 120,
  /** Null leaves `interval` out, as the answer of PSC may. */
  cibaInterval: 1,
  /** UserInfo as "json" or as a signed "jwt". */
  userInfo: 'json',
  /** Members laid over the discovery document; null removes one. */
  discovery: {},
  /** Members laid over the introspection answer of an active token; null removes one. */
  introspection: {},
  /** Members laid over access tokens, and over id_tokens; null removes one. */
  accessToken: {},
  idToken: {},
  /** Members laid over the answer of the token endpoint; null removes one. */
  tokenAnswer: {},
  /** Added to the `Date` of every answer. */
  dateOffsetSeconds: 0,
  /** How far the provider's clock is ahead: in the `Date` of every answer, and in every time of a signed token. */
  clockOffsetSeconds: 0,
  /** Life of the tokens of the API's own authorisation server, and their `cnf`. */
  apiTokenSeconds: 14400,
  apiRefreshSeconds: 1800,
  /** Whether a renewal brings another refresh token; without, the one before stays good and the answer has none. */
  apiRefreshRotates: true,
  apiCnf: 'ans',
  /** By endpoint: {status, body, type, hang, cut, times}. */
  faults: {},
});

export const knobs = defaults();
export const clients = new Map();
const counts = new Map();
const seen = [];
const held = new Set();

export const now = () => Math.floor(Date.now() / 1000);

/** `base` with the members of `over`; those that are null are removed. */
export function overlaid(base, over) {
  const all = { ...base, ...over };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null && value !== undefined));
}

export function turn(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (!(name in knobs)) throw new Error(`no knob ${name}`);
    knobs[name] = value;
  }
}

export function reset() {
  Object.assign(knobs, defaults());
  counts.clear();
  seen.length = 0;
  release();
}

/** One more request for this endpoint; what tests may want to know of it, never a token. */
export function count(endpoint, about) {
  counts.set(endpoint, (counts.get(endpoint) ?? 0) + 1);
  seen.push({ endpoint, ...about });
  if (seen.length > 1000) seen.shift();
}

export const report = () => ({ counts: Object.fromEntries(counts), seen, held: held.size });

export function release() {
  for (const go of held) go();
  held.clear();
}

/** Spoils the answer as the knob says; true when the request was dealt with. */
export async function spoiled(endpoint, req, res) {
  const fault = knobs.faults[endpoint];
  if (!fault) return false;
  if (fault.times !== undefined) {
    if (fault.times <= 0) return false;
    fault.times -= 1;
  }
  if (fault.hang) {
    await new Promise((go) => {
      held.add(go);
      res.on('close', () => { held.delete(go); go(); });
    });
    if (res.destroyed || fault.status === undefined) return res.destroyed;
  }
  if (fault.cut) {
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
    res.write('{"active":', () => req.socket.destroy());
    return true;
  }
  const body = typeof fault.body === 'string' ? fault.body : JSON.stringify(fault.body ?? {});
  res.writeHead(fault.status ?? 200, { 'content-type': fault.type ?? 'application/json', ...fault.headers });
  res.end(body);
  return true;
}
