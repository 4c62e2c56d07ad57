//! Frames of an instance (PS3.18 §10.4.1.1.6): the bare code stream of each as it is stored, or its
//! samples in little endian order.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::header::CONTENT_TYPE;

use super::accept::{Accept, MediaType, TransferSyntaxRange, Weight};
use super::answer::{no_store, open_one, url_of, value};
use super::body::{Batches, BodyError};
use super::bulk::{Bulk, ranged};
use super::conditional::Variant;
use super::multipart::{Boundary, PartHeader};
use super::negotiate::{EXPLICIT_VR_LITTLE_ENDIAN, NotAcceptable};
use super::problem::Problem;
use super::service::Call;
use super::status::no_resource;
use crate::archive::Scope;
use crate::dicom::uid::TransferSyntaxUid;
use crate::pixels::pool::{Pool, PoolError};
use crate::pixels::{PixelError, ReadAt, StoredImage, is_decodable};
use crate::studies::Item;

/// The media type of samples that are not compressed.
pub const OCTETS: &str = "application/octet-stream";
/// Memory that the head and the index of an image are estimated to take, in bytes.
const OPENING: u64 = 4 << 20;
/// Time after which a full pool is worth another try.
pub const BUSY: Duration = Duration::from_secs(5);
/// Time after which a full pool is asked again by an answer that has begun.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// MPEG-2, and another name under which clients ask for it.
const MPEG2: &str = "video/mpeg";
const MPEG2_TOO: &str = "video/mpeg2";

/// Answers a request for frames, numbered from 1.
///
/// # Errors
/// A problem, before the first byte.
pub async fn answer(call: &Call<'_>, scope: Scope, list: &[u32]) -> Result<Response, Problem> {
    let batches = open_one(call, &scope).await?;
    respond(call, &scope, batches, Some(list)).await
}

/// Answers with all frames of an instance that was opened: the value of its pixel data.
///
/// # Errors
/// A problem, before the first byte.
pub async fn every(call: &Call<'_>, scope: &Scope, batches: Batches) -> Result<Response, Problem> {
    respond(call, scope, batches, None).await
}

async fn respond(
    call: &Call<'_>,
    scope: &Scope,
    batches: Batches,
    list: Option<&[u32]>,
) -> Result<Response, Problem> {
    let item = batches.first().first().ok_or_else(no_resource)?.clone();
    // How many frames make the value, only the image tells.
    let (opened, alone) = match list {
        Some([_]) => (None, Alone::Frame),
        Some(_) => (None, Alone::No),
        None => {
            let image = call.service.images.open(&item).await?;
            let alone = alone_of(&image);
            (Some(image), alone)
        }
    };
    let encoding = negotiate_frames(&call.accept, &item.entry().transfer_syntax, alone)?;
    let numbers: Arc<str> = list.map_or_else(|| "all".into(), |list| format!("{list:?}").into());
    let variant = Variant::of(Some(std::slice::from_ref(&item))).map(|variant| {
        let syntax = encoding.transfer_syntax.as_str();
        let variant = variant.with(&[encoding.media_type, syntax, &numbers]);
        if encoding.alone {
            variant.with(&["alone"]).exact()
        } else {
            variant.with(&[&call.root])
        }
    });
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let image = match opened {
        Some(image) => image,
        None => call.service.images.open(&item).await?,
    };
    let frames = image.index().frames();
    let mut numbers: VecDeque<u32> = match list {
        Some(list) => list.iter().map(|number| number.saturating_sub(1)).collect(),
        None => (0..frames).collect(),
    };
    let beyond = numbers.iter().copied().find(|number| *number >= frames);
    // The first frame decides on the status, and so does one that is not there.
    let number = beyond.or_else(|| numbers.pop_front()).unwrap_or_default();
    let bytes = frame(&call.service.pixels, &image, number, encoding.decoded)
        .await
        .map_err(failed)?;
    let pool = call.service.pixels.clone();
    let decoded = encoding.decoded;
    let mut answer = if !encoding.alone {
        let boundary = Boundary::random();
        let content_type = boundary.content_type(encoding.media_type);
        let (url, first) = (url_of(&call.root, scope), (number, bytes));
        let parts = parts(
            pool, image, first, numbers, encoding, boundary, url, batches,
        );
        let mut answer = Response::new(Body::from_stream(parts));
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        answer
    } else {
        let syntax = &encoding.transfer_syntax;
        let content_type = value(&format!(
            "{}; transfer-syntax={syntax}",
            encoding.media_type
        ));
        let mut answer = if numbers.is_empty() {
            ranged(call, Bulk::Memory(bytes), variant.as_ref(), batches)?
        } else {
            let all = one_after_the_other(pool, image, bytes, numbers, decoded, batches);
            Response::new(Body::from_stream(all))
        };
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        answer
    };
    let headers = answer.headers_mut();
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    Ok(answer)
}

