//! Bodies of answers that are made while they are sent.
//!
//! A body that ends as if complete is complete: an error in the stream ends the connection without
//! a closing boundary (HTTP/1.1: without last chunk, or short of its `Content-Length`; HTTP/2:
//! RST_STREAM), so that no client takes a part for the whole.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::Stream;

use super::multipart::{Boundary, PartHeader};
use super::negotiate::{Delivery, EXPLICIT_VR_LITTLE_ENDIAN, InstanceEncoding};
use crate::cache::read_range;
use crate::dicom::convert::Converter;
use crate::dicom::part10;
use crate::dicom::reader::{Limits, ReadError};
use crate::dicom::uid::TransferSyntaxUid;
use crate::studies::bytes::ItemBytes;
use crate::studies::{Item, Reader, StudiesError};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The retrieval failed after the first byte.
    #[error(transparent)]
    Studies(#[from] StudiesError),
    /// The cache could not be read.
    #[error("reading the cache: {0}")]
    Read(#[from] std::io::Error),
    /// An instance is stored in a syntax that the client did not accept, found after the first byte.
    #[error("an instance is stored in a transfer syntax that the client does not accept")]
    NotAcceptable,
    /// An instance cannot be described.
    #[error("an instance cannot be read: {0}")]
    Unreadable(String),
}

/// Items handed to a body one batch after the other, the first already at hand.
pub struct Batches {
    reader: Reader,
    first: Option<Vec<Item>>,
}

impl Batches {
    /// Waits for the first items, so that a failure before them still finds its status.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn open(mut reader: Reader) -> Result<Self, StudiesError> {
        match reader.next().await? {
            Some(first) => Ok(Self { reader, first: Some(first) }),
            None => Err(StudiesError::NotFound),
        }
    }

    /// The first items, while they have not been taken.
    #[must_use]
    pub fn first(&self) -> &[Item] {
        self.first.as_deref().unwrap_or_default()
    }

    /// The next items; `None` after the last.
    ///
    /// # Errors
    /// Why the rest does not come.
    pub async fn next(&mut self) -> Result<Option<Vec<Item>>, StudiesError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.reader.next().await,
        }
    }
}

/// An instance and what is done with it for this client.
#[derive(Clone)]
pub struct Part {
    /// The instance.
    pub item: Item,
    /// As stored, or inflated.
    pub delivery: Delivery,
}

impl Part {
    /// The transfer syntax it is sent in.
    #[must_use]
    pub fn transfer_syntax(&self) -> TransferSyntaxUid {
        match self.delivery {
            Delivery::AsStored => self.item.entry().transfer_syntax.clone(),
            Delivery::ExplicitVrLittleEndian => explicit_le(),
        }
    }

    /// Its bytes, where they are known before it is sent.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        let as_it_is = self.item.entry().transfer_syntax == self.transfer_syntax();
        as_it_is.then(|| self.item.entry().length)
    }
}

/// Bytes of a whole answer; `None` when an instance is converted on the way.
#[must_use]
pub fn total_length(boundary: &Boundary, items: &[Item], encoding: &InstanceEncoding) -> Option<u64> {
    let as_stored = items.iter().all(|item| {
        let stored = &item.entry().transfer_syntax;
        encoding.part(stored).is_some_and(|delivery| {
            Part { item: item.clone(), delivery }.length().is_some()
        })
    });
    let parts = items.iter().map(|item| {
        let entry = item.entry();
        (PartHeader { transfer_syntax: &entry.transfer_syntax, location: None }, entry.length)
    });
    if as_stored { boundary.total_length(parts) } else { None }
}

/// `multipart/related` of Part 10 files (PS3.18 §8.6.1.2).
pub fn instances(
    mut batches: Batches,
    boundary: Boundary,
    encoding: InstanceEncoding,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut first = true;
        while let Some(items) = batches.next().await? {
            let mut bytes = ItemBytes::new(&items);
            for item in items {
                let Some(delivery) = encoding.part(&item.entry().transfer_syntax) else {
                    Err(BodyError::NotAcceptable)?;
                    return;
                };
                let part = Part { item, delivery };
                let transfer_syntax = part.transfer_syntax();
                let header = PartHeader { transfer_syntax: &transfer_syntax, location: None };
                yield boundary.open(&header, first);
                first = false;
                let mut content = Content::of(&part);
                while let Some(piece) = content.next(&mut bytes).await? {
                    yield piece;
                }
            }
        }
        yield boundary.close();
    }
}

/// One Part 10 file.
pub fn single(part: Part) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut bytes = ItemBytes::new(std::slice::from_ref(&part.item));
        let mut content = Content::of(&part);
        while let Some(piece) = content.next(&mut bytes).await? {
            yield piece;
        }
    }
}

