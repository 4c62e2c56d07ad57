#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use dicom_core::VR;
use proptest::prelude::*;

use super::*;
use crate::dicom::part10::file_meta;
use crate::dicom::syntax::Encoding;
use crate::dicom::testdata::{ENCODINGS, Writer};
use crate::dicom::uid::TransferSyntaxUid;

const CT: &[u8] = b"1.2.840.10008.5.1.4.1.1.2";

/// A document written by hand, in one encoding, with defined or undefined lengths.
struct Draft {
    encoding: Encoding,
    syntax: &'static str,
    defined: bool,
    title: &'static [u8],
    sop_class: &'static [u8],
    evidence: Vec<Vec<u8>>,
    content: Option<Vec<Vec<u8>>>,
    root_accession: &'static [u8],
    orders: bool,
}

impl Draft {
    fn new(encoding: Encoding, syntax: &'static str, defined: bool) -> Self {
        let mut draft = Self {
            encoding,
            syntax,
            defined,
            title: b"113030",
            sop_class: KEY_OBJECT_SELECTION.as_bytes(),
            evidence: Vec::new(),
            content: None,
            root_accession: b"",
            orders: true,
        };
        let marked = draft.sop(b"1.2.3.1.1", Some(b"2"), &[draft.mark()]);
        let plain = draft.sop(b"1.2.3.1.2", None, &[]);
        let note = draft.sop_of(KEY_OBJECT_SELECTION.as_bytes(), b"1.2.3.9.1");
        let first = draft.series(
            b"1.2.3.1",
            b"https://db1.example.org/any/path ",
            &[marked, plain],
        );
        let notes = draft.series(b"1.2.3.9", b"https://db1.example.org/notes", &[note]);
        draft.evidence = vec![draft.study(b"1.2.3", &[first, notes])];
        let text = "Examen : essai\nSérie-1.2.3.1.5 : US @ : autre\nSérie-1.2.3.1 : CT @ : crâne\n";
        draft.content = Some(vec![
            draft.refer(b"1.2.3.1.1", b"2\\5"),
            draft.text_item(text),
        ]);
        draft
    }

    fn explicit() -> Self {
        Self::new(Encoding::ExplicitLittle, "1.2.840.10008.1.2.1", true)
    }

    fn w(&self) -> Writer {
        Writer::new(self.encoding)
    }

    fn code(&self, value: &[u8]) -> Vec<u8> {
        self.w()
            .put((0x0008, 0x0100), VR::SH, value)
            .put((0x0008, 0x0102), VR::SH, b"DCM")
            .put((0x0008, 0x0104), VR::LO, b"Of Interest")
            .bytes
    }

    fn mark(&self) -> Vec<u8> {
        let text = self.w().put((0x0040, 0xA160), VR::UT, b"Look here").bytes;
        self.w()
            .put((0x0008, 0x1155), VR::UI, b"1.2.3.9.1")
            .put((0x0020, 0x000E), VR::UI, b"1.2.3.9")
            .sequence((0x0040, 0xA043), self.defined, &[self.code(b"113000")])
            .sequence((0x0040, 0xA730), self.defined, &[text])
            .bytes
    }

    fn sop(&self, instance: &[u8], number: Option<&[u8]>, marks: &[Vec<u8>]) -> Vec<u8> {
        let mut w =
            self.w()
                .put((0x0008, 0x1150), VR::UI, CT)
                .put((0x0008, 0x1155), VR::UI, instance);
        if !marks.is_empty() {
            w = w.sequence((0x0008, 0x1199), self.defined, marks);
        }
        match number {
            Some(number) => w.put((0x0020, 0x0013), VR::IS, number).bytes,
            None => w.bytes,
        }
    }

    fn sop_of(&self, class: &[u8], instance: &[u8]) -> Vec<u8> {
        self.w()
            .put((0x0008, 0x1150), VR::UI, class)
            .put((0x0008, 0x1155), VR::UI, instance)
            .bytes
    }

    fn series(&self, uid: &[u8], url: &[u8], sops: &[Vec<u8>]) -> Vec<u8> {
        self.w()
            .put((0x0008, 0x1190), VR::UR, url)
            .sequence((0x0008, 0x1199), self.defined, sops)
            .put((0x0020, 0x000E), VR::UI, uid)
            .put((0x0020, 0x0011), VR::IS, b"1000")
            .put((0x0040, 0xE011), VR::UI, b"1.2.3.4")
            .bytes
    }

