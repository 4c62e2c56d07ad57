//! What a client accepts: the `Accept` field (RFC 9110 §12.5.1) with the parameters of DICOM
//! (PS3.18 §8.7.3), and the `accept` query parameter (§8.3.3.1).
//!
//! Real clients are followed where their meaning is beyond doubt: bare instead of quoted
//! parameters, empty list elements, weights like `.2`, and entries that consist of a transfer
//! syntax only. A broken entry is left out, never guessed at (PS3.18 §8.7.7); where none remains, it is
//! an error.

use http::HeaderMap;
use http::header::ACCEPT;

use super::problem::Problem;
use crate::dicom::uid::TransferSyntaxUid;

/// Bytes of all `Accept` fields together, or of the query parameter.
const MAX_BYTES: usize = 16 * 1024;
/// Entries of the list.
const MAX_ENTRIES: usize = 64;
/// Parameters of one entry.
const MAX_PARAMETERS: usize = 16;

/// What a client accepts, in the order it was written. Empty: it did not say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accept {
    /// The entries of the list.
    pub entries: Vec<MediaRange>,
}

/// One entry: a media range with what DICOM adds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRange {
    /// The range itself, for example `multipart/related`.
    pub media: MediaType,
    /// The `type` parameter: the media type of a multipart's parts.
    pub parts: Option<MediaType>,
    /// The `transfer-syntax` parameter.
    pub transfer_syntax: TransferSyntaxRange,
    /// The `q` parameter.
    pub weight: Weight,
}

/// A media type or a range of them, in lower case; either half may be `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    main: String,
    sub: String,
}

/// The transfer syntaxes that one entry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferSyntaxRange {
    /// No such parameter.
    Unnamed,
    /// `*`.
    Any,
    /// This one.
    Named(TransferSyntaxUid),
}

/// A weight in thousandths (RFC 9110 §12.4.2): 0 is "not acceptable", 1000 the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(u16);

/// Why an `Accept` cannot be read. Entries are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// Text that is not ASCII.
    #[error("entry {0} of Accept holds characters that are not ASCII")]
    NotAscii(usize),
    /// Larger than any client needs.
    #[error("Accept is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// A longer list than any client needs.
    #[error(
        "Accept has more than {MAX_ENTRIES} entries, or one of them more than {MAX_PARAMETERS} parameters"
    )]
    TooMany,
    /// A quoted string without end, or with text after it.
    #[error("entry {0} of Accept: a quoted string is not closed properly")]
    Quote(usize),
    /// Neither `type/subtype` nor a lone transfer syntax.
    #[error("entry {0} of Accept is not a media type")]
    MediaType(usize),
    /// A parameter that is not `name=value`.
    #[error("entry {0} of Accept: a parameter is not of the form name=value")]
    Parameter(usize),
    /// A weight that is not a number from 0 to 1.
    #[error("entry {0} of Accept: q is not a number from 0 to 1")]
    Weight(usize),
    /// A transfer syntax that is neither `*` nor a UID.
    #[error("entry {0} of Accept: transfer-syntax is neither * nor a UID")]
    TransferSyntax(usize),
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        Self::bad_request(
            error.to_string(),
            "write for example: Accept: multipart/related; type=\"application/dicom\"; transfer-syntax=*",
        )
    }
}

impl Accept {
    /// What a request accepts: its `accept` query parameter (decoded) if it has one that is not
    /// empty, else its `Accept` fields.
    ///
    /// # Errors
    /// [`AcceptError`] when what counts cannot be read.
    pub fn of_request(headers: &HeaderMap, parameter: Option<&str>) -> Result<Self, AcceptError> {
        if let Some(list) = parameter.filter(|list| !list.trim().is_empty()) {
            return Self::parse([list]);
        }
        let lines = headers.get_all(ACCEPT).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        Self::parse(lines.iter().map(AsRef::as_ref))
    }

