//! Objects that are no images, as they are shown (PS3.18 §8.7.4, table 8.7.4-1): documents and videos
//! in the format they hold, structured reports as a page.

use axum::body::Body;
use axum::response::Response;
use dicom_core::Tag;
use http::HeaderValue;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};

use super::accept::{Accept, Weight};
use super::answer::no_store;
use super::body::{Batches, BodyError};
use super::bulk::{Bulk, find, ranged};
use super::conditional::Variant;
use super::frames;
use super::object::Object;
use super::problem::Problem;
use super::service::Call;
use super::status::no_resource;
use crate::dicom::charset::CharacterSet;
use crate::dicom::path::AttributePath;
use crate::dicom::reader::Limits;
use crate::dicom::report;
use crate::pixels::is_video;
use crate::studies::Item;

const ENCAPSULATED_PDF: &str = "1.2.840.10008.5.1.4.1.1.104.1";
const ENCAPSULATED_CDA: &str = "1.2.840.10008.5.1.4.1.1.104.2";
/// What the UIDs of SR documents begin with, those of key object selections among them.
const STRUCTURED_REPORTS: &str = "1.2.840.10008.5.1.4.1.1.88.";
const DOCUMENT: Tag = Tag(0x0042, 0x0011);
const DOCUMENT_LENGTH: Tag = Tag(0x0042, 0x0015);

/// What an object is shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An encapsulated document, in this format.
    Document(&'static str),
    /// A video, in this format.
    Video(&'static str),
    /// A structured report.
    Report,
}

impl Kind {
    /// What an instance is shown as; `None`: as a picture, if at all.
    #[must_use]
    pub fn of(item: &Item) -> Option<Self> {
        let entry = item.entry();
        match entry.sop_class.as_str() {
            ENCAPSULATED_PDF => Some(Self::Document("application/pdf")),
            ENCAPSULATED_CDA => Some(Self::Document("text/xml")),
            uid if uid.starts_with(STRUCTURED_REPORTS) => Some(Self::Report),
            _ if is_video(&entry.transfer_syntax) => {
                Some(Self::Video(frames::media_type_of(&entry.transfer_syntax)))
            }
            _ => None,
        }
    }

    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Document(media_type) | Self::Video(media_type) => media_type,
            Self::Report => "text/html",
        }
    }
}

/// Answers with an object as it is shown.
///
/// # Errors
/// A problem, before the first byte.
pub async fn answer(call: &Call<'_>, kind: Kind, batches: Batches) -> Result<Response, Problem> {
    let item = batches.first().first().ok_or_else(no_resource)?.clone();
    if !is_accepted(&call.accept, kind.media_type()) {
        return Err(Problem::not_acceptable(
            "this object is shown in another format than those the client accepts",
            format!("ask for Accept: {}", kind.media_type()),
        ));
    }
    let variant = Variant::of(Some(std::slice::from_ref(&item)))
        .map(|variant| variant.with(&["rendered", kind.media_type()]).exact());
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let limits = Limits {
        head_bytes: call.service.max_head_bytes,
        ..call.pacs.studies.limits()
    };
    Object::await_head(&item, limits)
        .await
        .map_err(unreadable)?;
    let mut answer = match kind {
        Kind::Video(_) => {
            let image = call.service.images.open(&item).await?;
            let stream = frames::frame(&call.service.pixels, &image, 0, false).await;
            let stream = Bulk::Memory(stream.map_err(frames::failed)?);
            ranged(call, stream, variant.as_ref(), batches)?
        }
        Kind::Document(_) => {
            let found = tokio::task::spawn_blocking(move || document(&item, limits));
            let found = found.await.map_err(|_| Problem::internal())?;
            let document = found.map_err(unreadable)?.ok_or_else(|| {
                Problem::not_found("the object holds no document: ask for the object itself")
            })?;
            ranged(call, document, variant.as_ref(), batches)?
        }
        Kind::Report => {
            let texts = call.pacs.texts.clone();
            let page = tokio::task::spawn_blocking(move || {
                let object = Object::read_whole(&item, limits)?;
                object.with(|elements| {
                    let declared = elements.declared_character_set(texts.fallback);
                    let charset = texts.replaces.or(declared);
                    let charset =
                        charset.unwrap_or_else(|| CharacterSet::undeclared(texts.fallback));
                    report::html(elements, &charset)
                })
            });
            let page = page.await.map_err(|_| Problem::internal())?;
            Response::new(Body::from(page.map_err(unreadable)?))
        }
    };
    let headers = answer.headers_mut();
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    let content_type = match kind {
        Kind::Report => "text/html; charset=utf-8",
        kind => kind.media_type(),
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    // What came in an object runs nothing in a browser, and loads nothing.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
    );
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(answer)
}

fn is_accepted(accept: &Accept, media_type: &str) -> bool {
    let Some((main, sub)) = media_type.split_once('/') else {
        return false;
    };
    accept.entries.is_empty()
        || accept
            .entries
            .iter()
            .any(|entry| entry.weight > Weight::NONE && entry.media.covers(main, sub))
}

fn unreadable(error: BodyError) -> Problem {
    Problem::bad_gateway(error.to_string()).remedy("ask for the object itself, as it is stored")
}

/// The document without the byte that makes its length even. Blocks.
fn document(item: &Item, limits: Limits) -> Result<Option<Bulk>, BodyError> {
    let Some(bulk) = find(item, &AttributePath::top(DOCUMENT), limits)? else {
        return Ok(None);
    };
    let length = Object::read(item, limits)?.with(|elements| {
        let bytes: [u8; 4] = elements.find(DOCUMENT_LENGTH)?.bytes()?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(bytes)))
    })?;
    Ok(Some(match length {
        Some(length) if length + 1 == bulk.length() => bulk.shortened(length),
        _ => bulk,
    }))
}
