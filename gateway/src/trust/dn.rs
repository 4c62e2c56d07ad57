//! Distinguished names, as certificates encode them (RFC 5280 §4.1.2.4) and as the white list
//! writes them, compared by what they say: neither order, nor encoding, nor spelling of a type
//! counts.

use std::fmt;
use std::str::FromStr;

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::X509Name;

/// Bytes of a name in text form.
const MAX_TEXT: usize = 4_096;
/// Attributes of one name.
const MAX_ATTRIBUTES: usize = 32;

/// Types with a short name (RFC 4514 §3, RFC 2256), their usual spellings and their OIDs.
const TYPES: [(&str, &str); 17] = [
    ("CN", "2.5.4.3"),
    ("SURNAME", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("TITLE", "2.5.4.12"),
    ("POSTALCODE", "2.5.4.17"),
    ("GIVENNAME", "2.5.4.42"),
    ("DNQUALIFIER", "2.5.4.46"),
    ("ORGANIZATIONIDENTIFIER", "2.5.4.97"),
    ("E", "1.2.840.113549.1.9.1"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
];

/// Other spellings seen in texts.
const SPELLINGS: [(&str, &str); 6] = [
    ("S", "ST"),
    ("STATEORPROVINCENAME", "ST"),
    ("EMAILADDRESS", "E"),
    ("EMAIL", "E"),
    ("SN", "SURNAME"),
    ("T", "TITLE"),
];

/// The name of a certificate's subject or issuer.
///
/// Two names are equal when they have the same attributes, each as often, in whatever order; values
/// are compared as text without the blanks around them, the CN without regard to case.
#[derive(Clone)]
pub struct DistinguishedName {
    /// As written, for display.
    attributes: Vec<Attribute>,
    /// Folded and sorted, for comparison.
    key: Vec<Attribute>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Attribute {
    /// Short name in upper case, or a dotted OID.
    kind: String,
    value: String,
}

/// Why a text is no distinguished name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnError {
    /// Nothing in it.
    #[error("the distinguished name is empty")]
    Empty,
    /// More than [`MAX_TEXT`] bytes or [`MAX_ATTRIBUTES`] attributes.
    #[error("the distinguished name is too long")]
    TooLong,
    /// An attribute without known type.
    #[error("the distinguished name has a part without known type before `=`")]
    UnknownType,
    /// An attribute without value.
    #[error("the distinguished name has a part without value")]
    NoValue,
    /// An escape that means nothing.
    #[error("the distinguished name has a wrong escape sequence")]
    Escape,
    /// A value in a string type that is not read.
    #[error("the distinguished name has a value that is no text")]
    NotText,
}

impl DistinguishedName {
    /// The name in a certificate, already parsed.
    ///
    /// # Errors
    /// When a value is no text, or the name is empty or too long.
    pub fn from_x509(name: &X509Name<'_>) -> Result<Self, DnError> {
        let mut attributes = Vec::new();
        for attribute in name.iter_attributes() {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(DnError::TooLong);
            }
            let oid = attribute.attr_type().to_id_string();
            let short = TYPES.iter().find(|(_, known)| *known == oid);
            let value = attribute.attr_value();
            attributes.push(Attribute {
                kind: short.map_or(oid, |(short, _)| (*short).to_owned()),
                value: decode(value.tag(), value.data)?,
            });
        }
        // The order of RFC 4514: the last comes first.
        attributes.reverse();
        Self::new(attributes)
    }

    fn new(attributes: Vec<Attribute>) -> Result<Self, DnError> {
        if attributes.is_empty() {
            return Err(DnError::Empty);
        }
        let mut key: Vec<_> = attributes.iter().map(Attribute::folded).collect();
        key.sort();
        Ok(Self { attributes, key })
    }

    /// Its common name, when it has exactly one.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        let mut found = self.values("CN");
        found.next().filter(|_| found.next().is_none())
    }

    /// The values of a type, given by its short name in upper case.
    pub fn values<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        let of_kind = self.attributes.iter().filter(move |a| a.kind == kind);
        of_kind.map(|attribute| attribute.value.as_str())
    }
}

impl Attribute {
    fn folded(&self) -> Self {
        let value = self.value.trim();
        Self {
            kind: self.kind.clone(),
            value: match self.kind.as_str() {
                "CN" => value.to_lowercase(),
                _ => value.to_owned(),
            },
        }
    }
}