    /// Parses the lines of the field; together they are one list (RFC 9110 §5.3). Entries that cannot
    /// be read are left out.
    ///
    /// # Errors
    /// [`AcceptError`] when a limit is passed, or what is wrong with the first entry when none can be
    /// read.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, AcceptError> {
        let mut list = String::new();
        for line in lines {
            if list.len().saturating_add(line.len()) > MAX_BYTES {
                return Err(AcceptError::TooLong);
            }
            list.push_str(line);
            list.push(',');
        }
        let mut entries = Vec::new();
        let mut broken = None;
        // A quoted string without end takes what follows with it: one broken entry. Empty elements are
        // ignored (RFC 9110 §5.6.1.2).
        let (elements, _) = split(&list, ',');
        let elements = elements.into_iter().filter(|entry| !entry.is_empty());
        for (entry, number) in elements.zip(1..) {
            if number > MAX_ENTRIES {
                return Err(AcceptError::TooMany);
            }
            match MediaRange::parse(entry, number) {
                Ok(range) => entries.push(range),
                Err(AcceptError::TooMany) => return Err(AcceptError::TooMany),
                Err(error) => broken = broken.or(Some(error)),
            }
        }
        match broken {
            Some(error) if entries.is_empty() => Err(error),
            _ => Ok(Self { entries }),
        }
    }
}

impl MediaRange {
    fn parse(entry: &str, number: usize) -> Result<Self, AcceptError> {
        if !entry.is_ascii() {
            return Err(AcceptError::NotAscii(number));
        }
        let (mut segments, is_closed) = split(entry, ';');
        if !is_closed {
            return Err(AcceptError::Quote(number));
        }
        if segments.len() > MAX_PARAMETERS + 1 {
            return Err(AcceptError::TooMany);
        }
        // A media type never holds a `=`: such an entry starts with its parameters.
        let first = segments.first().copied().unwrap_or_default();
        let media = if first.contains('=') {
            None
        } else {
            segments.remove(0);
            Some(MediaType::parse(first).ok_or(AcceptError::MediaType(number))?)
        };

        let mut parts = None;
        let mut transfer_syntax = TransferSyntaxRange::Unnamed;
        let mut weight = Weight::BEST;
        for segment in segments.into_iter().filter(|segment| !segment.is_empty()) {
            let (name, value) = parameter(segment, number)?;
            match name.to_ascii_lowercase().as_str() {
                "q" => weight = Weight::parse(&value).ok_or(AcceptError::Weight(number))?,
                "type" => {
                    parts = Some(MediaType::parse(&value).ok_or(AcceptError::MediaType(number))?);
                }
                "transfer-syntax" => {
                    transfer_syntax = TransferSyntaxRange::parse(&value)
                        .ok_or(AcceptError::TransferSyntax(number))?;
                }
                // `boundary`, `charset` and whatever clients add.
                _ => {}
            }
        }
        let media = match media {
            Some(media) => media,
            // DRIM-M's own samples leave the media type out of entries that name a syntax.
            None if transfer_syntax != TransferSyntaxRange::Unnamed => {
                parts = parts.or(Some(MediaType::new("application", "dicom")));
                MediaType::new("multipart", "related")
            }
            None => return Err(AcceptError::MediaType(number)),
        };
        Ok(Self {
            media,
            parts,
            transfer_syntax,
            weight,
        })
    }
}

impl MediaType {
    /// The type of two known halves, in lower case.
    #[must_use]
    pub fn new(main: &str, sub: &str) -> Self {
        Self {
            main: main.to_ascii_lowercase(),
            sub: sub.to_ascii_lowercase(),
        }
    }

    /// Whether `main/sub`, in lower case, is within this range.
    #[must_use]
    pub fn covers(&self, main: &str, sub: &str) -> bool {
        self.main == "*" || (self.main == main && (self.sub == "*" || self.sub == sub))
    }

    /// How narrow the range is: 0 for `*/*`, 1 for `type/*`, 2 for a type.
    #[must_use]
    pub fn precision(&self) -> u8 {
        match (self.main.as_str(), self.sub.as_str()) {
            ("*", _) => 0,
            (_, "*") => 1,
            _ => 2,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        // `*` alone is what Java's URL connections send for `*/*`.
        let (main, sub) = if text == "*" {
            ("*", "*")
        } else {
            text.split_once('/')?
        };
        let (main, sub) = (main.trim(), sub.trim());
        let legal = is_token(main) && is_token(sub) && (main != "*" || sub == "*");
        legal.then(|| Self::new(main, sub))
    }
}

impl std::fmt::Display for MediaType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.main, self.sub)
    }
}

