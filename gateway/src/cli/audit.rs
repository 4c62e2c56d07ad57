//! `drimbox audit` and `drimbox stats`: reading the trail, beside a running service or on a copy.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use super::{ConfigFile, FAILURE, USAGE, refuse};
use crate::audit::atna::{self, Source};
use crate::audit::stats::Mapping;
use crate::audit::{
    self, Anchor, Chain, Ending, Event, Fault, Filter, Kind, NotARecord, Record, Report, Text,
    syslog,
};
use crate::config;

/// Bytes read of a file of columns or of an anchor.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Trail {
    #[command(
        about = "Contrôler que le journal est entier et n'a pas été modifié",
        after_help = "Codes de sortie : 0 le journal est intact ; 1 il a été modifié, coupé ou il y \
                      manque quelque chose ; 2 il ne peut pas être lu."
    )]
    Verify {
        #[command(flatten)]
        place: Place,
        #[arg(
            long,
            value_name = "FICHIER",
            help = "Ancre mise de côté plus tôt par `drimbox audit anchor`"
        )]
        anchor: Option<PathBuf>,
    },
    #[command(about = "Écrire l'ancre du journal, à conserver hors de cette machine")]
    Anchor {
        #[command(flatten)]
        place: Place,
    },
    #[command(about = "Afficher les accès")]
    Show {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        wanted: Wanted,
    },
    #[command(about = "Exporter les accès : lignes JSON, XML DICOM PS3.15 A.5 ou syslog RFC 5424")]
    Export {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        wanted: Wanted,
        #[arg(long, value_enum, default_value_t = Format::Json, help = "Forme de l'export")]
        format: Format,
        #[arg(
            long,
            value_name = "FICHIER",
            help = "Fichier à écrire ; sans cette option, la sortie"
        )]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Stats {
    #[command(about = "Exporter les statistiques d'une période en CSV")]
    Export {
        #[command(flatten)]
        place: Place,
        #[arg(long, value_name = "DATE", value_parser = start, help = "Premier jour (AAAA-MM-JJ, UTC)")]
        from: OffsetDateTime,
        #[arg(long, value_name = "DATE", value_parser = end, help = "Dernier jour, inclus")]
        to: OffsetDateTime,
        #[arg(
            long,
            value_name = "FICHIER",
            help = "Colonnes ; sans cette option, celles de la clé modelstat_file"
        )]
        columns: Option<PathBuf>,
        #[arg(
            long,
            value_name = "FICHIER",
            help = "Fichier à écrire ; sans cette option, la sortie"
        )]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Place {
    #[command(flatten)]
    config: ConfigFile,
    #[arg(
        long,
        value_name = "DOSSIER",
        help = "Dossier du journal, ou d'une copie ; la configuration n'est alors pas lue"
    )]
    dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    #[arg(long, value_name = "DATE", value_parser = start, help = "À partir de ce jour ou de ce moment (AAAA-MM-JJ, ou RFC 3339)")]
    from: Option<OffsetDateTime>,
    #[arg(long, value_name = "DATE", value_parser = end, help = "Jusqu'à ce jour inclus, ou avant ce moment")]
    to: Option<OffsetDateTime>,
    #[arg(long, value_name = "UID", help = "Examen (Study Instance UID)")]
    study: Option<String>,
    #[arg(
        long,
        value_name = "IDENTIFIANT",
        help = "Professionnel (identifiant national), DRIMbox (nom db ou sujet du certificat) ou compte"
    )]
    who: Option<String>,
    #[arg(long = "event", value_name = "EVENEMENT", value_parser = kind, help = "Événement, par exemple request-refused ; répétable")]
    kinds: Vec<Kind>,
    #[arg(long = "outcome", value_name = "ISSUE", value_parser = ending, help = "begun, success, refused, failed ou aborted ; répétable")]
    endings: Vec<Ending>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// One record a line, as it stands in the trail.
    Json,
    /// Audit messages of DICOM PS3.15 A.5.
    Xml,
    /// Messages of RFC 5424, one a line.
    Syslog,
}

