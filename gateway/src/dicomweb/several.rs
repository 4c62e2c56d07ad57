//! All bulk data, or all pixel data, of a study, a series or an instance at once (PS3.18 §10.4.1,
//! tables 10.4.1-3 and 10.4.1-4): one part a value or a frame, each with its own URL.
//!
//! Which values are bulk data is said by the metadata: those that they name by URL.

use std::cell::RefCell;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use dicom_core::Tag;
use futures_util::{Stream, StreamExt as _};
use http::header::CONTENT_TYPE;

use super::accept::Accept;
use super::answer::no_store;
use super::body::{Batches, BodyError};
use super::bulk::{self, Bulk, INLINE_MAX, location, value_of};
use super::conditional::Variant;
use super::frames::{self, FrameEncoding, Image, OCTETS, PATIENCE, negotiate_frames};
use super::multipart::{Boundary, PartHeader};
use super::negotiate::{NotAcceptable, negotiate_bulk_parts};
use super::object::Object;
use super::problem::Problem;
use super::service::Call;
use super::status::failed;
use crate::archive::Scope;
use crate::dicom::is_pixel_data;
use crate::dicom::json::{JsonOptions, write_object};
use crate::dicom::path::AttributePath;
use crate::dicom::reader::Limits;
use crate::dicom::syntax::PixelForm;
use crate::dicom::uid::TransferSyntaxUid;
use crate::pixels::pool::{Pool, PoolError};
use crate::studies::{Item, StudiesError};

const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);

/// What is wanted of every instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Every value that metadata name by URL, pixels among them.
    BulkData,
    /// The frames.
    PixelData,
}

/// Answers a request for all bulk data, or all pixel data, of a scope.
///
/// # Errors
/// A problem, before the first byte: 404 when no instance has any.
pub async fn answer(call: &Call<'_>, scope: Scope, what: What) -> Result<Response, Problem> {
    let reader = call.open(&scope).await?;
    let known = reader.known_items().map_err(failed)?;
    let variant = Variant::of(known.as_deref()).map(|variant| {
        let asked = format!("{what:?} {:?}", call.accept);
        variant.with(&[&asked, &call.root])
    });
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let batches = Batches::open(reader).await.map_err(failed)?;
    let sending = Sending {
        what,
        accept: call.accept.clone(),
        pool: call.service.pixels.clone(),
        limits: Limits {
            head_bytes: call.service.max_head_bytes,
            ..call.pacs.studies.limits()
        },
        root: call.root.clone(),
    };
    // Better told now than by a cut, where it can be known.
    let at_hand = known.as_deref().unwrap_or_else(|| batches.first());
    for item in at_hand.iter().filter(|item| shows_pixels(item)) {
        negotiate_frames(&call.accept, &item.entry().transfer_syntax)?;
    }
    let mut chunks = Box::pin(chunks(batches, sending));
    let Some(first) = chunks.next().await else {
        return Err(Problem::not_found(match what {
            What::BulkData => "there are no bulk data under these UIDs",
            What::PixelData => "there are no pixels under these UIDs",
        }));
    };
    let first = first?;
    let boundary = Boundary::random();
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    if let Chunk::Open { media_type, .. } = &first {
        // Of parts of several types the first is the root (RFC 2387 §3.1).
        headers.insert(CONTENT_TYPE, boundary.content_type(media_type));
    }
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    let chunks = futures_util::stream::iter([Ok(first)]).chain(chunks);
    *answer.body_mut() = Body::from_stream(parts(chunks, boundary));
    Ok(answer)
}

/// Whether an item certainly has pixels, as far as is known without reading it.
fn shows_pixels(item: &Item) -> bool {
    let entry = item.entry();
    let besides = entry
        .meta_length
        .saturating_add(entry.head_length)
        .saturating_add(entry.tail_length);
    item.length().is_some_and(|length| besides < length)
}

/// A piece of the answer.
enum Chunk {
    /// A part begins.
    Open {
        media_type: &'static str,
        transfer_syntax: Option<TransferSyntaxUid>,
        location: String,
    },
    /// Bytes of it.
    Data(Bytes),
}

/// Why there is no more.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Pixels(#[from] PoolError),
    #[error(transparent)]
    NotAcceptable(#[from] NotAcceptable),
    #[error("no room on disk to look into an instance")]
    PassesBy,
}

impl From<StudiesError> for Failure {
    fn from(error: StudiesError) -> Self {
        Self::Body(error.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Body(error.into())
    }
}

/// Before the first byte.
impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Body(BodyError::Studies(error)) => failed(error),
            Failure::Body(error) => bulk::unreadable(&error),
            Failure::Pixels(error) => frames::failed(error),
            Failure::NotAcceptable(reason) => reason.into(),
            Failure::PassesBy => frames::passes_by(),
        }
    }
}

/// After it.
impl From<Failure> for BodyError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Body(error) => error,
            Failure::NotAcceptable(_) => Self::NotAcceptable,
            Failure::Pixels(_) | Failure::PassesBy => Self::Unreadable(failure.to_string()),
        }
    }
}

fn parts(
    chunks: impl Stream<Item = Result<Chunk, Failure>> + Send,
    boundary: Boundary,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut first = true;
        for await chunk in chunks {
            match chunk? {
                Chunk::Open { media_type, transfer_syntax, location } => {
                    let header = PartHeader {
                        media_type,
                        transfer_syntax: transfer_syntax.as_ref(),
                        location: Some(&location),
                    };
                    yield boundary.open(&header, std::mem::take(&mut first));
                }
                Chunk::Data(bytes) => yield bytes,
            }
        }
        yield boundary.close();
    }
}

