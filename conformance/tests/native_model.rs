//! Metadata in XML, the Native DICOM Model (PS3.19 §A.1), against what DCMTK writes of the same files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::samples::Instance;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use support::pair::Pair;
use support::{exams, folder, run};

/// Exams whose values are awkward, and those whose texts are.
const EXAMS: [&str; 3] = ["elements", "charsets", "documents"];

/// What one of them says for itself: the character set, where what is described can be had, padding; what
/// DCMTK 3.6.7 does otherwise: names of which it writes one again in the place of an empty one, and
/// numbers that JSON does not have.
const NOT_COMPARED: [&str; 6] = [
    "/00080005",
    "/00081190",
    "/00083002",
    "/FFFCFFFC",
    "/0072006A",
    "/00720074",
];
/// Stands for a value that is elsewhere.
const BULK: &str = "bulk";

/// What a document says: below the path of an attribute, through its sequences, its VR, the number of its
/// items and its values.
type Said = BTreeMap<String, Vec<String>>;

/// An element that is open while a document is read.
struct Open {
    name: String,
    vr: String,
    path: String,
    text: String,
}

/// The order of the bytes of words: that of DICOM, or that in which DCMTK writes them.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    LittleEndian,
    BigEndian,
}

/// Reads a document as XML 1.0 wants it read.
fn said(document: &str, order: Order) -> Said {
    let document = document.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader::from_str(&document);
    reader.config_mut().expand_empty_elements = true;
    let mut said = Said::new();
    let mut open: Vec<Open> = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Event::Start(start) => {
                let next = opened(&start, open.last());
                match next.name.as_str() {
                    "DicomAttribute" => {
                        let mut head = vec![format!("vr {}", next.vr)];
                        head.extend(of(&start, "keyword"));
                        assert!(said.insert(next.path.clone(), head).is_none());
                    }
                    "Item" => {
                        said.insert(next.path.clone(), Vec::new());
                    }
                    "BulkData" => {
                        let uri = of(&start, "uri").or(of(&start, "uuid"));
                        assert!(uri.is_some_and(|uri| !uri.is_empty()), "{}", next.path);
                        said.get_mut(&next.path).unwrap().push(BULK.to_owned());
                    }
                    _ => {}
                }
                open.push(next);
            }
            Event::Text(text) => {
                if let Some(element) = open.last_mut() {
                    element.text += &text.decode().unwrap();
                }
            }
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().unwrap();
                let text = match character {
                    Some(character) => character.to_string(),
                    None => {
                        let name = reference.decode().unwrap();
                        let known = quick_xml::escape::resolve_predefined_entity(&name);
                        known.unwrap().to_owned()
                    }
                };
                open.last_mut().unwrap().text += &text;
            }
            Event::End(_) => {
                let element = open.pop().unwrap();
                let value = match element.name.as_str() {
                    "Value" => value(&element),
                    "InlineBinary" => binary(&element, order),
                    "FamilyName" | "GivenName" | "MiddleName" | "NamePrefix" | "NameSuffix" => {
                        let group = &open.last().unwrap().name;
                        Some(format!("{group} {} {}", element.name, element.text))
                    }
                    _ => None,
                };
                if let Some(value) = value {
                    let attribute = open.iter().rfind(|one| one.name == "DicomAttribute");
                    let path = &attribute.unwrap().path;
                    said.get_mut(path).unwrap().push(value);
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert!(open.is_empty());
    said
}

fn of(start: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = start.try_get_attribute(name).unwrap()?;
    Some(attribute.unescape_value().unwrap().into_owned())
}

fn opened(start: &BytesStart<'_>, within: Option<&Open>) -> Open {
    let name = String::from_utf8(start.name().as_ref().to_vec()).unwrap();
    let (path, vr) = within.map_or(("", ""), |open| (&open.path, &open.vr));
    let step = match name.as_str() {
        "DicomAttribute" => {
            let creator = of(start, "privateCreator").unwrap_or_default();
            format!("/{}{creator}", of(start, "tag").unwrap())
        }
        "Item" => format!("[{}]", of(start, "number").unwrap()),
        _ => String::new(),
    };
    Open {
        path: format!("{path}{step}"),
        vr: of(start, "vr").unwrap_or_else(|| vr.to_owned()),
        text: String::new(),
        name,
    }
}

/// A value: numbers as what they are worth, however they are written. DCMTK writes empty ones.
fn value(element: &Open) -> Option<String> {
    let text = &element.text;
    let number = || -> f64 { text.trim().parse().unwrap() };
    match element.vr.as_str() {
        _ if text.is_empty() => None,
        "DS" | "IS" | "FD" => Some(format!("{:?}", number() + 0.0)),
        "FL" => Some(format!("{:?}", number() as f32)),
        _ => Some(text.clone()),
    }
}

/// The bytes of a value, in little endian.
fn binary(element: &Open, order: Order) -> Option<String> {
    let text: String = element.text.split_whitespace().collect();
    let mut bytes = STANDARD.decode(text).unwrap();
    let word = match element.vr.as_str() {
        "OW" => 2,
        "OF" | "OL" => 4,
        "OD" | "OV" => 8,
        _ => 1,
    };
    if order == Order::BigEndian {
        bytes.chunks_mut(word).for_each(<[u8]>::reverse);
    }
    Some(format!("{bytes:?}"))
}

/// What DCMTK makes of a file; `None` where it does not know the character set.
fn by_dcmtk(file: &Path) -> Option<Said> {
    let output = Command::new("dcm2xml")
        .args([
            "--native-format",
            "--convert-to-utf8",
            "--encode-base64",
            "--load-all",
        ])
        .arg(file)
        .output()
        .unwrap();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(
            why.contains("character") || why.contains("Character"),
            "{why}"
        );
        return None;
    }
    let document = String::from_utf8(output.stdout).unwrap();
    let mut said = said(&document, Order::BigEndian);
    for head in said
        .values_mut()
        .filter(|head| head.first().is_some_and(|vr| vr == "vr PN"))
    {
        without_copies(head);
    }
    Some(said)
}

