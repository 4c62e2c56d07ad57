//! An access token that someone presents, checked with the signing keys alone: the pre-filter before introspection.
//!
//! PSC's access tokens have no `aud`, so none is asked for. `typ` must be `Bearer`: an id_token of the realm is signed
//! with the same key.

use std::time::Duration;

use serde_json::Value;

use crate::claims::Claims;
use crate::clock::UnixTime;
use crate::confirmation::Binding;
use crate::error::Said;
use crate::gate::GateSettings;
use crate::id_token::{national_id, not_in_the_future};
use crate::identity::NationalId;
use crate::token_fault::TokenFault;

/// The claims of a token with a good signature that stood the offline checks.
#[derive(Debug, Clone)]
pub(crate) struct Presented {
    pub(crate) sub: String,
    pub(crate) jti: String,
    pub(crate) azp: String,
    pub(crate) session: Option<String>,
    pub(crate) acr: Option<String>,
    pub(crate) national_id: NationalId,
    pub(crate) expires_at: UnixTime,
    pub(crate) binding: Binding,
}

impl Presented {
    pub(crate) fn check(
        claims: &Claims,
        issuer: &str,
        settings: &GateSettings,
        now: UnixTime,
    ) -> Result<Self, TokenFault> {
        if claims.needs_text("iss")? != issuer {
            return Err(TokenFault::Mismatch("iss"));
        }
        if claims.needs_text("typ")? != "Bearer" {
            return Err(TokenFault::Mismatch("typ"));
        }
        let expires_at = claims.needs_time("exp")?;
        not_over(expires_at, now, settings.expiry_leeway)?;
        let issued = claims.needs_time("iat")?;
        not_in_the_future("iat", issued, now, settings.clock_leeway)?;
        if let Some(not_before) = claims.time("nbf")? {
            not_in_the_future("nbf", not_before, now, settings.clock_leeway)?;
        }
        if expires_at.since(issued) > settings.longest_life {
            return Err(TokenFault::Age("exp"));
        }
        let scope = claims.needs_text("scope")?;
        let has = |wanted: &String| scope.split(' ').any(|one| one == wanted);
        if !settings.scopes.iter().all(has) {
            return Err(TokenFault::Mismatch("scope"));
        }
        let acr = match claims.get("acr") {
            None | Some(Value::Null) => None,
            Some(_) => Some(claims.needs_text("acr")?.to_owned()),
        };
        if let Some(policy) = &settings.acr
            && !policy.accepts(acr.as_deref())
        {
            return Err(TokenFault::Acr(Said::new(acr.as_deref().unwrap_or("none"))));
        }
        Ok(Self {
            sub: claims.needs_text("sub")?.to_owned(),
            jti: claims.needs_text("jti")?.to_owned(),
            azp: claims.needs_text("azp")?.to_owned(),
            session: claims
                .text("sid")
                .or_else(|| claims.text("session_state"))
                .map(str::to_owned),
            acr,
            national_id: national_id(claims).ok_or(TokenFault::Missing("SubjectNameID"))?,
            expires_at,
            binding: Binding::of(claims),
        })
    }

    /// Whether an introspection answer, active, is about this token.
    pub(crate) fn is_described_by(&self, answer: &Claims) -> Result<(), TokenFault> {
        let same = |name, expected: &str| {
            if answer.text(name) == Some(expected) {
                Ok(())
            } else {
                Err(TokenFault::Mismatch(name))
            }
        };
        same("jti", &self.jti)?;
        same("sub", &self.sub)?;
        if answer.has("azp") {
            same("azp", &self.azp)?;
        } else {
            same("client_id", &self.azp).map_err(|_| TokenFault::Mismatch("azp"))?;
        }
        if answer.needs_time("exp")? != self.expires_at {
            return Err(TokenFault::Mismatch("exp"));
        }
        Ok(())
    }
}

