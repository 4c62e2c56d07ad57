//! The end of sessions: by the user, by PSC, by time.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use psc_auth::{PscError, SessionEnd};
use tokio::task::JoinSet;

use super::audit::LoginEvent;
use super::session::Session;
use super::{Login, cookies};

/// PSC is asked at most this often whether its session lives, while the user is active.
const FOLLOW_EVERY: Duration = Duration::from_secs(300);

/// Sessions asked about at once.
const AT_ONCE: usize = 8;

impl Login {
    /// Ends this session and those that share its session at PSC; with `everywhere`, every session of the person. Then
    /// ends it at PSC, without waiting.
    pub(super) async fn log_out(
        &self,
        session: &Session,
        headers: &HeaderMap,
        remote: IpAddr,
        everywhere: bool,
    ) {
        let sessions = &self.parts.sessions;
        let (others, cause) = if everywhere {
            let sub = &session.professional.sub;
            (sessions.of_subject(sub), "everywhere")
        } else {
            (sessions.sharing(session), "user")
        };
        self.end_here(session, cause, Some(remote)).await;
        self.log_out_at_psc(session);
        for other in others {
            if self.end_here(&other, cause, Some(remote)).await {
                self.log_out_at_psc(&other);
            }
        }
        if let Some(browser) = cookies::read(headers, cookies::BROWSER) {
            self.pendings.forget(browser.key());
        }
    }

    /// PSC posted a logout token: ends the sessions it means. How many.
    ///
    /// # Errors
    /// When the token does not stand the checks.
    pub(super) async fn receive_logout(&self, logout_token: &str) -> Result<usize, PscError> {
        let notice = self.parts.party.receive_logout(logout_token).await?;
        let meant = self.parts.sessions.meant_by(&notice);
        for session in &meant {
            self.end_here(session, "psc", None).await;
        }
        tracing::info!(sessions = meant.len(), "Pro Santé Connect ended sessions");
        Ok(meant.len())
    }

    /// Ends a session that is over or gives way, and gives its tokens back unless another session shares them.
    pub(super) async fn end(&self, session: &Session, cause: &'static str, remote: Option<IpAddr>) {
        self.end_here(session, cause, remote).await;
        if self.parts.sessions.sharing(session).is_empty() {
            self.forget(&session.psc);
        }
    }

    async fn end_here(
        &self,
        session: &Session,
        cause: &'static str,
        remote: Option<IpAddr>,
    ) -> bool {
        let was_open = self.parts.sessions.end(session).await;
        // The one that gave way to a newcomer was taken out before.
        if was_open || cause == "full" {
            metrics::counter!("drimbox_logouts_total", "cause" => cause).increment(1);
            let event = LoginEvent::LoggedOut {
                professional: &session.professional,
                cause,
            };
            self.record(event, &session.host, remote).await;
        }
        was_open
    }

    fn log_out_at_psc(&self, session: &Session) {
        let (party, psc) = (self.parts.party.clone(), session.psc.clone());
        tokio::spawn(async move {
            if let Err(error) = party.logout(&psc).await {
                tracing::warn!(%error, remedy = error.remedy(), "a session was not ended at Pro Santé Connect");
            }
        });
    }

    /// Asks PSC about the sessions in use, and ends those that it does not renew: whoever logged out elsewhere is out
    /// here too, also where PSC sends no logout tokens.
    pub(super) async fn follow_psc(&self) {
        let now = self.parts.clock.now();
        let mut asking = JoinSet::new();
        let mut due: Vec<_> = self.parts.sessions.all();
        due.retain(|session| {
            let unheard = now.since(session.heard_at()) >= FOLLOW_EVERY;
            unheard && session.seen_at() > session.heard_at()
        });
        let mut due = due.into_iter();
        loop {
            while asking.len() < AT_ONCE
                && let Some(session) = due.next()
            {
                let party = self.parts.party.clone();
                asking.spawn(async move {
                    let answer = party.access_token(&session.psc).await;
                    (session, answer.map(drop))
                });
            }
            let Some(answer) = asking.join_next().await else {
                break;
            };
            let Ok((session, answer)) = answer else {
                continue;
            };
            match answer {
                Ok(()) => {
                    session.heard(now);
                    // The refresh token may be another one now.
                    self.parts.sessions.save(&session).await;
                }
                // Without a refresh token nothing is known.
                Err(PscError::SessionEnded(SessionEnd::NoRefreshToken)) => session.heard(now),
                Err(PscError::SessionEnded(_)) => {
                    self.end_here(&session, "psc", None).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "a session could not be followed at Pro Santé Connect")
                }
            }
        }
    }
}