    fn study(&self, uid: &[u8], series: &[Vec<u8>]) -> Vec<u8> {
        self.w()
            .sequence((0x0008, 0x1115), self.defined, series)
            .put((0x0020, 0x000D), VR::UI, uid)
            .bytes
    }

    fn refer(&self, instance: &[u8], frames: &[u8]) -> Vec<u8> {
        let sop = self
            .w()
            .put((0x0008, 0x1150), VR::UI, CT)
            .put((0x0008, 0x1155), VR::UI, instance)
            .put((0x0008, 0x1160), VR::IS, frames)
            .bytes;
        self.w()
            .sequence((0x0008, 0x1199), self.defined, &[sop])
            .put((0x0040, 0xA010), VR::CS, b"CONTAINS")
            .put((0x0040, 0xA040), VR::CS, b"IMAGE")
            .bytes
    }

    fn text_item(&self, text: &str) -> Vec<u8> {
        let latin1: Vec<u8> = text
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap())
            .collect();
        self.w()
            .put((0x0040, 0xA040), VR::CS, b"TEXT")
            .sequence((0x0040, 0xA043), self.defined, &[self.code(b"113012")])
            .put((0x0040, 0xA160), VR::UT, &latin1)
            .bytes
    }

    fn oid(&self, oid: &[u8]) -> Vec<u8> {
        self.w()
            .put((0x0040, 0x0032), VR::UT, oid)
            .put((0x0040, 0x0033), VR::CS, b"ISO")
            .bytes
    }

    fn file(&self) -> Vec<u8> {
        let d = self.defined;
        let ins = self.oid(b"1.2.250.1.213.1.4.10");
        let other = self
            .w()
            .put((0x0010, 0x0020), VR::LO, b"299999999999999")
            .put((0x0010, 0x0022), VR::CS, b"TEXT")
            .sequence((0x0010, 0x0024), d, &[ins])
            .bytes;
        let order = self
            .w()
            .put((0x0008, 0x0050), VR::SH, b"ACN1")
            .sequence((0x0008, 0x0051), d, &[self.oid(b"1.2.250.1.1")])
            .sequence((0x0040, 0x0026), d, &[self.oid(b"1.2.250.1.2")])
            .put((0x0040, 0x2016), VR::LO, b"OPN1")
            .bytes;
        let mut w = self
            .w()
            .put((0x0008, 0x0005), VR::CS, b"ISO_IR 100")
            .put((0x0008, 0x0016), VR::UI, self.sop_class)
            .put((0x0008, 0x0018), VR::UI, b"1.2.3.7.1")
            .put((0x0008, 0x0050), VR::SH, self.root_accession)
            .put((0x0009, 0x0010), VR::LO, b"SOMEBODY")
            .put((0x0010, 0x0010), VR::PN, b"ESSAI^ANA\xefS")
            .put((0x0010, 0x0020), VR::LO, b"LOCAL-1")
            .sequence((0x0010, 0x1002), d, &[other])
            .put((0x0010, 0x4000), VR::LT, b"63220")
            .put((0x0020, 0x000D), VR::UI, b"1.2.3")
            .put((0x0020, 0x0013), VR::IS, b"3")
            .put((0x0040, 0xA040), VR::CS, b"TEXT")
            .sequence((0x0040, 0xA043), d, &[self.code(self.title)]);
        if self.orders {
            w = w.sequence((0x0040, 0xA370), d, &[order]);
        }
        w = w.sequence((0x0040, 0xA375), d, &self.evidence);
        if let Some(content) = &self.content {
            w = w.sequence((0x0040, 0xA730), d, content);
        }
        let class = SopClassUid::parse(KEY_OBJECT_SELECTION).unwrap();
        let instance = InstanceUid::parse("1.2.3.7.1").unwrap();
        let syntax = TransferSyntaxUid::parse(self.syntax).unwrap();
        [file_meta(&class, &instance, &syntax), w.bytes].concat()
    }
}

