//! The list in use and its folder: `active.xml`, `state.json` with the verdicts, and the lists
//! before it.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::disk;
use super::{MAX_BYTES, WhiteList, WhiteListRefusal};

/// Verdicts kept.
const MAX_HISTORY: usize = 200;
/// Former lists kept.
const MAX_FORMER: usize = 10;
/// Bytes of `state.json`.
const MAX_STATE: usize = 1 << 20;

/// The list in use.
#[derive(Debug, Clone)]
pub(in crate::trust) struct Active {
    pub(in crate::trust) list: Arc<WhiteList>,
    /// When it was last fetched and found in order, Unix seconds.
    pub(in crate::trust) confirmed_at: u64,
    /// Whether its signer was believed by the bypass alone then.
    pub(in crate::trust) bypassed: bool,
}

/// Keeps the list in use, and why others were not used.
#[derive(Debug)]
pub(in crate::trust) struct Keeper {
    folder: PathBuf,
    active: ArcSwapOption<Active>,
}

/// One verification of a list, as kept in the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// When, Unix seconds.
    pub at: u64,
    /// Where the list came from.
    pub source: String,
    /// `accepted`, `unchanged`, or the label of the refusal or failure.
    pub outcome: String,
    /// In words, when it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// SHA-256 of the file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// When it was signed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<String>,
    /// Its domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<usize>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// When the active list was last confirmed, Unix seconds.
    confirmed_at: u64,
    /// SHA-256 of the active list, hexadecimal.
    sha256: String,
    /// Whether its signer was believed by the bypass alone then.
    #[serde(default)]
    bypassed: bool,
    /// When the newest list that was ever in use was signed, RFC 3339: also while none is in use, no
    /// older one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    history: Vec<Verdict>,
}

impl State {
    /// When the newest list that was ever in use was signed. What an earlier build kept says it in its
    /// history alone.
    fn newest(&self) -> Option<OffsetDateTime> {
        let used = |verdict: &&Verdict| matches!(&*verdict.outcome, "accepted" | "unchanged");
        let verdicts = self.history.iter().filter(used);
        let signed = verdicts.filter_map(|verdict| verdict.signed.as_deref());
        let all = signed.chain(self.newest.as_deref());
        all.filter_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok())
            .max()
    }
}

/// What became of a list in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in use from now on.
    Accepted,
    /// It is the one in use already, confirmed.
    Unchanged,
}

/// Why a list that came in is not in use.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is not to be used.
    #[error(transparent)]
    Refused(#[from] WhiteListRefusal),
    /// It could not be kept.
    #[error(
        "the white list cannot be kept in {folder}: {source}. Check that the service may write there."
    )]
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// How a list is verified: at a moment, with or without the demand that nothing is unknown about
/// revocation.
pub(in crate::trust) type Verify<'a> =
    dyn Fn(&[u8], UnixTime, Recall) -> Result<WhiteList, WhiteListRefusal> + 'a;

/// Whether a list comes in, or was verified before and is read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::trust) enum Recall {
    New,
    KeptSince,
}

