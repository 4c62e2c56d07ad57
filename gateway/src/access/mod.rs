//! The one place that decides who may see which study.
//!
//! A listener authenticates a connection, a request may add a token; [`Access`] turns them into a
//! [`Principal`], and a principal with what it asks for into a [`Grant`] or a refusal. Handlers ask
//! here and nowhere else. What cannot be established is refused.

pub mod professional;
mod tokens;

pub use tokens::{TokenError, Tokens};

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::archive::Scope;
use crate::config::Resource;
use crate::net::{Connection, ListenerKind};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// Another DRIMbox, by the certificate it showed on a `db` name.
    Peer,
    /// A system of the centre, by the name of its bearer token.
    Local(Arc<str>),
    /// A process on this machine, over a loopback listener without tokens.
    Loopback,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Retrieval of images, frames or metadata.
    Retrieve(&'a Scope),
    /// A search over the whole PACS, or below a study.
    Search,
}

/// What a principal may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub principal: Principal,
    /// Name of the PACS it was given for; nothing of another PACS may be shown under it.
    pub pacs: Arc<str>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token, or one that is not known.
    #[error("a valid bearer token is needed")]
    Unauthenticated,
    /// The listener does not offer this kind of resource.
    #[error("this listener does not offer this service")]
    NotOffered,
    /// The host name of the connection, or the name in the path, stands for no PACS.
    #[error("no PACS under this name")]
    NoPacs,
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
    /// Decides on a request.
    ///
    /// `named` is the PACS that the path names, if it does; `token` what the `Authorization` field
    /// carries as bearer token.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn decide(
        &self,
        connection: &Connection,
        token: Option<&str>,
        named: Option<&str>,
        request: Request<'_>,
    ) -> Result<Grant, Refusal> {
        let (principal, offered, pacs) = self.identify(connection, token, named)?;
        let resource = match request {
            Request::Retrieve(_) => Resource::Wado,
            Request::Search => Resource::Qido,
        };
        if !offered.contains(&resource) {
            return Err(Refusal::NotOffered);
        }
        let pacs = pacs.ok_or(Refusal::NoPacs)?;
        Ok(Grant { principal, pacs })
    }

    /// What a principal may ask for at all, for the description of the service.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn offered(
        &self,
        connection: &Connection,
        token: Option<&str>,
        named: Option<&str>,
    ) -> Result<&BTreeSet<Resource>, Refusal> {
        let (_, offered, pacs) = self.identify(connection, token, named)?;
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
                // The TLS listener let nobody in without a certificate of its authorities.
                let shown = connection.peer_certificates.as_ref();
                if shown.is_none_or(|chain| chain.is_empty()) || named.is_some() {
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
            ListenerKind::Admin | ListenerKind::Viewer => return Err(Refusal::NotOffered),
        })
    }
}
