//! `multipart/related` framing (RFC 2046, RFC 2387, PS3.18 §8.6.1.2).

use bytes::Bytes;

use crate::dicom::uid::TransferSyntaxUid;

/// The delimiter of one answer: random, so that no content can hold it.
#[derive(Debug, Clone)]
pub struct Boundary(String);

impl Boundary {
    /// A new delimiter.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub fn content_type(&self) -> String {
        format!("multipart/related; type=\"application/dicom\"; boundary={}", self.0)
    }

    /// What stands before a Part 10 file.
    #[must_use]
    pub fn part(&self, first: bool, transfer_syntax: &TransferSyntaxUid) -> Bytes {
        let before = if first { "" } else { "\r\n" };
        format!(
            "{before}--{}\r\nContent-Type: application/dicom; transfer-syntax={transfer_syntax}\r\n\r\n",
            self.0
        )
        .into()
    }

    /// Bytes of an answer with these parts.
    #[must_use]
    pub fn length<'a>(&self, parts: impl Iterator<Item = (&'a TransferSyntaxUid, u64)>) -> u64 {
        let framed = parts.enumerate().map(|(at, (transfer_syntax, length))| {
            self.part(at == 0, transfer_syntax).len() as u64 + length
        });
        framed.sum::<u64>() + self.close().len() as u64
    }

    /// What stands after the last part.
    #[must_use]
    pub fn close(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.0).into()
    }
}
