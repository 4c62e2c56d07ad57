//! `[keys]`: private keys encrypted at rest.

use super::files;
use super::section::Section;
use super::value::Fault;
use crate::keys::{CREDENTIAL, Passphrase};

/// `[keys]`
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// With it keys are written encrypted, and encrypted ones read; `None`: in clear.
    pub passphrase: Option<Passphrase>,
}

/// Reads the table; without `passphrase_file` the credential that systemd hands over. The private keys of
/// the sections read after it are opened with what was found.
pub(super) fn read(section: Section<'_>) -> Keys {
    let mut passphrase = section.optional("passphrase_file", files::passphrase);
    if passphrase.is_none() && !section.has("passphrase_file") {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
        match Passphrase::from_credentials(folder.as_deref()) {
            Ok(found) => passphrase = found,
            Err(error) => section.fault(
                "passphrase_file",
                Fault::new(
                    error.to_string(),
                    format!("corriger le secret systemd « {CREDENTIAL} »"),
                ),
            ),
        }
    }
    section.unlock(passphrase.clone());
    section.finish();
    Keys { passphrase }
}
