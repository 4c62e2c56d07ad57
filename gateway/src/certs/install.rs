//! A new certificate takes the place of the old one: checked, tried, swapped, and back again.
//!
//! Beside the files of a place stand `.nouvelle` (the key of a request), `.arrivant` (what is being
//! installed) and `.ancien` (what was replaced). The swap is two renames, the key first: after a crash
//! between them [`recover`] makes the second. At no time is the pair in use lost.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::OffsetDateTime;

use super::container::{Content, key_to_pem, to_pem};
use super::facts::Facts;
use super::files;
use super::inventory::{Finding, Severity, dates};
use super::place::{Place, Role};
use super::request::pending_key;
use crate::config::ServerIdentity;
use crate::net;

/// Why a certificate is refused. The texts are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No key at hand is that of a certificate of the file.
    #[error(
        "aucune des clés connues (demande en cours, clé en service, clé du fichier) n'est celle de ce \
         certificat : importer le certificat obtenu avec la demande faite sur cette machine"
    )]
    NoKey,
    /// For another name.
    #[error("le certificat est au nom de {found}, et non de {wanted}")]
    WrongHost {
        /// Its name.
        found: String,
        /// The name of the place.
        wanted: String,
    },
    /// For several names or a wildcard.
    #[error("le certificat porte plusieurs noms ou un joker : en demander un pour ce seul nom")]
    SeveralNames,
    /// Given to another structure than the one it replaces.
    #[error(
        "le certificat est celui d'une autre structure ({found}, et non {wanted}) ; si c'est voulu, \
         ajouter --other-structure"
    )]
    OtherStructure {
        /// Its structure.
        found: String,
        /// That of the certificate in use.
        wanted: String,
    },
    /// From the test branch in production, or the reverse.
    #[error(
        "le certificat vient de « {found} », celui en service de « {wanted} » : ne pas mêler test et production"
    )]
    OtherBranch {
        /// Its issuer.
        found: String,
        /// The issuer of the one in use.
        wanted: String,
    },
    /// Not usable for what the place needs.
    #[error("le certificat ne peut pas servir à cet usage : il est limité à {0}")]
    WrongUsage(String),
    /// Not valid at this time.
    #[error("le certificat n'est pas utilisable : {0}")]
    Dates(String),
    /// Ends before the one in use.
    #[error("le certificat expire le {found}, avant celui en service ({wanted})")]
    EndsEarlier {
        /// Its end.
        found: time::Date,
        /// End of the one in use.
        wanted: time::Date,
    },
    /// Its issuers in the file do not belong to it.
    #[error("les certificats qui l'accompagnent ne sont pas ses émetteurs, ou expirent avant lui")]
    Chain,
    /// In use at another place already.
    #[error("ce certificat, ou sa clé, sert déjà à {0} : en demander un par usage")]
    InUse(String),
    /// The trial handshake failed.
    #[error("l'essai de connexion avec ce certificat a échoué : {0}")]
    Trial(String),
    /// Nothing to go back to.
    #[error("aucun ancien certificat à reprendre : {0} n'existe pas")]
    NothingBefore(PathBuf),
    /// A file cannot be written or read.
    #[error("{path} : {source} ; vérifier les droits du compte du service")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// What may differ from the certificate in use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allowed {
    /// Another structure.
    pub other_structure: bool,
}

/// A certificate that was checked and tried, not yet in use.
#[derive(Debug)]
pub struct Candidate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    /// What it says.
    pub facts: Facts,
}

/// Checks what a file holds for a place, and tries it. `others` are the other places. Reads files:
/// blocks.
///
/// # Errors
/// [`InstallError`]: exactly what does not fit.
pub fn check(
    place: &Place,
    others: &[Place],
    content: Content,
    allowed: Allowed,
    now: OffsetDateTime,
) -> Result<Candidate, InstallError> {
    let identity = &place.identity;
    let mut keys = content.keys;
    keys.extend(key_of(&pending_key(&identity.key_file)));
    keys.extend(key_of(&identity.key_file));
    let (leaf, key) = content
        .certificates
        .iter()
        .find_map(|leaf| {
            let fits = |key: &&PrivateKeyDer<'static>| belongs(leaf, key);
            Some((leaf.clone(), keys.iter().find(fits)?.clone_key()))
        })
        .ok_or(InstallError::NoKey)?;
    let facts = Facts::of(&leaf).map_err(|_| InstallError::NoKey)?;
    let chain = ordered(leaf, &facts, &content.certificates);
    judge(place, &facts, &chain, now)?;
    if let Some(before) = current(identity) {
        compare(&facts, &before, allowed)?;
    }
    for other in others.iter().filter(|other| other.id != place.id) {
        let same_certificate =
            current(&other.identity).is_some_and(|f| f.fingerprint == facts.fingerprint);
        let same_key = key_of(&other.identity.key_file)
            .is_some_and(|other| other.secret_der() == key.secret_der());
        if same_certificate || same_key {
            return Err(InstallError::InUse(other.id.clone()));
        }
    }
    trial(&chain, &key, place.host.as_deref()).map_err(InstallError::Trial)?;
    Ok(Candidate { chain, key, facts })
}

