//! Certificates that others present to the gateway: what was seen, by whom, when last.
//!
//! One small file each below `data_dir/presented`, replaced in one step, so that a command which fetches
//! and the service write side by side; at most [`MAX_FILES`], those seen longest ago go. Only what passed
//! verification in a handshake is noted, after the proof that the other side has the key: nobody else
//! fills the folder.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::facts::{Facts, hex};
use super::finding::Finding;
use super::inventory::Judges;
use crate::keys::files;
use crate::trust::{Standing, Trust, is_issued_by};

/// Files kept.
pub const MAX_FILES: usize = 2_000;
/// Bytes of a certificate that is kept.
const MAX_CERTIFICATE: usize = 64 << 10;
/// A certificate that comes again is noted once in this time, seconds.
const AGAIN_AFTER: i64 = 3_600;
/// What waits to be written; beyond, it is left out until it comes again.
const QUEUE: usize = 256;
/// Days before its end from which a certificate that the gateway depends on is spoken of.
const SOON_DAYS: i64 = 15;
/// Days after which a party that was not seen again is no longer one that the gateway depends on.
const RECENT_DAYS: i64 = 30;
/// Certificates remembered in memory as noted.
const REMEMBERED: usize = 4_096;
/// Issuers remembered in memory of handshakes that have not ended.
const HANDSHAKES: usize = 64;

/// Who presents a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A DRIMbox that calls this one.
    Caller,
    /// A DRIMbox that this one calls.
    Called,
    /// Pro Santé Connect.
    Psc,
    /// The DMP.
    Dmp,
    /// Who signed the white list in use.
    WhiteListSigner,
}

impl By {
    /// The name in commands, metrics and tables.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Caller => "PEER_CALLER",
            Self::Called => "PEER_CALLED",
            Self::Psc => "PSC",
            Self::Dmp => "DMP",
            Self::WhiteListSigner => "WHITE_LIST_SIGNER",
        }
    }

    /// What stops when it expires or is revoked, a French sentence; `None` where that is the other side's affair.
    #[must_use]
    pub fn effect(self) -> Option<&'static str> {
        match self {
            Self::Caller | Self::Called => None,
            Self::Psc => Some(
                "la passerelle ne fera plus confiance à Pro Santé Connect : les professionnels ne pourront plus se \
                 connecter, et les autres DRIMbox n'auront plus d'images",
            ),
            Self::Dmp => Some(
                "la passerelle ne fera plus confiance au DMP : son alimentation s'arrête pour toutes les structures",
            ),
            Self::WhiteListSigner => Some(
                "une liste blanche signée avec ce certificat ne sera plus acceptée ; quand celle en vigueur sera trop \
                 ancienne, aucune autre DRIMbox ne le sera plus",
            ),
        }
    }

    /// For people, in French.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Caller => "DRIMbox qui appelle celle-ci",
            Self::Called => "DRIMbox appelée",
            Self::Psc => "Pro Santé Connect",
            Self::Dmp => "DMP",
            Self::WhiteListSigner => "signataire de la liste blanche",
        }
    }
}

/// A certificate that somebody presented.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Who.
    pub by: By,
    /// What it says.
    pub facts: Facts,
    /// First time it was seen.
    pub first_seen: OffsetDateTime,
    /// Last time, to the hour.
    pub last_seen: OffsetDateTime,
    /// How it stands with its authority: those of IGC Santé as `[trust]` has them, for Pro Santé Connect the one that
    /// it presented; `None` when that is not asked.
    pub standing: Option<Standing>,
}

impl Presented {
    /// The name it goes by: its CN, or its subject.
    #[must_use]
    pub fn name(&self) -> &str {
        let facts = &self.facts;
        facts.common_name.as_deref().unwrap_or(&facts.subject)
    }

    /// What of it may stop this gateway at `now`. What other DRIMboxes present stops nobody but them.
    #[must_use]
    pub fn findings(&self, now: OffsetDateTime) -> Vec<Finding> {
        let is_in_use = match self.by {
            By::Caller | By::Called => false,
            By::Psc | By::Dmp => (now - self.last_seen).whole_days() < RECENT_DAYS,
            By::WhiteListSigner => true,
        };
        let mut findings = Vec::new();
        if !is_in_use {
            return findings;
        }
        if self.standing == Some(Standing::Revoked) {
            findings.push(Finding::Revoked);
        }
        let days = self.facts.days_left(now);
        if now > self.facts.not_after {
            findings.push(Finding::Expired(self.facts.not_after));
        } else if days < SOON_DAYS {
            // Nobody here can renew it.
            let urgent = false;
            findings.push(Finding::Expiring { days, urgent });
        }
        findings
    }
}

/// The folder below the data folder.
#[must_use]
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("presented")
}

