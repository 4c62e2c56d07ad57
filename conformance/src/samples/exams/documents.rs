//! Objects without pixels around one radiograph: reports, a PDF, a key object selection, a presentation
//! state; and a structure set of long sequences.

use dicom_core::VR;
use dicom_dictionary_std::{tags, uids};

use super::image::{axial_plane, grey};
use crate::samples::Profile;
use crate::samples::dataset::{DataSet, Put};
use crate::samples::part10::Pixels;
use crate::samples::plan::{ExamPlan, InstancePlan, Name, Place};

/// `documents`: an image in series 1 and documents that point to it. `rtstruct`: contours of a CT.
pub(super) fn exams(profile: Profile) -> Vec<ExamPlan> {
    let (sections, points) = match profile {
        Profile::Large => (60, 120),
        Profile::Small | Profile::Demo | Profile::Bench => (4, 16),
    };
    let images = (0..sections).map(planning_image).collect();
    vec![
        ExamPlan::new(
            "documents",
            "PATIENT-SR",
            Name::ascii("ECHANTILLON^FANNY"),
            "20260210",
        )
        .described("Radiographie avec documents")
        .series("CR", "Face", vec![radiograph()])
        .series("SR", "Comptes rendus", vec![basic_text(), comprehensive()])
        .series("DOC", "Compte rendu PDF", vec![encapsulated_pdf()])
        .series("KO", "Images cles", vec![key_objects()])
        .series("PR", "Presentation", vec![presentation_state()]),
        ExamPlan::new(
            "rtstruct",
            "PATIENT-RT",
            Name::ascii("FACTICE^GABRIEL"),
            "20260214",
        )
        .described("Preparation de radiotherapie")
        .series("CT", "Centrage", images)
        .series(
            "RTSTRUCT",
            "Contours",
            vec![structure_set(sections, points)],
        ),
    ]
}

fn radiograph() -> InstancePlan {
    InstancePlan::new(
        uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |_, dataset| {
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY")
                .text(tags::BODY_PART_EXAMINED, "CHEST")
                .text(tags::VIEW_POSITION, "PA")
                .text(tags::PATIENT_ORIENTATION, "L\\F")
                .text(tags::PLATE_ID, "")
                .text(tags::LATERALITY, "");
            Ok(grey(dataset, 128, 128, 10, 0.2))
        },
    )
}

/// Basic Text SR Storage (PS3.3 §A.35.1).
fn basic_text() -> InstancePlan {
    InstancePlan::new(
        uids::BASIC_TEXT_SR_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |place, dataset| {
            report_header(place, dataset);
            let findings = text(
                ("121071", "DCM", "Finding"),
                "Pas d'anomalie. Objet de test.",
            );
            let conclusion = text(
                ("121077", "DCM", "Conclusion"),
                "Examen normal. Objet de test.",
            );
            dataset.sequence(tags::CONTENT_SEQUENCE, vec![findings, conclusion]);
            Ok(Pixels::Absent)
        },
    )
}

/// Comprehensive SR Storage (PS3.3 §A.35.3): containers nested, a measurement inferred from the image.
fn comprehensive() -> InstancePlan {
    InstancePlan::new(
        uids::COMPREHENSIVE_SR_STORAGE,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        |place, dataset| {
            report_header(place, dataset);
            let mut image = DataSet::new_empty();
            image
                .text(tags::RELATIONSHIP_TYPE, "INFERRED FROM")
                .text(tags::VALUE_TYPE, "IMAGE")
                .sequence(
                    tags::REFERENCED_SOP_SEQUENCE,
                    vec![radiograph_reference(place)],
                );
            let mut measure = DataSet::new_empty();
            measure
                .text(tags::RELATIONSHIP_TYPE, "CONTAINS")
                .text(tags::VALUE_TYPE, "NUM")
                .code(
                    tags::CONCEPT_NAME_CODE_SEQUENCE,
                    ("121206", "DCM", "Distance"),
                )
                .item(tags::MEASURED_VALUE_SEQUENCE, |item| {
                    item.code(tags::MEASUREMENT_UNITS_CODE_SEQUENCE, ("mm", "UCUM", "mm"))
                        .text(tags::NUMERIC_VALUE, "12.5");
                })
                .sequence(tags::CONTENT_SEQUENCE, vec![image]);
            let mut item = measure;
            for level in 1..=6 {
                let mut container = DataSet::new_empty();
                container
                    .text(tags::RELATIONSHIP_TYPE, "CONTAINS")
                    .text(tags::VALUE_TYPE, "CONTAINER")
                    .text(tags::CONTINUITY_OF_CONTENT, "SEPARATE")
                    .code(
                        tags::CONCEPT_NAME_CODE_SEQUENCE,
                        ("121070", "DCM", "Findings"),
                    )
                    .sequence(
                        tags::CONTENT_SEQUENCE,
                        vec![
                            text(("121071", "DCM", "Finding"), &format!("Niveau {level}")),
                            item,
                        ],
                    );
                item = container;
            }
            dataset.sequence(tags::CONTENT_SEQUENCE, vec![item]);
            Ok(Pixels::Absent)
        },
    )
}

