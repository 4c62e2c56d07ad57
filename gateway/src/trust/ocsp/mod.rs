//! What OCSP responders say of the certificates of peers (RFC 6960): a second opinion that can only
//! tighten. Revocation lists decide who comes in; a responder may say « revoked » about one of those,
//! and whatever else it says, or does not say, changes nothing.
//!
//! No handshake waits for a responder. A certificate that is met is asked about soon after, and again
//! while peers use it; until the first answer the revocation lists alone count. Answers are kept on disk before they
//! count, and verified again at the next start.

mod kept;
mod message;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::sync::Notify;

use super::anchors::Anchors;
use super::chain::Leaf;
use super::crl::Lists;
pub use message::OcspError;
pub(super) use message::{Said, Status};

/// Certificates that are remembered; each was issued by an authority of ours.
const MAX_CERTIFICATES: usize = 4_096;
/// Bytes of an answer.
pub(super) const MAX_ANSWER: usize = 64 << 10;
/// Time for an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Time until somebody is asked again who gave no usable answer.
const RETRY: u64 = 300;
/// Longest and shortest time until somebody is asked again, seconds.
const AGAIN: std::ops::RangeInclusive<u64> = 60..=3_600;

/// What is known of certificates.
#[derive(Debug)]
pub(super) struct Ocsp {
    folder: kept::Folder,
    known: Mutex<HashMap<[u8; 32], Known>>,
    fresh: Notify,
}

#[derive(Debug)]
struct Known {
    certificate: CertificateDer<'static>,
    /// Whom to ask; not known yet of a certificate that was read back and has not been met since.
    url: Option<String>,
    not_after: UnixTime,
    /// The newest answer that was good for something.
    said: Option<Said>,
    /// When to ask, Unix seconds.
    ask_at: u64,
    /// Whether a peer showed it since it was last asked about.
    wanted: bool,
}

/// A question to a responder.
#[derive(Debug, Clone)]
pub(super) struct Question {
    fingerprint: [u8; 32],
    /// The certificate it is about.
    pub(super) certificate: CertificateDer<'static>,
    /// Whom to ask.
    pub(super) url: String,
}

impl Ocsp {
    /// With the answers that were kept in a folder, those that still say something. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub(super) fn open(
        folder: PathBuf,
        anchors: &Anchors,
        lists: &Lists,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> std::io::Result<Self> {
        let folder = kept::Folder::open(folder)?;
        let kept = folder.read(anchors, lists, known, now)?;
        let kept = kept.into_iter().map(|one| {
            let known = Known {
                certificate: one.certificate,
                url: None,
                not_after: one.not_after,
                said: Some(one.said),
                ask_at: now.as_secs(),
                wanted: false,
            };
            (one.fingerprint, known)
        });
        Ok(Self {
            folder,
            known: Mutex::new(kept.collect()),
            fresh: Notify::new(),
        })
    }

    /// Whether a responder said that this certificate is revoked. One that is new is asked about when
    /// it names a responder (`url`) that may be asked.
    pub(super) fn revokes(
        &self,
        leaf: &Leaf,
        certificate: &CertificateDer<'_>,
        url: Option<&str>,
        now: UnixTime,
    ) -> bool {
        let mut known = self.known.lock();
        if let Some(one) = known.get_mut(&leaf.fingerprint) {
            one.wanted = true;
            if one.url.is_none() {
                one.url = url.map(str::to_owned);
            }
            if one.ask_at <= now.as_secs() {
                self.fresh.notify_one();
            }
            return one.said.is_some_and(|said| said.status == Status::Revoked);
        }
        let Some(url) = url else { return false };
        if known.len() >= MAX_CERTIFICATES {
            known.retain(|_, one| one.not_after > now);
        }
        if known.len() < MAX_CERTIFICATES {
            let one = Known {
                certificate: certificate.clone().into_owned(),
                url: Some(url.to_owned()),
                not_after: leaf.not_after,
                said: None,
                ask_at: now.as_secs(),
                wanted: true,
            };
            known.insert(leaf.fingerprint, one);
            self.fresh.notify_one();
        }
        false
    }

