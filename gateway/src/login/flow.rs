//! The steps of a login: to PSC, back from it, the session.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use psc_auth::{Callback, LoginChoice, PscError};
use url::Url;

use super::audit::{LoginEvent, LoginRecord};
use super::failure::Failure;
use super::pending::{Destination, Pending};
use super::secret::{SessionId, SessionKey};
use super::session::NewSession;
use super::{Entered, Login, Outcome, cookies};
use crate::access::professional::admit;

/// Longest [`Destination::link`], bytes.
const MAX_LINK: usize = 4 * 1024;

/// A login was begun: send the browser there.
pub(super) struct Begun {
    /// The login page of PSC.
    pub(super) location: Url,
    /// Binds the login to the browser; `None` when the browser has it already.
    pub(super) cookie: Option<HeaderValue>,
}

impl Login {
    /// Begins a login of this browser on this host.
    pub(super) async fn begin(
        &self,
        headers: &HeaderMap,
        host: &str,
        remote: IpAddr,
        destination: Destination,
    ) -> Result<Begun, Failure> {
        let known = self.parts.return_addresses.get_key_value(host);
        let (host, back_to) = known.ok_or(Failure::Internal)?;
        if destination
            .link
            .as_ref()
            .is_some_and(|link| link.len() > MAX_LINK)
        {
            return Err(Failure::Internal);
        }
        let choice = LoginChoice::default();
        let login = self.parts.party.begin_login_at(choice, back_to.clone());
        let login = login.await.map_err(|error| said(&error))?;
        let location = login.url().clone();

        let kept = cookies::read(headers, cookies::BROWSER);
        // An id that is not known here was not made here, or is used up.
        let kept = kept.filter(|browser| self.pendings.knows(browser.key()));
        let (browser, cookie) = match kept {
            Some(browser) => (browser, None),
            None => {
                let browser = SessionId::new().map_err(|_| Failure::Internal)?;
                let cookie = cookies::set(cookies::BROWSER, &browser);
                (browser, cookie)
            }
        };
        let pending = Pending::new(Arc::clone(host), destination, login);
        self.pendings.add(browser.key(), remote, pending);
        Ok(Begun { location, cookie })
    }

    /// Where the last login of this browser was to lead.
    pub(super) fn last_destination(&self, headers: &HeaderMap, host: &str) -> Option<Destination> {
        let browser = cookies::read(headers, cookies::BROWSER)?;
        self.pendings.last_destination(browser.key(), host)
    }

    /// The browser is back from PSC. A second return of the same login in the same browser waits for the first and gets
    /// the same.
    pub(super) async fn finish(
        self: &Arc<Self>,
        headers: &HeaderMap,
        host: &str,
        remote: IpAddr,
        query: &str,
    ) -> Outcome {
        let callback = Callback::parse(query).map_err(|error| {
            tracing::info!(%error, "a return from Pro Santé Connect is not one");
            Failure::Unknown
        })?;
        let browser = cookies::read(headers, cookies::BROWSER).ok_or(Failure::Unknown)?;
        let now = self.parts.clock.now();
        let pending = self.pendings.find(browser.key(), callback.state(), now);
        // The state of another host is not this host's: its code was made for another return address.
        let pending = pending.filter(|pending| *pending.host == *host);
        let pending = pending.ok_or(Failure::Unknown)?;
        let before = self
            .parts
            .sessions
            .find(headers, host)
            .map(|(id, _)| id.key());

        let outcome = pending.outcome.get_or_init(|| async {
            let (login, pending) = (Arc::clone(self), Arc::clone(&pending));
            // A browser that goes away while PSC is asked finds its session when it comes back.
            let work =
                tokio::spawn(
                    async move { login.complete(&pending, callback, remote, before).await },
                );
            work.await.unwrap_or(Err(Failure::Internal))
        });
        outcome.await.clone()
    }

