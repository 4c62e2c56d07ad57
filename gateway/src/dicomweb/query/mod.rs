//! A search (QIDO-RS, PS3.18 §10.6) as a value: the query string parsed, checked and bounded.
//!
//! Names and representations come from the data dictionary. Parameters it does not know are left
//! out, as the standard wants it, and reported by [`Query::ignored`]; values that are not values of
//! their attribute are errors that name the parameter and never repeat the value.

mod attributes;
mod values;

use std::borrow::Cow;

use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::{Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags};
use percent_encoding::percent_decode_str;

pub use values::Matching;

use super::problem::Problem;
use crate::dicom::uid::{SeriesUid, StudyUid};

/// Bytes of a query string.
const MAX_BYTES: usize = 32 * 1024;
/// Parameters of a query string.
const MAX_PARAMETERS: usize = 256;
/// Values of one parameter: UIDs of a list, attributes of an `includefield`.
const MAX_VALUES: usize = 512;
/// Attributes on the way into a sequence.
const MAX_DEPTH: usize = 8;

/// What is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Studies.
    Study,
    /// Series.
    Series,
    /// Composite instances.
    Instance,
}

/// What the path of a search already names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// The study, when the search is below one.
    pub study: Option<StudyUid>,
    /// The series, when the search is below one.
    pub series: Option<SeriesUid>,
}

/// The way to an attribute: the sequences that hold it, outermost first, then the attribute.
pub type TagPath = Vec<Tag>;

/// A matching key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The attribute.
    pub path: TagPath,
    /// Its value representation.
    pub vr: VR,
    /// What its value asks for; never [`Matching::Universal`], which becomes an include field.
    pub value: Matching,
}

/// What a match returns beyond [`Query::return_attributes`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncludeFields {
    /// Everything the archive can return for the level (`includefield=all`).
    All,
    /// These; may be none.
    Listed(Vec<TagPath>),
}

/// A search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What is searched for.
    pub level: Level,
    /// What the path names. No key repeats it.
    pub scope: Scope,
    /// Matching keys, each attribute once.
    pub keys: Vec<Key>,
    /// Additional attributes of matches.
    pub include: IncludeFields,
    /// `fuzzymatching`.
    pub fuzzy: bool,
    /// `emptyvaluematching` was asked for.
    pub empty_values: bool,
    /// `multiplevaluematching` was asked for.
    pub multiple_values: bool,
    /// `limit`.
    pub limit: Option<u32>,
    /// `offset`, 0 unless given.
    pub offset: u32,
    /// Whether a parameter was left out because nothing is known of it; the answer then carries a
    /// `Warning` (PS3.18 §8.3.4).
    pub ignored: bool,
    /// Whether a key excludes what the path names, so that nothing can match.
    pub nothing_matches: bool,
}

/// Why a query string is refused. `parameter` is a keyword of the dictionary or of PS3.18.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Longer than any search.
    #[error(
        "the query string is longer than {MAX_BYTES} bytes or has more than {MAX_PARAMETERS} parameters"
    )]
    TooLong,
    /// Percent-encoding that is not complete, or not UTF-8.
    #[error("a parameter is not percent-encoded UTF-8")]
    Encoding,
    /// A value that is not one of its attribute.
    #[error("parameter {parameter}: {}", if *.repeated { "given more than once" } else { "not a valid value" })]
    Value {
        /// The parameter.
        parameter: String,
        /// Whether two values contradict each other, rather than one being wrong.
        repeated: bool,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A dotted path through an attribute that is no sequence.
    #[error("parameter {parameter}: the path goes through an attribute that is not a sequence")]
    NotASequence {
        /// The parameter.
        parameter: String,
    },
    /// A dotted path deeper than any search.
    #[error("the path of an attribute has more than {MAX_DEPTH} steps")]
    TooDeep,
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let remedy = match &error {
            QueryError::TooLong => "split the search into several",
            QueryError::Encoding => "encode values as UTF-8, then each byte beyond ASCII as %XX",
            QueryError::Value { remedy, .. } => remedy,
            QueryError::NotASequence { .. } => {
                "name sequences, divided by dots, then the attribute"
            }
            QueryError::TooDeep => "search by an attribute further up",
        };
        Self::bad_request(error.to_string(), remedy)
    }
}

