//! Authorities on the box: by whose certificates the gateway believes others. When one ends, so does all that it issued,
//! and nobody here renews it.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::facts::Facts;
use super::finding::Finding;
use super::inventory::{Entry, dates};
use super::place::{Holder, Kept, Place, Role};
use crate::config::{Config, Gate, PatientGate, ProxyConfig, ServerIdentity, Source};
use crate::keys::files;

/// Authorities of a file. One with more is the bundle of a system, kept by its updates: on which of them the centre
/// depends cannot be told.
const MAX_AUTHORITIES: usize = 32;
/// The part of the configuration with the authorities of peers.
const TRUST: &str = "[trust]";

/// A file of authorities, and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFile {
    /// How commands name it: `authority:trust`, `authority:pacs:scanner`…
    pub id: String,
    /// The parts of the configuration that name it, for people.
    pub users: Vec<String>,
    /// PEM or DER.
    pub file: PathBuf,
    /// Whether peers are refused after the end of an authority: one of `[trust]`. Elsewhere an authority is believed as
    /// long as it stands in the file (RFC 5280 §6.1.1 (d): dates are no part of a trust anchor).
    pub is_dated: bool,
}

/// The files of authorities that a configuration names, each once.
#[must_use]
pub fn authority_files(config: &Config) -> Vec<AuthorityFile> {
    let mut all = Found::default();
    if let Some(trust) = &config.trust {
        for (rank, file) in trust.authority_files.iter().enumerate() {
            all.add(&numbered("trust", '-', rank), TRUST, file);
        }
        let list = &trust.white_list;
        let is_https = |one: &Source| matches!(one, Source::Url(url) if url.starts_with("https:"));
        if list.sources.iter().any(is_https) {
            all.add("white-list", "[trust.white_list]", &list.ca_file);
        }
    }
    if let Some(peer) = &config.peer
        && let Gate::None { client_ca_file } = &peer.gate
    {
        all.add("peer", "[peer]", client_ca_file);
    }
    if let Some(file) = config.consumer.as_ref().and_then(|it| it.ca_file.as_ref()) {
        all.add("consumer", "[consumer]", file);
    }
    for pacs in &config.pacs {
        if let Some(tls) = pacs.tls() {
            let (id, user) = (format!("pacs:{}", pacs.name), format!("PACS {}", pacs.name));
            all.add(&id, &user, &tls.ca_file);
        }
    }
    if let Some(file) = &config.dimse.client_ca_file {
        all.add("dicom", "[dimse]", file);
    }
    if let Some(psc) = &config.psc {
        all.add("psc", "[psc]", &psc.ca_file);
    }
    if let Some(dmp) = &config.dmp_server {
        all.add("dmp", "[dmp]", &dmp.ca_file);
    }
    if let Some(acme) = &config.acme {
        all.add("acme", "[acme]", &acme.ca_file);
    }
    if let PatientGate::Sms { gateway, .. } = &config.viewer.patient_gate {
        all.add("sms", "[viewer.sms]", &gateway.ca_file);
    }
    if let PatientGate::Mail { smtp, .. } = &config.viewer.patient_gate {
        all.add("viewer-smtp", "[viewer.smtp]", &smtp.ca_file);
    }
    if let Some(alerts) = &config.alerts {
        all.add("smtp", "[alerts.smtp]", &alerts.smtp.ca_file);
        for hook in &alerts.webhooks {
            let (id, user) = (
                format!("webhook:{}", hook.name),
                format!("webhook {}", hook.name),
            );
            all.add(&id, &user, &hook.ca_file);
        }
    }
    for server in &config.audit.syslog {
        let id = format!("syslog:{}", server.name);
        let user = format!("serveur syslog {}", server.name);
        all.add(&id, &user, &server.tls.ca_file);
    }
    all.0
}

/// Those of a proxy e-santé.
#[must_use]
pub fn authority_files_of_proxy(config: &ProxyConfig) -> Vec<AuthorityFile> {
    let mut all = Found::default();
    if let Some(file) = &config.client_ca_file {
        all.add("listen", "[listen]", file);
    }
    all.add("psc", "[psc]", &config.psc.ca_file);
    all.0
}

#[derive(Default)]
struct Found(Vec<AuthorityFile>);

impl Found {
    fn add(&mut self, id: &str, user: &str, file: &Path) {
        if let Some(known) = self.0.iter_mut().find(|known| known.file == file) {
            known.users.push(user.to_owned());
            known.is_dated |= user == TRUST;
            return;
        }
        self.0.push(AuthorityFile {
            id: format!("authority:{id}"),
            users: vec![user.to_owned()],
            file: file.to_owned(),
            is_dated: user == TRUST,
        });
    }
}

