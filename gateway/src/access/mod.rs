//! The one place that decides who may see which study.
//!
//! A listener authenticates a connection, a request may add a token; [`Access`] turns them into a
//! [`Principal`], and a principal with what it asks for into a [`Grant`] or a refusal. Handlers ask
//! here and nowhere else. What cannot be established is refused.

mod gate;
mod link;
pub mod patient;
mod peers;
pub mod professional;
mod refusal;
mod tokens;

pub use gate::{Credentials, Known, NamedKos, NotAPeer, PeerDirectory, PeerGate, PeerIdentity};
pub use link::{Comer, Granted, LinkGate, ReportLink, Through, Visitor, Visitors};
pub use refusal::Refusal;
pub use tokens::{TokenError, Tokens};

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use crate::archive::Scope;
use crate::config::Resource;
use crate::dicom::uid::StudyUid;
use crate::net::{Connection, ListenerKind};
use crate::source::PublishedExam;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Another DRIMbox, by the certificate it showed on a `db` name.
    Peer,
    /// A system of the centre, by the name of its bearer token.
    Local(Arc<str>),
    /// A process on this machine, over a loopback listener without tokens.
    Loopback,
    /// A person on a `vi` name, to whom the link of a report was opened.
    Visitor,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Retrieval of images, frames or metadata.
    Retrieve(&'a Scope),
    /// A search over the whole PACS.
    Search,
    /// A search below a study.
    SearchIn(&'a StudyUid),
}

/// What a principal may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub principal: Principal,
    /// Name of the PACS it was given for; nothing of another PACS may be shown under it.
    pub pacs: Arc<str>,
    /// The exam that a KOS opened to a peer: its series, and no other.
    pub exam: Option<Arc<PublishedExam>>,
}

/// What each listener offers, and to whom.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// What the listener for peers offers.
    pub peer: BTreeSet<Resource>,
    /// What the local listener offers.
    pub local: BTreeSet<Resource>,
    /// Bearer tokens of the local listener; `None` on loopback without tokens.
    pub tokens: Option<Tokens>,
    /// What peers must show besides a certificate that the handshake accepts; `None` in a
    /// laboratory, where that is enough.
    pub gate: Option<PeerGate>,
    /// What people who come by the link of a report must show; `None`: nobody can.
    pub links: Option<LinkGate>,
    /// What they are offered, within their exam.
    pub visitors: BTreeSet<Resource>,
    /// `vi` host name → PACS.
    pub viewers: HashMap<String, Arc<str>>,
    /// `db` host name → PACS.
    pub hosts: HashMap<String, Arc<str>>,
    /// PACS of the local listener, by name.
    pub names: BTreeSet<Arc<str>>,
    /// PACS behind the plain path of the local listener.
    pub default_pacs: Option<Arc<str>>,
}

/// Who asks, what the listener offers, and the PACS that the request is about.
type Identified<'a> = (Principal, &'a BTreeSet<Resource>, Option<Arc<str>>);

impl Access {
    /// Says which DRIMbox a connection to a `db` name comes from, before anything of its requests
    /// is looked at; `None` for other connections.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn recognise(&self, connection: &Connection) -> Result<Option<PeerIdentity>, Refusal> {
        if connection.listener != ListenerKind::Peer {
            return Ok(None);
        }
        let (chain, leaf) = shown(connection).ok_or(Refusal::NoCertificate)?;
        match &self.gate {
            Some(gate) => gate.recognise(chain).map(Some),
            None => Ok(Some(PeerIdentity::of_certificate(leaf))),
        }
    }

    /// Decides on a request.
    ///
    /// `named` is the PACS that the path names, if it does. What becomes known of who asks is put
    /// into `known`, also when the request is refused.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn decide(
        &self,
        connection: &Connection,
        credentials: Credentials<'_>,
        named: Option<&str>,
        request: Request<'_>,
        known: &mut Known,
    ) -> Result<Grant, Refusal> {
        let (principal, offered, pacs) = self.identify(connection, credentials.token, named)?;
        let resource = match request {
            Request::Retrieve(_) => Resource::Wado,
            Request::Search | Request::SearchIn(_) => Resource::Qido,
        };
        if !offered.contains(&resource) {
            return Err(Refusal::NotOffered);
        }
        let pacs = pacs.ok_or(Refusal::NoPacs)?;
        let exam = match principal {
            Principal::Peer => match &self.gate {
                Some(gate) => {
                    let (_, leaf) = shown(connection).ok_or(Refusal::NoCertificate)?;
                    let admitted = gate.admit(&pacs, leaf, credentials, request, known);
                    admitted.await?
                }
                None => None,
            },
            Principal::Visitor => {
                let gate = self.links.as_ref().ok_or(Refusal::NotOffered)?;
                let host = connection.host.as_deref().ok_or(Refusal::NoPacs)?;
                let headers = credentials.headers.ok_or(Refusal::Unauthenticated)?;
                Some(gate.admit(&pacs, headers, host, request, known).await?)
            }
            Principal::Local(_) | Principal::Loopback => None,
        };
        Ok(Grant {
            principal,
            pacs,
            exam,
        })
    }

    /// What a principal may ask for at all, for the description of the service. Peers that come
    /// through the gate learn the addresses of images from a KOS, and get no description.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn offered(
        &self,
        connection: &Connection,
        token: Option<&str>,
        named: Option<&str>,
    ) -> Result<&BTreeSet<Resource>, Refusal> {
        let (principal, offered, pacs) = self.identify(connection, token, named)?;
        if principal == Principal::Visitor || principal == Principal::Peer && self.gate.is_some() {
            return Err(Refusal::NotOffered);
        }
        pacs.map(|_| offered).ok_or(Refusal::NoPacs)
    }

    fn identify(
        &self,
        connection: &Connection,
        token: Option<&str>,
        named: Option<&str>,
    ) -> Result<Identified<'_>, Refusal> {
        Ok(match connection.listener {
            ListenerKind::Peer => {
                shown(connection).ok_or(Refusal::NoCertificate)?;
                if named.is_some() {
                    return Err(Refusal::NoPacs);
                }
                let host = connection.host.as_deref().ok_or(Refusal::NoPacs)?;
                (Principal::Peer, &self.peer, self.hosts.get(host).cloned())
            }
            ListenerKind::Local => {
                let principal = match (&self.tokens, token) {
                    (Some(tokens), Some(token)) => {
                        Principal::Local(tokens.name_of(token).ok_or(Refusal::Unauthenticated)?)
                    }
                    (Some(_), None) => return Err(Refusal::Unauthenticated),
                    (None, _) => Principal::Loopback,
                };
                let pacs = match named {
                    Some(name) => self.names.get(name).cloned(),
                    None => self.default_pacs.clone(),
                };
                (principal, &self.local, pacs)
            }
            ListenerKind::Viewer => {
                if named.is_some() || self.links.is_none() {
                    return Err(Refusal::NoPacs);
                }
                let host = connection.host.as_deref().ok_or(Refusal::NoPacs)?;
                let pacs = self.viewers.get(host).cloned();
                (Principal::Visitor, &self.visitors, pacs)
            }
            ListenerKind::Admin | ListenerKind::Clear => return Err(Refusal::NotOffered),
        })
    }
}

/// The certificates that the client showed, and its own, the first of them.
fn shown(
    connection: &Connection,
) -> Option<(&[CertificateDer<'static>], &CertificateDer<'static>)> {
    let chain = connection.peer_certificates.as_deref()?;
    Some((chain, connection.peer()?))
}
