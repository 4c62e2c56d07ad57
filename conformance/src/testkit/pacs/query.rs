//! Matching of identifiers (PS3.4 §C.2.2.2) and the data sets of C-FIND answers.

use std::collections::BTreeSet;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::header::Header;
use dicom_core::value::PrimitiveValue;
use dicom_core::{DataElement, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use dicom_encoding::transfer_syntax::TransferSyntaxIndex;
use dicom_object::InMemDicomObject;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;

use super::object::Object;
use super::{Abilities, Behaviour, Identifier};

/// What one of the four levels is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Patient,
    Study,
    Series,
    Image,
}

impl Level {
    pub(super) fn of(identifier: &Identifier) -> Option<Self> {
        match identifier.level.as_str() {
            "PATIENT" => Some(Self::Patient),
            "STUDY" => Some(Self::Study),
            "SERIES" => Some(Self::Series),
            "IMAGE" => Some(Self::Image),
            _ => None,
        }
    }

    /// The unique key of the level.
    fn key(self) -> Tag {
        match self {
            Self::Patient => tags::PATIENT_ID,
            Self::Study => tags::STUDY_INSTANCE_UID,
            Self::Series => tags::SERIES_INSTANCE_UID,
            Self::Image => tags::SOP_INSTANCE_UID,
        }
    }

    /// Whether every unique key between the study and this level is named.
    pub(super) fn names_its_parents(self, identifier: &Identifier) -> bool {
        [Self::Study, Self::Series]
            .into_iter()
            .filter(|parent| *parent < self)
            .all(|parent| identifier.key(parent.key()).is_some_and(is_single))
    }
}

fn is_single(value: &str) -> bool {
    !value.is_empty() && !value.contains(['*', '?', '\\'])
}

/// Reads an identifier; `None` when it is no data set.
pub(super) fn identifier(data: &[u8], transfer_syntax: &str) -> Option<Identifier> {
    let syntax = TransferSyntaxRegistry.get(transfer_syntax)?;
    let object = InMemDicomObject::read_dataset_with_ts(data, syntax).ok()?;
    let mut identifier = Identifier::default();
    for element in &object {
        let value = element.to_str().unwrap_or_default();
        let value = value.trim_matches([' ', '\0']).to_owned();
        if element.tag() == tags::QUERY_RETRIEVE_LEVEL {
            identifier.level = value;
        } else {
            identifier.keys.push((element.tag(), value));
        }
    }
    Some(identifier)
}

