//! ModelStat: one row for each event of use, as CSV.
//!
//! Rows are made from the audit trail when they are asked for, so that there is one place where events
//! are kept. Two columns are known, `Nombre_Appel` in column AI and `Statut_Appel` after it; a mapping
//! file names the 34 before them, and any others.

use std::io::{self, Write};

use serde::Deserialize;

use super::event::{Ending, Event, Kind, Text, show_moment};
use super::record::Record;

/// Columns before `Nombre_Appel`: it stands in AI.
const BEFORE_CALLS: usize = 34;
/// Columns and events of a mapping at most.
const MAX_COLUMNS: usize = 1_000;

/// The columns of a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// Between two values; `;` is what French spreadsheets open.
    #[serde(default = "semicolon")]
    separator: char,
    /// Events that make a row; those of use unless chosen.
    #[serde(default = "events_of_use")]
    events: Vec<Kind>,
    /// Columns in their order.
    #[serde(rename = "column")]
    columns: Vec<Column>,
}

/// One column: a name, and a field or a fixed text; empty with neither.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    #[serde(rename = "nom")]
    name: String,
    #[serde(rename = "valeur")]
    value: Option<Field>,
    #[serde(rename = "texte")]
    text: Option<String>,
}

/// What can stand in a column. No field tells who the person was or which study it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Field {
    Date,
    Heure,
    Site,
    Fonction,
    Evenement,
    Statut,
    CodeHttp,
    Motif,
    Pacs,
    Ressource,
    Correspondant,
    Instances,
    Octets,
    DureeMs,
    Enregistrement,
    NombreAppel,
    StatutAppel,
}

/// Fields of the default mapping, in the first columns.
const DEFAULT: [(&str, Field); 15] = [
    ("Date", Field::Date),
    ("Heure", Field::Heure),
    ("Site", Field::Site),
    ("Fonction", Field::Fonction),
    ("Evenement", Field::Evenement),
    ("Statut", Field::Statut),
    ("Code_HTTP", Field::CodeHttp),
    ("Motif", Field::Motif),
    ("PACS", Field::Pacs),
    ("Ressource", Field::Ressource),
    ("Correspondant", Field::Correspondant),
    ("Instances", Field::Instances),
    ("Octets", Field::Octets),
    ("Duree_ms", Field::DureeMs),
    ("Enregistrement", Field::Enregistrement),
];

fn semicolon() -> char {
    ';'
}

fn events_of_use() -> Vec<Kind> {
    vec![
        Kind::RequestEnded,
        Kind::RequestRefused,
        Kind::FetchEnded,
        Kind::ContextCall,
        Kind::LinkOpened,
        Kind::LinkRefused,
        Kind::Login,
        Kind::PatientGate,
    ]
}

/// Why a mapping file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It is no TOML of the expected form.
    #[error("{0}")]
    Form(#[from] toml::de::Error),
    /// It has no column, or too many.
    #[error("il faut de 1 à {MAX_COLUMNS} colonnes")]
    Columns,
    /// A separator that cannot be told from the values.
    #[error("le séparateur doit être « ; », « , » ou une tabulation")]
    Separator,
}

impl Default for Mapping {
    /// The known columns at their place, general ones from the first, empty ones between.
    fn default() -> Self {
        let column = |name: &str, value| Column {
            name: name.to_owned(),
            value,
            text: None,
        };
        let known = DEFAULT
            .iter()
            .map(|(name, field)| column(name, Some(*field)));
        let empty =
            (DEFAULT.len()..BEFORE_CALLS).map(|at| column(&format!("Colonne_{}", at + 1), None));
        let calls = [
            column("Nombre_Appel", Some(Field::NombreAppel)),
            column("Statut_Appel", Some(Field::StatutAppel)),
        ];
        Self {
            separator: semicolon(),
            events: events_of_use(),
            columns: known.chain(empty).chain(calls).collect(),
        }
    }
}

