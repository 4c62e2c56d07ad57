//! Attributes that every image has: image pixel module (PS3.3 §C.7.6.3) and plane geometry (§C.7.6.2).

use dicom_dictionary_std::tags;

use crate::samples::dataset::{DataSet, Put};
use crate::samples::part10::Pixels;
use crate::samples::phantom::Section;

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

/// A small phantom: the image pixel module and its samples, `level` telling sections apart.
pub(super) fn grey(
    dataset: &mut DataSet,
    rows: u16,
    columns: u16,
    bits: u16,
    level: f64,
) -> Pixels {
    ImagePixel {
        rows,
        columns,
        bits,
        photometric: "MONOCHROME2",
    }
    .put(dataset);
    let section = Section::trunk(columns.into(), rows.into(), level, 24);
    Pixels::Native(if bits > 8 {
        section.words()
    } else {
        section.bytes(8)
    })
}

/// RGB samples by pixel: a coloured Doppler box over a grey section, and colour bars at the bottom.
pub(super) fn colour(rows: u16, columns: u16, level: f64) -> Vec<u8> {
    let grey = Section::trunk(columns.into(), rows.into(), level, 24).bytes(8);
    let bars = [
        [255, 255, 255],
        [255, 255, 0],
        [0, 255, 255],
        [0, 255, 0],
        [255, 0, 255],
        [255, 0, 0],
        [0, 0, 255],
        [0, 0, 0],
    ];
    let (rows, columns) = (usize::from(rows), usize::from(columns));
    let mut rgb = Vec::with_capacity(grey.len() * 3);
    for (row, line) in grey.chunks(columns.max(1)).enumerate() {
        for (column, &value) in line.iter().enumerate() {
            let bar = bars.get(column * bars.len() / columns.max(1));
            let doppler =
                (rows / 3..rows / 2).contains(&row) && (columns / 3..columns / 2).contains(&column);
            rgb.extend_from_slice(&match bar {
                Some(&bar) if row * 8 >= rows * 7 => bar,
                _ if doppler => [value.saturating_add(90), value / 2, (column % 256) as u8],
                _ => [value; 3],
            });
        }
    }
    rgb
}
