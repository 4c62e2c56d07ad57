//! JPEG 2000 and high throughput JPEG 2000 (ISO/IEC 15444-1 and -15; PS3.5 §A.4.4, §8.2.4) through
//! OpenJPEG.

use jpeg2k::{DecodeParameters, Image};

use super::header::StreamHeader;
use super::{guarded, put_sample};
use crate::pixels::error::{Codec, PixelError};
use crate::pixels::shape::{ImageShape, Photometric};

fn damaged(reason: impl ToString) -> PixelError {
    PixelError::Damaged {
        codec: Codec::Jpeg2000,
        reason: reason.to_string(),
    }
}

/// Decodes a frame; tells the photometric interpretation it is then in. The decoder undoes the
/// colour transform of the stream (YBR_RCT, YBR_ICT).
pub(crate) fn decode(
    bytes: &[u8],
    shape: &ImageShape,
) -> Result<(Vec<u8>, Photometric), PixelError> {
    let header = StreamHeader::jpeg2000(bytes)?;
    header.check(Codec::Jpeg2000, shape)?;
    if header.precision > 31 {
        return Err(PixelError::UnsupportedForm {
            codec: Codec::Jpeg2000,
            what: "more than 31 bits",
        });
    }
    let samples = guarded(Codec::Jpeg2000, || samples(bytes, shape))?;
    let photometric = match &shape.photometric {
        Photometric::YbrIct | Photometric::YbrRct => Photometric::Rgb,
        Photometric::YbrFull422 => Photometric::YbrFull,
        other => other.clone(),
    };
    Ok((samples, photometric))
}

fn samples(bytes: &[u8], shape: &ImageShape) -> Result<Vec<u8>, PixelError> {
    let parameters = DecodeParameters::new().ignore_pclr_cmap_cdef().strict(true);
    let image = Image::from_bytes_with(bytes, parameters).map_err(damaged)?;
    let components = image.components();
    let pixels = usize::try_from(shape.pixels()).unwrap_or(usize::MAX);
    if components.len() != usize::from(shape.samples)
        || components.iter().any(|component| {
            component.width() != u32::from(shape.columns)
                || component.height() != u32::from(shape.rows)
        })
    {
        return Err(damaged("the frame has another size than its header says"));
    }
    let width = usize::from(shape.sample_bytes());
    let stride = width * components.len();
    let mut out = vec![0; pixels * stride];
    let mut one = Vec::with_capacity(8);
    for (at, component) in components.iter().enumerate() {
        // Some encoders write two's complement as if it were unsigned.
        let extend = shape.is_signed() && !component.is_signed();
        let targets = out
            .chunks_exact_mut(width)
            .skip(at)
            .step_by(components.len());
        for (to, sample) in targets.zip(component.data()) {
            one.clear();
            put_sample(
                i64::from(*sample),
                component.precision(),
                extend,
                width,
                &mut one,
            );
            to.copy_from_slice(one.get(..width).unwrap_or_default());
        }
    }
    Ok(out)
}
