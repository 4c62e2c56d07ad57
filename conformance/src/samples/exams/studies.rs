//! `many-studies/…`: tiny studies spread over two years, several of each patient, to search among.

use dicom_dictionary_std::{tags, uids};

use super::image::grey;
use crate::samples::Profile;
use crate::samples::dataset::Put;
use crate::samples::plan::{ExamPlan, InstancePlan, Name};

const FAMILY_NAMES: [&str; 10] = [
    "BIDON",
    "ESSAI",
    "EXEMPLE",
    "FACTICE",
    "FICTIF",
    "IMAGINAIRE",
    "MODELE",
    "PROTOTYPE",
    "SPECIMEN",
    "TEST",
];
const GIVEN_NAMES: [&str; 8] = [
    "ALICE", "BASILE", "CLARA", "DAVID", "ELISE", "FARID", "GAELLE", "HUGO",
];
const KINDS: [(&str, &str, &str); 5] = [
    ("CT", uids::CT_IMAGE_STORAGE, "Scanner thoracique"),
    ("MR", uids::MR_IMAGE_STORAGE, "IRM cerebrale"),
    (
        "CR",
        uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        "Radiographie de la main",
    ),
    (
        "US",
        uids::ULTRASOUND_IMAGE_STORAGE,
        "Echographie abdominale",
    ),
    (
        "NM",
        uids::NUCLEAR_MEDICINE_IMAGE_STORAGE,
        "Scintigraphie osseuse",
    ),
];

/// 1 000 studies (30 in the small profile) of one image each; 80 patients.
pub(super) fn exams(profile: Profile) -> Vec<ExamPlan> {
    let count = match profile {
        Profile::Small | Profile::Demo => 30,
        Profile::Large | Profile::Bench => 1000,
    };
    (0..count).map(study).collect()
}

fn study(index: usize) -> ExamPlan {
    let patients = FAMILY_NAMES.len() * GIVEN_NAMES.len();
    // Coprime with the number of patients: every patient comes before one comes again.
    let patient = index * 37 % patients;
    let name = format!(
        "{}^{}",
        pick(&FAMILY_NAMES, patient),
        pick(&GIVEN_NAMES, patient / FAMILY_NAMES.len()),
    );
    let (modality, sop_class, description) = pick(&KINDS, index / 3);
    // Days 1 to 28 exist in every month.
    let day = index * 11 % (24 * 28);
    let (year, month) = (2025 + day / 28 / 12, day / 28 % 12 + 1);
    let date = format!("{year}{month:02}{:02}", day % 28 + 1);
    let image = InstancePlan::new(
        sop_class,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        move |_, dataset| {
            dataset.text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY");
            Ok(grey(dataset, 16, 16, 8, index as f64 % 7.0 / 7.0))
        },
    );
    ExamPlan::new(
        &format!("many-studies/{:04}", index + 1),
        &format!("SEARCH-{:03}", patient + 1),
        Name::ascii(&name),
        &date,
    )
    .described(description)
    .series(modality, "Image", vec![image])
}

/// An element of a list that is repeated without end.
fn pick<T: Copy + Default>(list: &[T], index: usize) -> T {
    list.get(index % list.len().max(1))
        .copied()
        .unwrap_or_default()
}
