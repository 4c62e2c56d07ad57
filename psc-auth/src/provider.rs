//! What is known of Pro Santé Connect: its addresses (discovery) and its signing keys, kept and renewed;
//! and the one way to send it a form.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::sync::{Mutex, watch};
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use crate::clock::{Clock, UnixTime};
use crate::error::{Endpoint, ErrorCode, PscError, Said, is_temporary};
use crate::jws::{Jws, SigningKeys};
use crate::metadata::Metadata;
use crate::settings::Settings;
use crate::token_fault::{TokenFault, TokenKind};
use crate::transport::{Request, Response, Transport};

/// Pro Santé Connect as one client sees it. Share it behind an [`Arc`].
#[derive(Debug)]
pub struct Provider {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    known: ArcSwapOption<Known>,
    reading: Mutex<Reading>,
    /// PSC's clock minus ours, in seconds.
    skew: watch::Sender<Option<i64>>,
}

/// Discovery and keys, as they were read.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) keys: Arc<SigningKeys>,
    read_at: UnixTime,
}

/// What the next read has to respect; held by whoever reads, so that one reads at a time.
#[derive(Debug, Default)]
struct Reading {
    failures: u32,
    failed_at: Option<UnixTime>,
    failure: Option<PscError>,
    keys_asked_at: Option<UnixTime>,
}

impl Provider {
    /// Nothing is asked of PSC before it is needed.
    #[must_use]
    pub fn new(settings: Settings, transport: Arc<dyn Transport>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            transport,
            known: ArcSwapOption::empty(),
            reading: Mutex::new(Reading::default()),
            skew: watch::Sender::default(),
        }
    }

    /// The settings in use.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads discovery and keys now if they are due; a caller may do it at start to learn early.
    ///
    /// # Errors
    /// When PSC cannot be read, and nothing recent enough is known.
    pub async fn prepare(&self) -> Result<(), PscError> {
        self.known().await.map(drop)
    }

    /// How far PSC's clock is ahead of this one, in seconds, by its last answer.
    #[must_use]
    pub fn clock_skew(&self) -> Option<i64> {
        *self.skew.borrow()
    }

    /// [`clock_skew`](Self::clock_skew), for who wants to be told when it changes.
    #[must_use]
    pub fn watch_clock_skew(&self) -> watch::Receiver<Option<i64>> {
        self.skew.subscribe()
    }

    pub(crate) async fn known(&self) -> Result<Arc<Known>, PscError> {
        if let Some(known) = self.known.load_full()
            && self.clock.now().since(known.read_at) < self.settings.metadata_refresh
        {
            return Ok(known);
        }
        let now = self.clock.now();
        let usable = |known: &Arc<Known>| now.since(known.read_at) < self.settings.metadata_stale;
        let mut reading = match self.known.load_full().filter(usable) {
            // One task renews it; meanwhile the others use what there is.
            Some(known) => match self.reading.try_lock() {
                Ok(reading) => reading,
                Err(_) => return Ok(known),
            },
            None => self.reading.lock().await,
        };
        let kept = self.known.load_full();
        if let Some(known) = &kept
            && now.since(known.read_at) < self.settings.metadata_refresh
        {
            return Ok(Arc::clone(known));
        }
        let usable = kept.filter(usable);
        if let Some(wait) = self.wait_left(&reading, now) {
            return usable.ok_or_else(|| reading.backing_off(wait));
        }
        match self.read_all(now).await {
            Ok(known) => {
                let known = Arc::new(known);
                self.known.store(Some(Arc::clone(&known)));
                *reading = Reading {
                    keys_asked_at: reading.keys_asked_at,
                    ..Reading::default()
                };
                Ok(known)
            }
            Err(error) => {
                tracing::warn!(%error, remedy = error.remedy(), "Pro Santé Connect could not be read");
                reading.failures = reading.failures.saturating_add(1);
                reading.failed_at = Some(now);
                reading.failure = Some(error.clone());
                usable.ok_or(error)
            }
        }
    }

    fn wait_left(&self, reading: &Reading, now: UnixTime) -> Option<Duration> {
        let failed_at = reading.failed_at?;
        let doubled = 2_u32.saturating_pow(reading.failures.saturating_sub(1).min(16));
        let wait = self
            .settings
            .backoff_first
            .saturating_mul(doubled)
            .min(self.settings.backoff_longest);
        wait.checked_sub(now.since(failed_at))
            .filter(|left| !left.is_zero())
    }

    async fn read_all(&self, now: UnixTime) -> Result<Known, PscError> {
        let answer = self
            .get(Endpoint::Discovery, &self.settings.discovery_url, None)
            .await?;
        let metadata = Metadata::parse(&answer.body, &self.settings.issuer)?;
        let keys = self.read_keys(&metadata).await?;
        Ok(Known {
            metadata: Arc::new(metadata),
            keys: Arc::new(keys),
            read_at: now,
        })
    }

    async fn read_keys(&self, metadata: &Metadata) -> Result<SigningKeys, PscError> {
        let answer = self.get(Endpoint::Keys, &metadata.jwks_uri, None).await?;
        SigningKeys::parse(&answer.body).map_err(|what| PscError::Malformed {
            endpoint: Endpoint::Keys,
            what,
        })
    }

    /// Keys with this `kid` among them if PSC has it. They are read again for an unknown one, but not more
    /// often than settings say: anyone can make up a `kid`.
    pub(crate) async fn keys_for(&self, kid: &str) -> Result<Arc<SigningKeys>, PscError> {
        let known = self.known().await?;
        if known.keys.knows(kid) {
            return Ok(Arc::clone(&known.keys));
        }
        let mut reading = self.reading.lock().await;
        let known = self.known.load_full().unwrap_or(known);
        let now = self.clock.now();
        let just_read = now.since(known.read_at) < self.settings.key_refetch;
        let just_asked = reading
            .keys_asked_at
            .is_some_and(|at| now.since(at) < self.settings.key_refetch);
        if known.keys.knows(kid) || just_read || just_asked {
            return Ok(Arc::clone(&known.keys));
        }
        reading.keys_asked_at = Some(now);
        let keys = Arc::new(self.read_keys(&known.metadata).await?);
        self.known.store(Some(Arc::new(Known {
            keys: Arc::clone(&keys),
            ..(*known).clone()
        })));
        Ok(keys)
    }

    /// Reads a token and verifies its signature.
    pub(crate) async fn verify_signature(
        &self,
        kind: TokenKind,
        token: &str,
    ) -> Result<crate::claims::Claims, PscError> {
        let refused = |fault: TokenFault| PscError::Token { token: kind, fault };
        let jws = Jws::parse(token).map_err(refused)?;
        let keys = self.keys_for(&jws.kid).await?;
        let (claims, _) = jws.verify(&keys).map_err(refused)?;
        Ok(claims)
    }

    /// Sends a form with the Client ID and without secret: the certificate proves who we are
    /// (RFC 8705 §2.1, `tls_client_auth`).
    pub(crate) async fn post_form(
        &self,
        endpoint: Endpoint,
        url: &Url,
        fields: &[(&str, &str)],
    ) -> Result<Response, PscError> {
        let body = self.form(fields);
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(body);
        self.answered(endpoint, request).await
    }

    fn form(&self, fields: &[(&str, &str)]) -> Bytes {
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(16 * 1024));
        form.extend_pairs(fields);
        form.append_pair("client_id", &self.settings.client_id);
        // The bytes end in hyper's buffers, which are not wiped.
        Bytes::from(form.finish().into_bytes())
    }

    /// Reads an address, with a bearer token if there is one.
    pub(crate) async fn get(
        &self,
        endpoint: Endpoint,
        url: &Url,
        bearer: Option<&SecretString>,
    ) -> Result<Response, PscError> {
        let mut request = http::Request::builder()
            .method(Method::GET)
            .uri(url.as_str())
            .header(header::ACCEPT, "application/json, application/jwt");
        if let Some(token) = bearer {
            let value = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            if let Ok(mut value) = header::HeaderValue::from_str(&value) {
                value.set_sensitive(true);
                request = request.header(header::AUTHORIZATION, value);
            }
        }
        self.answered(endpoint, request.body(Bytes::new())).await
    }

    async fn answered(
        &self,
        endpoint: Endpoint,
        request: Result<Request, http::Error>,
    ) -> Result<Response, PscError> {
        let request = request.map_err(|_| PscError::Malformed {
            endpoint,
            what: "its address cannot be asked",
        })?;
        let asked_at = self.clock.now();
        let answer = self
            .transport
            .send(request)
            .await
            .map_err(|failure| PscError::Transport { endpoint, failure })?;
        if let Some(skew) = skew(&answer, asked_at, self.clock.now()) {
            self.skew
                .send_if_modified(|known| known.replace(skew) != Some(skew));
        }
        if answer.status == StatusCode::OK || answer.status == StatusCode::NO_CONTENT {
            return Ok(answer);
        }
        Err(refusal(endpoint, &answer))
    }
}

