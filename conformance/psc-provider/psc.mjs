// The hosts of Pro Santé Connect: issuer, wallet, and the one that asks for certificates.

import { answerCiba, ROUTES, waiting } from './provider.mjs';
import { certificate, form, html, json, presented } from './http.mjs';
import { endSession } from './logout.mjs';
import { choice, goodbye } from './pages.mjs';
import { clients, count, knobs, overlaid, spoiled } from './state.mjs';
import { keySet, verified } from './tokens.mjs';
import { isKnown, subject } from './users.mjs';

export const REALM = '/auth/realms/esante-wallet';
const DISCOVERY = '/.well-known/wallet-openid-configuration';
const PAGE = '/wallet-login/';

export const interactionPath = (uid) => `${REALM}${PAGE}${uid}`;

/** Answers requests of every host; `origins` are {issuer, wallet, mtls}. */
export function pscHandler(provider, origins, ca) {
  const issuer = `${origins.issuer}${REALM}`;
  const library = provider.callback();

  function discovery() {
    const at = (origin, path) => `${origin}${REALM}${path}`;
    const back = (origin) => ({
      token_endpoint: at(origin, ROUTES.token),
      revocation_endpoint: at(origin, ROUTES.revocation),
      introspection_endpoint: at(origin, ROUTES.introspection),
      userinfo_endpoint: at(origin, ROUTES.userinfo),
      backchannel_authentication_endpoint: at(origin, ROUTES.ciba),
    });
    const methods = ['private_key_jwt', 'client_secret_basic', 'client_secret_post', 'tls_client_auth', 'client_secret_jwt'];
    return overlaid({
      issuer,
      authorization_endpoint: `${origins.wallet}/auth`,
      ...back(origins.issuer),
      end_session_endpoint: at(origins.issuer, ROUTES.logout),
      jwks_uri: at(origins.issuer, ROUTES.keys),
      mtls_endpoint_aliases: back(origins.mtls),
      grant_types_supported: ['authorization_code', 'implicit', 'refresh_token', 'password', 'client_credentials', 'urn:openid:params:grant-type:ciba'],
      response_types_supported: ['code', 'none', 'id_token', 'token', 'code id_token'],
      subject_types_supported: ['public', 'pairwise'],
      id_token_signing_alg_values_supported: ['PS384', 'ES384', 'RS384', 'HS256', 'HS512', 'ES256', 'RS256'],
      response_modes_supported: ['query', 'fragment', 'form_post', 'query.jwt', 'jwt'],
      token_endpoint_auth_methods_supported: methods,
      introspection_endpoint_auth_methods_supported: methods,
      scopes_supported: ['openid', 'scope_all', 'identity', 'rpps', 'eidas1', 'offline_access'],
      acr_values_supported: ['0', '0'],
      code_challenge_methods_supported: ['plain', 'S256'],
      tls_client_certificate_bound_access_tokens: true,
      backchannel_token_delivery_modes_supported: ['poll', 'ping'],
      backchannel_logout_supported: true,
      backchannel_logout_session_supported: true,
      authorization_response_iss_parameter_supported: true,
      require_pushed_authorization_requests: false,
    }, knobs.discovery);
  }

  /** Hands the request to the library, below the path of the realm. */
  function pass(req, res) {
    req.originalUrl = req.url;
    req.url = req.url.slice(REALM.length) || '/';
    return library(req, res);
  }

  /** The library knows opaque tokens only. */
  async function opaque(token) {
    if (token?.split('.').length !== 3) return { token };
    const claims = await verified(token);
    return { token: claims?.jti ?? 'unknown', claims };
  }

  const answers = {
    async discovery(req, res) {
      json(res, discovery());
    },
    async keys(req, res) {
      json(res, keySet());
    },
    async authorization(req, res) {
      await pass(req, res);
    },
    async userinfo(req, res) {
      const [scheme, value] = (req.headers.authorization ?? '').split(' ');
      if (scheme?.toLowerCase() === 'bearer') req.headers.authorization = `Bearer ${(await opaque(value)).token}`;
      await pass(req, res);
    },
    async introspection(req, res) {
      req.body = await form(req);
      const { token, claims } = await opaque(req.body.token);
      Object.assign(req.body, { token });
      req.pscClaims = claims;
      await pass(req, res);
    },
    async revocation(req, res) {
      req.body = await form(req);
      Object.assign(req.body, await opaque(req.body.token).then(({ token }) => ({ token })));
      await pass(req, res);
    },
    async ciba(req, res) {
      req.body = await form(req);
      if (!['CARD', 'MOBILE'].includes(req.body.channel)) {
        json(res, { error: 'invalid_request', error_description: 'channel is CARD or MOBILE' }, 400);
        return;
      }
      count(`ciba:${req.body.channel}`, { method: req.method });
      await pass(req, res);
    },
    async token(req, res) {
      req.body = await form(req);
      const { grant_type: grant, auth_req_id: id, client_id: client } = req.body;
      if (grant === 'urn:openid:params:grant-type:ciba' && waiting.has(id)) {
        const authentic = clients.has(client) && certificate(req);
        const error = authentic && (await answerCiba(provider, id));
        if (error) {
          json(res, { error }, 400);
          return;
        }
      }
      await pass(req, res);
    },
    async logout(req, res) {
      const asked = req.method === 'POST' ? await form(req) : Object.fromEntries(new URL(req.url, issuer).searchParams);
      const hint = await verified(asked.id_token_hint ?? '');
      if (hint?.typ !== 'ID') {
        json(res, { error: 'invalid_request', error_description: 'id_token_hint is wanted' }, 400);
        return;
      }
      const client = clients.get(hint.azp);
      await endSession(provider, issuer, hint.sid, ca);
      const back = asked.post_logout_redirect_uri;
      if (back === undefined) {
        html(res, goodbye());
      } else if (client?.postLogoutUris.includes(back)) {
        const to = new URL(back);
        if (asked.state !== undefined) to.searchParams.set('state', asked.state);
        res.writeHead(302, { location: to.href });
        res.end();
      } else {
        json(res, { error: 'invalid_request', error_description: 'post_logout_redirect_uri is not registered' }, 400);
      }
    },
  };

  /** The login page: shows it, or answers for the user. */
  async function login(req, res) {
    const details = await provider.interactionDetails(req, res);
    const user = req.method === 'POST' ? (await form(req)).user : knobs.user;
    if (user === null) {
      html(res, choice(req.url));
      return;
    }
    const outcome = isKnown(user)
      ? { login: { accountId: subject(user), acr: details.params.acr_values?.split(' ')[0], remember: true } }
      : { error: 'access_denied', error_description: 'the user refused' };
    await provider.interactionFinished(req, res, outcome, { mergeWithLastSubmission: false });
  }

  /** Requests that arrive at the issuer or at the host with certificates. */
  async function realm(req, res) {
    const path = new URL(req.url, issuer).pathname.slice(REALM.length);
    if (path.startsWith(PAGE)) {
      await login(req, res);
      return;
    }
    // The resumed authorization, after the login page.
    if (path.startsWith(`${ROUTES.authorization}/`)) {
      await pass(req, res);
      return;
    }
    const endpoint = path === DISCOVERY ? 'discovery' : Object.keys(ROUTES).find((name) => ROUTES[name] === path);
    if (!endpoint) {
      json(res, { error: 'not_found' }, 404);
      return;
    }
    const shown = certificate(req);
    count(endpoint, { method: req.method, ...presented(shown) });
    if (await spoiled(endpoint, req, res)) return;
    await answers[endpoint](req, res);
  }

  return async (req, res) => {
    const url = new URL(req.url, origins.wallet);
    if (req.headers.host === new URL(origins.wallet).host && url.pathname === '/auth') {
      count('wallet', { method: req.method });
      res.writeHead(302, { location: `${issuer}${ROUTES.authorization}${url.search}` });
      res.end();
    } else if (url.pathname.startsWith(`${REALM}/`)) {
      await realm(req, res);
    } else {
      json(res, { error: 'not_found' }, 404);
    }
  };
}

