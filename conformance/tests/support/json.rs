//! What the DICOM JSON model (PS3.18 annex F) has to say of a data set, read by dicom-object.

use dicom_core::header::Header;
use dicom_core::value::{PrimitiveValue, Value};
use dicom_core::{Tag, VR};
use dicom_object::{InMemDicomObject, StandardDataDictionary};
use serde_json::{Map, Value as Json};

type Object = InMemDicomObject<StandardDataDictionary>;

/// Key of an attribute in the model.
pub fn key(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.group(), tag.element())
}

/// The values of an attribute; empty when it has none.
pub fn values(object: &Json, tag: Tag) -> Vec<Json> {
    let values = object
        .get(key(tag))
        .and_then(|attribute| attribute.get("Value"));
    values.and_then(Json::as_array).cloned().unwrap_or_default()
}

/// The first value of an attribute as text; empty when it has none.
pub fn text(object: &Json, tag: Tag) -> String {
    match values(object, tag).first() {
        Some(Json::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A person's name as one text, groups between `=`, as the data set has it.
pub fn name(object: &Json, tag: Tag) -> String {
    let value = values(object, tag).first().cloned().unwrap_or_default();
    let group = |name: &str| value.get(name).and_then(Json::as_str).unwrap_or_default();
    let groups = [group("Alphabetic"), group("Ideographic"), group("Phonetic")].join("=");
    groups.trim_end_matches('=').to_owned()
}

/// Bytes of the longest binary value that the model holds itself.
const INLINE_MAX: usize = 16 << 10;

/// Every attribute of the data set is in the model, and nothing else but what `extra` allows.
pub fn assert_model(stored: &Object, model: &Json, extra: &[Tag], which: &str) {
    // Pixel Data and its two relatives (PS3.5 §8): named by URL, though in an icon they are there.
    let pixels = [0x0008, 0x0009, 0x0010].map(|element| Tag(0x7FE0, element));
    for tag in pixels {
        let named = model.get(key(tag)).map(|attribute| {
            let uri = attribute["BulkDataURI"].as_str().unwrap_or_default();
            uri.ends_with(&format!("/bulkdata/{}", key(tag)))
        });
        let expected = stored.get(tag).map(|_| true);
        assert_eq!(named, expected, "{which}: {tag}");
    }
    assert_attributes(stored, model, extra, &pixels, which);
}

fn assert_attributes(stored: &Object, model: &Json, extra: &[Tag], bulk: &[Tag], which: &str) {
    let model = model.as_object().unwrap();
    let mut expected = 0;
    for element in stored.iter() {
        let tag = element.tag();
        // Group lengths and padding mean nothing.
        if bulk.contains(&tag) {
            continue;
        }
        if tag.element() == 0 || tag == Tag(0xFFFC, 0xFFFC) {
            assert!(
                !model.contains_key(&key(tag)),
                "{which}: {tag} is in the metadata"
            );
            continue;
        }
        expected += 1;
        let Some(attribute) = model.get(&key(tag)) else {
            panic!("{which}: {tag} is missing")
        };
        let attribute = attribute.as_object().unwrap();
        let vr = attribute["vr"].as_str().unwrap();
        if is_private_creator(tag) {
            // dicom-object takes (7FE1,0010) in implicit VR for one of the retired (7Fxx,0010).
            assert_eq!(vr, "LO", "{which}: {tag}");
            let creator = String::from_utf8(element.to_bytes().unwrap().into_owned()).unwrap();
            assert_eq!(
                text(&Json::Object(model.clone()), tag),
                trim(&creator),
                "{which}: {tag}"
            );
            continue;
        }
        assert!(
            vr == element.vr().to_string() || element.vr() == VR::UN || vr == "UN",
            "{which}: {tag} is {vr}, stored as {}",
            element.vr()
        );
        assert_attribute(
            element.value(),
            element.vr(),
            attribute,
            &format!("{which} {tag}"),
        );
    }
    let others = model.keys().filter(|name| {
        let known = stored.iter().any(|element| key(element.tag()) == **name);
        !known && !extra.iter().any(|tag| key(*tag) == **name)
    });
    assert_eq!(
        others.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "{which}: not in the data set"
    );
    assert!(expected > 0);
}

fn assert_attribute(
    value: &Value<Object, Vec<u8>>,
    vr: VR,
    attribute: &Map<String, Json>,
    which: &str,
) {
    let given = attribute
        .get("Value")
        .and_then(Json::as_array)
        .cloned()
        .unwrap_or_default();
    match value {
        Value::Sequence(sequence) => {
            if attribute["vr"] == "UN" {
                // A private sequence whose VR was lost on its way through implicit VR.
                assert!(attribute.contains_key("InlineBinary"), "{which}: no value");
                return;
            }
            assert_eq!(
                sequence.items().len(),
                given.len(),
                "{which}: number of items"
            );
            for (item, model) in sequence.items().iter().zip(&given) {
                if item.iter().next().is_none() {
                    assert_eq!(model.as_object().unwrap().len(), 0, "{which}: not empty");
                } else {
                    assert_attributes(item, model, &[], &[], which);
                }
            }
        }
        Value::PixelSequence(_) => panic!("{which}: pixels outside (7FE0,0010)"),
        Value::Primitive(PrimitiveValue::Empty) => {
            assert!(given.is_empty(), "{which}: a value where there is none");
            assert!(!attribute.contains_key("InlineBinary"), "{which}");
        }
        Value::Primitive(value) => assert_primitive(value, vr, attribute, &given, which),
    }
}

fn assert_primitive(
    value: &PrimitiveValue,
    vr: VR,
    attribute: &Map<String, Json>,
    given: &[Json],
    which: &str,
) {
    use VR::*;
    if attribute.contains_key("BulkDataURI") {
        let length = value.to_bytes().len();
        assert!(length > INLINE_MAX, "{which}: {length} bytes by URL");
        return;
    }
    match vr {
        OB | OD | OF | OL | OV | OW => {
            let inline = attribute.get("InlineBinary").and_then(Json::as_str);
            let inline = inline.unwrap_or_else(|| panic!("{which}: not in line: {attribute:?}"));
            assert_eq!(inline, base64(&value.to_bytes()), "{which}");
        }
        // What the data set's VR does not tell, a data dictionary may.
        UN => assert!(
            attribute.contains_key("InlineBinary") || attribute.contains_key("Value"),
            "{which}: no value"
        ),
        AT => {
            let PrimitiveValue::Tags(tags) = value else {
                panic!("{which}: {value:?}")
            };
            let tags: Vec<Json> = tags.iter().map(|tag| Json::String(key(*tag))).collect();
            assert_eq!(given, tags, "{which}");
        }
        US | SS | UL | SL | FL | FD | UV | SV | IS | DS => {
            let stored = value.to_multi_float64();
            let texts = value.to_multi_str();
            assert_eq!(given.len(), texts.len(), "{which}: number of values");
            for (at, given) in given.iter().enumerate() {
                if texts[at].trim().is_empty() {
                    assert!(given.is_null(), "{which}: a value where there is none");
                    continue;
                }
                let expected: f64 = match &stored {
                    Ok(stored) => stored[at],
                    Err(_) => texts[at].trim().parse().unwrap(),
                };
                if !expected.is_finite() {
                    assert!(!given.is_number(), "{which}: {given} for {expected}");
                    continue;
                }
                let number = match given {
                    Json::Number(number) => number.as_f64().unwrap(),
                    Json::String(text) => {
                        assert_eq!(text.trim(), text, "{which}: padding");
                        text.parse().unwrap()
                    }
                    other => panic!("{which}: {other}"),
                };
                // A single is written with as many digits as a single needs.
                let same = number == expected || vr == FL && number as f32 == expected as f32;
                assert!(same, "{which}: {number} for {expected}");
            }
        }
        PN => {
            let names = value.to_multi_str();
            assert_eq!(given.len(), names.len(), "{which}: number of names");
            for (given, stored) in given.iter().zip(names.iter()) {
                let groups = ["Alphabetic", "Ideographic", "Phonetic"];
                let given = groups.map(|group| given[group].as_str().unwrap_or_default());
                let stored = stored.trim_end();
                assert_eq!(
                    given.join("=").trim_end_matches('='),
                    stored.trim_end_matches('=')
                );
            }
        }
        _ => {
            let several = !matches!(vr, LT | ST | UT | UR);
            let stored: Vec<String> = if several {
                value
                    .to_multi_str()
                    .iter()
                    .map(|text| trim(text).to_owned())
                    .collect()
            } else {
                vec![trim(&value.to_str()).to_owned()]
            };
            if stored.iter().all(String::is_empty) {
                assert!(
                    given.iter().all(Json::is_null),
                    "{which}: a value where there is none"
                );
                return;
            }
            assert_eq!(given.len(), stored.len(), "{which}: number of values");
            for (given, stored) in given.iter().zip(&stored) {
                match given {
                    Json::Null => assert_eq!(stored, "", "{which}"),
                    Json::String(text) => {
                        assert_eq!(trim(text), stored, "{which}");
                        assert_eq!(text.trim_end_matches([' ', '\0']), text, "{which}: padding");
                    }
                    other => panic!("{which}: {other}"),
                }
            }
        }
    }
}

/// PS3.5 §7.8.1.
fn is_private_creator(tag: Tag) -> bool {
    tag.group() % 2 == 1 && (0x0010..=0x00FF).contains(&tag.element())
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\0'])
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = [0; 3];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, word[0], word[1], word[2]]);
        for at in 0..4 {
            let index = (bits >> (18 - 6 * at) & 63) as usize;
            text.push(if at <= chunk.len() {
                ALPHABET[index] as char
            } else {
                '='
            });
        }
    }
    text
}
