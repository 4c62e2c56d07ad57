//! Reads `multipart/related` (RFC 2046 §5.1, RFC 2387) as it arrives, in memory that does not grow
//! with the parts.
//!
//! Bytes go in with [`Parts::push`] in pieces of any size, events come out of [`Parts::event`]. The
//! content of a part is handed on in slices of what was pushed; what may be the start of a boundary
//! waits for the next piece.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// Bytes before the first boundary.
const MAX_PREAMBLE: usize = 64 << 10;
/// Bytes of the header fields of a part.
const MAX_HEADERS: usize = 16 << 10;
/// Blanks between a boundary and the end of its line.
const MAX_PADDING: usize = 256;
/// Characters of a boundary; RFC 2046 allows 70, some servers take more.
const MAX_BOUNDARY: usize = 200;

/// What comes out of a multipart body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part begins; its content follows.
    Part,
    /// Content of the part.
    Content(Bytes),
    /// The part is whole.
    PartEnd,
    /// The closing boundary: no part follows.
    Close,
}

/// Why a body is not `multipart/related`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The `boundary` parameter is missing or unusable.
    #[error("the Content-Type of a multipart answer has no usable boundary")]
    NoBoundary,
    /// No boundary for too long.
    #[error("more than {MAX_PREAMBLE} bytes stand before the first boundary")]
    Preamble,
    /// Neither an end of line nor `--` after a boundary.
    #[error("a boundary is followed by something else than the end of its line")]
    AfterBoundary,
    /// Header fields do not end.
    #[error("a part has more than {MAX_HEADERS} bytes of header fields")]
    Headers,
}

/// The reader of one body.
#[derive(Debug)]
pub struct Parts {
    /// CRLF, two hyphens and the boundary.
    delimiter: Finder<'static>,
    buffer: Bytes,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary, with the bytes skipped so far.
    Preamble(usize),
    AfterBoundary,
    Headers,
    Content,
    Closed,
}

impl Parts {
    /// A reader of a body with this `boundary`.
    ///
    /// # Errors
    /// [`MultipartError::NoBoundary`] when it is empty, too long, or not on one line.
    pub fn new(boundary: &str) -> Result<Self, MultipartError> {
        let usable = (1..=MAX_BOUNDARY).contains(&boundary.len())
            && boundary.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        if !usable {
            return Err(MultipartError::NoBoundary);
        }
        Ok(Self {
            delimiter: Finder::new(&format!("\r\n--{boundary}")).into_owned(),
            // The first boundary may open the body: the end of line before it is then implied.
            buffer: Bytes::from_static(b"\r\n"),
            state: State::Preamble(0),
        })
    }

    /// A reader for an answer with this `Content-Type`.
    ///
    /// # Errors
    /// [`MultipartError::NoBoundary`].
    pub fn of(content_type: &str) -> Result<Self, MultipartError> {
        let boundary = parameter(content_type, "boundary").ok_or(MultipartError::NoBoundary)?;
        Self::new(&boundary)
    }

    /// Whether the closing boundary was read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Takes the next bytes of the body. Call [`Self::event`] until it gives nothing before the next
    /// push: what is not taken out is kept.
    pub fn push(&mut self, bytes: Bytes) {
        if self.buffer.is_empty() {
            self.buffer = bytes;
            return;
        }
        let mut joined = BytesMut::with_capacity(self.buffer.len() + bytes.len());
        joined.extend_from_slice(&self.buffer);
        joined.extend_from_slice(&bytes);
        self.buffer = joined.freeze();
    }