/// What is sent to one client, and how it is made.
struct Sending {
    what: What,
    accept: Accept,
    pool: Pool,
    limits: Limits,
    /// Root of the service in URLs.
    root: String,
}

/// One instance, looked into.
struct Seen {
    object: Arc<Object>,
    /// Its URL.
    url: String,
    /// Its values that have a URL of their own, pixels excepted.
    values: Vec<AttributePath>,
    pixels: Option<AttributePath>,
}

fn chunks(
    mut batches: Batches,
    sending: Sending,
) -> impl Stream<Item = Result<Chunk, Failure>> + Send {
    async_stream::try_stream! {
        // Nothing was sent yet: a full pool has a status of its own.
        let mut begun = false;
        while let Some(items) = batches.next().await? {
            for item in items {
                let seen = sending.look(&item).await?;
                let (values, frames) = sending.wanted(&item, &seen);
                for path in values {
                    let Some(bulk) = sending.value(&item, &seen, &path).await? else {
                        continue;
                    };
                    negotiate_bulk_parts(&sending.accept)?;
                    begun = true;
                    yield Chunk::Open {
                        media_type: OCTETS,
                        transfer_syntax: None,
                        location: location(&seen.url, &path),
                    };
                    for await piece in bulk::whole(bulk) {
                        yield Chunk::Data(piece?);
                    }
                }
                if !frames {
                    continue;
                }
                let encoding = negotiate_frames(&sending.accept, &item.entry().transfer_syntax)?;
                let image = sending.image(&item, begun).await?;
                for number in 0..image.index().frames() {
                    let bytes = sending.frame(&image, number, &encoding, begun).await?;
                    begun = true;
                    yield Chunk::Open {
                        media_type: encoding.media_type,
                        transfer_syntax: Some(encoding.transfer_syntax.clone()),
                        location: format!("{}/frames/{}", seen.url, number.saturating_add(1)),
                    };
                    yield Chunk::Data(bytes);
                }
            }
        }
    }
}

impl Sending {
    /// Looks into an instance, off the async threads.
    async fn look(&self, item: &Item) -> Result<Seen, Failure> {
        if matches!(item, Item::Flowing(_)) {
            return Err(Failure::PassesBy);
        }
        let (item, limits, root) = (item.clone(), self.limits, self.root.clone());
        let seen = tokio::task::spawn_blocking(move || look(&item, limits, &root));
        Ok(seen.await.map_err(std::io::Error::other)??)
    }

    /// The values that are sent as they are, and whether the frames are sent.
    fn wanted(&self, item: &Item, seen: &Seen) -> (Vec<AttributePath>, bool) {
        let syntax = &item.entry().transfer_syntax;
        let in_frames =
            PixelForm::of(syntax) == PixelForm::Encapsulated || !bulk::is_in_place(syntax);
        match (self.what, &seen.pixels) {
            (What::PixelData, pixels) => (Vec::new(), pixels.is_some()),
            (What::BulkData, Some(pixels)) if !in_frames => {
                let values = seen.values.iter().chain([pixels]);
                (values.cloned().collect(), false)
            }
            (What::BulkData, pixels) => (seen.values.clone(), pixels.is_some()),
        }
    }

    async fn value(
        &self,
        item: &Item,
        seen: &Seen,
        path: &AttributePath,
    ) -> Result<Option<Bulk>, Failure> {
        let (item, object) = (item.clone(), Arc::clone(&seen.object));
        let (path, limits) = (path.clone(), self.limits);
        let found = tokio::task::spawn_blocking(move || value_of(&item, &object, &path, limits));
        Ok(found.await.map_err(std::io::Error::other)??)
    }

    async fn image(&self, item: &Item, patient: bool) -> Result<Image, Failure> {
        loop {
            match frames::open_in(&self.pool, item).await {
                Err(PoolError::Busy) if patient => tokio::time::sleep(PATIENCE).await,
                opened => return opened?.ok_or(Failure::PassesBy),
            }
        }
    }

    async fn frame(
        &self,
        image: &Image,
        number: u32,
        encoding: &FrameEncoding,
        patient: bool,
    ) -> Result<Bytes, Failure> {
        loop {
            match frames::frame(&self.pool, image, number, encoding.decoded).await {
                Err(PoolError::Busy) if patient => tokio::time::sleep(PATIENCE).await,
                made => return Ok(made?),
            }
        }
    }
}

/// Looks into an instance. Blocks.
fn look(item: &Item, limits: Limits, root: &str) -> Result<Seen, BodyError> {
    let object = Object::read(item, limits)?;
    let named = RefCell::new(Vec::new());
    let url = object.with(|elements| {
        let uid = |tag| {
            let uid = elements.uid(tag);
            uid.map(|uid| uid.to_string()).unwrap_or_default()
        };
        let name = |path: &AttributePath| {
            named.borrow_mut().push(path.clone());
            String::new()
        };
        let options = JsonOptions {
            inline_max: INLINE_MAX,
            bulk_uri: Some(&name),
            ..JsonOptions::default()
        };
        // For what it names, not for what it writes.
        write_object(&mut Vec::new(), elements, &options);
        format!(
            "{root}/studies/{}/series/{}/instances/{}",
            uid(STUDY_INSTANCE_UID),
            uid(SERIES_INSTANCE_UID),
            item.entry().instance
        )
    })?;
    let is_pixels = |path: &AttributePath| path.is_top() && is_pixel_data(path.tag());
    let mut values = named.into_inner();
    let within = values.iter().find(|path| is_pixels(path)).cloned();
    let pixels = object
        .pixels()
        .map(|element| AttributePath::top(element.tag));
    values.retain(|path| !is_pixels(path));
    Ok(Seen {
        pixels: pixels.or(within),
        object: Arc::new(object),
        url,
        values,
    })
}
