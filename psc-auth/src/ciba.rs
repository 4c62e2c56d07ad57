//! Login on another device (OpenID Connect CIBA Core 1.0), in poll mode, the only one that PSC offers.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use thiserror::Error;

use crate::clock::UnixTime;
use crate::error::{Endpoint, ErrorCode, PscError};
use crate::identity::NationalId;
use crate::login::RelyingParty;
use crate::session::Session;

/// The two digits that the user compares on both devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindingMessage(u8);

/// A binding message is not two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a binding message is a number from 0 to 99, shown as two digits")]
pub struct NotTwoDigits;

impl BindingMessage {
    /// A number below 100.
    ///
    /// # Errors
    /// When it is larger.
    pub fn new(number: u8) -> Result<Self, NotTwoDigits> {
        if number < 100 {
            Ok(Self(number))
        } else {
            Err(NotTwoDigits)
        }
    }
}

impl fmt::Display for BindingMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// With what the user confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The CPx card on the workstation.
    Card,
    /// The e-CPS on the telephone.
    Mobile,
}

impl Channel {
    fn value(self) -> &'static str {
        match self {
            Self::Card => "CARD",
            Self::Mobile => "MOBILE",
        }
    }
}

/// A login that waits for the user. Dropping it gives it up; PSC forgets it when it expires.
pub struct PendingCiba {
    id: SecretString,
    user: NationalId,
    expires_at: UnixTime,
    interval: Duration,
    /// Why the last question was not answered; `None` when PSC said that the user has not confirmed.
    last_fault: Option<PscError>,
}

impl fmt::Debug for PendingCiba {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCiba")
            .field("expires_at", &self.expires_at)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

impl PendingCiba {
    /// When the user must have confirmed.
    #[must_use]
    pub fn expires_at(&self) -> UnixTime {
        self.expires_at
    }

    /// How long to wait before the next [`poll_ciba`](RelyingParty::poll_ciba).
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }
}

/// Outcome of one question.
#[derive(Debug)]
pub enum CibaProgress {
    /// The user has not confirmed: ask again after [`PendingCiba::interval`].
    Waiting(PendingCiba),
    /// The user is in.
    Done(Session),
}

#[derive(Deserialize)]
struct Accepted {
    auth_req_id: SecretString,
    expires_in: u64,
    interval: Option<u64>,
}

impl RelyingParty {
    /// CIBA §7.3: without `interval`, five seconds.
    const DEFAULT_INTERVAL: u64 = 5;
    const LONGEST_INTERVAL: u64 = 60;
    /// CIBA §11: `slow_down` adds five seconds for this and all later questions.
    const SLOW_DOWN: Duration = Duration::from_secs(5);

    /// Asks PSC to ask this professional for a confirmation.
    ///
    /// # Errors
    /// When PSC cannot be asked, CIBA is not enabled for the client, or it does not know the user.
    pub async fn begin_ciba(
        &self,
        user: &NationalId,
        message: BindingMessage,
        channel: Channel,
    ) -> Result<PendingCiba, PscError> {
        let known = self.provider.known().await?;
        let url = known.metadata.needs(Endpoint::Ciba)?;
        let settings = &self.provider.settings;
        let asked_at = self.provider.clock.now();
        let answer = self
            .provider
            .post_form(
                Endpoint::Ciba,
                url,
                &[
                    ("scope", &settings.scopes.join(" ")),
                    ("login_hint", user.as_str()),
                    ("binding_message", &message.to_string()),
                    ("acr_values", &settings.acr.requested),
                    ("channel", channel.value()),
                ],
            )
            .await?;
        let accepted: Accepted =
            serde_json::from_slice(&answer.body).map_err(|_| PscError::Malformed {
                endpoint: Endpoint::Ciba,
                what: "no `auth_req_id`",
            })?;
        let interval = accepted.interval.unwrap_or(Self::DEFAULT_INTERVAL);
        Ok(PendingCiba {
            id: accepted.auth_req_id,
            user: user.clone(),
            expires_at: asked_at.plus(Duration::from_secs(accepted.expires_in.min(3600))),
            interval: Duration::from_secs(interval.clamp(1, Self::LONGEST_INTERVAL)),
            last_fault: None,
        })
    }

