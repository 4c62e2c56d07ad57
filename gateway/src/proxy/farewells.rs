//! Sessions on disk, sealed: what a process that is killed leaves open at Pro Santé Connect and at the APIs is ended
//! by the next one.
//!
//! A file is written before its session serves anybody, again when its tokens change, and removed when everybody was
//! told of its end. Nobody is let in by it: after a restart software connects again.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use anyhow::Context as _;
use psc_auth::{NationalId, UnixTime};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::keys::files;
use crate::login::Vault;

use super::sessions::ProxySession;

/// How the names of files end.
const EXTENSION: &str = "session";
/// Largest record, bytes: far above what the tokens of many APIs take.
const MAX_RECORD: usize = 512 * 1024;

/// A session that is over here, or of a process that is gone, with all that it takes to end it elsewhere.
pub(super) struct Farewell {
    pub(super) id: String,
    pub(super) client_id: String,
    pub(super) national_id: NationalId,
    /// `session_state` of Pro Santé Connect.
    pub(super) state: Option<String>,
    pub(super) dn: String,
    pub(super) remote: SocketAddr,
    pub(super) ends_at: UnixTime,
    /// Whether its end is on record.
    pub(super) traced: bool,
    /// The session at Pro Santé Connect; `None` when that is over.
    psc: Option<Zeroizing<Vec<u8>>>,
    /// Tokens of APIs, by the name of the API.
    pub(super) tokens: Vec<(String, Revocable)>,
}

/// The tokens of an API that are to be revoked.
pub(super) struct Revocable {
    pub(super) access: SecretString,
    pub(super) refresh: Option<SecretString>,
}

impl Farewell {
    /// Of a session as it is now.
    pub(super) async fn of(session: &ProxySession) -> Self {
        let tokens = session.tokens().await.into_iter().map(|(api, token)| {
            let revocable = Revocable {
                access: token.access,
                refresh: token.refresh,
            };
            (api, revocable)
        });
        Self {
            id: session.id.clone(),
            client_id: session.client_id.clone(),
            national_id: session.national_id.clone(),
            state: session.state.clone(),
            dn: session.opened.dn.clone(),
            remote: session.opened.remote,
            ends_at: session.ends_at,
            traced: false,
            psc: session.psc.export().await,
            tokens: tokens.collect(),
        }
    }

    /// The session at Pro Santé Connect, to be ended once.
    pub(super) fn psc(&self) -> Option<psc_auth::Session> {
        psc_auth::Session::import(self.psc.as_deref()?)
    }

    fn to_bytes(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let clear = |secret: &SecretString| Zeroizing::new(secret.expose_secret().to_owned());
        let psc = self.psc.as_ref().map(|bytes| {
            let text = std::str::from_utf8(bytes).map_err(io::Error::other)?;
            Ok::<_, io::Error>(Zeroizing::new(text.to_owned()))
        });
        let record = Record {
            id: self.id.clone(),
            client_id: self.client_id.clone(),
            national_id: self.national_id.clone(),
            state: self.state.clone(),
            dn: self.dn.clone(),
            remote: self.remote,
            ends_at: self.ends_at,
            traced: self.traced,
            psc: psc.transpose()?,
            tokens: self
                .tokens
                .iter()
                .map(|(api, token)| TokenRecord {
                    api: api.clone(),
                    access: clear(&token.access),
                    refresh: token.refresh.as_ref().map(clear),
                })
                .collect(),
        };
        // The whole capacity at once: no copy of a token stays behind in a reallocation.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_RECORD));
        serde_json::to_writer(&mut *bytes, &record)?;
        match bytes.len() <= MAX_RECORD {
            true => Ok(bytes),
            false => Err(io::Error::other(
                "the tokens of a session are too long to be kept",
            )),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let record: Record = serde_json::from_slice(bytes).ok()?;
        let secret = |text: &Zeroizing<String>| SecretString::from(text.as_str());
        let tokens = record.tokens.iter().map(|token| {
            let revocable = Revocable {
                access: secret(&token.access),
                refresh: token.refresh.as_ref().map(secret),
            };
            (token.api.clone(), revocable)
        });
        Some(Self {
            tokens: tokens.collect(),
            id: record.id,
            client_id: record.client_id,
            national_id: record.national_id,
            state: record.state,
            dn: record.dn,
            remote: record.remote,
            ends_at: record.ends_at,
            traced: record.traced,
            psc: record
                .psc
                .map(|text| Zeroizing::new(text.as_bytes().to_vec())),
        })
    }
}

/// What a file holds, before it is sealed.
#[derive(Serialize, Deserialize)]
struct Record {
    id: String,
    client_id: String,
    national_id: NationalId,
    state: Option<String>,
    dn: String,
    remote: SocketAddr,
    ends_at: UnixTime,
    traced: bool,
    psc: Option<Zeroizing<String>>,
    tokens: Vec<TokenRecord>,
}

#[derive(Serialize, Deserialize)]
struct TokenRecord {
    api: String,
    access: Zeroizing<String>,
    refresh: Option<Zeroizing<String>>,
}

/// The folder of sessions that somebody has to be told of.
#[derive(Clone)]
pub(super) struct Folder {
    dir: Arc<Path>,
    vault: Arc<Vault>,
}

impl Folder {
    /// Opens the folder and its key, which are made when they are not there, and reads what a process before left.
    /// Blocks.
    ///
    /// # Errors
    /// When the folder or the key cannot be used.
    pub(super) fn open(dir: &Path, key_file: &Path) -> anyhow::Result<(Self, Vec<Farewell>)> {
        let failed = || format!("sessions in {}", dir.display());
        let mut folder = fs::DirBuilder::new();
        folder.recursive(true).mode(0o700);
        folder.create(dir).with_context(failed)?;
        let vault = Vault::open(key_file).context("the key that seals sessions")?;
        let folder = Self {
            dir: dir.into(),
            vault: Arc::new(vault),
        };
        let mut left = Vec::new();
        for entry in fs::read_dir(dir).with_context(failed)? {
            let path = entry.with_context(failed)?.path();
            if path.extension().is_none_or(|kind| kind != EXTENSION) {
                continue;
            }
            match folder.read(&path) {
                Some(farewell) => left.push(farewell),
                None => {
                    tracing::warn!(
                        path = %path.display(),
                        "a session of before does not open with this key, or is damaged: nobody is told of its end"
                    );
                    fs::remove_file(&path).with_context(failed)?;
                }
            }
        }
        Ok((folder, left))
    }

