//! Files of the trust folder: small, written whole or not at all.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub(super) fn read(path: &Path, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(std::io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Replaces a file: after a power loss it holds the old bytes or the new ones.
pub(super) fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    hand_over(file.as_file(), folder)?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Gives a file to the account that the folder belongs to: a command that root runs writes for the
/// service.
fn hand_over(file: &File, folder: &Path) -> std::io::Result<()> {
    let (own, wanted) = (file.metadata()?, fs::metadata(folder)?);
    if own.uid() == wanted.uid() {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(wanted.uid()), Some(wanted.gid()))
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Holds the folder against the other processes (the service, a command) while it writes.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "held, never read")] File);

impl Lock {
    pub(super) fn take(folder: &Path) -> std::io::Result<Self> {
        let path: PathBuf = folder.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        hand_over(&file, folder)?;
        file.lock()?;
        Ok(Self(file))
    }
}
