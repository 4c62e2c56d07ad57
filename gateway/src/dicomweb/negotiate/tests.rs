#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use super::*;
use proptest::prelude::*;

const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
const JPEG: &str = "1.2.840.10008.1.2.4.50";
const JPEG_2000: &str = "1.2.840.10008.1.2.4.90";
const RLE: &str = "1.2.840.10008.1.2.5";
const VIDEO: &str = "1.2.840.10008.1.2.4.102";
const IMPLICIT: &str = "1.2.840.10008.1.2";
const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

fn uid(text: &str) -> TransferSyntaxUid {
    TransferSyntaxUid::parse(text).unwrap()
}

fn instances(accept: &str, unnamed: Unnamed) -> Result<InstanceEncoding, NotAcceptable> {
    negotiate_instances(
        &Accept::parse([accept]).unwrap(),
        Retrieved::Instance,
        unnamed,
    )
}

fn part(accept: &str, stored: &str) -> Option<Delivery> {
    instances(accept, Unnamed::default())
        .unwrap()
        .part(&uid(stored))
}

/// Transcoded to the first of these that fits.
fn transcoded(targets: &[&str]) -> Option<Delivery> {
    Some(Delivery::Transcoded(
        targets.iter().map(|target| uid(target)).collect(),
    ))
}

fn dicom(parameters: &str) -> String {
    format!("multipart/related; type=\"application/dicom\"{parameters}")
}

#[test]
fn a_star_gives_what_is_stored() {
    let any = dicom("; transfer-syntax=*");
    assert_eq!(part(&any, JPEG_LS), Some(Delivery::AsStored));
    assert_eq!(
        part(&any, EXPLICIT_VR_LITTLE_ENDIAN),
        Some(Delivery::AsStored)
    );
    assert_eq!(part(&any, DEFLATED), Some(Delivery::AsStored));
}

#[test]
fn syntaxes_not_meant_for_the_web_are_written_again() {
    for stored in [IMPLICIT, BIG_ENDIAN] {
        for accept in [
            "*/*",
            &dicom("; transfer-syntax=*"),
            &dicom("; transfer-syntax=1.2.840.10008.1.2.1"),
        ] {
            let delivery = part(accept, stored);
            assert_eq!(
                delivery,
                Some(Delivery::ExplicitVrLittleEndian),
                "{accept} {stored}"
            );
        }
        assert_eq!(
            part(&dicom(&format!("; transfer-syntax={stored}")), stored),
            None
        );
    }
}

#[test]
fn a_list_admits_the_syntaxes_it_names_and_no_other() {
    let list = [JPEG_LS, EXPLICIT_VR_LITTLE_ENDIAN]
        .map(|syntax| dicom(&format!("; transfer-syntax={syntax}; q=0.5")))
        .join(", ");
    assert_eq!(part(&list, JPEG_LS), Some(Delivery::AsStored));
    assert_eq!(
        part(&list, DEFLATED),
        Some(Delivery::ExplicitVrLittleEndian)
    );
    assert_eq!(
        part(&list, JPEG),
        transcoded(&[JPEG_LS, EXPLICIT_VR_LITTLE_ENDIAN])
    );
    assert_eq!(part(&list, VIDEO), None);
}

#[test]
fn a_compressed_image_is_decoded_for_a_client_that_wants_it_plain() {
    let plain = dicom("; transfer-syntax=1.2.840.10008.1.2.1");
    for stored in [JPEG, JPEG_LS, JPEG_2000, RLE] {
        let decoded = transcoded(&[EXPLICIT_VR_LITTLE_ENDIAN]);
        assert_eq!(part(&plain, stored), decoded, "{stored}");
    }
    assert_eq!(part(&plain, VIDEO), None);
}

#[test]
fn of_the_syntaxes_that_can_be_made_the_greatest_weight_is_tried_first() {
    let list = format!(
        "{}, {}, {}",
        dicom("; transfer-syntax=1.2.840.10008.1.2.1; q=0.4"),
        dicom(&format!("; transfer-syntax={JPEG_LS}; q=0.8")),
        dicom("; transfer-syntax=1.2.840.10008.1.2.4.70; q=0.9"),
    );
    let targets = transcoded(&[JPEG_LS, EXPLICIT_VR_LITTLE_ENDIAN]);
    assert_eq!(part(&list, JPEG_2000), targets);
}

