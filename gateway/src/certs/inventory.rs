//! What is at each place, and what is wrong with it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;

use super::facts::Facts;
use super::place::{Kept, Place, Role};
use crate::config::ServerIdentity;
use crate::net;

/// Days before the end from which IGC Santé renews a certificate (guide de commande, §renouvellement):
/// the time to act.
pub const RENEWAL_OPENS_DAYS: i64 = 60;
/// Days before the end from which a certificate that people must renew is urgent.
pub const URGENT_DAYS: i64 = 15;
/// Share of the life of a market certificate after which its renewal is late.
pub const LATE_AGE: f64 = 0.75;
/// Share of the life of a market certificate after which its renewal is urgent.
pub const URGENT_AGE: f64 = 0.9;
/// Bytes of a PEM file.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Certificates of a chain.
const MAX_CHAIN: usize = 16;

/// What there is at a place.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The place.
    pub place: Place,
    /// The certificate; `None` when it cannot be read.
    pub facts: Option<Facts>,
    /// Those that follow it in its file.
    pub chain: Vec<Facts>,
    /// What is wrong, the gravest first.
    pub findings: Vec<Finding>,
}

/// How grave a finding is, in the words of Nagios plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Works, and something is to be done.
    Warning,
    /// Does not work, or will stop within days.
    Critical,
}

/// Something wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A file cannot be read.
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// The gateway is to obtain it, and has not yet.
    NotObtained,
    /// Others than the service may read the private key.
    KeyExposed {
        /// The file.
        file: PathBuf,
    },
    /// The key is another certificate's.
    KeyMismatch,
    /// For other names than the host it is used for.
    WrongHost(String),
    /// For several names: forbidden for SERV_SSL and market certificates (one certificate, one FQDN).
    SeveralNames,
    /// A later certificate of the file did not issue the one before it.
    ChainBroken,
    /// An intermediate authority ends before the certificate does.
    ChainExpiresFirst(OffsetDateTime),
    /// RSA below 2048 bits.
    WeakKey,
    /// Before its time.
    NotYetValid(OffsetDateTime),
    /// After its time.
    Expired(OffsetDateTime),
    /// To be renewed.
    Expiring {
        /// Whole days left.
        days: i64,
        /// Whether days count.
        urgent: bool,
    },
    /// The same certificate is at another place.
    AlsoAt(String),
}

impl Finding {
    /// How grave it is.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::Unreadable { .. }
            | Self::NotObtained
            | Self::KeyExposed { .. }
            | Self::KeyMismatch
            | Self::WrongHost(_)
            | Self::NotYetValid(_)
            | Self::Expired(_)
            | Self::Expiring { urgent: true, .. } => Severity::Critical,
            Self::SeveralNames
            | Self::ChainBroken
            | Self::ChainExpiresFirst(_)
            | Self::WeakKey
            | Self::Expiring { urgent: false, .. }
            | Self::AlsoAt(_) => Severity::Warning,
        }
    }

    /// What is wrong, a French sentence.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Unreadable { file, why } => format!("{} : {why}", file.display()),
            Self::KeyExposed { file } => {
                format!("la clé {} est lisible par d'autres comptes", file.display())
            }
            Self::KeyMismatch => "le certificat et la clé ne vont pas ensemble".into(),
            Self::WrongHost(host) => format!("le certificat n'est pas au nom de {host}"),
            Self::SeveralNames => "le certificat porte plusieurs noms, ou un joker".into(),
            Self::ChainBroken => {
                "les certificats qui suivent dans le fichier ne sont pas ses émetteurs".into()
            }
            Self::ChainExpiresFirst(at) => {
                format!(
                    "une autorité intermédiaire expire avant lui, le {}",
                    at.date()
                )
            }
            Self::NotObtained => "pas encore obtenu de l'autorité (ACME)".into(),
            Self::WeakKey => "la clé RSA a moins de 2048 bits".into(),
            Self::NotYetValid(from) => format!("valable seulement à partir du {}", from.date()),
            Self::Expired(at) => format!("expiré depuis le {}", at.date()),
            Self::Expiring { days, .. } => match days {
                0 => "expire aujourd'hui".into(),
                1 => "expire demain".into(),
                days => format!("expire dans {days} jours"),
            },
            Self::AlsoAt(other) => format!("le même certificat sert aussi à {other}"),
        }
    }

    /// What to do, a French sentence.
    #[must_use]
    pub fn remedy(&self, role: Role) -> String {
        match self {
            Self::Unreadable { .. } => "remplacer ce fichier, ou corriger ses droits".into(),
            Self::NotObtained => {
                "démarrer le service, puis lancer drimbox check acme, qui dit ce qui manque".into()
            }
            Self::KeyExposed { file } => format!("chmod 600 {}", file.display()),
            Self::KeyMismatch => "indiquer la clé avec laquelle ce certificat a été demandé ; le \
                                  certificat vient en premier dans son fichier, puis ses \
                                  intermédiaires"
                .into(),
            Self::WrongHost(_) => {
                "corriger le nom, ou indiquer le certificat demandé pour ce nom".into()
            }
            Self::SeveralNames => "demander un certificat pour ce seul nom".into(),
            Self::ChainBroken => {
                "ne laisser après le certificat que ses autorités intermédiaires, dans l'ordre"
                    .into()
            }
            Self::ChainExpiresFirst(_) => {
                "demander à l'autorité ses certificats intermédiaires en vigueur".into()
            }
            Self::WeakKey => "demander un nouveau certificat avec une clé RSA de 2048 bits".into(),
            Self::NotYetValid(_) => {
                "vérifier l'horloge de la machine, ou attendre cette date".into()
            }
            Self::Expired(_) if role.is_igc() => {
                "le renouvellement n'est plus possible : faire une nouvelle demande sur la \
                 plateforme IGC Santé"
                    .into()
            }
            Self::Expired(_) => "demander un nouveau certificat".into(),
            Self::Expiring { .. } if role.is_igc() => {
                "renouveler sur la plateforme IGC Santé ; renouvelable jusqu'à expiration seulement"
                    .into()
            }
            Self::Expiring { .. } => "demander dès maintenant un nouveau certificat".into(),
            Self::AlsoAt(_) => "demander un certificat par usage et par serveur".into(),
        }
    }
}

