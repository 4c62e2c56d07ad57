//! Revocation lists: one for each authority, the last good one kept on disk.
//!
//! A list is verified when it comes in; what is asked at a handshake is a lookup. Lists that are
//! missing or past their `nextUpdate` make the answer "unknown", which is a refusal unless an
//! administrator's bypass is open ([`super::Bypass`]).

mod list;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::UnixTime;
use sha2::{Digest as _, Sha256};

use super::anchors::Anchors;
use super::disk;
pub(in crate::trust) use list::Said;
pub use list::{Crl, CrlError, MAX_BYTES, inspect};

/// The list of each authority, by its subject (content, DER).
pub(super) type Lists = HashMap<Vec<u8>, Arc<Crl>>;

/// The lists in use, and their folder.
#[derive(Debug)]
pub(super) struct Crls {
    folder: PathBuf,
    lists: ArcSwap<Lists>,
    /// One list comes in at a time.
    incoming: Mutex<()>,
}

/// What became of a list that came in.
#[derive(Debug, Clone)]
pub enum Taken {
    /// It is in use from now on.
    New(Arc<Crl>),
    /// It is the one in use already.
    Same(Arc<Crl>),
}

impl Taken {
    /// The list.
    #[must_use]
    pub fn list(&self) -> &Arc<Crl> {
        match self {
            Self::New(list) | Self::Same(list) => list,
        }
    }
}

/// Why a list that came in is not in use.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is not to be used.
    #[error(transparent)]
    Refused(#[from] CrlError),
    /// It could not be kept.
    #[error("it cannot be kept: {0}")]
    Disk(#[from] std::io::Error),
}

impl Crls {
    /// The lists kept in a folder. What cannot be read or verified any more is left out, with a
    /// line in the log.
    pub(super) fn open(
        folder: PathBuf,
        anchors: &Anchors,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let crls = Self {
            folder,
            lists: ArcSwap::default(),
            incoming: Mutex::new(()),
        };
        crls.read_again(anchors, known, now);
        Ok(crls)
    }

    /// Reads the folder again: another process, or another moment, may have written to it. A list in use
    /// gives way to one that may take its place (RFC 5280 §5.2.3), not to an older or a damaged one; it
    /// goes with its file.
    pub(super) fn read_again(
        &self,
        anchors: &Anchors,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) {
        let _one_at_a_time = self.incoming.lock();
        self.read(anchors, known, now);
    }

    /// As [`Crls::read_again`], while no other list comes in.
    fn read(&self, anchors: &Anchors, known: &WebPkiSupportedAlgorithms, now: UnixTime) {
        let mut lists = Lists::default();
        for authority in anchors.authorities() {
            let name = &authority.common_name;
            let current = self.lists.load().get(&authority.subject).cloned();
            let list = match disk::read(&self.path(&authority.subject), MAX_BYTES) {
                Ok(None) => continue,
                Ok(Some(bytes)) => {
                    let fingerprint: [u8; 32] = Sha256::digest(&bytes).into();
                    match current {
                        Some(list) if list.fingerprint == fingerprint => Some(list),
                        current => match Crl::parse(&bytes, anchors.authorities(), known, now) {
                            Ok(list) => Some(newer(list, current)),
                            Err(error) => {
                                tracing::warn!(authority = name, %error, "kept revocation list left out");
                                current
                            }
                        },
                    }
                }
                Err(error) => {
                    tracing::warn!(authority = name, %error, "kept revocation list unreadable");
                    current
                }
            };
            if let Some(list) = list {
                lists.insert(authority.subject.clone(), list);
            }
        }
        self.lists.store(Arc::new(lists));
    }

    /// Verifies a list, keeps it on disk, then uses it, unless it is older than the one that this
    /// process or another uses. Blocks.
    pub(super) fn take(
        &self,
        bytes: &[u8],
        anchors: &Anchors,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<Taken, TakeError> {
        let fingerprint: [u8; 32] = Sha256::digest(bytes).into();
        let same = |list: &&Arc<Crl>| list.fingerprint == fingerprint;
        if let Some(list) = self.lists.load().values().find(same) {
            return Ok(Taken::Same(Arc::clone(list)));
        }
        let list = Arc::new(Crl::parse(bytes, anchors.authorities(), known, now)?);
        let _one_at_a_time = self.incoming.lock();
        let _alone = disk::Lock::take(&self.folder)?;
        // Another process may have brought a newer list.
        self.read(anchors, known, now);
        let mut lists = Lists::clone(&self.lists.load());
        if lists
            .get(list.issuer())
            .is_some_and(|other| !list.may_replace(other))
        {
            return Err(CrlError::Older.into());
        }
        disk::write(&self.path(list.issuer()), bytes)?;
        lists.insert(list.issuer().to_vec(), Arc::clone(&list));
        self.lists.store(Arc::new(lists));
        Ok(Taken::New(list))
    }

    /// The lists in use.
    pub(super) fn current(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    fn path(&self, subject: &[u8]) -> PathBuf {
        let digest = Sha256::digest(subject);
        let name = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        let name: String = name.collect();
        self.folder.join(name).with_extension("crl")
    }
}

/// The list that was read from disk, or the one in use when it may not give way to it.
fn newer(read: Crl, current: Option<Arc<Crl>>) -> Arc<Crl> {
    match current {
        Some(current) if !read.may_replace(&current) => {
            tracing::warn!(
                authority = current.authority,
                "kept revocation list is older than the one in use, which stays"
            );
            current
        }
        _ => Arc::new(read),
    }
}
