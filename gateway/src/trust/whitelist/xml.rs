//! A small XML 1.0 document as a tree with namespaces, bounded in every direction. No DTD, no
//! entity but the five of XML, no processing instruction; comments are left out, as the
//! canonicalization does.
//!
//! The list's content and its digest are taken from this one tree, so that what was signed is what
//! is read.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// Bytes of a document.
pub const MAX_BYTES: usize = 4 << 20;
/// Elements inside each other.
const MAX_DEPTH: usize = 24;
/// Elements and texts.
const MAX_NODES: usize = 200_000;
/// Attributes of one element, namespace declarations included.
const MAX_ATTRIBUTES: usize = 16;
/// Bytes of a name.
const MAX_NAME: usize = 256;

const XML_NAMESPACE: &str = "http://www.w3.org/XML/1998/namespace";
const XMLNS_NAMESPACE: &str = "http://www.w3.org/2000/xmlns/";

/// Why a text is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlError {
    /// More than [`MAX_BYTES`].
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Elements more than [`MAX_DEPTH`] deep.
    #[error("its elements are nested more than {MAX_DEPTH} deep")]
    TooDeep,
    /// Too many elements, attributes or bytes of a name.
    #[error("it has too many {0}")]
    TooMany(&'static str),
    /// Not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// A document type declaration.
    #[error("it has a DTD, which is not accepted")]
    Dtd,
    /// A reference to an entity that XML itself does not define.
    #[error("it refers to an entity, which is not accepted")]
    Entity,
    /// A processing instruction.
    #[error("it has a processing instruction, which is not accepted")]
    Instruction,
    /// Not well-formed.
    #[error("it is not well-formed XML: {0}")]
    NotWellFormed(String),
}

/// A document that was read whole.
#[derive(Debug)]
pub struct Document {
    elements: Vec<Element>,
}

/// An element; its place in its document is its [`Id`].
#[derive(Debug)]
pub(super) struct Element {
    pub(super) prefix: String,
    pub(super) local: String,
    /// Empty: no namespace.
    pub(super) namespace: String,
    pub(super) attributes: Vec<Attribute>,
    /// Namespaces declared here: prefix (empty: the default) and name.
    pub(super) declared: Vec<(String, String)>,
    pub(super) children: Vec<Child>,
    parent: Option<Id>,
}

#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) prefix: String,
    pub(super) local: String,
    pub(super) namespace: String,
    pub(super) value: String,
}

#[derive(Debug)]
pub(super) enum Child {
    Element(Id),
    Text(String),
}

/// The place of an element in its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(usize);

impl Document {
    /// Reads a document.
    ///
    /// # Errors
    /// [`XmlError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        if bytes.len() > MAX_BYTES {
            return Err(XmlError::TooLarge);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !text.chars().all(is_char) {
            return Err(broken("a character that XML does not allow"));
        }
        // XML §2.11: line ends are LF before anything else is looked at.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut reader = Reader::from_str(&text);
        let settings = reader.config_mut();
        settings.expand_empty_elements = true;
        settings.check_comments = true;
        let mut builder = Builder::default();
        loop {
            let at_start = reader.buffer_position() == 0;
            match reader.read_event().map_err(broken)? {
                Event::Start(start) => builder.start(&start)?,
                Event::End(_) => builder.end(),
                Event::Text(text) => {
                    let text: &[u8] = &text;
                    builder.text(utf8(text)?)?;
                }
                Event::CData(text) => {
                    let text: &[u8] = &text;
                    builder.inside()?;
                    builder.text(utf8(text)?)?;
                }
                Event::GeneralRef(reference) => {
                    let name: &[u8] = &reference;
                    builder.inside()?;
                    builder.text(referenced(utf8(name)?)?.encode_utf8(&mut [0; 4]))?;
                }
                Event::Comment(_) => {}
                Event::Decl(declaration) => {
                    if !at_start {
                        return Err(XmlError::Instruction);
                    }
                    let encoding = declaration.encoding().transpose().map_err(broken)?;
                    if encoding.is_some_and(|name| !name.eq_ignore_ascii_case(b"utf-8")) {
                        return Err(XmlError::NotUtf8);
                    }
                }
                Event::PI(_) => return Err(XmlError::Instruction),
                Event::DocType(_) => return Err(XmlError::Dtd),
                Event::Empty(_) => return Err(broken("an element that is not expanded")),
                Event::Eof => break,
            }
        }
        builder.finish()
    }

    /// The outermost element.
    pub(super) fn root(&self) -> Id {
        Id(0)
    }

    /// An element. `None` never happens for an [`Id`] of this document.
    pub(super) fn get(&self, id: Id) -> Option<&Element> {
        self.elements.get(id.0)
    }

    /// Every element, outermost first, in the order of the document.
    pub(super) fn all(&self) -> impl Iterator<Item = (Id, &Element)> {
        self.elements
            .iter()
            .enumerate()
            .map(|(at, element)| (Id(at), element))
    }

    /// The elements in an element.
    pub(super) fn children(&self, id: Id) -> impl Iterator<Item = (Id, &Element)> {
        let children = self.get(id).into_iter().flat_map(|e| &e.children);
        children.filter_map(|child| match child {
            Child::Element(id) => Some((*id, self.get(*id)?)),
            Child::Text(_) => None,
        })
    }

    /// The text in an element that holds nothing else.
    pub(super) fn text(&self, id: Id) -> Option<String> {
        let mut text = String::new();
        for child in &self.get(id)?.children {
            match child {
                Child::Text(part) => text.push_str(part),
                Child::Element(_) => return None,
            }
        }
        Some(text)
    }

    /// Whether an element holds blanks and other elements only.
    pub(super) fn has_no_text(&self, id: Id) -> bool {
        self.get(id).is_some_and(|element| {
            element.children.iter().all(|child| match child {
                Child::Element(_) => true,
                Child::Text(text) => text.chars().all(is_blank),
            })
        })
    }

    /// The namespace that a prefix stands for at an element; empty for the default when none is
    /// declared.
    pub(super) fn namespace_at(&self, id: Id, prefix: &str) -> Option<&str> {
        resolve(&self.elements, Some(id), prefix)
    }
}

