//! Conditional requests (RFC 9110 §13) and ranges of bytes (§14) of what is known to stay the same.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ETAG, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest, Sha256};

use super::answer::value;
use crate::studies::Item;

/// One form of a resource, by all that makes it what it is: the instances, the digests of their
/// bytes, how they are written. Another version of the gateway may write them otherwise.
#[derive(Debug, Clone)]
pub struct Variant(Sha256);

impl Variant {
    /// Of instances that are all known; `None` while some are still to come.
    #[must_use]
    pub fn of(items: Option<&[Item]>) -> Option<Self> {
        let mut variant = Self(Sha256::new()).with(&[env!("CARGO_PKG_VERSION")]);
        for item in items? {
            // Of one that flows through nothing is known before its end.
            item.length()?;
            let entry = item.entry();
            variant = variant.with(&[
                entry.instance.as_str(),
                entry.transfer_syntax.as_str(),
                &format!("{} {:08x}", entry.length, entry.crc32),
            ]);
        }
        Some(variant)
    }

    /// Written in this way: media type, root of URLs, query.
    #[must_use]
    pub fn with(mut self, texts: &[&str]) -> Self {
        for text in texts {
            self.0.update((text.len() as u64).to_le_bytes());
            self.0.update(text);
        }
        self
    }

    /// Names the form in an answer.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(ETAG, value(&self.tag()));
    }

    /// Whether the client has this form already (RFC 9110 §13.1.2).
    #[must_use]
    pub fn is_known(&self, request: &HeaderMap) -> bool {
        let own = self.tag();
        let opaque = own.trim_start_matches("W/");
        let fields = request.get_all(IF_NONE_MATCH).iter();
        fields.filter_map(|field| field.to_str().ok()).any(|field| {
            field.trim() == "*"
                || field
                    .split(',')
                    .any(|tag| tag.trim().trim_start_matches("W/") == opaque)
        })
    }

    /// Weak: boundaries between parts differ from answer to answer.
    fn tag(&self) -> String {
        let digest = self.0.clone().finalize();
        let half = digest.get(..16).unwrap_or_default();
        format!("W/\"{}\"", URL_SAFE_NO_PAD.encode(half))
    }
}

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The whole, also where the field is of a kind that is not served (RFC 9110 §14.2).
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that are not there: 416.
    Unsatisfiable,
}

/// Reads the `Range` field of a request for something of this length in bytes. Of several ranges in
/// one field the whole is sent.
#[must_use]
pub fn range(request: &HeaderMap, length: u64) -> Asked {
    let field = request.get(RANGE).map(HeaderValue::to_str);
    let Some(Ok(field)) = field else {
        return Asked::Whole;
    };
    let Some((unit, spec)) = field.split_once('=') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Asked::Whole;
    };
    let digits = |text: &str| {
        let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Beyond any length is beyond this one.
        all.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let range = match (digits(first), digits(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
        (Some(first), None) if last.is_empty() => first..length,
        (None, Some(last)) if first.is_empty() => length.saturating_sub(last)..length,
        _ => return Asked::Whole,
    };
    if range.start < range.end {
        Asked::Part(range)
    } else {
        Asked::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn request(name: http::HeaderName, field: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(field).unwrap())])
    }

    #[test]
    fn a_form_is_known_under_its_own_tag_weak_or_not_in_any_list() {
        let form = |text| Variant::of(Some(&[])).unwrap().with(&[text]);
        let tag = form("a").tag();
        let strong = tag.trim_start_matches("W/").to_owned();
        for field in [&tag, &strong, &format!("\"x\", {tag}"), "*"] {
            assert!(
                form("a").is_known(&request(IF_NONE_MATCH, field)),
                "{field}"
            );
        }
        for field in [&form("b").tag(), "\"x\"", ""] {
            assert!(
                !form("a").is_known(&request(IF_NONE_MATCH, field)),
                "{field}"
            );
        }
        assert!(!form("a").is_known(&HeaderMap::new()));
        assert!(Variant::of(None).is_none());
    }

    #[test]
    fn texts_are_not_run_together() {
        let form = |texts: &[&str]| Variant::of(Some(&[])).unwrap().with(texts).tag();
        assert_ne!(form(&["ab", "c"]), form(&["a", "bc"]));
    }

    #[test]
    fn a_range_lies_within_the_length() {
        let of = |field| range(&request(RANGE, field), 100);
        assert_eq!(of("bytes=0-9"), Asked::Part(0..10));
        assert_eq!(of("bytes=90-"), Asked::Part(90..100));
        assert_eq!(of("bytes=-10"), Asked::Part(90..100));
        assert_eq!(of("bytes=-1000"), Asked::Part(0..100));
        assert_eq!(of("bytes=99-18446744073709551616"), Asked::Part(99..100));
        assert_eq!(of("bytes=100-"), Asked::Unsatisfiable);
        assert_eq!(of("bytes=-0"), Asked::Unsatisfiable);
        for whole in [
            "bytes=5-4",
            "bytes=0-1,5-6",
            "items=0-1",
            "bytes=a-",
            "bytes=-",
            "",
        ] {
            assert_eq!(of(whole), Asked::Whole, "{whole}");
        }
        assert_eq!(range(&HeaderMap::new(), 100), Asked::Whole);
    }
}
