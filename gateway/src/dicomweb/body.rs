//! Bodies of answers that are made while they are sent.
//!
//! A body that ends as if complete is complete: an error in the stream ends the connection without
//! a closing boundary (HTTP/1.1: without last chunk, or short of its `Content-Length`; HTTP/2:
//! RST_STREAM), so that no client takes a part for the whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::Stream;

use super::multipart::{Boundary, DICOM, PartHeader};
use super::negotiate::{Delivery, EXPLICIT_VR_LITTLE_ENDIAN, InstanceEncoding};
use super::rewritten::Rewritten;
use super::transcoded::{Ahead, Transcoded, Wish};
use crate::dicom::convert::Converter;
use crate::dicom::edit::{Edit, edit_head};
use crate::dicom::part10;
use crate::dicom::reader::{Limits, ReadError};
use crate::dicom::scan::HeadScanner;
use crate::dicom::syntax::Encoding;
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

/// First bytes of a part up to this length, such as a head that was edited, leave in one piece with its
/// header: each piece costs a chunk and a TLS record.
const JOINED: usize = 16 * 1024;
/// Bytes of a head that is edited.
pub(super) const MAX_EDITED_HEAD: u64 = 16 * 1024 * 1024;

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
            Some(first) => Ok(Self {
                reader,
                first: Some(first),
            }),
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
pub enum Part {
    /// Its bytes go by, with little or no change.
    Passed(Passed),
    /// It is written anew before it is sent.
    Transcoded(Wish),
}

/// An instance whose bytes go by.
#[derive(Clone)]
pub struct Passed {
    /// The instance.
    pub item: Item,
    /// Whether it is written in Explicit VR Little Endian on the way.
    pub explicit: bool,
    /// Changes to its head; none leaves it as it is.
    pub edits: Arc<[Edit]>,
}

impl Part {
    /// An instance in the way it is delivered.
    #[must_use]
    pub fn new(item: Item, delivery: Delivery, edits: Arc<[Edit]>) -> Self {
        match delivery {
            Delivery::AsStored => Self::Passed(Passed::as_stored(item, edits)),
            Delivery::ExplicitVrLittleEndian => Self::Passed(Passed {
                item,
                explicit: true,
                edits,
            }),
            Delivery::Transcoded(targets) => Self::Transcoded(Wish {
                item,
                targets,
                edits,
            }),
        }
    }
}

impl Passed {
    /// An instance in the transfer syntax in which it is stored. One that is deflated stays as it is: its head cannot
    /// be changed without deflating all of it again.
    #[must_use]
    pub fn as_stored(item: Item, edits: Arc<[Edit]>) -> Self {
        let is_deflated =
            Encoding::of(&item.entry().transfer_syntax) == Encoding::DeflatedExplicitLittle;
        Self {
            item,
            explicit: false,
            edits: if is_deflated { Arc::default() } else { edits },
        }
    }

    /// The transfer syntax it is sent in.
    #[must_use]
    pub fn transfer_syntax(&self) -> TransferSyntaxUid {
        if self.explicit {
            explicit_le()
        } else {
            self.item.entry().transfer_syntax.clone()
        }
    }

    /// Whether it is sent in the transfer syntax in which it is stored.
    #[must_use]
    pub fn keeps_syntax(&self) -> bool {
        let stored = self.item.entry().transfer_syntax.as_str();
        !self.explicit || stored == EXPLICIT_VR_LITTLE_ENDIAN
    }

    /// Whether it can be told now that its head is too large for the changes that it needs.
    #[must_use]
    pub fn is_beyond_changes(&self) -> bool {
        !self.edits.is_empty()
            && self.keeps_syntax()
            && self.item.entry().head_length > MAX_EDITED_HEAD
    }

    /// Its bytes, where they are known before it is sent.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        let as_it_is = self.edits.is_empty() && self.keeps_syntax();
        self.item.length().filter(|_| as_it_is)
    }
}

