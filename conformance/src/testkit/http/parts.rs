//! The parts of a multipart body, their digests, and files to keep them in.

use std::path::Path;
use std::time::Duration;

use crate::testkit::KitError;
use crate::testkit::multipart::Event;

/// What a multipart body held.
#[derive(Debug, Clone, Default)]
pub struct Multipart {
    /// Parts that were whole, in order.
    pub parts: Vec<Part>,
    /// Size of the body.
    pub bytes: u64,
    /// Whether the closing boundary was there.
    pub is_closed: bool,
    /// Why the body stopped early, if the connection says so.
    pub broken: Option<String>,
    /// Time from the request to the first byte of the body.
    pub first_byte: Option<Duration>,
    /// Time from the request (connection included) to the end of the body.
    pub total: Duration,
}

impl Multipart {
    /// Whether a client may believe that it has everything: closing boundary, clean end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_closed && self.broken.is_none()
    }
}

/// A whole part of a multipart body.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// Its header lines, `(lower-case name, value)`.
    pub headers: Vec<(String, String)>,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
    /// Time from the request to its last byte.
    pub ended: Duration,
}

impl Part {
    /// Its `Content-Type`; empty when it has none.
    #[must_use]
    pub fn content_type(&self) -> &str {
        self.headers
            .iter()
            .find(|(name, _)| name == "content-type")
            .map_or("", |(_, value)| value)
    }
}

/// Turns the events of a body into parts.
pub(super) struct Sink<'a> {
    folder: Option<&'a Path>,
    file: Option<std::fs::File>,
    digest: aws_lc_rs::digest::Context,
    current: Part,
    number: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(folder: Option<&'a Path>) -> Self {
        Self {
            folder,
            file: None,
            digest: digest(),
            current: Part::default(),
            number: 0,
        }
    }

    pub(super) fn take(
        &mut self,
        event: Event,
        elapsed: Duration,
        parts: &mut Vec<Part>,
    ) -> Result<(), KitError> {
        use std::io::Write;
        match event {
            Event::Part(headers) => {
                self.digest = digest();
                self.current = Part {
                    headers,
                    ..Part::default()
                };
                if let Some(folder) = self.folder {
                    let path = folder.join(format!("{}.part", self.number));
                    let file =
                        std::fs::File::create(&path).map_err(KitError::io("create", &path))?;
                    self.file = Some(file);
                }
                self.number += 1;
            }
            Event::Data(data) => {
                self.digest.update(&data);
                self.current.bytes += data.len() as u64;
                if let (Some(file), Some(folder)) = (&mut self.file, self.folder) {
                    file.write_all(&data)
                        .map_err(KitError::io("write a part into", folder))?;
                }
            }
            Event::PartEnd => {
                let digest = std::mem::replace(&mut self.digest, digest()).finish();
                let mut part = std::mem::take(&mut self.current);
                part.sha256 = hex(digest.as_ref());
                part.ended = elapsed;
                parts.push(part);
            }
            Event::Closed => {}
        }
        Ok(())
    }
}

/// SHA-256 of bytes, in the form of [`Part::sha256`].
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

fn digest() -> aws_lc_rs::digest::Context {
    aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