#[test]
fn of_equal_weights_the_order_of_the_client_decides_on_what_is_made() {
    const EXPLICIT: &str = EXPLICIT_VR_LITTLE_ENDIAN;
    for (order, made) in [
        (vec![EXPLICIT, JPEG_LS, RLE], vec![EXPLICIT, JPEG_LS, RLE]),
        (vec![RLE, JPEG_LS, EXPLICIT], vec![RLE, JPEG_LS, EXPLICIT]),
        (vec![JPEG_LS, EXPLICIT], vec![JPEG_LS, EXPLICIT]),
        // No parameter means Explicit VR Little Endian.
        (vec![RLE, "", JPEG_LS], vec![RLE, EXPLICIT, JPEG_LS]),
        // Only what a wildcard admits comes after what is named.
        (vec!["*", RLE], vec![RLE, EXPLICIT, JPEG_LS]),
        // Loss is never a matter of order.
        (vec![JPEG, RLE], vec![RLE, JPEG]),
    ] {
        let entries = order.iter().map(|syntax| match *syntax {
            "" => dicom("; q=0.5"),
            syntax => dicom(&format!("; q=0.5; transfer-syntax={syntax}")),
        });
        let mut list = entries.collect::<Vec<_>>().join(", ");
        if order.contains(&"*") {
            // What is stored would be sent as it is.
            list += &format!(
                ", {}",
                dicom(&format!("; q=0; transfer-syntax={JPEG_2000}"))
            );
        }
        assert_eq!(part(&list, JPEG_2000), transcoded(&made), "{list}");
    }
    // What is stored goes as it is, wherever the client names it.
    let last = [EXPLICIT, RLE, JPEG_2000].map(|uid| dicom(&format!("; transfer-syntax={uid}")));
    assert_eq!(part(&last.join(", "), JPEG_2000), Some(Delivery::AsStored));
}

#[test]
fn pixels_are_lost_only_for_a_client_that_names_a_lossy_syntax() {
    let named = dicom(&format!("; transfer-syntax={JPEG}"));
    assert_eq!(part(&named, JPEG_LS), transcoded(&[JPEG]));
    let both = format!(
        "{named}, {}",
        dicom("; transfer-syntax=1.2.840.10008.1.2.5")
    );
    assert_eq!(part(&both, JPEG_LS), transcoded(&[RLE, JPEG]));
    let not_stored = dicom(&format!("; transfer-syntax={JPEG_LS}; q=0"));
    let any = format!("{not_stored}, {}", dicom("; transfer-syntax=*"));
    assert_eq!(
        part(&any, JPEG_LS),
        transcoded(&[EXPLICIT_VR_LITTLE_ENDIAN, RLE])
    );
}

#[test]
fn as_stored_wins_over_a_greater_weight_of_another_syntax() {
    let list = format!(
        "{}, {}",
        dicom("; transfer-syntax=1.2.840.10008.1.2.1; q=1"),
        dicom("; transfer-syntax=*; q=0.1")
    );
    assert_eq!(part(&list, DEFLATED), Some(Delivery::AsStored));
}

#[test]
fn a_weight_of_zero_excludes_even_under_a_star() {
    let list = format!(
        "{}, {}",
        dicom("; transfer-syntax=*"),
        dicom(&format!("; transfer-syntax={JPEG}; q=0"))
    );
    assert_eq!(
        part(&list, JPEG),
        transcoded(&[EXPLICIT_VR_LITTLE_ENDIAN, JPEG_LS, RLE])
    );
    assert_eq!(part(&list, JPEG_LS), Some(Delivery::AsStored));
    assert_eq!(
        instances(&dicom("; transfer-syntax=*; q=0"), Unnamed::default()),
        Err(NotAcceptable::Instances)
    );
}

