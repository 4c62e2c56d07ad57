//! From one certificate to another and back, whole after a crash at any step.
//!
//! Four files arrive beside their places: what is in use, as what can be gone back to, and then the new pair; of
//! each pair the key comes first. Then they are renamed into place: the new key, the new certificate, the two of the
//! old pair. From the renaming of the new key on, [`recover`] finishes; before it, it undoes.

use std::io;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::trial::trial;
use super::{Candidate, InstallError, belongs, failed, key_of};
use crate::certs::container::to_pem;
use crate::certs::facts::Facts;
use crate::certs::inventory::{Finding, Judges, dates};
use crate::certs::place::Place;
use crate::certs::request::pending_key;
use crate::config::ServerIdentity;
use crate::keys::{self, files};
use crate::trust::Standing;

/// Puts a candidate in the place of what is there, which is kept. Durable when it returns.
///
/// # Errors
/// [`InstallError::File`]; what was in use stays in use, also after a crash and [`recover`].
pub fn swap(place: &Place, candidate: &Candidate) -> Result<(), InstallError> {
    swap_on(&Disk::default(), place, candidate)
}

pub(super) fn swap_on(
    disk: &Disk<'_>,
    place: &Place,
    candidate: &Candidate,
) -> Result<(), InstallError> {
    let identity = &place.identity;
    recover_on(disk, place)?;
    let key = keys::pem::write(&candidate.key, keys::passphrase().as_ref());
    let key = key.map_err(|source| InstallError::Key {
        path: identity.key_file.clone(),
        source,
    })?;
    replace(
        disk,
        identity,
        to_pem(&candidate.chain).as_bytes(),
        key.as_bytes(),
    )?;
    let pending = pending_key(&identity.key_file);
    if key_of(&pending).is_some_and(|pending| pending.secret_der() == candidate.key.secret_der()) {
        disk.remove(&pending)?;
    }
    Ok(())
}

/// Goes back to what was replaced last, when it is a pair that works; what is in use becomes what can be gone back
/// to.
///
/// # Errors
/// [`InstallError`].
pub fn rollback(
    place: &Place,
    judges: &Judges,
    now: OffsetDateTime,
) -> Result<Facts, InstallError> {
    rollback_on(&Disk::default(), place, judges, now)
}

pub(super) fn rollback_on(
    disk: &Disk<'_>,
    place: &Place,
    judges: &Judges,
    now: OffsetDateTime,
) -> Result<Facts, InstallError> {
    recover_on(disk, place)?;
    let old = previous(&place.identity);
    let read = |path: &Path| content(path)?.ok_or_else(|| InstallError::NothingBefore(path.into()));
    let (certificate, key) = (read(&old.certificate_file)?, read(&old.key_file)?);
    let mixed = || InstallError::NotAPair(old.certificate_file.clone());
    let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| mixed())?;
    let leaf = chain.first().ok_or_else(mixed)?;
    let secret = key_of(&old.key_file).ok_or_else(mixed)?;
    if !belongs(leaf, &secret) {
        return Err(mixed());
    }
    let facts = Facts::of(leaf).map_err(|_| mixed())?;
    if let Some(Finding::Expired(at)) = dates(&facts, place.role, now) {
        return Err(InstallError::Dates(Finding::Expired(at).text()));
    }
    if judges.standing(place.role, &chain, now) == Some(Standing::Revoked) {
        return Err(InstallError::Revoked);
    }
    trial(&chain, &secret, place.host.as_deref()).map_err(InstallError::Trial)?;
    replace(disk, &place.identity, &certificate, &key)?;
    Ok(facts)
}

/// Finishes a swap that was interrupted once the key had been renamed; undoes one that had not come so far. For the
/// start of the service, before its certificates are read.
///
/// # Errors
/// [`InstallError::File`].
pub fn recover(place: &Place) -> Result<(), InstallError> {
    recover_on(&Disk::default(), place)
}

