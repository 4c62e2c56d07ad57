//! `drimbox certs`: the inventory of certificates.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::whose::{OfWhom, Whose};
use super::{FAILURE, USAGE, refuse, unlock, unlocked};
use crate::certs::install::{self, Allowed, Context};
use crate::certs::inventory::{Inventory, Judges, examine};
use crate::certs::issuer::{ByHand, CertificateRequest, IssuerBackend as _, Received, Submitted};
use crate::certs::place::{Place, places, places_of_proxy};
use crate::certs::request::{KeyKind, RequestError, Subject};
use crate::certs::{container, follow_up, report};
use crate::config::{self, Config, ConfigError};
use crate::trust::{Clock, Trust};

/// Bytes of a list of IGC Santé that are read.
const MAX_LIST_BYTES: u64 = 16 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Certs {
    #[command(
        about = "Lister tous les certificats : ceux de la passerelle, et ceux que d'autres lui présentent"
    )]
    List(List),
    #[command(
        about = "Montrer un certificat en détail",
        after_help = "À la place de l'emplacement : le nom de celui qui présente un certificat à la passerelle, comme \
                      dans la liste."
    )]
    Show(Target),
    #[command(
        about = "Contrôler tous les certificats, pour un superviseur (codes de sortie Nagios)",
        after_help = "Codes de sortie : 0 tout est en ordre ; 1 un certificat est à renouveler ; 2 \
                      un certificat ne fonctionne pas, est révoqué ou expire dans moins de 15 jours ; 3 le \
                      contrôle n'a pas pu se faire."
    )]
    Check(Whose),
    #[command(
        about = "Fabriquer une clé et la demande de certificat (CSR) à déposer à l'autorité",
        after_help = "La clé reste sur cette machine, à côté de la clé en service, jusqu'à `certs \
                      import`. Sans option, le sujet reprend celui du certificat en service. La demande \
                      est écrite sur la sortie standard, la marche à suivre sur la sortie d'erreur."
    )]
    Request(Request),
    #[command(
        about = "Installer un certificat reçu (PEM, DER, PKCS#7 ou PKCS#12)",
        allow_missing_positional = true,
        after_help = "Sans EMPLACEMENT, il est trouvé d'après la clé de la demande en cours, sinon la clé en service, \
                      sinon, quand le fichier apporte sa clé, le nom et l'identifiant de structure du certificat. \
                      Le certificat est comparé à sa clé, à son emplacement et à celui qu'il remplace, \
                      puis essayé, avant de prendre sa place. L'ancien est gardé : `certs rollback`."
    )]
    Import(Import),
    #[command(about = "Reprendre le certificat remplacé en dernier")]
    Rollback(Target),
    #[command(
        about = "Comparer avec la liste exportée de la plateforme IGC Santé (« Suivre », CSV)"
    )]
    Compare(Compare),
}

#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[arg(long, value_enum, default_value_t = Format::Table, help = "Forme de la liste")]
    format: Format,
    #[command(flatten)]
    config: Whose,
}

#[derive(Debug, clap::Args)]
pub(super) struct Request {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    subject: SubjectArguments,
    #[arg(long, value_enum, default_value_t = KeyType::Rsa, help = "Type de clé")]
    key: KeyType,
    #[arg(long, help = "Refaire la demande en cours, avec la même clé")]
    again: bool,
}

/// What the subject of a request says other than the certificate in use.
#[derive(Debug, clap::Args)]
struct SubjectArguments {
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
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    #[arg(
        value_name = "EMPLACEMENT",
        help = "Emplacement, comme dans `certs list` ; trouvé d'après le fichier s'il n'est pas donné"
    )]
    place: Option<String>,
    #[arg(value_name = "FICHIER", help = "Fichier reçu de l'autorité")]
    file: PathBuf,
    #[command(flatten)]
    config: Whose,
    #[arg(
        long,
        value_name = "FICHIER",
        help = "Fichier dont la première ligne est le mot de passe du PKCS#12 ou de la clé"
    )]
    password_file: Option<PathBuf>,
    #[arg(
        long,
        help = "Accepter le certificat d'une autre structure, ou d'une structure d'une autre sorte"
    )]
    other_structure: bool,
    #[arg(long, help = "Contrôler seulement, ne rien installer")]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    #[arg(value_name = "FICHIER", help = "Liste exportée, en CSV")]
    list: PathBuf,
    #[command(flatten)]
    config: Whose,
}

/// Whose certificate a command is about.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    #[arg(
        value_name = "EMPLACEMENT",
        help = "Emplacement, comme dans `certs list` : db:scanner, local…"
    )]
    place: String,
    #[command(flatten)]
    config: Whose,
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

