//! `charsets/…`: one study per character set, the patient's name encoded in it.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};

use super::image::grey;
use crate::samples::dataset::Put;
use crate::samples::names::names;
use crate::samples::plan::{ExamPlan, InstancePlan};

/// A study for each name of [`names`]; Patient Comments repeats the name as a long text.
pub(super) fn exams() -> Vec<ExamPlan> {
    names()
        .into_iter()
        .map(|(set, name)| {
            let mut comment = name.bytes.clone();
            if comment.len() % 2 == 1 {
                comment.push(b' ');
            }
            let instance = InstancePlan::new(
                uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
                uids::EXPLICIT_VR_LITTLE_ENDIAN,
                move |_, dataset| {
                    dataset.text(tags::CONVERSION_TYPE, "WSD").raw(
                        tags::PATIENT_COMMENTS,
                        VR::LT,
                        &comment,
                    );
                    Ok(grey(dataset, 32, 32, 8, 0.4))
                },
            );
            let patient_id = format!("PATIENT-{}", set.to_uppercase());
            ExamPlan::new(&format!("charsets/{set}"), &patient_id, name, "20260223")
                .described("Jeux de caracteres")
                .series("OT", "Image", vec![instance])
        })
        .collect()
}
