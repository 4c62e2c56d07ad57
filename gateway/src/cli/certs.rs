//! `drimbox certs`: the inventory of certificates.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};
use time::OffsetDateTime;

use super::{ConfigFile, FAILURE, USAGE, refuse};
use crate::certs::inventory::{Entry, examine_all};
use crate::certs::place::places;
use crate::certs::{follow_up, report};
use crate::config::{self, Config};

/// Bytes of a list of IGC Santé that are read.
const MAX_LIST_BYTES: u64 = 16 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Certs {
    #[command(about = "Lister tous les certificats de la passerelle")]
    List {
        #[arg(long, value_enum, default_value_t = Format::Table, help = "Forme de la liste")]
        format: Format,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(about = "Montrer un certificat en détail")]
    Show {
        #[arg(
            value_name = "EMPLACEMENT",
            help = "Emplacement, comme dans `certs list` : db:scanner, local…"
        )]
        place: String,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(
        about = "Contrôler tous les certificats, pour un superviseur (codes de sortie Nagios)",
        after_help = "Codes de sortie : 0 tout est en ordre ; 1 un certificat est à renouveler ; 2 \
                      un certificat ne fonctionne pas ou expire dans moins de 15 jours ; 3 le \
                      contrôle n'a pas pu se faire."
    )]
    Check(ConfigFile),
    #[command(
        about = "Comparer avec la liste exportée de la plateforme IGC Santé (« Suivre », CSV)"
    )]
    Compare {
        #[arg(value_name = "FICHIER", help = "Liste exportée, en CSV")]
        list: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// A table for people.
    Table,
    /// One JSON array.
    Json,
    /// CSV with titles.
    Csv,
}

pub(super) fn execute(
    command: Certs,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let now = OffsetDateTime::from(SystemTime::now());
    let unknown = matches!(command, Certs::Check(_));
    let path = match &command {
        Certs::List { config, .. }
        | Certs::Show { config, .. }
        | Certs::Compare { config, .. }
        | Certs::Check(config) => config.path.clone(),
    };
    let config = match config::load(&path) {
        Ok(config) => config,
        Err(error) => {
            refuse(&error, err)?;
            return Ok(if unknown {
                report::nagios::UNKNOWN
            } else {
                USAGE
            });
        }
    };
    match command {
        Certs::List { format, .. } => list(&config, format, now, out),
        Certs::Show { place, .. } => show(&config, &place, now, out, err),
        Certs::Check(_) => report::nagios(&inventory(&config, now), now, out),
        Certs::Compare { list, .. } => compare(&config, &list, now, out, err),
    }
}

fn inventory(config: &Config, now: OffsetDateTime) -> Vec<Entry> {
    examine_all(places(config), now)
}

fn list(
    config: &Config,
    format: Format,
    now: OffsetDateTime,
    out: &mut impl Write,
) -> std::io::Result<u8> {
    let entries = inventory(config, now);
    match format {
        Format::Table => report::table(&entries, now, out)?,
        Format::Json => writeln!(out, "{:#}", report::json(&entries, now))?,
        Format::Csv => report::csv(&entries, now, out)?,
    }
    Ok(0)
}

fn show(
    config: &Config,
    place: &str,
    now: OffsetDateTime,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let entries = inventory(config, now);
    let Some(entry) = entries.iter().find(|entry| entry.place.id == place) else {
        let known: Vec<&str> = entries.iter().map(|e| e.place.id.as_str()).collect();
        writeln!(
            err,
            "Aucun certificat à l'emplacement « {place} ».\n  Remède : choisir parmi {}.",
            known.join(", ")
        )?;
        return Ok(USAGE);
    };
    report::details(entry, now, out)?;
    Ok(0)
}

fn compare(
    config: &Config,
    list: &Path,
    now: OffsetDateTime,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    use std::io::Read as _;
    let mut content = Vec::new();
    let read = std::fs::File::open(list)
        .and_then(|file| file.take(MAX_LIST_BYTES).read_to_end(&mut content));
    if let Err(error) = read {
        writeln!(err, "{} : {error}", list.display())?;
        return Ok(USAGE);
    }
    match follow_up::parse(&content) {
        Ok(list) => {
            let differences = follow_up::compare(&inventory(config, now), &list);
            report::comparison(&differences, &list, out)?;
            let agrees = differences.is_empty() && list.unread.is_empty();
            Ok(if agrees { 0 } else { FAILURE })
        }
        Err(error) => {
            writeln!(err, "{} : {error}", list.display())?;
            Ok(USAGE)
        }
    }
}