impl Certs {
    fn config(&self) -> &Whose {
        match self {
            Self::List(List { config, .. })
            | Self::Compare(Compare { config, .. })
            | Self::Check(config)
            | Self::Show(Target { config, .. })
            | Self::Rollback(Target { config, .. })
            | Self::Request(Request {
                target: Target { config, .. },
                ..
            })
            | Self::Import(Import { config, .. }) => config,
        }
    }
}

/// What the commands look at.
struct Own {
    inventory: Inventory,
    /// Those that people replace.
    replaced_here: Vec<Place>,
    authorities: Authorities,
    now: OffsetDateTime,
}

pub(super) fn execute(
    command: Certs,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let now = OffsetDateTime::from(SystemTime::now());
    // Certificates that are asked for now are not there yet.
    let own = match Own::read(command.config(), now) {
        Ok(own) => own,
        Err(error) => {
            refuse(&error, err)?;
            return Ok(if matches!(command, Certs::Check(_)) {
                report::nagios::UNKNOWN
            } else {
                USAGE
            });
        }
    };
    match command {
        Certs::List(asked) => own.list(asked.format, out),
        Certs::Show(target) => own.show(&target.place, out, err),
        Certs::Check(_) => {
            let inventory = &own.inventory;
            report::nagios(&inventory.examine(now), &inventory.presented(now), now, out)
        }
        Certs::Request(asked) => own.request(asked, out, err),
        Certs::Import(asked) => own.import(&asked, out, err),
        Certs::Rollback(target) => own.rollback(&target.place, out, err),
        Certs::Compare(asked) => own.compare(&asked.list, out, err),
    }
}

/// The authorities of `[trust]`, and the revocation lists that the service keeps. Where it has not made their folder yet a
/// command does not, as it would belong to another account: an empty one of its own stands for it, and nothing is known of
/// revocation.
#[derive(Default)]
struct Authorities {
    /// With the empty folder, where it is one.
    opened: Option<(Trust, Option<TempDir>)>,
    /// Why those of the configuration cannot be used.
    unusable: Option<String>,
}

impl Authorities {
    fn of(config: &Config) -> Self {
        let mut authorities = Self::default();
        let Some(mut settings) = config.trust.clone() else {
            return authorities;
        };
        let is_there = ["crl", "whitelist"]
            .iter()
            .all(|name| settings.folder.join(name).is_dir());
        let opened = if is_there {
            Ok(None)
        } else {
            TempDir::new().map(Some).map_err(|error| error.to_string())
        };
        let opened = opened.and_then(|empty| {
            if let Some(empty) = &empty {
                settings.folder = empty.path().to_owned();
            }
            let trust = Trust::open(settings, Clock::system());
            Ok((trust.map_err(|error| error.to_string())?, empty))
        });
        match opened {
            Ok(opened) => authorities.opened = Some(opened),
            Err(why) => authorities.unusable = Some(why),
        }
        authorities
    }

    fn trust(&self) -> Option<&Trust> {
        self.opened.as_ref().map(|(trust, _)| trust)
    }
}

impl Own {
    fn read(whose: &Whose, now: OffsetDateTime) -> Result<Self, ConfigError> {
        Ok(match whose.of_whom() {
            OfWhom::Gateway(file) => {
                let config = unlocked(config::load_awaiting_certificates(file)?);
                let authorities = Authorities::of(&config);
                Self {
                    inventory: Inventory::of(&config, authorities.trust().cloned()),
                    replaced_here: places(&config),
                    authorities,
                    now,
                }
            }
            OfWhom::Proxy(file) => {
                let config = config::load_proxy_awaiting_certificates(file)?;
                unlock(&config.keys);
                Self {
                    inventory: Inventory::of_proxy(&config),
                    replaced_here: places_of_proxy(&config),
                    authorities: Authorities::default(),
                    now,
                }
            }
        })
    }

    /// The place of this name, if people replace its certificate here.
    fn find(&self, id: &str, err: &mut impl Write) -> std::io::Result<Option<Place>> {
        if let Some(place) = self.replaced_here.iter().find(|place| place.id == id) {
            return Ok(Some(place.clone()));
        }
        let all = self.inventory.places();
        match all.iter().find(|place| place.id == id) {
            Some(place) if place.is_elsewhere() => writeln!(
                err,
                "Le certificat de « {id} » est celui d'un autre programme : la passerelle ne fait que le surveiller.\n  \
                 Remède : le remplacer chez lui ; pour le proxy e-santé, ajouter --proxy et prendre l'emplacement de \
                 drimbox certs list --proxy."
            )?,
            Some(_) => writeln!(
                err,
                "La passerelle obtient et renouvelle elle-même le certificat de « {id} » (ACME).\n  \
                 Remède : drimbox check acme ; pour en installer un autre, ajouter vi_tls."
            )?,
            None if id.starts_with("authority:") => writeln!(
                err,
                "« {id} » est une autorité, dont la clé n'est pas ici.\n  \
                 Remède : demander à cette autorité son nouveau certificat, l'ajouter à son fichier, puis redémarrer \
                 le service."
            )?,
            None => unknown(&self.replaced_here, id, err)?,
        }
        Ok(None)
    }

