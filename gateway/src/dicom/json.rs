//! The DICOM JSON Model (PS3.18 annex F), written straight from the bytes of a data set.

pub mod read;

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::{Tag, VR};

use super::charset::{CharacterSet, Repertoire, is_affected};
use super::path::AttributePath;
use super::reader::{DataSet, Element, Elements, Items, Limits, Value};
use super::syntax::Encoding;
use super::walk::{implicit_vr, is_pixel_data, word_size};

const SPECIFIC_CHARACTER_SET: Tag = Tag(0x0008, 0x0005);
const DATA_SET_TRAILING_PADDING: Tag = Tag(0xFFFC, 0xFFFC);
/// Whole numbers up to here are the same in every JSON reader (RFC 8259 §6).
const SAFE_INTEGER: u64 = 1 << 53;

/// How one JSON object is to be written.
#[derive(Default)]
pub struct JsonOptions<'o> {
    /// Repertoire of the bytes that no declaration covers; Latin-1 by default.
    pub fallback: Repertoire,
    /// Read all text in this set, whatever the data declare.
    pub charset_override: Option<&'o CharacterSet>,
    /// Binary values up to this many bytes are written in place (`InlineBinary`) …
    pub inline_max: usize,
    /// … and longer ones, and pixel data, as the URI that this gives for their path. Without it every
    /// binary value is written in place and encapsulated pixel data are left out.
    pub bulk_uri: Option<&'o dyn Fn(&AttributePath) -> String>,
    /// Attributes added at the top level, or written instead of those of the data set.
    pub extra: BTreeMap<Tag, Attribute>,
}

/// An attribute that does not come from the data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Text values of this VR; none gives an empty attribute.
    Strings(VR, Vec<String>),
    /// Whole numbers of this VR.
    Numbers(VR, Vec<i64>),
    /// A value that is fetched from this URI.
    BulkData(VR, String),
    /// The items that the data set has, and this one, in Explicit VR Little Endian; not again where the
    /// same is there.
    OneMoreItem(Vec<u8>),
    /// Not written, even where the data set has it.
    Absent,
}

impl Attribute {
    /// One text value.
    #[must_use]
    pub fn text(vr: VR, value: impl Into<String>) -> Self {
        Self::Strings(vr, vec![value.into()])
    }
}

/// Appends the JSON object of a data set to `out`.
///
/// The text is UTF-8 and (0008,0005) says so where the data declare a set or hold anything but
/// ASCII. Group lengths and groups 0000 and 0002 are left out (PS3.18 §F.2.2), attributes are in
/// ascending order whatever their order in the data.
pub fn write_object(out: &mut Vec<u8>, elements: Elements<'_>, options: &JsonOptions<'_>) {
    let charset = match options.charset_override {
        Some(charset) => charset.clone(),
        None => elements
            .declared_character_set(options.fallback)
            .unwrap_or_else(|| CharacterSet::undeclared(options.fallback)),
    };
    let mut extra: BTreeMap<Tag, &Attribute> =
        options.extra.iter().map(|(tag, a)| (*tag, a)).collect();
    let utf8 = Attribute::text(VR::CS, Repertoire::Utf8.term());
    if has_non_ascii(elements) || options.extra.values().any(Attribute::has_non_ascii) {
        extra.entry(SPECIFIC_CHARACTER_SET).or_insert(&utf8);
    }
    let mut writer = Writer {
        out,
        options,
        path: AttributePath::top(Tag(0, 0)),
        in_place: false,
    };
    writer.object(elements, &charset, extra);
}

struct Writer<'w, 'o> {
    out: &'w mut Vec<u8>,
    options: &'w JsonOptions<'o>,
    path: AttributePath,
    /// Inside a sequence that a path cannot reach: binary values are written in place.
    in_place: bool,
}

