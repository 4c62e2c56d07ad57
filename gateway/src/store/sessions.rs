//! Sealed sessions: the store sees names and ciphertext.

use super::StoreError;
use super::sled::failed;

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