impl Query {
    /// Parses the query string of a search: `raw` is what follows the `?`, still encoded.
    ///
    /// # Errors
    /// [`QueryError`], which becomes 400.
    pub fn parse(level: Level, scope: Scope, raw: &str) -> Result<Self, QueryError> {
        let mut query = Self {
            level,
            scope,
            keys: Vec::new(),
            include: IncludeFields::Listed(Vec::new()),
            fuzzy: false,
            empty_values: false,
            multiple_values: false,
            limit: None,
            offset: 0,
            ignored: false,
            nothing_matches: false,
        };
        let mut given = Given::default();
        for (name, value) in parameters(raw)? {
            match &*decode(name, Plus::Space)? {
                "fuzzymatching" => given.fuzzy.set("fuzzymatching", value, yes_or_no)?,
                "emptyvaluematching" => {
                    given.empty.set("emptyvaluematching", value, yes_or_no)?;
                }
                "multiplevaluematching" => {
                    given
                        .multiple
                        .set("multiplevaluematching", value, yes_or_no)?;
                }
                "limit" => given.limit.set("limit", value, whole_number)?,
                "offset" => given.offset.set("offset", value, whole_number)?,
                "includefield" => query.add_include_fields(&decode(value, Plus::Space)?)?,
                // Theirs is the whole request, not the search.
                "accept" | "charset" => {}
                name => query.add_key(name, value)?,
            }
        }
        query.fuzzy = given.fuzzy.0.unwrap_or(false);
        query.empty_values = given.empty.0.unwrap_or(false);
        query.multiple_values = given.multiple.0.unwrap_or(false);
        query.limit = given.limit.0;
        query.offset = given.offset.0.unwrap_or(0);
        query.take_scope_out_of_keys();
        query.check_combinations()?;
        Ok(query)
    }

    /// The attributes every match holds: those of the level, and of each level above that the path
    /// does not name (PS3.18 §10.6.3.3).
    #[must_use]
    pub fn return_attributes(&self) -> Vec<Tag> {
        let mut attributes = self.level.return_attributes().to_vec();
        if self.level == Level::Instance && self.scope.series.is_none() {
            attributes.extend(Level::Series.return_attributes());
        }
        if self.level > Level::Study && self.scope.study.is_none() {
            attributes.extend(Level::Study.return_attributes());
        }
        attributes.sort_unstable();
        attributes.dedup();
        attributes
    }

    fn add_key(&mut self, name: &str, value: &str) -> Result<(), QueryError> {
        let Some(path) = tag_path(name)? else {
            self.ignored = true;
            return Ok(());
        };
        let parameter = path_name(&path);
        // Without a representation a value can be neither checked nor encoded.
        let Some(vr) = path.last().copied().and_then(representation) else {
            self.ignored = true;
            return Ok(());
        };
        let (_, sequences) = path
            .split_last()
            .unwrap_or((&tags::SPECIFIC_CHARACTER_SET, &[]));
        if sequences
            .iter()
            .any(|tag| representation(*tag) != Some(VR::SQ))
        {
            return Err(QueryError::NotASequence { parameter });
        }
        let plus = if vr == VR::DT {
            Plus::Kept
        } else {
            Plus::Space
        };
        let value = decode(value, plus)?;
        let value = values::parse(vr, &value).map_err(|remedy| QueryError::Value {
            parameter: parameter.clone(),
            repeated: false,
            remedy,
        })?;
        if value == Matching::Universal {
            self.include_path(path);
            return Ok(());
        }
        match self.keys.iter_mut().find(|key| key.path == path) {
            None => self.keys.push(Key { path, vr, value }),
            Some(key) if key.value == value => {}
            Some(key) => match (&mut key.value, value) {
                (Matching::ListOfUid(list), Matching::ListOfUid(more)) => {
                    list.extend(more);
                    let mut seen = std::collections::HashSet::new();
                    list.retain(|uid| seen.insert(uid.clone()));
                }
                _ => {
                    return Err(QueryError::Value {
                        parameter,
                        repeated: true,
                        remedy: "give each attribute once",
                    });
                }
            },
        }
        Ok(())
    }

