#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::fence::{FenceError, pass};
use super::*;
use crate::config;

/// Fast enough for tests.
const LIGHT: u8 = 4;

struct Old {
    folder: TempDir,
    config: Config,
    file: PathBuf,
}

fn put(path: &Path, mode: u32, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A gateway with a bit of everything.
fn old() -> Old {
    let folder = TempDir::new().unwrap();
    let etc = folder.path().join("etc");
    let data = folder.path().join("data");
    put(
        &etc.join("tokens"),
        0o600,
        b"jeton-local 0123456789abcdef0123456789abcdef\n",
    );
    put(&etc.join("tokens.precedent"), 0o600, b"avant");
    put(&data.join("sessions.key"), 0o600, b"cle des sessions");
    put(&data.join("exams/ct/one.json"), 0o600, &vec![7; 300_000]);
    put(&data.join("acme/accounts/a"), 0o600, b"compte");
    put(&data.join("audit/anchor"), 0o600, b"ancre");
    put(&data.join("audit/segment"), 0o600, b"registre");
    put(&data.join("cache/image"), 0o600, b"image");
    put(&data.join("store/db"), 0o600, b"index");
    symlink("/etc/passwd", data.join("link")).unwrap();
    let text = format!(
        "data_dir = \"{}\"\n[local]\nlisten = \"127.0.0.1:8080\"\n[admin]\n\
         [dimse]\nae_title = \"DRIMBOX\"\n[[pacs]]\nname = \"ct\"\n[pacs.dimse]\nae_title = \"PACS\"\n\
         host = \"127.0.0.1\"\nport = 104\n[login]\ncentre = \"tokens\"\n",
        data.display()
    );
    let file = etc.join("drimbox.toml");
    put(&file, 0o644, text.as_bytes());
    let config = config::load(&file).unwrap_or_else(|error| panic!("{error}"));
    Old {
        folder,
        config,
        file,
    }
}

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

fn archive(old: &Old, moving: bool) -> PathBuf {
    let to = old.folder.path().join("sauvegarde.age");
    let done = backup(
        &old.config,
        &old.file,
        &to,
        secret("phrase de passe"),
        LIGHT,
        moving,
    );
    assert!(done.unwrap().files >= 6);
    to
}

/// Where a path of the old machine is below the new root.
fn there(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap())
}

#[test]
fn a_gateway_comes_back_whole_on_another_machine_with_its_permissions() {
    let old = old();
    let archive = archive(&old, false);
    let new = TempDir::new().unwrap();
    let restored = restore(&archive, &secret("phrase de passe"), new.path(), false).unwrap();
    assert_eq!(restored.config, there(new.path(), &old.file));
    let data = &old.config.data_dir;
    let etc = old.file.parent().unwrap();
    for path in [
        old.file.clone(),
        etc.join("tokens"),
        etc.join("tokens.precedent"),
        data.join("sessions.key"),
        data.join("exams/ct/one.json"),
        data.join("acme/accounts/a"),
    ] {
        let came = there(new.path(), &path);
        assert_eq!(
            fs::read(&came).unwrap(),
            fs::read(&path).unwrap(),
            "{}",
            path.display()
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&came), mode(&path), "{}", path.display());
    }
    let data = there(new.path(), data);
    assert_eq!(fs::read(data.join(ANCHOR)).unwrap(), b"ancre");
    for left in ["audit", "cache", "store", "link", restore::STAGING] {
        assert!(!data.join(left).exists(), "{left}");
    }
}

#[test]
fn certificates_that_nodes_share_by_a_link_are_in_the_archive() {
    let old = old();
    let acme = old.config.data_dir.join("acme");
    let shared = old.folder.path().join("shared");
    fs::rename(&acme, &shared).unwrap();
    symlink(&shared, &acme).unwrap();
    let archive = archive(&old, false);
    let new = TempDir::new().unwrap();
    restore(&archive, &secret("phrase de passe"), new.path(), false).unwrap();
    let account = there(new.path(), &acme.join("accounts/a"));
    assert_eq!(fs::read(account).unwrap(), b"compte");
}