    /// The next event; `None` when more bytes are needed for it, or the body is closed.
    ///
    /// # Errors
    /// [`MultipartError`]; the body cannot be read further.
    pub fn event(&mut self) -> Result<Option<Event>, MultipartError> {
        loop {
            match self.state {
                State::Preamble(skipped) => {
                    let found = self.delimiter.find(&self.buffer);
                    let text = found.unwrap_or_else(|| self.certain());
                    drop(self.buffer.split_to(text));
                    let skipped = skipped.saturating_add(text);
                    if skipped > MAX_PREAMBLE {
                        return Err(MultipartError::Preamble);
                    }
                    if found.is_none() {
                        self.state = State::Preamble(skipped);
                        return Ok(None);
                    }
                    self.skip_delimiter();
                }
                State::AfterBoundary => {
                    if self.buffer.starts_with(b"--") {
                        self.state = State::Closed;
                        self.buffer.clear();
                        return Ok(Some(Event::Close));
                    }
                    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
                    let padding = self.buffer.iter().take_while(|byte| blank(byte)).count();
                    match self.buffer.get(padding..).unwrap_or_default() {
                        // The end of this line may end the header fields as well.
                        [b'\r', b'\n', ..] => {
                            drop(self.buffer.split_to(padding));
                            self.state = State::Headers;
                        }
                        [] | [b'\r'] if padding <= MAX_PADDING => return Ok(None),
                        [b'-'] if padding == 0 => return Ok(None),
                        _ => return Err(MultipartError::AfterBoundary),
                    }
                }
                State::Headers => {
                    // What the header fields say of a DICOM object, the object says itself.
                    match memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                        Some(at) if at <= MAX_HEADERS => {
                            drop(self.buffer.split_to(at + 4));
                            self.state = State::Content;
                            return Ok(Some(Event::Part));
                        }
                        None if self.buffer.len() <= MAX_HEADERS => return Ok(None),
                        _ => return Err(MultipartError::Headers),
                    }
                }
                State::Content => {
                    let content = match self.delimiter.find(&self.buffer) {
                        Some(0) => {
                            self.skip_delimiter();
                            return Ok(Some(Event::PartEnd));
                        }
                        Some(at) => at,
                        None => self.certain(),
                    };
                    let content = self.buffer.split_to(content);
                    return Ok((!content.is_empty()).then_some(Event::Content(content)));
                }
                State::Closed => {
                    // The epilogue means nothing.
                    self.buffer.clear();
                    return Ok(None);
                }
            }
        }
    }

    fn skip_delimiter(&mut self) {
        drop(self.buffer.split_to(self.delimiter.needle().len()));
        self.state = State::AfterBoundary;
    }

    /// Bytes at the front of the buffer, which holds no delimiter, that cannot begin one.
    fn certain(&self) -> usize {
        let (buffer, delimiter) = (&self.buffer, self.delimiter.needle());
        let from = (buffer.len() + 1).saturating_sub(delimiter.len());
        let mut starts = memchr::memchr_iter(b'\r', buffer.get(from..).unwrap_or_default());
        let open = starts.find(|start| {
            let rest = buffer.get(from + start..).unwrap_or_default();
            delimiter.starts_with(rest)
        });
        open.map_or(buffer.len(), |start| from + start)
    }
}

