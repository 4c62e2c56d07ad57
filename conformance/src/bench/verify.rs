//! Whether a retrieval delivered what the manifest says: every instance once, pixels intact.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use aws_lc_rs::digest::{Context, SHA256};
use memchr::memmem;

use crate::samples::Instance;
use crate::testkit::KitError;
use crate::testkit::multipart::{self, Event, Splitter};

use super::fetch::{Answer, Connection, Server};

/// Largest instance that is looked at.
const MAX_INSTANCE: usize = 512 << 20;

/// SHA-256 of the pixels of each expected instance, by SOP Instance UID.
pub type Expected = HashMap<String, String>;

/// What to expect of these instances.
pub fn expected<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> Expected {
    instances
        .into_iter()
        .map(|instance| {
            let digest = instance.pixel_sha256.clone().unwrap_or_default();
            (instance.sop_instance_uid.clone(), digest)
        })
        .collect()
}

/// How a retrieval ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The answer claims to be whole.
    Complete(Delivery),
    /// Another status than 200.
    Refused(u16),
    /// The answer shows that it is not whole.
    Broken(String),
    /// This client went away on purpose.
    Cancelled,
}

/// What a whole answer held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Instances that were expected and arrived intact.
    pub intact: usize,
    /// Instances that were expected and did not arrive.
    pub lost: usize,
    /// Parts that were not expected, came twice, or whose pixels are not those of the sample.
    pub wrong: usize,
}

/// Retrieves on a connection of its own and compares, going away once `cancel_after` bytes have come.
pub fn retrieve(
    server: &Server,
    path: &str,
    accept: &str,
    expected: &Expected,
    cancel_after: Option<u64>,
) -> Outcome {
    match attempt(server, path, accept, expected, cancel_after) {
        Ok(outcome) => outcome,
        Err(error) => Outcome::Broken(error.to_string()),
    }
}

fn attempt(
    server: &Server,
    path: &str,
    accept: &str,
    expected: &Expected,
    cancel_after: Option<u64>,
) -> Result<Outcome, KitError> {
    let mut body = Body::new(expected);
    let mut received = 0;
    let mut sink = |data: &[u8]| {
        received += data.len() as u64;
        if cancel_after.is_some_and(|limit| received > limit) {
            return ControlFlow::Break(());
        }
        body.take(data);
        ControlFlow::Continue(())
    };
    let answer = Connection::open(server)?.get(path, accept, &mut sink)?;
    Ok(if answer.status != 200 {
        Outcome::Refused(answer.status)
    } else if !answer.complete {
        Outcome::Cancelled
    } else {
        body.outcome(&answer)
    })
}

/// A multipart body that is compared while it arrives.
struct Body<'a> {
    expected: &'a Expected,
    /// The bytes before the end of the first line, which is the boundary.
    first_line: Vec<u8>,
    boundary: String,
    splitter: Option<Splitter>,
    events: Vec<Event>,
    part: Vec<u8>,
    intact: HashSet<String>,
    wrong: usize,
    refused: Option<String>,
}

impl<'a> Body<'a> {
    fn new(expected: &'a Expected) -> Self {
        Self {
            expected,
            first_line: Vec::new(),
            boundary: String::new(),
            splitter: None,
            events: Vec::new(),
            part: Vec::new(),
            intact: HashSet::new(),
            wrong: 0,
            refused: None,
        }
    }

    fn take(&mut self, data: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        let held;
        let data = if self.splitter.is_some() {
            data
        } else {
            self.first_line.extend_from_slice(data);
            let text = self.first_line.strip_prefix(b"\r\n");
            let text = text.unwrap_or(&self.first_line);
            let Some(end) = memmem::find(text, b"\r\n") else {
                return;
            };
            let line = text.get(..end).unwrap_or_default();
            let line = String::from_utf8_lossy(line).into_owned();
            let Some(boundary) = line.strip_prefix("--") else {
                self.refused = Some("the body does not start with a boundary".into());
                return;
            };
            self.boundary = boundary.to_owned();
            self.splitter = Some(Splitter::new(boundary));
            held = std::mem::take(&mut self.first_line);
            &held
        };
        let mut events = std::mem::take(&mut self.events);
        if let Some(splitter) = &mut self.splitter
            && let Err(error) = splitter.push(data, &mut events)
        {
            self.refused = Some(error.to_string());
        }
        for event in events.drain(..) {
            self.event(event);
        }
        self.events = events;
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Part(_) => self.part.clear(),
            Event::Data(data) if self.part.len() + data.len() > MAX_INSTANCE => {
                self.refused = Some("an instance larger than any sample".into());
            }
            Event::Data(data) => self.part.extend_from_slice(&data),
            Event::PartEnd => {
                let uid = sop_instance_uid(&self.part).unwrap_or_default();
                let intact = self
                    .expected
                    .get(&uid)
                    .is_some_and(|digest| pixels(&self.part).is_some_and(|found| found == *digest));
                if !intact || !self.intact.insert(uid) {
                    self.wrong += 1;
                }
            }
            Event::Closed => {}
        }
    }

    fn outcome(self, answer: &Answer) -> Outcome {
        if let Some(reason) = self.refused {
            return Outcome::Broken(reason);
        }
        if multipart::boundary(&answer.content_type).as_ref() != Ok(&self.boundary) {
            return Outcome::Broken(format!("{:?} is not this boundary", answer.content_type));
        }
        if !self.splitter.is_some_and(|splitter| splitter.is_closed()) {
            return Outcome::Broken("a clean end without the closing boundary".into());
        }
        Outcome::Complete(Delivery {
            intact: self.intact.len(),
            lost: self.expected.len() - self.intact.len(),
            wrong: self.wrong,
        })
    }
}