    async fn complete(
        &self,
        pending: &Pending,
        callback: Callback,
        remote: IpAddr,
        before: Option<SessionKey>,
    ) -> Outcome {
        let mut sub = None;
        let outcome = self
            .enter(pending, callback, remote, before, &mut sub)
            .await;
        let word = match &outcome {
            Ok(_) => {
                pending.finished(self.parts.clock.now());
                "success"
            }
            Err(failure) => {
                let event = LoginEvent::Refused {
                    sub: sub.as_deref(),
                    reason: failure.as_str(),
                };
                self.record(event, &pending.host, Some(remote)).await;
                failure.as_str()
            }
        };
        metrics::counter!("drimbox_logins_total", "outcome" => word).increment(1);
        outcome
    }

    async fn enter(
        &self,
        pending: &Pending,
        callback: Callback,
        remote: IpAddr,
        before: Option<SessionKey>,
        sub: &mut Option<String>,
    ) -> Outcome {
        let login = pending.login.lock().take().ok_or(Failure::Unknown)?;
        let party = &self.parts.party;
        let psc = party.complete_login(login, callback).await;
        let psc = psc.map_err(|error| said(&error))?;
        *sub = Some(psc.user().sub.clone());
        let user = party.user_info(&psc).await;
        let user = match user {
            Ok(user) => user,
            Err(error) => {
                self.forget(&psc);
                return Err(said(&error));
            }
        };
        let admitted = match admit(&self.parts.professions, psc.user(), &user) {
            Ok(admitted) => admitted,
            Err(why) => {
                tracing::info!(reason = why.as_str(), "a professional is not admitted");
                self.forget(&psc);
                return Err(why.into());
            }
        };
        let record = LoginRecord {
            event: LoginEvent::LoggedIn {
                professional: &admitted.professional,
            },
            host: &pending.host,
            remote: Some(remote),
        };
        if self.parts.audit.record(record).await.is_err() {
            tracing::error!("nobody is logged in while the audit trail does not take events");
            self.forget(&psc);
            return Err(Failure::Internal);
        }
        // What the same person was granted in this browser goes on; another person starts with nothing.
        let before = before.and_then(|key| self.parts.sessions.get(key));
        let same = before
            .as_ref()
            .filter(|before| before.professional.sub == admitted.professional.sub);
        let data = same.and_then(|before| before.state.lock().data.clone());
        let new = NewSession {
            host: Arc::clone(&pending.host),
            professional: admitted.professional,
            situations: admitted.situations,
            psc,
            return_to: pending.destination.return_to.clone(),
            link: pending.destination.link.clone(),
            data,
        };
        let begun = self.parts.sessions.begin(new).await;
        let (id, session, crowded_out) = begun.map_err(|_| Failure::Internal)?;
        for other in crowded_out {
            self.end(&other, "full", None).await;
        }
        if let Some(before) = before {
            self.end(&before, "replaced", Some(remote)).await;
        }
        if let Some(situation) = session.situation() {
            let event = LoginEvent::Situation {
                professional: &session.professional,
                situation: &situation,
            };
            self.record(event, &session.host, Some(remote)).await;
        }
        Ok(Entered {
            id,
            key: session.key,
        })
    }

    /// Tells the audit what does not wait for it.
    pub(super) async fn record(&self, event: LoginEvent<'_>, host: &str, remote: Option<IpAddr>) {
        let record = LoginRecord {
            event,
            host,
            remote,
        };
        if let Err(error) = self.parts.audit.record(record).await {
            tracing::error!(%error, "an event of a session is not in the audit trail");
        }
    }

    /// Gives tokens back to PSC that nobody will use; nobody waits for it.
    pub(super) fn forget(&self, psc: &psc_auth::Session) {
        let (party, psc) = (self.parts.party.clone(), psc.clone());
        tokio::spawn(async move {
            if let Err(error) = party.forget(&psc).await {
                tracing::debug!(%error, "tokens were not revoked; they expire by themselves");
            }
        });
    }
}

/// Tells the log what PSC said.
fn said(error: &PscError) -> Failure {
    let failure = Failure::of(error);
    tracing::warn!(%error, meaning = error.meaning(), remedy = error.remedy(), "a login failed");
    failure
}
