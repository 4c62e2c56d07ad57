//! Bulk data (PS3.18 §10.4.1.1.7): long values of an instance, which its metadata name by URL.

use std::io;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::answer::{no_store, open_one, url_of, value};
use super::body::{Batches, BodyError};
use super::conditional::{self, Asked, Variant};
use super::frames::{self, ItemSource, OCTETS};
use super::multipart::{Boundary, PartHeader};
use super::negotiate::{BulkForm, negotiate_bulk};
use super::object::Object;
use super::problem::Problem;
use super::service::Call;
use super::status::no_resource;
use crate::archive::Scope;
use crate::dicom::is_pixel_data;
use crate::dicom::json::little_endian_value;
use crate::dicom::path::AttributePath;
use crate::dicom::reader::{Limits, Value};
use crate::dicom::syntax::{Encoding, PixelForm};
use crate::dicom::uid::TransferSyntaxUid;
use crate::pixels::ReadAt;
use crate::studies::Item;

/// Bytes of the longest binary value that metadata hold themselves.
pub const INLINE_MAX: usize = 16 << 10;
/// Bytes read at a time.
const STEP: u64 = 256 << 10;

/// The URL of a value, below that of its instance.
#[must_use]
pub fn location(instance: &str, path: &AttributePath) -> String {
    format!("{instance}/bulkdata/{path}")
}

/// Answers a request for one value of an instance.
///
/// # Errors
/// A problem, before the first byte.
pub async fn answer(
    call: &Call<'_>,
    scope: Scope,
    path: AttributePath,
) -> Result<Response, Problem> {
    let batches = open_one(call, &scope).await?;
    let item = batches.first().first().ok_or_else(no_resource)?.clone();
    let pixels = path.is_top() && is_pixel_data(path.tag());
    let syntax = &item.entry().transfer_syntax;
    if pixels && (PixelForm::of(syntax) == PixelForm::Encapsulated || !is_in_place(syntax)) {
        return frames::every(call, &scope, batches).await;
    }
    let form = negotiate_bulk(&call.accept)?;
    let variant = Variant::of(Some(std::slice::from_ref(&item)))
        .map(|variant| variant.with(&[&path.to_string(), form.as_str()]))
        .map(|variant| match form {
            BulkForm::Multipart => variant.with(&[&call.root]),
            BulkForm::SinglePart => variant.exact(),
        });
    let location = location(&url_of(&call.root, &scope), &path);
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let limits = Limits {
        head_bytes: call.service.max_head_bytes,
        ..call.pacs.studies.limits()
    };
    let found = tokio::task::spawn_blocking(move || find(&item, &path, limits));
    let found = found.await.map_err(|_| Problem::internal())?;
    let bulk = found.map_err(|error| unreadable(&error))?;
    let Some(bulk) = bulk else {
        return Err(Problem::not_found("the instance has no such value"));
    };
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    match form {
        BulkForm::Multipart => {
            let boundary = Boundary::random();
            headers.insert(CONTENT_TYPE, boundary.content_type(OCTETS));
            *answer.body_mut() = Body::from_stream(part(bulk, boundary, location, batches));
        }
        BulkForm::SinglePart => {
            let mut part = ranged(call, bulk, variant.as_ref(), batches)?;
            part.headers_mut().extend(std::mem::take(headers));
            part.headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
            return Ok(part);
        }
    }
    Ok(answer)
}

/// 502: the PACS sent an object that cannot be read.
pub fn unreadable(error: &BodyError) -> Problem {
    Problem::bad_gateway(error.to_string()).remedy("ask for the instance itself")
}

/// Answers with a value alone, or the range of it that is asked for (RFC 9110 §14); `variant` is what it
/// is a range of.
///
/// # Errors
/// 416 for a range outside it.
pub fn ranged(
    call: &Call<'_>,
    bulk: Bulk,
    variant: Option<&Variant>,
    batches: Batches,
) -> Result<Response, Problem> {
    let length = bulk.length();
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let bytes = match conditional::range(call.headers, length, variant) {
        Asked::Whole => 0..length,
        Asked::Part(bytes) => {
            let text = format!("bytes {}-{}/{length}", bytes.start, bytes.end - 1);
            headers.insert(CONTENT_RANGE, value(&text));
            bytes
        }
        Asked::Unsatisfiable => return Err(Problem::range_not_satisfiable(length)),
    };
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.end - bytes.start));
    if headers.contains_key(CONTENT_RANGE) {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    *answer.body_mut() = Body::from_stream(pieces(bulk, bytes, batches));
    Ok(answer)
}

