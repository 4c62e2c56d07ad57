//! The files of the exam page, embedded compressed, with the headers that keep the page to itself.
//!
//! `gateway/viewer` has their source; `make viewer` builds them. Names under `assets/` carry a hash of
//! their content and are cached for ever; the page itself is never cached. What is not in the list is not found.
//! The headers are those of `gateway/viewer/headers`, which the tests of the page use too.

use std::io::Read;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, VARY,
};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::routing::get;

/// Path of the page.
pub const PAGE: &str = "/viewer/";

/// One built file.
struct File {
    /// Path below [`PAGE`].
    name: &'static str,
    media_type: &'static str,
    /// Bytes before compression.
    length: u64,
    brotli: &'static [u8],
    gzip: &'static [u8],
}

const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/viewer_files.rs"));
const DOCUMENT_HEADERS: &str = include_str!("../../viewer/headers/document.txt");
const ASSET_HEADERS: &str = include_str!("../../viewer/headers/asset.txt");

/// True when the page is part of this binary. A service that offers the page should not start without.
#[must_use]
pub fn is_built() -> bool {
    !FILES.is_empty()
}

/// The page at [`PAGE`], the notice of licences beside it and the files under `assets/`.
///
/// Who may see the page is not decided here: it holds nothing of an exam.
pub fn router<S>() -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    Router::new()
        .route(PAGE, get(async |headers: HeaderMap| page(&headers)))
        .route(
            "/viewer/licences.txt",
            get(async |headers: HeaderMap| document("licences.txt", &headers)),
        )
        .route(
            "/viewer/assets/{name}",
            get(async |Path(name): Path<String>, headers: HeaderMap| asset(&name, &headers)),
        )
}

/// The headers of the page and of every other document of its kind: Content-Security-Policy (CSP 3, Trusted
/// Types), cross-origin isolation, no cache, no referrer.
pub fn document_headers() -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    parse_headers(DOCUMENT_HEADERS)
}

fn page(headers: &HeaderMap) -> Response<Body> {
    if is_built() {
        return document("index.html", headers);
    }
    let mut response = plain(
        StatusCode::SERVICE_UNAVAILABLE,
        "This build of drimbox has no exam page. Run `make viewer`, then build it again.\n",
    );
    response.headers_mut().extend(document_headers());
    response
}

fn document(name: &str, headers: &HeaderMap) -> Response<Body> {
    let mut response = found(name, headers);
    response.headers_mut().extend(document_headers());
    response
}

fn asset(name: &str, headers: &HeaderMap) -> Response<Body> {
    let mut response = found(&format!("assets/{name}"), headers);
    // A missing file must not be remembered for a year.
    if response.status().is_success() {
        response.headers_mut().extend(parse_headers(ASSET_HEADERS));
    }
    response
}

fn found(name: &str, headers: &HeaderMap) -> Response<Body> {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return plain(StatusCode::NOT_FOUND, "Not found\n");
    };
    let (body, encoding) = if accepts(headers, "br") {
        (Body::from(file.brotli), Some("br"))
    } else if accepts(headers, "gzip") {
        (Body::from(file.gzip), Some("gzip"))
    } else {
        match inflate(file) {
            Ok(bytes) => (Body::from(bytes), None),
            Err(_) => return plain(StatusCode::INTERNAL_SERVER_ERROR, "Unreadable file\n"),
        }
    };
    let length = match encoding {
        Some("br") => file.brotli.len() as u64,
        Some(_) => file.gzip.len() as u64,
        None => file.length,
    };
    let mut response = Response::new(body);
    let answer = response.headers_mut();
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(file.media_type));
    answer.insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(encoding) = encoding {
        answer.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// True when `Accept-Encoding` names the coding without refusing it (RFC 9110 §12.5.3).
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offer| {
            let mut parts = offer.split(';').map(str::trim);
            let named = parts
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(coding));
            let refused = parts
                .filter_map(|parameter| parameter.strip_prefix("q="))
                .any(|weight| weight.parse().is_ok_and(|weight: f32| weight <= 0.0));
            named && !refused
        })
}

