//! What is at each place, and what is wrong with it.

use std::io;
use std::path::{Path, PathBuf};

use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::authorities::{self, AuthorityFile, authority_files, authority_files_of_proxy};
use super::facts::Facts;
pub use super::finding::{Finding, Severity};
use super::place::{Kept, Place, Role, all_places, places_of_proxy};
use super::presented::{self, Presented};
use super::request::pending_key;
use crate::config::{Config, ProxyConfig, ServerIdentity};
use crate::keys::pem::{KeyError, Secret};
use crate::keys::{self, files};
use crate::net;
use crate::trust::{
    NamedListError, NamedLists, Standing, Trust, TrustRefusal, Wanted, is_issued_by,
};

/// Days before the end from which IGC Santé renews a certificate (guide de commande, §renouvellement):
/// the time to act.
pub const RENEWAL_OPENS_DAYS: i64 = 60;
/// Days before the end from which a certificate that people must renew is urgent.
pub const URGENT_DAYS: i64 = 15;
/// Share of the life of a market certificate after which its renewal is late.
pub const LATE_AGE: f64 = 0.75;
/// Share of the life of a market certificate after which its renewal is urgent.
pub const URGENT_AGE: f64 = 0.9;
/// Folder of the lists that certificates name, below the data folder.
pub const REVOCATION_LISTS: &str = "revocation";
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
    /// How it stands with its authority: those of IGC Santé as `[trust]` has them, another by the revocation
    /// list that the certificate names; `None` when that is not asked.
    pub standing: Option<Standing>,
    /// An authority in whose place another of its name is there already: its end is nobody's concern.
    pub is_superseded: bool,
    /// What is wrong, the gravest first.
    pub findings: Vec<Finding>,
}

impl Entry {
    /// The gravest finding's severity; `None` when all is well.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(Finding::severity).max()
    }
}

/// The certificates of a configuration, and who says whether they are revoked.
#[derive(Debug, Clone)]
pub struct Inventory {
    places: Vec<Place>,
    judges: Judges,
    /// Where what others present is noted; the proxy e-santé notes none.
    presented: Option<PathBuf>,
}

/// Who says whether a certificate is revoked.
#[derive(Debug, Clone, Default)]
pub struct Judges {
    /// Of certificates of IGC Santé.
    pub trust: Option<Trust>,
    /// Of all others.
    pub lists: Option<NamedLists>,
    /// Files in which the issuers of these may be.
    pub authorities: Vec<AuthorityFile>,
}

impl Inventory {
    /// Of a configuration; with `trust` the certificates of IGC Santé are compared with the authorities
    /// and revocation lists it has.
    #[must_use]
    pub fn of(config: &Config, trust: Option<Trust>) -> Self {
        Self {
            judges: Judges {
                trust,
                lists: Some(named_lists(config)),
                authorities: authority_files(config),
            },
            ..Self::new(all_places(config), &config.data_dir)
        }
    }

    /// Of these places, and of what a data folder has of others. Nobody is asked about revocation.
    #[must_use]
    pub fn new(places: Vec<Place>, data_dir: &Path) -> Self {
        Self {
            places,
            judges: Judges::default(),
            presented: Some(presented::folder(data_dir)),
        }
    }

    /// Of a proxy e-santé. It has no revocation lists.
    #[must_use]
    pub fn of_proxy(config: &ProxyConfig) -> Self {
        Self {
            places: places_of_proxy(config),
            judges: Judges {
                authorities: authority_files_of_proxy(config),
                ..Judges::default()
            },
            presented: None,
        }
    }

    /// Every place it knows of a certificate of the gateway.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Who says whether a certificate is revoked.
    #[must_use]
    pub fn judges(&self) -> &Judges {
        &self.judges
    }

    /// Examines every place at `now`, then every authority. Reads files: blocks.
    #[must_use]
    pub fn examine(&self, now: OffsetDateTime) -> Vec<Entry> {
        let mut entries = examine_all(self.places.clone(), &self.judges, now);
        entries.extend(authorities::examine(&self.judges.authorities, now));
        entries
    }