/// A value: in memory, or somewhere in its instance.
pub enum Bulk {
    /// At hand.
    Memory(Bytes),
    /// In the file of its instance.
    Within {
        /// The file.
        source: std::sync::Arc<ItemSource>,
        /// First byte in the Part 10 file.
        at: u64,
        /// Its bytes.
        length: u64,
    },
}

impl Bulk {
    /// The first `length` bytes of it.
    #[must_use]
    pub fn shortened(self, length: u64) -> Self {
        match self {
            Self::Memory(mut bytes) => {
                bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                Self::Memory(bytes)
            }
            Self::Within {
                source,
                at,
                length: whole,
            } => Self::Within {
                source,
                at,
                length: length.min(whole),
            },
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Within { length, .. } => *length,
        }
    }

    async fn read(&self, at: u64, length: u64) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => {
                let range = usize::try_from(at)
                    .ok()
                    .zip(usize::try_from(at + length).ok());
                let (from, to) = range.ok_or(io::ErrorKind::UnexpectedEof)?;
                if to > bytes.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(bytes.slice(from..to))
            }
            Self::Within {
                source, at: start, ..
            } => {
                let (source, at) = (source.clone(), start + at);
                let length = usize::try_from(length).map_err(io::Error::other)?;
                let read = tokio::task::spawn_blocking(move || {
                    let mut piece = vec![0; length];
                    source.read_exact_at(at, &mut piece).map(|()| piece.into())
                });
                read.await.map_err(io::Error::other)?
            }
        }
    }
}

/// Looks a value up; `None` when there is none, or it holds items. Blocks.
///
/// # Errors
/// [`BodyError::Unreadable`] for a damaged object, or one beyond the limits.
pub fn find(item: &Item, path: &AttributePath, limits: Limits) -> Result<Option<Bulk>, BodyError> {
    value_of(item, &Object::read(item, limits)?, path, limits)
}

/// As [`find`], in an object of the item that was read already.
///
/// # Errors
/// As [`find`].
pub fn value_of(
    item: &Item,
    object: &Object,
    path: &AttributePath,
    limits: Limits,
) -> Result<Option<Bulk>, BodyError> {
    let found = |object: &Object| {
        object.with(|elements| {
            let element = path.find(elements)?;
            match element.value() {
                Value::Bytes(bytes) if !bytes.is_empty() => Some(Ok(Bytes::from(
                    little_endian_value(element, bytes).into_owned(),
                ))),
                Value::Large(large) => Some(Err(large)),
                // Of an icon: its code stream, the offset table left out.
                Value::Fragments(fragments) => {
                    let stream: Vec<&[u8]> = fragments.iter().skip(1).collect();
                    Some(Ok(Bytes::from(stream.concat())))
                }
                _ => None,
            }
        })
    };
    let within = |at: u64, length: u32| {
        let source = ItemSource::of(item)?;
        Some(Bulk::Within {
            source: source.into(),
            at: item.entry().meta_length + at,
            length: length.into(),
        })
    };
    if let Some(pixels) = object.pixels()
        && path.is_top()
        && pixels.tag == path.tag()
    {
        return Ok(pixels.value.and_then(|(at, length)| within(at, length)));
    }
    match found(object)? {
        None => Ok(None),
        Some(Ok(bytes)) => Ok(Some(Bulk::Memory(bytes))),
        Some(Err(large)) => match large.length {
            Some(length) if is_in_place(&item.entry().transfer_syntax) => {
                Ok(within(large.offset, length))
            }
            // Bytes in another order, or deflated: read whole.
            Some(_) => match found(&Object::read_whole(item, limits)?)? {
                Some(Ok(bytes)) => Ok(Some(Bulk::Memory(bytes))),
                _ => Ok(None),
            },
            None => {
                let Some(source) = ItemSource::of(item) else {
                    return Ok(None);
                };
                let at = item.entry().meta_length.saturating_add(large.offset);
                let stream = code_stream(&source, at, limits.head_bytes)?;
                Ok(Some(Bulk::Memory(stream.into())))
            }
        },
    }
}

