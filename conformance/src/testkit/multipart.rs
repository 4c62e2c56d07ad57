//! An incremental reader of `multipart` bodies (RFC 2046 §5.1), strict about what a retrieval
//! must be: it tells a body that ended with its closing boundary from one that just stopped.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// Largest header block of a part that is read.
const MAX_HEADER: usize = 64 * 1024;

/// What was found in the bytes, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part starts; its header lines as `(lower-case name, value)`.
    Part(Vec<(String, String)>),
    /// Bytes of the current part.
    Data(Bytes),
    /// The current part is whole.
    PartEnd,
    /// The closing boundary was read: the body is complete.
    Closed,
}

/// The body is not a multipart body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// No usable `boundary` parameter.
    #[error("Content-Type {0:?} is not multipart with a boundary")]
    NotMultipart(String),
    /// Bytes before the first boundary.
    #[error("the body does not start with the boundary --{0}")]
    NoFirstBoundary(String),
    /// Neither CRLF nor `--` after a boundary.
    #[error("a boundary is followed by {0:?}")]
    AfterBoundary(String),
    /// A header block without end, or that is not text.
    #[error("the header of part {0} is not a header")]
    Header(usize),
}

/// The `boundary` parameter of a multipart media type.
///
/// # Errors
/// When there is none.
pub fn boundary(content_type: &str) -> Result<String, MultipartError> {
    let refused = || MultipartError::NotMultipart(content_type.to_owned());
    let mut parameters = content_type.split(';');
    let kind = parameters.next().unwrap_or_default().trim();
    if !kind.to_ascii_lowercase().starts_with("multipart/") {
        return Err(refused());
    }
    parameters
        .filter_map(|p| p.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("boundary"))
        .map(|(_, value)| value.trim().trim_matches('"').to_owned())
        .filter(|value| (1..=70).contains(&value.len()))
        .ok_or_else(refused)
}

/// Splits a body that arrives in pieces.
#[derive(Debug)]
pub struct Splitter {
    boundary: String,
    finder: Finder<'static>,
    buffer: BytesMut,
    state: State,
    parts: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Boundary,
    Header,
    Body,
    Closed,
}

impl Splitter {
    /// A splitter for bodies with this boundary.
    #[must_use]
    pub fn new(boundary: &str) -> Self {
        let delimiter = format!("\r\n--{boundary}");
        Self {
            boundary: boundary.to_owned(),
            finder: Finder::new(delimiter.as_bytes()).into_owned(),
            // The CRLF before the first boundary may be left out; now it never is.
            buffer: BytesMut::from("\r\n"),
            state: State::Start,
            parts: 0,
        }
    }

