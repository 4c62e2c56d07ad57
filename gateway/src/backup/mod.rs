//! Backup of all that makes a gateway: configuration, the files it names, keys, certificates, accounts,
//! published exams. One age file (any `age` opens it) with a tar archive in it.
//!
//! Not in it: images in the cache, what can be rebuilt (the folder `store`), and the audit trail, which
//! lives on its own and is exported; of the trail it has the anchor, which proves later where it stood.

pub mod fence;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::certs::inventory::REVOCATION_LISTS;
use crate::config::Config;
use fence::Fence;
pub use restore::{RestoreError, Restored, restore};

/// Cost of guessing the passphrase: scrypt with N = 2^17, 128 MiB for each try.
pub const WORK: u8 = 17;
/// Shortest passphrase, characters.
const MIN_PASSPHRASE: usize = 12;
/// Bytes of a passphrase file.
const MAX_PASSPHRASE: u64 = 4_096;
/// Folders below one another.
const MAX_DEPTH: usize = 32;
/// Largest file that a key of the configuration names and that is taken along, bytes.
const MAX_NAMED: u64 = 64 << 20;
/// Folders and files of the data folder that stay behind.
const LEFT_OUT: [&str; 7] = [
    "store",
    "store.damaged",
    "lock",
    fence::NAME,
    restore::STAGING,
    restore::BEFORE,
    // Fetched again, and nothing is decided by it.
    REVOCATION_LISTS,
];
/// Below `data_dir`, folders that may be elsewhere: market certificates.
const SHARED: [&str; 2] = ["acme", "acme-staging"];
/// First entry of the archive.
const MANIFEST: &str = "manifest.json";
/// Where the entries of the data folder are in the archive.
const DATA: &str = "data";
/// Where other files are in the archive, by absolute path.
const FILES: &str = "files";
/// Where the anchor of the audit trail comes to, in the data folder of the restored machine.
const ANCHOR: &str = "audit-anchor.before-restore";

/// What stands first in an archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Manifest {
    /// Form of the archive: 1.
    version: u32,
    /// Version of the program.
    made_by: String,
    /// The configuration, absolute path.
    config: PathBuf,
    /// The data folder, absolute path.
    data_dir: PathBuf,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("{path} : {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// There is such a file already.
    #[error("{0} existe déjà.\n  Remède : indiquer un autre nom de fichier.")]
    Exists(PathBuf),
    /// The passphrase file is open to others.
    #[error("{path} : lisible par d'autres (droits {mode:o}).\n  Remède : chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The passphrase is too short.
    #[error(
        "{0} : la phrase de passe a moins de {MIN_PASSPHRASE} caractères.\n  Remède : en écrire une longue sur \
         la première ligne, et la garder ailleurs que la sauvegarde."
    )]
    Short(PathBuf),
}

/// What was put into an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The passphrase on the first line of a file that only its owner reads.
///
/// # Errors
/// [`BackupError`].
pub fn passphrase(path: &Path) -> Result<SecretString, BackupError> {
    let failed = |source| BackupError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(BackupError::Exposed { path, mode });
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.take(MAX_PASSPHRASE)
        .read_to_string(&mut text)
        .map_err(failed)?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.chars().count() < MIN_PASSPHRASE {
        return Err(BackupError::Short(path.to_owned()));
    }
    Ok(line.to_owned().into())
}

/// Writes the archive of a gateway to a new file. `moving`: this gateway is fenced once the archive is
/// whole. The service may run meanwhile: each of its files is replaced in one step.
///
/// # Errors
/// [`BackupError`]; there is then no archive under that name.
pub fn backup(
    config: &Config,
    config_file: &Path,
    to: &Path,
    passphrase: SecretString,
    work: u8,
    moving: bool,
) -> Result<BackedUp, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    if to.exists() {
        return Err(BackupError::Exists(to.to_owned()));
    }
    let config_file = std::path::absolute(config_file).map_err(failed(config_file))?;
    let chosen = choose(config, &config_file)?;
    let temporary = beside(to, "tmp");
    let written =
        write(config, &config_file, &chosen, &temporary, passphrase, work).inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })?;
    fs::rename(&temporary, to)
        .and_then(|()| sync_folder(to))
        .map_err(failed(to))?;
    if moving {
        Fence::Moved
            .put_up(&config.data_dir)
            .map_err(failed(&config.data_dir))?;
    }
    Ok(written)
}

/// A file and its name in the archive.
type Chosen = (PathBuf, PathBuf);

fn choose(config: &Config, config_file: &Path) -> Result<Vec<Chosen>, BackupError> {
    let mut chosen = Vec::new();
    let skipped = [config.audit.dir.as_path(), config.cache.dir.as_path()];
    walk(&config.data_dir, Path::new(DATA), &skipped, 0, &mut chosen)?;
    let anchor = config.audit.dir.join("anchor");
    if anchor.is_file() {
        chosen.push((anchor, Path::new(DATA).join(ANCHOR)));
    }
    let data_dir = &config.data_dir;
    for file in named(config_file)? {
        if !file.starts_with(data_dir) || skipped.iter().any(|dir| file.starts_with(dir)) {
            let relative = file.strip_prefix("/").unwrap_or(&file);
            chosen.push((file.clone(), Path::new(FILES).join(relative)));
        }
    }
    Ok(chosen)
}

