//! The DICOM JSON Model (PS3.18 annex F) read into a data set: Explicit VR Little Endian in UTF-8.
//!
//! What a server sends is taken generously: numbers as strings and strings as numbers, names as
//! plain strings, missing VRs. A value that its VR cannot hold is left out, and so is what stands
//! elsewhere (`BulkDataURI`). The structure is bounded.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::{Tag, VR};
use serde_json::{Map, Value};

use crate::dicom::charset::Repertoire;
use crate::dicom::walk::implicit_vr;
use crate::dicom::write::{put_element, put_item};

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
/// Sequences inside one another.
const MAX_DEPTH: usize = 32;
/// Attributes of one object, those in its sequences included.
const MAX_ATTRIBUTES: usize = 20_000;

/// Why a JSON text is not an object of the DICOM JSON Model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("the answer is not JSON")]
    NotJson,
    /// Not an object, or an attribute of it is not one.
    #[error("the JSON is no object with attributes of the DICOM JSON Model")]
    NotAnObject,
    /// A name that is no tag.
    #[error("the name of an attribute is not a tag of eight hexadecimal digits")]
    NotATag,
    /// Too many sequences inside one another, or too many attributes.
    #[error(
        "more than {MAX_DEPTH} sequences inside one another, or more than {MAX_ATTRIBUTES} attributes"
    )]
    TooLarge,
}

/// Reads one object.
///
/// The data set is in tag order and declares UTF-8 in (0008,0005). Groups 0000 and 0002 and group
/// lengths are left out.
///
/// # Errors
/// [`JsonError`].
pub fn read_object(json: &[u8]) -> Result<Vec<u8>, JsonError> {
    match serde_json::from_slice(json).map_err(|_| JsonError::NotJson)? {
        Value::Object(object) => data_set(&object),
        _ => Err(JsonError::NotAnObject),
    }
}

/// As [`read_object`], from JSON that was parsed.
///
/// # Errors
/// [`JsonError`].
pub fn data_set(object: &Map<String, Value>) -> Result<Vec<u8>, JsonError> {
    let mut reader = Reader { attributes: 0 };
    let mut out = Vec::with_capacity(1024);
    reader.object(&mut out, object, 0)?;
    Ok(out)
}

struct Reader {
    attributes: usize,
}

impl Reader {
    fn object(
        &mut self,
        out: &mut Vec<u8>,
        object: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooLarge);
        }
        let mut attributes: BTreeMap<Tag, Option<&Map<String, Value>>> = BTreeMap::new();
        for (name, attribute) in object {
            let tag = tag(name).ok_or(JsonError::NotATag)?;
            if tag.1 == 0 || tag.0 < 0x0008 {
                continue;
            }
            let attribute = attribute.as_object().ok_or(JsonError::NotAnObject)?;
            attributes.insert(tag, Some(attribute));
        }
        self.attributes += attributes.len();
        if self.attributes > MAX_ATTRIBUTES {
            return Err(JsonError::TooLarge);
        }
        if depth == 0 {
            attributes.insert(SPECIFIC_CHARACTER_SET, None);
        }
        for (tag, attribute) in attributes {
            match attribute {
                Some(attribute) if tag != SPECIFIC_CHARACTER_SET => {
                    self.attribute(out, tag, attribute, depth)?;
                }
                _ => put_element(out, tag, VR::CS, Repertoire::Utf8.term().as_bytes()),
            }
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        out: &mut Vec<u8>,
        tag: Tag,
        attribute: &Map<String, Value>,
        depth: usize,
    ) -> Result<(), JsonError> {
        let named = attribute.get("vr").and_then(Value::as_str);
        let vr = named.and_then(|name| name.parse().ok());
        let vr = vr.unwrap_or_else(|| implicit_vr(tag, false));
        let values = match attribute.get("Value") {
            Some(Value::Array(values)) => values.as_slice(),
            Some(Value::Null) | None => &[],
            // Some servers write a single value without its list.
            Some(value) => std::slice::from_ref(value),
        };
        let value = if vr == VR::SQ {
            self.items(values, depth)?
        } else if let Some(Value::String(text)) = attribute.get("InlineBinary") {
            STANDARD.decode(text).unwrap_or_default()
        } else {
            value_bytes(vr, values)
        };
        put_element(out, tag, vr, &value);
        Ok(())
    }

    fn items(&mut self, values: &[Value], depth: usize) -> Result<Vec<u8>, JsonError> {
        let mut items = Vec::new();
        for value in values {
            let mut item = Vec::new();
            match value {
                Value::Object(object) => self.object(&mut item, object, depth + 1)?,
                // An empty item (PS3.18 §F.2.5).
                Value::Null => {}
                _ => return Err(JsonError::NotAnObject),
            }
            put_item(&mut items, &item);
        }
        Ok(items)
    }
}

