//! What can go wrong between stored pixels and an image, and how much is accepted.

use std::io;

use dicom_core::Tag;

use crate::dicom::edit::EditError;
use crate::dicom::part10::Part10Error;
use crate::dicom::reader::ReadError;
use crate::dicom::uid::TransferSyntaxUid;

/// Bounds on the work for one object. They hold before a decoder runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimits {
    /// Bytes of one decoded frame.
    pub frame_bytes: u64,
    /// Bytes of one frame as it is stored.
    pub stored_frame_bytes: u64,
    /// Frames of one object.
    pub frames: u32,
    /// Fragments of one object; an index takes 16 bytes for each.
    pub fragments: u32,
    /// Bytes of a data set before its pixels.
    pub head_bytes: u64,
    /// Bytes that a deflated data set may become.
    pub inflated_bytes: u64,
}

impl Default for PixelLimits {
    fn default() -> Self {
        Self {
            frame_bytes: 256 << 20,
            stored_frame_bytes: 256 << 20,
            frames: 1_000_000,
            fragments: 1_000_000,
            head_bytes: 64 << 20,
            inflated_bytes: 4 << 30,
        }
    }
}

/// The standards that code streams are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Run length encoding (PS3.5 annex G).
    Rle,
    /// JPEG, DCT-based or lossless (ISO/IEC 10918-1).
    Jpeg,
    /// JPEG-LS (ISO/IEC 14495-1).
    JpegLs,
    /// JPEG 2000 and its high throughput form (ISO/IEC 15444-1, 15444-15).
    Jpeg2000,
    /// Deflated frames (PS3.5 §A.4.14, RFC 1951).
    Deflate,
    /// PNG (ISO/IEC 15948).
    Png,
}

impl Codec {
    /// A fixed word for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rle => "rle",
            Self::Jpeg => "jpeg",
            Self::JpegLs => "jpeg-ls",
            Self::Jpeg2000 => "jpeg-2000",
            Self::Deflate => "deflate",
            Self::Png => "png",
        }
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rle => "RLE",
            Self::Jpeg => "JPEG",
            Self::JpegLs => "JPEG-LS",
            Self::Jpeg2000 => "JPEG 2000",
            Self::Deflate => "deflate",
            Self::Png => "PNG",
        })
    }
}

/// Why pixels could not be found, decoded, written anew or shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PixelError {
    /// The file could not be read.
    #[error("the object cannot be read from the cache: {0}")]
    Io(#[source] io::Error),
    /// The result could not be written: whoever asked for it is gone, or a disk is full.
    #[error("the result cannot be written: {0}")]
    Output(#[source] io::Error),
    /// The beginning of the file is no DICOM file.
    #[error("{0}")]
    Part10(#[from] Part10Error),
    /// The data set is damaged or exceeds the limits.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The head of the result could not be made.
    #[error("{0}")]
    Edit(#[from] EditError),
    /// The object has no Pixel Data.
    #[error("the object holds no pixels: ask for the object itself")]
    NoPixels,
    /// An attribute that the pixels need is absent, empty or of another type.
    #[error(
        "{name} {tag} is missing or cannot be read: the image cannot be decoded, ask for it as it is stored"
    )]
    Missing {
        /// The attribute.
        tag: Tag,
        /// Its name.
        name: &'static str,
    },
    /// Attributes contradict each other or have values that no image can have.
    #[error(
        "the image is described by attributes that cannot be ({0}); ask for it as it is stored"
    )]
    Shape(String),
    /// Something exceeds a limit.
    #[error(
        "{what}: {size} where {limit} are allowed; if the object is genuine, raise the limit on pixels"
    )]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Nothing decodes or writes this transfer syntax.
    #[error("transfer syntax {0} can only be sent as it is stored")]
    Unsupported(TransferSyntaxUid),
    /// The codec cannot do this kind of image.
    #[error("{codec} cannot be used for {what}; ask for the object as it is stored")]
    UnsupportedForm {
        /// The codec.
        codec: Codec,
        /// What it cannot do.
        what: &'static str,
    },
    /// The image cannot be shown.
    #[error("{0} cannot be rendered; ask for the object itself")]
    NotRenderable(&'static str),
    /// The header of the code stream is not that of the image the data set describes.
    #[error(
        "the {codec} code stream holds {stream}, the data set describes {shape}; the object is damaged, ask the archive for it again"
    )]
    HeaderMismatch {
        /// The codec.
        codec: Codec,
        /// What the code stream says: width × height × components, precision.
        stream: String,
        /// What the data set says, in the same form.
        shape: String,
    },
    /// A code stream cannot be decoded.
    #[error("{codec}: {reason}; the object is damaged, ask the archive for it again")]
    Damaged {
        /// The codec.
        codec: Codec,
        /// What the decoder found.
        reason: String,
    },
    /// A codec failed in a way that it should not.
    #[error("the {0} codec stopped without an answer; ask for the object as it is stored")]
    Panicked(Codec),
    /// The process of a codec ended while it worked on the image.
    #[error(
        "the image cannot be decoded or encoded: the {0} codec broke down on it, and was started anew; ask for the object as it is stored"
    )]
    CodecEnded(Codec),
    /// The process of a codec gave no result in time.
    #[error(
        "the image cannot be decoded or encoded: the {0} codec gave no result in time, and was started anew; ask for the object as it is stored, and if it is genuine raise the time for decoding"
    )]
    CodecTimedOut(Codec),
    /// The process of a codec could not be started.
    #[error("the process of a codec cannot be started: {0}")]
    NoWorker(#[source] io::Error),
    /// An image could not be encoded.
    #[error("{codec}: the image cannot be encoded: {reason}")]
    Encode {
        /// The codec.
        codec: Codec,
        /// What the encoder said.
        reason: String,
    },
    /// A frame that the object does not have. Numbers start at 1 for users, at 0 here.
    #[error("frame {} does not exist: the object has {frames}", frame + 1)]
    NoSuchFrame {
        /// The frame asked for, from 0.
        frame: u32,
        /// How many there are.
        frames: u32,
    },
    /// Encapsulated pixels whose frames cannot be told apart.
    #[error(
        "{fragments} fragments for {frames} frames, and neither an offset table nor the code streams tell which belong together; ask for the object as it is stored"
    )]
    FramesUnknown {
        /// Fragments found.
        fragments: u32,
        /// Frames declared.
        frames: u32,
    },
    /// The bytes of the pixels end early or are not items.
    #[error(
        "Pixel Data are damaged at byte {offset}: {what}; ask the archive for the object again"
    )]
    Structure {
        /// Where, in bytes of the source.
        offset: u64,
        /// What is wrong.
        what: &'static str,
    },
}
