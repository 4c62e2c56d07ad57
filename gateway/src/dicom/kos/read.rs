//! From the bytes of a file to a [`Kos`].

use std::collections::{HashMap, HashSet};

use dicom_core::Tag;

use super::patient::KosPatient;
use super::{
    Code, KEY_OBJECT_SELECTION, KeyMark, Kos, KosError, KosInstance, KosLimits, KosSeries,
    Reference, Request,
};
use crate::dicom::charset::CharacterSet;
use crate::dicom::part10;
use crate::dicom::reader::{DataSet, Element, Elements};
use crate::dicom::syntax::Encoding;
use crate::dicom::uid::{InstanceUid, SeriesUid, SopClassUid, StudyUid, Uid};

const SOP_CLASS_UID: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE_UID: Tag = Tag(0x0008, 0x0018);
const STUDY_DATE: Tag = Tag(0x0008, 0x0020);
const ACCESSION_NUMBER: Tag = Tag(0x0008, 0x0050);
const ISSUER_OF_ACCESSION_NUMBER: Tag = Tag(0x0008, 0x0051);
const INSTITUTION_NAME: Tag = Tag(0x0008, 0x0080);
const CODE_VALUE: Tag = Tag(0x0008, 0x0100);
const CODING_SCHEME: Tag = Tag(0x0008, 0x0102);
const CODE_MEANING: Tag = Tag(0x0008, 0x0104);
const STUDY_DESCRIPTION: Tag = Tag(0x0008, 0x1030);
const REFERENCED_SERIES: Tag = Tag(0x0008, 0x1115);
const REFERENCED_SOP_CLASS: Tag = Tag(0x0008, 0x1150);
const REFERENCED_SOP_INSTANCE: Tag = Tag(0x0008, 0x1155);
const REFERENCED_FRAME_NUMBER: Tag = Tag(0x0008, 0x1160);
const RETRIEVE_URL: Tag = Tag(0x0008, 0x1190);
const REFERENCED_SOP: Tag = Tag(0x0008, 0x1199);
const STUDY_INSTANCE_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_INSTANCE_UID: Tag = Tag(0x0020, 0x000E);
const SERIES_NUMBER: Tag = Tag(0x0020, 0x0011);
const INSTANCE_NUMBER: Tag = Tag(0x0020, 0x0013);
const ORDER_PLACER: Tag = Tag(0x0040, 0x0026);
const UNIVERSAL_ENTITY_ID: Tag = Tag(0x0040, 0x0032);
const PLACER_ORDER_NUMBER: Tag = Tag(0x0040, 0x2016);
const CONCEPT_NAME: Tag = Tag(0x0040, 0xA043);
const TEXT_VALUE: Tag = Tag(0x0040, 0xA160);
const REFERENCED_REQUEST: Tag = Tag(0x0040, 0xA370);
const EVIDENCE: Tag = Tag(0x0040, 0xA375);
const CONTENT: Tag = Tag(0x0040, 0xA730);
const RETRIEVE_LOCATION_UID: Tag = Tag(0x0040, 0xE011);

/// Key Object Description (PS3.16 TID 2010).
const KEY_OBJECT_DESCRIPTION: &str = "113012";
/// Orders kept of one document.
const MAX_REQUESTS: usize = 64;
/// Bytes of a UID or of a whole number: no more are read of one, whatever its length says.
const MAX_SHORT: usize = 128;

pub(super) fn parse(file: &[u8], limits: &KosLimits) -> Result<Kos, KosError> {
    if file.len() > limits.bytes {
        return Err(KosError::TooLong {
            bytes: file.len(),
            limit: limits.bytes,
        });
    }
    let meta = part10::parse(file)?;
    let data = file.get(meta.data_set_offset..).unwrap_or_default();
    let encoding = Encoding::of(&meta.transfer_syntax);
    let set = DataSet::parse(data, encoding, limits.data_set())?;
    let document = set.elements();
    let charset = document.declared_character_set(Default::default());
    let reader = Reader {
        charset: &charset.unwrap_or_default(),
        limits,
    };
    reader.document(document)
}

/// What holds for the whole document.
pub(super) struct Reader<'a> {
    charset: &'a CharacterSet,
    limits: &'a KosLimits,
}

