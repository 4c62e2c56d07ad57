//! A table of the document, read key by key, which remembers what was asked so that what was never
//! asked can be reported as unknown.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, line_at};
use super::value::{Fault, Secrets, Value};
use crate::keys::Passphrase;

/// Values longer than this are cut in messages, characters.
const SHOWN_CHARS: usize = 60;

/// One document and what is wrong with it so far.
pub(super) struct Source<'a> {
    text: &'a str,
    base: &'a Path,
    secrets: RefCell<Secrets>,
    problems: RefCell<Vec<Problem>>,
    unknown: RefCell<Vec<Unknown>>,
    /// Keys asked for anywhere, as (section, key); the index of an array is left out.
    known: RefCell<BTreeSet<(String, &'static str)>>,
}

struct Unknown {
    problem: Problem,
    name: String,
    section: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str, base: &'a Path) -> Self {
        Self {
            text,
            base,
            secrets: RefCell::default(),
            problems: RefCell::default(),
            unknown: RefCell::default(),
            known: RefCell::default(),
        }
    }

    /// Folder from which relative paths are resolved.
    pub(super) fn base(&self) -> &Path {
        self.base
    }

    /// What opens the private keys of the document.
    pub(super) fn unlock(&self, passphrase: Option<Passphrase>) {
        self.secrets.borrow_mut().passphrase = passphrase;
    }

    /// The gateway's own certificates and keys need not be there yet.
    pub(super) fn await_identities(&self) {
        self.secrets.borrow_mut().awaited = true;
    }

    /// Every problem, in the order of the file, those without a line last.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        let known = self.known.into_inner();
        let unknown = self.unknown.into_inner().into_iter();
        let mut problems = self.problems.into_inner();
        problems.extend(unknown.map(|unknown| unknown.explain(&known)));
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        problems
    }

    /// Keys asked for so far, as dotted paths without array indices.
    #[cfg(test)]
    pub(super) fn known_keys(&self) -> BTreeSet<String> {
        let known = self.known.borrow();
        known.iter().map(|(s, k)| dotted(s, k)).collect()
    }

    fn line(&self, span: &Range<usize>) -> usize {
        line_at(self.text, span.start)
    }

    fn shown(&self, span: Range<usize>) -> String {
        let raw = self.text.get(span).unwrap_or_default();
        let mut shown: String = raw.chars().take(SHOWN_CHARS).collect();
        if shown.len() < raw.len() {
            shown.push('…');
        }
        shown.replace('\n', " ")
    }
}

impl Unknown {
    fn explain(mut self, known: &BTreeSet<(String, &'static str)>) -> Problem {
        let (near, far): (Vec<_>, Vec<_>) = known
            .iter()
            .map(|(section, key)| (strsim::damerau_levenshtein(key, &self.name), section, *key))
            .filter(|(distance, _, key)| *distance <= key.len().div_ceil(3).max(2))
            .partition(|(_, section, _)| **section == self.section);
        let exact = far.iter().find(|(distance, _, _)| *distance == 0);
        let nearest = exact.or(near.iter().min()).or(far.iter().min());
        self.problem.remedy = match nearest {
            None => "la retirer, ou chercher son nom dans le fichier de référence".to_owned(),
            Some((_, section, key)) if **section == self.section => {
                format!("vouliez-vous écrire « {key} » ? Sinon, la retirer")
            }
            Some((_, section, key)) => {
                let place = match section.as_str() {
                    "" => "en tête du fichier, avant toute section".to_owned(),
                    section => format!("dans [{section}]"),
                };
                format!("« {key} » se place {place}")
            }
        };
        self.problem
    }
}

/// One table, present in the document or not.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    /// For messages: `pacs[scanner].dimse`.
    path: String,
    /// Without array indices: `pacs.dimse`.
    kind: String,
    line: Option<usize>,
    table: Option<&'a DeTable<'a>>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Section<'a> {
    /// The whole document.
    pub(super) fn root(source: &'a Source<'a>, table: &'a DeTable<'a>) -> Self {
        Self {
            source,
            path: String::new(),
            kind: String::new(),
            line: None,
            table: Some(table),
            asked: RefCell::default(),
        }
    }

    /// What opens the private keys of the document, from now on.
    pub(super) fn unlock(&self, passphrase: Option<Passphrase>) {
        self.source.unlock(passphrase);
    }