#[test]
fn the_new_machine_and_the_moved_one_do_not_start_until_somebody_vouches() {
    let old = old();
    assert!(pass(&old.config.data_dir, false).is_ok());
    let archive = archive(&old, true);
    assert!(matches!(
        pass(&old.config.data_dir, false),
        Err(FenceError::Moved)
    ));

    let new = TempDir::new().unwrap();
    let restored = restore(&archive, &secret("phrase de passe"), new.path(), false).unwrap();
    assert!(matches!(
        pass(&restored.data_dir, false),
        Err(FenceError::Restored)
    ));
    pass(&restored.data_dir, true).unwrap();
    assert!(pass(&restored.data_dir, false).is_ok());
    Fence::Incomplete.put_up(&restored.data_dir).unwrap();
    assert!(matches!(
        pass(&restored.data_dir, true),
        Err(FenceError::Incomplete)
    ));
}

#[test]
fn another_passphrase_or_any_damage_writes_nothing() {
    let old = old();
    let archive = archive(&old, false);
    let new = TempDir::new().unwrap();
    let untouched = |root: &Path| {
        assert!(!there(root, &old.config.data_dir).exists());
        assert!(!there(root, &old.file).exists());
    };
    let wrong = restore(&archive, &secret("une autre phrase"), new.path(), false);
    assert!(matches!(wrong, Err(RestoreError::Passphrase)), "{wrong:?}");
    untouched(new.path());

    let whole = fs::read(&archive).unwrap();
    let mut damaged: Vec<Vec<u8>> = Vec::new();
    for cut in [0, 10, 200, whole.len() / 2, whole.len() - 1] {
        damaged.push(whole[..cut].to_vec());
    }
    for place in [250, whole.len() / 2, whole.len() - 20] {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        damaged.push(changed);
    }
    for bytes in damaged {
        let file = new.path().join("abimee.age");
        fs::write(&file, &bytes).unwrap();
        let result = restore(&file, &secret("phrase de passe"), new.path(), false);
        assert!(
            matches!(
                result,
                Err(RestoreError::Damaged(_) | RestoreError::Passphrase)
            ),
            "{} bytes: {result:?}",
            bytes.len()
        );
        untouched(new.path());
    }
}

#[test]
fn what_is_there_is_kept_unless_it_is_to_be_replaced() {
    let old = old();
    let archive = archive(&old, false);
    let new = TempDir::new().unwrap();
    let data = there(new.path(), &old.config.data_dir);
    put(&data.join("exams/ct/one.json"), 0o600, b"autre");
    let refused = restore(&archive, &secret("phrase de passe"), new.path(), false);
    assert!(
        matches!(refused, Err(RestoreError::Exists(_))),
        "{refused:?}"
    );
    assert_eq!(fs::read(data.join("exams/ct/one.json")).unwrap(), b"autre");
    assert!(!data.join(restore::STAGING).exists());

    // Twice: as after a restore that was interrupted.
    for _ in 0..2 {
        restore(&archive, &secret("phrase de passe"), new.path(), true).unwrap();
    }
    assert_eq!(
        fs::read(data.join("exams/ct/one.json")).unwrap().len(),
        300_000
    );
    assert!(data.join(restore::BEFORE).join("exams").exists());
}

#[test]
fn a_passphrase_is_long_and_its_file_closed() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("phrase");
    put(&file, 0o640, b"une phrase assez longue\n");
    assert!(matches!(
        passphrase(&file),
        Err(BackupError::Exposed { mode: 0o640, .. })
    ));
    put(&file, 0o600, b"une phrase assez longue\nautre ligne");
    assert_eq!(
        passphrase(&file).unwrap().expose_secret(),
        "une phrase assez longue"
    );
    put(&file, 0o600, b"courte");
    assert!(matches!(passphrase(&file), Err(BackupError::Short(_))));
}
