//! `many-classes`: so many pairs of SOP class and transfer syntax in one study that an association, which
//! holds 128 presentation contexts at most (PS3.8 §9.3.2.2), can't offer them all.
//!
//! The objects have the attributes that identify them and little else: they are not complete IODs.

use dicom_dictionary_std::uids;

use super::image::grey;
use crate::samples::part10::Pixels;
use crate::samples::plan::{ExamPlan, InstancePlan, Name};

const IMAGES: [&str; 21] = [
    uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
    uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
    uids::CT_IMAGE_STORAGE,
    uids::ULTRASOUND_IMAGE_STORAGE,
    uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE,
    uids::MR_IMAGE_STORAGE,
    uids::NUCLEAR_MEDICINE_IMAGE_STORAGE,
    uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE,
    uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE,
    uids::X_RAY_RADIOFLUOROSCOPIC_IMAGE_STORAGE,
    uids::RT_IMAGE_STORAGE,
    uids::RT_DOSE_STORAGE,
    uids::VL_ENDOSCOPIC_IMAGE_STORAGE,
    uids::VL_MICROSCOPIC_IMAGE_STORAGE,
    uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE,
    uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE,
    uids::OPHTHALMIC_TOMOGRAPHY_IMAGE_STORAGE,
];

const OTHERS: [&str; 24] = [
    uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::PSEUDO_COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::BLENDING_SOFTCOPY_PRESENTATION_STATE_STORAGE,
    uids::TWELVE_LEAD_ECG_WAVEFORM_STORAGE,
    uids::GENERAL_ECG_WAVEFORM_STORAGE,
    uids::AMBULATORY_ECG_WAVEFORM_STORAGE,
    uids::HEMODYNAMIC_WAVEFORM_STORAGE,
    uids::BASIC_VOICE_AUDIO_WAVEFORM_STORAGE,
    uids::BASIC_TEXT_SR_STORAGE,
    uids::ENHANCED_SR_STORAGE,
    uids::COMPREHENSIVE_SR_STORAGE,
    uids::PROCEDURE_LOG_STORAGE,
    uids::X_RAY_RADIATION_DOSE_SR_STORAGE,
    uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
    uids::ENCAPSULATED_PDF_STORAGE,
    uids::ENCAPSULATED_CDA_STORAGE,
    uids::RT_STRUCTURE_SET_STORAGE,
    uids::RT_PLAN_STORAGE,
    uids::RT_TREATMENT_SUMMARY_RECORD_STORAGE,
    uids::SPATIAL_REGISTRATION_STORAGE,
    uids::SPATIAL_FIDUCIALS_STORAGE,
    uids::REAL_WORLD_VALUE_MAPPING_STORAGE,
    uids::RAW_DATA_STORAGE,
];

/// 45 SOP classes in 2 to 6 transfer syntaxes each: 174 pairs.
pub(super) fn exams() -> Vec<ExamPlan> {
    let images = IMAGES
        .into_iter()
        .flat_map(|class| {
            [
                uids::IMPLICIT_VR_LITTLE_ENDIAN,
                uids::EXPLICIT_VR_LITTLE_ENDIAN,
                uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
                uids::RLE_LOSSLESS,
                uids::JPEG_LOSSLESS_SV1,
                uids::JPEGLS_LOSSLESS,
            ]
            .map(|syntax| {
                InstancePlan::new(class, syntax, |place, dataset| {
                    let level = f64::from(place.instance_number % 16) / 16.0;
                    Ok(grey(dataset, 16, 16, 8, level))
                })
            })
        })
        .collect();
    let others = OTHERS
        .into_iter()
        .flat_map(|class| {
            [
                uids::IMPLICIT_VR_LITTLE_ENDIAN,
                uids::EXPLICIT_VR_LITTLE_ENDIAN,
            ]
            .map(|syntax| InstancePlan::new(class, syntax, |_, _| Ok(Pixels::Absent)))
        })
        .collect();
    vec![
        ExamPlan::new(
            "many-classes",
            "PATIENT-SC",
            Name::ascii("TEST^INES"),
            "20260221",
        )
        .described("Toutes les classes SOP")
        .series("OT", "Images", images)
        .series("OT", "Autres objets", others),
    ]
}