/// How instances are sent to one client.
#[derive(Clone)]
pub struct Sending {
    /// The forms and syntaxes it accepts.
    pub encoding: InstanceEncoding,
    /// Changes to the head of every instance.
    pub edits: Arc<[Edit]>,
}

impl Sending {
    /// An instance as a part of a multipart answer; `None` when it cannot be sent.
    #[must_use]
    pub fn part(&self, item: Item) -> Option<Part> {
        let delivery = self.encoding.part(&item.entry().transfer_syntax)?;
        Some(Part::new(item, delivery, Arc::clone(&self.edits)))
    }

    /// Whether one of these cannot be sent as it must be: see [`Passed::is_beyond_changes`].
    #[must_use]
    pub fn is_beyond_changes(&self, items: &[Item]) -> bool {
        let mut parts = items.iter().filter_map(|item| self.part(item.clone()));
        parts.any(|part| matches!(part, Part::Passed(part) if part.is_beyond_changes()))
    }

    /// Bytes of a whole answer; `None` when an instance is changed on the way.
    #[must_use]
    pub fn total_length(&self, boundary: &Boundary, items: &[Item]) -> Option<u64> {
        let parts: Option<Vec<(TransferSyntaxUid, u64)>> = items
            .iter()
            .map(|item| match self.part(item.clone())? {
                Part::Passed(part) => Some((part.transfer_syntax(), part.length()?)),
                Part::Transcoded(_) => None,
            })
            .collect();
        boundary.total_length(parts?.iter().map(|(transfer_syntax, length)| {
            (
                PartHeader {
                    media_type: DICOM,
                    transfer_syntax: Some(transfer_syntax),
                    location: None,
                },
                *length,
            )
        }))
    }
}

/// Whole instances that were handed over of an answer, as an extension of it. Clones share one count.
#[derive(Debug, Clone, Default)]
pub struct PartsSent(Arc<AtomicU64>);

impl PartsSent {
    /// How many so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn more(&self, parts: u64) {
        self.0.fetch_add(parts, Ordering::Relaxed);
    }
}

/// `multipart/related` of Part 10 files (PS3.18 §8.6.1.2), counted in `sent`. `ahead` makes those that
/// are transcoded.
pub fn instances(
    mut batches: Batches,
    boundary: Boundary,
    sending: Sending,
    mut ahead: Ahead,
    sent: PartsSent,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut first = true;
        while let Some(items) = batches.next().await? {
            let parts: Option<Vec<Part>> = items.into_iter().map(|item| sending.part(item)).collect();
            let parts = parts.ok_or(BodyError::NotAcceptable)?;
            let mut passed = Vec::with_capacity(parts.len());
            for part in &parts {
                match part {
                    Part::Passed(part) if Rewritten::is_for(part) => {}
                    Part::Passed(part) => passed.push(part.item.clone()),
                    Part::Transcoded(wish) => ahead.push(wish.clone()),
                }
            }
            let mut bytes = ItemBytes::new(&passed);
            let mut parts = parts.into_iter().peekable();
            while let Some(part) = parts.next() {
                match part {
                    Part::Passed(part) if Rewritten::is_for(&part) => {
                        let mut run = vec![part];
                        while let Some(Part::Passed(part)) = parts.next_if(is_rewritten) {
                            run.push(part);
                        }
                        let mut rewritten = Rewritten::new(run, |part| {
                            let first = std::mem::take(&mut first);
                            opening(&boundary, &part.transfer_syntax(), first)
                        });
                        while let Some(piece) = rewritten.next().await? {
                            yield piece.bytes;
                            sent.more(u64::from(piece.ends));
                        }
                        continue;
                    }
                    Part::Passed(part) => {
                        let mut opening = opening(&boundary, &part.transfer_syntax(), first);
                        let mut content = Content::of(&part);
                        while let Some(piece) = content.next(&mut bytes).await? {
                            if !opening.is_empty() && piece.len() <= JOINED {
                                yield [std::mem::take(&mut opening), piece].concat().into();
                                continue;
                            }
                            if !opening.is_empty() {
                                yield std::mem::take(&mut opening);
                            }
                            yield piece;
                        }
                        if !opening.is_empty() {
                            yield opening;
                        }
                    }
                    Part::Transcoded(_) => {
                        let made = ahead.next().await?;
                        yield opening(&boundary, &made.transfer_syntax, first);
                        for await piece in self::made(made) {
                            yield piece?;
                        }
                    }
                }
                sent.more(1);
                first = false;
            }
        }
        yield boundary.close();
    }
}

