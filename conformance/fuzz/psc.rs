//! Pro Santé Connect without network: what it answers is what a target says.

use std::sync::{Arc, LazyLock};

use psc_auth::{
    BoxFuture, Clock, Environment, GateSettings, Provider, PscTokenGate, Request, Response,
    Settings, Transport, TransportError, UnixTime,
};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Now, for ever.
pub const NOW: u64 = 1_750_000_000;
pub const ISSUER: &str = "https://psc.example/realm";

static KEY: LazyLock<KeyPair> =
    LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).expect("an RSA key"));

#[derive(Debug)]
struct Held;

impl Clock for Held {
    fn now(&self) -> UnixTime {
        UnixTime::from_secs(NOW)
    }
}

/// Answers by the end of the address.
#[derive(Debug, Default, Clone)]
pub struct Canned {
    pub discovery: Option<Vec<u8>>,
    pub keys: Option<Vec<u8>>,
    pub introspection: Option<Vec<u8>>,
    pub user_info: Option<Vec<u8>>,
}

impl Transport for Canned {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        let path = request.uri().path();
        let body = if path.ends_with("configuration") {
            self.discovery.clone().unwrap_or_else(discovery)
        } else if path.ends_with("certs") {
            self.keys.clone().unwrap_or_else(keys)
        } else if path.ends_with("introspect") {
            self.introspection.clone().unwrap_or_else(|| claims(NOW))
        } else {
            self.user_info.clone().unwrap_or_else(|| {
                br#"{"sub":"f:x:899700218896","SubjectNameID":"899700218896"}"#.to_vec()
            })
        };
        Box::pin(async move {
            Ok(Response {
                status: http::StatusCode::OK,
                headers: http::HeaderMap::new(),
                body: zeroize::Zeroizing::new(body),
            })
        })
    }
}

pub fn provider(canned: Canned) -> Arc<Provider> {
    let environment = Environment::Issuer(ISSUER.to_owned());
    let settings = Settings::new(environment, "client", "https://box.example/retour");
    let settings = settings.expect("settings of these targets");
    Arc::new(Provider::new(settings, Arc::new(canned), Arc::new(Held)))
}

pub fn gate(canned: Canned) -> PscTokenGate {
    PscTokenGate::new(provider(canned), GateSettings::default())
}

/// Runs on a runtime without threads.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without I/O").block_on(work)
}

/// Signs a payload, whatever it is.
pub fn signed(payload: &[u8]) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT","kid":"k"}"#);
    let input = format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload));
    let mut signature = vec![0; KEY.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    KEY.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature)
        .expect("a signature");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Claims of a good token, and the introspection of it.
pub fn claims(now: u64) -> Vec<u8> {
    let exp = now + 120;
    format!(
        r#"{{"active":true,"exp":{exp},"iat":{now},"jti":"j","iss":"{ISSUER}","sub":"f:x:899700218896","typ":"Bearer","azp":"c","acr":"1","acr":"eidas3","scope":"openid scope_all","SubjectNameID":"899700218896"}}"#
    )
    .into_bytes()
}

pub fn discovery() -> Vec<u8> {
    let at = |path: &str| format!("https://psc.example/{path}");
    format!(
        r#"{{"issuer":"{ISSUER}","authorization_endpoint":"{}","token_endpoint":"{}","jwks_uri":"{}","userinfo_endpoint":"{}","introspection_endpoint":"{}","mtls_endpoint_aliases":{{"token_endpoint":"{}"}}}}"#,
        at("auth"),
        at("token"),
        at("certs"),
        at("userinfo"),
        at("introspect"),
        at("mtls/token"),
    )
    .into_bytes()
}

pub fn keys() -> Vec<u8> {
    // RSAPublicKey of RFC 8017 §A.1.1: nine bytes stand before a modulus of 2048 bits, two before the exponent.
    let public = KEY.public_key().as_ref();
    let modulus = URL_SAFE_NO_PAD.encode(&public[9..265]);
    let exponent = URL_SAFE_NO_PAD.encode(&public[267..]);
    format!(
        r#"{{"keys":[{{"kty":"RSA","kid":"k","use":"sig","alg":"RS256","n":"{modulus}","e":"{exponent}"}}]}}"#
    )
    .into_bytes()
}