pub(super) fn execute(
    command: Trail,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    match command {
        Trail::Verify { place, anchor } => {
            let Some(found) = find(&place, err)? else {
                return Ok(USAGE);
            };
            let kept = match anchor.map(|file| read_anchor(&file)).transpose() {
                Ok(kept) => kept,
                Err(error) => return writeln!(err, "{error}").map(|()| USAGE),
            };
            match audit::verify(&found.dir, kept) {
                Ok(report) => verified(&found.dir, &report, out),
                Err(error) => unreadable(&found.dir, &error, err),
            }
        }
        Trail::Anchor { place } => {
            let Some(found) = find(&place, err)? else {
                return Ok(USAGE);
            };
            match audit::verify(&found.dir, None) {
                Ok(report) if report.faults.is_empty() => {
                    let anchor = report.last.unwrap_or(Anchor::EMPTY);
                    writeln!(out, "{}", serde_json::to_string(&anchor)?).map(|()| 0)
                }
                Ok(report) => verified(&found.dir, &report, err),
                Err(error) => unreadable(&found.dir, &error, err),
            }
        }
        Trail::Show { place, wanted } => {
            let Some(found) = find(&place, err)? else {
                return Ok(USAGE);
            };
            select(&found.dir, &wanted.filter(), err, |record, event| {
                writeln!(out, "{}", shown(record, event))
            })
        }
        Trail::Export {
            place,
            wanted,
            format,
            out: file,
        } => {
            let Some(found) = find(&place, err)? else {
                return Ok(USAGE);
            };
            write_to(file.as_deref(), out, err, |out, err| {
                export(&found, &wanted.filter(), format, out, err)
            })
        }
    }
}

pub(super) fn stats(
    command: Stats,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let Stats::Export {
        place,
        from,
        to,
        columns,
        out: file,
    } = command;
    let Some(found) = find(&place, err)? else {
        return Ok(USAGE);
    };
    let mapping = match columns.or_else(|| found.columns.clone()) {
        None => Mapping::default(),
        Some(file) => {
            let text = read_text(&file).map_err(|error| error.to_string());
            match text.and_then(|text| Mapping::parse(&text).map_err(|e| e.to_string())) {
                Ok(mapping) => mapping,
                Err(error) => {
                    return writeln!(err, "{} : {error}", file.display()).map(|()| USAGE);
                }
            }
        }
    };
    let filter = Filter {
        from: Some(from),
        to: Some(to),
        kinds: mapping.events().to_vec(),
        ..Filter::default()
    };
    let site = found.source.site.as_ref().map(Text::as_str);
    write_to(file.as_deref(), out, err, |out, err| {
        mapping.head(out)?;
        select(&found.dir, &filter, err, |record, event| {
            mapping.row(out, record, event, site)
        })
    })
}

/// The trail that the arguments mean, and who reports.
struct Found {
    dir: PathBuf,
    source: Source,
    columns: Option<PathBuf>,
}

fn find(place: &Place, err: &mut impl Write) -> std::io::Result<Option<Found>> {
    if let Some(dir) = &place.dir {
        return Ok(Some(Found {
            dir: dir.clone(),
            source: Source::new(None, "drimbox"),
            columns: None,
        }));
    }
    match config::load(&place.config.path) {
        Ok(config) => Ok(Some(Found {
            source: Source::new(config.audit.site.as_deref(), &config.audit.source),
            columns: config.audit.modelstat_file,
            dir: config.audit.dir,
        })),
        Err(error) => refuse(&error, err).map(|_| None),
    }
}

impl Wanted {
    fn filter(self) -> Filter {
        Filter {
            from: self.from,
            to: self.to,
            study: self.study,
            who: self.who,
            kinds: self.kinds,
            endings: self.endings,
        }
    }
}

fn export(
    found: &Found,
    filter: &Filter,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> std::io::Result<u8> {
    let source = &found.source;
    if matches!(format, Format::Xml) {
        writeln!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<AuditMessages>"
        )?;
    }
    let code = select(&found.dir, filter, err, |record, event| match format {
        Format::Json => writeln!(out, "{}", record.line()),
        Format::Xml => writeln!(out, "{}", atna::message(record, event, source)),
        Format::Syslog => writeln!(out, "{}", syslog::message(record, event, source)),
    })?;
    if matches!(format, Format::Xml) {
        writeln!(out, "</AuditMessages>")?;
    }
    Ok(code)
}