/// What is kept, and who signed the white list in use; the latest seen first. Reads files: blocks.
#[must_use]
pub fn all(folder: &Path, judges: &Judges, now: OffsetDateTime) -> Vec<Presented> {
    let trust = judges.trust.as_ref();
    let standing = |by: By, chain: &[CertificateDer<'_>]| {
        let of_igc = || Some(trust?.standing(chain.first()?, now));
        let of_web = || judges.by_list(chain, now);
        match by {
            By::Caller | By::Called | By::WhiteListSigner => of_igc(),
            By::Psc => of_web(),
            // Of IGC Santé, unless `[[dmp]]` names another authority.
            By::Dmp => of_igc()
                .filter(|standing| !matches!(standing, Standing::Refused(_)))
                .or_else(of_web),
        }
    };
    let mut all: Vec<Presented> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(2 * MAX_FILES)
        .filter_map(|entry| Kept::read(&entry.path())?.presented(&standing))
        .collect();
    if let Some(status) = trust.and_then(Trust::list_status)
        && let Ok(facts) = Facts::of(&status.list.signer_certificate)
    {
        let confirmed = i64::try_from(status.confirmed_at).unwrap_or(i64::MAX);
        all.push(Presented {
            by: By::WhiteListSigner,
            facts,
            first_seen: status.list.signing_time,
            last_seen: moment(confirmed).unwrap_or(status.list.signing_time),
            standing: standing(
                By::WhiteListSigner,
                std::slice::from_ref(&status.list.signer_certificate),
            ),
        });
    }
    all.sort_by(|a, b| (b.last_seen, a.by, a.name()).cmp(&(a.last_seen, b.by, b.name())));
    all
}

/// The chains of the certificates whose revocation lists are those that they name, at most [`MAX_FILES`]. Reads files:
/// blocks.
#[must_use]
pub fn chains(folder: &Path) -> Vec<Vec<CertificateDer<'static>>> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files
        .take(2 * MAX_FILES)
        .filter_map(|entry| Kept::read(&entry.path()))
        .filter(|kept| matches!(kept.by, By::Psc | By::Dmp))
        .filter_map(|kept| kept.chain())
        .collect()
}

fn moment(seconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

/// What a file holds.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    by: By,
    /// DER, base64.
    certificate: String,
    /// That of its issuer, when it was presented too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// Unix seconds.
    first_seen: i64,
    last_seen: i64,
}

impl Kept {
    fn read(path: &Path) -> Option<Self> {
        if path.extension()? != "json" {
            return None;
        }
        serde_json::from_slice(&files::read(path).ok()?).ok()
    }

    fn presented(
        &self,
        standing: &impl Fn(By, &[CertificateDer<'_>]) -> Option<Standing>,
    ) -> Option<Presented> {
        let chain = self.chain()?;
        Some(Presented {
            by: self.by,
            facts: Facts::of(chain.first()?).ok()?,
            standing: standing(self.by, &chain),
            first_seen: moment(self.first_seen)?,
            last_seen: moment(self.last_seen)?,
        })
    }

    /// The certificate, and that of its issuer when it is known.
    fn chain(&self) -> Option<Vec<CertificateDer<'static>>> {
        let decoded = |text: &String| STANDARD.decode(text).ok().map(CertificateDer::from);
        let issuer = self.issuer.as_ref().and_then(decoded);
        Some(
            std::iter::once(decoded(&self.certificate)?)
                .chain(issuer)
                .collect(),
        )
    }
}

/// Notes certificates. Cheap to clone; what was handed over is on the disk when the last clone is gone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

struct Inner {
    noted: Mutex<HashMap<(By, [u8; 32]), i64>>,
    /// The issuers of certificates in handshakes, until these are noted.
    issuers: Mutex<HashMap<[u8; 32], CertificateDer<'static>>>,
    queue: Option<SyncSender<Seen>>,
    writer: Option<JoinHandle<()>>,
}

struct Seen {
    by: By,
    certificate: CertificateDer<'static>,
    issuer: Option<CertificateDer<'static>>,
    at: i64,
}

impl Recorder {
    /// Into a folder, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(folder: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let (queue, seen) = sync_channel(QUEUE);
        let folder = folder.to_owned();
        let writer = std::thread::Builder::new()
            .name("presented".into())
            .spawn(move || write_all(&folder, &seen))?;
        Ok(Self(Arc::new(Inner {
            noted: Mutex::default(),
            issuers: Mutex::default(),
            queue: Some(queue),
            writer: Some(writer),
        })))
    }

