//! Answers of OCSP responders on disk: one file for each certificate, with the very bytes that were signed. Each is
//! verified again when it is read, as if it had come then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::super::anchors::Anchors;
use super::super::crl::Lists;
use super::super::{disk, whitelist};
use super::message::{About, Said, Status};
use super::{MAX_ANSWER, MAX_CERTIFICATES};

/// Bytes of a file: a certificate and an answer in base64, and the words around them.
const MAX_FILE: usize = 4 * MAX_ANSWER;
/// Bytes of a certificate whose answers are kept.
const MAX_CERTIFICATE: usize = 64 << 10;

/// What a file holds.
#[derive(Serialize, Deserialize)]
struct File {
    /// The certificate, DER in base64.
    certificate: String,
    /// What the responder sent, DER in base64.
    answer: String,
    /// When it came, Unix seconds.
    received_at: u64,
}

/// An answer that was read back and is still good for something.
pub(super) struct Kept {
    pub(super) fingerprint: [u8; 32],
    pub(super) certificate: CertificateDer<'static>,
    pub(super) not_after: UnixTime,
    pub(super) said: Said,
}

/// The folder of answers.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder, made when it is not there.
    pub(super) fn open(path: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Keeps an answer in the place of the one before. On disk when this returns. Blocks.
    pub(super) fn keep(
        &self,
        certificate: &CertificateDer<'_>,
        answer: &[u8],
        now: UnixTime,
        is_known: impl Fn(&[u8; 32]) -> bool,
    ) -> std::io::Result<()> {
        if certificate.len() > MAX_CERTIFICATE || answer.len() > MAX_ANSWER {
            return Ok(());
        }
        let file = File {
            certificate: STANDARD.encode(certificate),
            answer: STANDARD.encode(answer),
            received_at: now.as_secs(),
        };
        let fingerprint = Sha256::digest(certificate).into();
        disk::write(&self.path(&fingerprint), &serde_json::to_vec(&file)?)?;
        // Those of certificates that expired meanwhile.
        let files = self.files()?;
        if files.len() > MAX_CERTIFICATES {
            let stale = files
                .iter()
                .filter(|file| !name(file).is_some_and(|p| is_known(&p)));
            for file in stale {
                disk::remove(file)?;
            }
        }
        Ok(())
    }

    /// The answers that may be concluded from; files of the others are removed. Blocks.
    pub(super) fn read(
        &self,
        anchors: &Anchors,
        lists: &Lists,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> std::io::Result<Vec<Kept>> {
        let mut all = Vec::new();
        for path in self.files()? {
            let room = all.len() < MAX_CERTIFICATES;
            let kept = room.then(|| read_one(&path, anchors, lists, known, now));
            match kept.flatten() {
                Some(kept) => all.push(kept),
                None => disk::remove(&path)?,
            }
        }
        Ok(all)
    }

    fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.0)?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    fn path(&self, fingerprint: &[u8; 32]) -> PathBuf {
        self.0
            .join(whitelist::hex(fingerprint))
            .with_extension("json")
    }
}

/// The certificate that a file is about, by its name.
fn name(path: &Path) -> Option<[u8; 32]> {
    let digits = path.file_stem()?.to_str()?;
    let mut print = [0; 32];
    if digits.len() != 2 * print.len() || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in print.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(print)
}

fn read_one(
    path: &Path,
    anchors: &Anchors,
    lists: &Lists,
    known: &WebPkiSupportedAlgorithms,
    now: UnixTime,
) -> Option<Kept> {
    let bytes = disk::read(path, MAX_FILE).ok()??;
    let file: File = serde_json::from_slice(&bytes).ok()?;
    let certificate = CertificateDer::from(STANDARD.decode(&file.certificate).ok()?);
    let answer = STANDARD.decode(&file.answer).ok()?;
    let fingerprint: [u8; 32] = Sha256::digest(&certificate).into();
    if name(path) != Some(fingerprint) {
        return None;
    }
    let not_after = not_after(&certificate).filter(|end| *end > now)?;
    let about = About::new(&certificate, anchors, known).ok()?;
    // Verified as of the moment it came: « revoked » outlives the answer that says it, here as in memory. Its signer
    // is looked up in the revocation lists of today.
    let then = Duration::from_secs(file.received_at.min(now.as_secs()));
    let then = UnixTime::since_unix_epoch(then);
    let said = about.read(&answer, lists, known, then).ok()?;
    let counts = match said.status {
        Status::Revoked => true,
        Status::Good => now < said.next_update,
        Status::Unknown => false,
    };
    counts.then_some(Kept {
        fingerprint,
        certificate,
        not_after,
        said,
    })
}

fn not_after(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn seconds(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn files_beyond_the_number_of_certificates_are_removed_unless_they_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Folder::open(folder.path().join("ocsp")).unwrap();
        let known = CertificateDer::from(vec![1]);
        let print: [u8; 32] = Sha256::digest(&known).into();
        for number in 0..=MAX_CERTIFICATES {
            let stale = kept.path(&Sha256::digest(number.to_le_bytes()).into());
            std::fs::write(stale, "{}").unwrap();
        }
        kept.keep(&known, b"said", seconds(7), |p| *p == print)
            .unwrap();
        assert_eq!(kept.files().unwrap(), [kept.path(&print)]);
        let large = vec![0; MAX_ANSWER + 1];
        kept.keep(&CertificateDer::from(vec![2]), &large, seconds(7), |_| true)
            .unwrap();
        assert_eq!(kept.files().unwrap().len(), 1);
    }
}
