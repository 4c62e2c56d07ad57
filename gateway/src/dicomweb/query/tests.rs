#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use proptest::prelude::*;

use super::*;
use crate::dicom::uid::Uid;

fn studies(raw: &str) -> Query {
    Query::parse(Level::Study, Scope::default(), raw).unwrap_or_else(|e| panic!("{raw}: {e}"))
}

fn refusal(raw: &str) -> QueryError {
    match Query::parse(Level::Study, Scope::default(), raw) {
        Err(error) => error,
        Ok(query) => panic!("{raw} was accepted as {query:?}"),
    }
}

fn key(path: &[Tag], vr: VR, value: Matching) -> Key {
    Key {
        path: path.to_vec(),
        vr,
        value,
    }
}

fn single(text: &str) -> Matching {
    Matching::SingleValue(text.to_owned())
}

fn uids(list: &[&str]) -> Matching {
    Matching::ListOfUid(list.iter().map(|uid| Uid::parse(uid).unwrap()).collect())
}

fn listed(paths: &[&[Tag]]) -> IncludeFields {
    IncludeFields::Listed(paths.iter().map(|path| path.to_vec()).collect())
}

#[test]
fn an_attribute_goes_by_keyword_or_tag() {
    let expected = [key(&[tags::PATIENT_ID], VR::LO, single("A 1"))];
    for raw in [
        "PatientID=A%201",
        "00100020=A%201",
        "PatientID=A+1",
        "Patient%49D=A%201&",
    ] {
        assert_eq!(studies(raw).keys, expected, "{raw}");
    }
    assert_eq!(
        studies("Modality=CT").keys,
        [key(&[tags::MODALITY], VR::CS, single("CT"))]
    );
    assert_eq!(
        studies("0020000d=1.2").keys,
        [key(&[tags::STUDY_INSTANCE_UID], VR::UI, uids(&["1.2"]))]
    );
}

#[test]
fn a_path_leads_into_sequences() {
    let path = [
        tags::REQUEST_ATTRIBUTES_SEQUENCE,
        tags::SCHEDULED_PROCEDURE_STEP_ID,
    ];
    let expected = [key(&path, VR::SH, single("42"))];
    assert_eq!(
        studies("RequestAttributesSequence.ScheduledProcedureStepID=42").keys,
        expected
    );
    assert_eq!(studies("00400275.00400009=42").keys, expected);
}

#[test]
fn a_path_through_something_else_is_refused() {
    let error = refusal("PatientID.Modality=CT");
    assert_eq!(
        error,
        QueryError::NotASequence {
            parameter: "PatientID.Modality".into()
        }
    );
    assert_eq!(
        refusal(&format!("{}=1", ["00400275"; 9].join("."))),
        QueryError::TooDeep
    );
}

#[test]
fn names_beyond_ascii_are_utf8() {
    let raw = "PatientName=LEF%C3%88VRE*";
    let expected = Matching::WildCard("LEFÈVRE*".into());
    assert_eq!(
        studies(raw).keys,
        [key(&[tags::PATIENT_NAME], VR::PN, expected)]
    );
    for broken in [
        "PatientName=LEF%C8VRE",
        "PatientName=%",
        "PatientName=%4",
        "PatientName=%zz",
        "%FF=1",
    ] {
        assert_eq!(refusal(broken), QueryError::Encoding, "{broken}");
    }
}

#[test]
fn lists_of_uids_come_in_every_form() {
    let expected = [key(
        &[tags::STUDY_INSTANCE_UID],
        VR::UI,
        uids(&["1.2", "1.3"]),
    )];
    for raw in [
        "StudyInstanceUID=1.2,1.3",
        "StudyInstanceUID=1.2%2C1.3",
        "StudyInstanceUID=1.2%5C1.3",
        "StudyInstanceUID=1.2&StudyInstanceUID=1.3",
        "StudyInstanceUID=1.2,1.3&0020000D=1.2",
    ] {
        assert_eq!(studies(raw).keys, expected, "{raw}");
    }
}