/// The fragments of an encapsulated value one after the other, without the offset table (PS3.5 §A.4);
/// `at`: where its first item begins, `most`: bytes that are taken.
fn code_stream(source: &impl ReadAt, mut at: u64, most: u64) -> Result<Vec<u8>, BodyError> {
    const ITEM: [u8; 4] = [0xFE, 0xFF, 0x00, 0xE0];
    const END: [u8; 4] = [0xFE, 0xFF, 0xDD, 0xE0];
    let mut stream = Vec::new();
    let mut is_table = true;
    loop {
        let (mut tag, mut length) = ([0; 4], [0; 4]);
        source.read_exact_at(at, &mut tag)?;
        source.read_exact_at(at + 4, &mut length)?;
        match tag {
            END => return Ok(stream),
            ITEM => {}
            _ => return Err(BodyError::Unreadable("a fragment is missing".into())),
        }
        let length = u32::from_le_bytes(length);
        if !std::mem::take(&mut is_table) {
            let before = stream.len();
            if before as u64 + u64::from(length) > most {
                return Err(BodyError::Unreadable("a value of it is too long".into()));
            }
            stream.resize(before + length as usize, 0);
            let into = stream.get_mut(before..).unwrap_or_default();
            source.read_exact_at(at + 8, into)?;
        }
        at += 8 + u64::from(length);
    }
}

/// Whether values are in the file as they are sent: neither deflated nor of the other byte order.
pub fn is_in_place(syntax: &TransferSyntaxUid) -> bool {
    let encoding = Encoding::of(syntax);
    matches!(
        encoding,
        Encoding::ExplicitLittle | Encoding::ImplicitLittle
    )
}

/// One value as `multipart/related`.
fn part(
    bulk: Bulk,
    boundary: Boundary,
    location: String,
    batches: Batches,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let header = PartHeader {
            media_type: OCTETS,
            transfer_syntax: None,
            location: Some(&location),
        };
        yield boundary.open(&header, true);
        let whole = 0..bulk.length();
        for await piece in pieces(bulk, whole, batches) {
            yield piece?;
        }
        yield boundary.close();
    }
}

/// Some bytes of a value; `batches`, where it comes from, is open until all were sent.
fn pieces(
    bulk: Bulk,
    bytes: std::ops::Range<u64>,
    batches: Batches,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let _open = batches;
        for await piece in range(bulk, bytes) {
            yield piece?;
        }
    }
}

/// All bytes of a value.
pub fn whole(bulk: Bulk) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    let bytes = 0..bulk.length();
    range(bulk, bytes)
}

fn range(
    bulk: Bulk,
    bytes: std::ops::Range<u64>,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut at = bytes.start;
        while at < bytes.end {
            let piece = bulk.read(at, STEP.min(bytes.end - at)).await?;
            at += piece.len() as u64;
            yield piece;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn fragments(all: &[&[u8]], end: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xAA; 3];
        for fragment in all {
            bytes.extend([0xFE, 0xFF, 0x00, 0xE0]);
            bytes.extend(u32::try_from(fragment.len()).unwrap().to_le_bytes());
            bytes.extend(*fragment);
        }
        [bytes.as_slice(), end].concat()
    }

    #[test]
    fn a_code_stream_is_its_fragments_without_the_offset_table() {
        const END: &[u8] = &[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0];
        let of = |bytes: &[u8], most| code_stream(&bytes.to_vec(), 3, most).ok();
        let whole = fragments(&[&[9; 4], b"ab", b"cdef"], END);
        assert_eq!(of(&whole, 6), Some(b"abcdef".to_vec()));
        assert_eq!(of(&whole, 5), None);
        assert_eq!(of(&fragments(&[&[]], END), 5), Some(Vec::new()));
        // Cut, of no known kind, and with a length that nothing is allocated for.
        assert_eq!(of(&fragments(&[&[], b"ab"], &[]), 100), None);
        assert_eq!(of(&fragments(&[&[]], &[0; 8]), 100), None);
        let endless = [0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(of(&fragments(&[&[]], &endless), 100), None);
    }
}
