//! A stored image as its parts: what describes it, and where its frames are.

use super::decode::{Frame, decode};
use super::error::{PixelError, PixelLimits};
use super::frames::{FrameIndex, PixelSpan};
use super::shape::ImageShape;
use super::source::{DataSetBytes, ReadAt, STEP};
use super::worker::Codecs;
use crate::dicom::part10::{self, FileMeta};
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::scan::{HeadScanner, PixelElement};
use crate::dicom::syntax::{EXPLICIT_LITTLE, Encoding};
use crate::dicom::uid::TransferSyntaxUid;
use crate::dicom::word_size;

/// More than the file meta information of any file that is accepted.
const META_READ: usize = 80 << 10;
const HEAD_STEP: usize = 64 << 10;

/// A DICOM file whose head has been read.
pub(super) struct StoredObject<S> {
    pub(super) bytes: DataSetBytes<S>,
    pub(super) meta: FileMeta,
    /// The elements before the pixels, or all of them, inflated.
    pub(super) head: Vec<u8>,
    /// The element of the pixels; offsets count from the beginning of the data set.
    pub(super) pixels: Option<PixelElement>,
}

impl<S: ReadAt> StoredObject<S> {
    pub(super) fn open(source: S, limits: &PixelLimits) -> Result<Self, PixelError> {
        let mut start = vec![0; META_READ];
        let count = fill(&source, 0, &mut start)?;
        start.truncate(count);
        let meta = part10::parse(&start)?;
        let from = meta.data_set_offset as u64;
        let deflated = Encoding::of(&meta.transfer_syntax) == Encoding::DeflatedExplicitLittle;
        let bytes = DataSetBytes::new(source, deflated.then_some(from), limits.inflated_bytes);
        let (head, pixels) = read_head(&bytes, &meta, limits)?;
        Ok(Self {
            bytes,
            meta,
            head,
            pixels,
        })
    }

    /// How the bytes that are read are encoded: what was deflated is read inflated.
    pub(super) fn encoding(&self) -> Encoding {
        match Encoding::of(&self.meta.transfer_syntax) {
            Encoding::DeflatedExplicitLittle => Encoding::ExplicitLittle,
            other => other,
        }
    }

    pub(super) fn head(&self, limits: &PixelLimits) -> Result<DataSet<'_>, PixelError> {
        let limits = head_limits(limits);
        Ok(DataSet::parse(&self.head, self.encoding(), limits)?)
    }
}

pub(super) fn head_limits(limits: &PixelLimits) -> Limits {
    Limits {
        head_bytes: limits.head_bytes,
        inflated_bytes: limits.inflated_bytes,
        ..Limits::default()
    }
}

/// The bytes before the pixels, and the header of their element.
fn read_head<S: ReadAt>(
    bytes: &DataSetBytes<S>,
    meta: &FileMeta,
    limits: &PixelLimits,
) -> Result<(Vec<u8>, Option<PixelElement>), PixelError> {
    let inflated = TransferSyntaxUid::parse(EXPLICIT_LITTLE).ok();
    let syntax = match (Encoding::of(&meta.transfer_syntax), &inflated) {
        (Encoding::DeflatedExplicitLittle, Some(explicit)) => explicit,
        _ => &meta.transfer_syntax,
    };
    let mut scanner = HeadScanner::new(syntax, head_limits(limits));
    let mut head = Vec::new();
    loop {
        let from = head.len();
        // Small at first: most heads fit the first step.
        let step = from.clamp(HEAD_STEP, STEP);
        head.resize(from + step, 0);
        let at = meta.data_set_offset as u64 + from as u64;
        let piece = head.get_mut(from..).unwrap_or_default();
        let count = fill(bytes, at, piece)?;
        head.truncate(from + count);
        scanner.feed(head.get(from..).unwrap_or_default())?;
        if let Some(found) = scanner.head()
            && let (Some(pixels), Some(end)) = (found.pixel_data, found.pixel_data_offset)
        {
            head.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            return Ok((head, Some(pixels)));
        }
        if count < step {
            scanner.finish()?;
            return Ok((head, None));
        }
    }
}

