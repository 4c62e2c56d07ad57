//! Which presentation contexts to propose (PS3.8 §7.1.1.13).
//!
//! Images come as stored only when each (SOP class, transfer syntax) pair has a context of its
//! own: a context with several syntaxes lets the PACS pick one for all images of the class. An
//! association holds 128 contexts, so the classes are chosen from what a query told: the modalities
//! of the series first, the exact classes of the instances where that was not enough.

use std::borrow::Cow;
use std::collections::BTreeSet;

use dicom_dictionary_std::uids;

use super::negotiation::QueryAbilities;
use super::upper_layer::ProposedContext;

/// Verification SOP class (PS3.4 annex A).
pub const VERIFICATION: &str = uids::VERIFICATION;
/// Study root find.
pub const STUDY_ROOT_FIND: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
/// Patient root find.
pub const PATIENT_ROOT_FIND: &str = uids::PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND;
/// Study root get.
pub const STUDY_ROOT_GET: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET;
/// Study root move.
pub const STUDY_ROOT_MOVE: &str = uids::STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE;

/// Contexts of one association (PS3.8 §9.3.2.2: odd identifiers of one byte).
const MAX_CONTEXTS: usize = 128;

const EXPLICIT_LE: &str = uids::EXPLICIT_VR_LITTLE_ENDIAN;
const IMPLICIT_LE: &str = uids::IMPLICIT_VR_LITTLE_ENDIAN;

/// Retired, and still in old archives.
const EXPLICIT_BE: &str = "1.2.840.10008.1.2.2";

const DEFLATED: &str = uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;

/// Syntaxes of objects without pixel data.
const DATA: &[&str] = &[EXPLICIT_LE, IMPLICIT_LE, DEFLATED];

/// Syntaxes that images are commonly stored in.
const IMAGE: &[&str] = &[
    EXPLICIT_LE,
    uids::JPEGLS_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::RLE_LOSSLESS,
    uids::HTJ2K_LOSSLESS,
    uids::HTJ2K,
    DEFLATED,
    IMPLICIT_LE,
];

/// Syntaxes of video objects.
const VIDEO: &[&str] = &[
    uids::MPEG2MPML,
    uids::MPEG2MPHL,
    uids::MPEG4HP41,
    uids::MPEG4HP41BD,
    uids::MPEG4HP422D,
    uids::MPEG4HP423D,
    uids::MPEG4HP42STEREO,
    uids::HEVCMP51,
    uids::HEVCM10P51,
];

/// What is left of PS3.6 table A-1: proposed where the 128 contexts leave room.
const RARE: &[&str] = &[
    EXPLICIT_BE,
    uids::HTJ2K_LOSSLESS_RPCL,
    uids::JPEG2000MC_LOSSLESS,
    uids::JPEG2000MC,
    uids::JPEGXL_LOSSLESS,
    uids::JPEGXLJPEG_RECOMPRESSION,
    uids::JPEGXL,
];

/// What kind of content a SOP class has, and so which syntaxes it comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Data,
    Image,
    Video,
}

use Content::{Data, Image, Video};

/// Classes that any series may hold beside those of its modality.
const COMMON: &[(&str, Content)] = &[(uids::SECONDARY_CAPTURE_IMAGE_STORAGE, Image)];

const STRUCTURED_REPORTS: &[(&str, Content)] = &[
    (uids::BASIC_TEXT_SR_STORAGE, Data),
    (uids::ENHANCED_SR_STORAGE, Data),
    (uids::COMPREHENSIVE_SR_STORAGE, Data),
    (uids::COMPREHENSIVE3_DSR_STORAGE, Data),
    (uids::X_RAY_RADIATION_DOSE_SR_STORAGE, Data),
    (uids::MAMMOGRAPHY_CADSR_STORAGE, Data),
    (uids::RADIOPHARMACEUTICAL_RADIATION_DOSE_SR_STORAGE, Data),
];