    /// Whether the document has this table.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether this table has a key, right or wrong.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.entry(key).is_some()
    }

    /// A table in this one; when absent, every key of it is absent too.
    pub(super) fn section(&self, key: &'static str) -> Self {
        let entry = self.entry(key);
        let table = entry.and_then(|entry| match entry.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.fault(key, Fault::kind("une section", entry.get_ref()));
                None
            }
        });
        Self {
            source: self.source,
            path: dotted(&self.path, key),
            kind: dotted(&self.kind, key),
            line: entry.map(|entry| self.source.line(&entry.span())),
            table,
            asked: RefCell::default(),
        }
    }

    /// An array of tables, each named in messages by its key `name` or else its rank from 1.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Self> {
        let Some(entry) = self.entry(key) else {
            return Vec::new();
        };
        let wrong = |found| self.fault(key, Fault::kind("une liste de sections [[…]]", found));
        let DeValue::Array(items) = entry.get_ref() else {
            wrong(entry.get_ref());
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (rank, item) in items.iter().enumerate() {
            let DeValue::Table(table) = item.get_ref() else {
                wrong(item.get_ref());
                continue;
            };
            let name = match find(table, "name").map(Spanned::get_ref) {
                Some(DeValue::String(name)) => name.chars().take(32).collect(),
                _ => (rank + 1).to_string(),
            };
            sections.push(Self {
                source: self.source,
                path: format!("{}[{name}]", dotted(&self.path, key)),
                kind: dotted(&self.kind, key),
                line: Some(self.source.line(&item.span())),
                table: Some(table),
                asked: RefCell::default(),
            });
        }
        sections
    }

    /// A value that may be absent; `None` too when it is wrong, which is then reported.
    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&Value<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        let entry = self.entry(key)?;
        let secrets = self.source.secrets.borrow().clone();
        let value = Value::new(entry.get_ref(), self.source.base(), secrets);
        parse(&value).map_err(|fault| self.fault(key, fault)).ok()
    }

    /// A value with a default.
    pub(super) fn or<T>(
        &self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Value<'a>) -> Result<T, Fault>,
    ) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// A value that must be there; its absence is reported with `remedy`.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        remedy: &str,
        parse: impl FnOnce(&Value<'a>) -> Result<T, Fault>,
    ) -> Option<T> {
        if self.entry(key).is_none() {
            self.fault(key, Fault::new("clé obligatoire absente", remedy));
            return None;
        }
        self.optional(key, parse)
    }

    /// Reports a fault at a key of this table, or at the table when the key is absent.
    pub(super) fn fault(&self, key: &'static str, fault: Fault) {
        let entry = self.entry(key);
        let line = entry.map(|entry| self.source.line(&entry.span()));
        let shown = entry.and_then(|entry| match entry.get_ref() {
            DeValue::Table(_) => None,
            _ => Some(self.source.shown(entry.span())),
        });
        self.source.problems.borrow_mut().push(Problem {
            line: line.or(self.line),
            key: dotted(&self.path, key),
            value: shown,
            what: fault.what,
            remedy: fault.remedy,
        });
    }

    /// Reports every key of this table that nobody asked for. Call it after the last key.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        for (key, value) in self.table.into_iter().flatten() {
            let name: &str = key.get_ref();
            if asked.contains(name) {
                continue;
            }
            self.source.unknown.borrow_mut().push(Unknown {
                problem: Problem {
                    line: Some(self.source.line(&key.span())),
                    key: dotted(&self.path, name),
                    value: match value.get_ref() {
                        DeValue::Table(_) | DeValue::Array(_) => None,
                        _ => Some(self.source.shown(value.span())),
                    },
                    what: "clé inconnue".to_owned(),
                    remedy: String::new(),
                },
                name: name.to_owned(),
                section: self.kind.clone(),
            });
        }
    }

    fn entry(&self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if self.asked.borrow_mut().insert(key) {
            let mut known = self.source.known.borrow_mut();
            known.insert((self.kind.clone(), key));
        }
        find(self.table?, key)
    }
}

fn find<'a>(table: &'a DeTable<'a>, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
    let mut entries = table.iter();
    entries.find_map(|(name, value)| (name.get_ref() == key).then_some(value))
}

fn dotted(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