pub(crate) fn not_over(
    expires_at: UnixTime,
    now: UnixTime,
    leeway: Duration,
) -> Result<(), TokenFault> {
    if now >= expires_at.plus(leeway) {
        return Err(TokenFault::Expired {
            seconds: now.since(expires_at).as_secs(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_000_000);

    /// As captured in 2023: no `aud`.
    fn captured() -> Value {
        json!({
            "iss": "https://i", "typ": "Bearer", "exp": 1_000_060, "iat": 999_940, "jti": "j", "azp": "consumer",
            "sub": "f:0:899700000017", "preferred_username": "899700000017", "scope": "openid scope_all",
            "acr": "eidas3", "sid": "s",
        })
    }

    fn check(claims: &Value, now: UnixTime) -> Result<Presented, TokenFault> {
        let claims = Claims::parse(claims.to_string().as_bytes()).unwrap();
        Presented::check(&claims, "https://i", &GateSettings::default(), now)
    }

    #[test]
    fn a_token_without_audience_is_accepted() {
        let token = check(&captured(), NOW).unwrap();
        assert_eq!(token.national_id.as_str(), "899700000017");
        assert_eq!(token.session.as_deref(), Some("s"));
    }

    #[test]
    fn a_token_is_over_five_seconds_after_its_expiry() {
        let at = |seconds: u64| check(&captured(), UnixTime::from_secs(1_000_060 + seconds));
        assert!(at(4).is_ok());
        assert_eq!(at(5).err(), Some(TokenFault::Expired { seconds: 5 }));
    }

    #[test]
    fn a_token_of_an_issuer_whose_clock_is_half_a_minute_ahead_is_accepted() {
        let mut claims = captured();
        for name in ["iat", "nbf"] {
            claims[name] = json!(1_000_030);
        }
        assert!(check(&claims, NOW).is_ok());
    }

    #[test]
    fn each_claim_that_is_wrong_or_missing_is_named() {
        let cases = [
            ("iss", json!("https://other"), TokenFault::Mismatch("iss")),
            ("typ", json!("ID"), TokenFault::Mismatch("typ")),
            ("typ", json!(null), TokenFault::Missing("typ")),
            (
                "iat",
                json!(1_000_031),
                TokenFault::Future {
                    claim: "iat",
                    seconds: 31,
                },
            ),
            (
                "nbf",
                json!(1_000_060),
                TokenFault::Future {
                    claim: "nbf",
                    seconds: 60,
                },
            ),
            ("iat", json!(999_459), TokenFault::Age("exp")),
            ("exp", json!("1000060"), TokenFault::Missing("exp")),
            ("scope", json!("openid"), TokenFault::Mismatch("scope")),
            (
                "scope",
                json!("openid scope_all_not"),
                TokenFault::Mismatch("scope"),
            ),
            ("azp", json!(""), TokenFault::Missing("azp")),
            ("jti", json!(null), TokenFault::Missing("jti")),
            ("sub", json!(1), TokenFault::Missing("sub")),
            (
                "preferred_username",
                json!("nobody"),
                TokenFault::Missing("SubjectNameID"),
            ),
        ];
        for (name, value, fault) in cases {
            let mut claims = captured();
            claims[name] = value;
            assert_eq!(check(&claims, NOW).err(), Some(fault), "{name}");
        }
    }

    #[test]
    fn an_introspection_of_another_token_is_refused() {
        let token = check(&captured(), NOW).unwrap();
        let described = |change: &dyn Fn(&mut Value)| {
            let mut answer = captured();
            change(&mut answer);
            token.is_described_by(&Claims::parse(answer.to_string().as_bytes()).unwrap())
        };
        assert_eq!(described(&|_| {}), Ok(()));
        for name in ["jti", "sub", "azp"] {
            let other = described(&|answer| answer[name] = json!("other"));
            assert_eq!(other, Err(TokenFault::Mismatch(name)));
        }
        assert!(described(&|answer| answer["exp"] = json!(1_000_061)).is_err());
        assert!(
            described(&|answer| {
                answer.as_object_mut().unwrap().remove("azp");
                answer["client_id"] = json!("consumer");
            })
            .is_ok()
        );
    }
}
