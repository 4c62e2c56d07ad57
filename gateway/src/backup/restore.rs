//! Bringing a gateway back from its archive: everything is unpacked and verified aside, then put in place.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::fence::Fence;
use super::{DATA, FILES, MANIFEST, Manifest, beside, sync_folder};

/// Where an archive is unpacked, in the data folder.
pub(super) const STAGING: &str = ".restoring";
/// Where the data that were there go, in the data folder.
pub(super) const BEFORE: &str = "before-restore";
/// Greatest cost of a passphrase that is paid: scrypt with N = 2^20, 1 GiB.
const MAX_WORK: u8 = 20;
/// Files of an archive.
const MAX_FILES: usize = 5_000_000;
/// Bytes of a manifest.
const MAX_MANIFEST: u64 = 1 << 16;

/// What a restore brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Files put in place.
    pub files: usize,
    /// The configuration.
    pub config: PathBuf,
    /// The data folder.
    pub data_dir: PathBuf,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The passphrase is another one.
    #[error("la phrase de passe n'est pas celle de cette sauvegarde ; rien n'a été écrit")]
    Passphrase,
    /// The archive was cut, changed, or is none.
    #[error(
        "cette sauvegarde est abîmée ou n'en est pas une ({0}) ; rien n'a été écrit.\n  Remède : en prendre une autre copie."
    )]
    Damaged(String),
    /// The archive is of a later program.
    #[error(
        "cette sauvegarde vient d'une version plus récente (forme {0}).\n  Remède : installer cette version."
    )]
    Version(u32),
    /// Something is there already.
    #[error(
        "{0} existe déjà ; rien n'a été écrit.\n  Remède : restaurer sur une machine neuve, ou ajouter --replace."
    )]
    Exists(PathBuf),
    /// A file cannot be read or written.
    #[error("{path} : {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// Brings back what an archive holds, below `root` (`/` but for a trial), and fences it. `replace`: data