impl Element {
    pub(super) fn is(&self, namespace: &str, local: &str) -> bool {
        self.namespace == namespace && self.local == local
    }

    /// The value of an attribute without namespace.
    pub(super) fn attribute(&self, local: &str) -> Option<&str> {
        let mut found = self.attributes.iter();
        let found = found.find(|a| a.namespace.is_empty() && a.local == local)?;
        Some(&found.value)
    }
}

#[derive(Default)]
struct Builder {
    elements: Vec<Element>,
    open: Vec<Id>,
    nodes: usize,
}

impl Builder {
    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), XmlError> {
        if self.open.len() == MAX_DEPTH {
            return Err(XmlError::TooDeep);
        }
        if self.open.is_empty() && !self.elements.is_empty() {
            return Err(broken("more than one outermost element"));
        }
        self.count()?;
        let id = Id(self.elements.len());
        let parent = self.open.last().copied();
        let name = start.name();
        let (prefix, local) = qualified(utf8(name.as_ref())?)?;
        let mut declared = Vec::new();
        let mut plain = Vec::new();
        for (rank, attribute) in start.attributes().with_checks(true).enumerate() {
            if rank == MAX_ATTRIBUTES {
                return Err(XmlError::TooMany("attributes"));
            }
            let attribute = attribute.map_err(broken)?;
            let key = utf8(attribute.key.as_ref())?;
            let value = attribute_value(utf8(&attribute.value)?)?;
            match qualified(key)? {
                ("", "xmlns") => declared.push(declare("", value)?),
                ("xmlns", prefix) => declared.push(declare(prefix, value)?),
                (prefix, local) => plain.push((prefix.to_owned(), local.to_owned(), value)),
            }
        }
        self.elements.push(Element {
            prefix: prefix.to_owned(),
            local: local.to_owned(),
            namespace: String::new(),
            attributes: Vec::new(),
            declared,
            children: Vec::new(),
            parent,
        });
        let namespace = self.namespace(id, prefix)?;
        let mut attributes: Vec<Attribute> = Vec::with_capacity(plain.len());
        for (prefix, local, value) in plain {
            let namespace = match prefix.as_str() {
                "" => String::new(),
                prefix => self.namespace(id, prefix)?,
            };
            let twice = |a: &Attribute| a.local == local && a.namespace == namespace;
            if attributes.iter().any(twice) {
                return Err(broken("an attribute twice"));
            }
            attributes.push(Attribute {
                prefix,
                local,
                namespace,
                value,
            });
        }
        if let Some(element) = self.elements.get_mut(id.0) {
            element.namespace = namespace;
            element.attributes = attributes;
        }
        if let Some(parent) = parent.and_then(|parent| self.elements.get_mut(parent.0)) {
            parent.children.push(Child::Element(id));
        }
        self.open.push(id);
        Ok(())
    }

    fn namespace(&self, id: Id, prefix: &str) -> Result<String, XmlError> {
        resolve(&self.elements, Some(id), prefix)
            .map(str::to_owned)
            .ok_or_else(|| broken("a prefix without namespace"))
    }

    // The reader has compared the names already.
    fn end(&mut self) {
        self.open.pop();
    }

    fn text(&mut self, text: &str) -> Result<(), XmlError> {
        let Some(element) = self.open.last().and_then(|id| self.elements.get_mut(id.0)) else {
            return match text.chars().all(is_blank) {
                true => Ok(()),
                false => Err(broken("text outside the outermost element")),
            };
        };
        if let Some(Child::Text(before)) = element.children.last_mut() {
            before.push_str(text);
            return Ok(());
        }
        element.children.push(Child::Text(text.to_owned()));
        self.count()
    }

    fn inside(&self) -> Result<(), XmlError> {
        match self.open.is_empty() {
            true => Err(broken("text outside the outermost element")),
            false => Ok(()),
        }
    }

    fn count(&mut self) -> Result<(), XmlError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(XmlError::TooMany("elements"));
        }
        Ok(())
    }

    fn finish(self) -> Result<Document, XmlError> {
        if self.elements.is_empty() || !self.open.is_empty() {
            return Err(broken("it ends before its outermost element does"));
        }
        Ok(Document {
            elements: self.elements,
        })
    }
}