impl Reader<'_> {
    fn document(&self, document: Elements<'_>) -> Result<Kos, KosError> {
        let sop_class = uid(document, SOP_CLASS_UID);
        if sop_class.is_none_or(|class| class.as_str() != KEY_OBJECT_SELECTION) {
            return Err(KosError::OtherSopClass);
        }
        let instance = needed(document, SOP_INSTANCE_UID, "SOP Instance UID")?;
        let study: StudyUid = needed(document, STUDY_INSTANCE_UID, "Study Instance UID")?.into();
        let mut series = self.evidence(document, &study)?;
        let description = self.description(document);
        if let Some(text) = &description {
            for one in &mut series {
                one.modality = modality_in(text, &one.series);
            }
        }
        let mut content = Vec::new();
        self.content(document, &mut content)?;
        Ok(Kos {
            instance: instance.into(),
            study,
            series_of_document: uid(document, SERIES_INSTANCE_UID).map(Into::into),
            number: number(document, INSTANCE_NUMBER),
            title: self.code(document, CONCEPT_NAME),
            description,
            study_description: self.text(document, STUDY_DESCRIPTION),
            study_date: self.text(document, STUDY_DATE),
            institution: self.text(document, INSTITUTION_NAME),
            patient: KosPatient::read(self, document),
            requests: self.requests(document),
            series,
            content,
        })
    }

    /// Current Requested Procedure Evidence Sequence: one item a study, and one study only.
    fn evidence(
        &self,
        document: Elements<'_>,
        study: &StudyUid,
    ) -> Result<Vec<KosSeries>, KosError> {
        let mut found = Found::default();
        for of_study in document.items(EVIDENCE) {
            let named = needed(of_study, STUDY_INSTANCE_UID, "Study Instance UID")?;
            if named.as_str() != study.as_str() {
                return Err(KosError::SeveralStudies);
            }
            for item in of_study.items(REFERENCED_SERIES) {
                self.series(item, &mut found)?;
            }
        }
        if found.instances.is_empty() {
            return Err(KosError::Empty);
        }
        Ok(found.series)
    }

    fn series(&self, item: Elements<'_>, found: &mut Found) -> Result<(), KosError> {
        let named: SeriesUid = needed(item, SERIES_INSTANCE_UID, "Series Instance UID")?.into();
        let at = match found.places.get(&named) {
            Some(at) => *at,
            None => {
                let at = found.series.len();
                within(at, self.limits.series, "series")?;
                found.places.insert(named.clone(), at);
                found.series.push(KosSeries {
                    series: named,
                    retrieve_url: None,
                    retrieve_location: None,
                    number: number(item, SERIES_NUMBER),
                    modality: None,
                    instances: Vec::new(),
                });
                at
            }
        };
        let Some(series) = found.series.get_mut(at) else {
            return Ok(());
        };
        // Of a series that stands there twice, what was said first holds.
        if series.retrieve_url.is_none() {
            series.retrieve_url = self.text(item, RETRIEVE_URL);
        }
        if series.retrieve_location.is_none() {
            series.retrieve_location = self.text(item, RETRIEVE_LOCATION_UID);
        }
        for sop in item.items(REFERENCED_SOP) {
            let instance: InstanceUid =
                needed(sop, REFERENCED_SOP_INSTANCE, "Referenced SOP Instance UID")?.into();
            // An instance lies in one series: where it stands again it says nothing new.
            if !found.instances.insert(instance.clone()) {
                continue;
            }
            within(
                found.instances.len() - 1,
                self.limits.instances,
                "instances",
            )?;
            let marks = self.marks(sop, &mut found.marks)?;
            series.instances.push(KosInstance {
                sop_class: uid(sop, REFERENCED_SOP_CLASS).map(SopClassUid::from),
                instance,
                number: number(sop, INSTANCE_NUMBER),
                marks,
            });
        }
        Ok(())
    }

    /// The marks of Key Image Notes, which DRIM-M nests in the item of the image. One that names no
    /// note is no mark.
    fn marks(&self, sop: Elements<'_>, count: &mut usize) -> Result<Vec<KeyMark>, KosError> {
        let mut marks = Vec::new();
        for mark in sop.items(REFERENCED_SOP) {
            let Some(note) = uid(mark, REFERENCED_SOP_INSTANCE) else {
                continue;
            };
            within(*count, self.limits.references, "key marks")?;
            *count += 1;
            let text = mark.items(CONTENT);
            let text = text.filter_map(|item| self.text(item, TEXT_VALUE)).next();
            marks.push(KeyMark {
                note: note.into(),
                series: uid(mark, SERIES_INSTANCE_UID).map(Into::into),
                title: self.code(mark, CONCEPT_NAME),
                text,
            });
        }
        Ok(marks)
    }

    /// What the content tree refers to, at any depth that the reader of the data set let pass.
    fn content(&self, node: Elements<'_>, found: &mut Vec<Reference>) -> Result<(), KosError> {
        for item in node.items(CONTENT) {
            for sop in item.items(REFERENCED_SOP) {
                let Some(instance) = uid(sop, REFERENCED_SOP_INSTANCE) else {
                    continue;
                };
                within(found.len(), self.limits.references, "references")?;
                let frames = self.texts(sop, REFERENCED_FRAME_NUMBER);
                let frames = frames.iter().filter_map(|frame| frame.parse().ok());
                found.push(Reference {
                    sop_class: uid(sop, REFERENCED_SOP_CLASS).map(Into::into),
                    instance: instance.into(),
                    frames: frames.collect(),
                });
            }
            self.content(item, found)?;
        }
        Ok(())
    }

    fn description(&self, document: Elements<'_>) -> Option<String> {
        let mut texts = document.items(CONTENT).filter(|item| {
            self.code(*item, CONCEPT_NAME)
                .is_some_and(|code| code.value == KEY_OBJECT_DESCRIPTION)
        });
        texts.find_map(|item| self.text(item, TEXT_VALUE))
    }

    fn requests(&self, document: Elements<'_>) -> Vec<Request> {
        let orders = document.items(REFERENCED_REQUEST).take(MAX_REQUESTS);
        let orders: Vec<Request> = orders.map(|order| self.request(order)).collect();
        let told = |request: &Request| request.accession.is_some();
        if orders.iter().any(told) {
            return orders;
        }
        // An older way of writing has it in the document itself.
        let own = self.request(document);
        orders.into_iter().chain(Some(own).filter(told)).collect()
    }

    fn request(&self, order: Elements<'_>) -> Request {
        let issuer = |sequence| {
            let issuer = order.items(sequence).next();
            issuer.and_then(|issuer| self.text(issuer, UNIVERSAL_ENTITY_ID))
        };
        Request {
            accession: self.text(order, ACCESSION_NUMBER),
            accession_issuer: issuer(ISSUER_OF_ACCESSION_NUMBER),
            placer_order: self.text(order, PLACER_ORDER_NUMBER),
            placer: issuer(ORDER_PLACER),
        }
    }

    fn code(&self, holder: Elements<'_>, sequence: Tag) -> Option<Code> {
        let code = holder.items(sequence).next()?;
        Some(Code {
            value: self.text(code, CODE_VALUE).unwrap_or_default(),
            scheme: self.text(code, CODING_SCHEME).unwrap_or_default(),
            meaning: self.text(code, CODE_MEANING).unwrap_or_default(),
        })
    }

    /// The first text that is not empty; `None` when there is none, or more than is allowed.
    pub(super) fn text(&self, holder: Elements<'_>, tag: Tag) -> Option<String> {
        self.texts(holder, tag).into_iter().next()
    }

    /// The values that are not empty; none when they are longer than allowed.
    pub(super) fn texts(&self, holder: Elements<'_>, tag: Tag) -> Vec<String> {
        let texts = short(holder, tag, self.limits.text).map(|it| it.strings(self.charset));
        let texts = texts.unwrap_or_default().into_iter();
        texts.filter(|text| !text.is_empty()).collect()
    }
}

