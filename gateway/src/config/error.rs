//! What is wrong with a configuration, said to an administrator.

use std::fmt;
use std::path::PathBuf;

/// Why no configuration could be had from a file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file itself could not be read.
    #[error(
        "{} : lecture impossible ({source}).\n  Remède : vérifier le chemin donné par --config ou DRIMBOX_CONFIG, et que le compte du service peut lire ce fichier.",
        file.display()
    )]
    Unreadable {
        /// The file as it was named.
        file: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The file was read and something in it is wrong.
    #[error("{}", list(file, problems))]
    Invalid {
        /// The file as it was named.
        file: PathBuf,
        /// Every problem found, in the order of the file; at least one.
        problems: Vec<Problem>,
    },
}

/// One thing to correct in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line of the file, from 1; `None` when something is absent from the whole file.
    pub line: Option<usize>,
    /// Path of the key, for example `pacs[scanner].dimse.port`.
    pub key: String,
    /// The value as written, cut when long; `None` when the key is absent.
    pub value: Option<String>,
    /// What is wrong, a French sentence without its full stop.
    pub what: String,
    /// What to do, a French sentence without its full stop.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "ligne {line}, ")?;
        }
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " : {}.\n  Remède : {}.", self.what, self.remedy)
    }
}

fn list(file: &std::path::Path, problems: &[Problem]) -> String {
    let mut text = match problems.len() {
        1 => format!("{} : 1 erreur.", file.display()),
        n => format!("{} : {n} erreurs.", file.display()),
    };
    for problem in problems {
        text.push('\n');
        text.push_str(&problem.to_string());
    }
    text
}

/// A document that is not TOML.
pub(super) fn syntax(text: &str, fault: &toml::de::Error) -> Problem {
    Problem {
        line: fault.span().map(|span| line_at(text, span.start)),
        key: "syntaxe TOML".to_owned(),
        value: None,
        what: format!("cette ligne ne se lit pas ({})", fault.message()),
        remedy: "comparer avec le fichier de référence : textes entre guillemets droits, \
                 listes entre crochets, une clé par ligne, chaque clé une seule fois"
            .to_owned(),
    }
}

/// The line, from 1, of a byte offset.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|&&b| b == b'\n').count()
}
