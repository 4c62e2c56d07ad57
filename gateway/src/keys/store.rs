//! The records of ACME, those with a key in them encrypted.

use std::sync::Arc;

use acme::{BoxFuture, Store, StoreError};
use zeroize::Zeroizing;

use super::{Passphrase, record};

/// Folders of records that hold private keys: accounts, and what belongs to a name.
const WITH_KEYS: [&str; 2] = ["accounts/", "names/"];
/// Of a name, what holds none, and is written at every step.
const STATE: &str = "/state";

/// A store in front of another. Without a passphrase it changes nothing; records in clear are read all
/// the same.
#[derive(Debug)]
pub struct SealedStore {
    inner: Arc<dyn Store>,
    passphrase: Option<Passphrase>,
}

impl SealedStore {
    /// In front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, passphrase: Option<Passphrase>) -> Self {
        Self { inner, passphrase }
    }
}

/// Whether a record of that name holds a private key.
pub(super) fn holds_key(name: &str) -> bool {
    WITH_KEYS.iter().any(|folder| name.starts_with(folder)) && !name.ends_with(STATE)
}

impl Store for SealedStore {
    fn read<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Zeroizing<Vec<u8>>>, StoreError>> {
        Box::pin(async move {
            let Some(content) = self.inner.read(name).await? else {
                return Ok(None);
            };
            if !record::is_sealed(&content) {
                return Ok(Some(content));
            }
            let passphrase = self.passphrase.clone();
            let open = move || record::open(&content, passphrase.as_ref());
            work(name, "read", open).await.map(Some)
        })
    }

    fn write<'a>(
        &'a self,
        name: &'a str,
        content: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        if !holds_key(name) {
            return self.inner.write(name, content);
        }
        let passphrase = self.passphrase.clone();
        let content = Zeroizing::new(content.to_vec());
        Box::pin(async move {
            let seal = move || record::seal(&content, passphrase.as_ref());
            let sealed = work(name, "written", seal).await?;
            self.inner.write(name, &sealed).await
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.inner.remove(name)
    }
}

/// A passphrase is dear by design: not on a thread that serves connections.
async fn work<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    name: &str,
    action: &'static str,
    job: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, StoreError> {
    let failed = |reason: String| StoreError {
        path: name.to_owned(),
        action,
        reason,
    };
    tokio::task::spawn_blocking(job)
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use acme::FileStore;

    use super::*;
    use crate::keys::for_tests;

    #[tokio::test]
    async fn records_with_keys_are_encrypted_and_what_anybody_may_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files: Arc<dyn Store> = Arc::new(FileStore::new(folder.path()));
        let passphrase = Some(for_tests("une phrase de passe"));
        let sealed = SealedStore::new(Arc::clone(&files), passphrase);
        let clear = SealedStore::new(Arc::clone(&files), None);
        for name in ["accounts/a", "names/vi1.centre.fr/current"] {
            clear.write(name, b"old key").await.unwrap();
            assert_eq!(
                sealed.read(name).await.unwrap().unwrap().as_slice(),
                b"old key"
            );
            sealed.write(name, b"new key").await.unwrap();
            assert_eq!(
                sealed.read(name).await.unwrap().unwrap().as_slice(),
                b"new key"
            );
            let kept = files.read(name).await.unwrap().unwrap();
            assert!(record::is_sealed(&kept), "{name}");
            let said = clear.read(name).await.unwrap_err().to_string();
            assert!(said.contains("passphrase"), "{said}");
        }
        for name in ["challenges/token", "names/vi1.centre.fr/state"] {
            sealed.write(name, b"{}").await.unwrap();
            assert_eq!(files.read(name).await.unwrap().unwrap().as_slice(), b"{}");
        }
    }
}