    fn list(&self, format: Format, out: &mut impl Write) -> std::io::Result<u8> {
        let (inventory, now) = (&self.inventory, self.now);
        let (entries, presented) = (inventory.examine(now), inventory.presented(now));
        match format {
            Format::Table => {
                report::table(&entries, now, out)?;
                report::presented_table(&presented, now, out)?;
            }
            Format::Json => {
                let mut all = report::json(&entries, now);
                let others = report::presented_json(&presented, now);
                if let (Some(all), Value::Array(others)) = (all.as_array_mut(), others) {
                    all.extend(others);
                }
                writeln!(out, "{all:#}")?;
            }
            Format::Csv => report::csv(&entries, &presented, now, out)?,
        }
        Ok(0)
    }

    fn show(&self, place: &str, out: &mut impl Write, err: &mut impl Write) -> std::io::Result<u8> {
        let inventory = &self.inventory;
        let entries = inventory.examine(self.now);
        if let Some(entry) = entries.iter().find(|entry| entry.place.id == place) {
            report::details(entry, self.now, out)?;
            return Ok(0);
        }
        let mut presented = inventory.presented(self.now);
        presented.retain(|one| one.name().eq_ignore_ascii_case(place));
        for one in &presented {
            report::presented_details(one, self.now, out)?;
        }
        if presented.is_empty() {
            let places: Vec<Place> = entries.into_iter().map(|entry| entry.place).collect();
            unknown(&places, place, err)?;
            return Ok(USAGE);
        }
        Ok(0)
    }