/// Every authority of these files at `now`: one entry each. Reads files: blocks.
#[must_use]
pub fn examine(files: &[AuthorityFile], now: OffsetDateTime) -> Vec<Entry> {
    let all: Vec<Read<'_>> = files.iter().map(Read::of).collect();
    all.iter()
        .flat_map(|read| read.entries(&all, now))
        .collect()
}

/// The certificates of these files. Reads files: blocks.
#[must_use]
pub fn certificates(files: &[AuthorityFile]) -> Vec<CertificateDer<'static>> {
    let all = files.iter().filter_map(|file| read(&file.file).ok());
    all.flatten().map(|(certificate, _)| certificate).collect()
}

/// What a file holds.
struct Read<'a> {
    file: &'a AuthorityFile,
    found: Result<Vec<Facts>, String>,
}

impl<'a> Read<'a> {
    fn of(file: &'a AuthorityFile) -> Self {
        let found =
            read(&file.file).map(|found| found.into_iter().map(|(_, facts)| facts).collect());
        Self { file, found }
    }

    fn entries(&self, all: &[Self], now: OffsetDateTime) -> Vec<Entry> {
        let file = self.file;
        let found = match &self.found {
            Ok(found) => found,
            Err(why) => {
                let unreadable = Finding::Unreadable {
                    file: file.file.clone(),
                    why: why.clone(),
                };
                return vec![entry(file, 0, None, vec![unreadable])];
            }
        };
        let entries = found.iter().enumerate().map(|(rank, facts)| {
            let is_superseded = self.is_superseded(facts, all, now);
            let finding = dates(facts, Role::Authority, now).filter(|_| !is_superseded);
            let finding = finding.and_then(|finding| match finding {
                // One that is put there before its time is missed by nobody.
                Finding::NotYetValid(_) => None,
                Finding::Expired(at) if !file.is_dated => Some(Finding::AuthorityEnded(at)),
                Finding::Expiring { days, .. } if !file.is_dated => Some(Finding::Expiring {
                    days,
                    urgent: false,
                }),
                finding => Some(finding),
            });
            Entry {
                is_superseded,
                ..entry(
                    file,
                    rank,
                    Some(facts.clone()),
                    finding.into_iter().collect(),
                )
            }
        });
        entries.collect()
    }

    /// Whether each of its users has, in this file or another, one of the same name that is valid and ends later: then
    /// nobody misses it.
    fn is_superseded(&self, facts: &Facts, all: &[Self], now: OffsetDateTime) -> bool {
        let succeeds = |other: &Facts| {
            other.subject == facts.subject
                && other.not_after > facts.not_after
                && other.not_before <= now
        };
        self.file.users.iter().all(|user| {
            let of_user = all.iter().filter(|read| read.file.users.contains(user));
            let mut found = of_user
                .filter_map(|read| read.found.as_ref().ok())
                .flatten();
            found.any(succeeds)
        })
    }
}

fn entry(file: &AuthorityFile, rank: usize, facts: Option<Facts>, findings: Vec<Finding>) -> Entry {
    Entry {
        place: Place {
            id: numbered(&file.id, '.', rank),
            role: Role::Authority,
            user: file.users.join(", "),
            host: None,
            holder: Holder::default(),
            identity: ServerIdentity {
                certificate_file: file.file.clone(),
                key_file: file.file.clone(),
            },
            kept: Kept::Elsewhere,
        },
        facts,
        chain: Vec::new(),
        standing: None,
        is_superseded: false,
        findings,
    }
}

/// The first has no number.
fn numbered(id: &str, sign: char, rank: usize) -> String {
    match rank {
        0 => id.to_owned(),
        rank => format!("{id}{sign}{}", rank + 1),
    }
}

