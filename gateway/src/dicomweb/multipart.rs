//! The frame of a `multipart/related` answer (RFC 2046 §5.1, RFC 2387, PS3.18 §8.6).
//!
//! Only the bytes around the parts: their content is streamed by the caller. Lengths are exact, so
//! that an answer whose parts are all known can announce its `Content-Length`.

use std::fmt::Write as _;

use bytes::Bytes;
use http::HeaderValue;

use crate::dicom::uid::TransferSyntaxUid;

/// The media type of DICOM instances.
pub const DICOM: &str = "application/dicom";
/// The media type of documents of the Native DICOM Model.
pub const DICOM_XML: &str = "application/dicom+xml";

/// A boundary between parts: unguessable, so that no content can hold it on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(String);

/// The header fields of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartHeader<'a> {
    /// Media type of the part.
    pub media_type: &'static str,
    /// Transfer syntax of the part, where its media type has one.
    pub transfer_syntax: Option<&'a TransferSyntaxUid>,
    /// `Content-Location`: the instance's own URL. Left out when it holds anything but visible
    /// ASCII.
    pub location: Option<&'a str>,
}

impl Boundary {
    /// A new boundary of 122 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("drimbox-{}", uuid::Uuid::new_v4().as_simple()))
    }

    /// The text between the dashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `Content-Type` of the whole answer, for parts of this media type.
    #[must_use]
    pub fn content_type(&self, parts: &'static str) -> HeaderValue {
        let text = format!(
            "multipart/related; type=\"{parts}\"; boundary={}",
            self.as_str()
        );
        // A boundary is made of visible ASCII only, so the text always is a value.
        HeaderValue::from_str(&text)
            .unwrap_or_else(|_| HeaderValue::from_static("multipart/related"))
    }

    /// What stands before a part: delimiter, fields, empty line. `first`: the first part of the
    /// answer, which no other precedes.
    #[must_use]
    pub fn open(&self, header: &PartHeader<'_>, first: bool) -> Bytes {
        let mut text = String::with_capacity(256);
        if !first {
            text.push_str("\r\n");
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "--{}\r\nContent-Type: {}", self.0, header.media_type);
        if let Some(syntax) = header.transfer_syntax {
            let _ = write!(text, "; transfer-syntax={syntax}");
        }
        text.push_str("\r\n");
        if let Some(location) = header.location.filter(|text| is_visible_ascii(text)) {
            let _ = write!(text, "Content-Location: {location}\r\n");
        }
        text.push_str("\r\n");
        text.into()
    }

    /// What stands before a part that is no DICOM instance, as [`Boundary::open`].
    #[must_use]
    pub fn open_plain(&self, media_type: &'static str, first: bool) -> Bytes {
        let before = if first { "" } else { "\r\n" };
        format!("{before}--{}\r\nContent-Type: {media_type}\r\n\r\n", self.0).into()
    }

    /// What stands after the last part. An answer without it is incomplete.
    #[must_use]
    pub fn close(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.0).into()
    }

    /// Bytes of a whole answer of these parts, each with the length of its content; `None` when
    /// the sum does not fit.
    #[must_use]
    pub fn total_length<'a>(
        &self,
        parts: impl IntoIterator<Item = (PartHeader<'a>, u64)>,
    ) -> Option<u64> {
        let mut total = self.close().len() as u64;
        for (index, (header, content)) in parts.into_iter().enumerate() {
            let opening = self.open(&header, index == 0).len() as u64;
            total = total.checked_add(opening)?.checked_add(content)?;
        }
        Some(total)
    }
}