#[test]
fn two_values_for_one_attribute_contradict_each_other() {
    let error = refusal("PatientID=1&00100020=2");
    assert!(
        matches!(&error, QueryError::Value { parameter, repeated: true, .. } if parameter == "PatientID")
    );
    assert_eq!(studies("PatientID=1&PatientID=1").keys.len(), 1);
}

#[test]
fn a_plus_in_a_date_time_is_its_offset() {
    let raw = "AcquisitionDateTime=20240101120000+0100";
    let expected = single("20240101120000+0100");
    assert_eq!(
        studies(raw).keys,
        [key(&[tags::ACQUISITION_DATE_TIME], VR::DT, expected)]
    );
}

#[test]
fn an_empty_value_asks_for_the_attribute_only() {
    let query = studies("PatientBirthDate=&PatientID");
    assert_eq!(query.keys, []);
    assert_eq!(
        query.include,
        listed(&[&[tags::PATIENT_BIRTH_DATE], &[tags::PATIENT_ID]])
    );
}

#[test]
fn include_fields_come_in_every_form() {
    let expected = listed(&[&[tags::STUDY_DESCRIPTION], &[tags::PATIENT_BIRTH_DATE]]);
    for raw in [
        "includefield=StudyDescription,PatientBirthDate",
        "includefield=00081030%2C00100030",
        "includefield=StudyDescription&includefield=00100030",
        "includefield=StudyDescription,,00081030, PatientBirthDate,",
    ] {
        assert_eq!(studies(raw).include, expected, "{raw}");
    }
    assert_eq!(
        studies("includefield=RequestAttributesSequence.ScheduledProcedureStepID").include,
        listed(&[&[
            tags::REQUEST_ATTRIBUTES_SEQUENCE,
            tags::SCHEDULED_PROCEDURE_STEP_ID
        ]])
    );
    assert_eq!(
        studies("includefield=00091001").include,
        listed(&[&[Tag(9, 0x1001)]])
    );
    for raw in [
        "includefield=all",
        "includefield=all&includefield=PatientID",
        "includefield=PatientID,all",
    ] {
        assert_eq!(studies(raw).include, IncludeFields::All, "{raw}");
    }
    assert!(matches!(
        refusal("includefield=../etc"),
        QueryError::Value { .. }
    ));
}

#[test]
fn paging_and_fuzzy_matching_are_read() {
    let query = studies("limit=25&offset=50&fuzzymatching=true");
    assert_eq!(
        (query.limit, query.offset, query.fuzzy),
        (Some(25), 50, true)
    );
    let query = studies("");
    assert_eq!((query.limit, query.offset, query.fuzzy), (None, 0, false));
    assert_eq!(studies("limit=0").limit, Some(0));
    assert_eq!(studies("limit=5&limit=5").limit, Some(5));
}

#[test]
fn bad_values_are_refused_by_the_name_of_their_parameter() {
    let cases = [
        ("limit=abc", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=99999999999", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=1.5", "offset"),
        ("offset=+1", "offset"),
        ("fuzzymatching=yes", "fuzzymatching"),
        ("StudyDate=2024-01-01", "StudyDate"),
        ("00080020=2024*", "StudyDate"),
        ("StudyInstanceUID=1.2*", "StudyInstanceUID"),
        (
            "NumberOfStudyRelatedSeries=many",
            "NumberOfStudyRelatedSeries",
        ),
        ("RequestAttributesSequence=1", "RequestAttributesSequence"),
    ];
    for (raw, name) in cases {
        match refusal(raw) {
            QueryError::Value { parameter, .. } => assert_eq!(parameter, name, "{raw}"),
            other => panic!("{raw}: {other}"),
        }
    }
}

#[test]
fn a_refusal_does_not_repeat_the_value() {
    for raw in [
        "StudyDate=DUPONT",
        "PatientID=DUPONT%00",
        "PatientName=DUPONT%zz",
        "PatientID=DUPONT&PatientID=X",
    ] {
        let error = refusal(raw);
        let problem = Problem::from(error.clone());
        assert!(
            !format!("{error} {error:?} {problem:?}").contains("DUPONT"),
            "{raw}"
        );
    }
}

