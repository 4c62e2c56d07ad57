// The end of a session: what its tokens were worth is over, and the clients that asked for it are told.

import { randomUUID } from 'node:crypto';
import https from 'node:https';

import { sessions } from './provider.mjs';
import { clients, now } from './state.mjs';
import { sign } from './tokens.mjs';

/** Ends the session called `sid`; false when there is none. `ca` is the authority of the clients' own servers. */
export async function endSession(provider, issuer, sid, ca) {
  const session = sessions.get(sid);
  if (!session) return false;
  sessions.delete(sid);
  for (const grantId of session.grants) {
    await provider.AccessToken.revokeByGrantId(grantId);
    await provider.RefreshToken.revokeByGrantId(grantId);
    await (await provider.Grant.find(grantId))?.destroy();
  }
  if (session.uid) await (await provider.Session.findByUid(session.uid))?.destroy();
  const told = [...session.clients].map((id) => clients.get(id)).filter((client) => client?.backchannelLogoutUri);
  await Promise.all(told.map((client) => tell(client, issuer, session.user, sid, ca)));
  return true;
}

async function tell(client, issuer, sub, sid, ca) {
  const token = await sign({
    iss: issuer,
    aud: client.id,
    iat: now(),
    exp: now() + 120,
    jti: randomUUID(),
    sub,
    sid,
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
  }, 'logout+jwt');
  const body = new URLSearchParams({ logout_token: token }).toString();
  await new Promise((done) => {
    const request = https.request(client.backchannelLogoutUri, {
      method: 'POST',
      ca,
      headers: { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) },
    }, (answer) => {
      console.error('back-channel logout', answer.statusCode);
      answer.resume().on('end', done);
    });
    request.on('error', (error) => { console.error('back-channel logout', error.message); done(); });
    request.end(body);
  });
}