impl Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn parse(text: &str) -> Result<Self, MappingError> {
        let mapping: Self = toml::from_str(text)?;
        if mapping.columns.is_empty() || mapping.columns.len() > MAX_COLUMNS {
            return Err(MappingError::Columns);
        }
        if !matches!(mapping.separator, ';' | ',' | '\t') {
            return Err(MappingError::Separator);
        }
        Ok(mapping)
    }

    /// Events that make a row.
    #[must_use]
    pub fn events(&self) -> &[Kind] {
        &self.events
    }

    /// Writes the line of names, after a mark that tells spreadsheets the encoding.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn head(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        write!(out, "\u{FEFF}")?;
        self.line(out, self.columns.iter().map(|column| column.name.clone()))
    }

    /// Writes the row of an event.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn row(
        &self,
        out: &mut (impl Write + ?Sized),
        record: &Record,
        event: &Event,
        site: Option<&str>,
    ) -> io::Result<()> {
        let values = self.columns.iter().map(|column| match column.value {
            Some(field) => field.of(record, event, site),
            None => column.text.clone().unwrap_or_default(),
        });
        self.line(out, values)
    }

    fn line(
        &self,
        out: &mut (impl Write + ?Sized),
        values: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        for (at, value) in values.enumerate() {
            if at > 0 {
                write!(out, "{}", self.separator)?;
            }
            write!(out, "{}", quoted(&value, self.separator))?;
        }
        write!(out, "\r\n")
    }
}

impl Field {
    fn of(self, record: &Record, event: &Event, site: Option<&str>) -> String {
        let text = |text: &Option<Text>| text.as_ref().map_or(String::new(), Text::to_string);
        let number = |number: Option<u64>| number.map_or(String::new(), |n| n.to_string());
        let went_well = matches!(event.outcome.ending, Ending::Begun | Ending::Success);
        let status = if went_well { "succes" } else { "erreur" };
        let is_call = event.kind == Kind::ContextCall;
        let at = show_moment(event.at);
        match self {
            Self::Date => at.get(..10).unwrap_or_default().to_owned(),
            Self::Heure => at.get(11..19).unwrap_or_default().to_owned(),
            Self::Site => site.unwrap_or_default().to_owned(),
            Self::Fonction => match event.kind {
                Kind::RequestStarted
                | Kind::RequestEnded
                | Kind::RequestRefused
                | Kind::ConnectionRefused => "source",
                Kind::FetchStarted | Kind::FetchEnded | Kind::ContextCall => "consommateur",
                Kind::LinkOpened
                | Kind::LinkRefused
                | Kind::ImagesSeen
                | Kind::ImagesRefused
                | Kind::PatientGate => "visionneuse",
                _ => "",
            }
            .to_owned(),
            Self::Evenement => event.kind.word().to_owned(),
            Self::Statut => status.to_owned(),
            Self::CodeHttp => number(event.outcome.status.map(u64::from)),
            Self::Motif => text(&event.outcome.reason),
            Self::Pacs => text(&event.object.pacs),
            Self::Ressource => text(&event.object.resource),
            Self::Correspondant => {
                let peer = event.actor.peer.as_ref();
                peer.map_or(String::new(), |peer| text(&peer.host))
            }
            Self::Instances => number(event.outcome.instances),
            Self::Octets => number(event.outcome.bytes),
            Self::DureeMs => {
                let duration = event.outcome.duration;
                duration.map_or(String::new(), |duration| duration.as_millis().to_string())
            }
            Self::Enregistrement => record.sequence.to_string(),
            Self::NombreAppel if is_call => "1".to_owned(),
            Self::StatutAppel if is_call => status.to_owned(),
            Self::NombreAppel | Self::StatutAppel => String::new(),
        }
    }
}

/// A value as RFC 4180 writes it. What a spreadsheet would take for a formula becomes text.
fn quoted(value: &str, separator: char) -> String {
    let is_formula = value.starts_with(['=', '+', '-', '@']);
    let needs_quotes = is_formula || value.contains(['"', '\r', '\n']) || value.contains(separator);
    match needs_quotes {
        true => {
            let mark = if is_formula { "'" } else { "" };
            format!("\"{mark}{}\"", value.replace('"', "\"\""))
        }
        false => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
