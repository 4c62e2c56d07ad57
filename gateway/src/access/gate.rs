//! The gate of the source: whether images leave for another DRIMbox.
//!
//! In this order (network.md of the DRIM-M documents, RAD-107): the certificate is that of a peer of
//! the white list; an access token of Pro Santé Connect is presented, and active; its professional
//! has an allowed profession; the KOS that the request names is the one published for the study, which
//! nothing restricts; and it names the series. The first that does not hold is the reason.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;
use psc_auth::{CheckedToken, ProfessionPolicy, Thumbprint, TokenGate};
use rustls_pki_types::CertificateDer;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::Request;
use super::refusal::Refusal;
use crate::archive::Scope;
use crate::dicom::uid::InstanceUid;
use crate::source::{Exams, PublishedExam};
use crate::trust::claimed_subject;

/// Who is a DRIMbox of the network.
pub trait PeerDirectory: Send + Sync + fmt::Debug {
    /// The peer whose certificate this is, the first of a chain that the handshake verified.
    ///
    /// # Errors
    /// [`NotAPeer`].
    fn peer(&self, chain: &[CertificateDer<'static>]) -> Result<PeerIdentity, NotAPeer>;
}

/// Another DRIMbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Subject of its certificate, as text.
    pub subject: String,
    /// SHA-256 of its certificate, hexadecimal.
    pub fingerprint: String,
    /// Its `db` host name, where that is known.
    pub host: Option<String>,
}

impl PeerIdentity {
    /// What a certificate says of itself, with the subject written as the white list has it; empty
    /// where it cannot be read.
    #[must_use]
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Self {
        let subject = claimed_subject(certificate).unwrap_or_default();
        let digest = Sha256::digest(certificate);
        let fingerprint = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            subject,
            fingerprint,
            host: None,
        }
    }
}

/// Why a certificate is not that of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPeer {
    /// Fixed word for logs and counters.
    pub label: &'static str,
    /// Whether this gateway lacks what it needs to tell, rather than the other end being wrong.
    pub ours: bool,
}

/// What a request of a peer carries besides its certificate.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The bearer token (RFC 6750 §2.1); `None` when there is none, or more than one.
    pub token: Option<&'a str>,
    /// `KOS-SOPInstanceUID`.
    pub kos: NamedKos<'a>,
    /// All fields of the request: a session is in its cookie.
    pub headers: Option<&'a HeaderMap>,
}

/// The field `KOS-SOPInstanceUID` of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NamedKos<'a> {
    /// It is not there.
    #[default]
    Absent,
    /// It is no UID, or stands there twice.
    Unreadable,
    /// This object.
    Kos(&'a InstanceUid),
}

/// What became known of who asks, for the audit: filled as far as the gate went.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The system.
    pub peer: Option<PeerIdentity>,
    /// The professional.
    pub person: Option<Arc<CheckedToken>>,
    /// The profession that lets them in, of the several that they may have.
    pub profession: Option<String>,
    /// The person on a `vi` name.
    pub visitor: Option<super::Visitor>,
}

/// The gate. Cheap to clone.
#[derive(Clone)]
pub struct PeerGate {
    /// Who is a peer.
    pub directory: Arc<dyn PeerDirectory>,
    /// Whose the token is, and whether it is good.
    pub tokens: Arc<dyn TokenGate>,
    /// Which professions may see images.
    pub professions: ProfessionPolicy,
    /// What is published.
    pub exams: Exams,
    /// Whether exams that are masked to professionals are served to those who have their KOS.
    pub serve_masked: bool,
}

impl PeerGate {
    /// Says which peer a chain of certificates belongs to.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn recognise(&self, chain: &[CertificateDer<'static>]) -> Result<PeerIdentity, Refusal> {
        self.directory.peer(chain).map_err(|refused| {
            if refused.ours {
                Refusal::PeersUnknown(refused.label)
            } else {
                Refusal::NotAPeer(refused.label)
            }
        })
    }

    /// Decides on a request of a peer that was recognised by its certificate `leaf`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn admit(
        &self,
        pacs: &str,
        leaf: &CertificateDer<'static>,
        credentials: Credentials<'_>,
        request: Request<'_>,
        known: &mut Known,
    ) -> Result<Option<Arc<PublishedExam>>, Refusal> {
        let person = self.person(leaf, credentials.token).await?;
        known.person = Some(Arc::clone(&person));
        known.profession = person.user.as_ref().and_then(|user| {
            let situations = user.situations();
            let mut exercices = situations.iter().map(|situation| situation.exercice);
            let admitted = exercices.find(|exercice| self.professions.allows(exercice))?;
            admitted.profession.clone()
        });
        if known.profession.is_none() {
            return Err(Refusal::Profession);
        }
        match request {
            Request::Retrieve(scope) => self.exam(pacs, scope, credentials.kos).await.map(Some),
            // The listener was told to offer it: there is no KOS before a search.
            Request::Search | Request::SearchIn(_) => Ok(None),
        }
    }

    async fn person(
        &self,
        leaf: &CertificateDer<'static>,
        token: Option<&str>,
    ) -> Result<Arc<CheckedToken>, Refusal> {
        let token = token.filter(|token| !token.is_empty());
        let token = SecretString::from(token.ok_or(Refusal::NoToken)?);
        let thumbprint = Thumbprint::of(leaf);
        let checked = self.tokens.check(&token, Some(&thumbprint)).await;
        checked.map_err(|error| Refusal::from(&error))
    }

    async fn exam(
        &self,
        pacs: &str,
        scope: &Scope,
        kos: NamedKos<'_>,
    ) -> Result<Arc<PublishedExam>, Refusal> {
        let kos = match kos {
            NamedKos::Absent => return Err(Refusal::NoKos),
            NamedKos::Unreadable => return Err(Refusal::UnreadableKos),
            NamedKos::Kos(kos) => kos,
        };
        let exam = self.exams.get(pacs, scope.study()).await.map_err(|error| {
            tracing::error!("{error}");
            Refusal::ExamsUnknown
        })?;
        let exam = exam.ok_or(Refusal::NotPublished)?;
        if exam.kos != *kos {
            return Err(Refusal::OtherKos);
        }
        if exam.restrictions.opposed {
            return Err(Refusal::Opposed);
        }
        if exam.restrictions.masked_to_professionals && !self.serve_masked {
            return Err(Refusal::Masked);
        }
        within(scope, &exam)?;
        Ok(exam)
    }
}

/// Whether the KOS of an exam names what is asked for.
pub(super) fn within(scope: &Scope, exam: &PublishedExam) -> Result<(), Refusal> {
    match scope {
        Scope::Study(_) => Err(Refusal::WholeStudy),
        Scope::Series(_, series) | Scope::Instance(_, series, _) if !exam.has_series(series) => {
            Err(Refusal::SeriesNotNamed)
        }
        Scope::Instance(_, series, instance) if !exam.has_instance(series, instance) => {
            Err(Refusal::InstanceNotNamed)
        }
        Scope::Series(..) | Scope::Instance(..) => Ok(()),
    }
}

impl fmt::Debug for PeerGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerGate")
            .field("directory", &self.directory)
            .field("professions", &self.professions)
            .field("serve_masked", &self.serve_masked)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
