//! The key file that encrypts sessions on disk: AES-256-GCM with a key of its own for every record (HKDF, RFC 5869).

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

#[cfg(feature = "aws_lc_rs")]
use aws_lc_rs as crypto;
#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
use ring as crypto;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use crypto::hkdf::{HKDF_SHA256, Salt};
use crypto::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::keys;

/// First byte of a record: the form of what follows.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const SALT_BYTES: usize = 32;
/// Bytes of a key file at most: one line of base64, perhaps encrypted with the blanks that [`keys::record::seal`] adds.
const MAX_FILE: u64 = 256 * 1_024;

/// Seals and opens records.
pub struct Vault(Zeroizing<[u8; KEY_BYTES]>);

/// The system gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandom;

/// Why the key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or made.
    #[error(
        "{path}: {source}. Check that the folder exists and that the service's account may write there."
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Others may read it.
    #[error("{path}: readable by others (mode {mode:03o}). Run `chmod 600 {path}`.")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error(
        "{path}: holds no key of 32 bytes in base64. Remove it to have another made; every session ends."
    )]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// It is encrypted, and cannot be opened.
    #[error("{path}: {source}.")]
    Sealed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: keys::record::RecordError,
    },
    /// No key can be made.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// Bytes that nobody can foresee.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

impl Vault {
    /// Reads the key; makes one when there is no file.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn open(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::File {
            path: path.to_owned(),
            source,
        };
        match fs::File::open(path) {
            Ok(file) => Self::read(path, &file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Zeroizing::new(random::<KEY_BYTES>()?);
                write(path, key.as_slice()).map_err(failed)?;
                Ok(Self(key))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn read(path: &Path, file: &fs::File) -> Result<Self, KeyFileError> {
        let failed = |source| KeyFileError::File {
            path: path.to_owned(),
            source,
        };
        let mode = file.metadata().map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Exposed {
                path: path.to_owned(),
                mode: mode & 0o777,
            });
        }
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize));
        file.take(MAX_FILE).read_to_end(&mut text).map_err(failed)?;
        let text = keys::record::open(&text, keys::passphrase().as_ref()).map_err(|source| {
            KeyFileError::Sealed {
                path: path.to_owned(),
                source,
            }
        })?;
        let decoded = STANDARD.decode(text.trim_ascii()).map(Zeroizing::new).ok();
        let key = decoded.and_then(|key| <[u8; KEY_BYTES]>::try_from(key.as_slice()).ok());
        let key = key.ok_or_else(|| KeyFileError::Content {
            path: path.to_owned(),
        })?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// Encrypts; the record opens under the same `name` only.
    pub(crate) fn seal(&self, name: &[u8], content: &[u8]) -> Result<Vec<u8>, NoRandom> {
        let salt = random::<SALT_BYTES>()?;
        let mut sealed = Zeroizing::new(content.to_vec());
        self.key(&salt)
            .ok_or(NoRandom)?
            .seal_in_place_append_tag(nonce(), Aad::from(name), &mut *sealed)
            .map_err(|_| NoRandom)?;
        let mut record = Vec::with_capacity(1 + SALT_BYTES + sealed.len());
        record.push(VERSION);
        record.extend_from_slice(&salt);
        record.extend_from_slice(&sealed);
        Ok(record)
    }

    /// Decrypts; `None` when the record is of another key, another name, or was changed.
    pub(crate) fn open_record(&self, name: &[u8], record: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (salt, sealed) = record
            .strip_prefix(&[VERSION])?
            .split_at_checked(SALT_BYTES)?;
        let mut content = Zeroizing::new(sealed.to_vec());
        let length = self
            .key(salt)?
            .open_in_place(nonce(), Aad::from(name), &mut content)
            .ok()?
            .len();
        content.truncate(length);
        Some(content)
    }

    fn key(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let secret = Salt::new(HKDF_SHA256, salt).extract(&*self.0);
        let key = secret.expand(&[b"drimbox session record"], &AES_256_GCM);
        Some(LessSafeKey::new(UnboundKey::from(key.ok()?)))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(***)")
    }
}

/// Each record has a key of its own, from its random salt: its one nonce need not vary.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// Whole or not at all, and on the disk before it is used.
fn write(path: &Path, key: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let mut text = Zeroizing::new(STANDARD.encode(key));
    text.push('\n');
    let content = keys::record::seal(text.as_bytes(), keys::passphrase().as_ref())?;
    file.write_all(&content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/sessions.key");
        (folder, path)
    }

    #[test]
    fn a_key_is_made_once_and_for_the_service_alone() {
        let (_folder, path) = folder();
        let sealed = Vault::open(&path).unwrap().seal(b"n", b"content").unwrap();
        let mode = fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let again = Vault::open(&path).unwrap();
        assert_eq!(*again.open_record(b"n", &sealed).unwrap(), b"content");
    }

    #[test]
    fn a_record_opens_under_its_name_and_unchanged_only() {
        let (_folder, path) = folder();
        let vault = Vault::open(&path).unwrap();
        let sealed = vault.seal(b"one", b"content").unwrap();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"content"));
        assert_ne!(sealed, vault.seal(b"one", b"content").unwrap());
        assert!(vault.open_record(b"two", &sealed).is_none());
        for position in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[position] ^= 1;
            assert!(vault.open_record(b"one", &changed).is_none(), "{position}");
            assert!(vault.open_record(b"one", &sealed[..position]).is_none());
        }
    }

    #[test]
    fn a_key_file_that_others_may_read_or_that_holds_no_key_is_refused() {
        let (_folder, path) = folder();
        Vault::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Vault::open(&path),
            Err(KeyFileError::Exposed { mode: 0o640, .. })
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "c2hvcnQ=\n").unwrap();
        assert!(matches!(
            Vault::open(&path),
            Err(KeyFileError::Content { .. })
        ));
    }
}
