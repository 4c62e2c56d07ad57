#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dicom::json::{JsonOptions, write_object};
use crate::dicom::reader::{DataSet, Limits};
use crate::dicom::syntax::Encoding;

/// What the reading of `json` says when it is written again, without its character set.
fn again(json: &Value) -> Value {
    let bytes = read_object(json.to_string().as_bytes()).unwrap();
    let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
    let mut out = Vec::new();
    write_object(&mut out, set.elements(), &JsonOptions::default());
    let mut value: Value = serde_json::from_slice(&out).unwrap();
    let declared = value.as_object_mut().unwrap().remove("00080005").unwrap();
    assert_eq!(declared["Value"][0], "ISO_IR 192");
    value
}

#[test]
fn every_kind_of_value_is_the_same_once_read_and_written() {
    let object = json!({
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00080020": {"vr": "DA", "Value": ["20240131"]},
        "00080061": {"vr": "CS", "Value": ["CT", "SEG"]},
        "00100010": {"vr": "PN", "Value": [
            {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"},
            {"Phonetic": "C"}, null,
        ]},
        "00100020": {"vr": "LO", "Value": ["é\"/u"]},
        "00100040": {"vr": "CS"},
        "00180050": {"vr": "DS", "Value": [0.5, 12]},
        "00201208": {"vr": "IS", "Value": [42]},
        "00280010": {"vr": "US", "Value": [512, 65535]},
        "00280009": {"vr": "AT", "Value": ["00181063", "0018A001"]},
        "00189087": {"vr": "FD", "Value": [1000.25, -3.5]},
        "00081140": {"vr": "SQ", "Value": [
            {"00081155": {"vr": "UI", "Value": ["1.2.3"]},
             "0040A170": {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": ["Люк"]}}]}},
            {},
        ]},
        "00091010": {"vr": "OB", "InlineBinary": "AAEC/w=="},
        "7FE00001": {"vr": "UV", "Value": ["18446744073709551615", 7]},
        "00720082": {"vr": "SV", "Value": [-5]},
        "00720064": {"vr": "IS"},
        "00091011": {"vr": "SL", "Value": [-70000]},
        "00091012": {"vr": "SS", "Value": [-7]},
        "00091013": {"vr": "FL", "Value": [0.5]},
    });
    assert_eq!(again(&object), object);
}

#[test]
fn what_servers_write_otherwise_is_understood() {
    let object = json!({
        "00100010": {"vr": "PN", "Value": ["Doe^Jane"]},
        "00201208": {"vr": "IS", "Value": ["7"]},
        "00280010": {"vr": "US", "Value": ["512"]},
        "00280011": {"vr": "US", "Value": [256.0]},
        "00200011": {"Value": [3]},
        "00080060": {"vr": "CS", "Value": "CT"},
        "0020000d": {"vr": "UI", "Value": ["1.2"]},
    });
    let expected = json!({
        "00080060": {"vr": "CS", "Value": ["CT"]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]},
        "0020000D": {"vr": "UI", "Value": ["1.2"]},
        "00200011": {"vr": "IS", "Value": [3]},
        "00201208": {"vr": "IS", "Value": [7]},
        "00280010": {"vr": "US", "Value": [512]},
        "00280011": {"vr": "US", "Value": [256]},
    });
    assert_eq!(again(&object), expected);
}

#[test]
fn a_value_that_its_vr_cannot_hold_is_left_out() {
    let object = json!({
        "00280010": {"vr": "US", "Value": [70000, -1, "x", null, 1.5, {}]},
        "00280009": {"vr": "AT", "Value": ["+0181063", 3]},
        "00091010": {"vr": "OB", "InlineBinary": "***"},
        "7FE00010": {"vr": "OW", "BulkDataURI": "http://elsewhere/"},
        "00020010": {"vr": "UI", "Value": ["1.2"]},
        "00080000": {"vr": "UL", "Value": [3]},
    });
    let expected = json!({
        "00280010": {"vr": "US"},
        "00280009": {"vr": "AT"},
        "00091010": {"vr": "OB"},
        "7FE00010": {"vr": "OW"},
    });
    assert_eq!(again(&object), expected);
}

#[test]
fn what_is_no_object_or_too_large_is_refused() {
    for (text, error) in [
        ("", JsonError::NotJson),
        ("[", JsonError::NotJson),
        ("[]", JsonError::NotAnObject),
        (r#"{"00100010": 3}"#, JsonError::NotAnObject),
        (r#"{"PatientName": {"vr": "PN"}}"#, JsonError::NotATag),
        (
            r#"{"00081140": {"vr": "SQ", "Value": [3]}}"#,
            JsonError::NotAnObject,
        ),
    ] {
        assert_eq!(read_object(text.as_bytes()), Err(error), "{text}");
    }
    let mut deep = json!({});
    for _ in 0..=MAX_DEPTH {
        deep = json!({"00081140": {"vr": "SQ", "Value": [deep]}});
    }
    let Value::Object(deep) = deep else {
        unreachable!()
    };
    assert_eq!(data_set(&deep), Err(JsonError::TooLarge));
    let many: Map<String, Value> = (0..=MAX_ATTRIBUTES)
        .map(|at| (format!("{:08X}", 0x0009_0001 + at), json!({"vr": "LO"})))
        .collect();
    assert_eq!(data_set(&many), Err(JsonError::TooLarge));
}

/// An object of attributes with values that stay the same when they are read and written.
fn objects() -> impl Strategy<Value = Value> {
    // Spaces at either end mean nothing (PS3.5 §6.2).
    let text = "[a-zÀ-ÿ一-龠]([A-Za-zÀ-ÿ一-龠 ]{0,20}[a-z])?";
    let attribute = prop_oneof![
        vec(text, 1..4).prop_map(|values| json!({"vr": "LO", "Value": values})),
        vec(any::<u16>(), 1..4).prop_map(|values| json!({"vr": "US", "Value": values})),
        vec(any::<i32>(), 1..4).prop_map(|values| json!({"vr": "SL", "Value": values})),
        vec(
            any::<f32>().prop_filter("JSON has no others", |n| n.is_finite()),
            1..4
        )
        .prop_map(|values| {
            // With the digits that tell it from its neighbours of 32 bits, no more.
            let short = |n: f32| serde_json::to_string(&n).unwrap().parse().unwrap();
            let values: Vec<f64> = values.into_iter().map(short).collect();
            json!({"vr": "FL", "Value": values})
        }),
        vec(
            any::<f64>().prop_filter("JSON has no others", |n| n.is_finite()),
            1..4
        )
        .prop_map(|values| json!({"vr": "FD", "Value": values})),
        vec(text, 1..3).prop_map(|values| {
            let names: Vec<Value> = values
                .iter()
                .map(|name| json!({"Alphabetic": name, "Phonetic": name}))
                .collect();
            json!({"vr": "PN", "Value": names})
        }),
        Just(json!({"vr": "SH"})),
    ];
    let object = |attributes: Vec<(u16, Value)>| {
        let named = attributes.into_iter().map(|(element, attribute)| {
            // Private attributes: no VR of the dictionary stands behind them.
            (
                format!("0009{:04X}", 0x1000 | (element & 0x0FFF)),
                attribute,
            )
        });
        Value::Object(named.collect())
    };
    let leaf = vec((any::<u16>(), attribute.clone()), 0..6).prop_map(object);
    leaf.prop_recursive(4, 40, 4, move |inner| {
        let sequence = vec(inner, 1..3).prop_map(|items| json!({"vr": "SQ", "Value": items}));
        vec(
            (any::<u16>(), prop_oneof![attribute.clone(), sequence]),
            0..6,
        )
        .prop_map(object)
    })
}

proptest! {
    #[test]
    fn any_object_is_the_same_once_read_and_written(object in objects()) {
        let bytes = read_object(object.to_string().as_bytes()).unwrap();
        let set = DataSet::parse(&bytes, Encoding::ExplicitLittle, Limits::default()).unwrap();
        let mut out = Vec::new();
        write_object(&mut out, set.elements(), &JsonOptions::default());
        let mut written: Value = serde_json::from_slice(&out).unwrap();
        written.as_object_mut().unwrap().remove("00080005");
        prop_assert_eq!(written, object);
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text: String) {
        let _ = read_object(text.as_bytes());
        let _ = read_object(format!(r#"{{"00100010":{text}}}"#).as_bytes());
    }
}
