// The OpenID provider: npm `oidc-provider`, bent to what is known of Pro Santé Connect.
//
// The library keeps opaque access tokens; what clients get is a signed token that names the opaque one by `jti`.

import { createHash, randomUUID } from 'node:crypto';
import Provider, { errors } from 'oidc-provider';

import { belongsTo, certificate } from './http.mjs';
import { clients, knobs, now, overlaid } from './state.mjs';
import { Storage } from './storage.mjs';
import { confirmation, halfHash, libraryKey, sign } from './tokens.mjs';
import { idOf, identity, isKnown, subject, userInfo } from './users.mjs';

const SCOPES = 'openid scope_all';

export const ROUTES = {
  token: '/protocol/openid-connect/token',
  userinfo: '/protocol/openid-connect/userinfo',
  introspection: '/protocol/openid-connect/token/introspect',
  keys: '/protocol/openid-connect/certs',
  logout: '/protocol/openid-connect/logout',
  revocation: '/protocol/openid-connect/revoke',
  ciba: '/protocol/openid-connect/ext/ciba/auth',
  authorization: '/protocol/openid-connect/auth',
};

/** Sessions by `sid`: {user, grants, clients, uid}. */
export const sessions = new Map();

/** The `sid` of each session of a user. */
export const sessionsOf = (id) => [...sessions].filter(([, { user }]) => idOf(user) === id).map(([sid]) => sid);

/** CIBA requests that wait for their user, by `auth_req_id`. */
export const waiting = new Map();

/** Registers a client: {id, certificateName, redirectUris, postLogoutUris, backchannelLogoutUri}. */
export function register(client) {
  const code = (client.redirectUris ?? []).length > 0;
  clients.set(client.id, {
    certificateName: client.id,
    postLogoutUris: [],
    ...client,
    metadata: {
      client_id: client.id,
      token_endpoint_auth_method: 'tls_client_auth',
      tls_client_auth_subject_dn: `CN=${client.id}`,
      grant_types: ['refresh_token', 'urn:openid:params:grant-type:ciba', ...(code ? ['authorization_code'] : [])],
      response_types: code ? ['code'] : [],
      redirect_uris: client.redirectUris ?? [],
      backchannel_token_delivery_mode: 'poll',
      scope: SCOPES,
    },
  });
}

/** The session that a token belongs to: that of the browser, or one of its own. */
function sessionOf({ sessionUid, grantId, accountId, clientId }) {
  const hex = createHash('sha256').update(sessionUid ?? grantId).digest('hex');
  const sid = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-');
  if (!sessions.has(sid)) sessions.set(sid, { user: accountId, grants: new Set(), clients: new Set(), uid: sessionUid });
  const session = sessions.get(sid);
  session.grants.add(grantId);
  session.clients.add(clientId);
  return sid;
}

/** What an access token says; members and their odd values as captured from PSC: no `aud`. */
function accessClaims(issuer, token, source, presented) {
  const sid = sessionOf(token);
  const id = idOf(token.accountId);
  return overlaid({
    exp: token.exp,
    iat: token.iat,
    auth_time: source.authTime ?? token.iat,
    jti: token.jti,
    iss: issuer,
    sub: token.accountId,
    typ: 'Bearer',
    azp: token.clientId,
    nonce: source.nonce,
    session_state: sid,
    acr: knobs.acr,
    scope: token.scope,
    sid,
    authMode: 'CARD',
    otherIds: [{ identifiant: id, origine: 'RPPS', qualite: 1 }],
    preferred_username: id,
    SubjectNameID: id,
    cnf: confirmation(knobs.cnf, presented),
  }, knobs.accessToken);
}