impl Writer<'_, '_> {
    fn object(
        &mut self,
        elements: Elements<'_>,
        charset: &CharacterSet,
        mut extra: BTreeMap<Tag, &Attribute>,
    ) {
        self.out.push(b'{');
        let mut first = true;
        for element in in_order(elements) {
            let tag = element.tag();
            while let Some(entry) = extra.first_entry()
                && *entry.key() <= tag
            {
                let (added, attribute) = entry.remove_entry();
                match (attribute, element.value()) {
                    (Attribute::OneMoreItem(item), Value::Items(items)) if added == tag => {
                        self.one_more(tag, Some((items, charset)), item, &mut first);
                    }
                    // No sequence, where there should be one: it stays what it is.
                    (Attribute::OneMoreItem(_), _) if added == tag => {
                        self.element(element, charset, &mut first);
                    }
                    _ => self.added(added, attribute, &mut first),
                }
                if added == tag {
                    // Written instead of the one in the data: skip that one.
                    extra.insert(tag, &Attribute::Absent);
                    break;
                }
            }
            if extra.remove(&tag).is_some() {
                continue;
            }
            self.element(element, charset, &mut first);
        }
        for (tag, attribute) in extra {
            self.added(tag, attribute, &mut first);
        }
        self.out.push(b'}');
    }

    fn element(&mut self, element: Element<'_>, charset: &CharacterSet, first: &mut bool) {
        let tag = element.tag();
        self.path.set_tag(tag);
        match element.value() {
            Value::Items(items) => {
                self.name(tag, VR::SQ, first);
                self.items(items, charset);
            }
            Value::Fragments(_) | Value::Large(_) => {
                // A sequence written as UN is opened only where its bytes are at hand.
                let vr = match known_vr(element) {
                    VR::SQ => VR::UN,
                    vr => vr,
                };
                self.name(tag, vr, first);
                self.bulk();
            }
            Value::Bytes(bytes) => self.bytes(element, bytes, charset, first),
        }
        self.out.push(b'}');
    }

    fn bytes(
        &mut self,
        element: Element<'_>,
        bytes: &[u8],
        charset: &CharacterSet,
        first: &mut bool,
    ) {
        let tag = element.tag();
        let vr = known_vr(element);
        if vr == VR::SQ && !bytes.is_empty() {
            if let Ok(set) = DataSet::parse(
                &as_sequence(tag, bytes),
                Encoding::ImplicitLittle,
                Limits::default(),
            ) && let Some(Value::Items(items)) = set.elements().find(tag).map(Element::value)
            {
                self.name(tag, VR::SQ, first);
                let outer = std::mem::replace(&mut self.in_place, true);
                self.items(items, charset);
                self.in_place = outer;
            } else {
                self.name(tag, VR::UN, first);
                self.binary(tag, bytes);
            }
            return;
        }
        self.name(tag, vr, first);
        if tag == SPECIFIC_CHARACTER_SET {
            self.text_values(VR::CS, &[Repertoire::Utf8.term().to_owned()]);
            return;
        }
        match vr {
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN | VR::SQ => {
                if element.is_big_endian() && word_size(vr) > 1 && self.is_inline(tag, bytes) {
                    self.binary(tag, &little_endian(bytes, word_size(vr)));
                } else {
                    self.binary(tag, bytes);
                }
            }
            VR::AT | VR::US | VR::SS | VR::UL | VR::SL | VR::FL | VR::FD | VR::UV | VR::SV => {
                self.numbers(element, bytes, vr);
            }
            _ => self.text_values(vr, &charset.values(bytes, vr)),
        }
    }

    fn items(&mut self, items: Items<'_>, charset: &CharacterSet) {
        let mut count = 0;
        for item in items.iter() {
            self.out
                .extend_from_slice(if count == 0 { b",\"Value\":[" } else { b"," });
            self.path.enter(count);
            let declared = match self.options.charset_override {
                Some(_) => None,
                None => item.declared_character_set(self.options.fallback),
            };
            self.object(item, declared.as_ref().unwrap_or(charset), BTreeMap::new());
            self.path.leave();
            count += 1;
        }
        if count > 0 {
            self.out.push(b']');
        }
    }