/// DCMTK 3.6.7 writes a group of components again in the place of an empty one after it.
fn without_copies(name: &mut Vec<String>) {
    for [before, group] in [["Ideographic", "Phonetic"], ["Alphabetic", "Ideographic"]] {
        let of = |group: &str| -> Vec<String> {
            let components = name.iter().filter_map(|one| one.strip_prefix(group));
            components.map(str::to_owned).collect()
        };
        if of(before) == of(group) {
            name.retain(|one| !one.starts_with(group));
        }
    }
}

/// What the two do not say alike.
fn differences(ours: &Said, theirs: &Said) -> Vec<String> {
    let paths: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    // A sequence whose VR nobody wrote (PS3.5 §6.2.2): the dictionary of one knows it, or its length was
    // written out on its way.
    let vr = |said: &Said, path: &str| said.get(path).and_then(|head| head.first()).cloned();
    let is_unknown = |path: &str| {
        let both = [vr(ours, path), vr(theirs, path)];
        ["vr SQ", "vr UN"].map(|vr| both.contains(&Some(vr.to_owned()))) == [true, true]
    };
    let paths_of_unknown = paths.iter().filter(|path| is_unknown(path));
    let unknown: Vec<&str> = paths_of_unknown.map(|path| path.as_str()).collect();
    let left_out = || NOT_COMPARED.iter().chain(&unknown);
    let is_compared = |path: &&String| !left_out().any(|tag| path.starts_with(tag));
    let differs = |path: &String| match (ours.get(path), theirs.get(path)) {
        // A long value of ours is had by its URL.
        (Some(ours), Some(theirs)) if ours.last().is_some_and(|last| last == BULK) => {
            ours[..ours.len() - 1] != theirs[..theirs.len() - 1]
        }
        (ours, theirs) => ours != theirs,
    };
    let paths = paths.into_iter().filter(is_compared);
    paths
        .filter(|path| differs(path))
        .map(|path| format!("{path}: {:?}, not {:?}", ours.get(path), theirs.get(path)))
        .collect()
}

#[test]
fn metadata_in_xml_say_what_dcmtk_says_of_the_files() {
    run(async {
        let all: Vec<&Instance> = exams()
            .instances()
            .filter(|one| EXAMS.iter().any(|exam| one.file.starts_with(exam)))
            .collect();
        let files = all.iter().map(|one| exams().path(one)).collect();
        let pair = Pair::over("native-model", files).await;
        let into = folder("native-model-parts");
        let (mut wrong, mut compared) = (Vec::new(), 0);
        for instance in &all {
            let Some(theirs) = by_dcmtk(&exams().path(instance)) else {
                assert!(instance.file.starts_with("charsets"), "{}", instance.file);
                continue;
            };
            let accept = "multipart/related; type=\"application/dicom+xml\"";
            let answer = pair.get(instance, "/metadata", accept).await;
            assert_eq!(answer.status(), 200, "{}", instance.file);
            let body = answer.multipart_to(&into).await.unwrap();
            assert!(body.is_complete() && body.parts.len() == 1);
            let document = fs::read_to_string(into.join("0.part")).unwrap();
            let ours = said(&document, Order::LittleEndian);
            let all = differences(&ours, &theirs);
            wrong.extend(all.iter().map(|one| format!("{} {one}", instance.file)));
            compared += 1;
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(compared > 18, "{compared}");
    });
}