/// The bytes of one part, from the bytes of its item.
struct Content {
    /// Bytes of the item that were not read yet.
    left: u64,
    conversion: Option<Conversion>,
}

/// A deflated data set on its way to explicit VR little endian.
struct Conversion {
    converter: Option<Converter>,
    /// File meta information of the item, dropped in favour of `opening`.
    skip: u64,
    opening: Option<Bytes>,
}

impl Content {
    fn of(part: &Part) -> Self {
        let entry = part.item.entry();
        let conversion = part.length().is_none().then(|| Conversion {
            converter: Some(Converter::new(&entry.transfer_syntax, Limits::default())),
            skip: entry.meta_length,
            opening: Some(
                part10::file_meta(&entry.sop_class, &entry.instance, &part.transfer_syntax()).into(),
            ),
        });
        Self { left: entry.length, conversion }
    }

    async fn next(&mut self, bytes: &mut ItemBytes) -> Result<Option<Bytes>, BodyError> {
        let Some(conversion) = &mut self.conversion else {
            if self.left == 0 {
                return Ok(None);
            }
            let piece = bytes.next(self.left).await?;
            self.left -= piece.len() as u64;
            return Ok(Some(piece));
        };
        if let Some(opening) = conversion.opening.take() {
            return Ok(Some(opening));
        }
        let unreadable = |error: ReadError| BodyError::Unreadable(error.to_string());
        let mut out = Vec::new();
        while out.is_empty() {
            if self.left == 0 {
                match conversion.converter.take() {
                    Some(converter) => converter.finish(&mut out).map_err(unreadable)?,
                    None => return Ok(None),
                }
                continue;
            }
            // Small bites: a deflated byte may become a thousand.
            let most = if conversion.skip > 0 { conversion.skip } else { 4096.min(self.left) };
            let piece = bytes.next(most).await?;
            self.left -= piece.len() as u64;
            if conversion.skip > 0 {
                conversion.skip -= piece.len() as u64;
            } else if let Some(converter) = &mut conversion.converter {
                converter.feed(&piece, &mut out).map_err(unreadable)?;
            }
        }
        Ok(Some(out.into()))
    }
}

fn explicit_le() -> TransferSyntaxUid {
    TransferSyntaxUid::known(EXPLICIT_VR_LITTLE_ENDIAN)
}

/// What turns the head of an instance into its description.
pub type Describe = Arc<dyn Fn(&Item, &[u8], &mut Vec<u8>) -> Result<(), String> + Send + Sync>;

/// Instances described at a time, off the async threads.
const DESCRIBED: usize = 64;

/// A JSON array with one object an instance.
pub fn metadata(
    mut batches: Batches,
    describe: Describe,
    max_head: u64,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut first = true;
        while let Some(items) = batches.next().await? {
            for chunk in items.chunks(DESCRIBED) {
                let chunk = chunk.to_vec();
                let describe = Arc::clone(&describe);
                let opens = first;
                let described = tokio::task::spawn_blocking(move || {
                    describe_all(&chunk, opens, max_head, &describe)
                });
                yield described.await.map_err(std::io::Error::other)??;
                first = false;
            }
        }
        yield Bytes::from_static(b"]");
    }
}

fn describe_all(
    items: &[Item],
    first: bool,
    max_head: u64,
    describe: &Describe,
) -> Result<Bytes, BodyError> {
    let mut out = Vec::with_capacity(items.len() * 4096);
    for (at, item) in items.iter().enumerate() {
        out.push(if first && at == 0 { b'[' } else { b',' });
        let head = head(item, max_head)?;
        describe(item, &head, &mut out).map_err(BodyError::Unreadable)?;
    }
    Ok(out.into())
}

/// The data set of an item up to its pixel data. Blocks.
fn head(item: &Item, max: u64) -> Result<Bytes, BodyError> {
    let entry = item.entry();
    if entry.head_length > max {
        return Err(BodyError::Unreadable(format!(
            "{} bytes before its pixel data, {max} are allowed (`limits.max_head_bytes`)",
            entry.head_length
        )));
    }
    let length = usize::try_from(entry.head_length).map_err(std::io::Error::other)?;
    match item {
        Item::Stored { entry, file } => {
            Ok(read_range(file, entry.offset + entry.meta_length, length)?)
        }
        Item::Held(held) => {
            let mut skip = usize::try_from(entry.meta_length).map_err(std::io::Error::other)?;
            let mut bytes = Vec::with_capacity(length);
            for piece in &held.pieces {
                let from = skip.min(piece.len());
                skip -= from;
                let rest = piece.slice(from..);
                bytes.extend_from_slice(&rest.slice(..rest.len().min(length - bytes.len())));
            }
            Ok(bytes.into())
        }
    }
}