/// Runs through the trail, gives what is wanted to `take`, and says at the end whether what was read
/// can be trusted.
fn select(
    dir: &Path,
    filter: &Filter,
    mut err: &mut (impl Write + ?Sized),
    mut take: impl FnMut(&Record, &Event) -> std::io::Result<()>,
) -> std::io::Result<u8> {
    let mut chain = match Chain::open(dir, filter.since()) {
        Ok(chain) => chain,
        Err(error) => return unreadable(dir, &error, &mut err),
    };
    for record in chain.by_ref() {
        let record = match record {
            Ok(record) => record,
            Err(error) => return unreadable(dir, &error, &mut err),
        };
        if let Some(event) = record.event()
            && filter.admits(&event)
        {
            take(&record, &event)?;
        }
    }
    let report = chain.finish();
    if report.faults.is_empty() {
        return Ok(0);
    }
    verified(dir, &report, &mut err)
}

fn verified(dir: &Path, report: &Report, out: &mut impl Write) -> std::io::Result<u8> {
    let dir = dir.display();
    if report.faults.is_empty() {
        let range = match (report.first, report.last) {
            (Some(first), Some(last)) => format!(" ({} à {})", first.sequence, last.sequence),
            _ => String::new(),
        };
        writeln!(
            out,
            "Journal {dir} : intact, {} enregistrements{range} en {} fichiers.",
            report.records, report.segments
        )?;
        if report.unfinished > 0 {
            writeln!(
                out,
                "  Les {} derniers octets sont un enregistrement en cours d'écriture, ou coupé par un \
                 arrêt brutal avant d'avoir été confirmé.",
                report.unfinished
            )?;
        }
        return Ok(0);
    }
    writeln!(out, "Journal {dir} : MODIFIÉ ou incomplet.")?;
    for fault in &report.faults {
        writeln!(out, "  - {}", french(fault))?;
    }
    writeln!(
        out,
        "  Remède : conserver ce dossier comme preuve, prévenir le responsable de la sécurité, et \
         comparer avec le serveur syslog ou une sauvegarde."
    )?;
    Ok(FAILURE)
}

fn french(fault: &Fault) -> String {
    match fault {
        Fault::Line {
            segment,
            line,
            what: NotARecord::Changed,
        } => format!("{segment}, ligne {line} : le contenu a été modifié"),
        Fault::Line {
            segment,
            line,
            what: NotARecord::Form,
        } => format!("{segment}, ligne {line} : ce n'est pas un enregistrement"),
        Fault::Order {
            segment,
            line,
            expected,
            found,
        } => format!(
            "{segment}, ligne {line} : l'enregistrement {found} est à la place du {expected} \
             (suppression, ajout ou déplacement)"
        ),
        Fault::Link {
            segment,
            line,
            sequence,
        } => format!(
            "{segment}, ligne {line} : l'enregistrement {sequence} ne suit pas celui qui le précède \
             (remplacement)"
        ),
        Fault::Head { first } => format!(
            "les enregistrements avant le {first} manquent, et aucun ne dit qu'ils sont arrivés au \
             terme de leur conservation"
        ),
        Fault::Tail { last, acknowledged } => format!(
            "le journal s'arrête à l'enregistrement {last}, alors que le {acknowledged} avait été \
             confirmé"
        ),
        Fault::Anchor { sequence } => {
            format!("l'enregistrement {sequence} n'est pas celui que désigne l'ancre")
        }
        Fault::NoAnchor => "le fichier de l'ancre (anchor) manque ou est illisible".to_owned(),
    }
}

