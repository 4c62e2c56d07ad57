//! An instance that a client received against the file that the PACS was given.

use std::io::Read;
use std::path::Path;

use conformance::samples::{Exam, Instance, pixel_digest};
use conformance::testkit::http::Multipart;
use dicom_core::header::Header;
use dicom_core::value::Value;
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::meta::FileMetaTable;
use dicom_object::{InMemDicomObject, StandardDataDictionary};
use dicom_transfer_syntax_registry::entries;

use super::exams;

type Object = InMemDicomObject<StandardDataDictionary>;

/// Explicit VR big endian.
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// A Part 10 file, read by dicom-object.
pub struct Part10 {
    /// Its file meta information.
    pub meta: FileMetaTable,
    /// Its data set.
    pub data_set: Object,
}

impl Part10 {
    /// Reads a file; every byte must belong to it.
    pub fn read(bytes: &[u8]) -> Self {
        assert!(bytes.len() > 132, "a file of {} bytes", bytes.len());
        assert_eq!(&bytes[128..132], b"DICM");
        let mut rest = &bytes[128..];
        let meta = FileMetaTable::from_reader(&mut rest).unwrap();
        let syntax = match meta.transfer_syntax() {
            uids::IMPLICIT_VR_LITTLE_ENDIAN => entries::IMPLICIT_VR_LITTLE_ENDIAN.erased(),
            BIG_ENDIAN => entries::EXPLICIT_VR_BIG_ENDIAN.erased(),
            _ => entries::EXPLICIT_VR_LITTLE_ENDIAN.erased(),
        };
        let data_set = if meta.transfer_syntax() == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
            let mut inflated = Vec::new();
            flate2::read::DeflateDecoder::new(rest)
                .read_to_end(&mut inflated)
                .unwrap();
            Object::read_dataset_with_ts(inflated.as_slice(), &syntax)
        } else {
            Object::read_dataset_with_ts(rest, &syntax)
        };
        Self {
            meta,
            data_set: data_set.unwrap(),
        }
    }

    /// Its SOP Instance UID, as the data set says.
    pub fn instance(&self) -> String {
        self.text(tags::SOP_INSTANCE_UID)
    }

    fn text(&self, tag: Tag) -> String {
        self.data_set
            .element(tag)
            .unwrap()
            .to_str()
            .unwrap()
            .trim_end_matches('\0')
            .to_owned()
    }
}

/// The transfer syntax in which an instance has to leave the gateway: as stored, but for the two
/// that web services may not carry (PS3.18 §8.7.3.5.2).
pub fn sent_syntax(stored: &str) -> &str {
    match stored {
        uids::IMPLICIT_VR_LITTLE_ENDIAN | BIG_ENDIAN => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        other => other,
    }
}

/// A received file has the pixels of the source byte for byte, a right head, and its values.
pub fn assert_same(source: &Instance, received: &[u8]) {
    let which = &source.file;
    let received = Part10::read(received);
    assert_eq!(
        received.meta.transfer_syntax(),
        sent_syntax(&source.transfer_syntax_uid),
        "{which}"
    );
    let plain = |uid: &str| uid.trim_end_matches('\0').to_owned();
    assert_eq!(
        plain(&received.meta.media_storage_sop_class_uid),
        source.sop_class_uid,
        "{which}"
    );
    assert_eq!(
        plain(&received.meta.media_storage_sop_instance_uid),
        source.sop_instance_uid,
        "{which}"
    );
    assert_eq!(received.instance(), source.sop_instance_uid, "{which}");
    assert_eq!(
        pixel_digest(&received.data_set),
        source.pixel_sha256,
        "pixels of {which}"
    );
    let stored = Part10::read(&std::fs::read(exams().path(source)).unwrap());
    assert_same_values(&stored.data_set, &received.data_set, which);
}