impl PartialEq for DistinguishedName {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for DistinguishedName {}

impl std::hash::Hash for DistinguishedName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

impl fmt::Debug for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (rank, attribute) in self.attributes.iter().enumerate() {
            if rank > 0 {
                f.write_str(",")?;
            }
            write!(f, "{}=", attribute.kind)?;
            for c in attribute.value.chars() {
                match c {
                    ',' | '+' | '"' | '\\' | '<' | '>' | ';' => write!(f, "\\{c}")?,
                    c if c.is_control() => write!(f, "\\{:02X}", u32::from(c))?,
                    c => write!(f, "{c}")?,
                }
            }
        }
        Ok(())
    }
}

/// Reads the text form, more tolerantly than RFC 4514: blanks around separators, and characters
/// that should be escaped but are not. A comma separates two attributes only when a known type and
/// `=` follow it.
impl FromStr for DistinguishedName {
    type Err = DnError;

    fn from_str(text: &str) -> Result<Self, DnError> {
        if text.len() > MAX_TEXT {
            return Err(DnError::TooLong);
        }
        let mut attributes = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            if attributes.len() == MAX_ATTRIBUTES {
                return Err(DnError::TooLong);
            }
            let (kind, after) = leading_type(rest).ok_or(DnError::UnknownType)?;
            let end = end_of_value(after);
            let (raw, following) = after.split_at_checked(end).unwrap_or((after, ""));
            let value = unescape(raw.trim())?;
            if value.is_empty() {
                return Err(DnError::NoValue);
            }
            attributes.push(Attribute { kind, value });
            rest = following.get(1..).unwrap_or_default().trim_start();
        }
        Self::new(attributes)
    }
}

/// The type that an attribute starts with, and what follows its `=`.
fn leading_type(text: &str) -> Option<(String, &str)> {
    let (name, rest) = text.trim_start().split_once('=')?;
    let name = name.trim();
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    if name.is_empty() || !plain {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let oid = upper.strip_prefix("OID.").unwrap_or(&upper);
    let spelled = SPELLINGS.iter().find(|(spelling, _)| *spelling == oid);
    let short = spelled.map_or(oid, |(_, short)| short);
    let known = TYPES
        .iter()
        .find(|(known, dotted)| *known == short || *dotted == short);
    let kind = match known {
        Some((known, _)) => (*known).to_owned(),
        None if short.contains('.') && short.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            short.to_owned()
        }
        None => return None,
    };
    Some((kind, rest))
}

