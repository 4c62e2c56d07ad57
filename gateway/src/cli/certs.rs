//! `drimbox certs`: the inventory of certificates.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};
use time::OffsetDateTime;

use super::{ConfigFile, FAILURE, USAGE, refuse};
use crate::certs::install::Allowed;
use crate::certs::inventory::{Entry, examine, examine_all};
use crate::certs::place::{Place, all_places, places};
use crate::certs::request::{KeyKind, Subject};
use crate::certs::{container, follow_up, install, report, request};
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
        about = "Fabriquer une clé et la demande de certificat (CSR) à déposer à l'autorité",
        after_help = "La clé reste sur cette machine, à côté de la clé en service, jusqu'à `certs \
                      import`. Sans option, le sujet reprend celui du certificat en service."
    )]
    Request {
        #[command(flatten)]
        target: Target,
        #[arg(
            long,
            value_name = "NOM",
            help = "CN : FQDN, ou Client ID pour Pro Santé Connect"
        )]
        common_name: Option<String>,
        #[arg(
            long,
            value_name = "ID",
            help = "OU : identifiant de la structure, préfixe compris"
        )]
        unit: Option<String>,
        #[arg(long, value_name = "NOM", help = "O : nom de la structure")]
        organization: Option<String>,
        #[arg(
            long,
            value_name = "DÉPARTEMENT",
            help = "ST : par exemple « Paris (75) »"
        )]
        state: Option<String>,
        #[arg(long, value_enum, default_value_t = KeyType::Rsa, help = "Type de clé")]
        key: KeyType,
        #[arg(long, help = "Refaire la demande en cours, avec la même clé")]
        again: bool,
    },
    #[command(
        about = "Installer un certificat reçu (PEM, DER, PKCS#7 ou PKCS#12)",
        after_help = "Le certificat est comparé à sa clé, à son emplacement et à celui qu'il remplace, \
                      puis essayé, avant de prendre sa place. L'ancien est gardé : `certs rollback`."
    )]
    Import {
        #[command(flatten)]
        target: Target,
        #[arg(value_name = "FICHIER", help = "Fichier reçu de l'autorité")]
        file: PathBuf,
        #[arg(
            long,
            value_name = "FICHIER",
            help = "Fichier dont la première ligne est le mot de passe du PKCS#12"
        )]
        password_file: Option<PathBuf>,
        #[arg(long, help = "Accepter le certificat d'une autre structure")]
        other_structure: bool,
        #[arg(long, help = "Contrôler seulement, ne rien installer")]
        dry_run: bool,
    },
    #[command(about = "Reprendre le certificat remplacé en dernier")]
    Rollback(Target),
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

/// Whose files a command changes.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    #[arg(
        value_name = "EMPLACEMENT",
        help = "Emplacement, comme dans `certs list` : db:scanner, local…"
    )]
    place: String,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum KeyType {
    /// RSA, 2048 bits.
    Rsa,
    /// ECDSA on P-256.
    P256,
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
        Certs::Request { target, .. } | Certs::Import { target, .. } | Certs::Rollback(target) => {
            target.config.path.clone()
        }
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
        Certs::Request {
            target,
            common_name,
            unit,
            organization,
            state,
            key,
            again,
        } => {
            let asked = Subject {
                common_name: common_name.unwrap_or_default(),
                organizational_unit: unit,
                organization,
                state,
            };
            request(&config, &target.place, asked, key, again, out, err)
        }
        Certs::Import {
            target,
            file,
            password_file,
            other_structure,
            dry_run,
        } => {
            let asked = Import {
                file,
                password_file,
                allowed: Allowed { other_structure },
                dry_run,
            };
            import(&config, &target.place, &asked, now, out, err)
        }
        Certs::Rollback(target) => rollback(&config, &target.place, now, out, err),
        Certs::Compare { list, .. } => compare(&config, &list, now, out, err),
    }
}

fn inventory(config: &Config, now: OffsetDateTime) -> Vec<Entry> {
    examine_all(all_places(config), now)
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
        unknown(&all_places(config), place, err)?;
        return Ok(USAGE);
    };
    report::details(entry, now, out)?;
    Ok(0)
}

fn find(config: &Config, id: &str, err: &mut impl Write) -> std::io::Result<Option<Place>> {
    let all = places(config);
    if let Some(place) = all.iter().find(|place| place.id == id) {
        return Ok(Some(place.clone()));
    }
    if all_places(config).iter().any(|place| place.id == id) {
        writeln!(
            err,
            "La passerelle obtient et renouvelle elle-même le certificat de « {id} » (ACME).\n  \
             Remède : drimbox check acme ; pour en installer un autre, ajouter vi_tls."
        )?;
        return Ok(None);
    }
    unknown(&all, id, err)?;
    Ok(None)
}