fn is_rewritten(part: &Part) -> bool {
    matches!(part, Part::Passed(part) if Rewritten::is_for(part))
}

fn opening(boundary: &Boundary, transfer_syntax: &TransferSyntaxUid, first: bool) -> Bytes {
    let header = PartHeader {
        media_type: DICOM,
        transfer_syntax: Some(transfer_syntax),
        location: None,
    };
    boundary.open(&header, first)
}

/// One Part 10 file; `batches`, where it comes from, is open until all of it was sent.
pub fn single(
    part: Passed,
    batches: Batches,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let _open = batches;
        let mut pieces = Pieces::of(&part);
        while let Some(piece) = pieces.next().await? {
            yield piece;
        }
    }
}

/// The bytes of one Part 10 file that goes by.
pub struct Pieces {
    bytes: ItemBytes,
    content: Content,
}

impl Pieces {
    /// From its beginning.
    #[must_use]
    pub fn of(part: &Passed) -> Self {
        Self {
            bytes: ItemBytes::new(std::slice::from_ref(&part.item)),
            content: Content::of(part),
        }
    }

    /// The next bytes; `None` after the last.
    ///
    /// # Errors
    /// Why the rest does not come.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.content.next(&mut self.bytes).await
    }
}

/// One Part 10 file that was transcoded.
pub fn made(transcoded: Transcoded) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    async_stream::try_stream! {
        let mut left = transcoded.length;
        let (mut bytes, _room) = transcoded.into_bytes();
        while left > 0 {
            let piece = bytes.next(left).await?;
            left -= piece.len() as u64;
            yield piece;
        }
    }
}

/// The bytes of one part, from the bytes of its item.
struct Content {
    /// Bytes of the item that were not read yet; `None` until the end of one that flows through.
    left: Option<u64>,
    change: Option<Change>,
}

/// What is changed on the way.
enum Change {
    /// A deflated data set becomes explicit VR little endian.
    Inflate {
        converter: Option<Box<Converter>>,
        /// File meta information of the item, dropped in favour of `opening`.
        skip: u64,
        opening: Option<Bytes>,
        /// The head is held back until all of it is there; `None` where nothing of it changes.
        held: Option<Box<HeldHead>>,
    },
    /// The head is written anew; what follows it, the pixel data, is not looked at.
    EditHead {
        meta: u64,
        head: u64,
        edits: Arc<[Edit]>,
    },
}

impl Content {
    fn of(part: &Passed) -> Self {
        let entry = part.item.entry();
        let change = if !part.keeps_syntax() {
            let syntax = part.transfer_syntax();
            Some(Change::Inflate {
                converter: Some(Box::new(Converter::new(
                    &entry.transfer_syntax,
                    Limits::default(),
                ))),
                skip: entry.meta_length,
                opening: Some(part10::file_meta(&entry.sop_class, &entry.instance, &syntax).into()),
                held: HeldHead::new(&syntax, &part.edits).map(Box::new),
            })
        } else if !part.edits.is_empty() {
            let edits = Arc::clone(&part.edits);
            Some(Change::EditHead {
                meta: entry.meta_length,
                head: entry.head_length,
                edits,
            })
        } else {
            None
        };
        Self {
            left: part.item.length(),
            change,
        }
    }

