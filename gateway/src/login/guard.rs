//! What a state-changing request must show besides its cookie: that a page of this host sent it, and its token.

use http::{HeaderMap, header};

/// Whether a page of `host` sent the request, as far as the browser says (Fetch Metadata, RFC 6454 §7). A browser
/// that says neither is refused.
pub(crate) fn is_same_origin(headers: &HeaderMap, host: &str) -> bool {
    let origin = headers
        .get(header::ORIGIN)
        .map(|value| value.to_str().unwrap_or_default());
    let own_origin = origin.map(|origin| is_origin_of(origin, host));
    let site = headers
        .get("sec-fetch-site")
        .map(|site| site == "same-origin");
    match (site, own_origin) {
        (Some(site), Some(origin)) => site && origin,
        (Some(said), None) | (None, Some(said)) => said,
        (None, None) => false,
    }
}

/// `https://host`, whatever the port: cookies do not tell ports apart either, and the port that browsers see may be
/// one of a router before the gateway.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some(rest) = origin
        .strip_prefix("https://")
        .and_then(|rest| rest.strip_prefix(host))
    else {
        return false;
    };
    match rest.strip_prefix(':') {
        None => rest.is_empty(),
        Some(port) => port.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fits(lines: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, value.parse().unwrap());
        }
        is_same_origin(&headers, "vi.example")
    }

    #[test]
    fn a_page_of_the_host_is_told_from_every_other() {
        let site = "sec-fetch-site";
        assert!(fits(&[
            (site, "same-origin"),
            ("origin", "https://vi.example")
        ]));
        assert!(fits(&[("origin", "https://vi.example:8443")]));
        assert!(fits(&[(site, "same-origin")]));
        assert!(!fits(&[]));
        assert!(!fits(&[("origin", "null")]));
        for wrong in ["same-site", "cross-site", "none"] {
            assert!(
                !fits(&[(site, wrong), ("origin", "https://vi.example")]),
                "{wrong}"
            );
        }
        for wrong in [
            "null",
            "http://vi.example",
            "https://vi.example.evil.example",
            "https://vi.example:x",
            "https://vi.example@evil.example",
            "https://evil.example",
        ] {
            assert!(!fits(&[("origin", wrong)]), "{wrong}");
            assert!(
                !fits(&[(site, "same-origin"), ("origin", wrong)]),
                "{wrong}"
            );
        }
    }
}