export async function makeProvider(issuer, interaction) {
  const provider = new Provider(issuer, {
    adapter: Storage,
    jwks: { keys: [await libraryKey()] },
    cookies: { keys: [randomUUID()] },
    routes: {
      authorization: ROUTES.authorization,
      token: ROUTES.token,
      userinfo: ROUTES.userinfo,
      introspection: ROUTES.introspection,
      revocation: ROUTES.revocation,
      jwks: '/library/keys',
      backchannel_authentication: ROUTES.ciba,
    },
    clientAuthMethods: ['tls_client_auth'],
    scopes: SCOPES.split(' '),
    acrValues: ['eidas1', 'eidas2', 'eidas3'],
    extraParams: ['kc_idp_hint', 'channel'],
    // Keycloak takes PKCE without asking for it.
    pkce: { required: () => false },
    ttl: {
      AccessToken: () => knobs.accessTokenSeconds,
      RefreshToken: () => knobs.refreshTokenSeconds,
      BackchannelAuthenticationRequest: () => knobs.cibaSeconds,
      IdToken: 120,
      AuthorizationCode: 60,
      Interaction: 600,
      Session: 4 * 3600,
      Grant: 4 * 3600,
    },
    issueRefreshToken: () => true,
    rotateRefreshToken: true,
    expiresWithSession: () => false,
    interactions: { url: (ctx, { uid }) => interaction(uid) },
    async loadExistingGrant(ctx) {
      const { client, session } = ctx.oidc;
      return newGrant(provider, client.clientId, session.accountId);
    },
    async findAccount(ctx, sub) {
      const id = idOf(sub);
      return isKnown(id) ? { accountId: subject(id), claims: async () => identity(id) } : undefined;
    },
    features: {
      devInteractions: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      resourceIndicators: { enabled: false },
      revocation: { enabled: true, allowedPolicy: (ctx, client, token) => token.clientId === client.clientId },
      // Whoever may ask PSC may ask about any token.
      introspection: { enabled: true, allowedPolicy: () => true },
      mTLS: {
        enabled: true,
        tlsClientAuth: true,
        getCertificate: (ctx) => certificate(ctx.req),
        certificateAuthorized: (ctx) => ctx.req.socket.authorized === true,
        certificateSubjectMatches: (ctx) => belongsTo(certificate(ctx.req), clients.get(ctx.oidc.client.clientId)),
      },
      ciba: {
        enabled: true,
        deliveryModes: ['poll'],
        processLoginHint: async (ctx, hint) => (isKnown(hint) ? subject(hint) : undefined),
        processLoginHintToken: async () => undefined,
        verifyUserCode: async () => {},
        validateRequestContext: async () => {},
        async validateBindingMessage(ctx, message) {
          if (!/^\d\d$/.test(message ?? '')) throw new errors.InvalidBindingMessage('two digits are wanted');
        },
        async triggerAuthenticationDevice(ctx, request) {
          waiting.set(request.jti, { answer: knobs.ciba, pending: knobs.cibaPending, slowDown: knobs.cibaSlowDown });
        },
      },
    },
  });

  // Tokens are issued in a request or, for tests, outside of one.
  const { AccessToken, IdToken } = provider;
  const stored = AccessToken.prototype.save;
  AccessToken.prototype.save = async function save() {
    this.iat = now();
    this.exp = this.iat + this.expiration;
    await stored.call(this);
    const { ctx } = Provider;
    const { AuthorizationCode, RefreshToken, BackchannelAuthenticationRequest } = ctx?.oidc.entities ?? {};
    const source = AuthorizationCode ?? RefreshToken ?? BackchannelAuthenticationRequest ?? {};
    const jwt = await sign(accessClaims(issuer, this, source, ctx && certificate(ctx.req)));
    if (ctx) ctx.pscAccessToken = jwt;
    return jwt;
  };
  IdToken.prototype.issue = async function issue() {
    const { ctx, client } = this;
    const token = ctx.oidc.entities.AccessToken;
    const issued = now();
    const sid = sessionOf(token);
    return sign(overlaid({
      exp: issued + knobs.accessTokenSeconds,
      iat: issued,
      auth_time: this.available.auth_time ?? issued,
      jti: randomUUID(),
      iss: issuer,
      aud: client.clientId,
      typ: 'ID',
      azp: client.clientId,
      nonce: this.extra.nonce,
      session_state: sid,
      at_hash: halfHash(ctx.pscAccessToken),
      acr: knobs.acr,
      sid,
      ...identity(idOf(token.accountId)),
    }, knobs.idToken));
  };

  provider.use(async (ctx, next) => {
    await next();
    if (ctx.status !== 200) return;
    const token = ctx.oidc?.entities.AccessToken;
    switch (ctx.oidc?.route) {
      case 'token':
        ctx.body = overlaid({
          ...ctx.body,
          refresh_expires_in: knobs.refreshTokenSeconds,
          'not-before-policy': 0,
          session_state: sessionOf(token),
        }, knobs.tokenAnswer);
        break;
      case 'introspection':
        if (ctx.body.active) ctx.body = introspected(ctx.body, ctx.req.pscClaims);
        break;
      case 'userinfo': {
        const info = userInfo(idOf(token.accountId));
        if (knobs.userInfo === 'jwt') {
          ctx.body = await sign({ ...info, iss: issuer, aud: token.clientId });
          ctx.type = 'application/jwt';
        } else {
          ctx.body = info;
        }
        break;
      }
      case 'backchannel_authentication':
        if (knobs.cibaInterval !== null) ctx.body.interval = knobs.cibaInterval;
        break;
      default:
    }
  });
  for (const event of ['server_error', 'grant.error', 'introspection.error', 'authorization.error', 'userinfo.error']) {
    provider.on(event, (ctx, error) => console.error(event, error.error ?? error.stack, error.error_detail ?? ''));
  }
  return provider;
}

/** Keycloak answers with the claims of the token, and two names more. */
function introspected(answer, claims) {
  const described = claims ? { ...claims, client_id: claims.azp, username: claims.preferred_username } : answer;
  return overlaid({ ...described, email_verified: false, active: true }, knobs.introspection);
}

export async function newGrant(provider, clientId, accountId) {
  const grant = new provider.Grant({ clientId, accountId });
  grant.addOIDCScope(SCOPES);
  await grant.save();
  return grant;
}

/** An access token without a login, for tests of those who check tokens. */
export async function issue(provider, { user, client: id }) {
  const accountId = subject(user);
  const grant = await newGrant(provider, id, accountId);
  const client = await provider.Client.find(id);
  const token = new provider.AccessToken({ accountId, client, grantId: grant.jti, scope: SCOPES });
  return { access_token: await token.save(), expires_in: token.expiration, sid: sessionOf(token) };
}

/** The user's answer to a CIBA request, given when the client asks; the OAuth error that comes before it, if any. */
export async function answerCiba(provider, id) {
  const request = waiting.get(id);
  if (!request) return undefined;
  if (request.slowDown > 0) {
    request.slowDown -= 1;
    return 'slow_down';
  }
  if (request.pending > 0) {
    request.pending -= 1;
    return 'authorization_pending';
  }
  if (request.answer === 'ignore') return undefined;
  waiting.delete(id);
  const stored = await provider.BackchannelAuthenticationRequest.find(id);
  if (!stored) return undefined;
  if (request.answer === 'refuse') {
    await provider.backchannelResult(stored, new errors.AccessDenied('the user refused'));
  } else {
    const grant = await newGrant(provider, stored.clientId, stored.accountId);
    await provider.backchannelResult(stored, grant, { acr: 'eidas1', authTime: now() });
  }
  return undefined;
}