/// What the evidence held so far.
#[derive(Default)]
struct Found {
    series: Vec<KosSeries>,
    places: HashMap<SeriesUid, usize>,
    instances: HashSet<InstanceUid>,
    marks: usize,
}

fn within(already: usize, limit: usize, what: &'static str) -> Result<(), KosError> {
    if already >= limit {
        return Err(KosError::TooMany { what, limit });
    }
    Ok(())
}

/// The element with this tag, when its value is not longer than this: the values of a long one would
/// take many times its bytes.
fn short<'d>(holder: Elements<'d>, tag: Tag, most: usize) -> Option<Element<'d>> {
    let element = holder.find(tag)?;
    (element.bytes()?.len() <= most).then_some(element)
}

fn uid(holder: Elements<'_>, tag: Tag) -> Option<Uid> {
    let values = short(holder, tag, MAX_SHORT)?.strings(&CharacterSet::default());
    Uid::parse(values.first()?).ok()
}

fn number(holder: Elements<'_>, tag: Tag) -> Option<u32> {
    short(holder, tag, MAX_SHORT)?;
    holder.u32(tag)
}

fn needed(holder: Elements<'_>, tag: Tag, attribute: &'static str) -> Result<Uid, KosError> {
    uid(holder, tag).ok_or(KosError::NoUid {
        attribute,
        tag: match tag {
            SOP_INSTANCE_UID => "0008,0018",
            STUDY_INSTANCE_UID => "0020,000D",
            SERIES_INSTANCE_UID => "0020,000E",
            _ => "0008,1155",
        },
    })
}

/// The modality in `Série-<UID> : <Modality> @…`: a code string after the UID and a colon.
fn modality_in(text: &str, series: &SeriesUid) -> Option<String> {
    let line = text.lines().find_map(|line| {
        let (_, after) = line.split_once(series.as_str())?;
        // Another UID may begin with this one.
        (!after.starts_with(|c: char| c == '.' || c.is_ascii_digit())).then_some(after)
    })?;
    let after = line.trim_start().strip_prefix(':')?.trim_start();
    let end = after.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit());
    let code = after.get(..end.unwrap_or(after.len()))?;
    (2..=16).contains(&code.len()).then(|| code.to_owned())
}