impl TransferSyntaxRange {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "*" => Some(Self::Any),
            uid => TransferSyntaxUid::parse(uid).ok().map(Self::Named),
        }
    }
}

impl Weight {
    /// "Not acceptable."
    pub const NONE: Self = Self(0);
    /// What an entry without `q` has.
    pub const BEST: Self = Self(1000);

    /// The weight in thousandths.
    #[must_use]
    pub fn thousandths(self) -> u16 {
        self.0
    }

    /// Reads a number from 0 to 1. More decimals than the three of RFC 9110 are cut, but a weight
    /// above zero stays so; the digit before the point may be missing.
    fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if text.len() > 32 || (whole.is_empty() && decimals.is_empty()) || !digits(decimals) {
            return None;
        }
        let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        match whole {
            "1" if zero(decimals) => Some(Self::BEST),
            "" | "0" if zero(decimals) => Some(Self::NONE),
            "" | "0" => {
                let thousandths = decimals.bytes().chain(*b"000").take(3);
                let cut = thousandths.fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
                Some(Self(cut.max(1)))
            }
            _ => None,
        }
    }
}

/// The pieces of `text` between separators outside quoted strings, trimmed, and whether the last quoted
/// string has an end.
fn split(text: &str, separator: char) -> (Vec<&str>, bool) {
    let mut pieces = Vec::new();
    let mut start = 0;
    let piece = |start, end| text.get(start..end).unwrap_or_default().trim();
    let mut quoted = false;
    let mut escaped = false;
    for (position, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if character == separator && !quoted => {
                pieces.push(piece(start, position));
                start = position + separator.len_utf8();
            }
            _ => {}
        }
    }
    pieces.push(piece(start, text.len()));
    (pieces, !quoted)
}

/// `name=value` or `name="value"`, spaces around the sign tolerated.
fn parameter(text: &str, number: usize) -> Result<(&str, String), AcceptError> {
    let (name, value) = text.split_once('=').ok_or(AcceptError::Parameter(number))?;
    let (name, value) = (name.trim(), value.trim());
    if !is_token(name) {
        return Err(AcceptError::Parameter(number));
    }
    let Some(quoted) = value.strip_prefix('"') else {
        let bare = !value.is_empty() && !value.contains(['"', ' ', '\t']);
        return bare
            .then(|| (name, value.to_owned()))
            .ok_or(AcceptError::Parameter(number));
    };
    let mut content = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next() {
            Some('"') => break,
            Some('\\') => content.extend(characters.next()),
            Some(character) => content.push(character),
            None => return Err(AcceptError::Quote(number)),
        }
    }
    if characters.next().is_some() {
        return Err(AcceptError::Quote(number));
    }
    Ok((name, content.trim().to_owned()))
}

