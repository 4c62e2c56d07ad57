//! Why an attempt failed, as causes that an administrator can act on.

use std::fmt;
use std::time::Duration;

use instant_acme::{Error as AcmeError, Problem};
use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::store::StoreError;
use crate::transport::{Noticed, TransportError};

/// Characters kept of what another machine said.
const MAX_SAID: usize = 300;

/// What is in the way. Each has one remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// The name has no address in the DNS: have it published.
    NameUnresolved,
    /// The DNS has another address for the name than that of this service: correct the record.
    PointsElsewhere,
    /// Another machine answers under the name: correct the DNS record or the translation of addresses.
    AnsweredElsewhere,
    /// Nothing answers on port 80: open it from the Internet to this service.
    PortBlocked,
    /// The zone's CAA records (RFC 8659) do not name this authority: have it added, or use another authority.
    Caa,
    /// The account is refused or unknown: it is made again at the next attempt; check the contact address.
    Account,
    /// The authority wants an external account binding, or refuses the one given: give the key it issued.
    ExternalAccount,
    /// Too many orders or failures: wait until the time it said.
    RateLimited,
    /// The authority will not issue for this name: ask it, or use another.
    NameRefused,
    /// The authority refuses the request for a certificate: use the other type of key.
    RequestRefused,
    /// The authority cannot be reached: open the way out to its address.
    AuthorityUnreachable,
    /// The authority's own TLS certificate is not trusted: give its root.
    AuthorityUntrusted,
    /// The authority has a fault of its own: nothing to do but wait.
    AuthorityFault,
    /// The authority has not decided in time: the order goes on at the next attempt.
    Slow,
    /// What it issued is not what was asked for: tell the authority.
    WrongCertificate,
    /// The certificate could not be put in service: see the detail.
    Install,
    /// State could not be read or kept: check the disk.
    Store,
}

impl Cause {
    /// Every cause, for metrics that show each of them from the start.
    pub const ALL: [Self; 17] = [
        Self::NameUnresolved,
        Self::PointsElsewhere,
        Self::AnsweredElsewhere,
        Self::PortBlocked,
        Self::Caa,
        Self::Account,
        Self::ExternalAccount,
        Self::RateLimited,
        Self::NameRefused,
        Self::RequestRefused,
        Self::AuthorityUnreachable,
        Self::AuthorityUntrusted,
        Self::AuthorityFault,
        Self::Slow,
        Self::WrongCertificate,
        Self::Install,
        Self::Store,
    ];

    /// A short name, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameUnresolved => "name_unresolved",
            Self::PointsElsewhere => "points_elsewhere",
            Self::AnsweredElsewhere => "answered_elsewhere",
            Self::PortBlocked => "port_blocked",
            Self::Caa => "caa",
            Self::Account => "account",
            Self::ExternalAccount => "external_account",
            Self::RateLimited => "rate_limited",
            Self::NameRefused => "name_refused",
            Self::RequestRefused => "request_refused",
            Self::AuthorityUnreachable => "authority_unreachable",
            Self::AuthorityUntrusted => "authority_untrusted",
            Self::AuthorityFault => "authority_fault",
            Self::Slow => "slow",
            Self::WrongCertificate => "wrong_certificate",
            Self::Install => "install",
            Self::Store => "store",
        }
    }

    /// Whether another authority may succeed where this one did not.
    #[must_use]
    pub const fn is_of_one_authority(self) -> bool {
        !matches!(
            self,
            Self::NameUnresolved
                | Self::PointsElsewhere
                | Self::AnsweredElsewhere
                | Self::PortBlocked
                | Self::Install
                | Self::Store
        )
    }
}

/// One failed attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What is in the way.
    pub cause: Cause,
    /// What was seen and said, in the words of those who said it; one line, bounded.
    pub detail: String,
    /// Directory of the authority that was asked, when one was.
    pub authority: Option<String>,
    /// When it asked to be left alone until.
    pub retry_at: Option<UnixTime>,
    /// The authority refused the nonce, again and again: the request itself was not looked at.
    #[serde(skip)]
    pub(crate) nonce_refused: bool,
    /// The authority looked at the request and said no: it would say so again.
    #[serde(skip)]
    pub(crate) refused: bool,
}

/// How often a step is begun again because of refused nonces (RFC 8555 §6.5).
///
/// They say nothing of the request, and the client signs it anew with the nonce of the refusal. instant-acme does so
/// three times per request; an authority behind several nodes may need more, and putting the whole attempt off for
/// that would be a pity. The step must go on from wherever it stands.
pub(crate) struct NonceRounds(usize);

