//! The Native DICOM Model as XML (PS3.19 §A.1), from the DICOM JSON model.
//!
//! Both say the same of a data set (PS3.18 §F.2): what is decided about values (character sets, VR,
//! bulk data) is decided once, where the JSON is written.

use std::io::{Cursor, Write};

use dicom_core::Tag;
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_dictionary_std::StandardDataDictionary;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesRef, BytesStart, BytesText, Event};
use serde_json::{Map, Value};

const NAMESPACE: &str = "http://dicom.nema.org/PS3.19/models/NativeDICOM";
/// The components of a name, in their order (PS3.5 §6.2.1).
const COMPONENTS: [&str; 5] = [
    "FamilyName",
    "GivenName",
    "MiddleName",
    "NamePrefix",
    "NameSuffix",
];

/// Why a document could not be made.
#[derive(Debug, thiserror::Error)]
pub enum XmlError {
    /// What was given is not an object of the DICOM JSON model.
    #[error("not an object of the DICOM JSON model")]
    NotDicomJson,
    /// The document could not be written.
    #[error("the XML document cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

/// The document that says what a DICOM JSON object says.
///
/// # Errors
/// [`XmlError`].
pub fn from_json(object: &[u8]) -> Result<Vec<u8>, XmlError> {
    let object: Value = serde_json::from_slice(object).map_err(|_| XmlError::NotDicomJson)?;
    let object = object.as_object().ok_or(XmlError::NotDicomJson)?;
    let mut writer = Writer::new(Cursor::new(Vec::with_capacity(16 << 10)));
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let root = BytesStart::new("NativeDicomModel")
        .with_attributes([("xmlns", NAMESPACE), ("xml:space", "preserve")]);
    writer.write_event(Event::Start(root))?;
    data_set(&mut writer, object)?;
    writer.write_event(Event::End(BytesEnd::new("NativeDicomModel")))?;
    Ok(writer.into_inner().into_inner())
}

fn data_set<W: Write>(writer: &mut Writer<W>, object: &Map<String, Value>) -> Result<(), XmlError> {
    for (name, attribute) in object {
        let number = u32::from_str_radix(name, 16).map_err(|_| XmlError::NotDicomJson)?;
        let [g0, g1, e0, e1] = number.to_be_bytes();
        let tag = Tag(u16::from_be_bytes([g0, g1]), u16::from_be_bytes([e0, e1]));
        let attribute = attribute.as_object().ok_or(XmlError::NotDicomJson)?;
        let vr = attribute.get("vr").and_then(Value::as_str);
        let mut start = BytesStart::new("DicomAttribute");
        match private_creator(object, tag) {
            // The block is not part of the name of a private attribute.
            Some(creator) => {
                start.push_attribute((
                    "tag",
                    format!("{:04X}00{:02X}", tag.0, tag.1 & 0xFF).as_str(),
                ));
                push(&mut start, "vr", vr.unwrap_or("UN"));
                push(&mut start, "privateCreator", creator);
            }
            None => {
                push(&mut start, "tag", name);
                push(&mut start, "vr", vr.unwrap_or("UN"));
                if let Some(entry) = StandardDataDictionary.by_tag(tag)
                    && tag.0.is_multiple_of(2)
                {
                    push(&mut start, "keyword", entry.alias());
                }
            }
        }
        writer.write_event(Event::Start(start))?;
        content(writer, attribute)?;
        writer.write_event(Event::End(BytesEnd::new("DicomAttribute")))?;
    }
    Ok(())
}

/// The owner of the block that a private attribute is in (PS3.5 §7.8.1).
fn private_creator(object: &Map<String, Value>, tag: Tag) -> Option<&str> {
    if tag.0.is_multiple_of(2) || tag.1 < 0x1000 {
        return None;
    }
    object
        .get(&format!("{:04X}00{:02X}", tag.0, tag.1 >> 8))?
        .get("Value")?
        .get(0)?
        .as_str()
}

fn content<W: Write>(
    writer: &mut Writer<W>,
    attribute: &Map<String, Value>,
) -> Result<(), XmlError> {
    if let Some(binary) = attribute.get("InlineBinary").and_then(Value::as_str) {
        return text(writer, BytesStart::new("InlineBinary"), binary);
    }
    if let Some(uri) = attribute.get("BulkDataURI").and_then(Value::as_str) {
        let mut bulk = BytesStart::new("BulkData");
        push(&mut bulk, "uri", uri);
        writer.write_event(Event::Empty(bulk))?;
        return Ok(());
    }
    let Some(values) = attribute.get("Value").and_then(Value::as_array) else {
        return Ok(());
    };
    let is = |vr: &str| attribute.get("vr").and_then(Value::as_str) == Some(vr);
    for (at, value) in values.iter().enumerate() {
        let number = (at + 1).to_string();
        let numbered = |name| {
            let mut start = BytesStart::new(name);
            push(&mut start, "number", &number);
            start
        };
        match value {
            Value::Null => {}
            Value::Object(item) if is("SQ") => {
                writer.write_event(Event::Start(numbered("Item")))?;
                data_set(writer, item)?;
                writer.write_event(Event::End(BytesEnd::new("Item")))?;
            }
            Value::Object(name) => {
                writer.write_event(Event::Start(numbered("PersonName")))?;
                person_name(writer, name)?;
                writer.write_event(Event::End(BytesEnd::new("PersonName")))?;
            }
            Value::String(value) => text(writer, numbered("Value"), value)?,
            value => text(writer, numbered("Value"), &value.to_string())?,
        }
    }
    Ok(())
}

fn person_name<W: Write>(
    writer: &mut Writer<W>,
    name: &Map<String, Value>,
) -> Result<(), XmlError> {
    for group in ["Alphabetic", "Ideographic", "Phonetic"] {
        let Some(value) = name.get(group).and_then(Value::as_str) else {
            continue;
        };
        writer.write_event(Event::Start(BytesStart::new(group)))?;
        for (component, value) in COMPONENTS.iter().zip(value.splitn(5, '^')) {
            if !value.is_empty() {
                text(writer, BytesStart::new(*component), value)?;
            }
        }
        writer.write_event(Event::End(BytesEnd::new(group)))?;
    }
    Ok(())
}

fn text<W: Write>(
    writer: &mut Writer<W>,
    start: BytesStart<'_>,
    value: &str,
) -> Result<(), XmlError> {
    let end = start.to_end().into_owned();
    writer.write_event(Event::Start(start.borrow()))?;
    for (at, line) in representable(value).split('\r').enumerate() {
        // A reader makes line feeds of those that stand as they are (XML 1.0 §2.11).
        if at > 0 {
            writer.write_event(Event::GeneralRef(BytesRef::new("#13")))?;
        }
        writer.write_event(Event::Text(BytesText::new(line)))?;
    }
    writer.write_event(Event::End(end))?;
    Ok(())
}

fn push(start: &mut BytesStart<'_>, name: &str, value: &str) {
    start.push_attribute((name, representable(value).as_ref()));
}

/// Without the characters that XML 1.0 cannot hold, each replaced.
fn representable(text: &str) -> std::borrow::Cow<'_, str> {
    let is_foreign = |c: char| {
        (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{FFFE}' | '\u{FFFF}')
    };
    if text.contains(is_foreign) {
        text.replace(is_foreign, "\u{FFFD}").into()
    } else {
        text.into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn document(object: &Value) -> String {
        String::from_utf8(from_json(object.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn attribute(object: &Value) -> String {
        let document = document(object);
        let from = document.find("<DicomAttribute").unwrap();
        let to = document.rfind("</NativeDicomModel>").unwrap();
        document.get(from..to).unwrap().to_owned()
    }

    #[test]
    fn the_document_names_its_model() {
        assert_eq!(
            document(&json!({})),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><NativeDicomModel \
             xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">\
             </NativeDicomModel>"
        );
    }

    #[test]
    fn values_are_numbered_and_empty_ones_leave_a_gap() {
        assert_eq!(
            attribute(&json!({"00080008": {"vr": "CS", "Value": ["ORIGINAL", null, "A&B"]}})),
            "<DicomAttribute tag=\"00080008\" vr=\"CS\" keyword=\"ImageType\">\
             <Value number=\"1\">ORIGINAL</Value><Value number=\"3\">A&amp;B</Value>\
             </DicomAttribute>"
        );
        assert_eq!(
            attribute(&json!({"00280010": {"vr": "US", "Value": [512]}})),
            "<DicomAttribute tag=\"00280010\" vr=\"US\" keyword=\"Rows\">\
             <Value number=\"1\">512</Value></DicomAttribute>"
        );
        assert_eq!(
            attribute(&json!({"00100020": {"vr": "LO"}})),
            "<DicomAttribute tag=\"00100020\" vr=\"LO\" keyword=\"PatientID\"></DicomAttribute>"
        );
    }

    #[test]
    fn a_name_has_groups_and_components() {
        assert_eq!(
            attribute(&json!({"00100010": {"vr": "PN", "Value": [
                {"Alphabetic": "Yamada^Tarou^^Dr", "Ideographic": "山田^太郎"}]}})),
            "<DicomAttribute tag=\"00100010\" vr=\"PN\" keyword=\"PatientName\">\
             <PersonName number=\"1\"><Alphabetic><FamilyName>Yamada</FamilyName>\
             <GivenName>Tarou</GivenName><NamePrefix>Dr</NamePrefix></Alphabetic>\
             <Ideographic><FamilyName>山田</FamilyName><GivenName>太郎</GivenName></Ideographic>\
             </PersonName></DicomAttribute>"
        );
    }

    #[test]
    fn items_and_binary_values_have_elements_of_their_own() {
        let item = json!({"00081140": {"vr": "SQ", "Value": [
            {"00081155": {"vr": "UI", "Value": ["1.2"]}}, {}]}});
        assert_eq!(
            attribute(&item),
            "<DicomAttribute tag=\"00081140\" vr=\"SQ\" keyword=\"ReferencedImageSequence\">\
             <Item number=\"1\"><DicomAttribute tag=\"00081155\" vr=\"UI\" \
             keyword=\"ReferencedSOPInstanceUID\"><Value number=\"1\">1.2</Value></DicomAttribute>\
             </Item><Item number=\"2\"></Item></DicomAttribute>"
        );
        let inline = attribute(&json!({"00281201": {"vr": "OW", "InlineBinary": "AAA="}}));
        assert!(
            inline.contains("><InlineBinary>AAA=</InlineBinary><"),
            "{inline}"
        );
        let bulk = attribute(&json!({"7FE00010": {"vr": "OW", "BulkDataURI": "http://a/b?c&d"}}));
        assert!(
            bulk.contains("><BulkData uri=\"http://a/b?c&amp;d\"/><"),
            "{bulk}"
        );
    }

    #[test]
    fn a_private_attribute_is_named_by_its_creator() {
        let private = attribute(&json!({
            "00090010": {"vr": "LO", "Value": ["ACME 1.0"]},
            "00091004": {"vr": "LO", "Value": ["x"]}}));
        assert!(
            private.contains(
                "<DicomAttribute tag=\"00090004\" vr=\"LO\" privateCreator=\"ACME 1.0\">"
            ),
            "{private}"
        );
    }

    #[test]
    fn characters_that_xml_cannot_hold_are_replaced() {
        let object = json!({"00104000": {"vr": "LT", "Value": ["a\u{b}b\nc"]}});
        assert!(attribute(&object).contains(">a\u{FFFD}b\nc<"));
    }

    #[test]
    fn carriage_returns_outlive_a_reader() {
        let object = json!({"00104000": {"vr": "LT", "Value": ["a\r\n<b>\r"]}});
        assert!(attribute(&object).contains(">a&#13;\n&lt;b&gt;&#13;<"));
    }

    #[test]
    fn what_is_no_dicom_json_gives_no_document() {
        for text in ["", "[]", "{\"x\": {}}", "{\"00100010\": 1}"] {
            assert!(from_json(text.as_bytes()).is_err(), "{text}");
        }
    }
}
