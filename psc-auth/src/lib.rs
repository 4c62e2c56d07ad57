//! Pro Santé Connect: relying party and token checker.
//!
//! Three things, each over one [`Provider`], which holds what is known of PSC:
//!
//! * [`RelyingParty`] logs professionals in (authorization code with PKCE, or CIBA), keeps their [`Session`] alive
//!   and ends it;
//! * [`UserInfo`] says who they are and in which situations they may act;
//! * [`PscTokenGate`] checks an access token that a peer presents, behind the trait [`TokenGate`].
//!
//! The caller gives a [`Transport`] ([`HttpsTransport`] is one, with the client certificate) and a [`Clock`]. The
//! library knows neither DICOM nor the gateway's configuration, keeps nothing on disk, and opens no port.
//!
//! Tokens are [`secrecy`] values: wiped when dropped and absent from `Debug`. Not wiped are copies in the buffers of TLS
//! and HTTP, within `openidconnect`, and in addresses: that of a login holds state and nonce, which the browser sees
//! anyway, that of a logout the id_token as a hint.

mod callback;
mod ciba;
mod claims;
mod clock;
mod confirmation;
mod error;
mod gate;
mod id_token;
mod identity;
mod jws;
mod login;
mod logout;
mod metadata;
mod practice;
mod presented;
mod probe;
mod provider;
mod session;
mod settings;
mod token_fault;
mod tokens;
mod transport;
mod user_info;

pub use callback::Callback;
pub use ciba::{BindingMessage, Channel, CibaProgress, NotTwoDigits, PendingCiba};
pub use clock::{Clock, SystemClock, UnixTime};
pub use confirmation::Thumbprint;
pub use error::{CallbackFault, Endpoint, ErrorCode, PscError, Said, SessionEnd};
pub use gate::{CheckedToken, GateError, GateSettings, PscTokenGate, TokenGate};
pub use id_token::LoggedIn;
pub use identity::{NationalId, NotAnId, Rpps};
pub use login::{LoginChoice, PendingLogin, RelyingParty};
pub use logout::LogoutNotice;
pub use practice::{Activity, Exercice, ProfessionPolicy, Situation, SituationId};
pub use provider::Provider;
pub use session::Session;
pub use settings::{AcrPolicy, Environment, Settings, SettingsError};
pub use token_fault::{TokenFault, TokenKind};
pub use transport::{
    BoxFuture, ClientIdentity, HttpsTransport, Request, Response, Transport, TransportError,
    TransportSettings, TransportSetupError,
};
pub use user_info::{OtherId, UserInfo};