#[test]
fn what_is_not_known_is_left_out_and_told() {
    for raw in [
        "FutureKeyword=1",
        "00091001=1",
        "x=1",
        "00020010=1.2",
        "00000110=1",
        "includefield=FutureKeyword",
    ] {
        let query = studies(raw);
        assert!(query.ignored, "{raw}");
        assert_eq!(query.keys, [], "{raw}");
        assert_eq!(query.include, listed(&[]), "{raw}");
    }
    assert!(!studies("PatientID=1&accept=application/json&charset=utf-8").ignored);
}

#[test]
fn the_path_and_the_keys_hold_together() {
    let scope = Scope {
        study: Some(StudyUid::parse("1.2").unwrap()),
        series: Some(SeriesUid::parse("1.2.3").unwrap()),
    };
    let of = |raw| Query::parse(Level::Instance, scope.clone(), raw).unwrap();
    let query = of("StudyInstanceUID=1.2,1.9&SeriesInstanceUID=1.2.3&InstanceNumber=1");
    assert_eq!(
        query.keys,
        [key(&[tags::INSTANCE_NUMBER], VR::IS, single("1"))]
    );
    assert!(!query.nothing_matches);
    assert!(of("StudyInstanceUID=1.9").nothing_matches);
    assert!(of("SeriesInstanceUID=1.9").nothing_matches);
}

#[test]
fn a_wide_search_returns_the_levels_above_too() {
    let attributes = |level, scope| Query::parse(level, scope, "").unwrap().return_attributes();
    let study = Scope {
        study: StudyUid::parse("1.2").ok(),
        series: None,
    };
    let both = Scope {
        series: SeriesUid::parse("1.3").ok(),
        ..study.clone()
    };

    let wide = attributes(Level::Instance, Scope::default());
    for tag in [tags::PATIENT_NAME, tags::MODALITY, tags::ROWS] {
        assert!(wide.contains(&tag), "{tag:?}");
    }
    let in_study = attributes(Level::Instance, study);
    assert!(in_study.contains(&tags::MODALITY) && !in_study.contains(&tags::PATIENT_NAME));
    assert_eq!(
        attributes(Level::Instance, both),
        Level::Instance.return_attributes()
    );
}

#[test]
fn what_no_search_needs_is_refused() {
    assert_eq!(
        refusal(&format!("x={}", "y".repeat(MAX_BYTES))),
        QueryError::TooLong
    );
    assert_eq!(
        refusal(&"x=1&".repeat(MAX_PARAMETERS + 1)),
        QueryError::TooLong
    );
    let uids = vec!["1.2"; MAX_VALUES + 1].join(",");
    assert_eq!(studies(&format!("StudyInstanceUID={uids}")).keys.len(), 1);
    let uids: Vec<String> = (0..=MAX_VALUES).map(|n| format!("1.{n}")).collect();
    assert!(matches!(
        refusal(&format!("StudyInstanceUID={}", uids.join(","))),
        QueryError::Value { .. }
    ));
}

#[test]
fn the_accept_parameter_keeps_its_plus() {
    let of = |raw| accept_parameter(raw).unwrap();
    assert_eq!(of("PatientID=1"), None);
    assert_eq!(
        of("limit=1&accept=application/dicom+json"),
        Some("application/dicom+json".into())
    );
    assert_eq!(
        of("accept=application%2Fdicom%2Bjson"),
        Some("application/dicom+json".into())
    );
    assert_eq!(of("accept=a/b&accept=c/d"), Some("a/b,c/d".into()));
    assert_eq!(accept_parameter("accept=%ff"), Err(QueryError::Encoding));
}

#[test]
fn lists_of_codes_are_bounded_all_together() {
    let codes = |count: usize| {
        let codes: Vec<String> = (0..count).map(|n| format!("C{n}")).collect();
        codes.join(",")
    };
    assert_eq!(
        studies(&format!("ModalitiesInStudy={}", codes(32)))
            .keys
            .len(),
        1
    );
    for raw in [
        format!("ModalitiesInStudy={}", codes(33)),
        format!("ModalitiesInStudy={}&PatientSex={}", codes(12), codes(3)),
    ] {
        assert!(matches!(refusal(&raw), QueryError::Value { .. }), "{raw}");
    }
}