    /// Notes that somebody presented a certificate at `at`. Does not wait for the disk.
    pub fn note(&self, by: By, certificate: &CertificateDer<'_>, at: OffsetDateTime) {
        if certificate.len() > MAX_CERTIFICATE {
            return;
        }
        let at = at.unix_timestamp();
        let print: [u8; 32] = Sha256::digest(certificate).into();
        {
            let mut noted = self.0.noted.lock();
            let before = noted.get(&(by, print)).copied();
            if before.is_some_and(|before| at.saturating_sub(before) < AGAIN_AFTER) {
                return;
            }
            if noted.len() >= REMEMBERED {
                noted.clear();
            }
            noted.insert((by, print), at);
        }
        let certificate = certificate.clone().into_owned();
        let seen = Seen {
            by,
            certificate,
            issuer: self.0.issuers.lock().remove(&print),
            at,
        };
        if let Some(queue) = &self.0.queue
            && queue.try_send(seen).is_err()
        {
            self.0.noted.lock().remove(&(by, print));
        }
    }

    /// Remembers, of what comes with a certificate in a handshake, its issuer.
    fn meet(&self, certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) {
        let fits = |other: &&CertificateDer<'_>| {
            other.len() <= MAX_CERTIFICATE && is_issued_by(certificate, other)
        };
        if let Some(issuer) = others.iter().find(fits) {
            let mut issuers = self.0.issuers.lock();
            if issuers.len() >= HANDSHAKES {
                issuers.clear();
            }
            let print = Sha256::digest(certificate).into();
            issuers.insert(print, issuer.clone().into_owned());
        }
    }

    /// A verifier of clients that notes those it accepts.
    #[must_use]
    pub fn clients(
        &self,
        inner: Arc<dyn ClientCertVerifier>,
        by: By,
    ) -> Arc<dyn ClientCertVerifier> {
        let recorder = self.clone();
        Arc::new(Watched {
            inner,
            by,
            recorder,
        })
    }

    /// A verifier of servers that notes those it accepts.
    #[must_use]
    pub fn servers(
        &self,
        inner: Arc<dyn ServerCertVerifier>,
        by: By,
    ) -> Arc<dyn ServerCertVerifier> {
        let recorder = self.clone();
        Arc::new(Watched {
            inner,
            by,
            recorder,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write_all(folder: &Path, queue: &Receiver<Seen>) {
    for seen in queue {
        if let Err(error) = write(folder, &seen) {
            tracing::warn!(
                %error,
                folder = %folder.display(),
                "a certificate that was presented cannot be noted: check that the service may write there"
            );
        }
    }
}

fn write(folder: &Path, seen: &Seen) -> io::Result<()> {
    let Ok(facts) = Facts::of(&seen.certificate) else {
        return Ok(());
    };
    let name = facts.common_name.as_deref().unwrap_or(&facts.subject);
    // One file for each party: a renewed certificate takes the place of the old one.
    let digest = Sha256::digest(format!("{}|{}", seen.by.code(), name.to_lowercase()));
    let file = folder.join(hex(&digest)).with_extension("json");
    let certificate = STANDARD.encode(&seen.certificate);
    let before = Kept::read(&file).filter(|kept| kept.certificate == certificate);
    let issuer = seen.issuer.as_ref().map(|issuer| STANDARD.encode(issuer));
    let kept = Kept {
        by: seen.by,
        certificate,
        first_seen: before.as_ref().map_or(seen.at, |kept| kept.first_seen),
        issuer: issuer.or(before.and_then(|kept| kept.issuer)),
        last_seen: seen.at,
    };
    if !file.exists() {
        make_room(folder)?;
    }
    files::write_new(&file, &serde_json::to_vec(&kept)?)
}

fn make_room(folder: &Path) -> io::Result<()> {
    let mut others: Vec<_> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    others.sort();
    let too_many = (others.len() + 1).saturating_sub(MAX_FILES);
    for (_, path) in others.iter().take(too_many) {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// A verifier that notes what it accepts.
#[derive(Debug)]
struct Watched<V: ?Sized> {
    by: By,
    recorder: Recorder,
    inner: Arc<V>,
}

impl<V: ?Sized> Watched<V> {
    /// The signature is the proof that the other side has the key of its certificate.
    fn note(
        &self,
        certificate: &CertificateDer<'_>,
        proof: Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        if proof.is_ok() {
            let now = OffsetDateTime::now_utc();
            self.recorder.note(self.by, certificate, now);
        }
        proof
    }
}

impl ClientCertVerifier for Watched<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.inner
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(cert, self.inner.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(cert, self.inner.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Watched<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        if matches!(self.by, By::Psc | By::Dmp) {
            self.recorder.meet(end_entity, intermediates);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(cert, self.inner.verify_tls12_signature(message, cert, dss))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note(cert, self.inner.verify_tls13_signature(message, cert, dss))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use time::Duration;

    use super::*;
    use crate::certs::testdata::{Profile, START, certificate};

    fn of(name: &str) -> CertificateDer<'static> {
        let profile = Profile {
            common_name: name,
            ..Profile::default()
        };
        certificate(&profile).0
    }

    #[test]
    fn what_others_present_is_remembered_over_a_restart_with_its_first_and_last_time() {
        let folder = tempfile::tempdir().unwrap();
        let (peer, renewed) = (of("db.autre.fr"), of("db.autre.fr"));
        let recorder = Recorder::new(folder.path()).unwrap();
        recorder.note(By::Caller, &peer, START);
        recorder.note(By::Caller, &peer, START + Duration::minutes(1));
        recorder.note(By::Psc, &of("auth.psc.fr"), START);
        drop(recorder);
        let after = Recorder::new(folder.path()).unwrap();
        after.note(By::Caller, &peer, START + Duration::DAY);
        drop(after);
        let seen = all(folder.path(), &Judges::default(), START);
        let names: Vec<&str> = seen.iter().map(Presented::name).collect();
        assert_eq!(names, ["db.autre.fr", "auth.psc.fr"], "the latest first");
        assert_eq!(
            (seen[0].first_seen, seen[0].last_seen),
            (START, START + Duration::DAY)
        );

        let again = Recorder::new(folder.path()).unwrap();
        again.note(By::Caller, &renewed, START + Duration::DAY * 2);
        drop(again);
        let seen = all(folder.path(), &Judges::default(), START);
        assert_eq!(seen.len(), 2, "one for each party");
        assert_eq!(seen[0].facts, Facts::of(&renewed).unwrap());
        assert_eq!(seen[0].first_seen, START + Duration::DAY * 2);
    }

    #[test]
    fn the_folder_keeps_a_bounded_number_and_loses_what_was_seen_longest_ago() {
        let folder = tempfile::tempdir().unwrap();
        let day = std::time::Duration::from_secs(86_400);
        let start = std::time::SystemTime::UNIX_EPOCH + day;
        for number in 0..MAX_FILES {
            let file = fs::File::create(folder.path().join(format!("{number:064}.json"))).unwrap();
            file.set_modified(start + day * u32::try_from(number).unwrap())
                .unwrap();
        }
        let recorder = Recorder::new(folder.path()).unwrap();
        recorder.note(By::Called, &of("db.autre.fr"), START);
        drop(recorder);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), MAX_FILES);
        assert!(!folder.path().join(format!("{:064}.json", 0)).exists());
        assert_eq!(all(folder.path(), &Judges::default(), START).len(), 1);
    }

    #[test]
    fn a_damaged_file_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.json"), "{").unwrap();
        fs::write(folder.path().join("b.json"), [0xff; 10]).unwrap();
        assert_eq!(all(folder.path(), &Judges::default(), START), []);
    }

    #[tokio::test]
    async fn of_pro_sante_connect_the_issuer_is_kept_with_what_it_presented() {
        use rustls::client::WebPkiServerVerifier;
        use rustls::{ClientConfig, RootCertStore, ServerConfig};
        use rustls_pki_types::PrivateKeyDer;

        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let (name, now) = ("auth.psc.fr", OffsetDateTime::now_utc());
        let profile = Profile {
            common_name: name,
            names: &[name],
            days: 7_000,
            ..Profile::default()
        };
        let chain = crate::certs::testdata::chain_for(&profile, &key);
        let provider = crate::net::tls::provider();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(chain[1].clone()).unwrap();
        let inner =
            WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let recorder = Recorder::new(folder.path()).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(recorder.servers(inner.build().unwrap(), By::Psc))
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 << 10);
        let host = ServerName::try_from(name).unwrap();
        tokio::try_join!(
            tokio_rustls::TlsConnector::from(Arc::new(client)).connect(host, near),
            tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(far),
        )
        .unwrap();
        drop(recorder);
        assert_eq!(chains(folder.path()), std::slice::from_ref(&chain));

        // Later it is noted again without: the issuer stays.
        let later = Recorder::new(folder.path()).unwrap();
        later.note(By::Psc, &chain[0], now + Duration::DAY);
        later.note(By::Caller, &chain[0], now);
        drop(later);
        assert_eq!(chains(folder.path()), [chain], "callers are of IGC Santé");
    }

    #[test]
    fn of_others_than_igc_sante_revocation_is_asked_of_the_list_that_a_certificate_names() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        for by in [By::Caller, By::Called, By::Psc, By::Dmp] {
            recorder.note(by, &of("db.autre.fr"), START);
        }
        drop(recorder);
        let judges = Judges {
            lists: Some(crate::trust::NamedLists::new(
                folder.path().join("lists"),
                None,
            )),
            ..Judges::default()
        };
        for one in all(folder.path(), &judges, START) {
            let asked = matches!(one.standing, Some(Standing::Unknown(_)));
            assert_eq!(asked, matches!(one.by, By::Psc | By::Dmp), "{one:?}");
        }
    }
}