fn resolve<'a>(elements: &'a [Element], mut at: Option<Id>, prefix: &str) -> Option<&'a str> {
    if prefix == "xml" {
        return Some(XML_NAMESPACE);
    }
    while let Some(element) = at.and_then(|id| elements.get(id.0)) {
        if let Some((_, name)) = element.declared.iter().find(|(p, _)| p == prefix) {
            return Some(name);
        }
        at = element.parent;
    }
    prefix.is_empty().then_some("")
}

fn declare(prefix: &str, name: String) -> Result<(String, String), XmlError> {
    let reserved = |text: &str| text == XML_NAMESPACE || text == XMLNS_NAMESPACE;
    if prefix == "xml"
        || prefix == "xmlns"
        || reserved(&name)
        || (name.is_empty() && !prefix.is_empty())
    {
        return Err(broken("a namespace that may not be declared"));
    }
    Ok((prefix.to_owned(), name))
}

/// A qualified name (Namespaces in XML §4), as prefix and local part.
fn qualified(name: &str) -> Result<(&str, &str), XmlError> {
    if name.len() > MAX_NAME {
        return Err(XmlError::TooMany("characters in a name"));
    }
    let (prefix, local) = match name.split_once(':') {
        Some((prefix, local)) if is_name(prefix) => (prefix, local),
        Some(_) => return Err(broken("a wrong name")),
        None => ("", name),
    };
    if is_name(local) {
        Ok((prefix, local))
    } else {
        Err(broken("a wrong name"))
    }
}

fn is_name(name: &str) -> bool {
    let starts = |c: char| c.is_alphabetic() || c == '_';
    name.starts_with(starts)
        && name
            .chars()
            .all(|c| starts(c) || c.is_numeric() || matches!(c, '-' | '.' | '\u{b7}'))
}

/// The value of an attribute (XML §3.3.3): blanks become spaces, references what they stand for.
fn attribute_value(raw: &str) -> Result<String, XmlError> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find(['&', '<', '\t', '\n']) {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        value.push_str(before);
        rest = match from.strip_prefix('&') {
            Some(reference) => {
                let (name, after) = reference.split_once(';').ok_or(XmlError::Entity)?;
                value.push(referenced(name)?);
                after
            }
            None if from.starts_with('<') => return Err(broken("`<` in an attribute")),
            None => {
                value.push(' ');
                from.get(1..).unwrap_or_default()
            }
        };
    }
    value.push_str(rest);
    Ok(value)
}

/// What `&name;` stands for (XML §4.1, §4.6).
fn referenced(name: &str) -> Result<char, XmlError> {
    let known = match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    };
    if let Some(character) = known {
        return Ok(character);
    }
    let digits = name.strip_prefix('#').ok_or(XmlError::Entity)?;
    let (digits, radix) = match digits.strip_prefix('x') {
        Some(hex) => (hex, 16),
        None => (digits, 10),
    };
    let plain = (1..=8).contains(&digits.len()) && digits.chars().all(|c| c.is_digit(radix));
    let code = plain
        .then(|| u32::from_str_radix(digits, radix).ok())
        .flatten();
    code.and_then(char::from_u32)
        .filter(|c| is_char(*c))
        .ok_or_else(|| broken("a wrong character reference"))
}

/// XML §2.2.
fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

fn utf8(bytes: &[u8]) -> Result<&str, XmlError> {
    std::str::from_utf8(bytes).map_err(|_| XmlError::NotUtf8)
}

fn broken(reason: impl ToString) -> XmlError {
    XmlError::NotWellFormed(reason.to_string())
}
