//! Small data sets put together from several: the answers of an archive at different levels, what an
//! instance holds.
//!
//! The parts come in any encoding and character set; the whole is Explicit VR Little Endian in
//! Unicode. Pixel data are never part of it.

use std::collections::BTreeMap;

use dicom_core::{Tag, VR};

use super::charset::{CharacterSet, Repertoire, is_affected};
use super::reader::{Element, Elements, Value};
use super::uid::Uid;
use super::walk::word_size;
use super::write::{put_element, put_item};

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
/// Sequences within sequences that are followed; the reader has limits of its own.
const MAX_DEPTH: usize = 32;

/// How the texts of a source are to be read.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Repertoire of the bytes that no declaration covers.
    pub fallback: Repertoire,
    /// Character set of all texts, whatever the data declare.
    pub replaces: Option<&'a CharacterSet>,
}

impl Reading<'_> {
    /// The character set of the texts of these elements.
    #[must_use]
    pub fn charset(self, elements: Elements<'_>) -> CharacterSet {
        match self.replaces {
            Some(charset) => charset.clone(),
            None => elements
                .declared_character_set(self.fallback)
                .unwrap_or_else(|| CharacterSet::undeclared(self.fallback)),
        }
    }

    fn inner(self, item: Elements<'_>, outer: &CharacterSet) -> CharacterSet {
        match self.replaces {
            Some(charset) => charset.clone(),
            None => item
                .declared_character_set(self.fallback)
                .unwrap_or_else(|| outer.clone()),
        }
    }
}

/// The elements of a data set in the making, in tag order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Composed {
    elements: BTreeMap<Tag, (VR, Vec<u8>)>,
}

impl Composed {
    /// Everything that `elements` hold but pixel data and values that were not kept.
    #[must_use]
    pub fn of(elements: Elements<'_>, reading: Reading<'_>) -> Self {
        let mut this = Self::default();
        this.add_missing(elements, reading, |_| true);
        this
    }

    /// Takes the elements that are wanted and not there yet, or there without a value.
    pub fn add_missing(
        &mut self,
        elements: Elements<'_>,
        reading: Reading<'_>,
        wanted: impl Fn(Tag) -> bool,
    ) {
        let charset = reading.charset(elements);
        for element in elements.iter() {
            let tag = element.tag();
            if tag == SPECIFIC_CHARACTER_SET || !self.is_empty(tag) || !wanted(tag) {
                continue;
            }
            if let Some(value) = in_unicode(element, &charset, reading, 0) {
                self.elements.insert(tag, (element.vr(), value));
            }
        }
    }

    /// Sets an element; `value` is in Unicode, without padding.
    pub fn set(&mut self, tag: Tag, vr: VR, value: String) {
        self.elements.insert(tag, (vr, value.into_bytes()));
    }

    /// Its tags, ascending.
    pub fn tags(&self) -> impl Iterator<Item = Tag> {
        self.elements.keys().copied()
    }

    /// Takes an element of another one, unless it is there with a value.
    pub fn add_missing_from(&mut self, other: &Self, tag: Tag) {
        if self.is_empty(tag)
            && let Some(element) = other.elements.get(&tag)
        {
            self.elements.insert(tag, element.clone());
        }
    }

    /// Takes an element of another one, in place of the one that is there.
    pub fn replace_from(&mut self, other: &Self, tag: Tag) {
        if let Some(element) = other.elements.get(&tag) {
            self.elements.insert(tag, element.clone());
        }
    }

    /// Leaves out what is not wanted.
    pub fn retain(&mut self, wanted: impl Fn(Tag, &[u8]) -> bool) {
        self.elements.retain(|tag, (_, value)| wanted(*tag, value));
    }

    /// Whether an element is absent or has no value.
    #[must_use]
    pub fn is_empty(&self, tag: Tag) -> bool {
        self.elements
            .get(&tag)
            .is_none_or(|(_, value)| value.iter().all(|byte| matches!(byte, b' ' | 0)))
    }

    /// Whether an element is there, be it without a value.
    #[must_use]
    pub fn contains(&self, tag: Tag) -> bool {
        self.elements.contains_key(&tag)
    }

    /// The texts that a character set affects, delimiters included, in tag order.
    pub fn texts(&self) -> impl Iterator<Item = (Tag, &str)> {
        self.elements
            .iter()
            .filter(|(_, (vr, _))| is_affected(*vr))
            .filter_map(|(tag, (_, value))| Some((*tag, std::str::from_utf8(value).ok()?)))
    }

    /// A text that a character set affects.
    #[must_use]
    pub fn text(&self, tag: Tag) -> Option<&str> {
        let (vr, value) = self.elements.get(&tag)?;
        is_affected(*vr).then(|| std::str::from_utf8(value).ok())?
    }

