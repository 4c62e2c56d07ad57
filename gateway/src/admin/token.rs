//! The token of the administrator: who may change something through the admin listener.
//!
//! It stands in a file of the data folder that only the service's account reads, and is made at the
//! first start. Commands on the same machine read it there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

/// Name of the file in the data folder.
const NAME: &str = "admin.token";
/// Bytes of entropy.
const ENTROPY: usize = 32;
/// Bytes of the file that are read.
const MAX_BYTES: u64 = 4096;

/// The token. It is not shown when printed.
#[derive(Debug, Clone)]
pub struct AdminToken(SecretString);

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AdminTokenError {
    /// The system does not let us read or write it.
    #[error("{path}: the token of the administrator cannot be read or made: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Others can read it.
    #[error("{path}: readable by others (mode {mode:03o}). Run `chmod 600 {path}`.")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not one that the service made.
    #[error("{path}: holds no token. Remove the file and start the service: it makes a new one.")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// There is no randomness to make one of.
    #[error("the system gives no random bytes for the token of the administrator")]
    NoRandomness,
}

impl AdminToken {
    /// Where the token of a data folder is.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join(NAME)
    }

    /// The token of a data folder, made where there is none. Blocks.
    ///
    /// # Errors
    /// [`AdminTokenError`].
    pub fn load_or_make(data_dir: &Path) -> Result<Self, AdminTokenError> {
        let path = Self::path(data_dir);
        if !path.exists() {
            make(data_dir, &path)?;
        }
        Self::load(data_dir)
    }

    /// The token of a data folder.
    ///
    /// # Errors
    /// [`AdminTokenError`].
    pub fn load(data_dir: &Path) -> Result<Self, AdminTokenError> {
        let path = Self::path(data_dir);
        let io = |source| AdminTokenError::Io {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AdminTokenError::Exposed { path, mode });
        }
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
        let token = text.trim();
        let whole = token.len() == ENTROPY * 2 && token.bytes().all(|b| b.is_ascii_hexdigit());
        if whole {
            Ok(Self(token.to_owned().into()))
        } else {
            Err(AdminTokenError::Malformed { path })
        }
    }

    /// Whether a request carries it (RFC 6750 §2.1). Takes the same time for every wrong one.
    #[must_use]
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let field = headers.get(AUTHORIZATION).and_then(|f| f.to_str().ok());
        let given = field.and_then(|field| field.strip_prefix("Bearer "));
        let own = self.0.expose_secret().as_bytes();
        given.is_some_and(|given| given.trim().as_bytes().ct_eq(own).into())
    }

    /// The value of the field that carries it.
    #[must_use]
    pub fn field(&self) -> SecretString {
        format!("Bearer {}", self.0.expose_secret()).into()
    }
}

fn make(data_dir: &Path, path: &Path) -> Result<(), AdminTokenError> {
    let mut bytes = [0; ENTROPY];
    crate::net::tls::provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| AdminTokenError::NoRandomness)?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = path.with_extension("new");
    let write = || {
        fs::create_dir_all(data_dir)?;
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        writeln!(file, "{token}")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(data_dir)?.sync_all()
    };
    write().map_err(|source| AdminTokenError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn carrying(field: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, field.parse().unwrap())])
    }

    #[test]
    fn a_token_is_made_once_for_the_service_alone() {
        let folder = tempfile::tempdir().unwrap();
        let token = AdminToken::load_or_make(folder.path()).unwrap();
        let mode = fs::metadata(AdminToken::path(folder.path())).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
        let again = AdminToken::load_or_make(folder.path()).unwrap();
        let field = again.field();
        assert!(token.is_in(&carrying(field.expose_secret())));
        let other = AdminToken::load_or_make(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(!other.is_in(&carrying(field.expose_secret())));
        assert!(!token.is_in(&HeaderMap::new()));
        assert!(!token.is_in(&carrying("Bearer ")));
    }

    #[test]
    fn a_token_that_others_read_or_that_is_none_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        AdminToken::load_or_make(folder.path()).unwrap();
        let path = AdminToken::path(folder.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = AdminToken::load(folder.path()).unwrap_err();
        assert!(matches!(
            error,
            AdminTokenError::Exposed { mode: 0o644, .. }
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "").unwrap();
        let error = AdminToken::load_or_make(folder.path()).unwrap_err();
        assert!(matches!(error, AdminTokenError::Malformed { .. }));
    }

    #[test]
    fn a_token_does_not_show_when_printed() {
        let folder = tempfile::tempdir().unwrap();
        let token = AdminToken::load_or_make(folder.path()).unwrap();
        let text = fs::read_to_string(AdminToken::path(folder.path())).unwrap();
        assert!(!format!("{token:?}").contains(text.trim()));
    }
}
