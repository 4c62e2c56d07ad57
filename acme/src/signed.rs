//! Requests signed here (RFC 8555 §6.2): those with which the authority learns a key. instant-acme makes such keys
//! itself and tells them afterwards; here they are made and kept before the authority hears of them.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderValue, Method, StatusCode};
use instant_acme::{Error as AcmeError, Problem};
use serde::Deserialize;
use serde_json::{Value, json};

#[cfg(feature = "aws_lc_rs")]
use aws_lc_rs as primitives;
use primitives::hmac;
use primitives::rand::SystemRandom;
use primitives::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
use ring as primitives;

use crate::account::{Authority, ExternalAccount};
use crate::failure::kind;
use crate::key::PrivateKey;
use crate::transport::{Exchange, Response};

/// How often a request is sent at most, each time with the nonce of the refusal before (RFC 8555 §6.5).
const TRIES: usize = 3;
const NONCE: &str = "replay-nonce";
const OURSELVES: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// Opens an account with this key (RFC 8555 §7.3), or finds the one that has it (§7.3.1): its address, and whether it
/// was made now, with the contact addresses.
pub(crate) async fn new_account(
    exchange: &Exchange,
    authority: &Authority,
    key: &AccountKey,
) -> Result<(String, bool), AcmeError> {
    let desk = Desk::of(exchange, &authority.directory).await?;
    let mut payload = json!({
        "termsOfServiceAgreed": true,
        "contact": authority.contact,
    });
    if let (Some(external), Some(fields)) = (&authority.external_account, payload.as_object_mut()) {
        let url = desk.directory.new_account.as_str();
        fields.insert(
            "externalAccountBinding".into(),
            bound(external, url, &key.jwk()?)?,
        );
    }
    desk.account(&payload, key).await
}

/// The address of the account that has this key; makes none (RFC 8555 §7.3.1, `onlyReturnExisting`).
pub(crate) async fn known_account(
    exchange: &Exchange,
    directory: &str,
    key: &AccountKey,
) -> Result<String, AcmeError> {
    let desk = Desk::of(exchange, directory).await?;
    let payload = json!({ "termsOfServiceAgreed": true, "onlyReturnExisting": true });
    Ok(desk.account(&payload, key).await?.0)
}

/// Gives the account another key (RFC 8555 §7.3.5).
pub(crate) async fn change_key(
    exchange: &Exchange,
    directory: &str,
    account: &str,
    old: &AccountKey,
    new: &AccountKey,
) -> Result<(), AcmeError> {
    let desk = Desk::of(exchange, directory).await?;
    let url = desk.directory.key_change.as_deref();
    let url = url.ok_or(AcmeError::Unsupported("change of an account's key"))?;
    let header = json!({ "alg": "ES256", "jwk": new.jwk()?, "url": url });
    let change = new.sign(
        &header,
        &json!({ "account": account, "oldKey": old.jwk()? }),
    )?;
    let sign = |nonce: &str| {
        let header = json!({ "alg": "ES256", "kid": account, "nonce": nonce, "url": url });
        old.sign(&header, &change)
    };
    desk.post(url, sign).await.map(drop)
}

/// The key of an account, P-256.
pub(crate) struct AccountKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl AccountKey {
    pub(crate) fn of(key: &PrivateKey) -> Result<Self, AcmeError> {
        let random = SystemRandom::new();
        let key = key.pkcs8();
        let (algorithm, der) = (&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der());
        #[cfg(feature = "aws_lc_rs")]
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der);
        #[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der, &random);
        let pair = pair.map_err(|_| AcmeError::KeyRejected)?;
        Ok(Self { pair, random })
    }

    /// The public key (RFC 7518 §6.2.1).
    fn jwk(&self) -> Result<Value, AcmeError> {
        // An uncompressed point: 04, x, y.
        let point = self.pair.public_key().as_ref();
        let (x, y) = point
            .get(1..33)
            .zip(point.get(33..65))
            .ok_or(AcmeError::Crypto)?;
        let [x, y] = [x, y].map(|coordinate| BASE64_URL_SAFE_NO_PAD.encode(coordinate));
        Ok(json!({ "crv": "P-256", "kty": "EC", "x": x, "y": y }))
    }

    fn sign(&self, header: &Value, payload: &Value) -> Result<Value, AcmeError> {
        jws(header, payload, |signed| {
            let signature = self.pair.sign(&self.random, signed);
            let signature = signature.map_err(|_| AcmeError::Crypto)?;
            Ok(signature.as_ref().to_vec())
        })
    }
}