/// Reads as much as there is, up to the length of the buffer.
pub(super) fn fill<S: ReadAt + ?Sized>(
    source: &S,
    offset: u64,
    into: &mut [u8],
) -> Result<usize, PixelError> {
    let mut done = 0;
    while done < into.len() {
        let rest = into.get_mut(done..).unwrap_or_default();
        match source.read_at(offset + done as u64, rest) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PixelError::Io(error)),
        }
    }
    Ok(done)
}

/// A stored image: any frame of it can be read or decoded alone.
pub struct StoredImage<S> {
    pub(super) object: StoredObject<S>,
    pub(super) limits: PixelLimits,
    pub(super) codecs: Codecs,
    shape: ImageShape,
    index: FrameIndex,
}

impl<S: ReadAt> StoredImage<S> {
    /// Reads the head of a DICOM file (PS3.10) and the structure of its pixels, not the pixels. Memory
    /// is that of the head and of the index.
    ///
    /// # Errors
    /// [`PixelError::NoPixels`] for an object that is no image; what is wrong with a file that is
    /// damaged or exceeds the limits.
    pub fn open(source: S, limits: PixelLimits) -> Result<Self, PixelError> {
        Self::of(StoredObject::open(source, &limits)?, limits)
    }

    pub(super) fn of(object: StoredObject<S>, limits: PixelLimits) -> Result<Self, PixelError> {
        let pixels = object.pixels.ok_or(PixelError::NoPixels)?;
        let (shape, index) = {
            let head = object.head(&limits)?;
            let shape = ImageShape::read(head.elements(), pixels.tag, &limits)?;
            let span = PixelSpan {
                offset: object.meta.data_set_offset as u64 + pixels.value_offset,
                length: pixels.length,
                word: if object.encoding().is_big_endian() {
                    word_size(pixels.vr)
                } else {
                    1
                },
            };
            let index = FrameIndex::read(
                &object.bytes,
                span,
                &shape,
                &object.meta.transfer_syntax,
                head.elements(),
                &limits,
            )?;
            (shape, index)
        };
        Ok(Self {
            object,
            limits,
            codecs: Codecs::InProcess,
            shape,
            index,
        })
    }

    /// The same image, whose frames are decoded there.
    #[must_use]
    pub fn with_codecs(self, codecs: Codecs) -> Self {
        Self { codecs, ..self }
    }

    /// The form of the frames as they are stored.
    #[must_use]
    pub fn shape(&self) -> &ImageShape {
        &self.shape
    }

    /// The transfer syntax the object is stored in.
    #[must_use]
    pub fn transfer_syntax(&self) -> &TransferSyntaxUid {
        &self.object.meta.transfer_syntax
    }

    /// Where the frames are. Offsets are those of the file, but in a deflated one: there they count
    /// as if its data set were not.
    #[must_use]
    pub fn index(&self) -> &FrameIndex {
        &self.index
    }

    /// The elements before the pixels.
    ///
    /// # Errors
    /// None after a successful [`StoredImage::open`].
    pub fn head(&self) -> Result<DataSet<'_>, PixelError> {
        self.object.head(&self.limits)
    }

    /// The bytes of a frame (from 0) as they are stored: see [`FrameIndex::frame`].
    ///
    /// # Errors
    /// Those of [`FrameIndex::frame`].
    pub fn stored_frame(&self, frame: u32) -> Result<Vec<u8>, PixelError> {
        self.index.frame(&self.object.bytes, frame, &self.limits)
    }

    /// A frame (from 0), decoded.
    ///
    /// # Errors
    /// Those of [`StoredImage::stored_frame`] and of [`decode`](super::decode()).
    pub fn frame(&self, frame: u32) -> Result<Frame, PixelError> {
        if super::decode::Coding::of(self.transfer_syntax()).is_none() {
            return Err(PixelError::Unsupported(self.transfer_syntax().clone()));
        }
        decode(
            self.stored_frame(frame)?,
            &self.shape,
            self.transfer_syntax(),
            &self.codecs,
        )
    }
}

impl<S> std::fmt::Debug for StoredImage<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredImage")
            .field("shape", &self.shape)
            .field("transfer_syntax", &self.object.meta.transfer_syntax)
            .finish_non_exhaustive()
    }
}
