//! The answer of the token endpoint (RFC 6749 §5.1, OpenID Connect Core §3.1.3.3).
//!
//! It is read here and not by `openidconnect`, whose reader refuses the whole answer when its id_token has two `acr`,
//! and whose types are not wiped from memory.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::clock::UnixTime;
use crate::error::{Endpoint, PscError};

/// What a session holds. `Debug` shows times only.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) access: SecretString,
    pub(crate) refresh: Option<SecretString>,
    pub(crate) id: Option<SecretString>,
    /// Name of the session at PSC, as the answer gives it beside the tokens.
    pub(crate) session_state: Option<String>,
    pub(crate) obtained_at: UnixTime,
    pub(crate) expires_at: UnixTime,
    /// Whether the id_token that came with them stood the checks, or none came. Without that they are not used, but
    /// kept: PSC takes the refresh token before them no more.
    pub(crate) checked: bool,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("refresh", &self.refresh.is_some())
            .field("obtained_at", &self.obtained_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Tokens {
    /// Reads an answer that came at `now`.
    pub(crate) fn parse(json: &[u8], now: UnixTime) -> Result<Self, PscError> {
        let malformed = |what| PscError::Malformed {
            endpoint: Endpoint::Token,
            what,
        };
        let answer: Answer =
            serde_json::from_slice(json).map_err(|_| malformed("not a token answer"))?;
        if !answer.token_type.eq_ignore_ascii_case("bearer") {
            return Err(malformed("`token_type` is not Bearer"));
        }
        let usable = answer.access_token.expose_secret();
        if usable.is_empty() || !usable.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(malformed("`access_token` is not a token"));
        }
        // A day: far above what PSC gives, so that no arithmetic on it surprises.
        let life = Duration::from_secs(answer.expires_in.min(24 * 3600));
        Ok(Self {
            access: answer.access_token,
            refresh: answer.refresh_token,
            id: answer.id_token,
            session_state: answer
                .session_state
                .as_str()
                .filter(|state| !state.is_empty())
                .map(str::to_owned),
            obtained_at: now,
            expires_at: now.plus(life),
            checked: true,
        })
    }

    /// Life left at `now`.
    pub(crate) fn left(&self, now: UnixTime) -> Duration {
        self.expires_at.since(now)
    }

    /// Whether the access token may be used at `now`.
    pub(crate) fn is_usable(&self, now: UnixTime) -> bool {
        self.checked && !self.left(now).is_zero()
    }

    /// Whether the access token should be renewed before it is used. The margin never takes more than half of a
    /// token's life, or a short-lived one would be renewed at each use.
    pub(crate) fn is_due(&self, now: UnixTime, margin: Duration) -> bool {
        let life = self.expires_at.since(self.obtained_at);
        !self.checked || self.left(now) < margin.min(life / 2).max(Duration::from_secs(1))
    }

    pub(crate) fn to_record(&self) -> TokensRecord {
        let copy = |secret: &SecretString| Zeroizing::new(secret.expose_secret().to_owned());
        TokensRecord {
            access: copy(&self.access),
            refresh: self.refresh.as_ref().map(copy),
            id: self.id.as_ref().map(copy),
            session_state: self.session_state.clone(),
            obtained_at: self.obtained_at,
            expires_at: self.expires_at,
            unchecked: !self.checked,
        }
    }

    pub(crate) fn from_record(record: &TokensRecord) -> Self {
        let copy = |text: &Zeroizing<String>| SecretString::from(text.as_str());
        Self {
            access: copy(&record.access),
            refresh: record.refresh.as_ref().map(copy),
            id: record.id.as_ref().map(copy),
            session_state: record.session_state.clone(),
            obtained_at: record.obtained_at,
            expires_at: record.expires_at,
            checked: !record.unchecked,
        }
    }
}

/// Tokens in clear, for a store that encrypts them.
#[derive(Serialize, Deserialize)]
pub(crate) struct TokensRecord {
    access: Zeroizing<String>,
    refresh: Option<Zeroizing<String>>,
    id: Option<Zeroizing<String>>,
    #[serde(default)]
    session_state: Option<String>,
    obtained_at: UnixTime,
    expires_at: UnixTime,
    #[serde(default)]
    unchecked: bool,
}

#[derive(Deserialize)]
struct Answer {
    access_token: SecretString,
    token_type: String,
    expires_in: u64,
    refresh_token: Option<SecretString>,
    id_token: Option<SecretString>,
    /// Not of OAuth: whatever stands there must not make the answer unreadable.
    #[serde(default)]
    session_state: Value,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    fn with_life(seconds: u64) -> Tokens {
        let json = format!(
            r#"{{"access_token":"a","token_type":"bearer","expires_in":{seconds},"session_state":"x"}}"#
        );
        Tokens::parse(json.as_bytes(), NOW).unwrap()
    }

    #[test]
    fn the_life_is_what_the_answer_says_up_to_a_day() {
        assert_eq!(with_life(120).expires_at, UnixTime::from_secs(1_000_120));
        assert_eq!(with_life(u64::MAX).left(NOW), Duration::from_secs(86_400));
    }

    #[test]
    fn a_token_is_due_at_the_margin_or_at_half_its_life() {
        let margin = Duration::from_secs(30);
        let at = |seconds: u64| UnixTime::from_secs(1_000_000 + seconds);
        assert!(!with_life(120).is_due(at(90), margin));
        assert!(with_life(120).is_due(at(91), margin));
        assert!(!with_life(20).is_due(at(10), margin));
        assert!(with_life(20).is_due(at(11), margin));
    }

    #[test]
    fn the_name_of_the_session_is_kept_when_it_is_one() {
        let with = |state: &str| {
            let json = format!(
                r#"{{"access_token":"a","token_type":"bearer","expires_in":1,"session_state":{state}}}"#
            );
            Tokens::parse(json.as_bytes(), NOW).unwrap().session_state
        };
        assert_eq!(with(r#""one""#).as_deref(), Some("one"));
        for odd in [r#""""#, "null", "7", "{}"] {
            assert_eq!(with(odd), None, "{odd}");
        }
    }

    #[test]
    fn an_answer_without_life_type_or_token_is_refused() {
        for json in [
            r#"{"access_token":"a","token_type":"bearer"}"#,
            r#"{"access_token":"a","expires_in":1}"#,
            r#"{"token_type":"bearer","expires_in":1}"#,
            r#"{"access_token":"a b","token_type":"bearer","expires_in":1}"#,
            r#"{"access_token":"","token_type":"bearer","expires_in":1}"#,
            r#"{"access_token":"a","token_type":"mac","expires_in":1}"#,
            r#"{"access_token":"a","access_token":"b","token_type":"bearer","expires_in":1}"#,
        ] {
            assert!(Tokens::parse(json.as_bytes(), NOW).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Tokens::parse(&bytes, NOW);
        }
    }
}