    /// A sequence with one more item at its end.
    fn one_more(
        &mut self,
        tag: Tag,
        before: Option<(Items<'_>, &CharacterSet)>,
        item: &[u8],
        first: &mut bool,
    ) {
        self.path.set_tag(tag);
        self.name(tag, VR::SQ, first);
        let from = self.out.len();
        if let Some((items, charset)) = before {
            self.items(items, charset);
        }
        let mut added = Vec::new();
        if let Ok(set) = DataSet::parse(item, Encoding::ExplicitLittle, Limits::default()) {
            write_object(&mut added, set.elements(), &JsonOptions::default());
        }
        let there = self.out.get(from..).unwrap_or_default();
        if !added.is_empty() && !there.windows(added.len()).any(|one| one == added) {
            match self.out.pop_if(|last| *last == b']') {
                Some(_) => self.out.push(b','),
                None => self.out.extend_from_slice(b",\"Value\":["),
            }
            self.out.append(&mut added);
            self.out.push(b']');
        }
        self.out.push(b'}');
    }

    fn added(&mut self, tag: Tag, attribute: &Attribute, first: &mut bool) {
        match attribute {
            Attribute::Absent => return,
            Attribute::OneMoreItem(item) => return self.one_more(tag, None, item, first),
            Attribute::Strings(vr, values) => {
                self.name(tag, *vr, first);
                self.text_values(*vr, values);
            }
            Attribute::Numbers(vr, numbers) => {
                self.name(tag, *vr, first);
                self.list(numbers.iter(), |out, number| {
                    out.extend_from_slice(number.to_string().as_bytes())
                });
            }
            Attribute::BulkData(vr, uri) => {
                self.name(tag, *vr, first);
                self.uri(uri);
            }
        }
        self.out.push(b'}');
    }

    fn name(&mut self, Tag(group, element): Tag, vr: VR, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        let name = format!(
            "\"{group:04X}{element:04X}\":{{\"vr\":\"{}\"",
            vr.to_string()
        );
        self.out.extend_from_slice(name.as_bytes());
    }

    fn list<T>(&mut self, values: impl Iterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
        let mut any = false;
        for value in values {
            self.out
                .extend_from_slice(if any { b"," } else { b",\"Value\":[" });
            any = true;
            write(self.out, value);
        }
        if any {
            self.out.push(b']');
        }
    }

    fn text_values(&mut self, vr: VR, values: &[String]) {
        self.list(values.iter(), |out, value| match vr {
            _ if value.is_empty() => out.extend_from_slice(b"null"),
            VR::PN => person_name(out, value),
            VR::DS | VR::IS => match number_text(value) {
                Some(number) => out.extend_from_slice(number.as_bytes()),
                None => string(out, value),
            },
            _ => string(out, value),
        });
    }

    fn numbers(&mut self, element: Element<'_>, bytes: &[u8], vr: VR) {
        let count = bytes.len() / if vr == VR::AT { 4 } else { word_size(vr) };
        self.list(0..count, |out, at| {
            let two = || element.u16_at(bytes, at).unwrap_or_default();
            let four = || element.u32_at(bytes, at).unwrap_or_default();
            let eight = || element.u64_at(bytes, at).unwrap_or_default();
            match vr {
                VR::AT => {
                    let half =
                        |half: usize| element.u16_at(bytes, at * 2 + half).unwrap_or_default();
                    string(out, &format!("{:04X}{:04X}", half(0), half(1)));
                }
                VR::US => decimal(out, two()),
                VR::SS => decimal(out, two().cast_signed()),
                VR::UL => decimal(out, four()),
                VR::SL => decimal(out, four().cast_signed()),
                VR::FL => json(out, &f32::from_bits(four())),
                VR::FD => json(out, &f64::from_bits(eight())),
                VR::UV if eight() > SAFE_INTEGER => string(out, &eight().to_string()),
                VR::UV => decimal(out, eight()),
                _ if eight().cast_signed().unsigned_abs() > SAFE_INTEGER => {
                    string(out, &eight().cast_signed().to_string());
                }
                _ => decimal(out, eight().cast_signed()),
            }
        });
    }

    fn is_inline(&self, tag: Tag, bytes: &[u8]) -> bool {
        let pixels = is_pixel_data(tag) && self.path.is_top();
        self.in_place
            || self.options.bulk_uri.is_none()
            || (bytes.len() <= self.options.inline_max && !pixels)
    }

    fn binary(&mut self, tag: Tag, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if !self.is_inline(tag, bytes) {
            self.bulk();
            return;
        }
        self.out.extend_from_slice(b",\"InlineBinary\":\"");
        self.out
            .extend_from_slice(STANDARD.encode(bytes).as_bytes());
        self.out.push(b'"');
    }

    fn bulk(&mut self) {
        if let Some(bulk_uri) = self.options.bulk_uri
            && !self.in_place
        {
            let uri = bulk_uri(&self.path);
            self.uri(&uri);
        }
    }

    fn uri(&mut self, uri: &str) {
        self.out.extend_from_slice(b",\"BulkDataURI\":");
        string(self.out, uri);
    }
}

impl Attribute {
    fn has_non_ascii(&self) -> bool {
        matches!(self, Self::Strings(_, values) if !values.iter().all(|value| value.is_ascii()))
    }
}

/// The elements that a JSON object holds, in ascending order and once each.
fn in_order(elements: Elements<'_>) -> Vec<Element<'_>> {
    let mut list: Vec<Element<'_>> = elements
        .iter()
        .filter(|element| {
            let tag = element.tag();
            tag.1 != 0 && !matches!(tag.0, 0x0000 | 0x0002) && tag != DATA_SET_TRAILING_PADDING
        })
        .collect();
    if !list.is_sorted_by(|a, b| a.tag() < b.tag()) {
        list.sort_by_key(|element| element.tag());
        list.dedup_by_key(|element| element.tag());
    }
    list
}

/// True when text of this data set needs more than ASCII.
fn has_non_ascii(elements: Elements<'_>) -> bool {
    elements.iter().any(|element| match element.value() {
        Value::Bytes(bytes) => {
            is_affected(known_vr(element))
                && bytes.iter().any(|byte| *byte >= 0x80 || *byte == 0x1B)
        }
        Value::Items(items) => items.iter().any(has_non_ascii),
        Value::Fragments(_) | Value::Large(_) => false,
    })
}

/// The VR of an element; a known attribute that passed through a system which did not know it, and
/// is UN since, gets its own back (PS3.5 §6.2.2).
fn known_vr(element: Element<'_>) -> VR {
    match element.vr() {
        VR::UN => implicit_vr(element.tag(), false),
        vr => vr,
    }
}

/// The items of a sequence written as UN, with the header that a sequence has.
fn as_sequence(Tag(group, element): Tag, items: &[u8]) -> Vec<u8> {
    let length = u32::try_from(items.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(8 + items.len());
    bytes.extend_from_slice(&group.to_le_bytes());
    bytes.extend_from_slice(&element.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(items);
    bytes
}

/// The value of an element as bulk data have it: in little endian order.
#[must_use]
pub fn little_endian_value<'v>(element: Element<'_>, bytes: &'v [u8]) -> Cow<'v, [u8]> {
    match word_size(known_vr(element)) {
        word if element.is_big_endian() && word > 1 => little_endian(bytes, word).into(),
        _ => bytes.into(),
    }
}

fn little_endian(bytes: &[u8], word: usize) -> Vec<u8> {
    bytes
        .chunks(word)
        .flat_map(|word| word.iter().rev().copied())
        .collect()
}

/// A PN as its component groups (PS3.18 §F.2.2, PS3.5 §6.2.1).
fn person_name(out: &mut Vec<u8>, value: &str) {
    let groups = value
        .splitn(4, '=')
        .zip(["Alphabetic", "Ideographic", "Phonetic"]);
    let mut any = false;
    for (text, name) in groups.map(|(text, name)| (text.trim_end_matches(' '), name)) {
        if text.is_empty() {
            continue;
        }
        out.push(if any { b',' } else { b'{' });
        any = true;
        string(out, name);
        out.push(b':');
        string(out, text);
    }
    out.extend_from_slice(if any { b"}" } else { b"null" });
}

/// The text of a DS or an IS as a JSON number with the same digits; `None` when it is none, or too
/// large for a JSON reader.
fn number_text(text: &str) -> Option<String> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) if text.starts_with('-') => ("-", rest),
        Some(rest) => ("", rest),
        None => ("", text),
    };
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => digits.split_at(at),
        None => (digits, ""),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    if !exponent.is_empty() {
        let power = exponent.get(1..)?.trim_start_matches(['+', '-']);
        if power.is_empty() || !all_digits(power) || exponent.len() - power.len() > 2 {
            return None;
        }
    }
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let dot = if fraction.is_empty() { "" } else { "." };
    let number = format!("{sign}{whole}{dot}{fraction}{exponent}");
    number
        .parse::<f64>()
        .is_ok_and(f64::is_finite)
        .then_some(number)
}

fn decimal(out: &mut Vec<u8>, number: impl std::fmt::Display) {
    out.extend_from_slice(number.to_string().as_bytes());
}

fn string(out: &mut Vec<u8>, text: &str) {
    json(out, text);
}

/// A JSON text; numbers that JSON does not have (NaN, infinities) become null.
fn json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Neither a string nor a number fails, nor does writing to memory.
    if let Ok(text) = serde_json::to_vec(value) {
        out.extend_from_slice(&text);
    }
}

#[cfg(test)]
mod tests;