    /// Asks once whether the user has confirmed.
    ///
    /// # Errors
    /// When the user refused ([`ErrorCode::AccessDenied`]) or did not answer in time
    /// ([`ErrorCode::ExpiredToken`]), somebody else confirmed ([`PscError::OtherConfirmed`]), a token does not stand
    /// the checks, or PSC could not be asked until the time was over: whether the user confirmed is not known then.
    pub async fn poll_ciba(&self, mut pending: PendingCiba) -> Result<CibaProgress, PscError> {
        let now = self.provider.clock.now();
        if now >= pending.expires_at {
            return Err(pending.last_fault.unwrap_or_else(|| PscError::Refused {
                endpoint: Endpoint::Token,
                code: ErrorCode::ExpiredToken,
                said: crate::error::Said::default(),
            }));
        }
        let outcome = self
            .obtain(&[
                ("grant_type", "urn:openid:params:grant-type:ciba"),
                ("auth_req_id", pending.id.expose_secret()),
            ])
            .await;
        match outcome {
            Ok(tokens) => {
                let user = self.checked_or_revoked(&tokens, None).await?;
                let lifetime = self.provider.settings.session_lifetime;
                let session = Session::new(user, tokens, now, lifetime);
                match self.confirmed_by(&pending.user, &session).await {
                    Ok(()) => Ok(CibaProgress::Done(session)),
                    Err(error) => {
                        // Nobody uses these tokens: what became of giving them back changes nothing.
                        let _ = self.forget(&session).await;
                        Err(error)
                    }
                }
            }
            Err(PscError::Refused {
                code: ErrorCode::AuthorizationPending,
                ..
            }) => {
                pending.last_fault = None;
                Ok(CibaProgress::Waiting(pending))
            }
            Err(PscError::Refused {
                code: ErrorCode::SlowDown,
                ..
            }) => {
                pending.last_fault = None;
                pending.interval = pending.interval.saturating_add(Self::SLOW_DOWN);
                Ok(CibaProgress::Waiting(pending))
            }
            // The user may still confirm while the network stumbles.
            Err(error) if error.is_temporary() => {
                if matches!(error, PscError::Status { status: 429, .. }) {
                    pending.interval = pending.interval.saturating_add(Self::SLOW_DOWN);
                }
                pending.last_fault = Some(error);
                Ok(CibaProgress::Waiting(pending))
            }
            Err(error) => Err(error),
        }
    }

    /// CIBA §7.1: `login_hint` names whom PSC asks, and nothing else says that it was this one who confirmed. The
    /// id_token does, or UserInfo where the id_token names nobody.
    async fn confirmed_by(&self, asked: &NationalId, session: &Session) -> Result<(), PscError> {
        let confirmed = match session.user().national_id.clone() {
            Some(id) => Some(id),
            None => self.user_info(session).await?.national_id,
        };
        if confirmed.as_ref() == Some(asked) {
            Ok(())
        } else {
            Err(PscError::OtherConfirmed)
        }
    }

    /// Asks at the interval until the user has confirmed or refused, or did not in time. Drop the future to give up.
    ///
    /// # Errors
    /// As [`poll_ciba`](Self::poll_ciba).
    pub async fn wait_for_ciba(&self, mut pending: PendingCiba) -> Result<Session, PscError> {
        loop {
            tokio::time::sleep(pending.interval).await;
            match self.poll_ciba(pending).await? {
                CibaProgress::Done(session) => return Ok(session),
                CibaProgress::Waiting(again) => pending = again,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_binding_message_is_two_digits() {
        assert_eq!(BindingMessage::new(7).unwrap().to_string(), "07");
        assert_eq!(BindingMessage::new(99).unwrap().to_string(), "99");
        assert_eq!(BindingMessage::new(100), Err(NotTwoDigits));
    }
}