/// and files that are there already give way, the data to a folder beside.
///
/// # Errors
/// [`RestoreError`]; but for [`RestoreError::File`], nothing has changed. After that one the gateway does
/// not start until a restore comes to its end.
pub fn restore(
    archive: &Path,
    passphrase: &SecretString,
    root: &Path,
    replace: bool,
) -> Result<Restored, RestoreError> {
    let file = File::open(archive).map_err(failed(archive))?;
    let mut opened = tar::Archive::new(open(file, passphrase)?);
    let mut entries = opened.entries().map_err(damaged)?;
    let manifest = manifest(entries.next())?;
    let data_dir = below(root, &manifest.data_dir)?;
    let config = below(root, &manifest.config)?;
    let is_new = !data_dir.exists();
    make_durable_folder(&data_dir, 0o700).map_err(failed(&data_dir))?;
    let staging = data_dir.join(STAGING);
    let prepared = clear(&staging)
        .map_err(failed(&staging))
        .and_then(|()| unpack(entries, &staging));
    let prepared = prepared.and_then(|files| {
        // To the last byte: a cut archive shows at its end (age, STREAM).
        io::copy(&mut opened.into_inner(), &mut io::sink()).map_err(damaged)?;
        let outside = tree(&staging.join(FILES)).map_err(failed(&staging))?;
        let mut targets = Vec::new();
        for file in outside {
            let relative = file
                .strip_prefix(staging.join(FILES))
                .unwrap_or(&file)
                .to_owned();
            targets.push((file, root.join(relative)));
        }
        if !replace {
            refuse_existing(&data_dir, &targets)?;
        }
        Ok((files, targets))
    });
    let (files, mut targets) = prepared.inspect_err(|_| {
        let _ = fs::remove_dir_all(&staging);
        if is_new {
            let _ = fs::remove_dir(&data_dir);
        }
    })?;
    Fence::Incomplete
        .put_up(&data_dir)
        .map_err(failed(&data_dir))?;
    put_data(&staging.join(DATA), &data_dir).map_err(failed(&data_dir))?;
    // The configuration last.
    targets.sort_by_key(|(_, target)| *target == config);
    for (from, target) in &targets {
        put_file(from, target).map_err(failed(target))?;
    }
    Fence::Restored
        .put_up(&data_dir)
        .map_err(failed(&data_dir))?;
    fs::remove_dir_all(&staging).map_err(failed(&staging))?;
    Ok(Restored {
        files,
        config,
        data_dir,
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> RestoreError + use<> {
    let path = path.to_owned();
    move |source| RestoreError::File {
        path: path.clone(),
        source,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn damaged(error: io::Error) -> RestoreError {
    RestoreError::Damaged(error.to_string())
}

fn open(file: File, passphrase: &SecretString) -> Result<impl Read, RestoreError> {
    let decryptor = age::Decryptor::new_buffered(io::BufReader::new(file))
        .map_err(|error| RestoreError::Damaged(error.to_string()))?;
    if !decryptor.is_scrypt() {
        return Err(RestoreError::Damaged("sans phrase de passe".into()));
    }
    let secret = passphrase.expose_secret().to_owned().into();
    let mut identity = age::scrypt::Identity::new(secret);
    identity.set_max_work_factor(MAX_WORK);
    decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .map_err(|error| match error {
            age::DecryptError::DecryptionFailed
            | age::DecryptError::KeyDecryptionFailed
            | age::DecryptError::NoMatchingKeys => RestoreError::Passphrase,
            other => RestoreError::Damaged(other.to_string()),
        })
}

fn manifest<R: Read>(
    first: Option<io::Result<tar::Entry<'_, R>>>,
) -> Result<Manifest, RestoreError> {
    let missing = || RestoreError::Damaged("sans manifeste".into());
    let first = first.ok_or_else(missing)?.map_err(damaged)?;
    if first.path().map_err(damaged)? != Path::new(MANIFEST) {
        return Err(missing());
    }
    let mut text = Vec::new();
    first
        .take(MAX_MANIFEST)
        .read_to_end(&mut text)
        .map_err(damaged)?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|_| missing())?;
    match manifest.version {
        1 => Ok(manifest),
        later => Err(RestoreError::Version(later)),
    }
}

/// An absolute path without `..`, below another root.
fn below(root: &Path, path: &Path) -> Result<PathBuf, RestoreError> {
    let strange = || RestoreError::Damaged("un chemin n'est pas absolu".into());
    let relative = path.strip_prefix("/").map_err(|_| strange())?;
    is_plain(relative)
        .then(|| root.join(relative))
        .ok_or_else(strange)
}

fn is_plain(relative: &Path) -> bool {
    relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
        && relative.components().next().is_some()
}

fn unpack<'a, R: Read + 'a>(
    entries: impl Iterator<Item = io::Result<tar::Entry<'a, R>>>,
    staging: &Path,
) -> Result<usize, RestoreError> {
    let mut files = 0;
    for entry in entries {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path().map_err(damaged)?.into_owned();
        let known = name.starts_with(DATA) || name.starts_with(FILES);
        let regular = entry.header().entry_type().is_file();
        if !known || !regular || !is_plain(&name) || files >= MAX_FILES {
            return Err(RestoreError::Damaged("une entrée inattendue".into()));
        }
        let mode = entry.header().mode().map_err(damaged)? & 0o777;
        let target = staging.join(&name);
        let folder = target.parent().unwrap_or(staging);
        make_folder(folder).map_err(failed(folder))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)
            .map_err(failed(&target))?;
        // Reading and writing fail for different reasons: the archive, or this machine.
        copy(&mut entry, &mut file, &target)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
            .and_then(|()| file.sync_all())
            .map_err(failed(&target))?;
        files += 1;
    }
    Ok(files)
}

fn copy(from: &mut impl Read, to: &mut File, target: &Path) -> Result<(), RestoreError> {
    use io::Write as _;
    let mut buffer = zeroize::Zeroizing::new(vec![0; 1 << 16]);
    loop {
        let read = from.read(&mut buffer).map_err(damaged)?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        to.write_all(bytes).map_err(failed(target))?;
    }
}

fn refuse_existing(data_dir: &Path, targets: &[(PathBuf, PathBuf)]) -> Result<(), RestoreError> {
    if let Some((_, target)) = targets.iter().find(|(_, target)| target.exists()) {
        return Err(RestoreError::Exists(target.clone()));
    }
    let mut entries = fs::read_dir(data_dir).map_err(failed(data_dir))?;
    let other = entries.find_map(|entry| {
        let entry = entry.ok()?;
        (entry.file_name() != STAGING).then(|| entry.path())
    });
    other.map_or(Ok(()), |path| Err(RestoreError::Exists(path)))
}

/// Moves what is there out of the way, and the unpacked data in. What a restore before this one did
/// before it was interrupted is done again.
fn put_data(from: &Path, data_dir: &Path) -> io::Result<()> {
    let before = data_dir.join(BEFORE);
    if from.is_dir() {
        sync_tree(from)?;
    }
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let stays = [STAGING, BEFORE, super::fence::NAME, "lost+found"];
        if stays.iter().any(|stays| name == *stays) {
            continue;
        }
        make_folder(&before)?;
        let target = before.join(&name);
        if fs::symlink_metadata(&target).is_ok_and(|found| found.is_dir()) {
            fs::remove_dir_all(&target)?;
        }
        fs::rename(entry.path(), target)?;
    }
    if before.is_dir() {
        File::open(&before)?.sync_all()?;
    }
    if from.is_dir() {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::rename(entry.path(), data_dir.join(entry.file_name()))?;
        }
    }
    File::open(data_dir)?.sync_all()
}

/// Puts a file in place in one step, on whatever file system its place is.
fn put_file(from: &Path, target: &Path) -> io::Result<()> {
    if let Some(folder) = target.parent() {
        // Folders of configurations are open to be read; keys in them are closed.
        make_durable_folder(folder, 0o755)?;
    }
    let mode = fs::metadata(from)?.permissions();
    let temporary = beside(target, "tmp");
    let _ = fs::remove_file(&temporary);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.set_permissions(mode)?;
    file.sync_all()?;
    fs::rename(&temporary, target)?;
    sync_folder(target)
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes a folder and those that are missing above it; their names are durable when it returns.
fn make_durable_folder(path: &Path, mode: u32) -> io::Result<()> {
    let is_new = |folder: &&Path| !folder.is_dir();
    let new: Vec<&Path> = path.ancestors().take_while(is_new).collect();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    new.into_iter().try_for_each(sync_folder)
}

/// Makes the names of all that is in a folder durable.
fn sync_tree(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        File::open(&folder)?.sync_all()?;
    }
    Ok(())
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => make_folder(folder),
    }
}

/// All files below a folder; none when it is not there.
fn tree(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => folders.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    Ok(files)
}