/// The account's key, signed with that of the customer (RFC 8555 §7.3.4).
fn bound(external: &ExternalAccount, url: &str, jwk: &Value) -> Result<Value, AcmeError> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &external.hmac);
    let header = json!({ "alg": "HS256", "kid": external.key_id, "url": url });
    jws(&header, jwk, |signed| {
        Ok(hmac::sign(&key, signed).as_ref().to_vec())
    })
}

/// The flattened form of RFC 7515 §7.2.2.
fn jws(
    header: &Value,
    payload: &Value,
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, AcmeError>,
) -> Result<Value, AcmeError> {
    let header = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(header)?);
    let payload = BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(payload)?);
    let signature = sign(format!("{header}.{payload}").as_bytes())?;
    let signature = BASE64_URL_SAFE_NO_PAD.encode(signature);
    Ok(json!({ "protected": header, "payload": payload, "signature": signature }))
}

/// Addresses of an authority (RFC 8555 §7.1.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    key_change: Option<String>,
}

/// Where signed requests of an authority go.
struct Desk<'a> {
    exchange: &'a Exchange,
    directory: Directory,
}

impl<'a> Desk<'a> {
    async fn of(exchange: &'a Exchange, directory: &str) -> Result<Self, AcmeError> {
        let request = request(Method::GET, directory).body(Bytes::new())?;
        let answer = exchange.send(request).await?;
        Ok(Self {
            exchange,
            directory: serde_json::from_slice(answer.body())?,
        })
    }

    async fn nonce(&self) -> Result<String, AcmeError> {
        let request = request(Method::HEAD, &self.directory.new_nonce).body(Bytes::new())?;
        let answer = self.exchange.send(request).await?;
        text(&answer, NONCE).ok_or(AcmeError::Str("nonce"))
    }

    /// Asks for the account of this key: its address, and whether it was made now.
    async fn account(
        &self,
        payload: &Value,
        key: &AccountKey,
    ) -> Result<(String, bool), AcmeError> {
        let url = self.directory.new_account.as_str();
        let jwk = key.jwk()?;
        let sign = |nonce: &str| {
            let header = json!({ "alg": "ES256", "jwk": jwk, "nonce": nonce, "url": url });
            key.sign(&header, payload)
        };
        let answer = self.post(url, sign).await?;
        let address = text(&answer, LOCATION.as_str()).ok_or(AcmeError::Str("account URL"))?;
        Ok((address, answer.status() == StatusCode::CREATED))
    }

    /// Sends what `sign` makes of a nonce; an answer is one of success.
    async fn post(
        &self,
        url: &str,
        sign: impl Fn(&str) -> Result<Value, AcmeError>,
    ) -> Result<Response, AcmeError> {
        let mut nonce = self.nonce().await?;
        let mut tries = TRIES;
        loop {
            let body = serde_json::to_vec(&sign(&nonce)?)?;
            let jose = HeaderValue::from_static("application/jose+json");
            let request = request(Method::POST, url).header(CONTENT_TYPE, jose);
            let answer = self.exchange.send(request.body(body.into())?).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            tries -= 1;
            let problem: Problem = serde_json::from_slice(answer.body())?;
            match text(&answer, NONCE) {
                Some(other) if tries > 0 && kind(&problem) == "badNonce" => nonce = other,
                _ => return Err(problem.into()),
            }
        }
    }
}

fn request(method: Method, url: &str) -> http::request::Builder {
    let request = http::Request::builder().method(method).uri(url);
    request.header(USER_AGENT, HeaderValue::from_static(OURSELVES))
}

fn text(answer: &Response, header: &str) -> Option<String> {
    let value = answer.headers().get(header)?;
    value.to_str().ok().map(str::to_owned)
}