impl Entry {
    /// The gravest finding's severity; `None` when all is well.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Finding::severity).max()
    }
}

/// Examines all places at `now`. Reads files: blocks.
#[must_use]
pub fn examine_all(places: Vec<Place>, now: OffsetDateTime) -> Vec<Entry> {
    let mut entries: Vec<Entry> = places
        .into_iter()
        .map(|place| examine(place, now))
        .collect();
    let seen: Vec<(String, String)> = entries
        .iter()
        .filter_map(|entry| {
            Some((
                entry.facts.as_ref()?.fingerprint.clone(),
                entry.place.id.clone(),
            ))
        })
        .collect();
    for entry in &mut entries {
        let Some(facts) = &entry.facts else { continue };
        let other = seen
            .iter()
            .find(|(print, id)| *print == facts.fingerprint && *id != entry.place.id);
        if let Some((_, id)) = other {
            entry.findings.push(Finding::AlsoAt(id.clone()));
        }
    }
    entries
}

/// Examines one place at `now`. Reads files: blocks.
#[must_use]
pub fn examine(place: Place, now: OffsetDateTime) -> Entry {
    let mut entry = Entry {
        place,
        facts: None,
        chain: Vec::new(),
        findings: Vec::new(),
    };
    let (certificates, key) = match read(&entry.place) {
        Ok(read) => read,
        Err(finding) => {
            entry.findings.push(finding);
            return entry;
        }
    };
    let mut facts = certificates.iter().map(Facts::of);
    let Some(Ok(own)) = facts.next() else {
        entry.findings.push(Finding::Unreadable {
            file: entry.place.identity.certificate_file.clone(),
            why: "ne contient pas de certificat lisible".into(),
        });
        return entry;
    };
    entry.chain = facts.filter_map(Result::ok).collect();
    if is_open(&entry.place.identity.key_file) {
        entry.findings.push(Finding::KeyExposed {
            file: entry.place.identity.key_file.clone(),
        });
    }
    if CertifiedKey::from_der(certificates.clone(), key, &net::tls::provider()).is_err() {
        entry.findings.push(Finding::KeyMismatch);
    }
    let (role, host) = (entry.place.role, entry.place.host.clone());
    entry.findings.extend(names(&own, role, host));
    entry.findings.extend(chain(&own, &entry.chain));
    if matches!(own.key.as_str(), "RSA-1024" | "RSA-768" | "RSA-512") {
        entry.findings.push(Finding::WeakKey);
    }
    entry.findings.extend(dates(&own, role, now));
    entry
        .findings
        .sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
    entry.facts = Some(own);
    entry
}

fn names(own: &Facts, role: Role, host: Option<String>) -> Option<Finding> {
    if let Some(host) = host.filter(|host| !own.covers(host)) {
        return Some(Finding::WrongHost(host));
    }
    let single = matches!(role, Role::ServSsl | Role::Market);
    let several =
        own.dns_names.len() > 1 || own.dns_names.iter().any(|name| name.starts_with("*."));
    (single && several).then_some(Finding::SeveralNames)
}