/// Puts a candidate in the place of what is there, which is kept. Durable when it returns.
///
/// # Errors
/// [`InstallError::File`]; what was in use stays in use, also after a crash and [`recover`].
pub fn swap(place: &Place, candidate: &Candidate) -> Result<(), InstallError> {
    let (certificate, key) = (&place.identity.certificate_file, &place.identity.key_file);
    let write = |path: &Path, content: &[u8]| {
        files::write_new(path, content).map_err(|source| failed(path, source))
    };
    write(&arriving(certificate), to_pem(&candidate.chain).as_bytes())?;
    write(&arriving(key), key_to_pem(&candidate.key).as_bytes())?;
    for file in [certificate, key] {
        keep(file)?;
    }
    finish(certificate, key)?;
    let pending = pending_key(key);
    if key_of(&pending).is_some_and(|pending| pending.secret_der() == candidate.key.secret_der()) {
        std::fs::remove_file(&pending).map_err(|source| failed(&pending, source))?;
    }
    Ok(())
}

/// Goes back to what was replaced last; what is in use becomes what can be gone back to.
///
/// # Errors
/// [`InstallError`].
pub fn rollback(place: &Place, now: OffsetDateTime) -> Result<Facts, InstallError> {
    let (certificate, key) = (&place.identity.certificate_file, &place.identity.key_file);
    let old = ServerIdentity {
        certificate_file: previous(certificate),
        key_file: previous(key),
    };
    let read = |path: &Path| {
        std::fs::read(path)
            .map(zeroize::Zeroizing::new)
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => InstallError::NothingBefore(path.to_owned()),
                _ => failed(path, source),
            })
    };
    let (old_certificate, old_key) = (read(&old.certificate_file)?, read(&old.key_file)?);
    let facts = current(&old).ok_or(InstallError::NoKey)?;
    if let Some(Finding::Expired(at)) = dates(&facts, place.role, now) {
        return Err(InstallError::Dates(Finding::Expired(at).text()));
    }
    let write = |path: &Path, content: &[u8]| {
        files::write_new(path, content).map_err(|source| failed(path, source))
    };
    write(&arriving(certificate), &old_certificate)?;
    write(&arriving(key), &old_key)?;
    for file in [certificate, key] {
        keep(file)?;
    }
    finish(certificate, key)?;
    Ok(facts)
}

/// Finishes a swap that a crash interrupted between its two renames; undoes one that had not begun.
/// For the start of the service, before its certificates are read.
///
/// # Errors
/// [`InstallError::File`].
pub fn recover(place: &Place) -> Result<(), InstallError> {
    let (certificate, key) = (&place.identity.certificate_file, &place.identity.key_file);
    let arriving_certificate = arriving(certificate);
    if !arriving_certificate.exists() {
        return Ok(());
    }
    let key_waits = arriving(key).exists();
    if key_waits {
        // Nothing was renamed: the old pair is whole.
        for file in [arriving(key), arriving_certificate] {
            std::fs::remove_file(&file).map_err(|source| failed(&file, source))?;
        }
        return Ok(());
    }
    files::rename(&arriving_certificate, certificate).map_err(|source| failed(certificate, source))
}

fn finish(certificate: &Path, key: &Path) -> Result<(), InstallError> {
    for file in [key, certificate] {
        files::rename(&arriving(file), file).map_err(|source| failed(file, source))?;
    }
    Ok(())
}

/// Keeps a copy of a file as what can be gone back to.
fn keep(file: &Path) -> Result<(), InstallError> {
    match std::fs::read(file).map(zeroize::Zeroizing::new) {
        Ok(content) => {
            let copy = previous(file);
            files::write_new(&copy, &content).map_err(|source| failed(&copy, source))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(file, error)),
    }
}

