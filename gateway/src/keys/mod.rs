//! Private keys at rest: in clear, or encrypted with a passphrase that stands elsewhere.
//!
//! A key file is PEM. Encrypted, it is PKCS#8 with PBES2 (RFC 8018 §6.2: scrypt, AES-256-CBC), which
//! OpenSSL reads ([`pem`]); what else the gateway keeps secret (account and certificates from ACME, the
//! key of the sessions) is an age file ([`record`]). Files in clear are read whatever the configuration:
//! turning encryption on or off breaks nothing half-way ([`convert`]).
//!
//! The passphrase is that of the process, like its cryptography: commands [`unlock`] it once, when they
//! have read the configuration.

pub mod convert;
pub(crate) mod files;
pub mod pem;
pub mod record;
pub mod store;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// Name of the systemd credential with the passphrase (`LoadCredential=`, `LoadCredentialEncrypted=`).
pub const CREDENTIAL: &str = "drimbox-keys";
/// Shortest passphrase, characters.
const MIN_CHARACTERS: usize = 12;
/// Bytes of its file that are read.
const MAX_BYTES: u64 = 4_096;

/// What opens the keys of a gateway. It is not shown when printed.
#[derive(Clone)]
pub struct Passphrase(Arc<SecretString>);

/// Why there is no passphrase. The texts are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The file cannot be read.
    #[error("{path} : {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "{path} : lisible par d'autres comptes (droits {mode:o}) ; exécuter : chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Too easy to guess.
    #[error(
        "{0} : la phrase de passe, première ligne du fichier, a moins de {MIN_CHARACTERS} caractères"
    )]
    Short(PathBuf),
}

impl Passphrase {
    /// From the first line of a file that only its owner reads.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let (text, mode) = read(path)?;
        if mode & 0o077 != 0 {
            let path = path.to_owned();
            return Err(PassphraseError::Exposed { path, mode });
        }
        Self::of_text(&text, path)
    }

    /// From the credential that systemd hands to the service; `None` when there is none. The folder is
    /// systemd's own, and its permission bits are those of an access list: they are not looked at.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn from_credentials(folder: Option<&OsStr>) -> Result<Option<Self>, PassphraseError> {
        let Some(path) = folder.map(|folder| Path::new(folder).join(CREDENTIAL)) else {
            return Ok(None);
        };
        match read(&path) {
            Ok((text, _)) => Self::of_text(&text, &path).map(Some),
            Err(PassphraseError::File { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn of_text(text: &str, path: &Path) -> Result<Self, PassphraseError> {
        let line = text.lines().next().unwrap_or_default().trim();
        if line.chars().count() < MIN_CHARACTERS {
            return Err(PassphraseError::Short(path.to_owned()));
        }
        Ok(Self(Arc::new(line.to_owned().into())))
    }

    fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(***)")
    }
}

fn read(path: &Path) -> Result<(Zeroizing<String>, u32), PassphraseError> {
    let failed = |source| PassphraseError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    let mut text = Zeroizing::new(String::with_capacity(MAX_BYTES as usize));
    file.take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Ok((text, mode))
}

static PASSPHRASE: RwLock<Option<Passphrase>> = RwLock::new(None);

/// From now on keys are written encrypted with it, and encrypted ones are read.
pub fn unlock(passphrase: Passphrase) {
    *PASSPHRASE.write() = Some(passphrase);
}

/// The passphrase of this process.
#[must_use]
pub fn passphrase() -> Option<Passphrase> {
    PASSPHRASE.read().clone()
}

#[cfg(test)]
pub(crate) fn for_tests(text: &str) -> Passphrase {
    Passphrase(Arc::new(text.to_owned().into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn a_passphrase_stands_on_the_first_line_of_a_closed_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phrase");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Passphrase::from_file(&path)
        };
        let read = write("une phrase assez longue\nle reste", 0o600).unwrap();
        assert_eq!(read.expose(), "une phrase assez longue");
        assert!(!format!("{read:?}").contains("phrase assez"));
        let open = write("une phrase assez longue\n", 0o640).unwrap_err();
        assert!(open.to_string().contains("chmod 600 "), "{open}");
        let short = write("courte\n", 0o600).unwrap_err();
        assert!(matches!(short, PassphraseError::Short(_)));
    }

    #[test]
    fn systemd_hands_the_passphrase_over_as_a_credential() {
        let folder = tempfile::tempdir().unwrap();
        let of = |folder: Option<&Path>| {
            Passphrase::from_credentials(folder.map(Path::as_os_str)).unwrap()
        };
        assert!(of(None).is_none());
        assert!(of(Some(folder.path())).is_none(), "no such credential");
        fs::write(folder.path().join(CREDENTIAL), "une phrase assez longue").unwrap();
        let read = of(Some(folder.path())).unwrap();
        assert_eq!(read.expose(), "une phrase assez longue");
    }
}
