//! Where an element is inside nested sequences: the last part of a `BulkDataURI`.

use std::fmt;
use std::str::FromStr;

use dicom_core::Tag;

use super::reader::{Element, Elements};

/// Deepest path that is read: the default limit on sequences inside one another.
const DEPTH: usize = 32;

/// `00281201`, or `52009230/0/00480200`: tags in eight hexadecimal digits, each but the last
/// followed by the number of an item, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttributePath {
    sequences: Vec<(Tag, u32)>,
    tag: Tag,
}

/// Why a text is not an attribute path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a bulk data path is made of tags of eight hexadecimal digits with item numbers between them"
)]
pub struct PathError;

impl AttributePath {
    /// The path of a top-level element.
    #[must_use]
    pub fn top(tag: Tag) -> Self {
        Self {
            sequences: Vec::new(),
            tag,
        }
    }

    /// The tag of the element itself.
    #[must_use]
    pub fn tag(&self) -> Tag {
        self.tag
    }

    /// True for an element of the data set itself.
    #[must_use]
    pub fn is_top(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The element at this path, if it is there.
    #[must_use]
    pub fn find<'d>(&self, mut elements: Elements<'d>) -> Option<Element<'d>> {
        for (sequence, item) in &self.sequences {
            elements = elements
                .items(*sequence)
                .nth(usize::try_from(*item).ok()?)?;
        }
        elements.find(self.tag)
    }

    pub(super) fn enter(&mut self, item: u32) {
        self.sequences.push((self.tag, item));
    }

    pub(super) fn leave(&mut self) {
        if let Some((tag, _)) = self.sequences.pop() {
            self.tag = tag;
        }
    }

    pub(super) fn set_tag(&mut self, tag: Tag) {
        self.tag = tag;
    }
}

impl FromStr for AttributePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let mut sequences = Vec::new();
        let mut parts = text.split('/');
        loop {
            let tag = parse_tag(parts.next().ok_or(PathError)?)?;
            let Some(item) = parts.next() else {
                return Ok(Self { sequences, tag });
            };
            if sequences.len() == DEPTH || !item.bytes().all(|b| b.is_ascii_digit()) {
                return Err(PathError);
            }
            sequences.push((tag, item.parse().map_err(|_| PathError)?));
        }
    }
}

fn parse_tag(text: &str) -> Result<Tag, PathError> {
    if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(PathError);
    }
    let number = u32::from_str_radix(text, 16).map_err(|_| PathError)?;
    let [a, b, c, d] = number.to_be_bytes();
    Ok(Tag(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

impl fmt::Display for AttributePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (Tag(group, element), item) in &self.sequences {
            write!(f, "{group:04X}{element:04X}/{item}/")?;
        }
        let Tag(group, element) = self.tag;
        write!(f, "{group:04X}{element:04X}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_go_both_ways() {
        for text in [
            "00281201",
            "52009230/0/00480200",
            "00081140/12/0040A170/0/00091001",
        ] {
            assert_eq!(text.parse::<AttributePath>().unwrap().to_string(), text);
        }
        assert_eq!(
            "7fe00010".parse::<AttributePath>().unwrap().to_string(),
            "7FE00010"
        );
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        let deep = "00081140/0/".repeat(33) + "00080100";
        for text in [
            "",
            "0028",
            "00281201/",
            "00281201/0",
            "00281201/-1/00080100",
            "00281201/+1/00080100",
            "+0281201",
            "0028120g",
            "../../../",
            "00281201/0/00080100/99999999999/00080100",
            &deep,
        ] {
            assert!(text.parse::<AttributePath>().is_err(), "{text}");
        }
    }
}