/// What may be answered otherwise than in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alone {
    /// Nothing: several frames are several parts.
    No,
    /// The one frame there is, or that was asked for, in each of its forms.
    Frame,
    /// The samples of all frames one after the other: what Pixel Data is in Explicit VR Little Endian.
    Value,
}

/// How the value of the pixel data of an image may be answered.
fn alone_of(image: &Image) -> Alone {
    match image.index().frames() {
        0 | 1 => Alone::Frame,
        // Frames of single bits that end within a byte are not one after the other in a value.
        _ if !image.shape().frame_bits().is_multiple_of(8) => Alone::No,
        _ => Alone::Value,
    }
}

/// How the frames of one instance are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEncoding {
    /// Whether the code streams are decoded.
    pub decoded: bool,
    /// Media type of each part.
    pub media_type: &'static str,
    /// Transfer syntax of each part.
    pub transfer_syntax: TransferSyntaxUid,
    /// Whether the answer is no multipart: one frame, or the samples of all.
    pub alone: bool,
}

/// The media type of a frame in the transfer syntax it is stored in (PS3.18 §8.7.3.3).
#[must_use]
pub fn media_type_of(stored: &TransferSyntaxUid) -> &'static str {
    let code = stored
        .as_str()
        .strip_prefix("1.2.840.10008.1.2.")
        .unwrap_or_default();
    match code {
        "4.50" | "4.51" | "4.57" | "4.70" => "image/jpeg",
        "4.80" | "4.81" => "image/jls",
        "4.90" | "4.91" => "image/jp2",
        "4.92" | "4.93" => "image/jpx",
        "4.201" | "4.202" | "4.203" => "image/jphc",
        "4.110" | "4.111" | "4.112" => "image/jxl",
        "4.100" | "4.100.1" | "4.101" | "4.101.1" => MPEG2,
        "5" => "image/dicom-rle",
        code if code.starts_with("4.10") => "video/mp4",
        _ => OCTETS,
    }
}

/// Chooses how the frames of an instance are sent.
///
/// A client that names no transfer syntax gets samples, the default of the resource; one that takes
/// any (`*`) gets what is stored, also where it calls that octets, as viewers do. A single part is for
/// what is one item (PS3.18 §10.4.4): `alone` says what is.
///
/// # Errors
/// [`NotAcceptable::TransferSyntax`] when nothing the client accepts can be made.
pub fn negotiate_frames(
    accept: &Accept,
    stored: &TransferSyntaxUid,
    alone: Alone,
) -> Result<FrameEncoding, NotAcceptable> {
    let own = media_type_of(stored);
    let explicit = TransferSyntaxUid::known(EXPLICIT_VR_LITTLE_ENDIAN);
    let native = own == OCTETS;
    let decodable = native || is_decodable(stored);
    let samples = FrameEncoding {
        decoded: !native,
        media_type: OCTETS,
        transfer_syntax: explicit.clone(),
        alone: false,
    };
    let as_stored = |media_type| FrameEncoding {
        decoded: false,
        media_type,
        alone: false,
        transfer_syntax: if native {
            explicit.clone()
        } else {
            stored.clone()
        },
    };
    if accept.entries.is_empty() {
        return Ok(if decodable { samples } else { as_stored(own) });
    }
    let mut best: Option<(Weight, FrameEncoding)> = None;
    for entry in &accept.entries {
        if entry.weight == Weight::NONE {
            continue;
        }
        let in_parts = entry.media.covers("multipart", "related");
        let range = match alone {
            _ if in_parts => entry.parts.as_ref(),
            Alone::No => continue,
            Alone::Frame | Alone::Value => Some(&entry.media),
        };
        let is_value = !in_parts && alone == Alone::Value;
        let octets = covers(range, OCTETS);
        let own = match own {
            MPEG2 if !covers(range, MPEG2) => MPEG2_TOO,
            own => own,
        };
        let image = covers(range, own) && !is_value;
        let form = match &entry.transfer_syntax {
            TransferSyntaxRange::Any if is_value && octets && decodable => samples.clone(),
            TransferSyntaxRange::Unnamed if octets && decodable => samples.clone(),
            TransferSyntaxRange::Unnamed | TransferSyntaxRange::Any if image => as_stored(own),
            TransferSyntaxRange::Any if octets && !is_value => as_stored(OCTETS),
            TransferSyntaxRange::Named(uid) if *uid == explicit && octets && decodable => {
                samples.clone()
            }
            TransferSyntaxRange::Named(uid) if uid == stored && !native && image => as_stored(own),
            TransferSyntaxRange::Named(uid) if uid == stored && !native && octets && !is_value => {
                as_stored(OCTETS)
            }
            _ => continue,
        };
        let form = FrameEncoding {
            alone: !in_parts,
            ..form
        };
        // Of equals what is stored: nothing is decoded without need.
        let better = best.as_ref().is_none_or(|(weight, known)| {
            entry.weight > *weight || (entry.weight == *weight && known.decoded && !form.decoded)
        });
        if better {
            best = Some((entry.weight, form));
        }
    }
    best.map(|(_, form)| form)
        .ok_or_else(|| NotAcceptable::transfer_syntax([stored]))
}