#[test]
fn forms_of_matching_that_are_optional_are_known_by_name() {
    let query = studies("emptyvaluematching=true&multiplevaluematching=true");
    assert!(query.empty_values && query.multiple_values && !query.ignored);
    let query = studies("emptyvaluematching=false");
    assert!(!query.empty_values && !query.multiple_values);
    assert!(matches!(
        refusal("emptyvaluematching=1"),
        QueryError::Value { .. }
    ));
}

/// A query string that means the query.
fn rebuilt(query: &Query) -> String {
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut parameters: Vec<String> = query
        .keys
        .iter()
        .map(|key| {
            format!(
                "{}={}",
                path_name(&key.path),
                encode(&key.value.to_identifier())
            )
        })
        .collect();
    match &query.include {
        IncludeFields::All => parameters.push("includefield=all".into()),
        IncludeFields::Listed(paths) => parameters.extend(
            paths
                .iter()
                .map(|path| format!("includefield={}", path_name(path))),
        ),
    }
    parameters.extend(query.limit.map(|limit| format!("limit={limit}")));
    parameters.push(format!("offset={}", query.offset));
    parameters.push(format!("fuzzymatching={}", query.fuzzy));
    parameters.push(format!("emptyvaluematching={}", query.empty_values));
    parameters.push(format!("multiplevaluematching={}", query.multiple_values));
    if query.ignored {
        parameters.push("notknown=1".into());
    }
    parameters.join("&")
}

fn parameter() -> impl Strategy<Value = String> {
    prop_oneof![
        "(PatientName|00100010|StudyDescription)=[A-Za-zÀ-ÿ^*?. ]{1,12}"
            .prop_map(|raw| raw.replace(' ', "+")),
        "(StudyDate|00080020)=2025010[1-9](-2025020[1-9])?",
        "StudyTime=(0[89](-1[0-9])?|-1[0-9]|1[0-9]-)",
        "(StudyInstanceUID|0020000d)=1\\.[1-9](,1\\.[1-9][0-9]|%5C1\\.3){0,3}",
        "ModalitiesInStudy=(CT|C\\*|CT,MR)",
        "(RequestAttributesSequence|00400275)\\.(00400009|RequestedProcedureID)=[A-Z0-9]{1,5}",
        "includefield=(all|StudyDescription|00400275\\.00400009|PatientAge,00100040|00091001)",
        "(limit|offset)=[0-9]{1,4}",
        "(fuzzymatching|emptyvaluematching|multiplevaluematching)=(true|false)",
        "unknown[a-z]{0,3}=[a-z0-9]{0,4}",
    ]
}

proptest! {
    #[test]
    fn a_query_that_is_written_again_is_the_same_query(
        parameters in prop::collection::vec(parameter(), 0..8),
    ) {
        let raw = parameters.join("&");
        let parse = |raw: &str| Query::parse(Level::Study, Scope::default(), raw);
        if let Ok(query) = parse(&raw) {
            let again = rebuilt(&query);
            prop_assert_eq!(parse(&again), Ok(query), "{} as {}", raw, again);
        }
    }

    #[test]
    fn no_text_makes_it_fail_otherwise_than_by_an_error(raw in "\\PC*") {
        let _ = Query::parse(Level::Series, Scope::default(), &raw);
        let _ = accept_parameter(&raw);
    }

    #[test]
    fn no_mix_of_its_own_signs_does_either(
        raw in "((PatientName|00100020|StudyDate|limit|includefield|%|00400275)(=|\\.|,|&|%2C|%5C|[0-9*-]{0,9})){0,12}",
    ) {
        let _ = Query::parse(Level::Instance, Scope::default(), &raw);
    }

    #[test]
    fn a_text_reaches_the_key_as_it_was_meant(text in "[A-Za-zÀ-ÿ0-9^=&+% ,.-]{1,40}") {
        let text = text.trim_matches(' ');
        prop_assume!(!text.is_empty());
        let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        let query = studies(&format!("PatientName={encoded}"));
        prop_assert_eq!(query.keys, vec![key(&[tags::PATIENT_NAME], VR::PN, single(text))]);
    }
}