/// One line for a person.
fn shown(record: &Record, event: &Event) -> String {
    let at = event.at.format(format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second]"
    ));
    let mut line = format!(
        "{:>8}  {}  {}  {}",
        record.sequence,
        at.unwrap_or_default(),
        event.kind.word(),
        french_ending(event.outcome.ending),
    );
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str("  ");
            line.push_str(name);
            line.push_str(&value);
        }
    };
    let text = |text: &Option<Text>| text.as_ref().map(ToString::to_string);
    let peer = event.actor.peer.as_ref();
    let person = event.actor.person.as_ref();
    add("", event.outcome.status.map(|status| status.to_string()));
    add("motif ", text(&event.outcome.reason));
    add("fois ", event.outcome.times.map(|times| times.to_string()));
    add(
        "professionnel ",
        person.and_then(|person| text(&person.national_id)),
    );
    add(
        "DRIMbox ",
        peer.and_then(|peer| text(&peer.host).or_else(|| text(&peer.subject))),
    );
    add("compte ", text(&event.actor.account));
    add(
        "depuis ",
        event.actor.address.map(|address| address.to_string()),
    );
    add("objet ", text(&event.object.subject));
    add("certificat ", text(&event.object.certificate));
    add("à la place de ", text(&event.object.certificate_before));
    add("PACS ", text(&event.object.pacs));
    add("examen ", text(&event.object.study));
    add("série ", text(&event.object.series));
    add(
        "images ",
        event
            .outcome
            .instances
            .map(|instances| instances.to_string()),
    );
    add(
        "octets ",
        event.outcome.bytes.map(|bytes| bytes.to_string()),
    );
    add(
        "ms ",
        event
            .outcome
            .duration
            .map(|time| time.as_millis().to_string()),
    );
    line
}

fn french_ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Begun => "commencé",
        Ending::Success => "réussi",
        Ending::Refused => "refusé",
        Ending::Failed => "échoué",
        Ending::Aborted => "interrompu",
    }
}

/// Writes to a file made for the account alone, or to the output.
fn write_to(
    file: Option<&Path>,
    out: &mut impl Write,
    err: &mut impl Write,
    write: impl FnOnce(&mut dyn Write, &mut dyn Write) -> std::io::Result<u8>,
) -> std::io::Result<u8> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let Some(path) = file else {
        return write(out, err);
    };
    let mut options = File::options();
    let opened = options.write(true).create_new(true).mode(0o600).open(path);
    match opened {
        Ok(file) => {
            let mut file = BufWriter::new(file);
            let code = write(&mut file, err)?;
            file.flush()?;
            Ok(code)
        }
        Err(error) => {
            let path = path.display();
            writeln!(
                err,
                "{path} : {error}\n  Remède : choisir un fichier qui n'existe pas encore."
            )?;
            Ok(USAGE)
        }
    }
}

fn unreadable(dir: &Path, error: &std::io::Error, err: &mut impl Write) -> std::io::Result<u8> {
    writeln!(
        err,
        "{} : lecture impossible ({error})\n  Remède : lancer cette commande sous le compte du \
         service (sudo -u drimbox …), ou indiquer le dossier par --dir.",
        dir.display()
    )
    .map(|()| USAGE)
}

fn read_anchor(file: &Path) -> Result<Anchor, String> {
    let text = read_text(file).map_err(|error| format!("{} : {error}", file.display()))?;
    serde_json::from_str(text.trim()).map_err(|_| {
        format!(
            "{} : ce n'est pas une ancre écrite par `drimbox audit anchor`",
            file.display()
        )
    })
}

fn read_text(file: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    File::open(file)?
        .take(MAX_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text)
}

fn start(text: &str) -> Result<OffsetDateTime, String> {
    moment(text, Some)
}

/// A day is meant to its end.
fn end(text: &str) -> Result<OffsetDateTime, String> {
    moment(text, Date::next_day)
}

fn moment(text: &str, day: impl FnOnce(Date) -> Option<Date>) -> Result<OffsetDateTime, String> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    date.and_then(day)
        .map(|date| date.midnight().assume_utc())
        .or_else(|| OffsetDateTime::parse(text, &Rfc3339).ok())
        .ok_or_else(|| {
            "écrire une date comme 2026-11-21, ou un moment comme 2026-11-21T08:00:00+01:00".into()
        })
}

fn kind(text: &str) -> Result<Kind, String> {
    Kind::of_word(text).ok_or_else(|| {
        let words: Vec<_> = Kind::ALL.iter().map(|kind| kind.word()).collect();
        format!("choisir parmi {}", words.join(", "))
    })
}

fn ending(text: &str) -> Result<Ending, String> {
    let found = Ending::ALL.into_iter().find(|ending| ending.word() == text);
    found.ok_or_else(|| "choisir parmi begun, success, refused, failed, aborted".into())
}

#[cfg(test)]
mod tests;