/// SR document general and root container (PS3.3 §C.17.2, C.17.3).
fn report_header(place: &Place, dataset: &mut DataSet) {
    dataset
        .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![])
        .sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, vec![])
        .sequence(
            tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
            vec![evidence(place)],
        )
        .text(tags::COMPLETION_FLAG, "COMPLETE")
        .text(tags::VERIFICATION_FLAG, "UNVERIFIED")
        .text(tags::VALUE_TYPE, "CONTAINER")
        .text(tags::CONTINUITY_OF_CONTENT, "SEPARATE")
        .code(
            tags::CONCEPT_NAME_CODE_SEQUENCE,
            ("18748-4", "LN", "Diagnostic imaging report"),
        );
}

fn text(concept: (&str, &str, &str), value: &str) -> DataSet {
    let mut item = DataSet::new_empty();
    item.text(tags::RELATIONSHIP_TYPE, "CONTAINS")
        .text(tags::VALUE_TYPE, "TEXT")
        .code(tags::CONCEPT_NAME_CODE_SEQUENCE, concept)
        .text(tags::TEXT_VALUE, value);
    item
}

/// The radiograph as one item of a hierarchical reference (PS3.3 §C.17.2.1).
fn evidence(place: &Place) -> DataSet {
    let mut study = DataSet::new_empty();
    study
        .text(tags::STUDY_INSTANCE_UID, place.study.as_str())
        .item(tags::REFERENCED_SERIES_SEQUENCE, |series| {
            series
                .text(tags::SERIES_INSTANCE_UID, place.sibling_series(1))
                .sequence(
                    tags::REFERENCED_SOP_SEQUENCE,
                    vec![radiograph_reference(place)],
                );
        });
    study
}

fn radiograph_reference(place: &Place) -> DataSet {
    let mut reference = DataSet::new_empty();
    reference
        .text(
            tags::REFERENCED_SOP_CLASS_UID,
            uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        )
        .text(tags::REFERENCED_SOP_INSTANCE_UID, place.sibling(1, 1));
    reference
}

/// Key Object Selection Document Storage (PS3.3 §A.35.4).
fn key_objects() -> InstancePlan {
    InstancePlan::new(
        uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |place, dataset| {
            let mut image = DataSet::new_empty();
            image
                .text(tags::RELATIONSHIP_TYPE, "CONTAINS")
                .text(tags::VALUE_TYPE, "IMAGE")
                .sequence(
                    tags::REFERENCED_SOP_SEQUENCE,
                    vec![radiograph_reference(place)],
                );
            dataset
                .sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![])
                .sequence(
                    tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE,
                    vec![evidence(place)],
                )
                .text(tags::VALUE_TYPE, "CONTAINER")
                .text(tags::CONTINUITY_OF_CONTENT, "SEPARATE")
                .code(
                    tags::CONCEPT_NAME_CODE_SEQUENCE,
                    ("113000", "DCM", "Of Interest"),
                )
                .item(tags::CONTENT_TEMPLATE_SEQUENCE, |item| {
                    item.text(tags::MAPPING_RESOURCE, "DCMR")
                        .text(tags::TEMPLATE_IDENTIFIER, "2010");
                })
                .sequence(tags::CONTENT_SEQUENCE, vec![image]);
            Ok(Pixels::Absent)
        },
    )
}