/// SOP classes that series of a modality hold (PS3.3 §C.7.3.1.1.1, PS3.4 annex B.5).
fn classes_of(modality: &str) -> Option<&'static [(&'static str, Content)]> {
    Some(match modality {
        "CT" => &[
            (uids::CT_IMAGE_STORAGE, Image),
            (uids::ENHANCED_CT_IMAGE_STORAGE, Image),
            (uids::LEGACY_CONVERTED_ENHANCED_CT_IMAGE_STORAGE, Image),
        ],
        "MR" => &[
            (uids::MR_IMAGE_STORAGE, Image),
            (uids::ENHANCED_MR_IMAGE_STORAGE, Image),
            (uids::LEGACY_CONVERTED_ENHANCED_MR_IMAGE_STORAGE, Image),
            (uids::ENHANCED_MR_COLOR_IMAGE_STORAGE, Image),
            (uids::MR_SPECTROSCOPY_STORAGE, Data),
        ],
        "PT" => &[
            (uids::POSITRON_EMISSION_TOMOGRAPHY_IMAGE_STORAGE, Image),
            (uids::ENHANCED_PET_IMAGE_STORAGE, Image),
            (uids::LEGACY_CONVERTED_ENHANCED_PET_IMAGE_STORAGE, Image),
        ],
        "NM" => &[(uids::NUCLEAR_MEDICINE_IMAGE_STORAGE, Image)],
        "US" | "IVUS" => &[
            (uids::ULTRASOUND_IMAGE_STORAGE, Image),
            (uids::ULTRASOUND_MULTI_FRAME_IMAGE_STORAGE, Video),
            (uids::ENHANCED_US_VOLUME_STORAGE, Image),
        ],
        "CR" => &[
            (uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, Image),
            (uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION, Image),
        ],
        "DX" | "PX" => &[
            (uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION, Image),
            (uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING, Image),
            (uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE, Image),
        ],
        "IO" => &[
            (
                uids::DIGITAL_INTRA_ORAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
                Image,
            ),
            (
                uids::DIGITAL_INTRA_ORAL_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
                Image,
            ),
        ],
        "MG" => &[
            (
                uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
                Image,
            ),
            (
                uids::DIGITAL_MAMMOGRAPHY_X_RAY_IMAGE_STORAGE_FOR_PROCESSING,
                Image,
            ),
            (uids::BREAST_TOMOSYNTHESIS_IMAGE_STORAGE, Image),
            (uids::MAMMOGRAPHY_CADSR_STORAGE, Data),
        ],
        "XA" => &[
            (uids::X_RAY_ANGIOGRAPHIC_IMAGE_STORAGE, Image),
            (uids::ENHANCED_XA_IMAGE_STORAGE, Image),
            (uids::X_RAY3_D_ANGIOGRAPHIC_IMAGE_STORAGE, Image),
        ],
        "RF" => &[
            (uids::X_RAY_RADIOFLUOROSCOPIC_IMAGE_STORAGE, Image),
            (uids::ENHANCED_XRF_IMAGE_STORAGE, Image),
        ],
        "ES" | "GM" | "XC" | "LS" | "OP" | "OPT" => &[
            (uids::VL_ENDOSCOPIC_IMAGE_STORAGE, Image),
            (uids::VL_PHOTOGRAPHIC_IMAGE_STORAGE, Image),
            (uids::VL_MICROSCOPIC_IMAGE_STORAGE, Image),
            (uids::VIDEO_ENDOSCOPIC_IMAGE_STORAGE, Video),
            (uids::VIDEO_PHOTOGRAPHIC_IMAGE_STORAGE, Video),
            (uids::OPHTHALMIC_PHOTOGRAPHY8_BIT_IMAGE_STORAGE, Image),
        ],
        "OT" | "SC" => &[
            (
                uids::MULTI_FRAME_GRAYSCALE_BYTE_SECONDARY_CAPTURE_IMAGE_STORAGE,
                Image,
            ),
            (
                uids::MULTI_FRAME_GRAYSCALE_WORD_SECONDARY_CAPTURE_IMAGE_STORAGE,
                Image,
            ),
            (
                uids::MULTI_FRAME_TRUE_COLOR_SECONDARY_CAPTURE_IMAGE_STORAGE,
                Image,
            ),
            (uids::ENCAPSULATED_PDF_STORAGE, Data),
        ],
        "SM" => &[(uids::VL_WHOLE_SLIDE_MICROSCOPY_IMAGE_STORAGE, Image)],
        "SEG" => &[
            (uids::SEGMENTATION_STORAGE, Image),
            (uids::SURFACE_SEGMENTATION_STORAGE, Data),
        ],
        "SR" => STRUCTURED_REPORTS,
        "KO" => &[(uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE, Data)],
        "PR" => &[
            (uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, Data),
            (uids::COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE, Data),
            (uids::PSEUDO_COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE, Data),
            (uids::BLENDING_SOFTCOPY_PRESENTATION_STATE_STORAGE, Data),
        ],
        "DOC" => &[
            (uids::ENCAPSULATED_PDF_STORAGE, Data),
            (uids::ENCAPSULATED_CDA_STORAGE, Data),
        ],
        "RTSTRUCT" => &[(uids::RT_STRUCTURE_SET_STORAGE, Data)],
        "RTPLAN" => &[
            (uids::RT_PLAN_STORAGE, Data),
            (uids::RT_ION_PLAN_STORAGE, Data),
            (uids::RT_BRACHY_TREATMENT_RECORD_STORAGE, Data),
        ],
        "RTDOSE" => &[(uids::RT_DOSE_STORAGE, Image)],
        "RTIMAGE" => &[(uids::RT_IMAGE_STORAGE, Image)],
        "RTRECORD" => &[
            (uids::RT_BEAMS_TREATMENT_RECORD_STORAGE, Data),
            (uids::RT_TREATMENT_SUMMARY_RECORD_STORAGE, Data),
        ],
        "REG" => &[
            (uids::SPATIAL_REGISTRATION_STORAGE, Data),
            (uids::DEFORMABLE_SPATIAL_REGISTRATION_STORAGE, Data),
        ],
        "ECG" | "HD" | "EPS" | "AU" => &[
            (uids::TWELVE_LEAD_ECG_WAVEFORM_STORAGE, Data),
            (uids::GENERAL_ECG_WAVEFORM_STORAGE, Data),
            (uids::AMBULATORY_ECG_WAVEFORM_STORAGE, Data),
            (uids::HEMODYNAMIC_WAVEFORM_STORAGE, Data),
            (uids::BASIC_VOICE_AUDIO_WAVEFORM_STORAGE, Data),
        ],
        _ => return None,
    })
}

