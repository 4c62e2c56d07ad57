//! `elements`: private elements, every value representation, empty values, deep nesting.

use dicom_core::value::Value;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_transfer_syntax_registry::entries;

use super::image::grey;
use crate::samples::Error;
use crate::samples::dataset::{DataSet, Put};
use crate::samples::part10::EXPLICIT_VR_BIG_ENDIAN;
use crate::samples::plan::{ExamPlan, InstancePlan, Name};

/// The same elements in every native transfer syntax; then sequences of explicit length, also as UN.
pub(super) fn exams() -> Vec<ExamPlan> {
    let instances = [
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        uids::IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    ]
    .map(|syntax| capture(syntax, odd_values))
    .into_iter()
    .chain([capture(uids::EXPLICIT_VR_LITTLE_ENDIAN, explicit_lengths)])
    .collect();
    vec![
        ExamPlan::new(
            "elements",
            "PATIENT-VR",
            Name::ascii("BIDON^JULES"),
            "20260225",
        )
        .described("Elements de donnees")
        .series("OT", "Captures", instances),
    ]
}

fn capture(
    transfer_syntax: &'static str,
    fill: fn(&mut DataSet) -> Result<(), Error>,
) -> InstancePlan {
    InstancePlan::new(
        uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
        transfer_syntax,
        move |_, dataset| {
            dataset.text(tags::CONVERSION_TYPE, "WSD");
            fill(dataset)?;
            Ok(grey(dataset, 32, 32, 16, 0.6))
        },
    )
}

fn odd_values(dataset: &mut DataSet) -> Result<(), Error> {
    private_elements(dataset);
    value_representations(dataset);
    texts(dataset);
    sequences(dataset);
    Ok(())
}

/// Two blocks of one private group (PS3.5 §7.8.1), a private sequence, an element of unknown VR;
/// elements after Pixel Data.
fn private_elements(dataset: &mut DataSet) {
    let mut item = DataSet::new_empty();
    item.raw(Tag(0x0009, 0x0010), VR::LO, b"SAMPLES 1.0 ").raw(
        Tag(0x0009, 0x1001),
        VR::LO,
        b"In a sequence ",
    );
    dataset
        .raw(Tag(0x0009, 0x0010), VR::LO, b"SAMPLES 1.0 ")
        .raw(Tag(0x0009, 0x0011), VR::LO, b"SAMPLES OTHER ")
        .raw(Tag(0x0009, 0x1001), VR::LO, b"Private text")
        .raw(Tag(0x0009, 0x1002), VR::UN, &[1, 2, 3, 4, 0xFE, 0xFF])
        .sequence(Tag(0x0009, 0x1003), vec![item, DataSet::new_empty()])
        .raw(Tag(0x0009, 0x1004), VR::LO, b"")
        .raw(Tag(0x0009, 0x1101), VR::LT, b"Block 11")
        .raw(Tag(0x7FE1, 0x0010), VR::LO, b"SAMPLES 1.0 ");
    // Words, so that big endian has something to swap.
    let words = PrimitiveValue::U16((0..64).collect());
    dataset.put(DataElement::new(Tag(0x7FE1, 0x1001), VR::OW, words));
    dataset.raw(tags::DATA_SET_TRAILING_PADDING, VR::OB, &[0; 8]);
}

/// The values that are awkward as text or as JSON numbers (PS3.18 §F.2.3).
fn value_representations(dataset: &mut DataSet) {
    let mut put = |tag: Tag, vr: VR, value: PrimitiveValue| {
        dataset.put(DataElement::new(tag, vr, Value::from(value)));
    };
    put(
        tags::SELECTOR_AT_VALUE,
        VR::AT,
        PrimitiveValue::Tags(
            [tags::PATIENT_NAME, Tag(0x0009, 0x1001)]
                .into_iter()
                .collect(),
        ),
    );
    put(
        tags::SELECTOR_SV_VALUE,
        VR::SV,
        PrimitiveValue::I64([i64::MIN, -1, 0, i64::MAX].into_iter().collect()),
    );
    put(
        tags::SELECTOR_UV_VALUE,
        VR::UV,
        PrimitiveValue::U64([0, (1 << 53) + 1, u64::MAX].into_iter().collect()),
    );
    put(
        tags::SELECTOR_OV_VALUE,
        VR::OV,
        PrimitiveValue::U64([1, u64::MAX].into_iter().collect()),
    );
    put(
        tags::SELECTOR_FD_VALUE,
        VR::FD,
        PrimitiveValue::F64(
            [0.1, -0.0, f64::MAX, f64::NAN, f64::INFINITY]
                .into_iter()
                .collect(),
        ),
    );
    put(
        tags::SELECTOR_FL_VALUE,
        VR::FL,
        PrimitiveValue::F32([0.1, f32::MIN_POSITIVE].into_iter().collect()),
    );
    put(
        tags::SELECTOR_OD_VALUE,
        VR::OD,
        PrimitiveValue::F64([1.5, -2.5].into_iter().collect()),
    );
    put(
        tags::SELECTOR_OF_VALUE,
        VR::OF,
        PrimitiveValue::F32([1.5, -2.5].into_iter().collect()),
    );
    put(
        tags::SELECTOR_OL_VALUE,
        VR::OL,
        PrimitiveValue::U32([1, u32::MAX].into_iter().collect()),
    );
    put(
        tags::SELECTOR_SL_VALUE,
        VR::SL,
        PrimitiveValue::I32([i32::MIN, i32::MAX].into_iter().collect()),
    );
    put(
        tags::SELECTOR_SS_VALUE,
        VR::SS,
        PrimitiveValue::I16([i16::MIN, i16::MAX].into_iter().collect()),
    );
}

