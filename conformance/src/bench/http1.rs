//! Reading HTTP/1.1 answers (RFC 9112) as bytes arrive.

use memchr::{memchr, memmem};

/// Largest head of an answer, and largest line of a chunked body.
const MAX_HEAD: usize = 64 << 10;

/// Takes an answer apart; its body goes to a sink.
#[derive(Debug)]
pub(super) struct Parser {
    state: State,
    line: Vec<u8>,
    status: u16,
    content_type: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// A body of known length.
    Length(u64),
    /// A body that ends with the connection.
    UntilEnd,
    ChunkSize,
    Chunk(u64),
    /// The line end after a chunk.
    ChunkEnd,
    Trailer,
    Done,
}

impl Parser {
    pub(super) fn new() -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            status: 0,
            content_type: String::new(),
        }
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn content_type(&self) -> &str {
        &self.content_type
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The connection ended; whether the answer may end there.
    pub(super) fn end(&mut self) -> bool {
        if self.state == State::UntilEnd {
            self.state = State::Done;
        }
        self.is_done()
    }

    pub(super) fn push(&mut self, data: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), String> {
        let mut rest = data;
        while !rest.is_empty() {
            rest = match self.state {
                State::Head => self.head(rest)?,
                State::Length(left) => {
                    let (part, after) = cut(rest, left);
                    sink(part);
                    self.state = match left - part.len() as u64 {
                        0 => State::Done,
                        left => State::Length(left),
                    };
                    after
                }
                State::Chunk(left) => {
                    let (part, after) = cut(rest, left);
                    sink(part);
                    self.state = match left - part.len() as u64 {
                        0 => State::ChunkEnd,
                        left => State::Chunk(left),
                    };
                    after
                }
                State::UntilEnd => {
                    sink(rest);
                    &[]
                }
                State::ChunkSize | State::ChunkEnd | State::Trailer => self.line(rest)?,
                State::Done => return Err("bytes after the end of the answer".into()),
            };
        }
        Ok(())
    }

    fn head<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], String> {
        let before = self.line.len();
        self.line.extend_from_slice(data);
        let Some(at) = memmem::find(&self.line, b"\r\n\r\n") else {
            if self.line.len() > MAX_HEAD {
                return Err("a head without end".into());
            }
            return Ok(&[]);
        };
        let used = at + 4 - before;
        let text = String::from_utf8_lossy(self.line.get(..at).unwrap_or_default()).into_owned();
        self.line.clear();
        let mut lines = text.split("\r\n");
        self.status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1)?.parse().ok())
            .ok_or("no status line")?;
        let (mut length, mut chunked) = (None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = Some(value.parse().map_err(|_| "no length in Content-Length")?);
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "content-type" => self.content_type = value.to_owned(),
                _ => {}
            }
        }
        self.state = match (self.status, chunked, length) {
            (100..200, ..) => State::Head,
            (204 | 304, ..) | (_, false, Some(0)) => State::Done,
            (_, true, _) => State::ChunkSize,
            (_, false, Some(length)) => State::Length(length),
            (_, false, None) => State::UntilEnd,
        };
        Ok(data.get(used..).unwrap_or_default())
    }

    /// A line between the chunks of a body.
    fn line<'a>(&mut self, data: &'a [u8]) -> Result<&'a [u8], String> {
        let Some(at) = memchr(b'\n', data) else {
            self.line.extend_from_slice(data);
            if self.line.len() > MAX_HEAD {
                return Err("a line without end".into());
            }
            return Ok(&[]);
        };
        let (line, after) = data.split_at_checked(at + 1).unwrap_or_default();
        self.line.extend_from_slice(line);
        let line = std::mem::take(&mut self.line);
        let text = std::str::from_utf8(&line).unwrap_or("?").trim();
        self.state = match self.state {
            State::ChunkSize => {
                let digits = text.split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(digits, 16);
                match size.map_err(|_| format!("{text:?} is no size of a chunk"))? {
                    0 => State::Trailer,
                    size => State::Chunk(size),
                }
            }
            State::ChunkEnd if text.is_empty() => State::ChunkSize,
            State::Trailer if text.is_empty() => State::Done,
            State::Trailer => State::Trailer,
            _ => return Err(format!("{text:?} where a chunk ends")),
        };
        Ok(after)
    }
}

/// At most `left` bytes, and those after them.
fn cut(data: &[u8], left: u64) -> (&[u8], &[u8]) {
    let at = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
    data.split_at_checked(at).unwrap_or((data, &[]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn read(answer: &[u8], step: usize) -> (Vec<u8>, Parser) {
        let mut parser = Parser::new();
        let mut body = Vec::new();
        for piece in answer.chunks(step) {
            let mut sink = |data: &[u8]| body.extend_from_slice(data);
            parser.push(piece, &mut sink).unwrap();
        }
        (body, parser)
    }

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\ncontent-type: a/b\r\n\r\n\
            3\r\nabc\r\n10;x=y\r\n0123456789\r\n0\r\nX\r\n0\r\n\r\n";
        for step in 1..answer.len() {
            let (body, parser) = read(answer, step);
            assert_eq!(body, b"abc0123456789\r\n0\r\nX", "step {step}");
            assert!(parser.is_done());
            assert_eq!((parser.status(), parser.content_type()), (200, "a/b"));
        }
    }

    #[test]
    fn a_body_of_known_length_that_stops_early_is_not_done() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde";
        let (body, parser) = read(answer, 7);
        assert_eq!(body, b"abcde");
        assert!(parser.is_done());
        let (_, mut parser) = read(&answer[..answer.len() - 1], 7);
        assert!(!parser.end());
    }

    #[test]
    fn a_body_without_length_ends_with_the_connection() {
        let (body, mut parser) = read(b"HTTP/1.1 500 No\r\n\r\nabc", 4);
        assert_eq!(body, b"abc");
        assert!(!parser.is_done());
        assert!(parser.end());
        assert_eq!(parser.status(), 500);
    }
}
