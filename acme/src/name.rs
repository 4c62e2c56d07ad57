//! The one name of a certificate.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A DNS host name with at least two labels, in lower case: no wildcard, no address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsName(String);

/// Why a text cannot be the name of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` cannot be the name of a public certificate: give one full host name, without wildcard"
)]
pub struct NotAName(String);

impl DnsName {
    /// Reads a host name (RFC 1123 §2.1): labels of letters, digits and hyphens, 253 characters at most.
    ///
    /// # Errors
    /// When it is a wildcard, an address, a single label or no host name at all.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let labels: Vec<&str> = name.split('.').collect();
        let is_label = |label: &&str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A last label of digits alone is the end of an IPv4 address.
        let top = labels.last().copied().unwrap_or_default();
        let fits = labels.len() >= 2
            && name.len() <= 253
            && labels.iter().all(is_label)
            && !top.bytes().all(|b| b.is_ascii_digit());
        if fits {
            Ok(Self(name))
        } else {
            Err(NotAName(text.chars().take(100).collect()))
        }
    }

    /// The name, in lower case, without a final dot.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DnsName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        Self::parse(&text)
    }
}

impl From<DnsName> for String {
    fn from(name: DnsName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_host_name_is_a_name_and_nothing_else_is() {
        assert_eq!(
            DnsName::parse("VI1.Centre.example.").unwrap().as_str(),
            "vi1.centre.example"
        );
        for wrong in [
            "*.centre.example",
            "localhost",
            "192.0.2.1",
            "2001:db8::1",
            "a..b",
            "-a.b",
            "vi1.centre.example/../x",
            "",
        ] {
            assert!(DnsName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
