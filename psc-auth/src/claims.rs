//! The members of a JSON object, read with the tolerance that PSC's tokens need and no more.
//!
//! PSC was seen to send `acr` twice with two values in one token (2021). The last one counts, as in most
//! JSON readers. Any other member that stands twice with two values is refused: two readers could take
//! two different decisions from it.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

use crate::clock::UnixTime;
use crate::error::Said;
use crate::token_fault::TokenFault;

/// The one member that may stand twice.
const MAY_REPEAT: &str = "acr";

/// A JSON object with unique members.
#[derive(Clone, PartialEq)]
pub(crate) struct Claims {
    members: Map<String, Value>,
    repeated: bool,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

impl Claims {
    /// Reads a JSON object.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, TokenFault> {
        let read: Members =
            serde_json::from_slice(json).map_err(|_| TokenFault::NotJws("not a JSON object"))?;
        if let Some(name) = read.conflicting {
            return Err(TokenFault::Repeated(Said::new(&name)));
        }
        Ok(Self {
            members: read.members,
            repeated: read.repeated,
        })
    }

    /// Whether a member stood twice, so that stricter readers would refuse the original.
    pub(crate) fn had_repeats(&self) -> bool {
        self.repeated
    }

    /// The object with each member once.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        Value::Object(self.members.clone()).to_string().into_bytes()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.members.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A text; `None` when it is missing, not a text, or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    pub(crate) fn needs_text(&self, name: &'static str) -> Result<&str, TokenFault> {
        self.text(name).ok_or(TokenFault::Missing(name))
    }

    /// A time; `None` when the member is missing.
    pub(crate) fn time(&self, name: &'static str) -> Result<Option<UnixTime>, TokenFault> {
        match self.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value
                .as_u64()
                .map(|seconds| Some(UnixTime::from_secs(seconds)))
                .ok_or(TokenFault::Missing(name)),
        }
    }

    pub(crate) fn needs_time(&self, name: &'static str) -> Result<UnixTime, TokenFault> {
        self.time(name)?.ok_or(TokenFault::Missing(name))
    }

    /// Whether `aud`, a text or a list of texts (RFC 7519 §4.1.3), names this client.
    pub(crate) fn audience_has(&self, client_id: &str) -> bool {
        match self.get("aud") {
            Some(Value::String(one)) => one == client_id,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(client_id)),
            _ => false,
        }
    }
}

struct Members {
    members: Map<String, Value>,
    repeated: bool,
    conflicting: Option<String>,
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut read = Members {
                    members: Map::new(),
                    repeated: false,
                    conflicting: None,
                };
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if let Some(earlier) = read.members.get(&name) {
                        read.repeated = true;
                        if name != MAY_REPEAT && *earlier != value {
                            read.conflicting.get_or_insert_with(|| name.clone());
                        }
                    }
                    read.members.insert(name, value);
                }
                Ok(read)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_of_two_acr_counts() {
        let claims = Claims::parse(br#"{"acr":"1","sub":"a","acr":"eidas3"}"#).unwrap();
        assert_eq!(claims.text("acr"), Some("eidas3"));
        assert!(claims.had_repeats());
        let once = Claims::parse(&claims.to_json()).unwrap();
        assert_eq!(once.text("acr"), Some("eidas3"));
        assert!(!once.had_repeats());
    }

    #[test]
    fn another_member_with_two_values_is_refused() {
        for name in ["sub", "iss", "aud", "exp", "nonce", "azp"] {
            let json = format!(r#"{{"{name}":"a","{name}":"b"}}"#);
            assert_eq!(
                Claims::parse(json.as_bytes()),
                Err(TokenFault::Repeated(Said::new(name)))
            );
        }
        assert!(Claims::parse(br#"{"sub":"a","sub":"a"}"#).is_ok());
    }

    #[test]
    fn negative_fractional_and_textual_times_are_refused() {
        for value in ["-1", "1.5", "\"17\"", "[]"] {
            let claims = Claims::parse(format!(r#"{{"exp":{value}}}"#).as_bytes()).unwrap();
            assert_eq!(claims.needs_time("exp"), Err(TokenFault::Missing("exp")));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Claims::parse(&bytes);
        }

        #[test]
        fn members_that_stand_once_are_kept(members in proptest::collection::btree_map("[a-z]{1,8}", "\\PC{0,16}", 0..12)) {
            let json = serde_json::to_vec(&members).unwrap();
            let claims = Claims::parse(&json).unwrap();
            prop_assert!(!claims.had_repeats());
            for (name, value) in &members {
                prop_assert_eq!(claims.get(name).and_then(Value::as_str), Some(value.as_str()));
            }
        }
    }
}
