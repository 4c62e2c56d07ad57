//! The DICOMDIR of an exam (PS3.3 annex F, PS3.10 §8): one patient, one study, its series and instances.

use dicom_core::{Tag, VR};

use crate::dicom::charset::CharacterSet;
use crate::dicom::part10::file_meta;
use crate::dicom::reader::Elements;
use crate::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use crate::dicom::write::{put_element, put_item};

/// Media Storage Directory Storage.
const DIRECTORY: &str = "1.2.840.10008.1.3.10";
const EXPLICIT_LITTLE: &str = "1.2.840.10008.1.2.1";
const UTF_8: &str = "ISO_IR 192";
/// Longest text taken over from an instance, characters: far above what each VR allows.
const MAX_TEXT: usize = 1024;

const FILE_SET_ID: Tag = Tag(0x0004, 0x1130);
const FIRST_RECORD: Tag = Tag(0x0004, 0x1200);
const LAST_RECORD: Tag = Tag(0x0004, 0x1202);
const CONSISTENCY: Tag = Tag(0x0004, 0x1212);
const RECORDS: Tag = Tag(0x0004, 0x1220);
const NEXT_RECORD: Tag = Tag(0x0004, 0x1400);
const IN_USE: Tag = Tag(0x0004, 0x1410);
const LOWER_RECORD: Tag = Tag(0x0004, 0x1420);
const RECORD_TYPE: Tag = Tag(0x0004, 0x1430);
const FILE_ID: Tag = Tag(0x0004, 0x1500);
const FILE_CLASS: Tag = Tag(0x0004, 0x1510);
const FILE_INSTANCE: Tag = Tag(0x0004, 0x1511);
const FILE_SYNTAX: Tag = Tag(0x0004, 0x1512);
const CHARACTER_SET: Tag = Tag(0x0008, 0x0005);

/// Keys of a patient record (PS3.3 §F.5.1): type 1 ones with what stands for them when an object lacks them.
const OF_PATIENT: [Key; 2] = [
    (Tag(0x0010, 0x0010), VR::PN, ""),
    (Tag(0x0010, 0x0020), VR::LO, "SANS-ID"),
];
/// Of a study record (§F.5.2).
const OF_STUDY: [Key; 6] = [
    (Tag(0x0008, 0x0020), VR::DA, "19000101"),
    (Tag(0x0008, 0x0030), VR::TM, "000000"),
    (Tag(0x0008, 0x0050), VR::SH, ""),
    (Tag(0x0008, 0x1030), VR::LO, ""),
    (Tag(0x0020, 0x000D), VR::UI, ""),
    (Tag(0x0020, 0x0010), VR::SH, "1"),
];
/// Of a series record (§F.5.3); the description is an addition that readers show.
const OF_SERIES: [Key; 4] = [
    (Tag(0x0008, 0x0060), VR::CS, "OT"),
    (Tag(0x0008, 0x103E), VR::LO, ""),
    (Tag(0x0020, 0x000E), VR::UI, ""),
    (Tag(0x0020, 0x0011), VR::IS, "1"),
];
/// Of an instance record: the number, and the date and time of its content.
const OF_INSTANCE: [Key; 3] = [
    (Tag(0x0008, 0x0023), VR::DA, "19000101"),
    (Tag(0x0008, 0x0033), VR::TM, "000000"),
    (Tag(0x0020, 0x0013), VR::IS, ""),
];

