//! MR exams: a multi-echo series in explicit VR little endian, and an enhanced multi-frame object.

use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};

use super::image::{ImagePixel, axial_plane};
use crate::samples::Profile;
use crate::samples::dataset::{DataSet, Put};
use crate::samples::part10::Pixels;
use crate::samples::phantom::{NoiseTile, Section};
use crate::samples::plan::{ExamPlan, InstancePlan, Name, Place};

const SIDE: u16 = 256;

/// `mr`: each section at three echo times, then a T1 series. `enhanced-mr`: one object of many frames.
pub(super) fn exams(profile: Profile) -> Vec<ExamPlan> {
    let (sections, frames) = match profile {
        Profile::Large => (24, 60),
        Profile::Small | Profile::Demo | Profile::Bench => (2, 4),
    };
    let noise = Arc::new(NoiseTile::new(256, 1 << 17, 9.0));
    let echoes = (0..sections)
        .flat_map(|section| (1..=3).map(move |echo| (section, echo)))
        .map(|(section, echo)| image(Arc::clone(&noise), section, sections, Some(echo)))
        .collect();
    let t1 = (0..sections)
        .map(|section| image(Arc::clone(&noise), section, sections, None))
        .collect();
    let patient = || Name::ascii("EXEMPLE^BRUNO^^DR");
    vec![
        ExamPlan::new("mr", "PATIENT-MR", patient(), "20260402")
            .described("IRM lombaire")
            .series("MR", "T2 multi-echo", echoes)
            .series("MR", "T1", t1),
        ExamPlan::new("enhanced-mr", "PATIENT-MR", patient(), "20260611")
            .described("IRM multi-image")
            .series("MR", "Volume", vec![enhanced(noise, frames)]),
    ]
}

fn image(noise: Arc<NoiseTile>, index: u32, count: u32, echo: Option<u32>) -> InstancePlan {
    InstancePlan::new(
        uids::MR_IMAGE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        move |place, dataset| {
            pixel_module(dataset);
            axial_plane(dataset, 0.75, 4.0, 4.0 * f64::from(index));
            let (echo_time, repetition_time) = match echo {
                Some(echo) => (30 * echo, "3200"),
                None => (12, "550"),
            };
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\M\\SE")
                .text(tags::FRAME_OF_REFERENCE_UID, place.study_uid("frame"))
                .text(tags::POSITION_REFERENCE_INDICATOR, "")
                .text(tags::PATIENT_POSITION, "HFS")
                .text(tags::LATERALITY, "")
                .text(tags::SCANNING_SEQUENCE, "SE")
                .text(tags::SEQUENCE_VARIANT, "SK\\SP")
                .text(tags::SCAN_OPTIONS, "")
                .text(tags::MR_ACQUISITION_TYPE, "2D")
                .text(tags::REPETITION_TIME, repetition_time)
                .text(tags::ECHO_TIME, echo_time.to_string())
                .text(tags::ECHO_NUMBERS, echo.unwrap_or(1).to_string())
                .text(tags::ECHO_TRAIN_LENGTH, "3")
                .text(tags::MAGNETIC_FIELD_STRENGTH, "1.5")
                .text(tags::WINDOW_CENTER, "700")
                .text(tags::WINDOW_WIDTH, "1400");
            let seed = u64::from(index) << 8 | u64::from(echo_time);
            let level = f64::from(index) / f64::from(count);
            Ok(Pixels::Native(frame(&noise, level, seed)))
        },
    )
}