/// Grayscale Softcopy Presentation State Storage (PS3.3 §A.33.1).
fn presentation_state() -> InstancePlan {
    InstancePlan::new(
        uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |place, dataset| {
            dataset
                .text(tags::PRESENTATION_CREATION_DATE, "20260210")
                .text(tags::PRESENTATION_CREATION_TIME, "093000")
                .text(tags::CONTENT_LABEL, "FENETRE")
                .text(tags::CONTENT_DESCRIPTION, "")
                .text(tags::CONTENT_CREATOR_NAME, "")
                .item(tags::REFERENCED_SERIES_SEQUENCE, |series| {
                    series
                        .text(tags::SERIES_INSTANCE_UID, place.sibling_series(1))
                        .sequence(
                            tags::REFERENCED_IMAGE_SEQUENCE,
                            vec![radiograph_reference(place)],
                        );
                })
                .item(tags::DISPLAYED_AREA_SELECTION_SEQUENCE, |area| {
                    area.value(tags::DISPLAYED_AREA_TOP_LEFT_HAND_CORNER, corner(1, 1))
                        .value(
                            tags::DISPLAYED_AREA_BOTTOM_RIGHT_HAND_CORNER,
                            corner(128, 128),
                        )
                        .text(tags::PRESENTATION_SIZE_MODE, "SCALE TO FIT")
                        .text(tags::PRESENTATION_PIXEL_ASPECT_RATIO, "1\\1");
                })
                .item(tags::SOFTCOPY_VOILUT_SEQUENCE, |item| {
                    item.text(tags::WINDOW_CENTER, "500")
                        .text(tags::WINDOW_WIDTH, "1000");
                })
                .text(tags::PRESENTATION_LUT_SHAPE, "IDENTITY");
            Ok(Pixels::Absent)
        },
    )
}

fn corner(column: i32, row: i32) -> dicom_core::PrimitiveValue {
    dicom_core::PrimitiveValue::I32([column, row].into_iter().collect())
}

/// Encapsulated PDF Storage (PS3.3 §A.45.1), the document in OB.
fn encapsulated_pdf() -> InstancePlan {
    InstancePlan::new(
        uids::ENCAPSULATED_PDF_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        |_, dataset| {
            let mut document = pdf("Compte rendu de test");
            dataset
                .text(tags::CONVERSION_TYPE, "WSD")
                .text(tags::BURNED_IN_ANNOTATION, "YES")
                .text(tags::ACQUISITION_DATE_TIME, "")
                .text(tags::DOCUMENT_TITLE, "Compte rendu de test")
                .sequence(tags::CONCEPT_NAME_CODE_SEQUENCE, vec![])
                .text(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT, "application/pdf")
                .value(tags::ENCAPSULATED_DOCUMENT_LENGTH, document.len() as u32);
            if document.len() % 2 == 1 {
                document.push(0);
            }
            dataset.raw(tags::ENCAPSULATED_DOCUMENT, VR::OB, &document);
            Ok(Pixels::Absent)
        },
    )
}

/// A PDF 1.4 file (ISO 32000) of one page with one line of text in the default repertoire.
fn pdf(line: &str) -> Vec<u8> {
    let content = format!("BT /F1 24 Tf 72 720 Td ({line}) Tj ET");
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    let mut file = "%PDF-1.4\n".to_owned();
    let mut offsets = String::new();
    for (number, object) in (1..).zip(&objects) {
        offsets += &format!("{:010} 00000 n \n", file.len());
        file += &format!("{number} 0 obj\n{object}\nendobj\n");
    }
    let start = file.len();
    let size = objects.len() + 1;
    file += &format!(
        "xref\n0 {size}\n0000000000 65535 f \n{offsets}trailer\n<< /Size {size} /Root 1 0 R >>\n\
         startxref\n{start}\n%%EOF\n"
    );
    file.into_bytes()
}

fn planning_image(index: u32) -> InstancePlan {
    InstancePlan::new(
        uids::CT_IMAGE_STORAGE,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        move |place, dataset| {
            axial_plane(dataset, 3.0, 3.0, 3.0 * f64::from(index));
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\AXIAL")
                .text(tags::FRAME_OF_REFERENCE_UID, place.study_uid("frame"))
                .text(tags::POSITION_REFERENCE_INDICATOR, "")
                .text(tags::ACQUISITION_NUMBER, "1")
                .text(tags::KVP, "120")
                .text(tags::RESCALE_INTERCEPT, "-1024")
                .text(tags::RESCALE_SLOPE, "1");
            Ok(grey(dataset, 128, 128, 12, f64::from(index) / 60.0))
        },
    )
}