/// The certificates of a file; those that cannot be read are left out, unless none can. Of a bundle, none.
fn read(file: &Path) -> Result<Vec<(CertificateDer<'static>, Facts)>, String> {
    let content = files::read(file).map_err(|error| error.to_string())?;
    let is_der = content.first() == Some(&0x30);
    let found: Vec<CertificateDer<'static>> = match is_der {
        true => vec![CertificateDer::from(content.to_vec())],
        false => CertificateDer::pem_slice_iter(&content)
            .filter_map(Result::ok)
            .take(MAX_AUTHORITIES + 1)
            .collect(),
    };
    if found.len() > MAX_AUTHORITIES {
        return Ok(Vec::new());
    }
    let with_facts = |certificate: CertificateDer<'static>| {
        let facts = Facts::of(&certificate).ok()?;
        Some((certificate, facts))
    };
    let found: Vec<_> = found.into_iter().filter_map(with_facts).collect();
    match found.is_empty() {
        true => Err("ne contient pas de certificat lisible".to_owned()),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::fs;

    use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, KeyPair};
    use tempfile::TempDir;
    use time::Duration;

    use super::*;
    use crate::certs::finding::Severity;
    use crate::certs::testdata::START;

    fn authority(name: &str, from: i64, days: i64) -> Certificate {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = START + Duration::days(from);
        params.not_after = START + Duration::days(from + days);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    fn write(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn file(dir: &TempDir, content: impl AsRef<[u8]>) -> Vec<AuthorityFile> {
        let path = write(dir, "ca.pem", content);
        let mut all = Found::default();
        all.add("psc", "[psc]", &path);
        all.add("acme", "[acme]", &path);
        all.0
    }

    fn at(day: i64) -> OffsetDateTime {
        START + Duration::days(day)
    }

    #[test]
    fn each_authority_of_a_file_is_an_entry_with_its_end() {
        let dir = TempDir::new().unwrap();
        let pem = [authority("A", 0, 100), authority("B", 0, 1_000)].map(|one| one.pem());
        let files = file(&dir, pem.concat());
        let entries = examine(&files, at(1));
        let ids: Vec<&str> = entries
            .iter()
            .map(|entry| entry.place.id.as_str())
            .collect();
        assert_eq!(ids, ["authority:psc", "authority:psc.2"]);
        assert_eq!(entries[0].place.user, "[psc], [acme]", "one file, once");
        assert_eq!(entries[0].severity(), None);

        let late = examine(&files, at(41));
        assert_eq!(late[0].severity(), Some(Severity::Warning));
        assert_eq!(late[1].severity(), None);
        let remedy = late[0].findings[0].remedy(Role::Authority);
        assert!(remedy.contains("redémarrer le service"), "{remedy}");
    }

    #[test]
    fn the_end_of_an_authority_stops_peers_and_nobody_else() {
        let dir = TempDir::new().unwrap();
        let path = write(&dir, "a.pem", authority("A", 0, 100).pem());
        let of = |user: &str| {
            let mut all = Found::default();
            all.add("a", user, &path);
            all.0
        };
        let (dated, other) = (of(TRUST), of("[psc]"));
        let severity = |files: &[AuthorityFile], day| examine(files, at(day))[0].severity();
        assert_eq!(severity(&dated, 90), Some(Severity::Critical));
        assert_eq!(severity(&other, 90), Some(Severity::Warning));
        let over = |files: &[AuthorityFile]| examine(files, at(101))[0].findings.clone();
        assert!(matches!(over(&dated)[..], [Finding::Expired(_)]));
        let ended = over(&other);
        assert!(matches!(ended[..], [Finding::AuthorityEnded(_)]));
        assert_eq!(ended[0].severity(), Severity::Warning);
    }

    #[test]
    fn one_that_was_renewed_under_its_name_is_not_missed() {
        let dir = TempDir::new().unwrap();
        let two = |from| [authority("A", 0, 100), authority("A", from, 1_000)].map(|one| one.pem());
        let found = |from| examine(&file(&dir, two(from).concat()), at(101));
        assert!(found(50)[0].is_superseded && found(50)[0].findings.is_empty());
        let early = found(150);
        assert_eq!(early[0].findings.len(), 1, "the new one is not valid yet");
        assert_eq!(early[1].findings, [], "and lies there in good time");

        // In a file of its own, as IGC Santé publishes it.
        let old = write(&dir, "old.cer", authority("A", 0, 100).der());
        let new = write(&dir, "new.cer", authority("A", 50, 1_000).der());
        let mut all = Found::default();
        all.add("trust", TRUST, &old);
        all.add("trust-2", TRUST, &new);
        assert_eq!(examine(&all.0, at(101))[0].findings, []);
        // Who has the old one alone misses it.
        all.add("psc", "[psc]", &old);
        assert_eq!(examine(&all.0, at(101))[0].findings.len(), 1);
    }

    #[test]
    fn der_is_read_a_bundle_is_left_out_and_what_is_neither_is_said() {
        let dir = TempDir::new().unwrap();
        let one = authority("A", 0, 100);
        let der = file(&dir, one.der());
        assert_eq!(examine(&der, at(1)).len(), 1);
        assert_eq!(certificates(&der), std::slice::from_ref(one.der()));
        let bundle = file(&dir, one.pem().repeat(MAX_AUTHORITIES + 1));
        assert_eq!(examine(&bundle, at(101)).len(), 0);
        let unreadable = examine(&file(&dir, "nothing"), at(1));
        assert!(matches!(
            unreadable[0].findings[..],
            [Finding::Unreadable { .. }]
        ));
    }
}