    /// What others presented, as it stands at `now`. Reads files: blocks.
    #[must_use]
    pub fn presented(&self, now: OffsetDateTime) -> Vec<Presented> {
        let folder = self.presented.as_ref();
        folder.map_or_else(Vec::new, |folder| presented::all(folder, &self.judges, now))
    }

    /// Fetches the revocation lists that certificates name, those which are due at `now`. Each address that was asked, with
    /// what became of it.
    pub async fn refresh(&self, now: OffsetDateTime) -> Vec<(String, Result<(), NamedListError>)> {
        let Some(lists) = &self.judges.lists else {
            return Vec::new();
        };
        let inventory = self.clone();
        let read = move || {
            let known = authorities::certificates(&inventory.judges.authorities);
            (inventory.wanted(), known)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok((wanted, known)) => lists.refresh(wanted, known, now).await,
            Err(_) => Vec::new(),
        }
    }

    /// The certificates whose revocation lists are those that they name, each with what follows it.
    fn wanted(&self) -> Vec<Wanted> {
        let own = self.places.iter().filter(|place| !place.role.is_igc());
        let own = own.filter_map(|place| {
            let file = &place.identity.certificate_file;
            let chain = match place.kept {
                Kept::Record => read_record(file).ok()?.0,
                Kept::Files | Kept::Elsewhere => read_certificates(file).ok()?,
            };
            Some(Wanted {
                chain,
                outside: place.role == Role::Market,
            })
        });
        let folder = self.presented.as_ref();
        let others = folder.map_or_else(Vec::new, |folder| presented::chains(folder));
        let others = others.into_iter().map(|chain| Wanted {
            chain,
            outside: true,
        });
        own.chain(others).collect()
    }
}