fn covers(parts: Option<&MediaType>, media_type: &str) -> bool {
    let Some((main, sub)) = media_type.split_once('/') else {
        return false;
    };
    parts.is_none_or(|parts| parts.covers(main, sub))
}

/// The bytes of an instance of the cache, at any offset.
pub struct ItemSource {
    item: Item,
    bytes: Where,
}

enum Where {
    File {
        file: Arc<File>,
        offset: u64,
        length: u64,
    },
    Memory(Bytes),
}

impl ItemSource {
    /// The Part 10 file of an item; `None` while it only flows by. May copy it: blocks.
    #[must_use]
    pub fn of(item: &Item) -> Option<Self> {
        let bytes = match item {
            Item::Stored {
                fresh: Some(bytes), ..
            } => Where::Memory(bytes.clone()),
            Item::Stored { entry, file, .. } => Where::File {
                file: Arc::clone(file),
                offset: entry.offset,
                length: entry.length,
            },
            Item::Held(held) => Where::Memory(held.pieces.concat().into()),
            Item::Flowing(_) => return None,
        };
        Some(Self {
            item: item.clone(),
            bytes,
        })
    }
}

impl ReadAt for ItemSource {
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            Where::Memory(bytes) => bytes.as_ref().read_at(at, into),
            Where::File {
                file,
                offset,
                length,
            } => {
                let left = length.saturating_sub(at);
                let most = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
                let into = into.get_mut(..most).unwrap_or_default();
                FileExt::read_at(file.as_ref(), into, offset.saturating_add(at))
                    .inspect_err(|error| self.item.is_unreadable(error))
            }
        }
    }
}

/// An instance of the cache whose frames can be read.
pub type Image = Arc<StoredImage<ItemSource>>;

/// Opens the image of an item, off the async threads; `None` for an instance that only flows by.
///
/// # Errors
/// [`PoolError`].
pub async fn open_in(pool: &Pool, item: &Item) -> Result<Option<Image>, PoolError> {
    let item = item.clone();
    let (limits, codecs) = (pool.pixel_limits(), pool.codecs());
    let opened = pool.run(OPENING, move || {
        ItemSource::of(&item)
            .map(|source| StoredImage::open(source, limits))
            .transpose()
            .map(|image| image.map(|image| Arc::new(image.with_codecs(codecs))))
    });
    opened.await
}

/// 503: the disk is full, and an instance that is not kept cannot be looked into.
pub fn passes_by() -> Problem {
    Problem::unavailable(
        "no room on disk to look into an instance of this size",
        BUSY,
    )
}

/// The bytes of one frame, counted from 0.
///
/// # Errors
/// [`PoolError`].
pub async fn frame(
    pool: &Pool,
    image: &Image,
    number: u32,
    decoded: bool,
) -> Result<Bytes, PoolError> {
    let image = Arc::clone(image);
    let memory = image.shape().working_memory();
    pool.run(memory, move || {
        if decoded {
            image.frame(number).map(|frame| frame.samples.into())
        } else {
            image.stored_frame(number).map(Bytes::from)
        }
    })
    .await
}

/// The bytes of one frame of an answer that has begun: a full pool is asked again.
async fn frame_patiently(
    pool: &Pool,
    image: &Image,
    number: u32,
    decoded: bool,
) -> Result<Bytes, PoolError> {
    loop {
        match frame(pool, image, number, decoded).await {
            Err(PoolError::Busy) => tokio::time::sleep(PATIENCE).await,
            made => return made,
        }
    }
}