type Key = (Tag, VR, &'static str);

/// What one instance says for the directory.
pub(super) struct Listed {
    pub(super) instance: InstanceUid,
    pub(super) sop_class: SopClassUid,
    pub(super) transfer_syntax: TransferSyntaxUid,
    /// Its file: components of at most eight characters with `\` between them.
    pub(super) file: String,
    /// Keys of patient, study and series, encoded; the first instance of each decides.
    patient: Vec<u8>,
    study: Vec<u8>,
    series: Vec<u8>,
    own: Vec<u8>,
}

/// Identity of an instance and its place among the files.
pub(super) struct Place {
    pub(super) instance: InstanceUid,
    pub(super) sop_class: SopClassUid,
    pub(super) transfer_syntax: TransferSyntaxUid,
    pub(super) file: String,
    /// Its place in the archive, for an object without a number.
    pub(super) number: usize,
}

impl Listed {
    /// From the elements of an instance; `whole` also gives the keys of what it belongs to.
    pub(super) fn of(place: Place, set: Elements<'_>, charset: &CharacterSet, whole: bool) -> Self {
        let number = place.number.to_string();
        let keys = |keys: &[Key]| {
            let mut out = Vec::new();
            for (tag, vr, missing) in keys {
                let value = set.text(*tag, charset).unwrap_or_else(|| match *tag {
                    Tag(0x0020, 0x0013) => number.clone(),
                    _ => (*missing).to_owned(),
                });
                let value: String = value.chars().take(MAX_TEXT).collect();
                put_element(&mut out, *tag, *vr, value.as_bytes());
            }
            out
        };
        let of_parents = |wanted: &[Key]| if whole { keys(wanted) } else { Vec::new() };
        Self {
            patient: of_parents(&OF_PATIENT),
            study: of_parents(&OF_STUDY),
            series: of_parents(&OF_SERIES),
            own: keys(&OF_INSTANCE),
            instance: place.instance,
            sop_class: place.sop_class,
            transfer_syntax: place.transfer_syntax,
            file: place.file,
        }
    }
}

/// The type of the record of an object (PS3.3 table F.4-1), by its SOP class.
fn record_type(class: &SopClassUid) -> &'static str {
    let class = class.as_str();
    match class {
        "1.2.840.10008.5.1.4.1.1.88.59" => "KEY OBJECT DOC",
        "1.2.840.10008.5.1.4.1.1.66" => "RAW DATA",
        "1.2.840.10008.5.1.4.1.1.66.1" => "REGISTRATION",
        "1.2.840.10008.5.1.4.1.1.66.2" => "FIDUCIAL",
        "1.2.840.10008.5.1.4.1.1.481.2" => "RT DOSE",
        "1.2.840.10008.5.1.4.1.1.481.3" => "RT STRUCTURE SET",
        "1.2.840.10008.5.1.4.1.1.481.5" => "RT PLAN",
        _ if class.starts_with("1.2.840.10008.5.1.4.1.1.88.") => "SR DOCUMENT",
        _ if class.starts_with("1.2.840.10008.5.1.4.1.1.104.") => "ENCAP DOC",
        _ if class.starts_with("1.2.840.10008.5.1.4.1.1.11.") => "PRESENTATION",
        _ if class.starts_with("1.2.840.10008.5.1.4.1.1.9.") => "WAVEFORM",
        _ => "IMAGE",
    }
}

/// A record: its own elements; where the next one of its level and the first below it are comes with the layout.
struct Record {
    kind: &'static str,
    content: Vec<u8>,
    next: Option<usize>,
    lower: Option<usize>,
}

impl Record {
    fn encoded(&self, offset_of: impl Fn(Option<usize>) -> u32) -> Vec<u8> {
        let mut out = Vec::new();
        let next = offset_of(self.next).to_le_bytes();
        put_element(&mut out, NEXT_RECORD, VR::UL, &next);
        put_element(&mut out, IN_USE, VR::US, &0xFFFF_u16.to_le_bytes());
        let lower = offset_of(self.lower).to_le_bytes();
        put_element(&mut out, LOWER_RECORD, VR::UL, &lower);
        put_element(&mut out, RECORD_TYPE, VR::CS, self.kind.as_bytes());
        out.extend_from_slice(&self.content);
        out
    }
}

