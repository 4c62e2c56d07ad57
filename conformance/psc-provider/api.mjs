// An "API Pro Santé Connectée": its own authorisation server, which exchanges tokens of PSC (RFC 8693), and a
// resource that answers what it was asked. Both want the client certificate.

import { randomUUID } from 'node:crypto';

import { belongsTo, certificate, form, json, presented, read, subjectOf } from './http.mjs';
import { clients, count, knobs, now, spoiled } from './state.mjs';
import { confirmation, confirms, sign, verified } from './tokens.mjs';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const SUBJECT_TYPES = ['urn:ietf:params:oauth:token-type:access_token', 'urn:ietf:params:oauth:token-type:jwt'];

export function apiHandler(provider, origin) {
  const refreshable = new Map();
  const revoked = new Set();

  async function grantToken(req, res, realm) {
    const asked = await form(req);
    const shown = certificate(req);
    const client = clients.get(asked.client_id);
    const refuse = (status, error) => json(res, { error, error_description: `the API refuses: ${error}` }, status);
    if (!client || !belongsTo(shown, client)) return refuse(401, 'invalid_client');
    let user;
    let same;
    if (asked.grant_type === EXCHANGE) {
      if (!SUBJECT_TYPES.includes(asked.subject_token_type)) return refuse(400, 'invalid_request');
      if (!asked.scope) return refuse(400, 'invalid_scope');
      if (asked.audience) count(`exchange:${asked.audience}`, { method: req.method });
      const claims = await verified(asked.subject_token ?? '');
      const stored = claims && (await provider.AccessToken.find(claims.jti));
      if (!stored?.isValid) return refuse(400, 'invalid_token');
      user = claims.preferred_username;
    } else if (asked.grant_type === 'refresh_token') {
      const kept = refreshable.get(asked.refresh_token);
      if (knobs.apiRefreshRotates) refreshable.delete(asked.refresh_token);
      else same = asked.refresh_token;
      if (!kept || kept.client !== client.id || kept.until <= now()) return refuse(400, 'invalid_grant');
      user = kept.user;
    } else {
      return refuse(400, 'unsupported_grant_type');
    }
    const refresh = same ?? randomUUID();
    refreshable.set(refresh, { user, client: client.id, until: now() + knobs.apiRefreshSeconds });
    const token = await sign({
      exp: now() + knobs.apiTokenSeconds,
      iat: now(),
      jti: randomUUID(),
      iss: `${origin}/realms/${realm}`,
      typ: 'Bearer',
      azp: client.id,
      scope: asked.scope,
      SubjectNameID: user,
      cnf: confirmation(knobs.apiCnf, shown),
    });
    return json(res, {
      access_token: token,
      issued_token_type: SUBJECT_TYPES[0],
      token_type: 'Bearer',
      expires_in: knobs.apiTokenSeconds,
      ...(same ? {} : { refresh_token: refresh, refresh_expires_in: knobs.apiRefreshSeconds }),
      scope: asked.scope,
    });
  }

  async function revoke(req, res) {
    const asked = await form(req);
    if (!belongsTo(certificate(req), clients.get(asked.client_id))) {
      json(res, { error: 'invalid_client' }, 401);
      return;
    }
    refreshable.delete(asked.token);
    const claims = await verified(asked.token ?? '');
    if (claims) revoked.add(claims.jti);
    res.writeHead(200).end();
  }

  async function resource(req, res, api, path) {
    const shown = certificate(req);
    const claims = await verified((req.headers.authorization ?? '').replace(/^Bearer /i, ''));
    const fresh = claims && claims.exp > now() && !revoked.has(claims.jti);
    if (!fresh || claims.iss !== `${origin}/realms/${api}` || !confirms(claims.cnf, shown)) {
      json(res, { error: 'invalid_token' }, 401);
      return;
    }
    const body = await read(req);
    res.setHeader('x-api', api);
    json(res, {
      api,
      method: req.method,
      path,
      certificate: subjectOf(shown).CN,
      nationalId: claims.SubjectNameID,
      headers: req.headers,
      body,
    }, req.method === 'POST' ? 201 : 200);
  }

  return async (req, res) => {
    const { pathname, search } = new URL(req.url, origin);
    const server = /^\/realms\/([\w-]+)\/protocol\/openid-connect\/(token|revoke)$/.exec(pathname);
    const [, api, rest] = /^\/api\/([\w-]+)(\/.*)$/.exec(pathname) ?? [];
    const endpoint = server ? { token: 'exchange', revoke: 'apiRevocation' }[server[2]] : 'api';
    if (!server && !api) {
      json(res, { error: 'not_found' }, 404);
      return;
    }
    const shown = certificate(req);
    count(endpoint, { method: req.method, ...presented(shown), api: api ?? server[1] });
    if (await spoiled(endpoint, req, res)) return;
    if (!server) await resource(req, res, api, `${rest}${search}`);
    else if (server[2] === 'token') await grantToken(req, res, server[1]);
    else await revoke(req, res);
  };
}