/// Empty items in lists, padding, separators that are none, values longer than 64 KiB.
fn texts(dataset: &mut DataSet) {
    let long = "Une phrase longue, répétée. "
        .replace('é', "e")
        .repeat(2500);
    dataset
        .text(tags::WINDOW_CENTER, "40\\\\-600")
        .text(tags::WINDOW_WIDTH, "400\\\\1500")
        .text(tags::WINDOW_CENTER_WIDTH_EXPLANATION, "\\\\")
        .text(
            tags::SELECTOR_DS_VALUE,
            " 1.50 \\-1.0E+03\\\\0.333333333333333",
        )
        .text(tags::SELECTOR_IS_VALUE, " 42\\-2147483648\\\\+7")
        .text(
            tags::SELECTOR_LT_VALUE,
            "Back\\slash, \"quotes\"\r\nand a second line",
        )
        .text(tags::SELECTOR_ST_VALUE, "  Leading spaces count")
        .text(tags::SELECTOR_PN_VALUE, "ESSAI^A^B^DR^III\\\\EXEMPLE==")
        .text(tags::SELECTOR_SH_VALUE, "one\\\\three")
        .text(tags::SELECTOR_DT_VALUE, "20260225101112.123456+0100")
        .text(tags::SELECTOR_TM_VALUE, "10\\1011\\101112.5")
        .text(tags::SELECTOR_UC_VALUE, "Unlimited\\characters ")
        .text(tags::SELECTOR_UR_VALUE, "https://example.org/objet?a=1%5C2")
        .text(tags::SELECTOR_UT_VALUE, long)
        .text(tags::PATIENT_AGE, "055Y")
        .text(tags::PATIENT_WEIGHT, "")
        .text(tags::OTHER_PATIENT_NAMES, "")
        .text(tags::INSTANCE_CREATOR_UID, "");
}

/// Eight levels of nesting, empty sequences and items, an icon with Pixel Data of its own.
fn sequences(dataset: &mut DataSet) {
    let mut inner = DataSet::new_empty();
    inner.text(tags::TEXT_VALUE, "Level 8");
    for level in (1..8).rev() {
        let mut outer = DataSet::new_empty();
        outer
            .text(tags::TEXT_VALUE, format!("Level {level}"))
            .sequence(tags::CONTENT_SEQUENCE, vec![inner, DataSet::new_empty()]);
        inner = outer;
    }
    dataset
        .sequence(tags::CONTENT_SEQUENCE, vec![inner])
        .sequence(tags::REFERENCED_STUDY_SEQUENCE, vec![])
        .sequence(tags::PROCEDURE_CODE_SEQUENCE, vec![DataSet::new_empty()])
        .item(tags::ICON_IMAGE_SEQUENCE, |icon| {
            icon.value(tags::SAMPLES_PER_PIXEL, 1_u16)
                .text(tags::PHOTOMETRIC_INTERPRETATION, "MONOCHROME2")
                .value(tags::ROWS, 4_u16)
                .value(tags::COLUMNS, 4_u16)
                .value(tags::BITS_ALLOCATED, 8_u16)
                .value(tags::BITS_STORED, 8_u16)
                .value(tags::HIGH_BIT, 7_u16)
                .value(tags::PIXEL_REPRESENTATION, 0_u16)
                .raw(tags::PIXEL_DATA, VR::OB, &[0x55; 16]);
        });
}

/// Sequences and items whose lengths are written out, and the same sequence under VR UN, whose items
/// are then in implicit VR (PS3.5 §6.2.2 note 4).
fn explicit_lengths(dataset: &mut DataSet) -> Result<(), Error> {
    let mut code = DataSet::new_empty();
    code.text(tags::CODE_VALUE, "T-D3000")
        .text(tags::CODING_SCHEME_DESIGNATOR, "SRT")
        .text(tags::CODE_MEANING, "Chest");
    let explicit = items(&code, &entries::EXPLICIT_VR_LITTLE_ENDIAN.erased())?;
    let implicit = items(&code, &entries::IMPLICIT_VR_LITTLE_ENDIAN.erased())?;
    dataset
        .raw(tags::ANATOMIC_REGION_SEQUENCE, VR::SQ, &explicit)
        .raw(Tag(0x0009, 0x0010), VR::LO, b"SAMPLES 1.0 ")
        .raw(Tag(0x0009, 0x1003), VR::UN, &implicit)
        .raw(tags::PROCEDURE_CODE_SEQUENCE, VR::UN, &implicit);
    Ok(())
}

/// Two items of explicit length, the second one empty.
fn items(
    item: &DataSet,
    transfer_syntax: &dicom_transfer_syntax_registry::TransferSyntax,
) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    item.write_dataset_with_ts(&mut content, transfer_syntax)
        .map_err(|error| Error::dicom("elements".as_ref(), error))?;
    let mut bytes = vec![0xFE, 0xFF, 0x00, 0xE0];
    bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&content);
    bytes.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0]);
    Ok(bytes)
}