/// The file; `None` when nothing is listed, or an identifier of the format itself is wrong.
pub(super) fn file(series: &[Vec<Listed>], instance: &InstanceUid) -> Option<Vec<u8>> {
    let first = series.iter().flatten().next()?;
    let with_charset = |keys: &[u8]| {
        let mut out = Vec::new();
        put_element(&mut out, CHARACTER_SET, VR::CS, UTF_8.as_bytes());
        out.extend_from_slice(keys);
        out
    };
    let record = |kind, content| Record {
        kind,
        content,
        next: None,
        lower: None,
    };
    let mut records = vec![
        record("PATIENT", with_charset(&first.patient)),
        record("STUDY", with_charset(&first.study)),
    ];
    let link = |records: &mut Vec<Record>, at: usize, lower: bool, to: usize| {
        if let Some(record) = records.get_mut(at) {
            let slot = if lower {
                &mut record.lower
            } else {
                &mut record.next
            };
            *slot = Some(to);
        }
    };
    link(&mut records, 0, true, 1);
    let mut series_before = None;
    for instances in series {
        let Some(first) = instances.first() else {
            continue;
        };
        let at = records.len();
        records.push(record("SERIES", with_charset(&first.series)));
        let (from, lower) = series_before.map_or((1, true), |before| (before, false));
        link(&mut records, from, lower, at);
        series_before = Some(at);
        let mut before = None;
        for listed in instances {
            let place = records.len();
            records.push(record(record_type(&listed.sop_class), of_file(listed)));
            let (from, lower) = before.map_or((at, true), |before| (before, false));
            link(&mut records, from, lower, place);
            before = Some(place);
        }
    }
    let class = SopClassUid::parse(DIRECTORY).ok()?;
    let syntax = TransferSyntaxUid::parse(EXPLICIT_LITTLE).ok()?;
    let mut out = file_meta(&class, instance, &syntax);
    // Offsets count from the first byte of the file (PS3.3 §F.3.2.2). The head has the same length whatever they are.
    let head_length = out.len() + head(0, 0).len() + 12;
    let mut offsets = Vec::with_capacity(records.len());
    let mut at = head_length;
    for record in &records {
        offsets.push(u32::try_from(at).ok()?);
        at += 8 + record.encoded(|_| 0).len();
    }
    let offset_of = |record: Option<usize>| {
        let offset = record.and_then(|record| offsets.get(record));
        offset.copied().unwrap_or(0)
    };
    let root = offset_of(Some(0));
    out.extend_from_slice(&head(root, root));
    let mut items = Vec::with_capacity(at - head_length);
    for record in &records {
        put_item(&mut items, &record.encoded(offset_of));
    }
    put_element(&mut out, RECORDS, VR::SQ, &items);
    Some(out)
}

fn head(first: u32, last: u32) -> Vec<u8> {
    let mut out = Vec::new();
    put_element(&mut out, FILE_SET_ID, VR::CS, b"EXAMEN");
    put_element(&mut out, FIRST_RECORD, VR::UL, &first.to_le_bytes());
    put_element(&mut out, LAST_RECORD, VR::UL, &last.to_le_bytes());
    put_element(&mut out, CONSISTENCY, VR::US, &0_u16.to_le_bytes());
    out
}

