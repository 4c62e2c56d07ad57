//! Pixel data: where the frames of an object are, what they become decoded, in another transfer
//! syntax, or as a picture.
//!
//! Knows no HTTP, no cache and no archive: callers give bytes that can be read at any offset, and a
//! writer. Everything here blocks and computes: asynchronous callers go through the [`pool`].
//! Sizes are checked against [`PixelLimits`] and against each other before a decoder runs.

mod codec;
mod colour;
mod decode;
mod error;
mod frames;
mod image;
pub mod pool;
pub mod render;
mod shape;
mod source;
#[cfg(test)]
mod testdata;
mod transcode;
pub mod worker;

pub use decode::{Frame, decode, is_decodable};
pub use error::{Codec, PixelError, PixelLimits};
pub use frames::{FrameIndex, PixelSpan, is_video};
pub use image::StoredImage;
pub use shape::{ImageShape, Photometric, SampleKind};
pub use source::ReadAt;
pub use transcode::{
    TranscodeOptions, available_targets, can_transcode, lossy_targets, transcode, transcode_image,
};
