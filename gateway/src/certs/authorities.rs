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
use crate::config::{Config, Gate, PatientGate, ProxyConfig, ServerIdentity};
use crate::keys::files;

/// Authorities of a file. One with more is the bundle of a system, kept by its updates: on which of them the centre
/// depends cannot be told.
const MAX_AUTHORITIES: usize = 32;

/// A file of authorities, and who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFile {
    /// How commands name it: `authority:trust`, `authority:pacs:scanner`…
    pub id: String,
    /// The parts of the configuration that name it, for people.
    pub users: Vec<String>,
    /// PEM or DER.
    pub file: PathBuf,
}

/// The files of authorities that a configuration names, each once.
#[must_use]
pub fn authority_files(config: &Config) -> Vec<AuthorityFile> {
    let mut all = Found::default();
    if let Some(trust) = &config.trust {
        for (rank, file) in trust.authority_files.iter().enumerate() {
            all.add(&numbered("trust", '-', rank), "[trust]", file);
        }
        all.add(
            "white-list",
            "[trust.white_list]",
            &trust.white_list.ca_file,
        );
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
            return;
        }
        self.0.push(AuthorityFile {
            id: format!("authority:{id}"),
            users: vec![user.to_owned()],
            file: file.to_owned(),
        });
    }
}

/// Every authority of these files at `now`: one entry each. Reads files: blocks.
#[must_use]
pub fn examine(files: &[AuthorityFile], now: OffsetDateTime) -> Vec<Entry> {
    files.iter().flat_map(|file| entries(file, now)).collect()
}

fn entries(file: &AuthorityFile, now: OffsetDateTime) -> Vec<Entry> {
    let found = match read(&file.file) {
        Ok(found) => found,
        Err(why) => {
            let unreadable = Finding::Unreadable {
                file: file.file.clone(),
                why,
            };
            return vec![entry(file, 0, None, vec![unreadable])];
        }
    };
    if found.len() > MAX_AUTHORITIES {
        return Vec::new();
    }
    let end = |facts: &Facts| facts.not_after;
    let entries = found.iter().enumerate().map(|(rank, facts)| {
        // One that was renewed under the same name is no longer missed.
        let is_renewed = found.iter().any(|other| {
            other.subject == facts.subject && end(other) > end(facts) && other.not_before <= now
        });
        let finding = dates(facts, Role::Authority, now).filter(|_| !is_renewed);
        entry(
            file,
            rank,
            Some(facts.clone()),
            finding.into_iter().collect(),
        )
    });
    entries.collect()
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

/// What the certificates of a file say; those that cannot be read are left out, unless none can.
fn read(file: &Path) -> Result<Vec<Facts>, String> {
    let content = files::read(file).map_err(|error| error.to_string())?;
    let is_der = content.first() == Some(&0x30);
    let certificates: Vec<CertificateDer<'static>> = match is_der {
        true => vec![CertificateDer::from(content.to_vec())],
        false => CertificateDer::pem_slice_iter(&content)
            .filter_map(Result::ok)
            .collect(),
    };
    let facts: Vec<Facts> = certificates
        .iter()
        .filter_map(|certificate| Facts::of(certificate).ok())
        .collect();
    match facts.is_empty() {
        true => Err("ne contient pas de certificat lisible".to_owned()),
        false => Ok(facts),
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

    fn file(dir: &TempDir, content: impl AsRef<[u8]>) -> Vec<AuthorityFile> {
        let path = dir.path().join("ca.pem");
        fs::write(&path, content).unwrap();
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
        let over = examine(&files, at(101));
        assert!(matches!(over[0].findings[..], [Finding::Expired(_)]));
        assert_eq!(over[0].severity(), Some(Severity::Critical));
    }

    #[test]
    fn one_that_was_renewed_under_its_name_is_not_missed() {
        let dir = TempDir::new().unwrap();
        let two = |from| [authority("A", 0, 100), authority("A", from, 1_000)].map(|one| one.pem());
        let found = |from| examine(&file(&dir, two(from).concat()), at(101));
        assert_eq!(found(50)[0].findings, []);
        let early = found(150);
        assert!(
            matches!(early[0].findings[..], [Finding::Expired(_)]),
            "the new one is not valid yet"
        );
    }

    #[test]
    fn der_is_read_a_bundle_is_left_out_and_what_is_neither_is_said() {
        let dir = TempDir::new().unwrap();
        let one = authority("A", 0, 100);
        assert_eq!(examine(&file(&dir, one.der()), at(1)).len(), 1);
        let bundle = one.pem().repeat(MAX_AUTHORITIES + 1);
        assert_eq!(examine(&file(&dir, bundle), at(101)).len(), 0);
        let unreadable = examine(&file(&dir, "nothing"), at(1));
        assert!(matches!(
            unreadable[0].findings[..],
            [Finding::Unreadable { .. }]
        ));
    }
}
