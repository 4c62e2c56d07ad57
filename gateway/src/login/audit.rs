//! What the audit trail is told about people coming and going.

use std::fmt;
use std::net::IpAddr;

use psc_auth::BoxFuture;

use crate::access::professional::{Professional, Situation};

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum LoginEvent<'a> {
    /// PSC identified a professional who may come in.
    LoggedIn {
        /// Who.
        professional: &'a Professional,
    },
    /// The professional acts in this situation from now on.
    Situation {
        /// Who.
        professional: &'a Professional,
        /// In which situation.
        situation: &'a Situation,
    },
    /// A login was refused.
    Refused {
        /// Technical subject at PSC, when it got that far.
        sub: Option<&'a str>,
        /// A fixed word.
        reason: &'static str,
    },
    /// A session ended.
    LoggedOut {
        /// Who.
        professional: &'a Professional,
        /// A fixed word: `user`, `everywhere`, `psc`, `idle`, `absolute`, `replaced`, `full`.
        cause: &'static str,
    },
}

/// An event and where it came from.
#[derive(Debug, Clone, Copy)]
pub struct LoginRecord<'a> {
    /// What happened.
    pub event: LoginEvent<'a>,
    /// `vi` name.
    pub host: &'a str,
    /// Address of the browser; `None` for what the gateway does by itself.
    pub remote: Option<IpAddr>,
}

/// The trail did not take an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit trail does not take events")]
pub struct AuditUnavailable;

/// Takes events; durable when the future ends.
pub trait LoginAudit: Send + Sync + fmt::Debug {
    /// Records one. A login without record does not take place; an end of session does.
    fn record<'a>(&'a self, record: LoginRecord<'a>)
    -> BoxFuture<'a, Result<(), AuditUnavailable>>;
}

/// Keeps nothing.
#[derive(Debug, Clone, Copy)]
pub struct NoAudit;

impl LoginAudit for NoAudit {
    fn record<'a>(&'a self, _: LoginRecord<'a>) -> BoxFuture<'a, Result<(), AuditUnavailable>> {
        Box::pin(async { Ok(()) })
    }
}
