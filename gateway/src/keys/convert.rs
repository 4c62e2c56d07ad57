//! Every private key of a gateway: which are encrypted, and from clear to encrypted or back.
//!
//! Each file is replaced in one step, and both forms are read: an interruption leaves a gateway that
//! starts, and the command is repeated.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Passphrase, files, pem, record, store};
use crate::certs::market;
use crate::certs::place::{Kept, all_places};
use crate::config::{Config, ProxyConfig};

/// Folders below one another.
const MAX_DEPTH: usize = 4;

/// A file with a private key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyFile {
    /// The file.
    pub path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Pem,
    Record,
}

/// How a key stands on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtRest {
    /// Readable by whoever reads the file.
    Clear,
    /// Encrypted.
    Encrypted,
}

/// Why a key stays as it is. The texts are for the administrator.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The file cannot be read or written.
    #[error("{0}")]
    File(#[from] io::Error),
    /// What it holds cannot be used.
    #[error("{0}")]
    Key(#[from] pem::KeyError),
    /// What it holds cannot be opened.
    #[error("{0}")]
    Record(#[from] record::RecordError),
}

/// The key files of a proxy e-santé that are there, in a stable order.
#[must_use]
pub fn all_of_proxy(config: &ProxyConfig) -> Vec<KeyFile> {
    let clients = config.clients.iter().map(|client| &client.identity);
    let identities = config.tls.iter().chain(clients);
    let mut found: Vec<_> = identities
        .map(|identity| KeyFile {
            path: identity.key_file.clone(),
            form: Form::Pem,
        })
        .collect();
    found.push(KeyFile {
        path: config.sessions_key_file.clone(),
        form: Form::Record,
    });
    found.retain(|key| key.path.is_file());
    found.sort();
    found.dedup();
    found
}

/// The key files of a configuration that are there, in a stable order. Reads folders: blocks.
#[must_use]
pub fn all(config: &Config) -> Vec<KeyFile> {
    let mut found = Vec::new();
    let places = all_places(config);
    let own = places.iter().filter(|place| place.kept == Kept::Files);
    let of_places = own.map(|place| &place.identity.key_file);
    for key in of_places {
        let companions = files::companions(key);
        found.extend(companions.chain([key.clone()]).map(|path| KeyFile {
            path,
            form: Form::Pem,
        }));
    }
    for folder in market::FOLDERS {
        let root = config.data_dir.join(folder);
        walk(&root, &root, 0, &mut found);
    }
    found.push(KeyFile {
        path: config.login.key_file.clone(),
        form: Form::Record,
    });
    found.retain(|key| key.path.is_file());
    found.sort();
    found.dedup();
    found
}

fn walk(root: &Path, folder: &Path, depth: usize, found: &mut Vec<KeyFile>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < MAX_DEPTH {
            walk(root, &path, depth + 1, found);
        }
        let name = path.strip_prefix(root).ok().and_then(Path::to_str);
        if kind.is_file() && name.is_some_and(store::holds_key) {
            found.push(KeyFile {
                path,
                form: Form::Record,
            });
        }
    }
}

impl KeyFile {
    /// How it stands.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn at_rest(&self) -> io::Result<AtRest> {
        let content = files::read(&self.path)?;
        Ok(
            match (
                self.form,
                pem::is_encrypted(&content),
                record::is_sealed(&content),
            ) {
                (Form::Pem, true, _) | (Form::Record, _, true) => AtRest::Encrypted,
                _ => AtRest::Clear,
            },
        )
    }

    /// Makes it stand so; whether anything changed. Durable when it returns.
    ///
    /// # Errors
    /// [`ConvertError`]; the file is as it was.
    pub fn convert(&self, to: AtRest, passphrase: &Passphrase) -> Result<bool, ConvertError> {
        if self.at_rest()? == to {
            return Ok(false);
        }
        let content = files::read(&self.path)?;
        let wanted = (to == AtRest::Encrypted).then_some(passphrase);
        let converted = match self.form {
            Form::Pem => {
                let key = pem::read(&content, Some(passphrase))?;
                let text = pem::write(&key, wanted)?;
                Zeroizing::new(text.as_bytes().to_vec())
            }
            Form::Record => record::seal(&record::open(&content, Some(passphrase))?, wanted)?,
        };
        // What the service wrote meanwhile is not undone.
        if *files::read(&self.path)? != *content {
            let changed = "a changé pendant la conversion ; arrêter le service, puis relancer";
            return Err(io::Error::other(changed).into());
        }
        files::write_new(&self.path, &converted)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::keys::for_tests;

    #[test]
    fn a_key_is_encrypted_and_back_and_another_passphrase_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let passphrase = for_tests("une phrase de passe");
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (form, content) in [(Form::Pem, key.as_str()), (Form::Record, "c2Vzc2lvbg==\n")] {
            let file = KeyFile {
                path: folder.path().join("key"),
                form,
            };
            fs::write(&file.path, content).unwrap();
            assert_eq!(file.at_rest().unwrap(), AtRest::Clear);
            assert!(!file.convert(AtRest::Clear, &passphrase).unwrap());
            assert!(file.convert(AtRest::Encrypted, &passphrase).unwrap());
            let sealed = fs::read(&file.path).unwrap();
            assert!(!file.convert(AtRest::Encrypted, &passphrase).unwrap());
            let wrong = file.convert(AtRest::Clear, &for_tests("une autre phrase"));
            assert!(wrong.is_err());
            assert_eq!(fs::read(&file.path).unwrap(), sealed);
            assert!(file.convert(AtRest::Clear, &passphrase).unwrap());
            let back = fs::read_to_string(&file.path)
                .unwrap()
                .replace("\r\n", "\n");
            assert_eq!(back, content.replace("\r\n", "\n"));
        }
    }
}
