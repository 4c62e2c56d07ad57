//! The user's return from the login page: `state`, then `iss`, then `code` or `error`.

use std::fmt;

use secrecy::SecretString;
use url::form_urlencoded;

use crate::error::{CallbackFault, Endpoint, ErrorCode, PscError, Said};

/// Longest query that is read.
const QUERY_LIMIT: usize = 8 * 1024;

/// The query of the return address. `Debug` shows nothing of it.
pub struct Callback {
    pub(crate) state: SecretString,
    pub(crate) iss: Option<String>,
    outcome: Result<SecretString, (ErrorCode, Said)>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").finish_non_exhaustive()
    }
}

impl Callback {
    /// Reads the query, the part after `?`. Unknown parameters are passed over.
    ///
    /// # Errors
    /// When `state` is missing, neither `code` nor `error` is there, one of them stands twice, or the query
    /// is longer than 8 KiB.
    pub fn parse(query: &str) -> Result<Self, CallbackFault> {
        if query.len() > QUERY_LIMIT {
            return Err(CallbackFault::TooLong);
        }
        let one = |name: &'static str| {
            let mut values = form_urlencoded::parse(query.as_bytes())
                .filter(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned());
            let first = values.next();
            match values.next() {
                Some(_) => Err(CallbackFault::Repeated(name)),
                None => Ok(first.filter(|value| !value.is_empty())),
            }
        };
        let state = one("state")?.ok_or(CallbackFault::Missing("state"))?;
        let iss = one("iss")?;
        let text = one("error_description")?.unwrap_or_default();
        let outcome = match (one("error")?, one("code")?) {
            (Some(error), _) => Err((ErrorCode::parse(&error), Said::new(&text))),
            (None, Some(code)) => Ok(code.into()),
            (None, None) => return Err(CallbackFault::Missing("code")),
        };
        Ok(Self {
            state: state.into(),
            iss,
            outcome,
        })
    }

    /// The value of `state`, by which the caller finds the login that was begun.
    #[must_use]
    pub fn state(&self) -> &SecretString {
        &self.state
    }

    pub(crate) fn code(self) -> Result<SecretString, PscError> {
        self.outcome.map_err(|(code, said)| PscError::Refused {
            endpoint: Endpoint::Authorization,
            code,
            said,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_return_with_a_code_is_read_also_with_unknown_parameters() {
        let back =
            Callback::parse("state=s%2B1&session_state=x&code=c.d&iss=https%3A%2F%2Fi").unwrap();
        assert_eq!(back.state().expose_secret(), "s+1");
        assert_eq!(back.iss.as_deref(), Some("https://i"));
        assert_eq!(back.code().unwrap().expose_secret(), "c.d");
    }

    #[test]
    fn an_error_counts_even_beside_a_code() {
        let back = Callback::parse("state=s&error=access_denied&code=c").unwrap();
        assert!(matches!(
            back.code(),
            Err(PscError::Refused {
                code: ErrorCode::AccessDenied,
                ..
            })
        ));
    }

    #[test]
    fn repeated_and_missing_parameters_are_refused() {
        let fault = |query: &str| Callback::parse(query).err();
        assert_eq!(fault("code=c"), Some(CallbackFault::Missing("state")));
        assert_eq!(
            fault("state=&code=c"),
            Some(CallbackFault::Missing("state"))
        );
        assert_eq!(fault("state=s"), Some(CallbackFault::Missing("code")));
        assert_eq!(
            fault("state=s&state=t&code=c"),
            Some(CallbackFault::Repeated("state"))
        );
        assert_eq!(
            fault("state=s&code=c&code=d"),
            Some(CallbackFault::Repeated("code"))
        );
        assert_eq!(
            fault("state=s&code=c&iss=a&iss=b"),
            Some(CallbackFault::Repeated("iss"))
        );
        assert_eq!(
            fault(&"a".repeat(QUERY_LIMIT + 1)),
            Some(CallbackFault::TooLong)
        );
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "\\PC{0,300}") {
            let _ = Callback::parse(&query);
        }
    }
}
