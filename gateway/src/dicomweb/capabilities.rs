//! What the service can do, as a WADL document (PS3.18 §8.9): for people who look at a connection,
//! and for clients that adapt to a server.

use std::collections::BTreeSet;
use std::io::{self, Cursor};

use axum::body::Body;
use axum::response::Response;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue};
use quick_xml::Writer;

use super::accept::{Accept, Weight};
use super::problem::Problem;
use crate::config::Resource;

/// The methods that every resource has.
pub const METHODS: &str = "GET, HEAD, OPTIONS";

const WADL: &str = "application/vnd.sun.wadl+xml";
const NAMESPACE: &str = "http://wadl.dev.java.net/2009/02";

const INSTANCES: &[&str] = &["multipart/related; type=\"application/dicom\""];
const INSTANCE: &[&str] = &[
    "multipart/related; type=\"application/dicom\"",
    "application/dicom",
];
const MODEL: &[&str] = &[
    "application/dicom+json",
    "multipart/related; type=\"application/dicom+xml\"",
];
const FRAMES: &[&str] = &[
    "multipart/related; type=\"application/octet-stream\"",
    "multipart/related; type=\"image/jpeg\"",
    "multipart/related; type=\"image/jls\"",
    "multipart/related; type=\"image/jp2\"",
    "multipart/related; type=\"image/dicom-rle\"",
    "multipart/related; type=\"video/mpeg\"",
    "multipart/related; type=\"video/mp4\"",
];
/// Of one frame.
const FRAMES_OR_ONE: &[&str] = &[
    "multipart/related; type=\"application/octet-stream\"",
    "multipart/related; type=\"image/jpeg\"",
    "multipart/related; type=\"image/jls\"",
    "multipart/related; type=\"image/jp2\"",
    "multipart/related; type=\"image/dicom-rle\"",
    "multipart/related; type=\"video/mpeg\"",
    "multipart/related; type=\"video/mp4\"",
    "application/octet-stream",
    "image/jpeg",
    "image/jls",
    "image/jp2",
    "image/dicom-rle",
    "video/mpeg",
    "video/mp4",
];
const BULK: &[&str] = &[
    "multipart/related; type=\"application/octet-stream\"",
    "application/octet-stream",
];
/// Pixels that are compressed come as frames, everything else as octets.
const ALL_BULK: &[&str] = FRAMES;
const PICTURES: &[&str] = &["image/jpeg", "image/png"];
const PICTURES_IN_PARTS: &[&str] = &[
    "multipart/related; type=\"image/jpeg\"",
    "multipart/related; type=\"image/png\"",
];

const SEARCH: &[&str] = &["limit", "offset", "fuzzymatching", "includefield"];
const RENDERED: &[&str] = &["window", "viewport", "quality"];

/// Path, name of the transaction, media types, query parameters besides `accept`.
type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const SEARCHES: &[Row] = &[
    ("studies", "SearchForStudies", MODEL, SEARCH),
    (
        "studies/{study}/series",
        "SearchForStudySeries",
        MODEL,
        SEARCH,
    ),
    (
        "studies/{study}/instances",
        "SearchForStudyInstances",
        MODEL,
        SEARCH,
    ),
    (
        "studies/{study}/series/{series}/instances",
        "SearchForStudySeriesInstances",
        MODEL,
        SEARCH,
    ),
    ("series", "SearchForSeries", MODEL, SEARCH),
    ("instances", "SearchForInstances", MODEL, SEARCH),
];