    fn check_combinations(&self) -> Result<(), QueryError> {
        let mut combinations = 1_usize;
        for key in &self.keys {
            if let Matching::AnyOf(codes) = &key.value {
                combinations = combinations.saturating_mul(codes.len());
                if combinations > values::MAX_CODES {
                    return Err(QueryError::Value {
                        parameter: path_name(&key.path),
                        repeated: false,
                        remedy: values::FEWER_CODES,
                    });
                }
            }
        }
        Ok(())
    }

    fn add_include_fields(&mut self, list: &str) -> Result<(), QueryError> {
        let invalid = |remedy| QueryError::Value {
            parameter: "includefield".to_owned(),
            repeated: false,
            remedy,
        };
        for (count, field) in list
            .split(',')
            .map(|field| field.trim_matches(' '))
            .enumerate()
        {
            if count == MAX_VALUES {
                return Err(invalid("name fewer attributes, or all"));
            }
            match field {
                "" => {}
                "all" => self.include = IncludeFields::All,
                field => {
                    let word = |part: &str| {
                        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
                    };
                    if !field.split('.').all(word) {
                        return Err(invalid(
                            "write keywords or tags, with commas between them, or all",
                        ));
                    }
                    match tag_path(field)? {
                        Some(path) => self.include_path(path),
                        None => self.ignored = true,
                    }
                }
            }
        }
        Ok(())
    }

    fn include_path(&mut self, path: TagPath) {
        if let IncludeFields::Listed(listed) = &mut self.include
            && !listed.contains(&path)
        {
            listed.push(path);
        }
    }

    /// A key for what the path names either agrees with it, and is not needed, or excludes it.
    fn take_scope_out_of_keys(&mut self) {
        let named = [
            (
                tags::STUDY_INSTANCE_UID,
                self.scope.study.as_ref().map(StudyUid::as_str),
            ),
            (
                tags::SERIES_INSTANCE_UID,
                self.scope.series.as_ref().map(SeriesUid::as_str),
            ),
        ];
        let mut excluded = false;
        self.keys.retain(|key| {
            let [tag] = key.path.as_slice() else {
                return true;
            };
            let Some((_, Some(uid))) = named.iter().find(|(named, _)| named == tag) else {
                return true;
            };
            if let Matching::ListOfUid(list) = &key.value {
                excluded |= !list.iter().any(|one| one.as_str() == *uid);
            }
            false
        });
        self.nothing_matches = excluded;
    }
}

/// The decoded `accept` parameter of a query string, several joined as one list (PS3.18
/// §8.3.3.1); `None` without any.
///
/// # Errors
/// [`QueryError`] when the query string is too long or not decodable.
pub fn accept_parameter(raw: &str) -> Result<Option<String>, QueryError> {
    let mut list: Option<String> = None;
    for (name, value) in parameters(raw)? {
        if decode(name, Plus::Space)? != "accept" {
            continue;
        }
        let value = decode(value, Plus::Kept)?;
        match &mut list {
            None => list = Some(value.into_owned()),
            Some(list) => {
                list.push(',');
                list.push_str(&value);
            }
        }
    }
    Ok(list)
}

