//! JPEG 2000 and high throughput JPEG 2000 (ISO/IEC 15444-1 and -15; PS3.5 §A.4.4, §8.2.4) through
//! OpenJPEG.

use super::foreign::{Job, Task};
use super::header::StreamHeader;
use crate::pixels::error::{Codec, PixelError};
use crate::pixels::shape::{ImageShape, Photometric};
use crate::pixels::worker::Codecs;

/// Decodes a frame; tells the photometric interpretation it is then in. The decoder undoes the
/// colour transform of the stream (YBR_RCT, YBR_ICT).
pub(crate) fn decode(
    bytes: &[u8],
    shape: &ImageShape,
    codecs: &Codecs,
) -> Result<(Vec<u8>, Photometric), PixelError> {
    let header = StreamHeader::jpeg2000(bytes)?;
    header.check(Codec::Jpeg2000, shape)?;
    if header.precision > 31 {
        return Err(PixelError::UnsupportedForm {
            codec: Codec::Jpeg2000,
            what: "more than 31 bits",
        });
    }
    let job = Job {
        task: Task::DecodeJpeg2000,
        width: shape.columns,
        height: shape.rows,
        components: shape.samples,
        bits: u8::try_from(shape.bits_allocated).unwrap_or(u8::MAX),
        signed: shape.is_signed(),
    };
    let samples = codecs.run(&job, bytes)?;
    let photometric = match &shape.photometric {
        Photometric::YbrIct | Photometric::YbrRct => Photometric::Rgb,
        Photometric::YbrFull422 => Photometric::YbrFull,
        other => other.clone(),
    };
    Ok((samples, photometric))
}