/// The objects that match, one group for each entity of the level, in the order of the files.
pub(super) fn select<'a>(
    objects: &'a [Object],
    identifier: &Identifier,
    level: Level,
    behaviour: &Behaviour,
    abilities: Abilities,
) -> Vec<Vec<&'a Object>> {
    let mut groups: Vec<(String, Vec<&Object>)> = Vec::new();
    for object in objects {
        if !matches(objects, object, identifier, behaviour, abilities) {
            continue;
        }
        let key = object.text(level.key());
        match groups.iter_mut().find(|(other, _)| *other == key) {
            Some((_, group)) => group.push(object),
            None => groups.push((key, vec![object])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

fn matches(
    objects: &[Object],
    object: &Object,
    identifier: &Identifier,
    behaviour: &Behaviour,
    abilities: Abilities,
) -> bool {
    let moments = abilities.date_time && is_range_of_moments(identifier);
    if moments && !is_within(object, identifier) {
        return false;
    }
    identifier.keys.iter().all(|(tag, wanted)| {
        if behaviour.ignores_keys && vr(*tag) != VR::UI {
            return true;
        }
        if moments && [tags::STUDY_DATE, tags::STUDY_TIME].contains(tag) {
            return true;
        }
        if abilities.fuzzy_names && vr(*tag) == VR::PN && !wanted.is_empty() {
            return sound(wanted) == sound(&object.text(*tag));
        }
        if wanted.is_empty() || *tag == tags::SPECIFIC_CHARACTER_SET || computed(*tag) {
            return true;
        }
        match *tag {
            tags::MODALITIES_IN_STUDY => related(objects, object, Level::Study)
                .iter()
                .any(|other| matches_value(*tag, wanted, &other.text(tags::MODALITY))),
            tag if tag.group() == 0x0008 && tag == tags::RETRIEVE_AE_TITLE => true,
            tag => matches_value(tag, wanted, &object.text(tag)),
        }
    })
}

/// Study Date and Study Time are both ranges (PS3.4 §C.2.2.2.5).
fn is_range_of_moments(identifier: &Identifier) -> bool {
    [tags::STUDY_DATE, tags::STUDY_TIME]
        .iter()
        .all(|tag| identifier.key(*tag).is_some_and(|key| key.contains('-')))
}

fn is_within(object: &Object, identifier: &Identifier) -> bool {
    let ends = |tag| identifier.key(tag).and_then(|key| key.split_once('-'));
    let (Some(date), Some(time)) = (ends(tags::STUDY_DATE), ends(tags::STUDY_TIME)) else {
        return true;
    };
    let (from, until) = (
        format!("{}{}", date.0, time.0),
        format!("{}{}", date.1, time.1),
    );
    let moment = object.text(tags::STUDY_DATE) + &object.text(tags::STUDY_TIME);
    let last = moment.get(..until.len()).unwrap_or(&moment);
    (from.is_empty() || moment >= from) && (until.is_empty() || last <= until.as_str())
}

/// The parts of a name without vowels, in the order of the alphabet.
fn sound(name: &str) -> Vec<String> {
    let silent = |c: &char| !matches!(c.to_ascii_uppercase(), 'A' | 'E' | 'I' | 'O' | 'U' | 'Y');
    let parts = name.split(['^', ' ']).filter(|part| !part.is_empty());
    let mut parts: Vec<String> = parts
        .map(|part| {
            part.chars()
                .filter(silent)
                .collect::<String>()
                .to_ascii_uppercase()
        })
        .collect();
    parts.sort();
    parts
}

/// Attributes of studies and their patients that are commonly asked for (PS3.4 tables C.6-1, C.6-2).
fn is_of_study(tag: Tag) -> bool {
    tag.group() == 0x0010
        || [
            tags::STUDY_DATE,
            tags::STUDY_TIME,
            tags::ACCESSION_NUMBER,
            tags::MODALITIES_IN_STUDY,
            tags::REFERRING_PHYSICIAN_NAME,
            tags::STUDY_DESCRIPTION,
            tags::STUDY_ID,
            tags::NUMBER_OF_STUDY_RELATED_SERIES,
            tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
        ]
        .contains(&tag)
}

/// Attributes of series, likewise (PS3.4 table C.6-3).
fn is_of_series(tag: Tag) -> bool {
    [
        tags::MODALITY,
        tags::SERIES_DESCRIPTION,
        tags::SERIES_NUMBER,
        tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
        tags::REQUEST_ATTRIBUTES_SEQUENCE,
    ]
    .contains(&tag)
}

fn matches_value(tag: Tag, wanted: &str, found: &str) -> bool {
    match vr(tag) {
        VR::UI => wanted.split('\\').any(|uid| uid.trim() == found),
        VR::DA | VR::TM | VR::DT if wanted.contains('-') => {
            let (from, until) = wanted.split_once('-').unwrap_or((wanted, ""));
            let found_day = found.get(..until.len()).unwrap_or(found);
            !found.is_empty()
                && (from.is_empty() || found >= from)
                && (until.is_empty() || found_day <= until)
        }
        _ => wildcard(wanted.as_bytes(), found.as_bytes()),
    }
}

/// `*` is any text, `?` any character.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            (0..=text.len()).any(|skip| wildcard(rest, text.get(skip..).unwrap_or_default()))
        }
        Some((first, rest)) => text.split_first().is_some_and(|(found, after)| {
            (first == found || *first == b'?') && wildcard(rest, after)
        }),
    }
}

/// Attributes that no object holds.
fn computed(tag: Tag) -> bool {
    [
        tags::NUMBER_OF_PATIENT_RELATED_STUDIES,
        tags::NUMBER_OF_PATIENT_RELATED_SERIES,
        tags::NUMBER_OF_PATIENT_RELATED_INSTANCES,
        tags::NUMBER_OF_STUDY_RELATED_SERIES,
        tags::NUMBER_OF_STUDY_RELATED_INSTANCES,
        tags::NUMBER_OF_SERIES_RELATED_INSTANCES,
    ]
    .contains(&tag)
}

/// Every object of the same patient, study or series.
fn related<'a>(objects: &'a [Object], object: &Object, level: Level) -> Vec<&'a Object> {
    let uid = object.text(level.key());
    let same = |other: &&Object| other.text(level.key()) == uid;
    objects.iter().filter(same).collect()
}