    /// The questions that are due.
    pub(super) fn due(&self, now: UnixTime) -> Vec<Question> {
        let known = self.known.lock();
        let due = known
            .iter()
            .filter(|(_, one)| one.wanted && one.ask_at <= now.as_secs());
        due.filter_map(|(fingerprint, one)| {
            Some(Question {
                fingerprint: *fingerprint,
                certificate: one.certificate.clone(),
                url: one.url.clone()?,
            })
        })
        .collect()
    }

    /// Keeps an answer on disk, when [`Self::take`] will have it count. Blocks.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(
        &self,
        question: &Question,
        said: Said,
        answer: &[u8],
        now: UnixTime,
    ) -> std::io::Result<()> {
        let changes = |one: &Known| one.is_changed_by(said);
        if !self
            .known
            .lock()
            .get(&question.fingerprint)
            .is_some_and(changes)
        {
            return Ok(());
        }
        let is_known = |fingerprint: &[u8; 32]| self.known.lock().contains_key(fingerprint);
        self.folder
            .keep(&question.certificate, answer, now, is_known)
    }

    /// Takes what became of a question. An older answer than the one before changes nothing.
    pub(super) fn take(
        &self,
        question: &Question,
        outcome: Result<Said, OcspError>,
        now: UnixTime,
    ) {
        let word = match &outcome {
            Ok(said) => said.status.word(),
            Err(_) => "unusable",
        };
        metrics::counter!("drimbox_ocsp_answers_total", "said" => word).increment(1);
        let mut known = self.known.lock();
        let Some(one) = known.get_mut(&question.fingerprint) else {
            return;
        };
        one.wanted = false;
        let now = now.as_secs();
        one.ask_at = now.saturating_add(RETRY);
        let said = match outcome {
            Ok(said) => said,
            Err(error) => {
                tracing::warn!(responder = question.url, %error, "no usable answer of an OCSP responder: nothing changes");
                return;
            }
        };
        if !one.is_changed_by(said) {
            return;
        }
        let left = said.next_update.as_secs().saturating_sub(now);
        one.ask_at = now.saturating_add(left.clamp(*AGAIN.start(), *AGAIN.end()));
        if said.status == Status::Revoked {
            tracing::warn!(
                responder = question.url,
                "an OCSP responder says that a peer's certificate is revoked: it is refused from now on"
            );
        }
        one.said = Some(said);
    }

    /// Waits for a certificate that is to be asked about.
    pub(super) async fn one_more(&self) {
        self.fresh.notified().await;
    }
}

impl Known {
    /// Whether an answer says something, and is not older than the one before.
    fn is_changed_by(&self, said: Said) -> bool {
        let before = self.said.as_ref();
        said.status != Status::Unknown
            && before.is_none_or(|before| said.this_update >= before.this_update)
    }
}

impl Question {
    /// The request to send.
    ///
    /// # Errors
    /// [`OcspError::UnknownIssuer`] when its authority is not ours any more.
    pub(super) fn request(
        &self,
        anchors: &Anchors,
        known: &WebPkiSupportedAlgorithms,
    ) -> Result<Vec<u8>, OcspError> {
        let about = message::About::new(&self.certificate, anchors, known)?;
        Ok(about.request())
    }

    /// What an answer says.
    ///
    /// # Errors
    /// [`OcspError`] when nothing may be concluded from it.
    pub(super) fn read(
        &self,
        answer: &[u8],
        anchors: &Anchors,
        lists: &Lists,
        known: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Result<Said, OcspError> {
        let about = message::About::new(&self.certificate, anchors, known)?;
        about.read(answer, lists, known, now)
    }
}

/// What is seen in an answer that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Statements about certificates that could be read.
    pub statements: usize,
    /// Certificates that would be looked at as those of responders.
    pub signers: usize,
}

/// Reads an answer about nobody, and verifies nothing: for fuzzing.
///
/// # Errors
/// [`OcspError`] when it is no basic response.
pub fn inspect(answer: &[u8]) -> Result<Seen, OcspError> {
    let basic = message::Basic::parse(answer)?;
    Ok(Seen {
        statements: basic.statements(),
        signers: basic.signers(),
    })
}