    fn request(
        &self,
        asked: Request,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> std::io::Result<u8> {
        let Some(place) = self.find(&asked.target.place, err)? else {
            return Ok(USAGE);
        };
        let subject = Subject {
            common_name: asked.subject.common_name.unwrap_or_default(),
            organizational_unit: asked.subject.unit,
            organization: asked.subject.organization,
            state: asked.subject.state,
            dns_name: None,
        };
        let request = CertificateRequest {
            subject: subject.or(subject_of(&place)),
            place: &place,
            key: match asked.key {
                KeyType::Rsa => KeyKind::Rsa2048,
                KeyType::P256 => KeyKind::P256,
            },
            again: asked.again,
        };
        match ByHand.submit(&request) {
            Ok(Submitted::ByHand { csr, steps }) => {
                write!(out, "{csr}")?;
                for (rank, step) in steps.iter().enumerate() {
                    writeln!(err, "{}. {step}", rank + 1)?;
                }
                Ok(0)
            }
            Err(error) => {
                writeln!(err, "{} : {error}", place.id)?;
                Ok(if matches!(error, RequestError::Form(_)) {
                    USAGE
                } else {
                    FAILURE
                })
            }
        }
    }

    fn import(
        &self,
        asked: &Import,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> std::io::Result<u8> {
        let named = match &asked.place {
            Some(id) => match self.find(id, err)? {
                Some(place) => Some(place),
                None => return Ok(USAGE),
            },
            None => None,
        };
        let file = asked.file.display();
        let mut password = None;
        if let Some(file) = &asked.password_file {
            match std::fs::read_to_string(file).map(Zeroizing::new) {
                Ok(text) => {
                    let first = text.lines().next().unwrap_or_default().to_owned();
                    password = Some(Zeroizing::new(first));
                }
                Err(error) => {
                    writeln!(err, "{} : {error}", file.display())?;
                    return Ok(USAGE);
                }
            }
        }
        let bytes = match read(&asked.file, container::MAX_BYTES as u64 + 1) {
            Ok(content) => Zeroizing::new(content),
            Err(error) => return writeln!(err, "{file} : {error}").map(|()| USAGE),
        };
        let received = Received::File {
            bytes: &bytes,
            password: password.as_ref().map(|password| password.as_str()),
        };
        let content = match ByHand.collect(received) {
            Ok(content) => content,
            Err(error) => return writeln!(err, "{file} : {error}").map(|()| FAILURE),
        };
        let place = match &named {
            Some(place) => place,
            None => match install::find(&content, &self.replaced_here) {
                Ok(place) => place,
                Err(not_found) => return self.no_place(&asked.file, &not_found, err),
            },
        };
        if let (true, Some(why)) = (place.role.is_igc(), &self.authorities.unusable) {
            writeln!(
                err,
                "{file} : aucune autorité ne peut le confirmer, rien n'a été installé : {why}\n  \
                 Remède : corriger [trust], puis importer de nouveau."
            )?;
            return Ok(FAILURE);
        }
        let context = Context {
            places: &self.replaced_here,
            judges: self.inventory.judges(),
            allowed: Allowed {
                other_structure: asked.other_structure,
            },
            now: self.now,
        };
        let checked = install::check(place, content, &context);
        let installed = checked.and_then(|candidate| {
            if !asked.dry_run {
                install::swap(place, &candidate)?;
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
            Err(error) => writeln!(err, "{file} : {error}").map(|()| FAILURE),
        }
    }

    /// Says why a file was given no place by itself.
    fn no_place(
        &self,
        file: &Path,
        not_found: &install::NotFound<'_>,
        err: &mut impl Write,
    ) -> std::io::Result<u8> {
        let (file, subject) = (file.display(), &not_found.subject);
        let ids = |places: &mut dyn Iterator<Item = &Place>| {
            let ids: Vec<&str> = places.map(|place| place.id.as_str()).collect();
            ids.join(", ")
        };
        if not_found.candidates.is_empty() {
            writeln!(
                err,
                "{file} : ce certificat ({subject}) n'est d'aucun emplacement : aucune demande en cours ni clé en \
                 service n'a sa clé, et le fichier n'apporte pas de clé dont le certificat serait au nom d'un \
                 emplacement.\n  Comparé à : {}.\n  Remède : importer le certificat obtenu avec la demande faite sur \
                 cette machine, ou nommer l'emplacement : drimbox certs import EMPLACEMENT FICHIER.",
                ids(&mut self.replaced_here.iter())
            )?;
            return Ok(FAILURE);
        }
        writeln!(
            err,
            "{file} : ce certificat ({subject}) peut être celui de plusieurs emplacements : {}.\n  Remède : nommer \
             l'emplacement : drimbox certs import EMPLACEMENT FICHIER.",
            ids(&mut not_found.candidates.iter().copied())
        )?;
        Ok(USAGE)
    }

    fn rollback(
        &self,
        place: &str,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> std::io::Result<u8> {
        let Some(place) = self.find(place, err)? else {
            return Ok(USAGE);
        };
        match install::rollback(&place, self.inventory.judges(), self.now) {
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
            Err(error) => writeln!(err, "{} : {error}", place.id).map(|()| FAILURE),
        }
    }

    fn compare(
        &self,
        list: &Path,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> std::io::Result<u8> {
        let shown = list.display();
        let content = match read(list, MAX_LIST_BYTES) {
            Ok(content) => content,
            Err(error) => return writeln!(err, "{shown} : {error}").map(|()| USAGE),
        };
        match follow_up::parse(&content) {
            Ok(list) => {
                let entries = self.inventory.examine(self.now);
                let differences = follow_up::compare(&entries, &list);
                report::comparison(&differences, &list, out)?;
                let agrees = differences.is_empty() && list.unread.is_empty();
                Ok(if agrees { 0 } else { FAILURE })
            }
            Err(error) => writeln!(err, "{shown} : {error}").map(|()| USAGE),
        }
    }
}

fn unknown(all: &[Place], id: &str, err: &mut impl Write) -> std::io::Result<()> {
    let known: Vec<&str> = all.iter().map(|place| place.id.as_str()).collect();
    writeln!(
        err,
        "Aucun certificat à l'emplacement « {id} ».\n  Remède : choisir parmi {}.",
        known.join(", ")
    )
}

/// The subject of the certificate in use, and what the configuration says of it.
fn subject_of(place: &Place) -> Subject {
    let facts = examine(
        place.clone(),
        &Judges::default(),
        OffsetDateTime::UNIX_EPOCH,
    )
    .facts;
    let mut subject = facts.map_or_else(Subject::default, |facts| Subject {
        common_name: facts.common_name.unwrap_or_default(),
        organizational_unit: facts.organizational_units.into_iter().next(),
        organization: facts.organization,
        state: facts.state,
        dns_name: None,
    });
    if let Some(name) = place.host.as_ref().or(place.holder.common_name.as_ref()) {
        subject.common_name.clone_from(name);
    }
    if place.holder.unit.is_some() {
        subject.organizational_unit.clone_from(&place.holder.unit);
    }
    subject
}

fn read(file: &Path, at_most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut content = Vec::new();
    std::fs::File::open(file)?
        .take(at_most)
        .read_to_end(&mut content)?;
    Ok(content)
}
