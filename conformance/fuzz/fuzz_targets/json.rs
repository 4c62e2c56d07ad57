//! A data set in explicit VR as DICOM JSON (PS3.18 annex F): always JSON, always of that form,
//! whatever the declared character set and the encoding of the text.
#![no_main]

use drimbox::dicom::charset::{CharacterSet, Repertoire};
use drimbox::dicom::json::{JsonOptions, write_object};
use drimbox::dicom::path::AttributePath;
use drimbox::dicom::reader::{DataSet, Limits};
use drimbox::dicom::syntax::Encoding;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    let Ok(set) = DataSet::parse(bytes, Encoding::ExplicitLittle, Limits::default()) else {
        return;
    };
    let replaces = CharacterSet::declared("ISO_IR 192", Repertoire::Latin1);
    let uri = |path: &AttributePath| format!("../bulkdata/{path}");
    let options = JsonOptions {
        fallback: [Repertoire::Latin1, Repertoire::Utf8, Repertoire::Gb18030]
            [usize::from(choice) % 3],
        charset_override: (choice & 0x10 != 0).then_some(&replaces),
        inline_max: usize::from(choice >> 5),
        bulk_uri: (choice & 8 != 0).then_some(&uri as &dyn Fn(&AttributePath) -> String),
        ..JsonOptions::default()
    };
    let mut json = Vec::new();
    write_object(&mut json, set.elements(), &options);
    let parsed: Value = serde_json::from_slice(&json)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&json)));
    check(parsed.as_object().expect("an object"));
});

/// Table F.2.2-1 and F.2.3-1.
fn check(object: &Map<String, Value>) {
    for (tag, attribute) in object {
        let digits = |c: char| c.is_ascii_digit() || ('A'..='F').contains(&c);
        assert!(tag.len() == 8 && tag.chars().all(digits), "{tag} is no tag");
        assert!(!tag.starts_with("0002"), "{tag} belongs to the file");
        let attribute = attribute.as_object().expect("an attribute");
        let vr = attribute["vr"].as_str().expect("a VR");
        assert_eq!(vr.len(), 2, "{tag}");
        let forms = ["Value", "BulkDataURI", "InlineBinary"];
        let given = forms.iter().filter(|form| attribute.contains_key(**form));
        assert!(given.count() <= 1, "{tag} has its value twice");
        assert!(
            attribute
                .keys()
                .all(|key| key == "vr" || forms.contains(&key.as_str())),
            "{tag} {attribute:?}"
        );
        let Some(values) = attribute.get("Value") else {
            continue;
        };
        let values = values.as_array().expect("a list of values");
        assert!(!values.is_empty(), "{tag}: an empty list instead of none");
        for value in values {
            let right = match (vr, value) {
                ("SQ", Value::Object(item)) => {
                    check(item);
                    true
                }
                // An empty value of several keeps its place (F.2.5).
                (vr, Value::Null) => vr != "SQ",
                ("PN", Value::Object(groups)) => {
                    let known = ["Alphabetic", "Ideographic", "Phonetic"];
                    groups.keys().all(|key| known.contains(&key.as_str()))
                }
                ("FL" | "FD" | "SL" | "SS" | "UL" | "US", value) => {
                    value.is_number() || value.is_string()
                }
                ("IS" | "DS" | "SV" | "UV", value) => value.is_number() || value.is_string(),
                (_, value) => value.is_string(),
            };
            assert!(right, "{tag} {vr}: {value}");
        }
    }
}