/// RT Structure Set Storage (PS3.3 §A.19): eight regions, each with a contour on every section.
fn structure_set(sections: u32, points: u32) -> InstancePlan {
    const REGIONS: u32 = 8;
    InstancePlan::new(
        uids::RT_STRUCTURE_SET_STORAGE,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        move |place, dataset| {
            let frame = place.study_uid("frame");
            let region = |number: u32| {
                let mut region = DataSet::new_empty();
                region
                    .text(tags::ROI_NUMBER, number.to_string())
                    .text(tags::REFERENCED_FRAME_OF_REFERENCE_UID, frame.as_str())
                    .text(tags::ROI_NAME, format!("Region {number}"))
                    .text(tags::ROI_GENERATION_ALGORITHM, "MANUAL");
                region
            };
            let contours = |number: u32| {
                let contours = (0..sections).map(|section| contour(place, number, section, points));
                let mut item = DataSet::new_empty();
                item.text(tags::ROI_DISPLAY_COLOR, format!("{}\\128\\64", 30 * number))
                    .sequence(tags::CONTOUR_SEQUENCE, contours.collect())
                    .text(tags::REFERENCED_ROI_NUMBER, number.to_string());
                item
            };
            let observation = |number: u32| {
                let mut item = DataSet::new_empty();
                item.text(tags::OBSERVATION_NUMBER, number.to_string())
                    .text(tags::REFERENCED_ROI_NUMBER, number.to_string())
                    .text(tags::RTROI_INTERPRETED_TYPE, "ORGAN")
                    .text(tags::ROI_INTERPRETER, "");
                item
            };
            dataset
                .text(tags::FRAME_OF_REFERENCE_UID, frame.as_str())
                .text(tags::POSITION_REFERENCE_INDICATOR, "")
                .text(tags::OPERATORS_NAME, "")
                .text(tags::STRUCTURE_SET_LABEL, "CONTOURS")
                .text(tags::STRUCTURE_SET_DATE, "20260214")
                .text(tags::STRUCTURE_SET_TIME, "101500")
                .item(tags::REFERENCED_FRAME_OF_REFERENCE_SEQUENCE, |item| {
                    item.text(tags::FRAME_OF_REFERENCE_UID, frame.as_str());
                })
                .sequence(
                    tags::STRUCTURE_SET_ROI_SEQUENCE,
                    (1..=REGIONS).map(region).collect(),
                )
                .sequence(
                    tags::ROI_CONTOUR_SEQUENCE,
                    (1..=REGIONS).map(contours).collect(),
                )
                .sequence(
                    tags::RTROI_OBSERVATIONS_SEQUENCE,
                    (1..=REGIONS).map(observation).collect(),
                );
            Ok(Pixels::Absent)
        },
    )
}

fn contour(place: &Place, region: u32, section: u32, points: u32) -> DataSet {
    let radius = 10.0 + 4.0 * f64::from(region);
    let z = 3.0 * f64::from(section);
    let data: Vec<String> = (0..points)
        .map(|point| {
            let angle = f64::from(point) / f64::from(points) * std::f64::consts::TAU;
            format!(
                "{:.2}\\{:.2}\\{z:.2}",
                radius * angle.cos(),
                radius * angle.sin()
            )
        })
        .collect();
    let mut contour = DataSet::new_empty();
    contour
        .item(tags::CONTOUR_IMAGE_SEQUENCE, |image| {
            image
                .text(tags::REFERENCED_SOP_CLASS_UID, uids::CT_IMAGE_STORAGE)
                .text(
                    tags::REFERENCED_SOP_INSTANCE_UID,
                    place.sibling(1, section + 1),
                );
        })
        .text(tags::CONTOUR_GEOMETRIC_TYPE, "CLOSED_PLANAR")
        .text(tags::NUMBER_OF_CONTOUR_POINTS, points.to_string())
        .text(tags::CONTOUR_DATA, data.join("\\"));
    contour
}