/// Where the value ends: at a separator, outside quotes, that another attribute follows.
fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' if text.trim_start().starts_with('"') => quoted = !quoted,
            ',' | ';' | '+' if !quoted => {
                let rest = text.get(at + 1..).unwrap_or_default();
                if leading_type(rest).is_some() || rest.trim().is_empty() {
                    return at;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Undoes RFC 4514 §2.4: `\,` and the like, `\C3\A9`, and quotes around the whole (RFC 2253).
fn unescape(raw: &str) -> Result<String, DnError> {
    let inner = raw
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(raw);
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let hex = after.first_chunk::<2>().and_then(|pair| {
            let digit = |b: u8| char::from(b).to_digit(16);
            u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()
        });
        match (hex, after.split_first()) {
            (Some(byte), _) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (None, Some((&escaped, after)))
                if escaped.is_ascii_punctuation() || escaped == b' ' =>
            {
                bytes.push(escaped);
                rest = after;
            }
            _ => return Err(DnError::Escape),
        }
    }
    String::from_utf8(bytes).map_err(|_| DnError::Escape)
}

/// A DirectoryString or IA5String (RFC 5280 §4.1.2.4) as text.
fn decode(tag: Tag, data: &[u8]) -> Result<String, DnError> {
    let text = match tag {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            String::from_utf8(data.to_vec()).ok()
        }
        // In practice Latin-1.
        Tag::T61String => Some(data.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units: Vec<u16> = data
                .chunks(2)
                .map(|pair| pair.iter().fold(0, |sum, b| (sum << 8) | u16::from(*b)))
                .collect();
            data.len()
                .is_multiple_of(2)
                .then(|| String::from_utf16(&units).ok())
                .flatten()
        }
        _ => None,
    };
    text.ok_or(DnError::NotText)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use x509_parser::prelude::FromDer as _;

    use super::*;

    fn name(text: &str) -> DistinguishedName {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A DER name with one attribute a RDN; each value with the tag of its string type.
    fn encoded(attributes: &[(u8, u8, &str)]) -> Vec<u8> {
        let wrap = |tag: u8, content: Vec<u8>| {
            let mut all = vec![tag];
            match u8::try_from(content.len()).unwrap() {
                short @ 0..=0x7f => all.push(short),
                long => all.extend([0x81, long]),
            }
            all.extend(content);
            all
        };
        let rdns = attributes.iter().flat_map(|(kind, tag, value)| {
            let mut content = vec![0x06, 0x03, 0x55, 0x04, *kind];
            content.extend(wrap(*tag, value.as_bytes().to_vec()));
            wrap(0x31, wrap(0x30, content))
        });
        wrap(0x30, rdns.collect())
    }

    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;

    #[test]
    fn the_order_of_the_white_list_equals_the_order_of_the_certificate() {
        let listed = name(
            "CN=db154.test.mesimagesmedicales.fr,OU=300000001853001,O=MINISTERE DE TEST5300,\
             ST=Côte-d'Or (21),C=FR",
        );
        for country in [UTF8, PRINTABLE] {
            for organisation in [UTF8, PRINTABLE] {
                let der = encoded(&[
                    (6, country, "FR"),
                    (8, UTF8, "Côte-d'Or (21)"),
                    (10, organisation, "MINISTERE DE TEST5300"),
                    (11, PRINTABLE, "300000001853001"),
                    (3, UTF8, "db154.test.mesimagesmedicales.fr"),
                ]);
                let (_, subject) = X509Name::from_der(&der).unwrap();
                assert_eq!(DistinguishedName::from_x509(&subject).unwrap(), listed);
            }
        }
    }

    #[test]
    fn names_differ_by_value_type_and_number_of_attributes() {
        let base = name("CN=a.fr,OU=1,O=X,C=FR");
        for other in [
            "CN=b.fr,OU=1,O=X,C=FR",
            "CN=a.fr,OU=2,O=X,C=FR",
            "CN=a.fr,O=1,OU=X,C=FR",
            "CN=a.fr,OU=1,OU=1,O=X,C=FR",
            "CN=a.fr,OU=1,O=X",
            "CN=a.fr,OU=1,O=x,C=FR",
        ] {
            assert_ne!(name(other), base, "{other}");
        }
        assert_eq!(name(" C=FR , O=X;ou=1, cn = A.FR "), base);
    }

    #[test]
    fn two_organisational_units_are_kept() {
        let issuer = name("CN=TEST AC, OU=IGC-SANTE TEST, OU=0002 187512751, O=ASIP-SANTE, C=FR");
        let units: Vec<_> = issuer.values("OU").collect();
        assert_eq!(units, ["IGC-SANTE TEST", "0002 187512751"]);
        assert_eq!(issuer.common_name(), Some("TEST AC"));
        assert_eq!(name("CN=a,CN=b,C=FR").common_name(), None);
    }

    #[test]
    fn what_should_be_escaped_is_read_escaped_or_not() {
        for text in [
            "CN=a.fr,O=Dupont, Durand + fils,C=FR",
            "CN=a.fr,O=Dupont\\, Durand \\+ fils,C=FR",
            "CN=a.fr,O=\"Dupont, Durand + fils\",C=FR",
            "CN=a.fr,O=Dupont\\2C Durand + fils,C=FR",
        ] {
            assert_eq!(
                name(text).values("O").next(),
                Some("Dupont, Durand + fils"),
                "{text}"
            );
        }
        assert_eq!(
            name("CN=a,O=\\C3\\A9t\\C3\\A9").values("O").next(),
            Some("été")
        );
    }

    #[test]
    fn an_unknown_type_and_an_empty_value_are_refused() {
        assert_eq!("".parse::<DistinguishedName>(), Err(DnError::Empty));
        assert_eq!(
            "XX=1".parse::<DistinguishedName>(),
            Err(DnError::UnknownType)
        );
        assert_eq!(
            "CN=,O=X".parse::<DistinguishedName>(),
            Err(DnError::NoValue)
        );
        assert_eq!("CN=\\q".parse::<DistinguishedName>(), Err(DnError::Escape));
        let long = format!("CN={}", "a".repeat(MAX_TEXT));
        assert_eq!(long.parse::<DistinguishedName>(), Err(DnError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn a_shown_name_reads_back_the_same(values in proptest::collection::vec("[a-zà-ÿ ,+=\"\\\\;<>()']{1,20}", 1..5)) {
            let kinds = ["CN", "OU", "O", "C", "1.2.3.4"];
            let attributes: Vec<_> = values
                .iter()
                .filter(|value| !value.trim().is_empty())
                .zip(kinds)
                .map(|(value, kind)| Attribute { kind: kind.to_owned(), value: value.trim().to_owned() })
                .collect();
            if let Ok(written) = DistinguishedName::new(attributes) {
                proptest::prop_assert_eq!(written.to_string().parse(), Ok(written));
            }
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text: String) {
            let _ = text.parse::<DistinguishedName>();
        }
    }
}