fn unknown(all: &[Place], id: &str, err: &mut impl Write) -> std::io::Result<()> {
    let known: Vec<&str> = all.iter().map(|place| place.id.as_str()).collect();
    writeln!(
        err,
        "Aucun certificat à l'emplacement « {id} ».\n  Remède : choisir parmi {}.",
        known.join(", ")
    )
}

fn request(
    config: &Config,
    place: &str,
    asked: Subject,
    key: KeyType,
    again: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let Some(place) = find(config, place, err)? else {
        return Ok(USAGE);
    };
    let subject = asked.or(subject_of(&place));
    if subject.common_name.is_empty() {
        writeln!(
            err,
            "Le nom du certificat n'est pas connu.\n  Remède : l'indiquer avec --common-name."
        )?;
        return Ok(USAGE);
    }
    let kind = match key {
        KeyType::Rsa => KeyKind::Rsa2048,
        KeyType::P256 => KeyKind::P256,
    };
    match request::make(&place.identity.key_file, &subject, kind, again) {
        Ok(text) => {
            write!(out, "{text}")?;
            Ok(0)
        }
        Err(error) => {
            writeln!(err, "{error}")?;
            Ok(FAILURE)
        }
    }
}

/// The subject of the certificate in use, and the host that the place is for.
fn subject_of(place: &Place) -> Subject {
    let facts = examine(place.clone(), OffsetDateTime::UNIX_EPOCH).facts;
    let mut subject = facts.map(|facts| Subject {
        common_name: facts.common_name.unwrap_or_default(),
        organizational_unit: facts.organizational_units.into_iter().next(),
        organization: facts.organization,
        state: facts.state,
    });
    let subject = subject.get_or_insert_default();
    if let Some(host) = &place.host {
        subject.common_name.clone_from(host);
    }
    subject.clone()
}

struct Import {
    file: PathBuf,
    password_file: Option<PathBuf>,
    allowed: Allowed,
    dry_run: bool,
}

fn import(
    config: &Config,
    place: &str,
    asked: &Import,
    now: OffsetDateTime,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let Some(place) = find(config, place, err)? else {
        return Ok(USAGE);
    };
    let mut password = None;
    if let Some(file) = &asked.password_file {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let first = text.lines().next().unwrap_or_default().to_owned();
                password = Some(zeroize::Zeroizing::new(first));
            }
            Err(error) => {
                writeln!(err, "{} : {error}", file.display())?;
                return Ok(USAGE);
            }
        }
    }
    let content = match read(&asked.file, container::MAX_BYTES as u64 + 1) {
        Ok(content) => zeroize::Zeroizing::new(content),
        Err(error) => {
            writeln!(err, "{} : {error}", asked.file.display())?;
            return Ok(USAGE);
        }
    };
    let content = match container::read(&content, password.as_ref().map(|p| p.as_str())) {
        Ok(content) => content,
        Err(error) => {
            writeln!(err, "{} : {error}", asked.file.display())?;
            return Ok(FAILURE);
        }
    };
    let checked = install::check(&place, &places(config), content, asked.allowed, now);
    let installed = checked.and_then(|candidate| {
        if !asked.dry_run {
            install::swap(&place, &candidate)?;
        }
        Ok(candidate.facts)
    });
    match installed {
        Ok(facts) => {
            let done = if asked.dry_run {
                "Le certificat convient ; rien n'a été installé"
            } else {
                "Certificat installé, l'ancien est gardé"
            };
            writeln!(
                out,
                "{done} : {}, {}, valable jusqu'au {}.",
                place.id,
                facts.issuer,
                facts.not_after.date()
            )?;
            Ok(0)
        }
        Err(error) => {
            writeln!(err, "{} : {error}", asked.file.display())?;
            Ok(FAILURE)
        }
    }
}

fn rollback(
    config: &Config,
    place: &str,
    now: OffsetDateTime,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let Some(place) = find(config, place, err)? else {
        return Ok(USAGE);
    };
    match install::rollback(&place, now) {
        Ok(facts) => {
            writeln!(
                out,
                "Certificat précédent repris : {}, {}, valable jusqu'au {}.",
                place.id,
                facts.issuer,
                facts.not_after.date()
            )?;
            Ok(0)
        }
        Err(error) => {
            writeln!(err, "{} : {error}", place.id)?;
            Ok(FAILURE)
        }
    }
}

fn read(file: &Path, at_most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    std::fs::File::open(file)?
        .take(at_most)
        .read_to_end(&mut content)?;
    Ok(content)
}

fn compare(
    config: &Config,
    list: &Path,
    now: OffsetDateTime,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let content = match read(list, MAX_LIST_BYTES) {
        Ok(content) => content,
        Err(error) => {
            writeln!(err, "{} : {error}", list.display())?;
            return Ok(USAGE);
        }
    };
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