impl Reading {
    fn backing_off(&self, wait: Duration) -> PscError {
        let endpoint = match &self.failure {
            Some(
                PscError::Transport { endpoint, .. }
                | PscError::Status { endpoint, .. }
                | PscError::Malformed { endpoint, .. },
            ) => *endpoint,
            Some(lasting @ PscError::WrongIssuer { .. }) => return lasting.clone(),
            _ => Endpoint::Discovery,
        };
        PscError::BackingOff {
            endpoint,
            seconds: wait.as_secs().max(1),
        }
    }
}

/// A fault of the server (5xx), or too much asked of it (429), says nothing of the request, whatever word of OAuth
/// comes with it: Keycloak answers `500 {"error":"unknown_error"}`.
fn refusal(endpoint: Endpoint, answer: &Response) -> PscError {
    let refused = !is_temporary(answer.status.as_u16());
    let said: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let member = |name: &str| said.as_ref()?.get(name)?.as_str();
    match member("error").filter(|_| refused) {
        Some(code) => PscError::Refused {
            endpoint,
            code: ErrorCode::parse(code),
            said: Said::new(member("error_description").unwrap_or_default()),
        },
        None => PscError::Status {
            endpoint,
            status: answer.status.as_u16(),
        },
    }
}

/// The answer was dated at some moment between the request and its arrival: of the differences that this allows, the
/// smallest. An answer that was long on its way makes no difference of clocks.
fn skew(answer: &Response, asked_at: UnixTime, arrived_at: UnixTime) -> Option<i64> {
    let date = answer.headers.get(header::DATE)?.to_str().ok()?;
    let theirs = httpdate::parse_http_date(date)
        .ok()?
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?;
    let theirs = i64::try_from(theirs.as_secs()).ok()?;
    let since = |ours: UnixTime| theirs.checked_sub(i64::try_from(ours.as_secs()).ok()?);
    let (most, least) = (since(asked_at)?, since(arrived_at)?);
    Some(if least > 0 { least } else { most.min(0) })
}