/// The answer for one group: exactly the attributes asked for, in `transfer_syntax`.
pub(super) fn answer(
    objects: &[Object],
    group: &[&Object],
    identifier: &Identifier,
    ae_title: &str,
    behaviour: &Behaviour,
    transfer_syntax: &str,
) -> Vec<u8> {
    let Some(first) = group.first() else {
        return Vec::new();
    };
    let mut answer = InMemDicomObject::new_empty();
    for (tag, _) in &identifier.keys {
        let element = match *tag {
            tags::SPECIFIC_CHARACTER_SET => continue,
            tag if behaviour.own_level_only
                && (is_of_study(tag) && identifier.level != "STUDY"
                    || is_of_series(tag) && identifier.level == "IMAGE") =>
            {
                continue;
            }
            tag if computed(tag) => {
                let count = if behaviour.without_related_counts {
                    String::new()
                } else {
                    count(objects, first, tag).to_string()
                };
                DataElement::new(tag, VR::IS, PrimitiveValue::from(count))
            }
            tags::MODALITIES_IN_STUDY => in_study(objects, first, *tag, VR::CS, tags::MODALITY),
            tags::SOP_CLASSES_IN_STUDY => {
                in_study(objects, first, *tag, VR::UI, tags::SOP_CLASS_UID)
            }
            tag => match first.attributes.get(tag) {
                Some(element) => element.clone(),
                None => DataElement::new(tag, vr(tag), PrimitiveValue::Empty),
            },
        };
        answer.put(element);
    }
    answer.put(text(tags::QUERY_RETRIEVE_LEVEL, VR::CS, &identifier.level));
    answer.put(text(tags::RETRIEVE_AE_TITLE, VR::AE, ae_title));
    if behaviour.undeclared_latin1 {
        to_latin1(&mut answer);
    } else {
        answer.put(text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192"));
    }
    encode(&answer, transfer_syntax)
}

fn count(objects: &[Object], object: &Object, tag: Tag) -> usize {
    let (parent, child) = match tag {
        tags::NUMBER_OF_PATIENT_RELATED_STUDIES => (Level::Patient, Level::Study),
        tags::NUMBER_OF_PATIENT_RELATED_SERIES => (Level::Patient, Level::Series),
        tags::NUMBER_OF_PATIENT_RELATED_INSTANCES => (Level::Patient, Level::Image),
        tags::NUMBER_OF_STUDY_RELATED_SERIES => (Level::Study, Level::Series),
        tags::NUMBER_OF_STUDY_RELATED_INSTANCES => (Level::Study, Level::Image),
        _ => (Level::Series, Level::Image),
    };
    let children = related(objects, object, parent);
    let distinct: BTreeSet<_> = children.iter().map(|o| o.text(child.key())).collect();
    distinct.len()
}

fn in_study(
    objects: &[Object],
    object: &Object,
    tag: Tag,
    vr: VR,
    of: Tag,
) -> dicom_object::mem::InMemElement {
    let study = related(objects, object, Level::Study);
    let distinct: BTreeSet<_> = study.iter().map(|o| o.text(of)).collect();
    let value = PrimitiveValue::Strs(distinct.into_iter().collect());
    DataElement::new(tag, vr, value)
}

/// The data set of a final response that lists what failed (PS3.4 §C.4.3.1.3.2).
pub(super) fn failed_list(uids: &[String], transfer_syntax: &str) -> Vec<u8> {
    let mut list = InMemDicomObject::new_empty();
    let value = PrimitiveValue::Strs(uids.iter().cloned().collect());
    list.put(DataElement::new(
        tags::FAILED_SOP_INSTANCE_UID_LIST,
        VR::UI,
        value,
    ));
    encode(&list, transfer_syntax)
}

fn text(tag: Tag, vr: VR, value: &str) -> dicom_object::mem::InMemElement {
    DataElement::new(tag, vr, PrimitiveValue::from(value))
}

/// Turns text into bytes of ISO 8859-1, which the writer leaves as they are.
fn to_latin1(object: &mut InMemDicomObject) {
    let text_vrs = [VR::PN, VR::LO, VR::SH, VR::LT, VR::ST, VR::UT, VR::UC];
    let texts: Vec<_> = object
        .iter()
        .filter(|element| text_vrs.contains(&element.vr()))
        .filter_map(|element| {
            Some((
                element.tag(),
                element.vr(),
                element.to_str().ok()?.into_owned(),
            ))
        })
        .collect();
    for (tag, vr, value) in texts {
        let mut bytes: Vec<u8> = value
            .chars()
            .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
            .collect();
        if bytes.len() % 2 == 1 {
            bytes.push(b' ');
        }
        object.put(DataElement::new(tag, vr, PrimitiveValue::U8(bytes.into())));
    }
}

fn encode(object: &InMemDicomObject, transfer_syntax: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(syntax) = TransferSyntaxRegistry.get(transfer_syntax) {
        // Into memory: only a value without encoding could fail, and these came from a data set.
        let _ = object.write_dataset_with_ts(&mut bytes, syntax);
    }
    bytes
}

fn vr(tag: Tag) -> VR {
    StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_and_ranges_match_as_the_standard_says() {
        assert!(wildcard(b"MAR*N", b"MARTIN"));
        assert!(wildcard(b"MART?N", b"MARTIN"));
        assert!(!wildcard(b"MARTIN", b"MARTINEZ"));
        let date = |wanted, found| matches_value(tags::STUDY_DATE, wanted, found);
        assert!(date("20260101-20260131", "20260131"));
        assert!(date("-20260131", "20251224"));
        assert!(!date("20260201-", "20260131"));
    }
}