/// The decoded parameters of a query string, in its order.
///
/// # Errors
/// [`QueryError`] when the query string is too long or not decodable.
pub fn pairs(raw: &str) -> Result<Vec<(String, String)>, QueryError> {
    let decoded = parameters(raw)?.map(|(name, value)| {
        let name = decode(name, Plus::Space)?.into_owned();
        Ok((name, decode(value, Plus::Space)?.into_owned()))
    });
    decoded.collect()
}

/// Parameters that may be given once.
#[derive(Default)]
struct Given {
    fuzzy: Once<bool>,
    empty: Once<bool>,
    multiple: Once<bool>,
    limit: Once<u32>,
    offset: Once<u32>,
}

struct Once<T>(Option<T>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: PartialEq> Once<T> {
    fn set(
        &mut self,
        parameter: &str,
        value: &str,
        parse: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<(), QueryError> {
        let invalid = |repeated, remedy| QueryError::Value {
            parameter: parameter.to_owned(),
            repeated,
            remedy,
        };
        let value = parse(&decode(value, Plus::Space)?).map_err(|remedy| invalid(false, remedy))?;
        match &self.0 {
            Some(before) if *before != value => Err(invalid(true, "give it once")),
            _ => {
                self.0 = Some(value);
                Ok(())
            }
        }
    }
}

fn yes_or_no(text: &str) -> Result<bool, &'static str> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("write true or false"),
    }
}

fn whole_number(text: &str) -> Result<u32, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten();
    number.ok_or("write a whole number from 0 to 4294967295")
}

/// Names and values of a query string, still encoded.
fn parameters(raw: &str) -> Result<impl Iterator<Item = (&str, &str)>, QueryError> {
    let pairs = || raw.split('&').filter(|pair| !pair.is_empty());
    if raw.len() > MAX_BYTES || pairs().nth(MAX_PARAMETERS).is_some() {
        return Err(QueryError::TooLong);
    }
    Ok(pairs().map(|pair| pair.split_once('=').unwrap_or((pair, ""))))
}

/// What a `+` stands for. Form encoders write it for a space; in media types and in offsets of
/// date-times it is itself, and a space there has no meaning.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Kept,
}

fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, QueryError> {
    let spaced = match plus {
        Plus::Space if text.contains('+') => Cow::Owned(text.replace('+', " ")),
        _ => Cow::Borrowed(text),
    };
    // The decoder leaves an incomplete escape as it is: refused here.
    let complete = |(at, _): (usize, &str)| {
        let digits = spaced.get(at + 1..at + 3);
        digits.is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    if !spaced.match_indices('%').all(complete) {
        return Err(QueryError::Encoding);
    }
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(text) => Ok(Cow::Owned(text.into_owned())),
        Err(_) => Err(QueryError::Encoding),
    }
}

/// The attribute that a keyword, a tag, or a dotted path of them names; `None` when a step is
/// neither (PS3.18 §8.3.4.1).
fn tag_path(name: &str) -> Result<Option<TagPath>, QueryError> {
    if name.split('.').nth(MAX_DEPTH).is_some() {
        return Err(QueryError::TooDeep);
    }
    Ok(name.split('.').map(tag).collect())
}

fn tag(step: &str) -> Option<Tag> {
    let tag = if step.len() == 8 && step.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let number = u32::from_str_radix(step, 16).ok()?;
        Tag((number >> 16) as u16, (number & 0xffff) as u16)
    } else {
        StandardDataDictionary.by_name(step)?.tag_range().inner()
    };
    // Commands and file meta information are no attributes of a data set.
    (tag.group() > 2).then_some(tag)
}

fn representation(tag: Tag) -> Option<VR> {
    StandardDataDictionary.by_tag(tag)?.vr().exact()
}

/// The path in keywords, for messages; tags where the dictionary has none.
fn path_name(path: &[Tag]) -> String {
    let step = |tag: &Tag| match StandardDataDictionary.by_tag(*tag) {
        Some(entry) => entry.alias().to_owned(),
        None => format!("{:04X}{:04X}", tag.group(), tag.element()),
    };
    path.iter().map(step).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests;
