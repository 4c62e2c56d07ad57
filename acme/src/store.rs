//! Where the state of certificates lasts: small named records, each replaced as a whole.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::BoxFuture;

/// Largest record read back, bytes; a chain with its key is a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// Why a record cannot be read or kept.
#[derive(Debug, Clone, Error)]
#[error(
    "{path}: cannot be {action}: {reason}. Check that the service may write there and that the disk has room"
)]
pub struct StoreError {
    /// File or record.
    pub path: String,
    /// `read`, `written`, `removed` or `locked`.
    pub action: &'static str,
    /// What the system said.
    pub reason: String,
}

/// Keeps records under names of the form `folder/record`, with letters, digits and `.-_`.
///
/// Records hold private keys. When a call returns, what it did outlives a power cut; a record is the old one or the
/// new one, never a part of it. Several nodes that share a store share accounts, orders, certificates and challenges;
/// the one that has the [`crate::Lease`] alone writes.
pub trait Store: Send + Sync + fmt::Debug {
    /// The record, or `None` when there is none.
    fn read<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, StoreError>>;

    /// Puts a record in place of the one before.
    fn write<'a>(
        &'a self,
        name: &'a str,
        content: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes a record; none is no error.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// One file a record, below one folder, readable by the service alone (0600, folders 0700).
///
/// Written under another name, synced, renamed, and the folder synced.
#[derive(Debug, Clone)]
pub struct FileStore {
    root: Arc<Path>,
}

impl FileStore {
    /// A store below `root`, which is made when it is needed.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: &str, action: &'static str) -> Result<PathBuf, StoreError> {
        let relative = Path::new(name);
        let plain = relative
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
        if name.is_empty() || !plain || !name.bytes().all(allowed) {
            return Err(StoreError {
                path: name.chars().take(200).collect(),
                action,
                reason: "not the name of a record".to_owned(),
            });
        }
        Ok(self.root.join(relative))
    }

    async fn at<T: Send + 'static>(
        &self,
        name: &str,
        action: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path(name, action)?;
        let shown = path.display().to_string();
        let failed = |reason: String| StoreError {
            path: shown.clone(),
            action,
            reason,
        };
        tokio::task::spawn_blocking(move || work(&path))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }
}

impl Store for FileStore {
    fn read<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, StoreError>> {
        Box::pin(self.at(name, "read", read))
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        content: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let content = Zeroizing::new(content.to_vec());
        Box::pin(self.at(name, "written", move |path| write(path, &content)))
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.at(name, "removed", remove))
    }
}

fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    use std::io::Read as _;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > MAX_BYTES {
        return Err(io::Error::other("larger than any record"));
    }
    // The whole capacity at once: no copy of a key stays behind in a reallocation.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(MAX_BYTES).read_to_end(&mut content)?;
    Ok(Some(content))
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // One process has the lease and writes one record at a time; a rest of a crash is written over.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    sync_folders(folder)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => sync(path.parent().unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Syncs a folder and the two above it, which may be new.
fn sync_folders(folder: &Path) -> io::Result<()> {
    for folder in folder.ancestors().take(3) {
        if folder.as_os_str().is_empty() {
            break;
        }
        sync(folder)?;
    }
    Ok(())
}

fn sync(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// The answers to HTTP-01 challenges (RFC 8555 §8.3), in the store that all nodes share.
#[derive(Debug, Clone)]
pub struct Tokens {
    store: Arc<dyn Store>,
}

impl Tokens {
    /// The challenges kept in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// What to answer under `/.well-known/acme-challenge/TOKEN`; `None` for an unknown token or what is no token.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn answer(&self, token: &str) -> Result<Option<String>, StoreError> {
        let Some(name) = record(token) else {
            return Ok(None);
        };
        let content = self.store.read(&name).await?;
        Ok(content.and_then(|bytes| String::from_utf8(bytes.to_vec()).ok()))
    }

    /// Answers `token` with `key_authorization` from now on.
    ///
    /// # Errors
    /// When the token is none of RFC 8555 §8.3, or the store cannot be written.
    pub async fn publish(&self, token: &str, key_authorization: &str) -> Result<(), StoreError> {
        let name = record(token).ok_or_else(|| StoreError {
            path: "challenge".to_owned(),
            action: "written",
            reason: "its token is not one of RFC 8555 §8.3".to_owned(),
        })?;
        self.store.write(&name, key_authorization.as_bytes()).await
    }

    /// Does not answer `token` any more.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn withdraw(&self, token: &str) -> Result<(), StoreError> {
        match record(token) {
            Some(name) => self.store.remove(&name).await,
            None => Ok(()),
        }
    }
}

/// The record of a token; RFC 8555 §8.3 allows base64url characters only.
fn record(token: &str) -> Option<String> {
    let plain = token
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    (plain && (1..=128).contains(&token.len())).then(|| format!("challenges/{token}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_record_is_replaced_as_a_whole_and_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::new(folder.path());
        assert!(store.read("names/a").await.unwrap().is_none());
        store.write("names/a", b"first").await.unwrap();
        store.write("names/a", b"2nd").await.unwrap();
        assert_eq!(
            store.read("names/a").await.unwrap().unwrap().as_slice(),
            b"2nd"
        );
        let mode = |path: &str| {
            let metadata = std::fs::metadata(folder.path().join(path)).unwrap();
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("names"), mode("names/a")), (0o700, 0o600));
        store.remove("names/a").await.unwrap();
        store.remove("names/a").await.unwrap();
        assert!(store.read("names/a").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn nothing_from_a_request_leaves_the_folder_of_challenges() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(FileStore::new(folder.path()));
        store.write("secret", b"key").await.unwrap();
        let tokens = Tokens::new(Arc::clone(&store));
        tokens.publish("aZ_-9", "aZ_-9.thumb").await.unwrap();
        assert_eq!(
            tokens.answer("aZ_-9").await.unwrap().unwrap(),
            "aZ_-9.thumb"
        );
        for wrong in [
            "",
            "../secret",
            "..",
            "a/b",
            "aZ_-9.new",
            "%2e%2e",
            &"a".repeat(129),
        ] {
            assert_eq!(tokens.answer(wrong).await.unwrap(), None, "{wrong}");
            assert!(tokens.publish(wrong, "x").await.is_err(), "{wrong}");
        }
        assert!(store.read("../x").await.is_err());
    }
}
