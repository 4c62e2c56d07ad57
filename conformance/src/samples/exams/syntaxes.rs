//! `syntaxes`: the same small image in every transfer syntax that the DRIM-M documents name, and short videos.
//!
//! There is no encoder among the tools at hand for High-Throughput JPEG 2000 and JPEG XL: these syntaxes
//! are not part of the study.

use dicom_dictionary_std::{tags, uids};

use super::image::grey;
use crate::samples::dataset::Put;
use crate::samples::part10::{EXPLICIT_VR_BIG_ENDIAN, Pixels};
use crate::samples::plan::{ExamPlan, InstancePlan, Name};
use crate::samples::video;

/// Native syntaxes in series 1, compressed images in series 2, videos in series 3.
pub(super) fn exams() -> Vec<ExamPlan> {
    let native = [
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ];
    let compressed = [
        uids::RLE_LOSSLESS,
        uids::JPEG_BASELINE8_BIT,
        uids::JPEG_EXTENDED12_BIT,
        uids::JPEG_LOSSLESS,
        uids::JPEG_LOSSLESS_SV1,
        uids::JPEGLS_LOSSLESS,
        uids::JPEGLS_NEAR_LOSSLESS,
        uids::JPEG2000_LOSSLESS,
        uids::JPEG2000,
    ];
    let videos = vec![
        mpeg2(uids::MPEG2MPML, 720, 576),
        mpeg2(uids::MPEG2MPHL, 1280, 720),
        h264(uids::MPEG4HP41),
        h264(uids::MPEG4HP41BD),
    ];
    vec![
        ExamPlan::new(
            "syntaxes",
            "PATIENT-TS",
            Name::ascii("SPECIMEN^HUGO"),
            "20260218",
        )
        .described("Toutes les syntaxes de transfert")
        .series("CT", "Sans compression", native.map(image).into())
        .series("CT", "Images comprimees", compressed.map(image).into())
        .series("ES", "Videos", videos),
    ]
}

fn image(transfer_syntax: &'static str) -> InstancePlan {
    InstancePlan::new(
        uids::CT_IMAGE_STORAGE,
        transfer_syntax,
        move |_, dataset| {
            // JPEG baseline holds eight bits; every other syntax gets the same twelve.
            let bits = if transfer_syntax == uids::JPEG_BASELINE8_BIT {
                8
            } else {
                12
            };
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\AXIAL")
                .text(tags::ACQUISITION_NUMBER, "1")
                .text(tags::KVP, "120")
                .text(tags::RESCALE_INTERCEPT, "-1024")
                .text(tags::RESCALE_SLOPE, "1");
            Ok(grey(dataset, 64, 96, bits, 0.3))
        },
    )
}

fn mpeg2(transfer_syntax: &'static str, columns: u16, rows: u16) -> InstancePlan {
    endoscopy(
        transfer_syntax,
        columns,
        rows,
        "ISO_13818_2",
        move |frames| {
            let main_level = transfer_syntax == uids::MPEG2MPML;
            video::mpeg2(columns, rows, frames, main_level)
        },
    )
}

fn h264(transfer_syntax: &'static str) -> InstancePlan {
    endoscopy(transfer_syntax, 1280, 720, "ISO_14496_10", |frames| {
        video::h264(1280, 720, frames)
    })
}

/// Video Endoscopic Image Storage (PS3.3 §A.32.5), the whole stream in one fragment (PS3.5 §A.4.5).
fn endoscopy(
    transfer_syntax: &'static str,
    columns: u16,
    rows: u16,
    method: &'static str,
    stream: impl Fn(u16) -> Vec<u8> + Send + Sync + 'static,
) -> InstancePlan {
    const FRAMES: u16 = 25;
    InstancePlan::new(
        uids::VIDEO_ENDOSCOPIC_IMAGE_STORAGE,
        transfer_syntax,
        move |_, dataset| {
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY")
                .text(tags::NUMBER_OF_FRAMES, FRAMES.to_string())
                .value(tags::FRAME_INCREMENT_POINTER, tags::FRAME_TIME)
                .text(tags::FRAME_TIME, "40")
                .text(tags::CINE_RATE, "25")
                .value(tags::SAMPLES_PER_PIXEL, 3_u16)
                .text(tags::PHOTOMETRIC_INTERPRETATION, "YBR_PARTIAL_420")
                .value(tags::PLANAR_CONFIGURATION, 0_u16)
                .value(tags::ROWS, rows)
                .value(tags::COLUMNS, columns)
                .value(tags::BITS_ALLOCATED, 8_u16)
                .value(tags::BITS_STORED, 8_u16)
                .value(tags::HIGH_BIT, 7_u16)
                .value(tags::PIXEL_REPRESENTATION, 0_u16)
                .text(tags::LOSSY_IMAGE_COMPRESSION, "01")
                .text(tags::LOSSY_IMAGE_COMPRESSION_RATIO, "30")
                .text(tags::LOSSY_IMAGE_COMPRESSION_METHOD, method);
            Ok(Pixels::Encapsulated {
                offsets: Vec::new(),
                fragments: vec![stream(FRAMES)],
            })
        },
    )
}
