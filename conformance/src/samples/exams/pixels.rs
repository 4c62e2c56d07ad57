//! `pixels`: samples that don't fill bytes or words evenly, 48-bit colour, floating point.

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};

use super::image::{ImagePixel, colour, grey};
use crate::samples::dataset::Put;
use crate::samples::part10::{EXPLICIT_VR_BIG_ENDIAN, Pixels};
use crate::samples::plan::{ExamPlan, InstancePlan, Name};

/// One series per kind.
pub(super) fn exams() -> Vec<ExamPlan> {
    vec![
        ExamPlan::new(
            "pixels",
            "PATIENT-PX",
            Name::ascii("FABULE^KARIM"),
            "20260227",
        )
        .described("Pixels particuliers")
        .series("SEG", "Un bit", vec![single_bit()])
        .series(
            "OT",
            "Longueur impaire",
            vec![
                odd_length(uids::EXPLICIT_VR_LITTLE_ENDIAN),
                odd_length(uids::RLE_LOSSLESS),
            ],
        )
        .series(
            "OT",
            "Couleur 48 bits",
            vec![
                deep_colour(uids::EXPLICIT_VR_LITTLE_ENDIAN),
                deep_colour(EXPLICIT_VR_BIG_ENDIAN),
            ],
        )
        .series("MR", "Flottants", vec![floating_point()]),
    ]
}

/// Three frames of 5 × 7 pixels in one bit each: frames start in the middle of a byte (PS3.5 §8.1.1).
fn single_bit() -> InstancePlan {
    InstancePlan::new(
        uids::MULTI_FRAME_SINGLE_BIT_SECONDARY_CAPTURE_IMAGE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |_, dataset| {
            ImagePixel {
                rows: 5,
                columns: 7,
                bits: 1,
                photometric: "MONOCHROME2",
            }
            .put(dataset);
            dataset
                .text(tags::CONVERSION_TYPE, "WSD")
                .text(tags::NUMBER_OF_FRAMES, "3")
                .value(tags::FRAME_INCREMENT_POINTER, tags::PAGE_NUMBER_VECTOR)
                .text(tags::PAGE_NUMBER_VECTOR, "1\\2\\3");
            let mut bytes = vec![0_u8; (3 * 5 * 7_usize).div_ceil(8)];
            for pixel in (0..3 * 5 * 7).step_by(2) {
                if let Some(byte) = bytes.get_mut(pixel / 8) {
                    *byte |= 1 << (pixel % 8);
                }
            }
            Ok(Pixels::Native(bytes))
        },
    )
}

/// 5 × 5 pixels of one byte: 25 bytes and a padding byte.
fn odd_length(transfer_syntax: &'static str) -> InstancePlan {
    InstancePlan::new(
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        transfer_syntax,
        |_, dataset| {
            dataset.text(tags::CONVERSION_TYPE, "WSD");
            Ok(grey(dataset, 5, 5, 8, 0.5))
        },
    )
}

/// Three samples of 16 bits a pixel.
fn deep_colour(transfer_syntax: &'static str) -> InstancePlan {
    InstancePlan::new(
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        transfer_syntax,
        |_, dataset| {
            ImagePixel {
                rows: 24,
                columns: 32,
                bits: 16,
                photometric: "RGB",
            }
            .put(dataset);
            dataset.text(tags::CONVERSION_TYPE, "WSD");
            let samples = colour(24, 32, 0.5);
            let words = samples.iter().flat_map(|&value| [255 - value, value]);
            Ok(Pixels::Native(words.collect()))
        },
    )
}

/// Parametric Map Storage (PS3.3 §A.75) with Float Pixel Data (7FE0,0008) in the place of Pixel Data.
fn floating_point() -> InstancePlan {
    InstancePlan::new(
        uids::PARAMETRIC_MAP_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |_, dataset| {
            dataset
                .value(tags::SAMPLES_PER_PIXEL, 1_u16)
                .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
                .text(tags::NUMBER_OF_FRAMES, "1")
                .value(tags::ROWS, 8_u16)
                .value(tags::COLUMNS, 8_u16)
                .value(tags::BITS_ALLOCATED, 32_u16);
            let values = (0..64_u8).map(|value| f32::from(value) / 3.0).collect();
            let value = PrimitiveValue::F32(values);
            dataset.put(DataElement::new(tags::FLOAT_PIXEL_DATA, VR::OF, value));
            Ok(Pixels::Absent)
        },
    )
}
