//! Short ways to fill a data set, the value representation taken from the dictionary.

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::StandardDataDictionary;
use dicom_object::InMemDicomObject;

/// A data set in memory, without file meta information.
pub(super) type DataSet = InMemDicomObject<StandardDataDictionary>;

/// Puts elements one by one, each call replacing an element of the same tag.
pub(super) trait Put {
    /// A text value of any string VR; several values separated by `\`; empty for a type 2 element
    /// without a value.
    fn text(&mut self, tag: Tag, value: impl Into<String>) -> &mut Self;
    /// A binary value, or a number to be written as text when the element's VR is DS or IS.
    fn value(&mut self, tag: Tag, value: impl Into<PrimitiveValue>) -> &mut Self;
    /// Bytes written as they are, whatever the VR.
    fn raw(&mut self, tag: Tag, vr: VR, bytes: &[u8]) -> &mut Self;
    /// A sequence of undefined length.
    fn sequence(&mut self, tag: Tag, items: Vec<DataSet>) -> &mut Self;
    /// A sequence with the single item that `fill` fills.
    fn item(&mut self, tag: Tag, fill: impl FnOnce(&mut DataSet)) -> &mut Self {
        let mut item = DataSet::new_empty();
        fill(&mut item);
        self.sequence(tag, vec![item])
    }
    /// A sequence with one item of Table 8.8-1 of PS3.3, the code sequence macro.
    fn code(&mut self, tag: Tag, (value, scheme, meaning): (&str, &str, &str)) -> &mut Self {
        use dicom_dictionary_std::tags;
        self.item(tag, |item| {
            item.text(tags::CODE_VALUE, value)
                .text(tags::CODING_SCHEME_DESIGNATOR, scheme)
                .text(tags::CODE_MEANING, meaning);
        })
    }
}

impl Put for DataSet {
    fn text(&mut self, tag: Tag, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        let value = if value.is_empty() {
            PrimitiveValue::Empty
        } else {
            PrimitiveValue::from(value)
        };
        self.put(DataElement::new(tag, vr_of(tag), value));
        self
    }

    fn value(&mut self, tag: Tag, value: impl Into<PrimitiveValue>) -> &mut Self {
        self.put(DataElement::new(tag, vr_of(tag), value.into()));
        self
    }

    fn raw(&mut self, tag: Tag, vr: VR, bytes: &[u8]) -> &mut Self {
        let value = PrimitiveValue::U8(bytes.iter().copied().collect());
        self.put(DataElement::new(tag, vr, value));
        self
    }

    fn sequence(&mut self, tag: Tag, items: Vec<DataSet>) -> &mut Self {
        let sequence = DataSetSequence::new(items, Length::UNDEFINED);
        self.put(DataElement::new(tag, VR::SQ, sequence));
        self
    }
}

/// The VR of a standard attribute; UN for a tag that the dictionary doesn't know.
fn vr_of(tag: Tag) -> VR {
    StandardDataDictionary
        .by_tag(tag)
        .map_or(VR::UN, |entry| entry.vr().relaxed())
}