fn arriving(file: &Path) -> PathBuf {
    files::beside(file, "arrivant")
}

fn previous(file: &Path) -> PathBuf {
    files::beside(file, "ancien")
}

fn failed(path: &Path, source: io::Error) -> InstallError {
    InstallError::File {
        path: path.to_owned(),
        source,
    }
}

fn key_of(file: &Path) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).ok()
}

fn current(identity: &ServerIdentity) -> Option<Facts> {
    let certificate = CertificateDer::from_pem_file(&identity.certificate_file).ok()?;
    Facts::of(&certificate).ok()
}

fn belongs(leaf: &CertificateDer<'static>, key: &PrivateKeyDer<'static>) -> bool {
    let provider = net::tls::provider();
    CertifiedKey::from_der(vec![leaf.clone()], key.clone_key(), &provider).is_ok()
}

/// The leaf, then its issuers as far as the file has them.
fn ordered(
    leaf: CertificateDer<'static>,
    facts: &Facts,
    all: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let known: Vec<(Facts, &CertificateDer<'static>)> = all
        .iter()
        .filter(|certificate| **certificate != leaf)
        .filter_map(|certificate| Some((Facts::of(certificate).ok()?, certificate)))
        .collect();
    let mut chain = vec![leaf];
    let mut issuer = facts.issuer.clone();
    while chain.len() <= known.len() {
        let found = known
            .iter()
            .find(|(facts, _)| facts.common_name.as_deref() == Some(issuer.as_str()));
        let Some((facts, certificate)) = found else {
            break;
        };
        if chain.contains(certificate) {
            break;
        }
        chain.push((*certificate).clone());
        if facts.issuer == issuer {
            break;
        }
        issuer.clone_from(&facts.issuer);
    }
    chain
}

fn judge(
    place: &Place,
    facts: &Facts,
    chain: &[CertificateDer<'_>],
    now: OffsetDateTime,
) -> Result<(), InstallError> {
    if let Some(host) = &place.host
        && !facts.covers(host)
    {
        let found = facts.dns_names.first().or(facts.common_name.as_ref());
        return Err(InstallError::WrongHost {
            found: found.cloned().unwrap_or_else(|| facts.subject.clone()),
            wanted: host.clone(),
        });
    }
    let one_name = matches!(place.role, Role::ServSsl | Role::Market);
    let several =
        facts.dns_names.len() > 1 || facts.dns_names.iter().any(|name| name.starts_with("*."));
    if one_name && several {
        return Err(InstallError::SeveralNames);
    }
    let wanted = match place.role {
        Role::PacsClient | Role::OrgAuthCliPsc => "clientAuth",
        // What a SERV_SSL certificate carries is not known: one of the two will do.
        _ => "serverAuth",
    };
    let fits = |usage: &String| {
        usage == wanted
            || usage == "anyExtendedKeyUsage"
            || place.role == Role::ServSsl && usage == "clientAuth"
    };
    if !facts.usages.is_empty() && !facts.usages.iter().any(fits) {
        return Err(InstallError::WrongUsage(facts.usages.join(", ")));
    }
    if let Some(finding @ (Finding::Expired(_) | Finding::NotYetValid(_))) =
        dates(facts, place.role, now)
    {
        debug_assert_eq!(finding.severity(), Severity::Critical);
        return Err(InstallError::Dates(finding.text()));
    }
    let ends = chain.iter().skip(1).filter_map(|c| Facts::of(c).ok());
    if ends
        .map(|facts| facts.not_after)
        .any(|end| end < facts.not_after)
    {
        return Err(InstallError::Chain);
    }
    Ok(())
}

fn compare(facts: &Facts, before: &Facts, allowed: Allowed) -> Result<(), InstallError> {
    if facts.is_test() != before.is_test() {
        return Err(InstallError::OtherBranch {
            found: facts.issuer.clone(),
            wanted: before.issuer.clone(),
        });
    }
    if let (Some(found), Some(wanted)) = (facts.structure(), before.structure())
        && found != wanted
        && !allowed.other_structure
    {
        return Err(InstallError::OtherStructure {
            found: found.to_string(),
            wanted: wanted.to_string(),
        });
    }
    if facts.not_after < before.not_after {
        return Err(InstallError::EndsEarlier {
            found: facts.not_after.date(),
            wanted: before.not_after.date(),
        });
    }
    Ok(())
}

/// A handshake with itself, in memory: the key signs, the certificate verifies.
fn trial(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    host: Option<&str>,
) -> Result<(), String> {
    let provider = net::tls::provider();
    let text = |error: rustls::Error| error.to_string();
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_no_client_auth()
        .with_single_cert(chain.to_vec(), key.clone_key())
        .map_err(text)?;
    let leaf = chain.first().cloned().ok_or("chaîne vide")?;
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ThatOne { leaf, provider }))
        .with_no_client_auth();
    let name = host.unwrap_or("essai.invalid").to_owned();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let mut server = ServerConnection::new(Arc::new(server)).map_err(text)?;
    let mut client = ClientConnection::new(Arc::new(client), name).map_err(text)?;
    let io = |error: io::Error| error.to_string();
    // Three flights each way at most.
    for _ in 0..6 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).map_err(io)?;
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            server.read_tls(&mut sent).map_err(io)?;
            server.process_new_packets().map_err(text)?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).map_err(io)?;
        }
        let mut sent = wire.as_slice();
        while !sent.is_empty() {
            client.read_tls(&mut sent).map_err(io)?;
            client.process_new_packets().map_err(text)?;
        }
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err("la négociation ne se termine pas".into())
}