#[test]
fn a_precise_range_says_more_than_a_wide_one() {
    let refused = format!("*/*, {}", dicom("; q=0"));
    let encoding = instances(&refused, Unnamed::AsStored).unwrap();
    assert_eq!(encoding.part(&uid(JPEG_LS)), None);
    assert_eq!(
        encoding.single(&uid(JPEG_LS)),
        Some((Form::SinglePart, Delivery::AsStored))
    );
}

#[test]
fn without_a_named_syntax_the_policy_decides() {
    for accept in [
        "",
        "*/*",
        "multipart/related",
        "multipart/*",
        &dicom(""),
        "multipart/related; type=\"*/*\"",
    ] {
        let lenient = instances(accept, Unnamed::AsStored).unwrap();
        let stored = lenient.part(&uid(JPEG_LS));
        assert_eq!(stored, Some(Delivery::AsStored), "{accept}");
        let strict = instances(accept, Unnamed::ExplicitVrLittleEndian).unwrap();
        let decoded = transcoded(&[EXPLICIT_VR_LITTLE_ENDIAN]);
        assert_eq!(strict.part(&uid(JPEG_LS)), decoded, "{accept}");
        let video = strict.part(&uid(VIDEO));
        assert_eq!(video, Some(Delivery::AsStored), "{accept}");
        let plain = strict.part(&uid(EXPLICIT_VR_LITTLE_ENDIAN));
        assert_eq!(plain, Some(Delivery::AsStored), "{accept}");
        let implicit = strict.part(&uid(IMPLICIT));
        assert_eq!(implicit, Some(Delivery::ExplicitVrLittleEndian), "{accept}");
    }
}

#[test]
fn one_instance_may_be_a_body_of_its_own() {
    let of = |accept| {
        instances(accept, Unnamed::AsStored)
            .unwrap()
            .single(&uid(JPEG_LS))
    };
    let as_stored = |form| Some((form, Delivery::AsStored));
    assert_eq!(of("application/dicom"), as_stored(Form::SinglePart));
    assert_eq!(
        of("application/dicom; transfer-syntax=*"),
        as_stored(Form::SinglePart)
    );
    assert_eq!(
        of("application/dicom; transfer-syntax=1.2.840.10008.1.2.1"),
        transcoded(&[EXPLICIT_VR_LITTLE_ENDIAN]).map(|delivery| (Form::SinglePart, delivery))
    );
    assert_eq!(of("*/*"), as_stored(Form::Multipart));
    assert_eq!(
        of("application/dicom; q=0.9, */*; q=0.1"),
        as_stored(Form::SinglePart)
    );
    assert_eq!(
        of("application/dicom; q=0.1, multipart/related; q=0.9"),
        as_stored(Form::Multipart)
    );
}

#[test]
fn several_instances_are_never_a_single_part() {
    let accept = Accept::parse(["application/dicom"]).unwrap();
    assert_eq!(
        negotiate_instances(&accept, Retrieved::Several, Unnamed::default()),
        Err(NotAcceptable::Instances)
    );
}

#[test]
fn what_this_service_does_not_make_is_not_acceptable() {
    for accept in [
        "image/jpeg",
        "application/dicom+json",
        "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
        "multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.80",
    ] {
        let outcome = instances(accept, Unnamed::default());
        assert_eq!(outcome, Err(NotAcceptable::Instances), "{accept}");
    }
}

#[test]
fn a_refusal_lists_what_can_be_had_once_each() {
    let stored = [uid(JPEG_LS), uid(VIDEO), uid(JPEG_LS)];
    let text = NotAcceptable::transfer_syntax(&stored).to_string();
    let list = format!("({EXPLICIT_VR_LITTLE_ENDIAN}, {VIDEO}, {JPEG}, {JPEG_LS}, {RLE})");
    assert!(text.contains(&list), "{text}");
}