/// A parameter of a media type (RFC 9110 §5.6.6); quotes are taken off.
#[must_use]
pub fn parameter(media_type: &str, name: &str) -> Option<String> {
    let (_, mut rest) = media_type.split_once(';')?;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        let (key, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                let (value, after) = after.split_at_checked(end)?;
                (value.trim_end().to_owned(), after)
            }
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// The text up to the closing quote, and what follows.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            character => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const BOUNDARY: &str = "b0undary";

    /// The parts of a body that arrives in pieces of these lengths, in turn, and whether it closed.
    fn read(body: &[u8], lengths: &[usize]) -> Result<(Vec<Vec<u8>>, bool), MultipartError> {
        let mut parts = Parts::new(BOUNDARY).unwrap();
        let (mut whole, mut open) = (Vec::new(), None::<Vec<u8>>);
        let mut rest = body;
        let mut lengths = lengths.iter().copied().cycle();
        while !rest.is_empty() {
            let length = lengths.next().unwrap_or(usize::MAX).clamp(1, rest.len());
            parts.push(Bytes::copy_from_slice(&rest[..length]));
            rest = &rest[length..];
            while let Some(event) = parts.event()? {
                match event {
                    Event::Part => assert!(open.replace(Vec::new()).is_none()),
                    Event::Content(bytes) => {
                        assert!(!bytes.is_empty());
                        open.as_mut().unwrap().extend_from_slice(&bytes);
                    }
                    Event::PartEnd => whole.push(open.take().unwrap()),
                    Event::Close => assert!(open.is_none()),
                }
            }
        }
        Ok((whole, parts.is_closed()))
    }

    fn body(parts: &[Vec<u8>]) -> Vec<u8> {
        let mut body = Vec::new();
        for part in parts {
            body.extend_from_slice(b"\r\n--b0undary\r\nContent-Type: application/dicom\r\n\r\n");
            body.extend_from_slice(part);
        }
        body.extend_from_slice(b"\r\n--b0undary--\r\n");
        body
    }

    #[test]
    fn preamble_padding_empty_headers_and_epilogue_are_read() {
        let text = b"hello\r\n--b0undary \t\r\n\r\none\r\n--b0undary\r\nA: b\r\nC: d\r\n\r\n\r\n--b0undary--\r\nbye";
        let (parts, closed) = read(text, &[usize::MAX]).unwrap();
        assert_eq!(parts, [b"one".to_vec(), Vec::new()]);
        assert!(closed);
        let (parts, _) = read(&text[7..], &[1]).unwrap();
        assert_eq!(parts.len(), 2, "the first boundary opens the body");
    }

    #[test]
    fn a_body_that_is_cut_anywhere_is_never_closed() {
        let whole = body(&[b"one".to_vec(), b"two".to_vec()]);
        let closing = whole.len() - 2;
        for end in 0..closing {
            let (parts, closed) = read(&whole[..end], &[7]).unwrap();
            assert!(!closed, "cut at {end}");
            assert!(parts.len() <= 2);
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        let garbage = vec![b'x'; MAX_PREAMBLE + 1];
        assert_eq!(read(&garbage, &[1000]), Err(MultipartError::Preamble));
        let mut headers = b"--b0undary\r\n".to_vec();
        headers.resize(MAX_HEADERS + 100, b'x');
        assert_eq!(read(&headers, &[1000]), Err(MultipartError::Headers));
        assert_eq!(
            read(b"--b0undaryx\r\n", &[3]),
            Err(MultipartError::AfterBoundary)
        );
        let mut padding = b"--b0undary".to_vec();
        padding.resize(1000, b' ');
        assert_eq!(read(&padding, &[3]), Err(MultipartError::AfterBoundary));
    }

    #[test]
    fn the_boundary_is_found_in_every_form_of_content_type() {
        for text in [
            "multipart/related; boundary=abc",
            "multipart/related;boundary=\"abc\";type=\"application/dicom\"",
            "multipart/related; type=\"application/dicom; boundary=no\"; Boundary=abc",
            "multipart/related; start=\"<a\\\"b>\" ; boundary=abc ; x=y",
        ] {
            assert_eq!(
                parameter(text, "boundary").as_deref(),
                Some("abc"),
                "{text}"
            );
        }
        for text in [
            "",
            "multipart/related",
            "multipart/related; boundary",
            "multipart/related; boundary=",
            "multipart/related; boundary=\"a",
            "multipart/related; boundary=\"a\u{e9}\"",
        ] {
            assert!(Parts::of(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_parts(
            // Of the bytes that boundaries are made of, more often than of others.
            parts in vec(vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'-'), Just(b'b'), any::<u8>()], 0..200), 0..5),
            lengths in vec(1_usize..50, 1..20),
        ) {
            prop_assume!(parts.iter().all(|part| memchr::memmem::find(part, b"--b0undary").is_none()));
            let body = body(&parts);
            prop_assert_eq!(read(&body, &lengths), Ok((parts, true)));
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_panic(
            bytes in vec(prop_oneof![Just(b"\r\n--b0undary".to_vec()), Just(b"--".to_vec()), Just(b"\r\n".to_vec()), vec(any::<u8>(), 0..20)], 0..30),
            lengths in vec(1_usize..50, 1..20),
        ) {
            let _ = read(&bytes.concat(), &lengths);
        }

        #[test]
        fn any_media_type_is_read_or_refused_without_panic(text: String) {
            let _ = Parts::of(&text);
            let _ = Parts::of(&format!("a/b;{text}"));
        }
    }
}
