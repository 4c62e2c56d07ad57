//! Objects of a size that a story chooses: secondary captures of one series, not compressed.

use std::path::{Path, PathBuf};

use conformance::testkit::http::sha256;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// A series made for a story.
pub struct Made {
    /// Study Instance UID.
    pub study: String,
    /// Series Instance UID.
    pub series: String,
    /// The files, in the order of the instance numbers.
    pub files: Vec<PathBuf>,
    /// SHA-256 of the pixels of each.
    pub pixels: Vec<String>,
}

impl Made {
    /// Path of the study below the root of the service.
    pub fn path(&self) -> String {
        format!("/studies/{}", self.study)
    }

    /// Path of the series below the root of the service.
    pub fn series_path(&self) -> String {
        format!("{}/series/{}", self.path(), self.series)
    }

    /// Path of an instance below the root of the service.
    pub fn instance_path(&self, number: usize) -> String {
        format!("{}/instances/{}.{number}", self.series_path(), self.series)
    }

    /// The parts of a body, kept in `folder`, are all of these objects, each once.
    pub fn assert_pixels(&self, folder: &Path, parts: usize) {
        assert_eq!(parts, self.files.len(), "number of parts");
        let mut seen = vec![false; self.files.len()];
        for part in 0..parts {
            let bytes = std::fs::read(folder.join(format!("{part}.part"))).unwrap();
            let number = self.position(&bytes);
            assert!(
                !std::mem::replace(&mut seen[number], true),
                "{number} came twice"
            );
        }
    }

    /// Which of these objects a received file is; its pixels are those of the source.
    pub fn position(&self, bytes: &[u8]) -> usize {
        let object = super::compare::Part10::read(bytes);
        let uid = object.instance();
        let number: usize = uid.rsplit('.').next().unwrap().parse().unwrap();
        let pixels = object
            .data_set
            .element(tags::PIXEL_DATA)
            .unwrap()
            .to_bytes()
            .unwrap();
        assert_eq!(sha256(&pixels), self.pixels[number], "pixels of {number}");
        number
    }
}

/// Writes `count` objects with `size` bytes of pixels each; `root` is their Study Instance UID.
pub fn make(folder: &Path, root: &str, count: usize, size: usize) -> Made {
    let series = format!("{root}.1");
    let mut made = Made {
        study: root.into(),
        series,
        files: vec![],
        pixels: vec![],
    };
    for number in 0..count {
        let pixels = noise(number as u64 + 1, size);
        made.pixels.push(sha256(&pixels));
        let file = folder.join(format!("{root}-{number}.dcm"));
        write(&file, &made, number, pixels);
        made.files.push(file);
    }
    made
}

fn write(file: &Path, made: &Made, number: usize, pixels: Vec<u8>) {
    let text = |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
    let short = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let rows = u16::try_from(pixels.len() / 1024).unwrap();
    let object = InMemDicomObject::from_element_iter([
        text(
            tags::SOP_CLASS_UID,
            VR::UI,
            uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        ),
        text(
            tags::SOP_INSTANCE_UID,
            VR::UI,
            &format!("{}.{number}", made.series),
        ),
        text(tags::STUDY_DATE, VR::DA, "20260401"),
        text(tags::STUDY_TIME, VR::TM, "101112"),
        text(tags::ACCESSION_NUMBER, VR::SH, "GRAND1"),
        text(tags::MODALITY, VR::CS, "OT"),
        text(tags::PATIENT_NAME, VR::PN, "GRAND^OBJET"),
        text(tags::PATIENT_ID, VR::LO, "PATIENT-GRAND"),
        text(tags::STUDY_INSTANCE_UID, VR::UI, &made.study),
        text(tags::SERIES_INSTANCE_UID, VR::UI, &made.series),
        text(tags::STUDY_ID, VR::SH, "1"),
        text(tags::SERIES_NUMBER, VR::IS, "1"),
        text(tags::INSTANCE_NUMBER, VR::IS, &number.to_string()),
        short(tags::SAMPLES_PER_PIXEL, 1),
        text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2"),
        short(tags::ROWS, rows),
        short(tags::COLUMNS, 1024),
        short(tags::BITS_ALLOCATED, 8),
        short(tags::BITS_STORED, 8),
        short(tags::HIGH_BIT, 7),
        short(tags::PIXEL_REPRESENTATION, 0),
        DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels)),
    ]);
    let meta = FileMetaTableBuilder::new().transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    object.with_meta(meta).unwrap().write_to_file(file).unwrap();
}

/// Bytes that nothing compresses, the same for the same seed (xorshift64).
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