#[test]
fn a_manifest_is_read_in_every_encoding_with_either_form_of_lengths() {
    for (encoding, syntax) in ENCODINGS {
        for defined in [true, false] {
            let kos = Kos::parse(&Draft::new(encoding, syntax, defined).file()).unwrap();
            assert_eq!(kos.instance.as_str(), "1.2.3.7.1");
            assert_eq!(kos.study.as_str(), "1.2.3");
            assert_eq!(kos.number, Some(3));
            assert_eq!(kos.purpose(), Purpose::Manifest);
            assert_eq!(kos.instance_count(), 3);
            let first = &kos.series[0];
            assert_eq!(
                first.retrieve_url.as_deref(),
                Some("https://db1.example.org/any/path")
            );
            assert_eq!(first.retrieve_location.as_deref(), Some("1.2.3.4"));
            assert_eq!(first.number, Some(1000));
            assert_eq!(first.modality.as_deref(), Some("CT"));
            assert_eq!(kos.series[1].modality, None);
            assert_eq!(first.instances[0].number, Some(2));
            assert_eq!(first.instances[1].number, None);
            let mark = &first.instances[0].marks[0];
            assert_eq!(mark.note.as_str(), "1.2.3.9.1");
            assert_eq!(mark.text.as_deref(), Some("Look here"));
            assert_eq!(mark.title.as_ref().unwrap().value, "113000");
            let notes: Vec<_> = kos.key_image_notes().collect();
            assert_eq!(notes[0].instance, mark.note);
            assert_eq!(kos.content[0].frames, [2, 5]);
            assert_eq!(kos.accessions(), [("ACN1", Some("1.2.250.1.1"))]);
            assert_eq!(kos.requests[0].placer_order.as_deref(), Some("OPN1"));
            assert_eq!(kos.patient.identity.name.as_deref(), Some("ESSAI^ANAïS"));
            assert_eq!(kos.patient.identity.birth_place.as_deref(), Some("63220"));
            let ins = kos.patient.ins().unwrap();
            assert_eq!(ins.value, "299999999999999");
        }
    }
}

#[test]
fn nothing_of_the_patient_or_the_order_is_in_what_is_printed() {
    let printed = format!("{:?}", Kos::parse(&Draft::explicit().file()).unwrap());
    for secret in [
        "ESSAI",
        "299999999999999",
        "LOCAL-1",
        "63220",
        "ACN1",
        "OPN1",
    ] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
}

#[test]
fn a_manifest_without_text_orders_or_content_is_read() {
    let mut draft = Draft::explicit();
    draft.content = None;
    draft.orders = false;
    draft.root_accession = b"OLD-STYLE";
    draft.title = b"DCM";
    let kos = Kos::parse(&draft.file()).unwrap();
    assert_eq!(kos.description, None);
    assert_eq!(kos.purpose(), Purpose::Manifest);
    assert_eq!(kos.accessions(), [("OLD-STYLE", None)]);
}

#[test]
fn a_rejection_is_known_by_its_title() {
    for (title, why) in [
        (&b"113001"[..], Rejection::Quality),
        (b"113037", Rejection::PatientSafety),
        (b"113038", Rejection::WrongWorklistEntry),
        (b"113039", Rejection::RetentionExpired),
    ] {
        let mut draft = Draft::explicit();
        draft.title = title;
        let kos = Kos::parse(&draft.file()).unwrap();
        assert_eq!(kos.purpose(), Purpose::Rejection(why));
    }
    let mut draft = Draft::explicit();
    draft.title = b"113000";
    let kos = Kos::parse(&draft.file()).unwrap();
    assert_eq!(kos.purpose(), Purpose::KeyImages);
}

#[test]
fn an_identifier_is_an_ins_by_its_root_or_without_one_by_its_name() {
    let of = |issuer: Option<&str>, oid: Option<&str>| Identifier {
        value: "1".into(),
        issuer: issuer.map(Into::into),
        universal_issuer: oid.map(Into::into),
    };
    assert!(of(None, Some("1.2.250.1.213.1.4.8")).is_ins());
    assert!(of(Some("ASIP-SANTE-INS-NIA"), None).is_ins());
    assert!(!of(Some("ASIP-SANTE-INS-NIR"), Some("1.2.3")).is_ins());
    assert!(!of(None, Some("1.2.250.1.213.1.4.80")).is_ins());
    assert!(!of(None, None).is_ins());
}

#[test]
fn a_series_that_stands_there_twice_is_one_and_an_instance_too() {
    let mut draft = Draft::explicit();
    let one = draft.sop(b"1.2.3.1.1", None, &[]);
    let two = draft.sop(b"1.2.3.1.2", None, &[]);
    let first = draft.series(b"1.2.3.1", b"https://a/", &[one.clone()]);
    let again = draft.series(b"1.2.3.1", b"https://b/", &[one.clone(), two]);
    let elsewhere = draft.series(b"1.2.3.2", b"https://c/", &[one]);
    draft.evidence = vec![
        draft.study(b"1.2.3", &[first]),
        draft.study(b"1.2.3", &[again, elsewhere]),
    ];
    let kos = Kos::parse(&draft.file()).unwrap();
    assert_eq!(kos.series.len(), 2);
    assert_eq!(kos.series[0].retrieve_url.as_deref(), Some("https://a/"));
    assert_eq!(kos.series[0].instances.len(), 2);
    assert_eq!(kos.series[1].instances.len(), 0);
}