pub(super) fn recover_on(disk: &Disk<'_>, place: &Place) -> Result<(), InstallError> {
    let identity = &place.identity;
    let old = previous(identity);
    let waits = |identity: &ServerIdentity| {
        let there = |file: &Path| arriving(file).exists();
        (there(&identity.certificate_file), there(&identity.key_file))
    };
    match (waits(identity), waits(&old)) {
        // The new key is in its place, unless the certificate is an older version's, which wrote it first.
        ((true, false), _) if belongs_here(identity) => {
            disk.arrive(&identity.certificate_file)?;
            finish(disk, &old)
        }
        ((false, false), (true, false)) => finish(disk, &old),
        // A copy of what is in use still: nothing of the new pair had been written. Of another: it is in its place.
        ((false, false), (true, true)) if !is_copy(&old, identity)? => finish(disk, &old),
        _ => {
            undo(disk, identity)?;
            undo(disk, &old)
        }
    }
}

/// Puts a pair in the place of the one in use, if there is one, which is kept.
fn replace(
    disk: &Disk<'_>,
    identity: &ServerIdentity,
    certificate: &[u8],
    key: &[u8],
) -> Result<(), InstallError> {
    let old = previous(identity);
    let in_use = content(&identity.certificate_file)?.zip(content(&identity.key_file)?);
    if let Some((certificate, key)) = &in_use {
        stage(disk, &old, certificate, key)?;
    }
    stage(disk, identity, certificate, key)?;
    finish(disk, identity)?;
    finish(disk, &old)
}

/// The key first: a certificate that waits alone means that its key is in place.
fn stage(
    disk: &Disk<'_>,
    identity: &ServerIdentity,
    certificate: &[u8],
    key: &[u8],
) -> Result<(), InstallError> {
    disk.write(&arriving(&identity.key_file), key)?;
    disk.write(&arriving(&identity.certificate_file), certificate)
}

/// Renames what waits into place, the key first.
fn finish(disk: &Disk<'_>, identity: &ServerIdentity) -> Result<(), InstallError> {
    for file in [&identity.key_file, &identity.certificate_file] {
        if arriving(file).exists() {
            disk.arrive(file)?;
        }
    }
    Ok(())
}

/// Removes what waits, the certificate first.
fn undo(disk: &Disk<'_>, identity: &ServerIdentity) -> Result<(), InstallError> {
    for file in [&identity.certificate_file, &identity.key_file] {
        let waits = arriving(file);
        if waits.exists() {
            disk.remove(&waits)?;
        }
    }
    Ok(())
}

/// Whether the certificate that waits is that of the key in its place. A key that does not open cannot be asked.
fn belongs_here(identity: &ServerIdentity) -> bool {
    let leaf = CertificateDer::from_pem_file(arriving(&identity.certificate_file));
    match (leaf, key_of(&identity.key_file)) {
        (Ok(leaf), Some(key)) => belongs(&leaf, &key),
        (Err(_), _) => false,
        (Ok(_), None) => true,
    }
}

/// Whether what waits to be gone back to is what is in use.
fn is_copy(old: &ServerIdentity, identity: &ServerIdentity) -> Result<bool, InstallError> {
    let waits = content(&arriving(&old.certificate_file))?;
    Ok(waits == content(&identity.certificate_file)?)
}

fn content(file: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, InstallError> {
    match files::read(file) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(file, error)),
    }
}

pub(super) fn arriving(file: &Path) -> PathBuf {
    files::beside(file, "arrivant")
}

pub(super) fn previous(identity: &ServerIdentity) -> ServerIdentity {
    ServerIdentity {
        certificate_file: files::beside(&identity.certificate_file, "ancien"),
        key_file: files::beside(&identity.key_file, "ancien"),
    }
}

/// The steps on the disk, each durable before the next. Tests end the process before any of them.
pub(super) struct Disk<'a>(pub(super) &'a dyn Fn() -> io::Result<()>);

impl Default for Disk<'_> {
    fn default() -> Self {
        Self(&|| Ok(()))
    }
}

impl Disk<'_> {
    fn write(&self, path: &Path, content: &[u8]) -> Result<(), InstallError> {
        let written = (self.0)().and_then(|()| files::write_new(path, content));
        written.map_err(|source| failed(path, source))
    }

    /// Renames what waits for a place into it.
    fn arrive(&self, file: &Path) -> Result<(), InstallError> {
        let renamed = (self.0)().and_then(|()| files::rename(&arriving(file), file));
        renamed.map_err(|source| failed(file, source))
    }

    fn remove(&self, path: &Path) -> Result<(), InstallError> {
        let removed = (self.0)()
            .and_then(|()| std::fs::remove_file(path))
            .and_then(|()| files::sync_folder(path));
        removed.map_err(|source| failed(path, source))
    }
}
