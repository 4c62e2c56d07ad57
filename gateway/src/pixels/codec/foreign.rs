//! The codecs that are not written in Rust, CharLS and OpenJPEG: what they are asked, as numbers and
//! bytes that another process can be given, and the only place that calls them.

use charls::{CharLS, FrameInfo, InterleaveMode};
use jpeg2k::{DecodeParameters, Image};

use super::{guarded, put_sample};
use crate::pixels::error::{Codec, PixelError};

/// What a foreign codec does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// A JPEG-LS stream to its samples as the stream orders them.
    DecodeJpegLs,
    /// Samples to a lossless JPEG-LS stream.
    EncodeJpegLs,
    /// A JPEG 2000 stream to samples, pixel after pixel.
    DecodeJpeg2000,
}

impl Task {
    /// The standard of the code stream.
    pub fn codec(self) -> Codec {
        match self {
            Self::DecodeJpegLs | Self::EncodeJpegLs => Codec::JpegLs,
            Self::DecodeJpeg2000 => Codec::Jpeg2000,
        }
    }

    /// The error of a codec that ran and refused.
    pub fn refused(self, reason: String) -> PixelError {
        let codec = self.codec();
        match self {
            Self::DecodeJpegLs | Self::DecodeJpeg2000 => PixelError::Damaged { codec, reason },
            Self::EncodeJpegLs => PixelError::Encode { codec, reason },
        }
    }
}

/// One call of a foreign codec, beside the bytes that go in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Job {
    pub task: Task,
    /// Columns of the frame.
    pub width: u16,
    /// Rows of the frame.
    pub height: u16,
    /// Samples of a pixel.
    pub components: u16,
    /// Bits of a sample: in the stream for JPEG-LS, in the result for JPEG 2000.
    pub bits: u8,
    /// Whether samples are two's complement; JPEG 2000 alone asks.
    pub signed: bool,
}

impl Job {
    /// Bytes of one sample beside the stream.
    fn sample_bytes(&self) -> usize {
        usize::from(self.bits.div_ceil(8).max(1))
    }

    /// Bytes of the frame beside the stream.
    fn frame_bytes(&self) -> u64 {
        let samples = u64::from(self.width) * u64::from(self.height) * u64::from(self.components);
        samples * self.sample_bytes() as u64
    }

    /// Bytes of the result: exactly these, or at most where a stream is written.
    pub fn output(&self) -> u64 {
        match self.task {
            Task::DecodeJpegLs | Task::DecodeJpeg2000 => self.frame_bytes(),
            // CharLS is given the size of the frame and of the header.
            Task::EncodeJpegLs => self.frame_bytes() + (64 << 10),
        }
    }

    /// True when a result has a length that it can have.
    pub fn may_give(&self, length: u64) -> bool {
        match self.task {
            Task::DecodeJpegLs | Task::DecodeJpeg2000 => length == self.output(),
            Task::EncodeJpegLs => length <= self.output(),
        }
    }

    /// Runs the codec here.
    ///
    /// # Errors
    /// [`PixelError::Damaged`] or [`PixelError::Encode`] when the codec refuses,
    /// [`PixelError::Panicked`].
    pub fn execute(&self, input: &[u8]) -> Result<Vec<u8>, PixelError> {
        let refused = |reason: &str| self.task.refused(reason.to_owned());
        let output = guarded(self.task.codec(), || match self.task {
            Task::DecodeJpegLs => CharLS::default()
                .decode(input)
                .map_err(|error| self.task.refused(error.to_string())),
            Task::EncodeJpegLs => self.encode_jpeg_ls(input),
            Task::DecodeJpeg2000 => self.decode_jpeg_2000(input),
        })?;
        if self.may_give(output.len() as u64) {
            Ok(output)
        } else {
            Err(refused("the frame has another size than its header says"))
        }
    }

    fn encode_jpeg_ls(&self, samples: &[u8]) -> Result<Vec<u8>, PixelError> {
        // CharLS takes the length on trust.
        if samples.len() as u64 != self.frame_bytes() {
            return Err(self.task.refused("samples are missing".to_owned()));
        }
        let failed = |error: charls::Error| self.task.refused(error.to_string());
        let mut encoder = CharLS::default();
        if self.components > 1 {
            encoder
                .set_interleave_mode(InterleaveMode::Line)
                .map_err(failed)?;
        }
        let info = FrameInfo {
            width: u32::from(self.width),
            height: u32::from(self.height),
            bits_per_sample: i32::from(self.bits),
            component_count: i32::from(self.components),
        };
        encoder.encode(info, 0, samples).map_err(failed)
    }

    fn decode_jpeg_2000(&self, stream: &[u8]) -> Result<Vec<u8>, PixelError> {
        let parameters = DecodeParameters::new().ignore_pclr_cmap_cdef().strict(true);
        let image = Image::from_bytes_with(stream, parameters)
            .map_err(|error| self.task.refused(error.to_string()))?;
        let components = image.components();
        let (width, height) = (u32::from(self.width), u32::from(self.height));
        if components.len() != usize::from(self.components)
            || components
                .iter()
                .any(|component| component.width() != width || component.height() != height)
        {
            let reason = "the frame has another size than its header says";
            return Err(self.task.refused(reason.to_owned()));
        }
        let bytes = self.sample_bytes();
        let mut out = vec![0; usize::try_from(self.frame_bytes()).unwrap_or(usize::MAX)];
        let mut one = Vec::with_capacity(8);
        for (at, component) in components.iter().enumerate() {
            // Some encoders write two's complement as if it were unsigned.
            let extend = self.signed && !component.is_signed();
            let precision = component.precision();
            let targets = out
                .chunks_exact_mut(bytes)
                .skip(at)
                .step_by(components.len());
            for (to, sample) in targets.zip(component.data()) {
                one.clear();
                put_sample(i64::from(*sample), precision, extend, bytes, &mut one);
                to.copy_from_slice(one.get(..bytes).unwrap_or_default());
            }
        }
        Ok(out)
    }
}