/// Modalities of [`classes_of`], for [`every_class`].
const MODALITIES: &[&str] = &[
    "CT", "MR", "PT", "NM", "US", "CR", "DX", "IO", "MG", "XA", "RF", "ES", "OT", "SM", "SEG",
    "SR", "KO", "PR", "DOC", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTIMAGE", "RTRECORD", "REG", "ECG",
];

/// Every storage class known here, some more than once.
pub fn every_class() -> impl Iterator<Item = &'static str> {
    let classes = MODALITIES
        .iter()
        .filter_map(|modality| classes_of(modality))
        .flatten();
    classes.chain(COMMON).map(|(sop_class, _)| *sop_class)
}

/// The UID of a storage class, and a word for what it holds.
#[cfg(test)]
pub type ClassAndContent = (&'static str, &'static str);
/// A name, and the transfer syntaxes that are proposed under it.
#[cfg(test)]
pub type SyntaxGroup = (&'static str, &'static [&'static str]);

/// Every storage class known here, in the order of their UIDs, with what it holds and the transfer
/// syntaxes proposed for it; and those proposed where there is room. The conformance statement
/// lists them.
#[cfg(test)]
#[must_use]
pub fn storage_statement() -> (Vec<ClassAndContent>, [SyntaxGroup; 4]) {
    let mut classes: Vec<(&str, &str)> = MODALITIES
        .iter()
        .filter_map(|modality| classes_of(modality))
        .flatten()
        .chain(COMMON)
        .map(|(sop_class, content)| {
            let holds = match content {
                Data => "data",
                Image => "image",
                Video => "image or video",
            };
            (*sop_class, holds)
        })
        .collect();
    classes.sort_by_key(|(uid, _)| {
        let numbers = uid.split('.').map(|part| part.parse().unwrap_or(u64::MAX));
        numbers.collect::<Vec<_>>()
    });
    classes.dedup();
    let syntaxes = [
        ("data", DATA),
        ("image", IMAGE),
        ("video", VIDEO),
        ("room", RARE),
    ];
    (classes, syntaxes)
}

/// The contexts of queries and verification, for one association that serves them all.
///
/// What is accepted holds for every query of the association: names are matched by their meaning on
/// associations of their own.
#[must_use]
pub fn query(relational: bool, fuzzy_names: bool) -> Vec<ProposedContext> {
    let abilities = QueryAbilities {
        relational,
        date_time: true,
        fuzzy_names,
    };
    let find = [STUDY_ROOT_FIND, PATIENT_ROOT_FIND].map(|sop_class| ProposedContext {
        extended: Some(abilities),
        ..service(sop_class)
    });
    find.into_iter().chain([service(VERIFICATION)]).collect()
}

/// The context of C-MOVE.
#[must_use]
pub fn moving() -> Vec<ProposedContext> {
    vec![service(STUDY_ROOT_MOVE)]
}

/// The contexts of C-GET for series of these modalities; `None` when one of them is unknown, or all
/// together are too many, and the classes must be asked for.
#[must_use]
pub fn getting(modalities: &[String], uncompressed_only: bool) -> Option<Vec<ProposedContext>> {
    if modalities.is_empty() {
        return None;
    }
    let mut classes: Vec<(&'static str, Content)> = Vec::new();
    let distinct: BTreeSet<&str> = modalities.iter().map(String::as_str).collect();
    for modality in distinct {
        classes.extend(classes_of(modality)?);
    }
    classes.extend(COMMON);
    let mut contexts = vec![service(STUDY_ROOT_GET)];
    let mut seen = BTreeSet::new();
    classes.retain(|(sop_class, _)| seen.insert(*sop_class));
    for (sop_class, content) in &classes {
        let syntaxes = syntaxes_of(*content, uncompressed_only);
        contexts.extend(storage(Cow::Borrowed(sop_class), syntaxes));
    }
    // A syntax that is not proposed makes some PACS convert the image without a word: what does not
    // fit is asked for class by class.
    if contexts.len() > MAX_CONTEXTS {
        return None;
    }
    for (sop_class, content) in &classes {
        let images = *content != Data && !uncompressed_only;
        if images && contexts.len() + RARE.len() <= MAX_CONTEXTS {
            contexts.extend(storage(Cow::Borrowed(sop_class), RARE.to_vec()));
        }
    }
    Some(contexts)
}

/// The contexts of C-GET for exactly these SOP classes, in as many associations as they need; each
/// with the classes it serves.
#[must_use]
pub fn getting_classes(
    classes: &BTreeSet<String>,
    uncompressed_only: bool,
) -> Vec<(BTreeSet<String>, Vec<ProposedContext>)> {
    let all: Vec<&'static str> = if uncompressed_only {
        vec![EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE]
    } else {
        IMAGE.iter().chain(VIDEO).chain(RARE).copied().collect()
    };
    let per_association = ((MAX_CONTEXTS - 1) / all.len()).max(1);
    let classes: Vec<&String> = classes.iter().collect();
    classes
        .chunks(per_association)
        .map(|chunk| {
            let mut contexts = vec![service(STUDY_ROOT_GET)];
            for sop_class in chunk {
                contexts.extend(storage(Cow::Owned((*sop_class).clone()), all.clone()));
            }
            (
                chunk.iter().map(|&sop_class| sop_class.clone()).collect(),
                contexts,
            )
        })
        .collect()
}

/// The contexts of C-STORE for these (SOP class, transfer syntax) pairs, 128 at most.
#[must_use]
pub fn storing(pairs: &BTreeSet<(String, &'static str)>) -> Vec<ProposedContext> {
    pairs
        .iter()
        .take(MAX_CONTEXTS)
        .map(|(sop_class, syntax)| ProposedContext {
            abstract_syntax: Cow::Owned(sop_class.clone()),
            transfer_syntaxes: vec![syntax],
            peer_sends: false,
            extended: None,
        })
        .collect()
}

/// The syntax the gateway's storage SCP takes for a proposed context; `None` refuses it.
///
/// A context with one syntax is taken as it is. Among several the PACS's first compressed one is
/// taken, since it converts stored images otherwise; explicit VR little endian where all are native.
#[must_use]
pub fn accept_storage(abstract_syntax: &str, proposed: &[String]) -> Option<String> {
    let storage = abstract_syntax.starts_with("1.2.840.10008.5.1.4.1.1.")
        || !abstract_syntax.starts_with("1.2.840.10008.");
    let known = || {
        let proposed = proposed.iter().map(|uid| super::upper_layer::trim_uid(uid));
        proposed.filter(|uid| is_known_syntax(uid))
    };
    if !storage {
        return (abstract_syntax == VERIFICATION)
            .then(|| known().find(|uid| *uid == IMPLICIT_LE || *uid == EXPLICIT_LE))
            .flatten()
            .map(str::to_owned);
    }
    known()
        .find(|uid| !is_native(uid))
        .or_else(|| known().find(|uid| *uid == EXPLICIT_LE))
        .or_else(|| known().next())
        .map(str::to_owned)
}

/// A syntax as the constant of the same value; `None` when the gateway does not know it.
#[must_use]
pub fn known_syntax(uid: &str) -> Option<&'static str> {
    IMAGE
        .iter()
        .chain(VIDEO)
        .chain(RARE)
        .copied()
        .find(|known| *known == uid)
}

fn is_known_syntax(uid: &str) -> bool {
    known_syntax(uid).is_some()
}

fn is_native(uid: &str) -> bool {
    uid == EXPLICIT_LE || uid == IMPLICIT_LE || uid == EXPLICIT_BE
}

fn syntaxes_of(content: Content, uncompressed_only: bool) -> Vec<&'static str> {
    match content {
        _ if uncompressed_only => vec![EXPLICIT_LE, IMPLICIT_LE],
        Data => DATA.to_vec(),
        Image => IMAGE.to_vec(),
        Video => IMAGE.iter().chain(VIDEO).copied().collect(),
    }
}

fn service(sop_class: &'static str) -> ProposedContext {
    ProposedContext {
        abstract_syntax: Cow::Borrowed(sop_class),
        transfer_syntaxes: vec![EXPLICIT_LE, IMPLICIT_LE],
        peer_sends: false,
        extended: None,
    }
}

fn storage(
    sop_class: Cow<'static, str>,
    syntaxes: Vec<&'static str>,
) -> impl Iterator<Item = ProposedContext> {
    syntaxes.into_iter().map(move |syntax| ProposedContext {
        abstract_syntax: sop_class.clone(),
        transfer_syntaxes: vec![syntax],
        peer_sends: true,
        extended: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn no_association_has_more_than_128_contexts() {
        let every: Vec<String> = ["CT", "MR", "US", "MG", "XA", "RF", "ES", "SR", "PT", "OT"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(getting(&every, false), None);
        for modality in MODALITIES {
            let contexts = getting(&[(*modality).to_owned()], false).unwrap();
            assert!(contexts.len() <= MAX_CONTEXTS, "{modality}");
        }
        let pet_ct = ["CT", "PT", "SR", "KO"].map(str::to_owned);
        assert!(getting(&pet_ct, false).is_some());
        let classes: BTreeSet<String> = (0..40)
            .map(|n| format!("1.2.840.10008.5.1.4.1.1.{n}"))
            .collect();
        let plans = getting_classes(&classes, false);
        assert!(
            plans
                .iter()
                .all(|(_, contexts)| contexts.len() <= MAX_CONTEXTS)
        );
        let served: usize = plans.iter().map(|(classes, _)| classes.len()).sum();
        assert_eq!(served, 40);
    }

    #[test]
    fn every_storage_context_has_one_transfer_syntax() {
        let contexts = getting(&["CT".to_owned()], false).unwrap();
        assert!(
            contexts
                .iter()
                .skip(1)
                .all(|c| c.transfer_syntaxes.len() == 1 && c.peer_sends)
        );
    }

    #[test]
    fn an_unknown_modality_asks_for_the_exact_classes() {
        assert_eq!(getting(&["CT".to_owned(), "ZZ".to_owned()], false), None);
        assert_eq!(getting(&[], false), None);
    }

    #[test]
    fn the_storage_scp_keeps_what_the_pacs_would_send_as_stored() {
        let proposed = [IMPLICIT_LE, uids::JPEGLS_LOSSLESS, EXPLICIT_LE].map(str::to_owned);
        let taken = accept_storage(uids::CT_IMAGE_STORAGE, &proposed);
        assert_eq!(taken.as_deref(), Some(uids::JPEGLS_LOSSLESS));
        assert_eq!(accept_storage(STUDY_ROOT_FIND, &proposed), None);
    }
}