/// The parts of a body, kept in `folder`, are exactly these instances; each says its syntax.
pub fn assert_parts<'a>(
    expected: impl IntoIterator<Item = &'a Instance>,
    body: &Multipart,
    folder: &Path,
) {
    assert!(body.is_complete(), "the body stops: {:?}", body.broken);
    let mut missing: Vec<&Instance> = expected.into_iter().collect();
    assert_eq!(body.parts.len(), missing.len(), "number of parts");
    for (number, part) in body.parts.iter().enumerate() {
        let bytes = std::fs::read(folder.join(format!("{number}.part"))).unwrap();
        let uid = Part10::read(&bytes).instance();
        let at = missing
            .iter()
            .position(|instance| instance.sop_instance_uid == uid);
        let source = missing.swap_remove(at.unwrap_or_else(|| panic!("{uid} twice, or unasked")));
        let syntax = sent_syntax(&source.transfer_syntax_uid);
        let kind = format!("application/dicom;transfer-syntax={syntax}");
        assert_eq!(part.content_type().replace(' ', ""), kind);
        assert_same(source, &bytes);
    }
}

/// As [`assert_parts`], for all of a study.
pub fn assert_study(exam: &Exam, body: &Multipart, folder: &Path) {
    assert_parts(exam.instances(), body, folder);
}

/// Both data sets hold the same values, in whatever encoding. Left out are group lengths and
/// padding (PS3.5 §7.2, §7.8), which mean nothing.
fn assert_same_values(stored: &Object, received: &Object, which: &str) {
    let counts = |object: &Object| object.iter().filter(|e| means_something(e.tag())).count();
    for element in stored
        .iter()
        .filter(|element| means_something(element.tag()))
    {
        let tag = element.tag();
        let other = received
            .element(tag)
            .unwrap_or_else(|_| panic!("{which} lost {tag}"));
        match (element.value(), other.value()) {
            (Value::Sequence(stored), Value::Sequence(received)) => {
                assert_eq!(
                    stored.items().len(),
                    received.items().len(),
                    "{which} {tag}"
                );
                for (stored, received) in stored.items().iter().zip(received.items()) {
                    assert_same_values(stored, received, which);
                }
            }
            (Value::PixelSequence(stored), Value::PixelSequence(received)) => {
                assert_eq!(stored.fragments(), received.fragments(), "{which} {tag}");
                assert_eq!(
                    stored.offset_table(),
                    received.offset_table(),
                    "{which} {tag}"
                );
            }
            (Value::Primitive(stored), Value::Primitive(received)) => {
                let same = if element.vr() == VR::UN || other.vr() == VR::UN {
                    stored.to_bytes() == received.to_bytes()
                } else if is_text(element.vr()) {
                    trimmed(&stored.to_bytes()) == trimmed(&received.to_bytes())
                } else {
                    stored.to_bytes() == received.to_bytes()
                };
                assert!(same, "{which} {tag}: {stored:?} became {received:?}");
            }
            // A sequence whose VR was lost on its way through implicit VR (PS3.5 §6.2.2).
            (Value::Sequence(stored), Value::Primitive(bytes)) if other.vr() == VR::UN => {
                let received = sequence(&bytes.to_bytes());
                assert_eq!(stored.items().len(), received.len(), "{which} {tag}");
                for (stored, received) in stored.items().iter().zip(&received) {
                    assert_same_values(stored, received, which);
                }
            }
            (stored, received) => {
                panic!("{which} {tag}: {stored:?} became {received:?}")
            }
        }
    }
    assert_eq!(
        counts(stored),
        counts(received),
        "{which} has other elements"
    );
}

/// The items of a sequence in implicit VR little endian.
fn sequence(bytes: &[u8]) -> Vec<Object> {
    // Under the tag of any sequence that the dictionary knows: (0008,1140).
    let mut data_set = vec![0x08, 0x00, 0x40, 0x11];
    data_set.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
    data_set.extend_from_slice(bytes);
    let implicit = entries::IMPLICIT_VR_LITTLE_ENDIAN.erased();
    let object = Object::read_dataset_with_ts(data_set.as_slice(), &implicit).unwrap();
    let element = object.element(tags::REFERENCED_IMAGE_SEQUENCE).unwrap();
    element.items().unwrap().to_vec()
}

fn means_something(tag: Tag) -> bool {
    tag.element() != 0 && tag != Tag(0xFFFC, 0xFFFC)
}

fn is_text(vr: VR) -> bool {
    use VR::*;
    matches!(
        vr,
        AE | AS | CS | DA | DS | DT | IS | LO | LT | PN | SH | ST | TM | UC | UI | UR | UT
    )
}

/// Without padding: a null after a UID, spaces after everything else.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b' '))
        .map_or(0, |at| at + 1);
    &bytes[..end]
}