#[test]
fn what_identifies_must_be_right() {
    let read = |change: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::explicit();
        change(&mut draft);
        Kos::parse(&draft.file())
    };
    let another = read(&|draft| {
        let series = draft.series(b"1.9.1", b"https://a/", &[draft.sop(b"1.9.1.1", None, &[])]);
        draft.evidence.push(draft.study(b"1.9", &[series]));
    });
    assert_eq!(another, Err(KosError::SeveralStudies));
    let other_class = read(&|draft| draft.sop_class = CT);
    assert_eq!(other_class, Err(KosError::OtherSopClass));
    let empty = read(&|draft| draft.evidence.clear());
    assert_eq!(empty, Err(KosError::Empty));
    for bad in [&b"1.2.3/../1"[..], b"", b"1.2.3.1.x"] {
        let instance = read(&|draft| {
            let series = draft.series(b"1.2.3.1", b"", &[draft.sop(bad, None, &[])]);
            draft.evidence = vec![draft.study(b"1.2.3", &[series])];
        });
        assert!(matches!(
            instance,
            Err(KosError::NoUid {
                tag: "0008,1155",
                ..
            })
        ));
        let series = read(&|draft| {
            let series = draft.series(bad, b"", &[draft.sop(b"1.2.3.1.1", None, &[])]);
            draft.evidence = vec![draft.study(b"1.2.3", &[series])];
        });
        assert!(matches!(
            series,
            Err(KosError::NoUid {
                tag: "0020,000E",
                ..
            })
        ));
    }
}

#[test]
fn more_than_allowed_is_refused() {
    let file = Draft::explicit().file();
    let within = |limits: KosLimits| Kos::parse_within(&file, &limits);
    let limits = KosLimits::default();
    assert!(within(limits).is_ok());
    let refused = [
        within(KosLimits {
            bytes: file.len() - 1,
            ..limits
        }),
        within(KosLimits {
            series: 1,
            ..limits
        }),
        within(KosLimits {
            instances: 2,
            ..limits
        }),
        within(KosLimits {
            references: 0,
            ..limits
        }),
    ];
    for outcome in refused {
        assert!(matches!(
            outcome,
            Err(KosError::TooLong { .. } | KosError::TooMany { .. })
        ));
    }
    let kos = within(KosLimits { text: 40, ..limits }).unwrap();
    assert_eq!(
        kos.description, None,
        "a text that is too long counts as absent"
    );
}

#[test]
fn a_file_that_is_cut_anywhere_is_refused() {
    let mut draft = Draft::explicit();
    draft.content = None;
    let file = draft.file();
    for end in 0..file.len() {
        assert!(Kos::parse(&file[..end]).is_err(), "cut at {end}");
    }
}

/// Over the samples of the ANS, where `DRIMBOX_ANS_DATA` names a folder that has them.
#[test]
fn the_published_samples_are_read() {
    let Some(folder) = std::env::var_os("DRIMBOX_ANS_DATA") else {
        eprintln!("skipped: DRIMBOX_ANS_DATA names no folder with the samples of the ANS");
        return;
    };
    let folder = std::path::Path::new(&folder).join("kos");
    let kos = Kos::parse(&std::fs::read(folder.join("ko.dcm")).unwrap()).unwrap();
    assert_eq!((kos.series.len(), kos.instance_count()), (2, 20));
    assert!(kos.patient.ins().is_some());
    assert_eq!(kos.accessions().len(), 1);
    let kos = Kos::parse(&std::fs::read(folder.join("kin-manifest.rebuilt.dcm")).unwrap()).unwrap();
    assert_eq!(kos.series.len(), 3);
    let marks: usize = kos
        .series
        .iter()
        .flat_map(|series| &series.instances)
        .map(|instance| instance.marks.len())
        .sum();
    assert_eq!((marks, kos.key_image_notes().count()), (1, 1));
    assert_eq!(kos.purpose(), Purpose::Manifest);
}

proptest! {
    #[test]
    fn any_damage_is_read_or_refused_without_panic(
        at in 132_usize..2000, byte: u8, length in 1_usize..8,
    ) {
        let mut file = Draft::explicit().file();
        let end = file.len();
        for place in file[at.min(end)..(at + length).min(end)].iter_mut() {
            *place ^= byte;
        }
        let _ = Kos::parse(&file);
    }
}