const RETRIEVALS: &[Row] = &[
    ("studies/{study}", "RetrieveStudy", INSTANCES, &[]),
    (
        "studies/{study}/metadata",
        "RetrieveStudyMetadata",
        MODEL,
        &[],
    ),
    (
        "studies/{study}/series/{series}",
        "RetrieveSeries",
        INSTANCES,
        &[],
    ),
    (
        "studies/{study}/series/{series}/metadata",
        "RetrieveSeriesMetadata",
        MODEL,
        &[],
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}",
        "RetrieveInstance",
        INSTANCE,
        &[],
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/metadata",
        "RetrieveInstanceMetadata",
        MODEL,
        &[],
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
        "RetrieveFrames",
        FRAMES_OR_ONE,
        &[],
    ),
    (
        "studies/{study}/bulkdata",
        "RetrieveStudyBulkdata",
        ALL_BULK,
        &[],
    ),
    (
        "studies/{study}/series/{series}/bulkdata",
        "RetrieveSeriesBulkdata",
        ALL_BULK,
        &[],
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/bulkdata",
        "RetrieveInstanceBulkdata",
        ALL_BULK,
        &[],
    ),
    (
        "studies/{study}/pixeldata",
        "RetrieveStudyPixelData",
        FRAMES,
        &[],
    ),
    (
        "studies/{study}/series/{series}/pixeldata",
        "RetrieveSeriesPixelData",
        FRAMES,
        &[],
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/pixeldata",
        "RetrieveInstancePixelData",
        FRAMES,
        &[],
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/bulkdata/{path}",
        "RetrieveBulkdata",
        BULK,
        &[],
    ),
    (
        "studies/{study}/rendered",
        "RetrieveRenderedStudy",
        PICTURES_IN_PARTS,
        RENDERED,
    ),
    (
        "studies/{study}/series/{series}/rendered",
        "RetrieveRenderedSeries",
        PICTURES_IN_PARTS,
        RENDERED,
    ),
    (
        "studies/{study}/thumbnail",
        "RetrieveStudyThumbnail",
        PICTURES,
        RENDERED,
    ),
    (
        "studies/{study}/series/{series}/thumbnail",
        "RetrieveSeriesThumbnail",
        PICTURES,
        RENDERED,
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/rendered",
        "RetrieveRenderedInstance",
        PICTURES,
        RENDERED,
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered",
        "RetrieveRenderedFrames",
        PICTURES,
        RENDERED,
    ),
    (
        "studies/{study}/series/{series}/instances/{instance}/thumbnail",
        "RetrieveInstanceThumbnail",
        PICTURES,
        RENDERED,
    ),
];

/// Answers OPTIONS: what the listener offers under `root`.
///
/// # Errors
/// 406 for a client that does not take the document.
pub fn answer(
    accept: &Accept,
    offered: &BTreeSet<Resource>,
    root: &str,
) -> Result<Response, Problem> {
    let takes = accept.entries.is_empty()
        || accept.entries.iter().any(|entry| {
            entry.weight > Weight::NONE && entry.media.covers("application", "vnd.sun.wadl+xml")
        });
    if !takes {
        return Err(Problem::not_acceptable(
            "the description of the service is a WADL document",
            format!("ask for Accept: {WADL}"),
        ));
    }
    let document = document(offered, root).map_err(|_| Problem::internal())?;
    let mut answer = Response::new(Body::from(document));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(WADL));
    headers.insert(ALLOW, HeaderValue::from_static(METHODS));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(VARY, HeaderValue::from_static("Accept, Authorization"));
    Ok(answer)
}

fn document(offered: &BTreeSet<Resource>, root: &str) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new(Cursor::new(Vec::new()));
    writer
        .create_element("application")
        .with_attribute(("xmlns", NAMESPACE))
        .write_inner_content(|writer| {
            let resources = writer.create_element("resources");
            resources
                .with_attribute(("base", root))
                .write_inner_content(|writer| {
                    let sets = [(Resource::Qido, SEARCHES), (Resource::Wado, RETRIEVALS)];
                    for (kind, rows) in sets {
                        for row in rows.iter().filter(|_| offered.contains(&kind)) {
                            resource(writer, row)?;
                        }
                    }
                    Ok(())
                })?;
            Ok(())
        })?;
    Ok(writer.into_inner().into_inner())
}

