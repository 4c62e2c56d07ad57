//! The national identity of the patient in the images that leave for another DRIMbox, or by the link of a report.
//!
//! A PACS mostly knows its own patient numbers alone. The INS of the KOS is added as one more of
//! the Other Patient IDs (0010,1002), in the images and in their metadata; what the PACS wrote stays as it is.

use std::sync::Arc;

use dicom_core::{Tag, VR};

use crate::dicom::edit::Edit;
use crate::dicom::json::Attribute;
use crate::dicom::write::{put_element, put_item};
use crate::source::PublishedExam;
use crate::source::exams::PatientIns;

const PATIENT_ID: Tag = Tag(0x0010, 0x0020);
const TYPE_OF_PATIENT_ID: Tag = Tag(0x0010, 0x0022);
const ISSUER_QUALIFIERS: Tag = Tag(0x0010, 0x0024);
const OTHER_PATIENT_IDS: Tag = Tag(0x0010, 0x1002);
const UNIVERSAL_ENTITY_ID: Tag = Tag(0x0040, 0x0032);
const UNIVERSAL_ENTITY_ID_TYPE: Tag = Tag(0x0040, 0x0033);

/// What is changed in the images of an exam that was opened to somebody: `wanted` is `peer.add_ins`. Local clients, to
/// whom a whole PACS is open, get the objects as they are.
#[must_use]
pub fn of_exam(exam: Option<&PublishedExam>, wanted: bool) -> Arc<[Edit]> {
    of(exam, wanted).map(added).unwrap_or_default()
}

/// The same for the metadata of these images.
#[must_use]
pub fn in_metadata(exam: Option<&PublishedExam>, wanted: bool) -> Option<(Tag, Attribute)> {
    let ins = of(exam, wanted)?;
    Some((OTHER_PATIENT_IDS, Attribute::OneMoreItem(item(ins))))
}

fn of(exam: Option<&PublishedExam>, wanted: bool) -> Option<&PatientIns> {
    exam.filter(|_| wanted)?.ins.as_ref()
}

/// The change that adds an INS (PS3.3 §C.2.3, §10.14): nothing where it stands there already.
#[must_use]
pub fn added(ins: &PatientIns) -> Arc<[Edit]> {
    Arc::new([Edit::AppendItem {
        sequence: OTHER_PATIENT_IDS,
        item: item(ins),
    }])
}

/// An INS as an item of the Other Patient IDs, in Explicit VR Little Endian.
fn item(ins: &PatientIns) -> Vec<u8> {
    let mut qualifiers = Vec::new();
    put_element(
        &mut qualifiers,
        UNIVERSAL_ENTITY_ID,
        VR::UT,
        ins.authority.as_bytes(),
    );
    put_element(&mut qualifiers, UNIVERSAL_ENTITY_ID_TYPE, VR::CS, b"ISO");
    let mut item = Vec::new();
    put_element(&mut item, PATIENT_ID, VR::LO, ins.matricule.as_bytes());
    put_element(&mut item, TYPE_OF_PATIENT_ID, VR::CS, b"TEXT");
    let mut items = Vec::new();
    put_item(&mut items, &qualifiers);
    put_element(&mut item, ISSUER_QUALIFIERS, VR::SQ, &items);
    item
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use crate::dicom::charset::CharacterSet;
    use crate::dicom::edit::edit_head;
    use crate::dicom::json::{JsonOptions, write_object};
    use crate::dicom::reader::{DataSet, Elements, Limits};
    use crate::dicom::syntax::Encoding;

    #[test]
    fn the_ins_is_one_more_identifier_and_comes_once() {
        let (mut own, mut items, mut head) = (Vec::new(), Vec::new(), Vec::new());
        put_element(&mut own, PATIENT_ID, VR::LO, b"IPP7");
        put_item(&mut items, &own);
        put_element(&mut head, PATIENT_ID, VR::LO, b"IPP7");
        put_element(&mut head, OTHER_PATIENT_IDS, VR::SQ, &items);
        let ins = PatientIns {
            matricule: "279035121518989".into(),
            authority: "1.2.250.1.213.1.4.10".into(),
        };
        let edits = added(&ins);
        let once = edit_head(&head, &edits, Limits::default()).unwrap();
        let set = DataSet::parse(&once, Encoding::ExplicitLittle, Limits::default()).unwrap();
        let text = |item: Elements<'_>, tag| item.text(tag, &CharacterSet::default()).unwrap();
        let items: Vec<_> = set.elements().items(OTHER_PATIENT_IDS).collect();
        assert_eq!(items.len(), 2);
        assert_eq!(text(items[0], PATIENT_ID), "IPP7");
        assert_eq!(text(items[1], PATIENT_ID), ins.matricule);
        assert_eq!(text(items[1], TYPE_OF_PATIENT_ID), "TEXT");
        let issuer = items[1].items(ISSUER_QUALIFIERS).next().unwrap();
        assert_eq!(text(issuer, UNIVERSAL_ENTITY_ID), ins.authority);
        assert_eq!(text(issuer, UNIVERSAL_ENTITY_ID_TYPE), "ISO");
        // What comes back from the network is not given a second one.
        let twice = edit_head(&once, &edits, Limits::default()).unwrap();
        assert_eq!(twice, once);

        // The metadata say the same, of what is stored with it and without.
        let metadata = |head: &[u8]| {
            let set = DataSet::parse(head, Encoding::ExplicitLittle, Limits::default()).unwrap();
            let mut options = JsonOptions::default();
            let one_more = Attribute::OneMoreItem(item(&ins));
            options.extra.insert(OTHER_PATIENT_IDS, one_more);
            let mut json = Vec::new();
            write_object(&mut json, set.elements(), &options);
            serde_json::from_slice::<serde_json::Value>(&json).unwrap()
        };
        let described = metadata(&head);
        assert_eq!(described, metadata(&once));
        let items = described["00101002"]["Value"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        assert_eq!(items[0]["00100020"]["Value"][0], "IPP7");
        assert_eq!(items[1]["00100020"]["Value"][0], ins.matricule);
        let qualifiers = &items[1]["00100024"]["Value"][0];
        assert_eq!(qualifiers["00400032"]["Value"][0], ins.authority);
        // Where there is no such sequence, or an empty one.
        let mut alone = Vec::new();
        put_element(&mut alone, PATIENT_ID, VR::LO, b"IPP7");
        let described = metadata(&alone);
        assert_eq!(described["00100020"]["Value"][0], "IPP7");
        assert_eq!(described["00101002"]["Value"].as_array().unwrap().len(), 1);
        put_element(&mut alone, OTHER_PATIENT_IDS, VR::SQ, b"");
        assert_eq!(metadata(&alone), described);
    }
}