/// SOP Instance UID (0008,0018) of a Part 10 object in an explicit VR little endian syntax.
fn sop_instance_uid(object: &[u8]) -> Option<String> {
    let head = b"\x08\x00\x18\x00UI";
    let after = object.get(memmem::find(object, head)? + head.len()..)?;
    let (length, after) = after.split_first_chunk::<2>()?;
    let value = after.get(..usize::from(u16::from_le_bytes(*length)))?;
    let text = std::str::from_utf8(value).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// SHA-256 of the fragments of encapsulated Pixel Data (PS3.5 §A.4), the offset table left out, in
/// hexadecimal: as the manifest has it.
fn pixels(object: &[u8]) -> Option<String> {
    let head = b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF";
    let mut rest = object.get(memmem::find(object, head)? + head.len()..)?;
    let mut digest = Context::new(&SHA256);
    let mut is_offset_table = true;
    loop {
        let (tag, after) = rest.split_first_chunk::<4>()?;
        let (length, after) = after.split_first_chunk::<4>()?;
        if tag == b"\xFE\xFF\xDD\xE0" {
            break;
        }
        if tag != b"\xFE\xFF\x00\xE0" {
            return None;
        }
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (fragment, after) = after.split_at_checked(length)?;
        if !is_offset_table {
            digest.update(fragment);
        }
        is_offset_table = false;
        rest = after;
    }
    let hex = digest
        .finish()
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
    Some(hex)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn object(uid: &str, fragment: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 132];
        bytes.extend_from_slice(b"\x08\x00\x18\x00UI");
        bytes.extend_from_slice(&u16::try_from(uid.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(uid.as_bytes());
        bytes.extend_from_slice(b"\xE0\x7F\x10\x00OB\0\0\xFF\xFF\xFF\xFF");
        for item in [&[0_u8; 4][..], fragment] {
            bytes.extend_from_slice(b"\xFE\xFF\x00\xE0");
            bytes.extend_from_slice(&u32::try_from(item.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(item);
        }
        bytes.extend_from_slice(b"\xFE\xFF\xDD\xE0\0\0\0\0");
        bytes
    }

    fn outcome(parts: &[Vec<u8>], closing: &str) -> Outcome {
        let digest = crate::testkit::http::sha256(b"pixels");
        let expected = ["1.2", "1.3"].map(|uid| (uid.to_owned(), digest.clone()));
        let expected = Expected::from(expected);
        let mut body = Body::new(&expected);
        for part in parts {
            body.take(b"\r\n--b\r\nContent-Type: application/dicom\r\n\r\n");
            body.take(part);
        }
        body.take(closing.as_bytes());
        body.outcome(&Answer {
            status: 200,
            content_type: "multipart/related; boundary=b".into(),
            bytes: 0,
            complete: true,
            first_byte: None,
            first_image: None,
            total: std::time::Duration::ZERO,
        })
    }

    #[test]
    fn a_missing_a_damaged_and_a_doubled_instance_are_noticed() {
        let (one, two) = (object("1.2", b"pixels"), object("1.3", b"pixels"));
        let delivery = |intact, lost, wrong| {
            Outcome::Complete(Delivery {
                intact,
                lost,
                wrong,
            })
        };
        let closing = "\r\n--b--\r\n";
        let whole = outcome(&[one.clone(), two.clone()], closing);
        assert_eq!(whole, delivery(2, 0, 0));
        assert_eq!(
            outcome(std::slice::from_ref(&one), closing),
            delivery(1, 1, 0)
        );
        assert_eq!(
            outcome(&[one.clone(), one.clone()], closing),
            delivery(1, 1, 1)
        );
        let damaged = object("1.3", b"pixelz");
        assert_eq!(outcome(&[one.clone(), damaged], closing), delivery(1, 1, 1));
        assert!(matches!(outcome(&[one, two], "\r\n"), Outcome::Broken(_)));
    }
}