/// Accepts one certificate and no other; who issued it is a matter of the checks before the trial.
#[derive(Debug)]
struct ThatOne {
    leaf: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ThatOne {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.leaf {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("another certificate".into()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
    use tempfile::TempDir;
    use time::Duration;

    use super::*;
    use crate::certs::testdata::{Profile, START, chain_for};

    const HOST: &str = "db.exemple.fr";

    struct Box {
        dir: TempDir,
        place: Place,
    }

    /// A box whose certificate ends after `days`.
    fn a_box(profile: &Profile<'_>) -> Box {
        let dir = TempDir::new().unwrap();
        let place = Place {
            id: "db:scanner".into(),
            role: Role::ServSsl,
            user: "PACS scanner".into(),
            host: Some(HOST.into()),
            identity: ServerIdentity {
                certificate_file: dir.path().join("c.pem"),
                key_file: dir.path().join("k.pem"),
            },
            kept: crate::certs::place::Kept::Files,
        };
        let key = KeyPair::generate().unwrap();
        let chain = chain_for(profile, &key);
        std::fs::write(&place.identity.certificate_file, to_pem(&chain)).unwrap();
        files::write_new(&place.identity.key_file, key.serialize_pem().as_bytes()).unwrap();
        Box { dir, place }
    }

    fn profile() -> Profile<'static> {
        Profile {
            unit: Some("318751275100020"),
            ..Profile::default()
        }
    }

    fn longer() -> Profile<'static> {
        Profile {
            days: 2000,
            ..profile()
        }
    }

    /// A certificate with its key in one file.
    fn content(profile: &Profile<'_>) -> Content {
        let key = KeyPair::generate().unwrap();
        Content {
            certificates: chain_for(profile, &key),
            keys: vec![PrivateKeyDer::try_from(key.serialize_der()).unwrap()],
        }
    }

    fn refusal(of: &Box, profile: &Profile<'_>) -> String {
        let content = content(profile);
        let refused = check(&of.place, &[], content, Allowed::default(), now());
        refused.unwrap_err().to_string()
    }

    fn now() -> OffsetDateTime {
        START + Duration::DAY
    }

    fn in_use(of: &Box) -> Facts {
        current(&of.place.identity).unwrap()
    }

    #[test]
    fn a_certificate_is_installed_for_the_key_of_the_request_and_back() {
        let on = a_box(&profile());
        let before = in_use(&on);
        let subject = crate::certs::request::Subject {
            common_name: HOST.into(),
            ..Default::default()
        };
        let kind = crate::certs::request::KeyKind::P256;
        crate::certs::request::make(&on.place.identity.key_file, &subject, kind, false).unwrap();
        let pending = pending_key(&on.place.identity.key_file);
        let key = KeyPair::from_pem(&std::fs::read_to_string(&pending).unwrap()).unwrap();
        let mut certificates = chain_for(&longer(), &key);
        certificates.reverse();
        let content = Content {
            certificates,
            keys: vec![],
        };
        let candidate = check(&on.place, &[], content, Allowed::default(), now()).unwrap();
        assert_eq!(candidate.chain.len(), 2, "the issuer comes after the leaf");
        swap(&on.place, &candidate).unwrap();
        assert_eq!(in_use(&on).fingerprint, candidate.facts.fingerprint);
        assert!(!pending.exists());
        let mut names: Vec<String> = std::fs::read_dir(on.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["c.pem", "c.pem.ancien", "k.pem", "k.pem.ancien"]);

        rollback(&on.place, now()).unwrap();
        assert_eq!(in_use(&on), before);
        rollback(&on.place, now()).unwrap();
        assert_eq!(in_use(&on).fingerprint, candidate.facts.fingerprint);
    }

    #[test]
    fn each_mismatch_is_said_exactly() {
        let on = a_box(&profile());
        let refused = |change: Profile<'_>, part: &str| {
            let text = refusal(&on, &change);
            assert!(text.contains(part), "{text}");
        };
        refused(
            Profile {
                common_name: "db2.exemple.fr",
                ..longer()
            },
            "au nom de db2.exemple.fr, et non de db.exemple.fr",
        );
        refused(
            Profile {
                names: &[HOST, "b.fr"],
                ..longer()
            },
            "plusieurs noms",
        );
        refused(
            Profile {
                unit: Some("311111111111111"),
                ..longer()
            },
            "autre structure (SIRET 11111111111111",
        );
        refused(
            Profile {
                issuer: "TEST AC IGC-SANTE ELEMENTAIRE ORGANISATIONS",
                ..longer()
            },
            "ne pas mêler test et production",
        );
        refused(
            Profile {
                usages: vec![ExtendedKeyUsagePurpose::EmailProtection],
                ..longer()
            },
            "limité à emailProtection",
        );
        refused(
            Profile {
                days: 1000,
                ..profile()
            },
            "avant celui en service",
        );
        refused(
            Profile {
                days: 0,
                ..profile()
            },
            "expiré",
        );
        let stranger = Content {
            keys: vec![],
            ..content(&longer())
        };
        let refused = check(&on.place, &[], stranger, Allowed::default(), now());
        assert!(matches!(refused, Err(InstallError::NoKey)));
        assert!(matches!(
            rollback(&on.place, now()),
            Err(InstallError::NothingBefore(_))
        ));
    }

