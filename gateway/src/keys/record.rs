//! What the gateway keeps secret besides PEM keys: an age file (any `age` opens it) with a passphrase.

use std::io::{self, Read as _, Write as _};

#[cfg(feature = "aws_lc_rs")]
use aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
use ring as crypto;

use crypto::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::Passphrase;

/// How an age file begins.
const START: &[u8] = b"age-encryption.org/v1\n";
/// Cost of a guess: scrypt with N = 2^14, as for keys. Records are opened often.
/// Tests of this crate pay less.
const WORK: u8 = if cfg!(test) { 4 } else { 14 };
/// Greatest cost that is paid.
const MAX_WORK: u8 = 20;
/// Bytes that age encrypts at once (age-encryption.org/v1, "Payload").
const AGE_CHUNK: usize = 64 * 1024;
/// Bytes of a record.
const MAX_BYTES: u64 = 1 << 20;

/// Why a record cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There is no passphrase.
    #[error(
        "it is encrypted and no passphrase is known: set keys.passphrase_file, or hand the service the \
         systemd credential drimbox-keys"
    )]
    Locked,
    /// It is of another passphrase.
    #[error("it does not open with the passphrase of [keys]")]
    WrongPassphrase,
    /// It was changed or cut.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// The system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

/// Bytes that nobody can foresee.
pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// Whether a record is encrypted.
#[must_use]
pub fn is_sealed(content: &[u8]) -> bool {
    content.starts_with(START)
}

/// A record in clear; one that is not encrypted is that itself.
///
/// # Errors
/// [`RecordError`].
pub fn open(
    content: &[u8],
    passphrase: Option<&Passphrase>,
) -> Result<Zeroizing<Vec<u8>>, RecordError> {
    if !is_sealed(content) {
        return Ok(Zeroizing::new(content.to_vec()));
    }
    let passphrase = passphrase.ok_or(RecordError::Locked)?;
    let damaged = |error: &dyn std::fmt::Display| RecordError::Damaged(error.to_string());
    let decryptor = age::Decryptor::new(content).map_err(|error| damaged(&error))?;
    let mut identity = age::scrypt::Identity::new(passphrase.expose().to_owned().into());
    identity.set_max_work_factor(MAX_WORK);
    let mut clear = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .map_err(|error| match error {
            age::DecryptError::DecryptionFailed
            | age::DecryptError::KeyDecryptionFailed
            | age::DecryptError::NoMatchingKeys => RecordError::WrongPassphrase,
            other => damaged(&other),
        })?
        .take(MAX_BYTES);
    // Encrypted it is longer: no copy of a key stays behind in a reallocation.
    let mut bytes = Zeroizing::new(Vec::with_capacity(content.len()));
    clear
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(&error))?;
    let length = bytes.iter().rposition(|byte| *byte != b' ');
    bytes.truncate(length.map_or(0, |last| last + 1));
    Ok(bytes)
}

/// A record as it is kept: encrypted with a passphrase, in clear without any. Blanks at its end may go: it is JSON or base64.
///
/// # Errors
/// When it cannot be encrypted.
pub fn seal(content: &[u8], passphrase: Option<&Passphrase>) -> io::Result<Zeroizing<Vec<u8>>> {
    let Some(passphrase) = passphrase else {
        return Ok(Zeroizing::new(content.to_vec()));
    };
    let mut recipient = age::scrypt::Recipient::new(passphrase.expose().to_owned().into());
    recipient.set_work_factor(WORK);
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            .map_err(|error| io::Error::other(error.to_string()))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed)?;
    writer.write_all(content)?;
    // age (0.11) does not wipe the buffer of what it encrypts next: blanks take the place of all that was in it.
    let last = content.len() % AGE_CHUNK;
    let blanks = AGE_CHUNK - last + content.len().min(AGE_CHUNK);
    io::copy(&mut io::repeat(b' ').take(blanks as u64), &mut writer)?;
    writer.finish()?;
    Ok(Zeroizing::new(sealed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::keys::for_tests;

    #[test]
    fn a_record_opens_with_its_passphrase_alone_and_only_whole() {
        let passphrase = for_tests("une phrase de passe");
        let sealed = seal(b"a key", Some(&passphrase)).unwrap();
        assert!(is_sealed(&sealed));
        assert!(memchr::memmem::find(&sealed, b"a key").is_none());
        assert_eq!(
            open(&sealed, Some(&passphrase)).unwrap().as_slice(),
            b"a key"
        );
        assert_eq!(open(&sealed, None).unwrap_err(), RecordError::Locked);
        let other = for_tests("une autre phrase");
        assert_eq!(
            open(&sealed, Some(&other)).unwrap_err(),
            RecordError::WrongPassphrase
        );
        let cut = &sealed[..sealed.len() - 1];
        assert!(matches!(
            open(cut, Some(&passphrase)),
            Err(RecordError::Damaged(_))
        ));
    }

    #[test]
    fn what_age_keeps_of_a_record_is_blanks_whatever_its_length() {
        let passphrase = for_tests("une phrase de passe");
        for length in [
            0,
            1,
            AGE_CHUNK - 1,
            AGE_CHUNK,
            AGE_CHUNK + 1,
            3 * AGE_CHUNK + 7,
        ] {
            let record = vec![b'k'; length];
            let sealed = seal(&record, Some(&passphrase)).unwrap();
            assert_eq!(*open(&sealed, Some(&passphrase)).unwrap(), record);
            // The chunk after the last one with anything of the record is as long as what stood before it.
            let blanks = sealed.len() - length;
            assert!(blanks >= length.min(AGE_CHUNK), "{length}: {blanks}");
        }
    }

    #[test]
    fn a_record_in_clear_is_read_with_or_without_passphrase() {
        for passphrase in [None, Some(for_tests("une phrase de passe"))] {
            let read = open(b"{}", passphrase.as_ref()).unwrap();
            assert_eq!(read.as_slice(), b"{}");
        }
        assert_eq!(seal(b"{}", None).unwrap().as_slice(), b"{}");
    }
}