/// The file as it was before compression, for the rare client that takes no coding.
fn inflate(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(file.gzip)
        .take(file.length)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn parse_headers(lines: &'static str) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    lines.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_static(value)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use axum::http::Request;
    use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(path: &str, encoding: &str) -> Response<Body> {
        let request = Request::get(path)
            .header(ACCEPT_ENCODING, encoding)
            .body(Body::empty())
            .unwrap();
        router::<()>().oneshot(request).await.unwrap()
    }

    #[test]
    fn every_line_of_the_header_files_is_a_header() {
        for lines in [DOCUMENT_HEADERS, ASSET_HEADERS] {
            assert_eq!(parse_headers(lines).count(), lines.lines().count());
        }
    }

    #[test]
    fn the_policy_of_the_page_allows_no_code_from_text_and_no_other_origin() {
        let headers: HeaderMap = document_headers().collect();
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self' 'wasm-unsafe-eval';"));
        assert!(policy.contains("require-trusted-types-for 'script'"));
        assert!(!policy.contains(" 'unsafe-eval'") && !policy.contains("http"));
        assert_eq!(headers[CACHE_CONTROL], "no-store");
    }

    #[test]
    fn what_the_page_or_a_worker_may_not_do_is_reported() {
        for lines in [DOCUMENT_HEADERS, ASSET_HEADERS] {
            let headers: HeaderMap = parse_headers(lines).collect();
            let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
            let mut directives = policy.split("; ");
            assert!(directives.any(|one| one == "report-uri /viewer/csp-report"));
        }
    }

    #[tokio::test]
    async fn the_page_is_there_or_says_how_to_build_it() {
        let answer = ask(PAGE, "gzip, br").await;
        assert!(answer.headers().contains_key(CONTENT_SECURITY_POLICY));
        if is_built() {
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()[CONTENT_ENCODING], "br");
        } else {
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(
                String::from_utf8(body.to_vec())
                    .unwrap()
                    .contains("make viewer")
            );
        }
    }

    #[tokio::test]
    async fn a_file_is_the_same_in_every_coding() {
        for file in FILES {
            let path = format!("{PAGE}{}", file.name);
            let path = path.strip_suffix("index.html").unwrap_or(&path);
            let plain = ask(path, "identity").await;
            assert_eq!(plain.headers()[CONTENT_LENGTH], file.length.to_string());
            let plain = plain.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(plain.len() as u64, file.length, "{path}");

            let packed = ask(path, "br;q=0, gzip").await;
            assert_eq!(packed.headers()[CONTENT_ENCODING], "gzip");
            let packed = packed.into_body().collect().await.unwrap().to_bytes();
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_end(&mut unpacked)
                .unwrap();
            assert_eq!(unpacked, plain);
        }
    }

    #[tokio::test]
    async fn hashed_files_are_kept_for_ever_and_the_page_never() {
        for file in FILES {
            let path = format!("{PAGE}{}", file.name);
            let path = path.strip_suffix("index.html").unwrap_or(&path);
            let answer = ask(path, "br").await;
            let kept = answer.headers()[CACHE_CONTROL].to_str().unwrap();
            assert_eq!(
                kept.contains("immutable"),
                file.name.starts_with("assets/"),
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_in_the_list_is_not_found() {
        for path in [
            "/viewer/assets/../index.html",
            "/viewer/assets/..%2Findex.html",
            "/viewer/assets/%2Fetc%2Fpasswd",
            "/viewer/assets/none.js",
            "/viewer/index.html.br",
            "/viewer/assets/",
        ] {
            let answer = ask(path, "br").await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
            assert!(!answer.headers().contains_key(CACHE_CONTROL), "{path}");
        }
    }
}