fn chain(own: &Facts, chain: &[Facts]) -> Option<Finding> {
    let mut issued = own;
    for issuer in chain {
        let name = issuer.common_name.as_deref().unwrap_or(&issuer.subject);
        if name != issued.issuer {
            return Some(Finding::ChainBroken);
        }
        if issuer.not_after < own.not_after {
            return Some(Finding::ChainExpiresFirst(issuer.not_after));
        }
        issued = issuer;
    }
    None
}

/// What the dates of a certificate mean for who must act, at `now`.
#[must_use]
pub fn dates(own: &Facts, role: Role, now: OffsetDateTime) -> Option<Finding> {
    if now < own.not_before {
        return Some(Finding::NotYetValid(own.not_before));
    }
    if now > own.not_after {
        return Some(Finding::Expired(own.not_after));
    }
    let days = own.days_left(now);
    // Market certificates live for weeks: their life counts, not a number of days.
    let (late, urgent) = if role == Role::Market {
        (own.age(now) >= LATE_AGE, own.age(now) >= URGENT_AGE)
    } else {
        (days < RENEWAL_OPENS_DAYS, days < URGENT_DAYS)
    };
    late.then_some(Finding::Expiring { days, urgent })
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn read(place: &Place) -> Result<Identity, Finding> {
    match place.kept {
        Kept::Files => read_files(&place.identity),
        Kept::Record => read_record(&place.identity.certificate_file),
    }
}

/// The certificate that the gateway obtained, and its key.
fn read_record(file: &Path) -> Result<Identity, Finding> {
    let unreadable = |why: String| Finding::Unreadable {
        file: file.to_owned(),
        why,
    };
    let text = content(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Finding::NotObtained,
        _ => unreadable(error.to_string()),
    })?;
    let issued: acme::Issued = serde_json::from_slice(&text)
        .map_err(|_| unreadable("n'est pas un certificat obtenu par la passerelle".into()))?;
    let chain = issued.chain().map_err(|e| unreadable(e.to_string()))?;
    let key = issued.key().map_err(|e| unreadable(e.to_string()))?;
    Ok((chain.into_iter().take(MAX_CHAIN).collect(), key))
}

fn read_files(identity: &ServerIdentity) -> Result<Identity, Finding> {
    let unreadable = |file: &Path, why: String| Finding::Unreadable {
        file: file.to_owned(),
        why,
    };
    let file = &identity.certificate_file;
    let text = content(file).map_err(|error| unreadable(file, error.to_string()))?;
    let certificates = CertificateDer::pem_slice_iter(&text)
        .take(MAX_CHAIN)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(file, format!("n'est pas en forme PEM ({error})")))?;
    let file = &identity.key_file;
    let text = content(file).map_err(|error| unreadable(file, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| unreadable(file, "ne contient pas de clé privée en clair".into()))?;
    Ok((certificates, key))
}

fn content(file: &Path) -> io::Result<zeroize::Zeroizing<Vec<u8>>> {
    use io::Read as _;
    let mut text = zeroize::Zeroizing::new(Vec::new());
    fs::File::open(file)?
        .take(MAX_FILE_BYTES)
        .read_to_end(&mut text)?;
    Ok(text)
}