impl NonceRounds {
    pub(crate) const fn new() -> Self {
        Self(5)
    }

    /// Whether the step is to be begun again after this failure.
    pub(crate) fn again(&mut self, failure: &Failure) -> bool {
        let again = failure.nonce_refused && self.0 > 0;
        if again {
            tracing::debug!("nonces refused; the step is begun again");
            self.0 -= 1;
        }
        again
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.cause.as_str(), self.detail)
    }
}

impl std::error::Error for Failure {}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(Cause::Store, &error.to_string())
    }
}

impl Failure {
    pub(crate) fn new(cause: Cause, detail: &str) -> Self {
        Self {
            cause,
            detail: bounded(detail),
            authority: None,
            retry_at: None,
            nonce_refused: false,
            refused: false,
        }
    }

    /// What instant-acme reported, with what was noticed of the answer that made it.
    pub(crate) fn of(error: &AcmeError, noticed: &Noticed, now: UnixTime) -> Self {
        let mut failure = match error {
            AcmeError::Api(problem) => Self::from_problem(problem),
            AcmeError::Timeout(_) => Self::new(Cause::Slow, &error.to_string()),
            _ => match &noticed.lost {
                Some(lost) => Self::from_transport(lost),
                None => Self::new(
                    Cause::AuthorityFault,
                    &format!(
                        "its answer is not one of ACME (status {}): {error}",
                        shown(noticed)
                    ),
                ),
            },
        };
        if noticed.status == Some(http::StatusCode::TOO_MANY_REQUESTS) {
            failure.cause = Cause::RateLimited;
        }
        let of_the_moment = noticed.status.is_some_and(|status| {
            status == http::StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
        });
        failure.refused &= !of_the_moment;
        if matches!(
            failure.cause,
            Cause::RateLimited | Cause::AuthorityFault | Cause::Slow
        ) {
            failure.retry_at = noticed.retry_after.map(|span| now.plus(limited(span)));
        }
        failure
    }

    fn from_transport(error: &TransportError) -> Self {
        let cause = match error {
            TransportError::Tls(_) => Cause::AuthorityUntrusted,
            TransportError::TooLarge { .. } => Cause::AuthorityFault,
            _ => Cause::AuthorityUnreachable,
        };
        Self::new(cause, &error.to_string())
    }

    /// An error document outside a validation (RFC 8555 §6.7).
    fn from_problem(problem: &Problem) -> Self {
        let cause = match kind(problem) {
            "caa" => Cause::Caa,
            "rateLimited" => Cause::RateLimited,
            "accountDoesNotExist"
            | "invalidContact"
            | "unsupportedContact"
            | "userActionRequired"
            | "badPublicKey"
            | "badSignatureAlgorithm"
            | "unauthorized" => Cause::Account,
            "externalAccountRequired" => Cause::ExternalAccount,
            "rejectedIdentifier" | "unsupportedIdentifier" => Cause::NameRefused,
            "badCSR" => Cause::RequestRefused,
            _ => Cause::AuthorityFault,
        };
        let mut failure = Self::new(cause, &said(problem));
        failure.nonce_refused = kind(problem) == "badNonce";
        failure.refused = !matches!(kind(problem), "badNonce" | "rateLimited" | "serverInternal");
        failure
    }

    pub(crate) fn by(mut self, directory: &str) -> Self {
        self.authority.get_or_insert_with(|| directory.to_owned());
        self
    }
}

/// The name of a problem within the ACME namespace (RFC 8555 §6.7).
pub(crate) fn kind(problem: &Problem) -> &str {
    let full = problem.r#type.as_deref().unwrap_or_default();
    full.strip_prefix("urn:ietf:params:acme:error:")
        .unwrap_or_default()
}

/// The words of a problem, with those on each identifier.
pub(crate) fn said(problem: &Problem) -> String {
    bounded(&problem.to_string())
}

/// A text of another machine: one line, printable, bounded.
pub(crate) fn bounded(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(MAX_SAID).collect()
}

/// `Retry-After` is honoured up to a week: what says more is a mistake.
fn limited(span: Duration) -> Duration {
    span.min(Duration::from_secs(7 * 86_400))
}

fn shown(noticed: &Noticed) -> String {
    noticed
        .status
        .map_or_else(|| "none".to_owned(), |status| status.as_u16().to_string())
}