    /// A UID.
    #[must_use]
    pub fn uid(&self, tag: Tag) -> Option<Uid> {
        let (_, value) = self.elements.get(&tag)?;
        let text = std::str::from_utf8(value).ok()?;
        Uid::parse(text.trim_matches([' ', '\0'])).ok()
    }

    /// Bytes of all values.
    #[must_use]
    pub fn size(&self) -> usize {
        let values = self.elements.values();
        values.map(|(_, value)| value.len() + 32).sum()
    }

    /// The data set in Explicit VR Little Endian; it says that its texts are in Unicode when they
    /// are more than ASCII.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size() + 32);
        let unicode = self.elements.values().any(|(_, value)| !value.is_ascii());
        let mut declared = !unicode;
        for (tag, (vr, value)) in &self.elements {
            if !declared && *tag > SPECIFIC_CHARACTER_SET {
                put_element(&mut out, SPECIFIC_CHARACTER_SET, VR::CS, UNICODE);
                declared = true;
            }
            put_element(&mut out, *tag, *vr, value);
        }
        out
    }
}

const UNICODE: &[u8] = b"ISO_IR 192";

/// The value of an element, texts in Unicode, numbers in little endian; `None` when it is not at
/// hand.
fn in_unicode(
    element: Element<'_>,
    charset: &CharacterSet,
    reading: Reading<'_>,
    depth: usize,
) -> Option<Vec<u8>> {
    match element.value() {
        Value::Bytes(bytes) if is_affected(element.vr()) => {
            Some(charset.decode(bytes, element.vr()).into_bytes())
        }
        Value::Bytes(_) if element.is_big_endian() && word_size(element.vr()) > 1 => None,
        Value::Bytes(bytes) => Some(bytes.to_vec()),
        Value::Items(items) => {
            let mut out = Vec::new();
            if depth == MAX_DEPTH {
                return None;
            }
            for item in items.iter() {
                let charset = reading.inner(item, charset);
                let mut inner = Vec::new();
                for element in item.iter() {
                    if element.tag() == SPECIFIC_CHARACTER_SET {
                        continue;
                    }
                    if let Some(value) = in_unicode(element, &charset, reading, depth + 1) {
                        put_element(&mut inner, element.tag(), element.vr(), &value);
                    }
                }
                put_item(&mut out, &inner);
            }
            Some(out)
        }
        Value::Fragments(_) | Value::Large(_) => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )]

    use super::*;
    use crate::dicom::reader::{DataSet, Limits};
    use crate::dicom::syntax::Encoding;
    use crate::dicom::testdata::Writer;

    const READING: Reading<'static> = Reading {
        fallback: Repertoire::Latin1,
        replaces: None,
    };
    const NAME: Tag = Tag(0x0010, 0x0010);
    const DESCRIPTION: Tag = Tag(0x0008, 0x1030);

    fn composed(encoding: Encoding, bytes: &[u8]) -> Composed {
        let set = DataSet::parse(bytes, encoding, Limits::default()).unwrap();
        Composed::of(set.elements(), READING)
    }

    #[test]
    fn parts_in_several_character_sets_become_one_in_unicode() {
        let greek = Writer::new(Encoding::ImplicitLittle)
            .put((0x0008, 0x0005), VR::CS, b"ISO_IR 126")
            .put((0x0010, 0x0010), VR::PN, b"\xc4\xe9")
            .bytes;
        let latin = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x1030), VR::LO, b"T\xeate")
            .put((0x0010, 0x0010), VR::PN, b"OTHER^NAME")
            .bytes;
        let mut whole = composed(Encoding::ImplicitLittle, &greek);
        let set = DataSet::parse(&latin, Encoding::ExplicitLittle, Limits::default()).unwrap();
        whole.add_missing(set.elements(), READING, |_| true);
        let encoded = whole.encode();
        let set = DataSet::parse(&encoded, Encoding::ExplicitLittle, Limits::default()).unwrap();
        let charset = READING.charset(set.elements());
        assert_eq!(set.elements().text(NAME, &charset).unwrap(), "Δι");
        assert_eq!(set.elements().text(DESCRIPTION, &charset).unwrap(), "Tête");
    }

    #[test]
    fn an_element_without_a_value_is_filled_and_one_with_a_value_stays() {
        let empty = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x1030), VR::LO, b"  ")
            .put((0x0010, 0x0010), VR::PN, b"KEPT")
            .bytes;
        let full = Writer::new(Encoding::ExplicitLittle)
            .put((0x0008, 0x1030), VR::LO, b"HEAD")
            .put((0x0010, 0x0010), VR::PN, b"OTHER")
            .bytes;
        let mut whole = composed(Encoding::ExplicitLittle, &empty);
        let other = composed(Encoding::ExplicitLittle, &full);
        whole.add_missing_from(&other, DESCRIPTION);
        whole.add_missing_from(&other, NAME);
        assert_eq!(whole.text(DESCRIPTION), Some("HEAD"));
        assert_eq!(whole.text(NAME), Some("KEPT"));
    }
}
