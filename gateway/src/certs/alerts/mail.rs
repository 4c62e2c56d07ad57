//! Alerts by mail: SMTP with TLS, by STARTTLS or from the first byte, never in clear.

use std::fs;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use super::state::Message;
use super::{Channel, NotSent, Recipient};
use crate::config::{Smtp, SmtpSecurity};

/// For one delivery.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a file of authorities.
const MAX_AUTHORITIES: u64 = 8 << 20;

/// A mail server.
pub struct MailChannel {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Address,
}

/// Why a mail server cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum MailSetupError {
    /// A file cannot be read.
    #[error("{file}: {source}. Check that the service's account may read it.")]
    File {
        /// The file.
        file: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// The address of the sender is none.
    #[error("`alerts.smtp.from` is not a mail address: {0}")]
    From(#[from] lettre::address::AddressError),
    /// TLS cannot be set up.
    #[error("TLS towards the mail server (`alerts.smtp`): {0}")]
    Tls(#[from] lettre::transport::smtp::Error),
}

/// `Auto-Submitted: auto-generated` (RFC 3834 §5): answering machines keep silent.
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl MailChannel {
    /// From `[alerts.smtp]`. Nobody is asked yet. Blocks.
    ///
    /// # Errors
    /// [`MailSetupError`].
    pub fn new(smtp: &Smtp) -> Result<Self, MailSetupError> {
        let read = |file: &std::path::Path| {
            use std::io::Read as _;
            let mut text = Vec::new();
            let read = fs::File::open(file)
                .and_then(|file| file.take(MAX_AUTHORITIES).read_to_end(&mut text));
            read.map_err(|source| MailSetupError::File {
                file: file.display().to_string(),
                source,
            })?;
            Ok::<_, MailSetupError>(zeroize::Zeroizing::new(text))
        };
        let from: Address = smtp.from.parse()?;
        let parameters = TlsParameters::builder(smtp.host.clone())
            .certificate_store(CertificateStore::None)
            .add_root_certificate(Certificate::from_pem(&read(&smtp.ca_file)?)?)
            .build()?;
        let tls = match smtp.security {
            SmtpSecurity::StartTls => Tls::Required(parameters),
            SmtpSecurity::Tls => Tls::Wrapper(parameters),
        };
        let hello = ClientId::Domain(from.domain().to_owned());
        let mut transport =
            AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(smtp.host.clone())
                .port(smtp.port)
                .tls(tls)
                .hello_name(hello)
                .timeout(Some(PATIENCE));
        if let Some((user, file)) = &smtp.account {
            let text = read(file)?;
            let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let password = String::from_utf8_lossy(line.trim_ascii()).into_owned();
            transport = transport.credentials(Credentials::new(user.clone(), password));
        }
        Ok(Self {
            transport: transport.build(),
            from,
        })
    }

    fn letter(&self, to: Address, message: &Message) -> Result<lettre::Message, NotSent> {
        lettre::Message::builder()
            .message_id(Some(format!("<{}@{}>", message.id, self.from.domain())))
            .from(self.from.clone().into())
            .to(to.into())
            .subject(message.subject.clone())
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN)
            .body(message.text.clone())
            .map_err(|error| NotSent::Later(format!("the mail cannot be written: {error}")))
    }
}

impl Channel for MailChannel {
    fn send<'a>(
        &'a self,
        to: &'a Recipient,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let Recipient::Mail(address) = to else {
                return Err(NotSent::Refused("not a mail address".into()));
            };
            let address: Address = address
                .parse()
                .map_err(|_| NotSent::Refused("not a mail address".into()))?;
            let letter = self.letter(address, message)?;
            let sent = tokio::time::timeout(PATIENCE, self.transport.send(letter)).await;
            match sent {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(failure(&error)),
                Err(_) => Err(NotSent::Later(
                    "the mail server did not answer in time".into(),
                )),
            }
        })
    }
}

/// What the server said may name the recipient: its code alone is repeated. RFC 5321 §4.2.3 and RFC 7504: 550 to 554 and
/// 556 are of the mailbox, or of what this server takes for it, and no repetition helps.
fn failure(error: &lettre::transport::smtp::Error) -> NotSent {
    let Some(code) = error.status() else {
        let what = if error.is_tls() {
            "TLS with the mail server failed"
        } else if error.is_timeout() {
            "the mail server did not answer in time"
        } else {
            "the mail server cannot be reached"
        };
        return NotSent::Later(what.into());
    };
    let code = code.to_string();
    match code.as_str() {
        "550" | "551" | "552" | "553" | "554" | "556" => {
            NotSent::Refused(format!("the mail server refuses the recipient ({code})"))
        }
        _ => NotSent::Later(format!("the mail server answered {code}")),
    }
}
