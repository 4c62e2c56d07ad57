//! Conditional requests (RFC 9110 §13) and ranges of bytes (§14) of what is known to stay the same.

use std::ops::Range;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{ETAG, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest, Sha256};

use super::answer::{no_store, value};
use crate::studies::Item;

/// One form of a resource, by all that makes it what it is: the instances, the digests of their
/// bytes, how they are written. Another version of the gateway may write them otherwise.
#[derive(Debug, Clone)]
pub struct Variant {
    digest: Sha256,
    exact: bool,
}

impl Variant {
    /// Of instances that are all known; `None` while some are still to come.
    #[must_use]
    pub fn of(items: Option<&[Item]>) -> Option<Self> {
        let none = Self {
            digest: Sha256::new(),
            exact: false,
        };
        let mut variant = none.with(&[env!("CARGO_PKG_VERSION")]);
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
            self.digest.update((text.len() as u64).to_le_bytes());
            self.digest.update(text);
        }
        self
    }

    /// Of which every answer is the same, byte for byte: its tag is a strong one, good for ranges.
    #[must_use]
    pub fn exact(mut self) -> Self {
        self.exact = true;
        self
    }

    /// Names the form in an answer.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(ETAG, value(&self.tag()));
    }

    /// Whether the client has this form already, by its tag (RFC 9110 §13.1.2); what `*` means, is known
    /// once there is an answer: see [`is_any_known`].
    #[must_use]
    pub fn is_known(&self, request: &HeaderMap) -> bool {
        let own = self.tag();
        let opaque = own.trim_start_matches("W/");
        none_match(request).any(|tag| tag.trim_start_matches("W/") == opaque)
    }

    /// Weak unless exact: boundaries between parts differ from answer to answer.
    fn tag(&self) -> String {
        let digest = self.digest.clone().finalize();
        let half = digest.get(..16).unwrap_or_default();
        let weak = if self.exact { "" } else { "W/" };
        format!("{weak}\"{}\"", URL_SAFE_NO_PAD.encode(half))
    }
}

/// Whether the client asks for what it has no form of at all: `If-None-Match: *`, to be looked at when
/// the resource is there and can be had (RFC 9110 §13.2.1).
#[must_use]
pub fn is_any_known(request: &HeaderMap) -> bool {
    none_match(request).any(|tag| tag == "*")
}

fn none_match(request: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = request.get_all(IF_NONE_MATCH).iter();
    let fields = fields.filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',').map(str::trim))
}

/// 304.
#[must_use]
pub fn not_modified() -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    no_store(answer.headers_mut());
    answer
}

/// 304 in place of an answer, which is given up.
#[must_use]
pub fn without_content(answer: &Response) -> Response {
    let mut unchanged = not_modified();
    if let Some(tag) = answer.headers().get(ETAG) {
        unchanged.headers_mut().insert(ETAG, tag.clone());
    }
    unchanged
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
/// one field the whole is sent, and so it is where `If-Range` names anything but `variant` by a strong
/// tag (RFC 9110 §13.1.5; there are no dates here).
#[must_use]
pub fn range(request: &HeaderMap, length: u64, variant: Option<&Variant>) -> Asked {
    if let Some(condition) = request.get(IF_RANGE) {
        let own = variant.filter(|variant| variant.exact).map(Variant::tag);
        if own.is_none_or(|own| condition.as_bytes().trim_ascii() != own.as_bytes()) {
            return Asked::Whole;
        }
    }
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
        for field in [&tag, &strong, &format!("\"x\", {tag}")] {
            assert!(
                form("a").is_known(&request(IF_NONE_MATCH, field)),
                "{field}"
            );
        }
        for field in [&form("b").tag(), "\"x\"", "", "*"] {
            assert!(
                !form("a").is_known(&request(IF_NONE_MATCH, field)),
                "{field}"
            );
        }
        assert!(!form("a").is_known(&HeaderMap::new()));
        assert!(Variant::of(None).is_none());
        for (field, any) in [
            ("*", true),
            ("\"x\", *", true),
            (tag.as_str(), false),
            ("", false),
        ] {
            assert_eq!(is_any_known(&request(IF_NONE_MATCH, field)), any, "{field}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_not_sent() {
        let form = |text| Variant::of(Some(&[])).unwrap().with(&[text]);
        let exact = form("a").exact();
        let of = |condition: &str, variant: &Variant| {
            let mut request = request(RANGE, "bytes=10-");
            request.insert(IF_RANGE, HeaderValue::from_str(condition).unwrap());
            range(&request, 100, Some(variant))
        };
        assert_eq!(of(&exact.tag(), &exact), Asked::Part(10..100));
        let weak = format!("W/{}", exact.tag());
        for condition in [
            weak.as_str(),
            &form("b").exact().tag(),
            "W/\"old\"",
            "Sat, 21 Nov 2026 10:00:00 GMT",
            "",
        ] {
            assert_eq!(of(condition, &exact), Asked::Whole, "{condition}");
        }
        // A weak tag is good for no range, not even its own.
        assert_eq!(of(&form("a").tag(), &form("a")), Asked::Whole);
    }

    #[test]
    fn texts_are_not_run_together() {
        let form = |texts: &[&str]| Variant::of(Some(&[])).unwrap().with(texts).tag();
        assert_ne!(form(&["ab", "c"]), form(&["a", "bc"]));
    }

    #[test]
    fn a_range_lies_within_the_length() {
        let of = |field| range(&request(RANGE, field), 100, None);
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
        assert_eq!(range(&HeaderMap::new(), 100, None), Asked::Whole);
    }
}