impl Keeper {
    /// The list kept in a folder, verified again as of when it was last confirmed.
    pub(in crate::trust) fn open(folder: PathBuf) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder.join("former"))?;
        Ok(Self {
            folder,
            active: ArcSwapOption::empty(),
        })
    }

    /// Reads the folder again. A list that does not verify any more is not used, and stays there.
    pub(in crate::trust) fn read_again(&self, verify: &Verify<'_>, now: UnixTime) {
        let state = self.state();
        let bytes = match disk::read(&self.path("active.xml"), MAX_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return self.active.store(None),
            Err(error) => {
                tracing::error!(%error, "kept white list unreadable");
                return self.active.store(None);
            }
        };
        // Without its entry (a power loss between the two files), it must verify as if it came in.
        let known =
            state.sha256 == hex(&Sha256::digest(&bytes)) && state.confirmed_at <= now.as_secs();
        let (at, recall) = match known {
            true => (seconds(state.confirmed_at), Recall::KeptSince),
            false => (now, Recall::New),
        };
        let verified = verify(&bytes, at, recall);
        // A file of before, put back by somebody, is no way back to it.
        let newest = state.newest().filter(|_| !known);
        let verified = verified.and_then(|list| not_older(list, newest));
        match verified {
            Ok(list) => self.active.store(Some(Arc::new(Active {
                confirmed_at: at.as_secs(),
                bypassed: if known { state.bypassed } else { list.bypassed },
                list: Arc::new(list),
            }))),
            Err(refusal) => {
                tracing::error!(reason = refusal.label(), %refusal, "kept white list not used");
                self.active.store(None);
            }
        }
    }

    /// Verifies a list that came in and, when it is in order and not older, uses it. Blocks.
    pub(in crate::trust) fn take(
        &self,
        bytes: &[u8],
        source: &str,
        policy: Policy,
        verify: &Verify<'_>,
        now: UnixTime,
    ) -> Result<Outcome, ListError> {
        let disk = |source| ListError::Disk {
            folder: self.folder.clone(),
            source,
        };
        let _alone = disk::Lock::take(&self.folder).map_err(disk)?;
        // Another process may have brought a newer list.
        self.read_again(verify, now);
        let active = self.active.load_full();
        let mut verdict = Verdict {
            at: now.as_secs(),
            source: source.to_owned(),
            outcome: "accepted".to_owned(),
            detail: None,
            sha256: Some(hex(&Sha256::digest(bytes))),
            signed: None,
            domains: None,
        };
        let list = match verify(bytes, now, Recall::New)
            .and_then(|list| policy.compare(list, active.as_deref(), self.state().newest()))
        {
            Ok(list) => list,
            Err(refusal) => {
                verdict.outcome = refusal.label().to_owned();
                verdict.detail = Some(refusal.to_string());
                self.note(verdict).map_err(disk)?;
                return Err(refusal.into());
            }
        };
        verdict.signed = list.signing_time.format(&Rfc3339).ok();
        verdict.domains = Some(list.domains().len());
        let same = active
            .as_ref()
            .is_some_and(|active| active.list.digest == list.digest);
        if same {
            "unchanged".clone_into(&mut verdict.outcome);
        } else {
            self.retire().map_err(disk)?;
            disk::write(&self.path("active.xml"), bytes).map_err(disk)?;
        }
        let mut state = self.state();
        state.confirmed_at = now.as_secs();
        state.sha256 = hex(&list.digest);
        state.bypassed = list.bypassed;
        let newest = state.newest().max(Some(list.signing_time));
        state.newest = newest.and_then(|newest| newest.format(&Rfc3339).ok());
        state.history.push(verdict);
        self.write(state).map_err(disk)?;
        self.active.store(Some(Arc::new(Active {
            confirmed_at: now.as_secs(),
            bypassed: list.bypassed,
            list: Arc::new(list),
        })));
        Ok(if same {
            Outcome::Unchanged
        } else {
            Outcome::Accepted
        })
    }

    /// Keeps in mind that no list could be fetched.
    pub(in crate::trust) fn failed(
        &self,
        source: &str,
        detail: String,
        now: UnixTime,
    ) -> std::io::Result<()> {
        let _alone = disk::Lock::take(&self.folder)?;
        self.note(Verdict {
            at: now.as_secs(),
            source: source.to_owned(),
            outcome: "unreachable".to_owned(),
            detail: Some(detail),
            sha256: None,
            signed: None,
            domains: None,
        })
    }

    /// The list in use.
    pub(in crate::trust) fn active(&self) -> Option<Arc<Active>> {
        self.active.load_full()
    }

    /// Verifications so far, the newest last.
    pub(in crate::trust) fn history(&self) -> Vec<Verdict> {
        self.state().history
    }

    /// The file of the list in use.
    pub(in crate::trust) fn active_bytes(&self) -> std::io::Result<Option<Vec<u8>>> {
        disk::read(&self.path("active.xml"), MAX_BYTES)
    }

    fn note(&self, verdict: Verdict) -> std::io::Result<()> {
        let mut state = self.state();
        state.history.push(verdict);
        self.write(state)
    }

    fn state(&self) -> State {
        let bytes = match disk::read(&self.path("state.json"), MAX_STATE) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "state of the white list unreadable");
                Vec::new()
            }
        };
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, mut state: State) -> std::io::Result<()> {
        let surplus = state.history.len().saturating_sub(MAX_HISTORY);
        state.history.drain(..surplus);
        let json = serde_json::to_vec_pretty(&state)?;
        disk::write(&self.path("state.json"), &json)
    }

    /// Puts a copy of the list in use among the former ones.
    fn retire(&self) -> std::io::Result<()> {
        let Some(active) = self.active.load_full() else {
            return Ok(());
        };
        let Some(bytes) = self.active_bytes()? else {
            return Ok(());
        };
        let former = self.folder.join("former");
        let signed = active.list.signing_time.unix_timestamp();
        let digest: String = hex(&active.list.digest).chars().take(8).collect();
        disk::write(&former.join(format!("{signed:012}-{digest}.xml")), &bytes)?;
        let mut names: Vec<_> = std::fs::read_dir(&former)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        names.sort();
        let surplus = names.len().saturating_sub(MAX_FORMER);
        for name in names.into_iter().take(surplus) {
            disk::remove(&name)?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What a list must be beside the one in use.
#[derive(Debug, Clone, Copy)]
pub(in crate::trust) struct Policy {
    /// Share of domains that may be missing, percent.
    pub(in crate::trust) max_loss_percent: u8,
    /// An administrator has confirmed that many domains are gone.
    pub(in crate::trust) confirmed: bool,
}

impl Policy {
    fn compare(
        self,
        list: WhiteList,
        active: Option<&Active>,
        newest: Option<OffsetDateTime>,
    ) -> Result<WhiteList, WhiteListRefusal> {
        let newest = newest.max(active.map(|active| active.list.signing_time));
        let list = not_older(list, newest)?;
        let Some(active) = active else {
            return Ok(list);
        };
        let (before, after) = (active.list.domains().len(), list.domains().len());
        let kept = 100_usize.saturating_sub(usize::from(self.max_loss_percent));
        if !self.confirmed && after * 100 < before * kept {
            return Err(WhiteListRefusal::Shrunk { before, after });
        }
        Ok(list)
    }
}

/// A list that was not signed before the newest one that was ever in use.
fn not_older(
    list: WhiteList,
    newest: Option<OffsetDateTime>,
) -> Result<WhiteList, WhiteListRefusal> {
    match newest {
        Some(newest) if list.signing_time < newest => Err(WhiteListRefusal::Older {
            signed: list.signing_time,
            newest,
        }),
        _ => Ok(list),
    }
}

fn seconds(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

pub(in crate::trust) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
