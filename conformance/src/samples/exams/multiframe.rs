//! Objects of many frames: an enhanced CT, a long angiography, and every layout of code streams in fragments.

use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};

use super::image::{ImagePixel, colour};
use super::mr::functional_groups;
use crate::samples::Profile;
use crate::samples::dataset::Put;
use crate::samples::part10::{FrameStream, Pixels};
use crate::samples::phantom::{NoiseTile, Section};
use crate::samples::plan::{ExamPlan, InstancePlan, Layout, Name};

/// `enhanced-ct` (JPEG-LS), `multiframe` (uncompressed, over 300 MB in the larger profiles), `fragments`.
pub(super) fn exams(profile: Profile) -> Vec<ExamPlan> {
    let (sections, side, frames) = match profile {
        Profile::Small | Profile::Demo => (4, 128, 20),
        Profile::Bench => (120, 512, 1200),
        Profile::Large => (60, 512, 1200),
    };
    let patient = || Name::ascii("FICTIF^CHLOE");
    let fragments = [
        Layout::OffsetTable,
        Layout::NoOffsetTable,
        Layout::Split(1000),
        Layout::ExtendedOffsetTable,
        Layout::WrongOffsetTable,
    ]
    .map(|layout| doppler(4).layout(layout))
    .into_iter()
    .chain([doppler(1).layout(Layout::SplitNoOffsetTable(700))])
    .collect();
    vec![
        ExamPlan::new("enhanced-ct", "PATIENT-MF", patient(), "20260127")
            .described("Scanner multi-image")
            .series("CT", "Volume", vec![enhanced_ct(sections)]),
        ExamPlan::new("multiframe", "PATIENT-MF", patient(), "20260128")
            .described("Angiographie")
            .series("XA", "Coronarographie", vec![angiography(side, frames)]),
        ExamPlan::new("fragments", "PATIENT-MF", patient(), "20260129")
            .described("Dispositions des fragments")
            .series("US", "Doppler", fragments),
    ]
}

/// Enhanced CT Image Storage (PS3.3 §A.38.1), without the groups that describe the acquisition.
fn enhanced_ct(frames: u32) -> InstancePlan {
    let noise = Arc::new(NoiseTile::new(38, 1 << 17, 11.5));
    InstancePlan::new(
        uids::ENHANCED_CT_IMAGE_STORAGE,
        uids::JPEGLS_LOSSLESS,
        move |place, dataset| {
            ImagePixel {
                rows: 256,
                columns: 256,
                bits: 12,
                photometric: "MONOCHROME2",
            }
            .put(dataset);
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\VOLUME\\NONE")
                .text(tags::NUMBER_OF_FRAMES, frames.to_string())
                .text(tags::CONTENT_QUALIFICATION, "RESEARCH");
            functional_groups(place, dataset, frames, 1.25);
            let pixels = (0..frames)
                .flat_map(|index| {
                    let level = f64::from(index) / f64::from(frames);
                    Section::trunk(256, 256, level, 24).noisy(&noise, index.into(), 4095)
                })
                .collect();
            Ok(Pixels::Native(pixels))
        },
    )
}

/// X-Ray Angiographic Image Storage (PS3.3 §A.14): a noisy background that drifts, 8 bits a pixel.
fn angiography(side: u16, frames: u32) -> InstancePlan {
    InstancePlan::new(
        uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        move |_, dataset| {
            ImagePixel {
                rows: side,
                columns: side,
                bits: 8,
                photometric: "MONOCHROME2",
            }
            .put(dataset);
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\SINGLE PLANE")
                .text(tags::NUMBER_OF_FRAMES, frames.to_string())
                .value(tags::FRAME_INCREMENT_POINTER, tags::FRAME_TIME)
                .text(tags::FRAME_TIME, "66.667")
                .text(tags::PIXEL_INTENSITY_RELATIONSHIP, "LIN")
                .text(tags::RADIATION_SETTING, "GR")
                .text(tags::KVP, "80")
                .text(tags::POSITIONER_MOTION, "STATIC");
            let background = Section::trunk(side.into(), side.into(), 0.5, 200).bytes(8);
            let mut noise = crate::samples::phantom::Noise::new(side.into());
            let background: Vec<u8> = background
                .iter()
                .map(|&value| value.saturating_add((noise.next() & 0xF) as u8))
                .collect();
            let frame_length = background.len() as u32;
            Ok(Pixels::Stream(FrameStream {
                frames,
                frame_length,
                frame: Box::new(move |number| {
                    let mut frame = background.clone();
                    frame.rotate_left((number as usize * 7) % background.len().max(1));
                    frame
                }),
            }))
        },
    )
}

/// Ultrasound Multi-frame Image Storage in JPEG baseline, YBR_FULL_422.
fn doppler(frames: u32) -> InstancePlan {
    InstancePlan::new(
        uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
        uids::JPEG_BASELINE8_BIT,
        move |_, dataset| {
            ImagePixel {
                rows: 120,
                columns: 160,
                bits: 8,
                photometric: "RGB",
            }
            .put(dataset);
            dataset
                .text(tags::IMAGE_TYPE, "DERIVED\\PRIMARY")
                .text(tags::NUMBER_OF_FRAMES, frames.to_string())
                .value(tags::FRAME_INCREMENT_POINTER, tags::FRAME_TIME)
                .text(tags::FRAME_TIME, "40");
            let pixels = (0..frames)
                .flat_map(|number| colour(120, 160, f64::from(number) / f64::from(frames)))
                .collect();
            Ok(Pixels::Native(pixels))
        },
    )
}
