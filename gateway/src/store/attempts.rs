//! Refused attempts: a restart gives nobody new ones.

use super::StoreError;
use super::sled::failed;

/// Refusals within a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// When the window began, seconds since 1970.
    pub since: u64,
    /// How many there were in it.
    pub count: u32,
}

/// Counters of refused attempts, by the name of what they are about.
pub trait AttemptStore: Send + Sync + 'static {
    /// Keeps a counter in place of the older one, on disk before it returns.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put(&self, name: &[u8], attempts: Attempts) -> Result<(), StoreError>;

    /// Every counter, `most` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    fn all(&self, most: usize) -> Result<Vec<(Vec<u8>, Attempts)>, StoreError>;

    /// Forgets the counters whose window began before this second.
    ///
    /// # Errors
    /// [`StoreError`].
    fn forget_before(&self, second: u64) -> Result<(), StoreError>;

    /// Whether other nodes count in it too.
    fn is_shared(&self) -> bool {
        false
    }

    /// What the other nodes counted under this name in windows that began at this second or later.
    ///
    /// # Errors
    /// [`StoreError`].
    fn counted_elsewhere(&self, _name: &[u8], _since: u64) -> Result<u32, StoreError> {
        Ok(0)
    }
}

/// Counters in the embedded database.
#[derive(Debug, Clone)]
pub struct SledAttempts(pub(super) sled::Tree);

impl AttemptStore for SledAttempts {
    fn put(&self, name: &[u8], attempts: Attempts) -> Result<(), StoreError> {
        let value = [
            attempts.since.to_be_bytes().as_slice(),
            attempts.count.to_be_bytes().as_slice(),
        ]
        .concat();
        self.0.insert(name, value).map_err(failed)?;
        self.0.flush().map_err(failed)?;
        Ok(())
    }

    fn all(&self, most: usize) -> Result<Vec<(Vec<u8>, Attempts)>, StoreError> {
        let mut all = Vec::new();
        for record in self.0.iter().take(most) {
            let (name, value) = record.map_err(failed)?;
            if let Some(attempts) = read(&value) {
                all.push((name.to_vec(), attempts));
            }
        }
        Ok(all)
    }

    fn forget_before(&self, second: u64) -> Result<(), StoreError> {
        for record in self.0.iter() {
            let (name, value) = record.map_err(failed)?;
            // What cannot be read any more is as good as old.
            if read(&value).is_none_or(|attempts| attempts.since < second) {
                self.0.remove(name).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn read(value: &[u8]) -> Option<Attempts> {
    let (since, count) = value.split_first_chunk()?;
    Some(Attempts {
        since: u64::from_be_bytes(*since),
        count: u32::from_be_bytes(count.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::store::SledStore;

    /// What every backend keeps to; `open` again stands for a restart of the service.
    fn contract<S: AttemptStore>(dir: &Path, open: impl Fn(&Path) -> S) {
        let of = |since, count| Attempts { since, count };
        let store = open(dir);
        assert!(store.all(10).unwrap().is_empty());
        store.put(b"a", of(100, 1)).unwrap();
        store.put(b"a", of(100, 2)).unwrap();
        store.put(b"b", of(200, 7)).unwrap();
        drop(store);
        let store = open(dir);
        let mut all = store.all(10).unwrap();
        all.sort_by_key(|(name, _)| name.clone());
        assert_eq!(
            all,
            [(b"a".to_vec(), of(100, 2)), (b"b".to_vec(), of(200, 7))]
        );
        assert_eq!(store.all(1).unwrap().len(), 1);
        store.forget_before(200).unwrap();
        assert_eq!(store.all(10).unwrap(), [(b"b".to_vec(), of(200, 7))]);
    }

    #[test]
    fn sled_keeps_the_contract() {
        let dir = TempDir::new().unwrap();
        contract(dir.path(), |dir| {
            SledStore::open(dir).unwrap().attempts().unwrap()
        });
    }

    #[test]
    fn a_damaged_counter_is_no_counter() {
        let dir = TempDir::new().unwrap();
        let store = SledStore::open(dir.path()).unwrap().attempts().unwrap();
        store.0.insert(b"a", b"short").unwrap();
        assert!(store.all(10).unwrap().is_empty());
        store.forget_before(0).unwrap();
        assert!(store.0.is_empty());
    }
}