fn walk(
    dir: &Path,
    name: &Path,
    skipped: &[&Path],
    depth: usize,
    chosen: &mut Vec<Chosen>,
) -> Result<(), BackupError> {
    let failed = |source| BackupError::File {
        path: dir.to_owned(),
        source,
    };
    let mut entries: Vec<_> = fs::read_dir(dir)
        .and_then(Iterator::collect::<io::Result<_>>)
        .map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, file_name) = (entry.path(), entry.file_name());
        let left_out = depth == 0 && LEFT_OUT.iter().any(|out| file_name == OsStr::new(out));
        if left_out || skipped.contains(&path.as_path()) {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        // Nodes may share it by a link; other links are not followed.
        let shared = depth == 0 && SHARED.iter().any(|shared| file_name == OsStr::new(shared));
        let is_dir = kind.is_dir() || (shared && path.is_dir());
        let name = name.join(file_name);
        if is_dir && depth < MAX_DEPTH {
            walk(&path, &name, skipped, depth + 1, chosen)?;
        } else if kind.is_file() {
            chosen.push((path, name));
        }
    }
    Ok(())
}

/// The configuration, every file that a text in it names, and what stands beside those under the same
/// name (`db.key` → `db.key.…`: requests under way, what can be gone back to).
fn named(config_file: &Path) -> Result<BTreeSet<PathBuf>, BackupError> {
    let failed = |source| BackupError::File {
        path: config_file.to_owned(),
        source,
    };
    let text = fs::read_to_string(config_file).map_err(failed)?;
    let mut files = BTreeSet::from([config_file.to_owned()]);
    let (document, _) = DeTable::parse_recoverable(&text);
    let base = config_file.parent().unwrap_or(Path::new("/"));
    let mut values: Vec<&DeValue<'_>> = document.get_ref().values().map(|v| v.get_ref()).collect();
    while let Some(value) = values.pop() {
        match value {
            DeValue::Table(table) => values.extend(table.values().map(|v| v.get_ref())),
            DeValue::Array(items) => values.extend(items.iter().map(|v| v.get_ref())),
            DeValue::String(text) => {
                let Ok(path) = std::path::absolute(base.join(text.as_ref())) else {
                    continue;
                };
                // The system's own authorities are on the other machine too.
                let is_ours = !path.starts_with("/etc/ssl/certs") && is_small_file(&path);
                if is_ours {
                    files.extend(companions(&path));
                    files.insert(path);
                }
            }
            _ => {}
        }
    }
    Ok(files)
}

fn is_small_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= MAX_NAMED)
}

fn companions(path: &Path) -> Vec<PathBuf> {
    let Some((folder, name)) = path.parent().zip(path.file_name()) else {
        return Vec::new();
    };
    let mut start = name.to_owned();
    start.push(".");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes()
                .starts_with(start.as_encoded_bytes())
                && !name.as_encoded_bytes().ends_with(b".tmp")
        })
        .map(|entry| entry.path())
        .filter(|path| is_small_file(path))
        .collect()
}

fn write(
    config: &Config,
    config_file: &Path,
    chosen: &[Chosen],
    to: &Path,
    passphrase: SecretString,
    work: u8,
) -> Result<BackedUp, BackupError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::File { path, source }
    };
    let manifest = Manifest {
        version: 1,
        made_by: env!("CARGO_PKG_VERSION").to_owned(),
        config: config_file.to_owned(),
        data_dir: config.data_dir.clone(),
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|e| failed(to)(e.into()))?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(to)
        .map_err(failed(to))?;
    let secret = passphrase.expose_secret().to_owned().into();
    let mut recipient = age::scrypt::Recipient::new(secret);
    recipient.set_work_factor(work);
    let encryptor =
        age::Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            .map_err(|error| failed(to)(io::Error::other(error.to_string())))?;
    let sealed = encryptor
        .wrap_output(io::BufWriter::new(file))
        .map_err(failed(to))?;
    let mut archive = tar::Builder::new(sealed);
    append(
        &mut archive,
        Path::new(MANIFEST),
        0o600,
        manifest.len() as u64,
        &*manifest,
    )
    .map_err(failed(to))?;
    let mut done = BackedUp { files: 0, bytes: 0 };
    for (path, name) in chosen {
        let open = match File::open(path) {
            Ok(open) => open,
            // Files of the data folder come and go while the service runs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(path)(error)),
        };
        let metadata = open.metadata().map_err(failed(path))?;
        let (length, mode) = (metadata.len(), metadata.permissions().mode() & 0o777);
        // One that grows is cut at its length of now; one that shrinks is noticed.
        let mut counted = Counted {
            inner: open.take(length),
            read: 0,
        };
        append(&mut archive, name, mode, length, &mut counted).map_err(failed(path))?;
        if counted.read != length {
            let shrunk = io::Error::other("a rétréci pendant la sauvegarde ; relancer la commande");
            return Err(failed(path)(shrunk));
        }
        done.files += 1;
        done.bytes = done.bytes.saturating_add(length);
    }
    let sealed = archive.into_inner().map_err(failed(to))?;
    let mut file = sealed.finish().map_err(failed(to))?;
    file.flush().map_err(failed(to))?;
    file.get_ref().sync_all().map_err(failed(to))?;
    Ok(done)
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    name: &Path,
    mode: u32,
    length: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(mode);
    header.set_entry_type(tar::EntryType::Regular);
    archive.append_data(&mut header, name, content)
}

struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: io::Read> io::Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read = self.read.saturating_add(read as u64);
        Ok(read)
    }
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.file_name().map(OsStr::to_owned).unwrap_or_default();
    name.push(".");
    name.push(suffix);
    file.with_file_name(name)
}

/// Writes a file under another name, then renames; durable when it returns.
fn write_durably(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(path)
}

/// Makes the entries of the folder of `path` durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