    async fn next(&mut self, bytes: &mut ItemBytes) -> Result<Option<Bytes>, BodyError> {
        match &mut self.change {
            None if self.left == Some(0) => Ok(None),
            None => {
                let piece = self.read(bytes, self.left.unwrap_or(u64::MAX)).await?;
                Ok((!piece.is_empty()).then_some(piece))
            }
            Some(Change::EditHead { meta, head, edits }) => {
                let (meta, head, edits) = (*meta, *head, Arc::clone(edits));
                self.change = None;
                if head > MAX_EDITED_HEAD {
                    return Err(BodyError::Unreadable(
                        "its head is too large to edit".into(),
                    ));
                }
                let mut out = self.read_all(bytes, meta).await?;
                let old = self.read_all(bytes, head).await?;
                let new = edit_head(&old, &edits, Limits::default())
                    .map_err(|error| BodyError::Unreadable(error.to_string()))?;
                out.extend_from_slice(&new);
                Ok(Some(out.into()))
            }
            Some(Change::Inflate { .. }) => self.inflate(bytes).await,
        }
    }

    async fn inflate(&mut self, bytes: &mut ItemBytes) -> Result<Option<Bytes>, BodyError> {
        let mut out = Vec::new();
        loop {
            let Some(Change::Inflate {
                converter,
                skip,
                opening,
                held,
            }) = &mut self.change
            else {
                return Ok(None);
            };
            if let Some(opening) = opening.take() {
                return Ok(Some(opening));
            }
            let over = converter.is_none();
            if let Some(head) = held {
                out = head.take(std::mem::take(&mut out), over)?;
                if head.is_over() {
                    *held = None;
                }
            }
            if !out.is_empty() {
                return Ok(Some(out.into()));
            }
            if self.left == Some(0) {
                let Some(converter) = converter.take() else {
                    return Ok(None);
                };
                converter.finish(&mut out).map_err(unreadable)?;
                continue;
            }
            // Small bites: a deflated byte may become a thousand.
            let skipping = *skip > 0;
            let bite = 4096.min(self.left.unwrap_or(u64::MAX));
            let most = if skipping { *skip } else { bite };
            let piece = bytes.next(most).await?;
            count(&mut self.left, &piece);
            if skipping {
                *skip -= piece.len() as u64;
            } else if let Some(converter) = converter {
                converter.feed(&piece, &mut out).map_err(unreadable)?;
            }
        }
    }

    async fn read(&mut self, bytes: &mut ItemBytes, most: u64) -> Result<Bytes, BodyError> {
        let piece = bytes.next(most).await?;
        count(&mut self.left, &piece);
        Ok(piece)
    }

    async fn read_all(&mut self, bytes: &mut ItemBytes, length: u64) -> Result<Vec<u8>, BodyError> {
        let mut whole = Vec::new();
        while (whole.len() as u64) < length {
            let piece = self.read(bytes, length - whole.len() as u64).await?;
            if piece.is_empty() {
                Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole)
    }
}

/// The head of an instance that is written anew on the way, until its pixel data begin.
struct HeldHead {
    scanner: HeadScanner,
    bytes: Vec<u8>,
    edits: Arc<[Edit]>,
    over: bool,
}

impl HeldHead {
    /// `None` where there is nothing to change.
    fn new(syntax: &TransferSyntaxUid, edits: &Arc<[Edit]>) -> Option<Self> {
        (!edits.is_empty()).then(|| Self {
            scanner: HeadScanner::new(syntax, Limits::default()),
            bytes: Vec::new(),
            edits: Arc::clone(edits),
            over: false,
        })
    }

    fn is_over(&self) -> bool {
        self.over
    }

