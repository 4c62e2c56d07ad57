//! Alerts as JSON, posted to a program over https.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;

use acme::{HttpsTransport, Transport, TransportSettings};
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Uri};
use serde_json::json;

use super::state::Message;
use super::{Channel, NotSent, Recipient};
use crate::config::{HttpProxy, Webhook};
use crate::net;

/// Bytes of a token file that are read.
const MAX_TOKEN: u64 = 4_096;

/// One webhook.
pub struct WebhookChannel {
    transport: Arc<dyn Transport>,
    url: Uri,
    token: Option<HeaderValue>,
}

impl WebhookChannel {
    /// From `[[alerts.webhook]]`. Nobody is asked yet. Blocks.
    ///
    /// # Errors
    /// When a file or an address cannot be used.
    pub fn new(webhook: &Webhook) -> anyhow::Result<Self> {
        let name = &webhook.name;
        let roots = net::tls::read_authorities(&webhook.ca_file)
            .with_context(|| format!("authorities of the webhook {name:?}"))?;
        let settings = TransportSettings {
            proxy: webhook.http_proxy.as_ref().map(HttpProxy::url),
            ..TransportSettings::default()
        };
        let token = match &webhook.token_file {
            None => None,
            Some(file) => {
                let mut text = zeroize::Zeroizing::new(String::new());
                fs::File::open(file)
                    .and_then(|file| file.take(MAX_TOKEN).read_to_string(&mut text))
                    .with_context(|| {
                        format!("token of the webhook {name:?}: {}", file.display())
                    })?;
                let line = text.lines().next().unwrap_or_default().trim();
                let mut value = HeaderValue::from_str(&format!("Bearer {line}"))
                    .with_context(|| format!("token of the webhook {name:?}"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            transport: Arc::new(HttpsTransport::new(settings, roots)?),
            url: webhook.url.parse().context("address of a webhook")?,
            token,
        })
    }
}

impl Channel for WebhookChannel {
    fn send<'a>(
        &'a self,
        _: &'a Recipient,
        message: &'a Message,
    ) -> BoxFuture<'a, Result<(), NotSent>> {
        Box::pin(async move {
            let body = json!({
                "id": message.id,
                "subject": message.subject,
                "text": message.text,
                "alert": message.data,
            });
            let mut request = http::Request::post(self.url.clone())
                .header(CONTENT_TYPE, "application/json")
                .header(USER_AGENT, concat!("drimbox/", env!("CARGO_PKG_VERSION")));
            if let Some(token) = &self.token {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request
                .body(Bytes::from(body.to_string()))
                .map_err(|error| NotSent::Later(format!("the webhook cannot be asked: {error}")))?;
            let answer = self.transport.send(request).await;
            let answer = answer.map_err(|error| NotSent::Later(format!("webhook: {error}")))?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(NotSent::Later(format!(
                    "the webhook answered {}",
                    status.as_u16()
                ))),
            }
        })
    }
}
