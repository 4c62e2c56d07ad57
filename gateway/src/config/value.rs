//! One value of the document, read as a type of the configuration.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::units;
use crate::keys::Passphrase;

/// Why a value is refused, and what to write instead: two French sentences without full stops.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) remedy: String,
}

impl Fault {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            remedy: remedy.into(),
        }
    }

    /// A value of the wrong TOML type.
    pub(super) fn kind(expected: &str, found: &DeValue<'_>) -> Self {
        let found = match found {
            DeValue::String(_) => "un texte",
            DeValue::Integer(_) => "un nombre entier",
            DeValue::Float(_) => "un nombre décimal",
            DeValue::Boolean(_) => "true ou false",
            DeValue::Datetime(_) => "une date",
            DeValue::Array(_) => "une liste",
            DeValue::Table(_) => "une section",
        };
        Self::new(
            format!("{expected} est attendu, {found} est donné"),
            format!("écrire {expected}"),
        )
    }
}

/// A value, and the folder its relative path would start from.
pub(super) struct Value<'a> {
    value: &'a DeValue<'a>,
    base: &'a Path,
    secrets: Secrets,
}

/// What reading a file with a private key depends on besides the value.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets {
    /// Opens it.
    pub(super) passphrase: Option<Passphrase>,
    /// It need not be there yet.
    pub(super) awaited: bool,
}

impl<'a> Value<'a> {
    pub(super) fn new(value: &'a DeValue<'a>, base: &'a Path, secrets: Secrets) -> Self {
        Self {
            value,
            base,
            secrets,
        }
    }

    /// What reading a private key depends on.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// A text, not empty.
    pub(super) fn text(&self) -> Result<&'a str, Fault> {
        match self.value {
            DeValue::String(text) if text.trim().is_empty() => Err(Fault::new(
                "le texte est vide",
                "le renseigner, ou retirer la ligne",
            )),
            DeValue::String(text) => Ok(text),
            other => Err(Fault::kind("un texte entre guillemets", other)),
        }
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        match self.value {
            DeValue::Boolean(value) => Ok(*value),
            other => Err(Fault::kind("true ou false, sans guillemets,", other)),
        }
    }

    /// A whole number within limits.
    pub(super) fn integer<T>(&self, range: RangeInclusive<T>) -> Result<T, Fault>
    where
        T: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        let DeValue::Integer(digits) = self.value else {
            return Err(Fault::kind("un nombre entier sans guillemets", self.value));
        };
        u64::from_str_radix(digits.as_str(), digits.radix())
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| outside(range.start(), range.end(), ""))
    }

    /// A number of seconds within limits, whole or decimal.
    pub(super) fn seconds(&self, range: RangeInclusive<f64>) -> Result<Duration, Fault> {
        let seconds = match self.value {
            DeValue::Integer(digits) => u32::from_str_radix(digits.as_str(), digits.radix())
                .ok()
                .map(f64::from),
            DeValue::Float(digits) => digits.as_str().parse::<f64>().ok(),
            other => return Err(Fault::kind("un nombre de secondes sans guillemets", other)),
        };
        seconds
            .filter(|seconds| range.contains(seconds))
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .ok_or_else(|| outside(range.start(), range.end(), " secondes"))
    }

    /// A number of bytes within limits: a whole number, or a text such as `"20 GiB"`.
    pub(super) fn bytes<T>(&self, range: RangeInclusive<T>) -> Result<T, Fault>
    where
        T: TryFrom<u64> + PartialOrd + Copy + Into<u64>,
    {
        let bytes = match self.value {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => Some(units::parse_bytes(text).ok_or_else(|| {
                Fault::new(
                    "cette taille ne se lit pas",
                    "écrire un nombre d'octets, ou un texte comme \"512 MiB\" ou \"20 GiB\" \
                     (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB)",
                )
            })?),
            other => {
                return Err(Fault::kind("une taille comme \"20 GiB\"", other));
            }
        };
        bytes
            .and_then(|bytes| T::try_from(bytes).ok())
            .filter(|bytes| range.contains(bytes))
            .ok_or_else(|| {
                let shown = |limit: &T| units::show_bytes((*limit).into());
                outside(&shown(range.start()), &shown(range.end()), "")
            })
    }

    /// An address and port to listen on.
    pub(super) fn address(&self) -> Result<SocketAddr, Fault> {
        self.text()?.parse().map_err(|_| {
            Fault::new(
                "ce n'est pas une adresse IP suivie d'un port",
                "écrire par exemple \"127.0.0.1:8080\", \"0.0.0.0:443\" ou \"[::]:443\" \
                 (une adresse, pas un nom de machine)",
            )
        })
    }

    /// A path, made absolute.
    pub(super) fn path(&self) -> Result<PathBuf, Fault> {
        let path = self.base.join(self.text()?);
        std::path::absolute(path).map_err(|error| {
            Fault::new(
                format!("ce chemin ne se lit pas ({error})"),
                "écrire un chemin absolu",
            )
        })
    }

    /// One word among several.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Fault> {
        choose(self.text()?, choices)
    }

    /// A list of words among several, each at most once, at least one.
    pub(super) fn choices<T: Copy + Ord, C: FromIterator<T>>(
        &self,
        choices: &[(&str, T)],
    ) -> Result<C, Fault> {
        let DeValue::Array(items) = self.value else {
            return Err(Fault::kind(
                "une liste de textes entre crochets",
                self.value,
            ));
        };
        if items.is_empty() {
            return Err(Fault::new("la liste est vide", one_of(choices)));
        }
        self.list(|item| item.choice(choices))
    }

    /// A list, perhaps empty, each value read in the same way.
    pub(super) fn list<T, C: FromIterator<T>>(
        &self,
        read: impl Fn(&Value<'_>) -> Result<T, Fault>,
    ) -> Result<C, Fault> {
        let DeValue::Array(items) = self.value else {
            return Err(Fault::kind(
                "une liste de textes entre crochets",
                self.value,
            ));
        };
        let values = items
            .iter()
            .map(|item| read(&Value::new(item.get_ref(), self.base, self.secrets.clone())));
        values.collect()
    }
}

fn choose<T: Copy>(word: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    let found = choices.iter().find(|(name, _)| *name == word);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| Fault::new("ce mot n'est pas admis", one_of(choices)))
}

fn one_of<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<_> = choices.iter().map(|(n, _)| format!("\"{n}\"")).collect();
    format!("choisir parmi {}", names.join(", "))
}

fn outside(low: &impl std::fmt::Display, high: &impl std::fmt::Display, unit: &str) -> Fault {
    Fault::new(
        "cette valeur est hors limites",
        format!("écrire une valeur entre {low} et {high}{unit}"),
    )
}