fn resource<W: io::Write>(writer: &mut Writer<W>, row: &Row) -> io::Result<()> {
    let (path, id, media_types, parameters) = row;
    let method = |writer: &mut Writer<W>| {
        writer
            .create_element("request")
            .write_inner_content(|writer| {
                let header = writer.create_element("param");
                let header = header.with_attributes([("name", "Accept"), ("style", "header")]);
                header.write_inner_content(|writer| {
                    for media_type in *media_types {
                        let option = writer.create_element("option");
                        option
                            .with_attribute(("value", *media_type))
                            .write_empty()?;
                    }
                    Ok(())
                })?;
                for name in ["accept"].iter().chain(*parameters) {
                    let parameter = writer.create_element("param");
                    parameter
                        .with_attributes([("name", *name), ("style", "query")])
                        .write_empty()?;
                }
                Ok(())
            })?;
        writer
            .create_element("response")
            .with_attribute(("status", "200"))
            .write_inner_content(|writer| {
                for media_type in *media_types {
                    let form = writer.create_element("representation");
                    form.with_attribute(("mediaType", *media_type))
                        .write_empty()?;
                }
                Ok(())
            })?;
        Ok(())
    };
    writer
        .create_element("resource")
        .with_attribute(("path", *path))
        .write_inner_content(|writer| {
            writer
                .create_element("method")
                .with_attributes([("name", "GET"), ("id", *id)])
                .write_inner_content(method)?;
            Ok(())
        })?;
    Ok(())
}

/// Cross-origin requests of web pages (Fetch standard §3.2), for the origins that the centre chose.
pub mod cors {
    use super::{HeaderMap, HeaderValue, VARY};
    use axum::body::Body;
    use axum::response::Response;
    use http::header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
        ORIGIN,
    };
    use http::{Method, StatusCode};

    /// The origin of a request, if it is one of these.
    #[must_use]
    pub fn origin(request: &HeaderMap, allowed: &[String]) -> Option<HeaderValue> {
        let origin = request.get(ORIGIN)?;
        let known = allowed
            .iter()
            .any(|one| one.as_bytes() == origin.as_bytes());
        known.then(|| origin.clone())
    }

    /// The answer to a preflight request of an allowed origin; `None` for any other request. A
    /// browser sends it without credentials, and learns nothing from it.
    #[must_use]
    pub fn preflight(method: &Method, request: &HeaderMap) -> Option<Response> {
        if method != Method::OPTIONS || !request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        let headers = answer.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, HEAD"),
        );
        headers.insert(
            ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("accept, authorization, if-none-match, range"),
        );
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        Some(answer)
    }

    /// Lets pages of this origin read an answer.
    pub fn allow(origin: HeaderValue, answer: &mut HeaderMap) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        answer.insert(
            ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("content-range, etag, retry-after, warning"),
        );
        answer.append(VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(offered: &[Resource]) -> String {
        let offered = offered.iter().copied().collect();
        String::from_utf8(document(&offered, "https://db.example/rs").unwrap()).unwrap()
    }

    #[test]
    fn only_what_the_listener_offers_is_described() {
        let both = text(&[Resource::Wado, Resource::Qido]);
        assert!(both.starts_with("<application xmlns=\"http://wadl.dev.java.net/2009/02\">"));
        assert!(both.contains("<resources base=\"https://db.example/rs\">"));
        assert!(both.contains("id=\"SearchForStudies\"") && both.contains("id=\"RetrieveStudy\""));
        assert!(!text(&[Resource::Wado]).contains("SearchFor"));
        assert!(!text(&[Resource::Qido]).contains("Retrieve"));
    }

    #[test]
    fn every_path_that_is_described_is_one() {
        for (path, ..) in SEARCHES.iter().chain(RETRIEVALS) {
            let path = path
                .replace("{study}", "1.2")
                .replace("{series}", "1.3")
                .replace("{instance}", "1.4")
                .replace("{frames}", "1")
                .replace("{path}", "00420011");
            let target = super::super::path::parse(&format!("/{path}"));
            assert!(target.is_ok(), "{path}");
        }
    }

    #[test]
    fn a_client_that_takes_no_wadl_is_told() {
        let of = |accept| {
            let accept = Accept::parse([accept]).unwrap();
            answer(&accept, &BTreeSet::new(), "").map(|answer| answer.status().as_u16())
        };
        assert_eq!(of("*/*"), Ok(200));
        assert_eq!(of("application/vnd.sun.wadl+xml"), Ok(200));
        assert!(of("text/html").is_err());
    }
}