    /// Takes the next bytes of the data set, and gives those that can be sent: none before the whole
    /// head is there, then its changed form and what follows it. `last`: no more will come.
    fn take(&mut self, bytes: Vec<u8>, last: bool) -> Result<Vec<u8>, BodyError> {
        self.scanner.feed(&bytes).map_err(unreadable)?;
        self.bytes.extend_from_slice(&bytes);
        let end = match self.scanner.head().and_then(|head| head.pixel_data_offset) {
            Some(offset) => usize::try_from(offset).unwrap_or(usize::MAX),
            None if last => self.bytes.len(),
            None if self.bytes.len() as u64 > MAX_EDITED_HEAD => {
                return Err(BodyError::Unreadable(
                    "its head is too large to edit".into(),
                ));
            }
            None => return Ok(Vec::new()),
        };
        self.over = true;
        let rest = self.bytes.split_off(end.min(self.bytes.len()));
        let mut out = edit_head(&self.bytes, &self.edits, Limits::default())
            .map_err(|error| BodyError::Unreadable(error.to_string()))?;
        out.extend_from_slice(&rest);
        Ok(out)
    }
}

fn unreadable(error: ReadError) -> BodyError {
    BodyError::Unreadable(error.to_string())
}

/// The first bytes of an item, when they have arrived; file meta information and head of one that
/// flows through.
///
/// # Errors
/// Why they do not arrive.
pub async fn opening_of(item: &Item, meta: u64, head: u64) -> Result<Vec<u8>, BodyError> {
    let mut bytes = ItemBytes::new(std::slice::from_ref(item));
    let mut content = Content {
        left: None,
        change: None,
    };
    content.read_all(&mut bytes, meta).await?;
    content.read_all(&mut bytes, head).await
}

/// Takes a piece off what is left; an empty one is the end of what had no length.
fn count(left: &mut Option<u64>, piece: &Bytes) {
    *left = match *left {
        None if piece.is_empty() => Some(0),
        None => None,
        Some(left) => Some(left.saturating_sub(piece.len() as u64)),
    };
}

fn explicit_le() -> TransferSyntaxUid {
    TransferSyntaxUid::known(EXPLICIT_VR_LITTLE_ENDIAN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use dicom_core::{Tag, VR};

    use super::*;
    use crate::dicom::write::put_element;

    const PATIENT_ID: Tag = Tag(0x0010, 0x0020);

    fn edits() -> Arc<[Edit]> {
        Arc::new([Edit::Set {
            tag: PATIENT_ID,
            vr: VR::LO,
            value: b"NEW PATIENT ID".to_vec(),
        }])
    }

    fn object(id: &[u8], pixels: Option<&[u8]>) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_element(&mut bytes, Tag(0x0008, 0x0060), VR::CS, b"CT");
        put_element(&mut bytes, PATIENT_ID, VR::LO, id);
        if let Some(pixels) = pixels {
            put_element(&mut bytes, Tag(0x7FE0, 0x0010), VR::OW, pixels);
        }
        bytes
    }

    /// What is sent when the object comes in pieces of this size.
    fn sent(object: &[u8], size: usize) -> Vec<u8> {
        let mut held = HeldHead::new(&explicit_le(), &edits());
        let mut out = Vec::new();
        let mut pieces = object.chunks(size).map(<[u8]>::to_vec).collect::<Vec<_>>();
        // The end of the data set, as the caller tells it.
        pieces.push(Vec::new());
        let last = pieces.len() - 1;
        for (at, piece) in pieces.into_iter().enumerate() {
            match &mut held {
                None => out.extend(piece),
                Some(head) => {
                    out.extend(head.take(piece, at == last).unwrap());
                    if head.is_over() {
                        held = None;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn the_head_of_an_inflated_instance_is_changed_and_its_pixels_are_not() {
        let pixels = [7; 5000];
        let whole = object(b"OLD", Some(&pixels));
        for size in [1, 7, 4096, whole.len()] {
            let expected = object(b"NEW PATIENT ID", Some(&pixels));
            assert_eq!(sent(&whole, size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn an_inflated_instance_without_pixels_is_changed_at_its_end() {
        let whole = object(b"OLD", None);
        assert_eq!(sent(&whole, 5), object(b"NEW PATIENT ID", None));
    }

    #[test]
    fn nothing_is_held_back_where_nothing_changes() {
        assert!(HeldHead::new(&explicit_le(), &Arc::default()).is_none());
    }
}
