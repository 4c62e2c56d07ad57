//! Sealed sessions: the store sees names and ciphertext.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use super::sled::failed;
use super::{StoreError, written};

/// Name and ciphertext of a record.
pub type SealedSession = (Vec<u8>, Vec<u8>);

/// Records of sessions, encrypted by who writes them.
pub trait SessionStore: Send + Sync + 'static {
    /// Keeps a record in place of an older one, on disk before returning: whoever was let in stays in after
    /// a crash.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put(&self, name: &[u8], record: &[u8]) -> Result<(), StoreError>;

    /// Forgets a record, before returning: a session that ended must not come back with the next start.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&self, name: &[u8]) -> Result<(), StoreError>;

    /// Every record, `most` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    fn all(&self, most: usize) -> Result<Vec<SealedSession>, StoreError>;
}

/// Removals of records, tried again until the disk takes them.
#[derive(Debug, Default)]
pub struct Removals(Mutex<HashSet<Vec<u8>>>);

impl Removals {
    /// Removes a record off the async threads; what fails is told, as that of `what`, and left for
    /// [`Self::again`].
    pub async fn remove(&self, store: &Arc<dyn SessionStore>, what: &'static str, name: &[u8]) {
        self.0.lock().insert(name.to_vec());
        let (store, gone) = (Arc::clone(store), name.to_vec());
        let removed = written(what, move || store.remove(&gone)).await;
        if removed.is_ok() {
            self.0.lock().remove(name);
        }
    }

    /// Removes what could not be removed before.
    pub async fn again(&self, store: &Arc<dyn SessionStore>, what: &'static str) {
        let left: Vec<_> = self.0.lock().iter().cloned().collect();
        for name in left {
            self.remove(store, what, &name).await;
        }
    }
}

/// Sessions in the embedded database.
#[derive(Debug, Clone)]
pub struct SledSessions(pub(super) sled::Tree);

impl SessionStore for SledSessions {
    fn put(&self, name: &[u8], record: &[u8]) -> Result<(), StoreError> {
        self.0.insert(name, record).map_err(failed)?;
        self.0.flush().map_err(failed)?;
        Ok(())
    }

    fn remove(&self, name: &[u8]) -> Result<(), StoreError> {
        self.0.remove(name).map_err(failed)?;
        self.0.flush().map_err(failed)?;
        Ok(())
    }

    fn all(&self, most: usize) -> Result<Vec<SealedSession>, StoreError> {
        let records = self.0.iter().take(most).map(|record| {
            let (name, record) = record.map_err(failed)?;
            Ok((name.to_vec(), record.to_vec()))
        });
        records.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Takes no removal while it is full.
    #[derive(Default)]
    struct Full {
        is_full: AtomicBool,
        gone: Mutex<Vec<Vec<u8>>>,
    }

    impl SessionStore for Full {
        fn put(&self, _: &[u8], _: &[u8]) -> Result<(), StoreError> {
            Ok(())
        }

        fn remove(&self, name: &[u8]) -> Result<(), StoreError> {
            if self.is_full.load(Ordering::SeqCst) {
                return Err(StoreError("no room".into()));
            }
            self.gone.lock().push(name.to_vec());
            Ok(())
        }

        fn all(&self, _: usize) -> Result<Vec<SealedSession>, StoreError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn what_a_full_disk_kept_is_removed_once_there_is_room() {
        let full = Arc::new(Full::default());
        full.is_full.store(true, Ordering::SeqCst);
        let store = Arc::clone(&full) as Arc<dyn SessionStore>;
        let removals = Removals::default();
        removals.remove(&store, "a session", b"name").await;
        removals.again(&store, "a session").await;
        assert!(full.gone.lock().is_empty());
        full.is_full.store(false, Ordering::SeqCst);
        removals.again(&store, "a session").await;
        removals.again(&store, "a session").await;
        assert_eq!(*full.gone.lock(), [b"name".to_vec()]);
    }
}
