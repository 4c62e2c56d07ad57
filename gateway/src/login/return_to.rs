//! Where a login leads to: a path of the gateway itself, whatever was asked for.

use serde::{Deserialize, Serialize};
use url::Url;

/// Longest path, bytes.
const LONGEST: usize = 512;

/// A path on the host of the login, with its query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReturnPath(String);

impl ReturnPath {
    /// Reads a path; `None` for anything that a browser might take for another place, and for the steps of the login
    /// itself.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#';
        if text.len() > LONGEST || !text.bytes().all(plain) {
            return None;
        }
        if !text.starts_with('/') || text.starts_with("//") || text.starts_with("/auth/") {
            return None;
        }
        // What a browser makes of it (WHATWG URL) must be what stands there: no `..`, no other host.
        let base = Url::parse("https://this.invalid/").ok()?;
        let resolved = base.join(text).ok()?;
        let same = resolved.as_str().strip_prefix("https://this.invalid") == Some(text);
        same.then(|| Self(text.to_owned()))
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The page that says who is logged in.
impl Default for ReturnPath {
    fn default() -> Self {
        Self("/auth/".to_owned())
    }
}

impl TryFrom<String> for ReturnPath {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == Self::default().0 {
            return Ok(Self::default());
        }
        Self::parse(&text).ok_or("not a path of the gateway")
    }
}

impl From<ReturnPath> for String {
    fn from(path: ReturnPath) -> Self {
        path.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_of_the_gateway_are_taken_as_they_are() {
        for path in ["/", "/viewer/", "/viewer/x?a=b&c=%2F", "/a//b", "/@x:y"] {
            assert_eq!(
                ReturnPath::parse(path).as_ref().map(ReturnPath::as_str),
                Some(path)
            );
        }
    }

    #[test]
    fn whatever_may_lead_elsewhere_is_refused() {
        for path in [
            "",
            "viewer",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "/\t/evil.example",
            "/a\r\nLocation: x",
            "/..//evil.example",
            "/./a",
            "/viewer/../auth/psc/login",
            "/auth/psc/login",
            "/auth/logout",
            "/a#b",
            "/é",
            "javascript:alert(1)",
        ] {
            assert_eq!(ReturnPath::parse(path), None, "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_on_the_host(text in "[/\\\\.:@?#%a-z\t ]{0,20}") {
            if let Some(path) = ReturnPath::parse(&text) {
                let base = Url::parse("https://box.example/auth/psc/callback?x").ok();
                let host = base.and_then(|base| base.join(path.as_str()).ok());
                prop_assert_eq!(host.as_ref().and_then(Url::host_str), Some("box.example"));
            }
        }
    }
}