fn of_file(listed: &Listed) -> Vec<u8> {
    let mut out = Vec::new();
    put_element(&mut out, FILE_ID, VR::CS, listed.file.as_bytes());
    let class = listed.sop_class.as_str().as_bytes();
    put_element(&mut out, FILE_CLASS, VR::UI, class);
    let instance = listed.instance.as_str().as_bytes();
    put_element(&mut out, FILE_INSTANCE, VR::UI, instance);
    let syntax = listed.transfer_syntax.as_str().as_bytes();
    put_element(&mut out, FILE_SYNTAX, VR::UI, syntax);
    put_element(&mut out, CHARACTER_SET, VR::CS, UTF_8.as_bytes());
    out.extend_from_slice(&listed.own);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::dicom::reader::{DataSet, Limits};
    use crate::dicom::syntax::Encoding;

    fn listed(series: u32, number: usize, class: &str) -> Listed {
        let mut set = Vec::new();
        put_element(&mut set, Tag(0x0008, 0x0060), VR::CS, b"CT");
        put_element(
            &mut set,
            Tag(0x0010, 0x0010),
            VR::PN,
            "ESSAI^Émilie".as_bytes(),
        );
        let uid = format!("1.2.{series}");
        put_element(&mut set, Tag(0x0020, 0x000E), VR::UI, uid.as_bytes());
        let set = DataSet::parse(&set, Encoding::ExplicitLittle, Limits::default()).unwrap();
        let place = Place {
            instance: InstanceUid::parse(&format!("{uid}.{number}")).unwrap(),
            sop_class: SopClassUid::parse(class).unwrap(),
            transfer_syntax: TransferSyntaxUid::parse("1.2.840.10008.1.2.4.80").unwrap(),
            file: format!("DICOM\\S{series:05}\\I{number:07}"),
            number,
        };
        let utf8 = CharacterSet::declared(UTF_8, Default::default());
        Listed::of(place, set.elements(), &utf8, number == 1)
    }

    #[test]
    fn every_record_is_reached_by_its_offset_and_once() {
        let image = "1.2.840.10008.5.1.4.1.1.2";
        let all = [
            vec![
                listed(1, 1, image),
                listed(1, 2, image),
                listed(1, 3, image),
            ],
            vec![listed(2, 1, "1.2.840.10008.5.1.4.1.1.88.11")],
        ];
        let own = InstanceUid::parse("1.2.9").unwrap();
        let file = file(&all, &own).unwrap();
        let meta = crate::dicom::part10::parse(&file).unwrap().data_set_offset;
        let set =
            DataSet::parse(&file[meta..], Encoding::ExplicitLittle, Limits::default()).unwrap();
        let ascii = CharacterSet::default();
        // Where each item begins in the file, by its type.
        let sequence = set.elements().find(RECORDS).unwrap().value_extent().start + meta;
        let mut at = sequence;
        let mut places = Vec::new();
        while at < file.len() {
            let length = u32::from_le_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
            assert_eq!(file[at..at + 4], [0xFE, 0xFF, 0x00, 0xE0]);
            places.push(at as u32);
            at += 8 + length;
        }
        let items: Vec<_> = set.elements().items(RECORDS).collect();
        let record = |offset: u32| items[places.iter().position(|place| *place == offset).unwrap()];
        let mut reached = Vec::new();
        let mut waiting = vec![set.elements().u32(FIRST_RECORD).unwrap()];
        while let Some(offset) = waiting.pop() {
            if offset == 0 {
                continue;
            }
            let item = record(offset);
            reached.push(item.text(RECORD_TYPE, &ascii).unwrap());
            waiting.push(item.u32(NEXT_RECORD).unwrap());
            waiting.push(item.u32(LOWER_RECORD).unwrap());
        }
        assert_eq!(reached.len(), items.len());
        reached.sort();
        assert_eq!(
            reached,
            [
                "IMAGE",
                "IMAGE",
                "IMAGE",
                "PATIENT",
                "SERIES",
                "SERIES",
                "SR DOCUMENT",
                "STUDY"
            ]
        );
        let patient = record(set.elements().u32(FIRST_RECORD).unwrap());
        let utf8 = patient.declared_character_set(Default::default()).unwrap();
        assert_eq!(
            patient.text(Tag(0x0010, 0x0010), &utf8).as_deref(),
            Some("ESSAI^Émilie")
        );
    }

    #[test]
    fn nothing_gives_no_directory() {
        assert!(file(&[], &InstanceUid::parse("1.2").unwrap()).is_none());
        assert!(file(&[Vec::new()], &InstanceUid::parse("1.2").unwrap()).is_none());
    }
}
