//! Counters of refused attempts in a folder that several nodes share.
//!
//! Each node writes files of its own, whole and renamed into place, and reads those of the others: nothing is locked,
//! and a folder on a network will do. Attempts at the very same moment on several nodes may each count as the last.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::StoreError;
use super::attempts::{AttemptStore, Attempts};

/// Longest name of a counter, bytes.
const MAX_NAME: usize = 128;
/// Bytes before the name in a file: when the window began, and the count.
const HEAD: usize = 12;
/// Nodes whose files are looked for.
const MAX_NODES: usize = 64;

/// Counters in a shared folder, with a folder in it for each node.
#[derive(Debug, Clone)]
pub struct SharedAttempts {
    root: PathBuf,
    own: PathBuf,
}

impl SharedAttempts {
    /// In this folder, as this node. Blocks.
    ///
    /// # Errors
    /// [`StoreError`] when the node's folder cannot be made.
    pub fn open(root: &Path, node: &str) -> Result<Self, StoreError> {
        let digest = hex(&Sha256::digest(node.as_bytes()));
        let own = root.join(format!("node-{}", digest.get(..16).unwrap_or_default()));
        fs::create_dir_all(&own).map_err(failed(&own))?;
        Ok(Self {
            root: root.to_owned(),
            own,
        })
    }

    fn nodes(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut nodes = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed(&self.root))? {
            let entry = entry.map_err(failed(&self.root))?;
            let is_node = entry.file_name().to_string_lossy().starts_with("node-");
            if is_node && entry.path() != self.own && nodes.len() < MAX_NODES {
                nodes.push(entry.path());
            }
        }
        Ok(nodes)
    }
}

impl AttemptStore for SharedAttempts {
    fn put(&self, name: &[u8], attempts: Attempts) -> Result<(), StoreError> {
        let file = self.own.join(file_name(name));
        let new = file.with_extension("new");
        let mut text = Vec::with_capacity(HEAD + name.len());
        text.extend_from_slice(&attempts.since.to_be_bytes());
        text.extend_from_slice(&attempts.count.to_be_bytes());
        text.extend_from_slice(name);
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(failed(&new))?;
        fs::rename(&new, &file).map_err(failed(&file))?;
        let dir = File::open(&self.own).and_then(|dir| dir.sync_all());
        dir.map_err(failed(&self.own))
    }

    fn all(&self, most: usize) -> Result<Vec<(Vec<u8>, Attempts)>, StoreError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.own).map_err(failed(&self.own))? {
            let path = entry.map_err(failed(&self.own))?.path();
            if all.len() >= most {
                break;
            }
            if path.extension().is_none() {
                all.extend(read(&path)?);
            }
        }
        Ok(all)
    }

    fn forget_before(&self, second: u64) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.own).map_err(failed(&self.own))? {
            let path = entry.map_err(failed(&self.own))?.path();
            let is_over = read(&path)?.is_none_or(|(_, attempts)| attempts.since < second);
            if is_over && path.extension().is_none() {
                fs::remove_file(&path).map_err(failed(&path))?;
            }
        }
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn counted_elsewhere(&self, name: &[u8], since: u64) -> Result<u32, StoreError> {
        let file = file_name(name);
        let mut count = 0_u32;
        for node in self.nodes()? {
            if let Some((found, attempts)) = read(&node.join(&file))?
                && found == name
                && attempts.since >= since
            {
                count = count.saturating_add(attempts.count);
            }
        }
        Ok(count)
    }
}

/// A counter; `None` when there is no such file, or what it holds is none.
fn read(path: &Path) -> Result<Option<(Vec<u8>, Attempts)>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(path)(error)),
    };
    let mut text = Vec::new();
    let most = (HEAD + MAX_NAME) as u64;
    file.take(most)
        .read_to_end(&mut text)
        .map_err(failed(path))?;
    let parts = text.split_first_chunk::<8>().and_then(|(since, rest)| {
        let (count, name) = rest.split_first_chunk::<4>()?;
        let attempts = Attempts {
            since: u64::from_be_bytes(*since),
            count: u32::from_be_bytes(*count),
        };
        Some((name.to_vec(), attempts))
    });
    Ok(parts)
}

/// Nothing that comes from outside becomes a file name.
fn file_name(name: &[u8]) -> String {
    hex(&Sha256::digest(name))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |error| StoreError(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_node_keeps_its_counters_and_sees_those_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (
            SharedAttempts::open(dir.path(), "one").unwrap(),
            SharedAttempts::open(dir.path(), "two").unwrap(),
        );
        let at = |since, count| Attempts { since, count };
        one.put(b"s1.2.3", at(100, 3)).unwrap();
        one.put(b"s1.2.3", at(100, 4)).unwrap();
        one.put(b"s1.2.4", at(50, 9)).unwrap();
        let again = SharedAttempts::open(dir.path(), "one").unwrap();
        assert_eq!(again.all(10).unwrap().len(), 2);
        assert_eq!(two.counted_elsewhere(b"s1.2.3", 100).unwrap(), 4);
        assert_eq!(two.counted_elsewhere(b"s1.2.3", 101).unwrap(), 0);
        assert_eq!(one.counted_elsewhere(b"s1.2.3", 0).unwrap(), 0, "its own");
        one.forget_before(60).unwrap();
        assert_eq!(one.all(10).unwrap(), [(b"s1.2.3".to_vec(), at(100, 4))]);
        assert_eq!(two.counted_elsewhere(b"s1.2.4", 0).unwrap(), 0);
    }

    #[test]
    fn a_damaged_file_is_no_counter() {
        let dir = tempfile::tempdir().unwrap();
        let one = SharedAttempts::open(dir.path(), "one").unwrap();
        one.put(b"s1", Attempts { since: 5, count: 1 }).unwrap();
        fs::write(one.own.join(file_name(b"s1")), b"short").unwrap();
        assert!(one.all(10).unwrap().is_empty());
        one.forget_before(1).unwrap();
        assert_eq!(fs::read_dir(&one.own).unwrap().count(), 0);
    }
}