impl Judges {
    /// How the certificate of a place stands, the first of `chain`. Reads files: blocks.
    pub(super) fn standing(
        &self,
        role: Role,
        chain: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Option<Standing> {
        match role.is_igc() {
            true => Some(self.trust.as_ref()?.standing(chain.first()?, now)),
            false => self.by_list(chain, now),
        }
    }

    /// How a certificate stands by the list that it names.
    pub(super) fn by_list(
        &self,
        chain: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Option<Standing> {
        let known = || authorities::certificates(&self.authorities);
        Some(self.lists.as_ref()?.standing(chain, known, now))
    }
}

/// The lists that the certificates of a configuration name. Those on the Internet come through the outgoing proxy of
/// `[acme]`, or else of `[psc]`, or else of `[trust]`.
fn named_lists(config: &Config) -> NamedLists {
    let of_acme = config
        .acme
        .as_ref()
        .and_then(|acme| acme.http_proxy.clone());
    let of_psc = || config.psc.as_ref()?.http_proxy.clone();
    let of_trust = || config.trust.as_ref()?.http_proxy.clone();
    let proxy = of_acme.or_else(of_psc).or_else(of_trust);
    NamedLists::new(config.data_dir.join(REVOCATION_LISTS), proxy)
}

/// Examines all places at `now`. Reads files: blocks.
#[must_use]
pub fn examine_all(places: Vec<Place>, judges: &Judges, now: OffsetDateTime) -> Vec<Entry> {
    let mut entries: Vec<Entry> = places
        .into_iter()
        .map(|place| examine(place, judges, now))
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
pub fn examine(place: Place, judges: &Judges, now: OffsetDateTime) -> Entry {
    let mut entry = Entry {
        place,
        facts: None,
        chain: Vec::new(),
        standing: None,
        is_superseded: false,
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
    match key {
        Ok(Some(key)) => {
            let findings = of_key(&entry.place, &certificates, &key);
            entry.findings.extend(findings);
        }
        Ok(None) => {}
        Err(finding) => entry.findings.push(finding),
    }
    let (role, host) = (entry.place.role, entry.place.host.clone());
    let misnamed = names(&own, role, host);
    if !matches!(misnamed, Some(Finding::WrongHost(_))) {
        entry.findings.extend(holder(&own, &entry.place));
    }
    entry.findings.extend(misnamed);
    entry.standing = judges.standing(role, &certificates, now);
    entry
        .findings
        .extend(entry.standing.as_ref().and_then(stands));
    entry
        .findings
        .extend(chain(role, &certificates, &own, &entry.chain));
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

/// What is wrong with the key of a certificate.
fn of_key(place: &Place, certificates: &[CertificateDer<'static>], key: &Secret) -> Vec<Finding> {
    let mut findings = Vec::new();
    let key_file = &place.identity.key_file;
    if files::exposed(key_file).is_some() {
        findings.push(Finding::KeyExposed {
            file: key_file.clone(),
        });
    }
    if keys::passphrase().is_some() && !is_encrypted(place) {
        findings.push(Finding::KeyInClear);
    }
    let (chain, provider) = (certificates.to_vec(), net::tls::provider());
    if CertifiedKey::from_der(chain, key.clone_key(), &provider).is_err() {
        findings.push(Finding::KeyMismatch);
    }
    findings
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

/// What of the subject is not as it should be. Other DRIMboxes compare the subject of a SERV_SSL with the white list,
/// and its CN with the name they call: its alternative names do not make up for another CN.
#[must_use]
pub fn holder(own: &Facts, place: &Place) -> Option<Finding> {
    let wanted = &place.holder;
    let wrong = |attribute, found: String, wanted: &String| Finding::WrongHolder {
        attribute,
        found,
        wanted: wanted.clone(),
    };
    if let (Role::ServSsl, Some(host)) = (place.role, &place.host) {
        let found = own.common_name.clone().unwrap_or_default();
        if !found.eq_ignore_ascii_case(host) {
            return Some(wrong("CN", found, host));
        }
    }
    if let Some(name) = &wanted.common_name {
        let found = own.common_name.clone().unwrap_or_default();
        if found != *name {
            return Some(wrong("CN", found, name));
        }
    }
    let unit = wanted.unit.as_ref()?;
    let has = own.organizational_units.iter().any(|found| found == unit);
    (!has).then(|| wrong("OU", own.organizational_units.join(", "), unit))
}

fn stands(standing: &Standing) -> Option<Finding> {
    match standing {
        Standing::Good | Standing::Unknown(_) => None,
        Standing::Revoked => Some(Finding::Revoked),
        // Its dates are a finding of their own.
        Standing::Refused(TrustRefusal::Expired | TrustRefusal::NotYetValid) => None,
        Standing::Refused(refusal) => Some(Finding::NotOfAuthority(refusal.in_french())),
    }
}

/// `certificates` as they stand in the file; `chain`: what those after the first say.
fn chain(
    role: Role,
    certificates: &[CertificateDer<'_>],
    own: &Facts,
    chain: &[Facts],
) -> Option<Finding> {
    if role == Role::Market && certificates.len() < 2 {
        return Some(Finding::NoIssuer);
    }
    let mut pairs = certificates.iter().zip(certificates.iter().skip(1));
    if !pairs.all(|(issued, issuer)| is_issued_by(issued, issuer)) {
        return Some(Finding::ChainBroken);
    }
    let ends = chain.iter().map(|issuer| issuer.not_after);
    ends.min()
        .filter(|end| *end < own.not_after)
        .map(Finding::ChainExpiresFirst)
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

/// A certificate with its chain, and its key where that is the gateway's. A certificate whose key cannot be read still has an
/// end, which is to be known.
type Identity = (
    Vec<CertificateDer<'static>>,
    Result<Option<Secret>, Finding>,
);

fn read(place: &Place) -> Result<Identity, Finding> {
    match place.kept {
        Kept::Files if is_awaited(place) => Err(Finding::Awaited {
            requested: pending_key(&place.identity.key_file).exists(),
        }),
        Kept::Files => read_files(&place.identity),
        Kept::Record => read_record(&place.identity.certificate_file),
        Kept::Elsewhere => read_certificates(&place.identity.certificate_file)
            .map(|certificates| (certificates, Ok(None))),
    }
}

fn unreadable(file: &Path, why: String) -> Finding {
    Finding::Unreadable {
        file: file.to_owned(),
        why,
    }
}

/// The certificate that the gateway obtained, and its key.
fn read_record(file: &Path) -> Result<Identity, Finding> {
    let unreadable = |why: String| unreadable(file, why);
    let text = files::read(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Finding::NotObtained,
        _ => unreadable(error.to_string()),
    })?;
    let text = keys::record::open(&text, keys::passphrase().as_ref())
        .map_err(|error| unreadable(error.to_string()))?;
    let issued: acme::Issued = serde_json::from_slice(&text)
        .map_err(|_| unreadable("n'est pas un certificat obtenu par la passerelle".into()))?;
    let chain = issued.chain().map_err(|e| unreadable(e.to_string()))?;
    let key = issued.key.to_der();
    Ok((chain.into_iter().take(MAX_CHAIN).collect(), Ok(Some(key))))
}

fn read_files(identity: &ServerIdentity) -> Result<Identity, Finding> {
    let certificates = read_certificates(&identity.certificate_file)?;
    Ok((certificates, read_key(&identity.key_file).map(Some)))
}

fn read_key(file: &Path) -> Result<Secret, Finding> {
    let text = files::read(file).map_err(|error| unreadable(file, error.to_string()))?;
    keys::pem::read(&text, keys::passphrase().as_ref()).map_err(|error| {
        let why = match error {
            KeyError::Locked => "la clé est chiffrée, et sa phrase de passe n'est pas connue",
            KeyError::WrongPassphrase => "la clé ne s'ouvre pas avec la phrase de passe de [keys]",
            KeyError::OldForm => "la clé est chiffrée sous une forme ancienne",
            _ => "ne contient pas de clé privée lisible",
        };
        unreadable(file, why.into())
    })
}

fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Finding> {
    let text = files::read(file).map_err(|error| unreadable(file, error.to_string()))?;
    CertificateDer::pem_slice_iter(&text)
        .take(MAX_CHAIN)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unreadable(file, format!("n'est pas en forme PEM ({error})")))
}

/// Whether nothing is there yet where something may come later.
fn is_awaited(place: &Place) -> bool {
    let may = matches!(place.role, Role::OrgAuthCliDmp | Role::OrgSign);
    may && matches!(place.identity.certificate_file.try_exists(), Ok(false))
}

fn is_encrypted(place: &Place) -> bool {
    let Ok(content) = files::read(&place.identity.key_file) else {
        return false;
    };
    match place.kept {
        Kept::Files => keys::pem::is_encrypted(&content),
        Kept::Record => keys::record::is_sealed(&content),
        Kept::Elsewhere => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

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
            holder: crate::certs::place::Holder::default(),
            identity,
            kept: crate::certs::place::Kept::Files,
        }
    }

    /// What is found on a day when nobody is asked about revocation.
    fn look(place: Place, day: i64) -> Entry {
        examine(place, &Judges::default(), at(day))
    }

    fn at(days: i64) -> OffsetDateTime {
        START + Duration::DAY * i32::try_from(days).unwrap()
    }

    #[test]
    fn a_sound_certificate_has_no_finding() {
        let dir = TempDir::new().unwrap();
        let entry = look(place(&dir, &Profile::default(), Role::ServSsl), 10);
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
            look(place, day).findings
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
        let found = |day| look(place(&dir, &profile, Role::Market), day).findings;
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
        let found = look(place(&dir, &other, Role::ServSsl), 1).findings;
        assert_eq!(found, [Finding::WrongHost(HOST.into())]);

        let several = Profile {
            names: &[HOST, "db2.exemple.fr"],
            ..Profile::default()
        };
        let found = look(place(&dir, &several, Role::ServSsl), 1).findings;
        assert_eq!(found, [Finding::SeveralNames]);

        let wildcard = Profile {
            common_name: HOST,
            names: &["*.exemple.fr"],
            ..Profile::default()
        };
        for role in [Role::ServSsl, Role::Market] {
            let found = look(place(&dir, &wildcard, role), 1).findings;
            assert_eq!(found, [Finding::SeveralNames], "{role}");
        }

        let key = KeyPair::generate().unwrap();
        let chain = chain_for(&Profile::default(), &key);
        let another = KeyPair::generate().unwrap();
        let found = look(place_of(&dir, &chain, &another, Role::ServSsl), 1).findings;
        assert_eq!(found, [Finding::KeyMismatch]);

        let foreign = Profile {
            issuer: "AUTRE AC",
            ..Profile::default()
        };
        let foreign = chain_for(&foreign, &key);
        let mixed = [chain[0].clone(), foreign[1].clone()];
        let found = look(place_of(&dir, &mixed, &key, Role::ServSsl), 1).findings;
        assert_eq!(found, [Finding::ChainBroken]);

        // The same name with another key.
        let namesake = chain_for(&Profile::default(), &key);
        let mixed = [chain[0].clone(), namesake[1].clone()];
        let found = look(place_of(&dir, &mixed, &key, Role::ServSsl), 1).findings;
        assert_eq!(found, [Finding::ChainBroken]);

        let alone = &chain[..1];
        let found = |role| look(place_of(&dir, alone, &key, role), 1).findings;
        assert_eq!(found(Role::Market), [Finding::NoIssuer]);
        assert_eq!(found(Role::ServSsl), []);

        // An alternative name that fits, under a CN that no other DRIMbox looks for.
        let hidden = Profile {
            common_name: "box.exemple.fr",
            names: &[HOST],
            ..Profile::default()
        };
        let found = |role| look(place(&dir, &hidden, role), 1).findings;
        assert!(matches!(
            found(Role::ServSsl)[..],
            [Finding::WrongHolder {
                attribute: "CN",
                ..
            }]
        ));
        assert_eq!(found(Role::Market), []);
    }

    #[test]
    fn a_key_that_others_can_read_is_critical_and_the_remedy_a_command() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, &Profile::default(), Role::ServSsl);
        fs::set_permissions(&place.identity.key_file, Permissions::from_mode(0o640)).unwrap();
        let entry = look(place, 1);
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
            let entry = look(place.clone(), 1);
            assert!(
                matches!(entry.findings[..], [Finding::Unreadable { .. }]),
                "{content}"
            );
        }
        fs::remove_file(&place.identity.certificate_file).unwrap();
        let entry = look(place, 1);
        assert!(matches!(entry.findings[..], [Finding::Unreadable { .. }]));
    }

    #[test]
    fn a_certificate_whose_key_cannot_be_read_keeps_its_dates() {
        let dir = TempDir::new().unwrap();
        let place = place(&dir, &Profile::default(), Role::ServSsl);
        fs::write(&place.identity.key_file, "no key").unwrap();
        let damaged = look(place.clone(), 1);
        fs::remove_file(&place.identity.key_file).unwrap();
        let missing = look(place, 1);
        for entry in [damaged, missing] {
            assert!(matches!(entry.findings[..], [Finding::Unreadable { .. }]));
            assert!(entry.facts.is_some());
        }
    }

    #[test]
    fn the_certificate_of_another_program_is_examined_without_its_key() {
        let dir = TempDir::new().unwrap();
        let mut place = place(&dir, &Profile::default(), Role::OrgAuthCliProxy);
        fs::remove_file(&place.identity.key_file).unwrap();
        place.identity.key_file = place.identity.certificate_file.clone();
        // Anybody may read a certificate.
        let anybody = Permissions::from_mode(0o644);
        fs::set_permissions(&place.identity.certificate_file, anybody).unwrap();
        place.kept = Kept::Elsewhere;
        assert_eq!(look(place.clone(), 1).findings, []);
        let late = look(place, 1096).findings;
        assert!(matches!(late[..], [Finding::Expired(_)]), "{late:?}");
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
        let entries = examine_all(vec![first, second], &Judges::default(), at(1));
        assert_eq!(entries[0].findings, [Finding::AlsoAt("local".into())]);
        assert_eq!(entries[1].findings, [Finding::AlsoAt("db:scanner".into())]);
    }
}