/// The parts of an answer below the URL of its instance: the first frame is at hand, the others are read
/// as they are sent.
#[expect(clippy::too_many_arguments, reason = "what a stream takes with it")]
fn parts(
    pool: Pool,
    image: Image,
    first: (u32, Bytes),
    mut rest: VecDeque<u32>,
    encoding: FrameEncoding,
    boundary: Boundary,
    url: String,
    batches: Batches,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        // The instance may still be on its way; its retrieval goes on as long as it is read.
        let _batches = batches;
        let opening = |number: u32, first| {
            let location = format!("{url}/frames/{}", number.saturating_add(1));
            let header = PartHeader {
                media_type: encoding.media_type,
                transfer_syntax: Some(&encoding.transfer_syntax),
                location: Some(&location),
            };
            boundary.open(&header, first)
        };
        let (number, bytes) = first;
        yield opening(number, true);
        yield bytes;
        while let Some(number) = rest.pop_front() {
            let bytes = frame_patiently(&pool, &image, number, encoding.decoded).await;
            let bytes = bytes.map_err(|error| BodyError::Unreadable(error.to_string()))?;
            yield opening(number, false);
            yield bytes;
        }
        yield boundary.close();
    }
}

/// Frames as one body.
fn one_after_the_other(
    pool: Pool,
    image: Image,
    first: Bytes,
    rest: VecDeque<u32>,
    decoded: bool,
    batches: Batches,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let _batches = batches;
        yield first;
        for number in rest {
            let bytes = frame_patiently(&pool, &image, number, decoded).await;
            yield bytes.map_err(|error| BodyError::Unreadable(error.to_string()))?;
        }
    }
}

