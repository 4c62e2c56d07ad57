//! Which of several processes with one store orders.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::store::StoreError;

/// The file that is locked, below the folder of the store. Whose it is stands in it, for people to read.
const FILE: &str = "lease";
/// Bytes of it that are read.
const MAX_HOLDER: usize = 300;

/// The right to order with what a folder holds, and to change it. One process has it at a time; its end, however it
/// comes, gives it back, as the lock is the kernel's.
#[derive(Debug)]
pub struct Lease(
    /// Holds the lock while it is open.
    #[expect(dead_code, reason = "its end is what counts")]
    File,
);

impl Lease {
    /// The lease of this folder, which is made when it is not there; `None` while another process has it.
    ///
    /// # Errors
    /// When the folder cannot be written, or its file system knows no locks.
    pub fn take(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(FILE);
        take(folder, &path).map_err(|error| failed(&path, &error))
    }

    /// Who has the lease, or had it last: the host and its process.
    #[must_use]
    pub fn holder(folder: &Path) -> Option<String> {
        let content = std::fs::read(folder.join(FILE)).ok()?;
        let text = String::from_utf8_lossy(content.get(..content.len().min(MAX_HOLDER))?);
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

fn take(folder: &Path, path: &Path) -> io::Result<Option<Lease>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    file.set_len(0)?;
    writeln!(file, "{host}, {}", std::process::id())?;
    Ok(Some(Lease(file)))
}

fn failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError {
        path: path.display().to_string(),
        action: "locked",
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_at_a_time_has_the_lease_of_a_folder_and_the_end_of_one_gives_it_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("acme");
        assert_eq!(Lease::holder(&shared), None);
        let first = Lease::take(&shared).unwrap().unwrap();
        let other_way = folder.path().join("other");
        std::os::unix::fs::symlink(&shared, &other_way).unwrap();
        assert!(Lease::take(&shared).unwrap().is_none());
        assert!(Lease::take(&other_way).unwrap().is_none());
        let holder = Lease::holder(&other_way).unwrap();
        assert!(
            holder.ends_with(&std::process::id().to_string()),
            "{holder}"
        );
        drop(first);
        assert!(Lease::take(&other_way).unwrap().is_some());
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_no_lease() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let said = Lease::take(&file).unwrap_err().to_string();
        assert!(said.contains("lease"), "{said}");
    }
}
