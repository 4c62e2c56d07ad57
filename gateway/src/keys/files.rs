//! Files of keys and certificates: written whole and durably, or not at all, and read by the service
//! alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Uid};
use zeroize::Zeroizing;

/// Bytes of a file of keys or certificates.
const MAX_BYTES: u64 = 4 << 20;

/// Files beside a key that hold one too: of a request under way, of an installation, of before.
const COMPANIONS: [&str; 3] = ["nouvelle", "arrivant", "ancien"];

/// The files that may stand beside a key and hold one too.
pub(crate) fn companions(key: &Path) -> impl Iterator<Item = PathBuf> {
    COMPANIONS.iter().map(|suffix| beside(key, suffix))
}

/// The name of a file beside another: `db.key` → `db.key.SUFFIX`.
pub(crate) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().map(OsString::from).unwrap_or_default();
    name.push(".");
    name.push(suffix);
    file.with_file_name(name)
}

/// Writes a file that only its owner reads, durable when it returns; an older one of that name is
/// replaced in one step. Written by root it belongs to whom the older one belonged to, or else its
/// folder: root installs for the service.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    // An older temporary file may have been open to others, or be a link.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    if rustix::process::geteuid().is_root() {
        let model = fs::metadata(path).or_else(|_| fs::metadata(folder_of(path)))?;
        let (user, group) = (Uid::from_raw(model.uid()), Gid::from_raw(model.gid()));
        rustix::fs::fchown(&file, Some(user), Some(group))?;
    }
    file.write_all(content)?;
    file.sync_all()?;
    rename(&temporary, path)
}

/// Renames durably.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)
}

/// Makes the entries of the folder of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// What a file holds, up to a size that no key or chain of certificates has.
pub(crate) fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len().min(MAX_BYTES);
    // The whole capacity at once: no copy of a key stays behind in a reallocation.
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
    file.take(MAX_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

/// The permission bits of a file that others than its owner may read or write.
pub(crate) fn exposed(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_is_written_for_its_owner_alone_whatever_stood_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k.pem");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        // A rest of a crash, which somebody else could hold open.
        fs::write(beside(&path, "tmp"), "rest").unwrap();
        write_new(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(exposed(&path), None);
        assert!(!beside(&path, "tmp").exists());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(exposed(&path), Some(0o604));
    }

    #[test]
    fn what_root_writes_belongs_to_whom_the_folder_or_the_older_file_belongs() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(4_321), Some(4_322)).unwrap();
        let path = folder.path().join("k.pem");
        let owner = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            (metadata.uid(), metadata.gid())
        };
        write_new(&path, b"first").unwrap();
        assert_eq!(owner(&path), (4_321, 4_322));
        std::os::unix::fs::chown(&path, Some(4_323), Some(4_324)).unwrap();
        write_new(&path, b"second").unwrap();
        assert_eq!(owner(&path), (4_323, 4_324));
    }
}
