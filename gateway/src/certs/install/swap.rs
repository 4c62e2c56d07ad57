//! From one certificate to another and back, whole after a crash at any step.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;

use super::{Candidate, InstallError, current, failed, key_of};
use crate::certs::container::to_pem;
use crate::certs::facts::Facts;
use crate::certs::inventory::{Finding, dates};
use crate::certs::place::Place;
use crate::certs::request::pending_key;
use crate::config::ServerIdentity;
use crate::keys::{self, files};
use crate::trust::{Standing, Trust};

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
    let text = keys::pem::write(&candidate.key, keys::passphrase().as_ref());
    let text = text.map_err(|source| InstallError::Key {
        path: key.clone(),
        source,
    })?;
    write(&arriving(key), text.as_bytes())?;
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
pub fn rollback(
    place: &Place,
    trust: Option<&Trust>,
    now: OffsetDateTime,
) -> Result<Facts, InstallError> {
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
    let leaf = CertificateDer::from_pem_slice(&old_certificate);
    if let (true, Some(trust), Ok(leaf)) = (place.role.is_igc(), trust, leaf)
        && trust.standing(&leaf, now) == Standing::Revoked
    {
        return Err(InstallError::Revoked);
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

pub(super) fn arriving(file: &Path) -> PathBuf {
    files::beside(file, "arrivant")
}

fn previous(file: &Path) -> PathBuf {
    files::beside(file, "ancien")
}