    /// Whether the closing boundary was read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Takes the next bytes of the body and adds what they hold to `events`.
    ///
    /// # Errors
    /// When they cannot belong to a multipart body with this boundary.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) -> Result<(), MultipartError> {
        self.buffer.extend_from_slice(bytes);
        while self.step(events)? {}
        Ok(())
    }

    /// Reads one element; `false` when more bytes are needed.
    fn step(&mut self, events: &mut Vec<Event>) -> Result<bool, MultipartError> {
        let delimiter = self.finder.needle().len();
        match self.state {
            State::Start => {
                if self.buffer.len() < delimiter + 2 {
                    return Ok(false);
                }
                // A server may have written the optional CRLF itself.
                if self.buffer.starts_with(b"\r\n\r\n") {
                    let _ = self.buffer.split_to(2);
                    return Ok(true);
                }
                if !self.buffer.starts_with(self.finder.needle()) {
                    return Err(MultipartError::NoFirstBoundary(self.boundary.clone()));
                }
                let _ = self.buffer.split_to(delimiter);
                self.state = State::Boundary;
                Ok(true)
            }
            State::Boundary => {
                if self.buffer.len() < 2 {
                    return Ok(false);
                }
                let next = self.buffer.split_to(2);
                match next.as_ref() {
                    b"--" => {
                        events.push(Event::Closed);
                        self.state = State::Closed;
                    }
                    b"\r\n" => self.state = State::Header,
                    other => {
                        let text = String::from_utf8_lossy(other).into_owned();
                        return Err(MultipartError::AfterBoundary(text));
                    }
                }
                Ok(true)
            }
            State::Header => self.header(events),
            State::Body => {
                if let Some(at) = self.finder.find(&self.buffer) {
                    push_data(self.buffer.split_to(at), events);
                    events.push(Event::PartEnd);
                    let _ = self.buffer.split_to(delimiter);
                    self.state = State::Boundary;
                    return Ok(true);
                }
                let keep = delimiter - 1;
                if self.buffer.len() > keep {
                    push_data(self.buffer.split_to(self.buffer.len() - keep), events);
                }
                Ok(false)
            }
            State::Closed => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    fn header(&mut self, events: &mut Vec<Event>) -> Result<bool, MultipartError> {
        let refused = MultipartError::Header(self.parts + 1);
        let block = if self.buffer.starts_with(b"\r\n") {
            self.buffer.split_to(2)
        } else if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
            self.buffer.split_to(at + 4)
        } else if self.buffer.len() > MAX_HEADER {
            return Err(refused);
        } else {
            return Ok(false);
        };
        let text = std::str::from_utf8(&block).map_err(|_| refused.clone())?;
        let mut lines = Vec::new();
        for line in text.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or_else(|| refused.clone())?;
            lines.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        self.parts += 1;
        self.state = State::Body;
        events.push(Event::Part(lines));
        Ok(true)
    }
}

fn push_data(bytes: BytesMut, events: &mut Vec<Event>) {
    if !bytes.is_empty() {
        events.push(Event::Data(bytes.freeze()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const BODY: &[u8] = b"--b\r\nContent-Type: a/b\r\n\r\none\r\n-\r\n--b\r\n\r\n\r\n--b--\r\n";

    fn read(body: &[u8], step: usize) -> (Vec<Event>, bool) {
        let mut splitter = Splitter::new("b");
        let mut events = Vec::new();
        for piece in body.chunks(step) {
            splitter.push(piece, &mut events).unwrap();
        }
        // Where data was cut depends on the pieces; what it is must not.
        let mut joined: Vec<Event> = Vec::new();
        for event in events {
            match (joined.last_mut(), event) {
                (Some(Event::Data(so_far)), Event::Data(more)) => {
                    *so_far = [so_far.as_ref(), more.as_ref()].concat().into();
                }
                (_, event) => joined.push(event),
            }
        }
        (joined, splitter.is_closed())
    }

    #[test]
    fn parts_are_the_same_however_the_body_is_cut() {
        let expected = vec![
            Event::Part(vec![("content-type".into(), "a/b".into())]),
            Event::Data(Bytes::from_static(b"one\r\n-")),
            Event::PartEnd,
            Event::Part(vec![]),
            Event::PartEnd,
            Event::Closed,
        ];
        for step in 1..=BODY.len() {
            assert_eq!(read(BODY, step), (expected.clone(), true), "step {step}");
        }
    }

    #[test]
    fn a_body_without_its_closing_boundary_is_not_closed() {
        let cut = BODY.len() - "--\r\n".len();
        let (events, closed) = read(&BODY[..cut], 5);
        assert!(!closed);
        assert_eq!(events.last(), Some(&Event::PartEnd));
    }

    #[test]
    fn the_boundary_is_read_quoted_or_not() {
        let plain = "multipart/related; type=\"application/dicom\"; boundary=x-1";
        assert_eq!(boundary(plain).unwrap(), "x-1");
        assert_eq!(boundary("Multipart/Related;Boundary=\"y\"").unwrap(), "y");
        assert!(boundary("application/dicom+json").is_err());
    }
}
