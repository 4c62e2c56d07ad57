//! How a one-time code leaves: mail, or the program that sends SMS.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;

use acme::{HttpsTransport, Transport, TransportSettings};
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Uri};
use serde_json::Value;
use url::form_urlencoded;

use crate::certs::alerts::mail::MailChannel;
use crate::certs::alerts::state::Message;
use crate::certs::alerts::{Channel, NotSent, Recipient};
use crate::config::{HttpProxy, PHONE, SmsBody, SmsGateway, TEXT};
use crate::net;

/// Bytes of a token file that are read.
const MAX_TOKEN: u64 = 4_096;

/// What a patient gets.
#[derive(Clone)]
pub struct Letter {
    /// Unique, for `Message-ID`.
    pub id: String,
    /// One line.
    pub subject: String,
    /// The text, with the code.
    pub text: String,
}

/// Sends codes.
pub trait CodeChannel: Send + Sync {
    /// Sends one; `Ok` when the other side has taken it. An error names neither code nor address.
    fn send<'a>(&'a self, to: &'a str, letter: &'a Letter) -> BoxFuture<'a, Result<(), NotSent>>;
}

impl CodeChannel for MailChannel {
    fn send<'a>(&'a self, to: &'a str, letter: &'a Letter) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let to = Recipient::Mail(to.to_owned());
            let message = Message {
                id: letter.id.clone(),
                recipient: to.key(),
                subject: letter.subject.clone(),
                text: letter.text.clone(),
                data: Value::Null,
                written: 0,
                about: String::new(),
            };
            Channel::send(self, &to, &message).await
        })
    }
}

/// A gateway that sends SMS.
pub struct SmsChannel {
    transport: Arc<dyn Transport>,
    url: Uri,
    token: Option<HeaderValue>,
    body: SmsBody,
}

impl SmsChannel {
    /// From `[viewer.sms]`. Nobody is asked yet. Blocks.
    ///
    /// # Errors
    /// When a file or an address cannot be used.
    pub fn new(gateway: &SmsGateway) -> anyhow::Result<Self> {
        let roots = net::tls::read_authorities(&gateway.ca_file)
            .context("authorities of the SMS gateway (`viewer.sms.ca_file`)")?;
        let settings = TransportSettings {
            proxy: gateway.http_proxy.as_ref().map(HttpProxy::url),
            ..TransportSettings::default()
        };
        let token = gateway.token_file.as_ref().map(|file| {
            let mut text = zeroize::Zeroizing::new(String::new());
            fs::File::open(file)
                .and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
                .with_context(|| format!("token of the SMS gateway: {}", file.display()))?;
            let line = text.lines().next().unwrap_or_default().trim();
            let mut value = HeaderValue::from_str(&format!("Bearer {line}"))
                .context("token of the SMS gateway")?;
            value.set_sensitive(true);
            Ok::<_, anyhow::Error>(value)
        });
        Ok(Self {
            transport: Arc::new(HttpsTransport::new(settings, roots)?),
            url: gateway.url.parse().context("address of the SMS gateway")?,
            token: token.transpose()?,
            body: gateway.body.clone(),
        })
    }
}

impl CodeChannel for SmsChannel {
    fn send<'a>(&'a self, to: &'a str, letter: &'a Letter) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let (kind, body) = filled(&self.body, to, &letter.text);
            let mut request = http::Request::post(self.url.clone())
                .header(CONTENT_TYPE, kind)
                .header(USER_AGENT, concat!("drimbox/", env!("CARGO_PKG_VERSION")));
            if let Some(token) = &self.token {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request.body(Bytes::from(body)).map_err(|error| {
                NotSent::Later(format!("the SMS gateway cannot be asked: {error}"))
            })?;
            let answer = self.transport.send(request).await;
            let answer =
                answer.map_err(|error| NotSent::Later(format!("the SMS gateway: {error}")))?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(NotSent::Later(format!("the SMS gateway answered {status}"))),
            }
        })
    }
}

/// The body of a request with its values, which cannot become anything else than values.
fn filled(body: &SmsBody, phone: &str, text: &str) -> (&'static str, String) {
    let fill = |template: &str| {
        let parts = template.split(PHONE).map(|part| part.replace(TEXT, text));
        parts.collect::<Vec<_>>().join(phone)
    };
    match body {
        SmsBody::Json(template) => {
            let mut value = template.clone();
            replace(&mut value, &fill);
            ("application/json", value.to_string())
        }
        SmsBody::Form(pairs) => {
            let mut form = form_urlencoded::Serializer::new(String::new());
            for (name, value) in pairs {
                form.append_pair(name, &fill(value));
            }
            ("application/x-www-form-urlencoded", form.finish())
        }
    }
}

/// The texts of a template; the parser of the configuration bounds how deep it is.
fn replace(value: &mut Value, fill: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = fill(text),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, fill)),
        Value::Object(values) => values.values_mut().for_each(|value| replace(value, fill)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values_in_the_body_for_an_sms_gateway() {
        let json =
            serde_json::json!({"to": [PHONE], "message": {"text": "Centre : {text}"}, "n": 1});
        let (kind, body) = filled(&SmsBody::Json(json), "+336", "a\"b {phone}");
        assert_eq!(kind, "application/json");
        let expected = serde_json::json!({"to": ["+336"], "message": {"text": "Centre : a\"b {phone}"}, "n": 1});
        assert_eq!(body, expected.to_string());
        let form = SmsBody::Form(vec![("to".into(), PHONE.into()), ("m".into(), TEXT.into())]);
        let (_, body) = filled(&form, "+336", "a&to=b");
        assert_eq!(body, "to=%2B336&m=a%26to%3Db");
    }
}