/// A token of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
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
    use http::HeaderValue;
    use proptest::prelude::*;

    const DICOM: (&str, &str) = ("application", "dicom");

    fn range(media: (&str, &str), parts: Option<(&str, &str)>, syntax: &str, q: u16) -> MediaRange {
        MediaRange {
            media: MediaType::new(media.0, media.1),
            parts: parts.map(|(main, sub)| MediaType::new(main, sub)),
            transfer_syntax: match syntax {
                "" => TransferSyntaxRange::Unnamed,
                syntax => TransferSyntaxRange::parse(syntax).unwrap(),
            },
            weight: Weight(q),
        }
    }

    fn dicom_parts(syntax: &str, q: u16) -> MediaRange {
        range(("multipart", "related"), Some(DICOM), syntax, q)
    }

    fn parsed(line: &str) -> Vec<MediaRange> {
        Accept::parse([line])
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .entries
    }

    #[test]
    fn quotes_order_case_and_spaces_do_not_matter() {
        let expected = vec![dicom_parts("1.2.840.10008.1.2.4.80", 900)];
        for line in [
            r#"multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80; q=0.9"#,
            "multipart/related;type=application/dicom;transfer-syntax=1.2.840.10008.1.2.4.80;q=0.9",
            r#"multipart/related;q=.9;transfer-syntax="1.2.840.10008.1.2.4.80";type="application/dicom""#,
            r#"Multipart/Related ; Type = "Application/DICOM" ;Transfer-Syntax=1.2.840.10008.1.2.4.80; Q=0.900"#,
            "\tmultipart/related; type=application/dicom; transfer-syntax=1.2.840.10008.1.2.4.80; q=0.9;",
        ] {
            assert_eq!(parsed(line), expected, "{line}");
        }
    }

    #[test]
    fn the_samples_of_drim_m_are_understood() {
        let one_line = "multipart/related;type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.70;q=0.9;boundary=**,\
             multipart/related;type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.1;q=0.4;boundary=**,";
        let expected = vec![
            dicom_parts("1.2.840.10008.1.2.4.70", 900),
            dicom_parts("1.2.840.10008.1.2.1", 400),
        ];
        assert_eq!(parsed(one_line), expected);

        let lines = [
            "transfer-syntax=1.2.840.10008.1.2.4.70;q=0.9;boundary=myboundary",
            "transfer-syntax=1.2.840.10008.1.2.1;q=0.4;boundary=myboundary",
        ];
        assert_eq!(Accept::parse(lines).unwrap().entries, expected);
    }

    #[test]
    fn what_viewers_and_libraries_send_is_understood() {
        assert_eq!(
            parsed(
                "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*"
            ),
            [
                range(("application", "dicom+json"), None, "", 1000),
                range(
                    ("multipart", "related"),
                    Some(("application", "octet-stream")),
                    "*",
                    1000
                ),
            ]
        );
        assert_eq!(
            parsed(r#"multipart/related; type="*/*"; transfer-syntax=*"#),
            [range(("multipart", "related"), Some(("*", "*")), "*", 1000)]
        );
        assert_eq!(
            parsed("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2")[3..],
            [
                range(("*", "*"), None, "", 200),
                range(("*", "*"), None, "", 200)
            ]
        );
    }

    #[test]
    fn a_comma_in_quotes_does_not_end_an_entry() {
        assert_eq!(
            parsed(r#"multipart/related; boundary="a,b;c\"d"; type="application/dicom""#),
            [dicom_parts("", 1000)]
        );
    }

    #[test]
    fn empty_elements_are_nothing() {
        assert_eq!(parsed(""), []);
        assert_eq!(parsed(" , ,,"), []);
        assert_eq!(parsed(", application/json ,").len(), 1);
    }

    #[test]
    fn weights_are_read_as_they_are_written() {
        let weights = [
            ("0", 0),
            ("0.0", 0),
            ("0.", 0),
            ("0.000", 0),
            (".0", 0),
            ("1", 1000),
            ("1.0", 1000),
            ("1.000", 1000),
            ("1.00000", 1000),
            ("0.5", 500),
            (".25", 250),
            ("0.123456", 123),
            ("0.0001", 1),
        ];
        for (text, thousandths) in weights {
            assert_eq!(Weight::parse(text), Some(Weight(thousandths)), "{text}");
        }
        for text in [
            "", ".", "2", "1.1", "-1", "0,5", "1e0", "0.5x", "+0.5", "00.5",
        ] {
            assert_eq!(Weight::parse(text), None, "{text}");
        }
    }

    #[test]
    fn broken_entries_are_left_out_and_the_others_count() {
        let json = range(("application", "dicom+json"), None, "", 1000);
        for broken in [
            "foo",
            "q=0.5",
            "*/dicom",
            "a/b; type",
            "a/b; q=high",
            "a/b; transfer-syntax=../etc",
            "a/b; type=\"application/dicom\"x",
            "é/b",
        ] {
            for line in [
                format!("application/dicom+json, {broken}"),
                format!("{broken}, application/dicom+json"),
            ] {
                assert_eq!(parsed(&line), std::slice::from_ref(&json), "{line}");
            }
        }
        let unclosed = "application/dicom+json, a/b; type=\"x, text/html";
        assert_eq!(parsed(unclosed), std::slice::from_ref(&json));
        let mut headers = HeaderMap::new();
        let latin = HeaderValue::from_bytes(b"text/\xE9, application/dicom+json").unwrap();
        headers.append(ACCEPT, latin);
        assert_eq!(Accept::of_request(&headers, None).unwrap().entries, [json]);
        // What is broken counts towards the limit too.
        let many = vec!["foo"; MAX_ENTRIES + 1].join(",");
        assert_eq!(Accept::parse([many.as_str()]), Err(AcceptError::TooMany));
    }

    #[test]
    fn where_every_entry_is_broken_the_first_one_is_named() {
        let cases = [
            ("text, foo;", AcceptError::MediaType(1)),
            (", é", AcceptError::NotAscii(1)),
            ("q=0.5", AcceptError::MediaType(1)),
            ("*/dicom", AcceptError::MediaType(1)),
            ("a/b; type=dicom", AcceptError::MediaType(1)),
            ("a/b; type", AcceptError::Parameter(1)),
            ("a/b; type=", AcceptError::Parameter(1)),
            ("a/b; q=high", AcceptError::Weight(1)),
            (
                "a/b; transfer-syntax=../etc",
                AcceptError::TransferSyntax(1),
            ),
            ("a/b; type=\"application/dicom", AcceptError::Quote(1)),
            ("a/b; type=\"application/dicom\"x", AcceptError::Quote(1)),
        ];
        for (line, error) in cases {
            assert_eq!(Accept::parse([line]), Err(error), "{line}");
        }
    }

    #[test]
    fn what_no_client_needs_is_refused() {
        let long = format!("a/b; x={}", "y".repeat(MAX_BYTES));
        assert_eq!(Accept::parse([long.as_str()]), Err(AcceptError::TooLong));
        let halves = ["y".repeat(MAX_BYTES / 2 + 1), "y".repeat(MAX_BYTES / 2 + 1)];
        let lines = halves.each_ref().map(|half| format!("a/b; x={half}"));
        assert_eq!(
            Accept::parse(lines.each_ref().map(String::as_str)),
            Err(AcceptError::TooLong)
        );
        let many = vec!["a/b"; MAX_ENTRIES + 1].join(",");
        assert_eq!(Accept::parse([many.as_str()]), Err(AcceptError::TooMany));
        let deep = format!("a/b{}", ";x=1".repeat(MAX_PARAMETERS + 1));
        assert_eq!(Accept::parse([deep.as_str()]), Err(AcceptError::TooMany));
    }

    #[test]
    fn the_query_parameter_replaces_the_header() {
        let mut headers = HeaderMap::new();
        headers.append(ACCEPT, HeaderValue::from_static("image/png"));
        headers.append(ACCEPT, HeaderValue::from_static("image/gif"));
        let of = |parameter| Accept::of_request(&headers, parameter).unwrap().entries;
        assert_eq!(
            of(Some("application/dicom")),
            [range(DICOM, None, "", 1000)]
        );
        assert_eq!(of(None).len(), 2);
        assert_eq!(of(Some("")).len(), 2);
        assert_eq!(
            Accept::of_request(&HeaderMap::new(), None),
            Ok(Accept::default())
        );
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail_otherwise_than_by_an_error(line in "\\PC*") {
            let _ = Accept::parse([line.as_str()]);
        }

        #[test]
        fn no_mix_of_its_own_signs_does_either(line in r#"[a/*=;,"\\ .q0-9-]{0,60}"#) {
            let _ = Accept::parse([line.as_str()]);
        }

        #[test]
        fn every_order_of_parameters_reads_the_same(
            order in Just(vec!["type=\"application/dicom\"", "transfer-syntax=*", "q=0.7", "boundary=b"])
                .prop_shuffle(),
        ) {
            let line = format!("multipart/related;{}", order.join("; "));
            prop_assert_eq!(parsed(&line), vec![dicom_parts("*", 700)]);
        }

        #[test]
        fn entries_keep_their_order(weights in proptest::collection::vec(0_u16..=1000, 1..20)) {
            let entries: Vec<String> = weights
                .iter()
                .map(|w| format!("application/dicom; q={}.{:03}", w / 1000, w % 1000))
                .collect();
            let read = parsed(&entries.join(","));
            let read: Vec<u16> = read.iter().map(|entry| entry.weight.thousandths()).collect();
            prop_assert_eq!(read, weights);
        }
    }
}