/// The status of pixels that cannot be had.
#[must_use]
pub fn failed(error: PoolError) -> Problem {
    const REMEDY: &str = "ask for the instance itself, as it is stored";
    let text = error.to_string();
    match error {
        PoolError::Busy => Problem::unavailable("too many images are being decoded", BUSY),
        PoolError::TooLarge { .. } => Problem::content_too_large(text, REMEDY),
        PoolError::Stopped => Problem::internal(),
        PoolError::Pixels(error) => match error {
            PixelError::NoPixels | PixelError::NoSuchFrame { .. } => Problem::not_found(text),
            PixelError::TooLarge { .. } => Problem::content_too_large(text, REMEDY),
            PixelError::Unsupported(_)
            | PixelError::UnsupportedForm { .. }
            | PixelError::NotRenderable(_)
            | PixelError::Missing { .. }
            | PixelError::Shape(_)
            | PixelError::FramesUnknown { .. } => Problem::not_acceptable(text, REMEDY),
            PixelError::Io(_) | PixelError::Output(_) | PixelError::NoWorker(_) => {
                tracing::error!("{text}");
                Problem::internal()
            }
            _ => Problem::bad_gateway(text).remedy(REMEDY),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
    const MPEG4: &str = "1.2.840.10008.1.2.4.102";
    const DEFLATED: &str = "1.2.840.10008.1.2.1.99";

    fn encoding(accept: &str, stored: &str, alone: Alone) -> Option<FrameEncoding> {
        let accept = Accept::parse((!accept.is_empty()).then_some(accept)).unwrap();
        let stored = TransferSyntaxUid::parse(stored).unwrap();
        negotiate_frames(&accept, &stored, alone).ok()
    }

    /// (decoded, media type, transfer syntax) in parts, or nothing acceptable.
    fn chosen(accept: &str, stored: &str) -> Option<(bool, &'static str, String)> {
        let form = encoding(accept, stored, Alone::No)?;
        assert!(!form.alone);
        let syntax = form.transfer_syntax.to_string();
        Some((form.decoded, form.media_type, syntax))
    }

    fn multipart(kind: &str, more: &str) -> String {
        format!("multipart/related; type=\"{kind}\"{more}")
    }

    #[test]
    fn samples_are_the_default() {
        let samples = Some((true, OCTETS, EXPLICIT_VR_LITTLE_ENDIAN.to_owned()));
        let explicit = "; transfer-syntax=1.2.840.10008.1.2.1";
        for accept in [
            "",
            "*/*",
            "multipart/related",
            &multipart(OCTETS, ""),
            &multipart(OCTETS, explicit),
        ] {
            assert_eq!(chosen(accept, JPEG_LS), samples, "{accept}");
        }
    }

    #[test]
    fn a_star_gives_what_is_stored_under_the_name_the_client_has_for_it() {
        let any = "; transfer-syntax=*";
        let stored = |media_type| Some((false, media_type, JPEG_LS.to_owned()));
        assert_eq!(
            chosen(&multipart("image/jls", any), JPEG_LS),
            stored("image/jls")
        );
        assert_eq!(
            chosen(&multipart("image/*", any), JPEG_LS),
            stored("image/jls")
        );
        assert_eq!(chosen(&multipart(OCTETS, any), JPEG_LS), stored(OCTETS));
        assert_eq!(
            chosen(&multipart("image/jls", ""), JPEG_LS),
            stored("image/jls")
        );
        let named = format!("; transfer-syntax={JPEG_LS}");
        assert_eq!(
            chosen(&multipart("image/jls", &named), JPEG_LS),
            stored("image/jls")
        );
    }

    #[test]
    fn what_is_one_item_is_had_without_parts() {
        const PLAIN: &str = EXPLICIT_VR_LITTLE_ENDIAN;
        let any = format!("{OCTETS}; transfer-syntax=*");
        let own = format!("image/jls; transfer-syntax={JPEG_LS}");
        let plain = format!("{OCTETS}; transfer-syntax={PLAIN}");
        let later = format!("{OCTETS}; q=0.5, multipart/related");
        // Accept, one frame, all frames: decoded, media type, without parts.
        let samples = Some((true, OCTETS, true));
        let stored = |media_type| Some((false, media_type, true));
        for (accept, frame, value) in [
            (OCTETS, samples, samples),
            (&plain, samples, samples),
            ("application/*", samples, samples),
            (&any, stored(OCTETS), samples),
            ("image/jls", stored("image/jls"), None),
            ("image/*", stored("image/jls"), None),
            (&own, stored("image/jls"), None),
            ("image/jpeg", None, None),
            ("application/octet-stream; q=0", None, None),
            // Parts are the default, and what a client takes without preference.
            ("", Some((true, OCTETS, false)), Some((true, OCTETS, false))),
            (
                "*/*",
                Some((true, OCTETS, false)),
                Some((true, OCTETS, false)),
            ),
            (
                &later,
                Some((true, OCTETS, false)),
                Some((true, OCTETS, false)),
            ),
        ] {
            let of = |alone| {
                let form = encoding(accept, JPEG_LS, alone)?;
                Some((form.decoded, form.media_type, form.alone))
            };
            assert_eq!(of(Alone::Frame), frame, "{accept}");
            assert_eq!(of(Alone::Value), value, "{accept}");
            if !accept.is_empty() && !accept.contains('*') && !accept.contains("multipart") {
                assert_eq!(of(Alone::No), None, "{accept}");
            }
        }
        assert_eq!(encoding(OCTETS, MPEG4, Alone::Frame), None);
        let video = encoding("video/mp4", MPEG4, Alone::Frame).unwrap();
        assert_eq!((video.decoded, video.alone), (false, true));
    }

    #[test]
    fn frames_that_are_not_compressed_are_octets_in_little_endian() {
        let plain = Some((false, OCTETS, EXPLICIT_VR_LITTLE_ENDIAN.to_owned()));
        for stored in [EXPLICIT_VR_LITTLE_ENDIAN, DEFLATED] {
            assert_eq!(chosen("", stored), plain);
            assert_eq!(
                chosen(&multipart(OCTETS, "; transfer-syntax=*"), stored),
                plain
            );
            assert_eq!(
                chosen(&multipart("image/jls", "; transfer-syntax=*"), stored),
                None
            );
        }
    }

    #[test]
    fn what_cannot_be_made_is_not_acceptable() {
        assert_eq!(chosen(&multipart("image/jp2", ""), JPEG_LS), None);
        assert_eq!(chosen(&multipart(OCTETS, ""), MPEG4), None);
        assert_eq!(chosen(&multipart(OCTETS, "; q=0"), JPEG_LS), None);
        let own = Some((false, "video/mp4", MPEG4.to_owned()));
        assert_eq!(chosen(&multipart("video/mp4", ""), MPEG4), own);
        assert_eq!(chosen("", MPEG4), own);
    }

    #[test]
    fn the_greater_weight_wins_and_what_is_stored_among_equals() {
        let both = |first: &str, second: &str| {
            format!(
                "{}, {}",
                multipart(OCTETS, first),
                multipart("image/jls", second)
            )
        };
        assert!(!chosen(&both("", ""), JPEG_LS).unwrap().0);
        assert!(chosen(&both("; q=0.9", "; q=0.5"), JPEG_LS).unwrap().0);
        assert!(!chosen(&both("; q=0.5", "; q=0.9"), JPEG_LS).unwrap().0);
    }
}
