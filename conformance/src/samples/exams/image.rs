//! Attributes that every image has: image pixel module (PS3.3 §C.7.6.3) and plane geometry (§C.7.6.2).

use dicom_dictionary_std::tags;

use crate::samples::dataset::{DataSet, Put};

/// The image pixel module of a native image.
#[derive(Clone, Copy)]
pub(super) struct ImagePixel {
    /// Rows (0028,0010).
    pub rows: u16,
    /// Columns (0028,0011).
    pub columns: u16,
    /// Bits Stored (0028,0101); allocated is the next of 1, 8 and 16.
    pub bits: u16,
    /// Photometric Interpretation (0028,0004); three samples per pixel unless it is monochrome.
    pub photometric: &'static str,
}

impl ImagePixel {
    /// Puts the module, pixels unsigned and interleaved by pixel.
    pub fn put(self, dataset: &mut DataSet) {
        let allocated = match self.bits {
            0 | 1 => 1,
            2..=8 => 8,
            _ => 16,
        };
        let samples: u16 = if self.photometric.starts_with("MONOCHROME") {
            1
        } else {
            3
        };
        dataset
            .value(tags::SAMPLES_PER_PIXEL, samples)
            .text(tags::PHOTOMETRIC_INTERPRETATION, self.photometric)
            .value(tags::ROWS, self.rows)
            .value(tags::COLUMNS, self.columns)
            .value(tags::BITS_ALLOCATED, allocated as u16)
            .value(tags::BITS_STORED, self.bits)
            .value(tags::HIGH_BIT, self.bits.saturating_sub(1))
            .value(tags::PIXEL_REPRESENTATION, 0_u16);
        if samples > 1 {
            dataset.value(tags::PLANAR_CONFIGURATION, 0_u16);
        }
    }
}

/// Puts the plane of an axial section at height `z`, pixels `spacing` apart and sections `thickness`
/// thick, all in millimetres.
pub(super) fn axial_plane(dataset: &mut DataSet, spacing: f64, thickness: f64, z: f64) {
    dataset
        .text(tags::IMAGE_POSITION_PATIENT, format!("-200\\-200\\{z:.3}"))
        .text(tags::IMAGE_ORIENTATION_PATIENT, "1\\0\\0\\0\\1\\0")
        .text(tags::PIXEL_SPACING, format!("{spacing}\\{spacing}"))
        .text(tags::SLICE_THICKNESS, format!("{thickness}"))
        .text(tags::SLICE_LOCATION, format!("{z:.3}"));
}