#[test]
fn json_is_given_under_the_name_that_was_asked() {
    let of = |accept: &str| negotiate_model(&Accept::parse([accept]).unwrap());
    for accept in [
        "",
        "*/*",
        "application/*",
        "application/dicom+json",
        "application/json, application/dicom+json",
        "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
        "text/html, application/xml;q=0.9, */*;q=0.8",
        "multipart/related; type=\"application/dicom+xml\", application/dicom+json",
    ] {
        assert_eq!(of(accept), Ok(ModelType::DicomJson), "{accept}");
    }
    assert_eq!(of("application/json"), Ok(ModelType::Json));
    assert_eq!(
        of("application/json, application/dicom+json; q=0.5"),
        Ok(ModelType::Json)
    );
    assert_eq!(of("application/dicom+json; q=0, */*"), Ok(ModelType::Json));
}

#[test]
fn xml_is_given_to_who_prefers_it() {
    let of = |accept: &str| negotiate_model(&Accept::parse([accept]).unwrap());
    let xml = "multipart/related; type=\"application/dicom+xml\"";
    for accept in [
        xml,
        "multipart/related; type=application/dicom+xml; boundary=x",
        "application/dicom+xml",
        "multipart/related",
        &format!("{xml}, application/dicom+json; q=0.1"),
    ] {
        assert_eq!(of(accept), Ok(ModelType::Xml), "{accept}");
    }
    for accept in [
        "application/dicom+json; q=0",
        "image/png",
        "multipart/related; type=\"application/dicom\"",
        &format!("{xml}; q=0"),
    ] {
        assert_eq!(of(accept), Err(NotAcceptable::Model), "{accept}");
    }
}

#[test]
fn a_value_is_a_part_unless_the_bare_value_is_preferred() {
    let of = |accept: &str| negotiate_bulk(&Accept::parse([accept]).unwrap());
    for accept in [
        "",
        "*/*",
        "multipart/related; type=\"application/octet-stream\"",
        "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*",
        "multipart/related; type=\"*/*\", application/octet-stream; q=0.5",
    ] {
        assert_eq!(of(accept), Ok(BulkForm::Multipart), "{accept}");
    }
    for accept in [
        "application/octet-stream",
        "application/octet-stream, */*; q=0.1",
        "application/*",
    ] {
        assert_eq!(of(accept), Ok(BulkForm::SinglePart), "{accept}");
    }
    for accept in [
        "image/jpeg",
        "multipart/related; type=\"image/jls\"",
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.80",
    ] {
        assert_eq!(of(accept), Err(NotAcceptable::Octets), "{accept}");
    }
}

proptest! {
    /// Whatever is asked, nothing is promised but what is stored, what can be made, and what was
    /// named.
    #[test]
    fn nothing_is_promised_that_was_not_accepted(
        entries in proptest::collection::vec(
            (0..5_usize, 0..5_usize, 0..=10_u16), 0..8,
        ),
    ) {
        let media = ["*/*", "multipart/related", "application/dicom",
            "multipart/related; type=\"application/dicom\"", "application/*"];
        let syntaxes = ["", "; transfer-syntax=*", "; transfer-syntax=1.2.840.10008.1.2.1",
            "; transfer-syntax=1.2.840.10008.1.2.4.80", "; transfer-syntax=1.2.840.10008.1.2"];
        let line = entries.iter()
            .map(|(m, s, q)| format!("{}{}; q={}.{}", media[*m], syntaxes[*s], q / 10, q % 10))
            .collect::<Vec<_>>()
            .join(", ");
        if let Ok(encoding) = instances(&line, Unnamed::default()) {
            let delivery = encoding.single(&uid(JPEG_LS)).map(|(_, delivery)| delivery);
            if let Some(Delivery::Transcoded(targets)) = delivery {
                let explicit = uid(EXPLICIT_VR_LITTLE_ENDIAN);
                prop_assert!(line.contains('*') || targets.iter().all(|t| *t == explicit));
                prop_assert!(!targets.is_empty() && !targets.contains(&uid(JPEG)));
            }
            let delivery = encoding.part(&uid(IMPLICIT));
            prop_assert!(delivery != Some(Delivery::AsStored));
            let delivery = encoding.part(&uid(VIDEO));
            prop_assert!(matches!(delivery, None | Some(Delivery::AsStored)));
        }
    }
}