/// Enhanced MR Image Storage (PS3.3 §A.36.2), its geometry in functional groups (§C.7.6.16); the groups
/// that describe the acquisition are left out.
fn enhanced(noise: Arc<NoiseTile>, frames: u32) -> InstancePlan {
    InstancePlan::new(
        uids::ENHANCED_MR_IMAGE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        move |place, dataset| {
            pixel_module(dataset);
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\VOLUME\\NONE")
                .text(tags::NUMBER_OF_FRAMES, frames.to_string())
                .text(tags::CONTENT_QUALIFICATION, "RESEARCH")
                .text(tags::RESONANT_NUCLEUS, "1H")
                .text(tags::APPLICABLE_SAFETY_STANDARD_AGENCY, "IEC")
                .text(tags::MAGNETIC_FIELD_STRENGTH, "1.5");
            functional_groups(place, dataset, frames, 4.0);
            let pixels = (0..frames)
                .flat_map(|index| {
                    let level = f64::from(index) / f64::from(frames);
                    frame(&noise, level, u64::from(index) + 1000)
                })
                .collect();
            Ok(Pixels::Native(pixels))
        },
    )
}

fn pixel_module(dataset: &mut DataSet) {
    ImagePixel {
        rows: SIDE,
        columns: SIDE,
        bits: 16,
        photometric: "MONOCHROME2",
    }
    .put(dataset);
}

fn frame(noise: &NoiseTile, level: f64, seed: u64) -> Vec<u8> {
    Section::trunk(SIDE.into(), SIDE.into(), level, 20).noisy(noise, seed, i16::MAX)
}

/// Shared and per-frame functional groups of a stack of axial sections, `thickness` millimetres apart.
pub(super) fn functional_groups(place: &Place, dataset: &mut DataSet, frames: u32, thickness: f64) {
    let per_frame = (1..=frames)
        .map(|number| {
            let mut groups = DataSet::new_empty();
            groups
                .item(tags::FRAME_CONTENT_SEQUENCE, |item| {
                    item.text(tags::STACK_ID, "1")
                        .value(tags::IN_STACK_POSITION_NUMBER, number)
                        .value(tags::DIMENSION_INDEX_VALUES, number);
                })
                .item(tags::PLANE_POSITION_SEQUENCE, |item| {
                    let z = thickness * f64::from(number);
                    item.text(tags::IMAGE_POSITION_PATIENT, format!("-96\\-96\\{z:.3}"));
                });
            groups
        })
        .collect();
    dataset
        .text(tags::FRAME_OF_REFERENCE_UID, place.study_uid("frame"))
        .text(tags::POSITION_REFERENCE_INDICATOR, "")
        .item(tags::DIMENSION_ORGANIZATION_SEQUENCE, |item| {
            item.text(
                tags::DIMENSION_ORGANIZATION_UID,
                place.study_uid("dimension"),
            );
        })
        .item(tags::DIMENSION_INDEX_SEQUENCE, |item| {
            item.text(
                tags::DIMENSION_ORGANIZATION_UID,
                place.study_uid("dimension"),
            )
            .value(
                tags::DIMENSION_INDEX_POINTER,
                tags::IN_STACK_POSITION_NUMBER,
            )
            .value(tags::FUNCTIONAL_GROUP_POINTER, tags::FRAME_CONTENT_SEQUENCE);
        })
        .item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, |groups| {
            groups
                .item(tags::PIXEL_MEASURES_SEQUENCE, |item| {
                    item.text(tags::PIXEL_SPACING, "0.75\\0.75")
                        .text(tags::SLICE_THICKNESS, format!("{thickness}"));
                })
                .item(tags::PLANE_ORIENTATION_SEQUENCE, |item| {
                    item.text(tags::IMAGE_ORIENTATION_PATIENT, "1\\0\\0\\0\\1\\0");
                })
                .item(tags::FRAME_ANATOMY_SEQUENCE, |item| {
                    item.text(tags::FRAME_LATERALITY, "U")
                        .code(tags::ANATOMIC_REGION_SEQUENCE, ("22943007", "SCT", "Trunk"));
                })
                .item(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE, |item| {
                    item.text(tags::RESCALE_INTERCEPT, "0")
                        .text(tags::RESCALE_SLOPE, "1")
                        .text(tags::RESCALE_TYPE, "US");
                })
                .item(tags::FRAME_VOILUT_SEQUENCE, |item| {
                    item.text(tags::WINDOW_CENTER, "700")
                        .text(tags::WINDOW_WIDTH, "1400");
                });
        })
        .sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, per_frame);
}