    #[test]
    fn a_key_or_certificate_of_another_place_is_refused() {
        let on = a_box(&profile());
        let other = a_box(&profile());
        let key = KeyPair::generate().unwrap();
        let certificates = chain_for(&longer(), &key);
        let keys = vec![PrivateKeyDer::try_from(key.serialize_der()).unwrap()];
        files::write_new(
            &other.place.identity.key_file,
            key.serialize_pem().as_bytes(),
        )
        .unwrap();
        let second = Place {
            id: "db:irm".into(),
            ..other.place.clone()
        };
        let content = Content { certificates, keys };
        let refused = check(&on.place, &[second], content, Allowed::default(), now());
        assert!(matches!(refused, Err(InstallError::InUse(id)) if id == "db:irm"));
    }

    #[test]
    fn a_swap_is_whole_after_a_crash_at_any_step() {
        let profile = profile();
        // What is on disk at each step of a swap, and who is in use after recovery.
        for (key_renamed, certificate_renamed, new_in_use) in [
            (false, false, false),
            (true, false, true),
            (true, true, true),
        ] {
            let on = a_box(&profile);
            let before = in_use(&on);
            let content = content(&longer());
            let candidate = check(&on.place, &[], content, Allowed::default(), now()).unwrap();
            let identity = &on.place.identity;
            let (certificate, key) = (&identity.certificate_file, &identity.key_file);
            files::write_new(&arriving(certificate), to_pem(&candidate.chain).as_bytes()).unwrap();
            files::write_new(&arriving(key), key_to_pem(&candidate.key).as_bytes()).unwrap();
            if key_renamed {
                files::rename(&arriving(key), key).unwrap();
            }
            if certificate_renamed {
                files::rename(&arriving(certificate), certificate).unwrap();
            }
            recover(&on.place).unwrap();
            let expected = if new_in_use {
                &candidate.facts
            } else {
                &before
            };
            assert_eq!(&in_use(&on), expected);
            let certificate = CertificateDer::from_pem_file(certificate).unwrap();
            assert!(belongs(&certificate, &key_of(key).unwrap()), "a whole pair");
            assert!(!arriving(&identity.certificate_file).exists());
            assert!(!arriving(key).exists());
            recover(&on.place).unwrap();
        }
    }
}