fn is_open(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs::Permissions;

    use rcgen::KeyPair;
    use tempfile::TempDir;
    use time::Duration;

    use super::*;
    use crate::certs::testdata::{Profile, START, chain_for};

    const HOST: &str = "db.exemple.fr";

    fn place(dir: &TempDir, profile: &Profile<'_>, role: Role) -> Place {
        let key = KeyPair::generate().unwrap();
        let chain = chain_for(profile, &key);
        place_of(dir, &chain, &key, role)
    }

    fn place_of(dir: &TempDir, chain: &[CertificateDer<'_>], key: &KeyPair, role: Role) -> Place {
        let identity = ServerIdentity {
            certificate_file: dir.path().join("c.pem"),
            key_file: dir.path().join("k.pem"),
        };
        let pem: String = chain
            .iter()
            .map(|der| {
                use base64::Engine as _;
                let text = base64::engine::general_purpose::STANDARD.encode(der);
                format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
            })
            .collect();
        fs::write(&identity.certificate_file, pem).unwrap();
        fs::write(&identity.key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&identity.key_file, Permissions::from_mode(0o600)).unwrap();
        Place {
            id: "db:scanner".into(),
            role,
            user: "PACS scanner".into(),
            host: Some(HOST.into()),
            identity,
            kept: crate::certs::place::Kept::Files,
        }
    }

    fn at(days: i64) -> OffsetDateTime {
        START + Duration::DAY * i32::try_from(days).unwrap()
    }

    #[test]
    fn a_sound_certificate_has_no_finding() {
        let dir = TempDir::new().unwrap();
        let entry = examine(place(&dir, &Profile::default(), Role::ServSsl), at(10));
        assert_eq!(entry.findings, []);
        assert_eq!(entry.severity(), None);
        assert_eq!(entry.chain.len(), 1);
        assert_eq!(entry.facts.unwrap().days_left(at(10)), 1085);
    }

    #[test]
    fn days_count_for_igc_certificates() {
        let dir = TempDir::new().unwrap();
        let found = |day| {
            let place = place(&dir, &Profile::default(), Role::ServSsl);
            examine(place, at(day)).findings
        };
        assert_eq!(found(1035), []);
        assert_eq!(
            found(1036),
            [Finding::Expiring {
                days: 59,
                urgent: false
            }]
        );
        let urgent = found(1081);
        assert_eq!(
            urgent,
            [Finding::Expiring {
                days: 14,
                urgent: true
            }]
        );
        assert!(
            urgent[0]
                .remedy(Role::ServSsl)
                .contains("jusqu'à expiration seulement")
        );
        assert!(matches!(found(1096)[..], [Finding::Expired(_)]));
        assert!(matches!(found(-1)[..], [Finding::NotYetValid(_)]));
    }

    #[test]
    fn the_share_of_its_life_counts_for_a_market_certificate() {
        let dir = TempDir::new().unwrap();
        let profile = Profile {
            names: &[HOST],
            days: 40,
            ..Profile::default()
        };
        let found = |day| examine(place(&dir, &profile, Role::Market), at(day)).findings;
        assert_eq!(found(29), []);
        assert!(matches!(
            found(30)[..],
            [Finding::Expiring { urgent: false, .. }]
        ));
        assert!(matches!(
            found(36)[..],
            [Finding::Expiring { urgent: true, .. }]
        ));
    }

    #[test]
    fn names_keys_and_chains_are_compared() {
        let dir = TempDir::new().unwrap();
        let other = Profile {
            common_name: "db2.exemple.fr",
            ..Profile::default()
        };
        let found = examine(place(&dir, &other, Role::ServSsl), at(1)).findings;
        assert_eq!(found, [Finding::WrongHost(HOST.into())]);

        let several = Profile {
            names: &[HOST, "db2.exemple.fr"],
            ..Profile::default()
        };
        let found = examine(place(&dir, &several, Role::ServSsl), at(1)).findings;
        assert_eq!(found, [Finding::SeveralNames]);

        let key = KeyPair::generate().unwrap();
        let chain = chain_for(&Profile::default(), &key);
        let another = KeyPair::generate().unwrap();
        let found = examine(place_of(&dir, &chain, &another, Role::ServSsl), at(1)).findings;
        assert_eq!(found, [Finding::KeyMismatch]);

        let foreign = Profile {
            issuer: "AUTRE AC",
            ..Profile::default()
        };
        let foreign = chain_for(&foreign, &key);
        let mixed = [chain[0].clone(), foreign[1].clone()];
        let found = examine(place_of(&dir, &mixed, &key, Role::ServSsl), at(1)).findings;
        assert_eq!(found, [Finding::ChainBroken]);
    }

    #[test]
    fn a_key_that_others_can_read_is_critical_and_the_remedy_a_command() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, &Profile::default(), Role::ServSsl);
        fs::set_permissions(&place.identity.key_file, Permissions::from_mode(0o640)).unwrap();
        let entry = examine(place, at(1));
        assert_eq!(entry.severity(), Some(Severity::Critical));
        assert!(
            entry.findings[0]
                .remedy(Role::ServSsl)
                .starts_with("chmod 600 /")
        );
    }

    #[test]
    fn files_that_are_missing_or_damaged_are_said() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, &Profile::default(), Role::ServSsl);
        for content in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            fs::write(&place.identity.certificate_file, content).unwrap();
            let entry = examine(place.clone(), at(1));
            assert!(
                matches!(entry.findings[..], [Finding::Unreadable { .. }]),
                "{content}"
            );
        }
        fs::remove_file(&place.identity.certificate_file).unwrap();
        let entry = examine(place, at(1));
        assert!(matches!(entry.findings[..], [Finding::Unreadable { .. }]));
    }

    #[test]
    fn one_certificate_at_two_places_is_seen() {
        let dir = TempDir::new().unwrap();
        let first = place(&dir, &Profile::default(), Role::ServSsl);
        let second = Place {
            id: "local".into(),
            role: Role::Local,
            ..first.clone()
        };
        let entries = examine_all(vec![first, second], at(1));
        assert_eq!(entries[0].findings, [Finding::AlsoAt("local".into())]);
        assert_eq!(entries[1].findings, [Finding::AlsoAt("db:scanner".into())]);
    }
}