fn value_bytes(vr: VR, values: &[Value]) -> Vec<u8> {
    match vr {
        VR::US => numbers(values, |n| {
            u16::try_from(whole(n)?).ok().map(u16::to_le_bytes)
        }),
        VR::SS => numbers(values, |n| {
            i16::try_from(whole(n)?).ok().map(i16::to_le_bytes)
        }),
        VR::UL => numbers(values, |n| {
            u32::try_from(whole(n)?).ok().map(u32::to_le_bytes)
        }),
        VR::SL => numbers(values, |n| {
            i32::try_from(whole(n)?).ok().map(i32::to_le_bytes)
        }),
        VR::UV => numbers(values, |n| {
            u64::try_from(whole(n)?).ok().map(u64::to_le_bytes)
        }),
        VR::SV => numbers(values, |n| {
            i64::try_from(whole(n)?).ok().map(i64::to_le_bytes)
        }),
        // The nearest number of the VR is meant.
        #[expect(clippy::cast_possible_truncation, reason = "FL holds 32 bits")]
        VR::FL => numbers(values, |n| Some((decimal(n)? as f32).to_le_bytes())),
        VR::FD => numbers(values, |n| decimal(n).map(f64::to_le_bytes)),
        VR::AT => numbers(values, |n| {
            let Tag(group, element) = tag(n.as_str()?)?;
            let ([a, b], [c, d]) = (group.to_le_bytes(), element.to_le_bytes());
            Some([a, b, c, d])
        }),
        VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN | VR::SQ => Vec::new(),
        _ => {
            let texts: Vec<String> = values.iter().map(|value| text(vr, value)).collect();
            texts.join("\\").into_bytes()
        }
    }
}

fn numbers<const N: usize>(values: &[Value], bytes: impl Fn(&Value) -> Option<[u8; N]>) -> Vec<u8> {
    values.iter().filter_map(bytes).flatten().collect()
}

fn whole(value: &Value) -> Option<i128> {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from);
            whole
                .or_else(|| number.as_u64().map(i128::from))
                .or_else(|| {
                    // 12.0 is how some writers say 12; beyond 2⁵³ digits are lost anyway.
                    let number = number.as_f64().filter(|number| number.fract() == 0.0)?;
                    format!("{number:.0}").parse().ok()
                })
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn decimal(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// One value of a text VR; `null` is an empty one.
fn text(vr: VR, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Object(groups) if vr == VR::PN => {
            let group = |name| groups.get(name).and_then(Value::as_str).unwrap_or_default();
            let name = ["Alphabetic", "Ideographic", "Phonetic"]
                .map(group)
                .join("=");
            name.trim_end_matches('=').to_owned()
        }
        _ => String::new(),
    }
}

fn tag(name: &str) -> Option<Tag> {
    let digits = name.len() == 8 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u32::from_str_radix(name, 16).ok().filter(|_| digits)?;
    let [a, b, c, d] = number.to_be_bytes();
    Some(Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests;