/// What may stand in a field without ending it.
fn is_visible_ascii(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
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
    use proptest::prelude::*;

    fn syntax() -> TransferSyntaxUid {
        TransferSyntaxUid::parse("1.2.840.10008.1.2.4.80").unwrap()
    }

    fn written(boundary: &Boundary, contents: &[Vec<u8>]) -> Vec<u8> {
        let syntax = syntax();
        let header = PartHeader {
            media_type: DICOM,
            transfer_syntax: Some(&syntax),
            location: Some("https://a/b"),
        };
        let mut answer = Vec::new();
        for (index, content) in contents.iter().enumerate() {
            answer.extend(boundary.open(&header, index == 0));
            answer.extend(content);
        }
        answer.extend(boundary.close());
        answer
    }

    /// The parts of an answer as a reader by RFC 2046 finds them.
    fn read(boundary: &Boundary, answer: &[u8]) -> Vec<Vec<u8>> {
        let delimiter = format!("\r\n--{}", boundary.as_str()).into_bytes();
        let answer = [b"\r\n", answer].concat();
        let mut cuts: Vec<usize> = answer
            .windows(delimiter.len())
            .enumerate()
            .filter_map(|(at, window)| (window == delimiter).then_some(at))
            .collect();
        let end = cuts.pop().unwrap();
        assert_eq!(&answer[end + delimiter.len()..], b"--\r\n");
        let ends = cuts[1..].iter().copied().chain([end]);
        cuts.iter()
            .zip(ends)
            .map(|(start, end)| {
                let part = &answer[start + delimiter.len()..end];
                let blank = part
                    .windows(4)
                    .position(|window| window == b"\r\n\r\n")
                    .unwrap();
                part[blank + 4..].to_vec()
            })
            .collect()
    }

    #[test]
    fn a_part_names_its_type_its_syntax_and_its_place() {
        let boundary = Boundary("b".to_owned());
        let syntax = syntax();
        let header = PartHeader {
            media_type: DICOM,
            transfer_syntax: Some(&syntax),
            location: Some("https://a/b"),
        };
        assert_eq!(
            boundary.open(&header, false),
            "\r\n--b\r\nContent-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80\r\n\
             Content-Location: https://a/b\r\n\r\n"
        );
        assert_eq!(boundary.close(), "\r\n--b--\r\n");
    }

    #[test]
    fn the_content_type_quotes_the_type_of_the_parts() {
        let value = Boundary("b".to_owned()).content_type(DICOM);
        assert_eq!(
            value,
            "multipart/related; type=\"application/dicom\"; boundary=b"
        );
    }

    #[test]
    fn a_boundary_is_legal_and_never_the_same() {
        let (one, other) = (Boundary::random(), Boundary::random());
        assert_ne!(one, other);
        assert!(one.as_str().len() <= 70);
        assert!(
            one.as_str()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        );
        let value = one.content_type(DICOM);
        assert!(value.to_str().unwrap().ends_with(one.as_str()));
    }

    #[test]
    fn a_location_cannot_add_a_field() {
        let boundary = Boundary("b".to_owned());
        let syntax = syntax();
        let header = PartHeader {
            media_type: DICOM,
            transfer_syntax: Some(&syntax),
            location: Some("x\r\nX-Evil: 1"),
        };
        let text = boundary.open(&header, true);
        assert!(!text.windows(6).any(|window| window == b"X-Evil"));
    }

    #[test]
    fn a_length_beyond_all_bounds_is_not_announced() {
        let syntax = syntax();
        let header = PartHeader {
            media_type: DICOM,
            transfer_syntax: Some(&syntax),
            location: None,
        };
        assert_eq!(Boundary::random().total_length([(header, u64::MAX)]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_and_as_long_as_announced(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..6),
        ) {
            let boundary = Boundary::random();
            let answer = written(&boundary, &contents);
            let syntax = syntax();
            let header = PartHeader { media_type: DICOM, transfer_syntax: Some(&syntax), location: Some("https://a/b") };
            let parts = contents.iter().map(|content| (header, content.len() as u64));
            prop_assert_eq!(boundary.total_length(parts), Some(answer.len() as u64));
            prop_assert_eq!(read(&boundary, &answer), contents);
        }
    }
}