    fn read(&self, path: &Path) -> Option<Farewell> {
        let sealed = files::read(path).ok()?;
        let name = path.file_stem()?.to_str()?;
        let farewell = Farewell::from_bytes(&self.vault.open_record(name.as_bytes(), &sealed)?)?;
        (name == stem(&farewell.id)).then_some(farewell)
    }

    /// Keeps a session as it is now, unless it is over meanwhile. On disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn keep(&self, session: &ProxySession) -> io::Result<()> {
        let over = session.over.lock().await;
        if *over {
            return Ok(());
        }
        let farewell = Farewell::of(session).await;
        self.write(&farewell).await
    }

    /// Keeps what somebody has still to be told of.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn write(&self, farewell: &Farewell) -> io::Result<()> {
        let (name, path) = (stem(&farewell.id), self.path(&farewell.id));
        let bytes = farewell.to_bytes()?;
        let sealed = self.vault.seal(name.as_bytes(), &bytes);
        let sealed = sealed.map_err(io::Error::other)?;
        blocking(move || files::write_new(&path, &sealed)).await
    }

    /// Forgets one of whose end everybody was told.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub(super) async fn forget(&self, id: &str) -> io::Result<()> {
        let path = self.path(id);
        blocking(move || match fs::remove_file(&path) {
            Ok(()) => files::sync_folder(&path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(stem(id)).with_extension(EXTENSION)
    }
}

/// The name of a file tells nobody the id of its session.
fn stem(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn farewell(id: &str) -> Farewell {
        let tokens = Revocable {
            access: "access-token".into(),
            refresh: Some("refresh-token".into()),
        };
        Farewell {
            id: id.to_owned(),
            client_id: "editeur".to_owned(),
            national_id: NationalId::parse("899700218896").unwrap(),
            state: None,
            dn: "CN=editeur".to_owned(),
            remote: ([127, 0, 0, 1], 4).into(),
            ends_at: UnixTime::from_secs(7),
            traced: true,
            psc: None,
            tokens: vec![("dmp".to_owned(), tokens)],
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_sealed_and_read_back_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, key) = (folder.path().join("sessions"), folder.path().join("key"));
        let open = || Folder::open(&dir, &key).unwrap();
        let (kept, left) = open();
        assert!(left.is_empty());
        kept.write(&farewell("one")).await.unwrap();
        kept.write(&farewell("two")).await.unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let content = fs::read(entry.unwrap().path()).unwrap();
            for secret in [&b"token"[..], b"899700218896", b"one"] {
                assert!(memchr::memmem::find(&content, secret).is_none());
            }
        }
        let (_, mut left) = open();
        left.sort_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(left.len(), 2);
        assert_eq!((left[0].id.as_str(), left[0].traced), ("one", true));
        let (api, token) = &left[0].tokens[0];
        assert_eq!(api, "dmp");
        assert_eq!(token.access.expose_secret(), "access-token");
        assert_eq!(
            token.refresh.as_ref().unwrap().expose_secret(),
            "refresh-token"
        );
        kept.forget("one").await.unwrap();
        kept.forget("one").await.unwrap();
        assert_eq!(open().1[0].id, "two");
    }

    #[tokio::test]
    async fn a_file_of_another_key_or_under_another_name_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, key) = (folder.path().join("sessions"), folder.path().join("key"));
        let (kept, _) = Folder::open(&dir, &key).unwrap();
        kept.write(&farewell("one")).await.unwrap();
        fs::rename(kept.path("one"), kept.path("two")).unwrap();
        assert!(Folder::open(&dir, &key).unwrap().1.is_empty());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        kept.write(&farewell("one")).await.unwrap();
        fs::remove_file(&key).unwrap();
        assert!(Folder::open(&dir, &key).unwrap().1.is_empty());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }
}
