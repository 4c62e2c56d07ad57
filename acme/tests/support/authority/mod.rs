//! An ACME authority (RFC 8555, RFC 9773) as a [`Transport`]: accounts, orders, HTTP-01, certificates, renewal
//! information, and the faults that tests ask for. Signatures and nonces are checked.

mod accounts;
mod issue;
mod orders;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme::{
    Authority, BoxFuture, Clock as _, ExternalAccount, Request, Response, Tokens, Transport,
    TransportError, UnixTime,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::MovingClock;
use super::jws::{Jws, decode};
use issue::identifier;

/// How a validation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// By what the store of challenges answers.
    Real,
    /// With an error of this type.
    Refused(&'static str),
}

/// What an authority does, and what tests may change.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub validation: Validation,
    /// Life of a certificate.
    pub life: Duration,
    /// The suggested window, as parts of the life; `None`: no renewal information at all.
    pub window: Option<(f64, f64)>,
    pub window_retry_after: bool,
    pub echoes_replaces: bool,
    pub refuses_replaces: bool,
    /// No new order before this moment.
    pub limited_until: Option<UnixTime>,
    /// New orders are answered with this status.
    pub answers_orders: Option<StatusCode>,
    /// The answers to new orders are lost on their way.
    pub loses_orders: bool,
    pub unreachable: bool,
    /// Every so many nonces are refused,
    pub bad_nonce_every: Option<usize>,
    /// and so many that follow each other.
    pub bad_nonce_run: usize,
    /// Looks at an order that find it still processing.
    pub processing: usize,
    pub external_key: Option<Vec<u8>>,
    /// That key is good for one account.
    pub external_key_once: bool,
    /// Revocations are refused with an error of this type.
    pub refuses_revocation: Option<&'static str>,
    /// The certificate is for this name too.
    pub adds_name: Option<String>,
    /// The kind of its answer to every request for a certificate.
    pub refuses_finalize: Option<&'static str>,
    pub refuses_name: bool,
    /// By which names it goes in CAA records.
    pub caa_identities: Vec<String>,
}

struct Account {
    jwk: Value,
    contact: Value,
    open: bool,
}

struct Order {
    account: usize,
    name: String,
    token: String,
    status: &'static str,
    challenge: (&'static str, Option<Value>),
    replaces: Option<String>,
    looks: usize,
    certificate: Option<usize>,
}

pub struct Certificate {
    pub leaf: Vec<u8>,
    pub pem: String,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub public_key: Vec<u8>,
    pub names: Vec<String>,
    pub rsa: bool,
    pub revoked: Option<u64>,
    pub replaces: Option<String>,
}

#[derive(Default)]
pub struct Books {
    nonces: HashSet<String>,
    given: usize,
    accounts: Vec<Account>,
    orders: Vec<Order>,
    pub certificates: Vec<Certificate>,
    pub failed_validations: usize,
    pub requests: usize,
    /// Requests for an order, those refused too.
    pub asked_orders: usize,
}

pub struct MockAuthority {
    host: String,
    clock: Arc<MovingClock>,
    tokens: Tokens,
    pub behaviour: Mutex<Behaviour>,
    pub books: Mutex<Books>,
    issuer: Issuer<'static, KeyPair>,
    issuer_pem: String,
    cross_pem: String,
}

impl fmt::Debug for MockAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

/// All authorities, by the host of the request.
#[derive(Debug)]
pub struct Internet(pub Vec<Arc<MockAuthority>>);

impl Transport for Internet {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let host = request.uri().host().unwrap_or_default();
            let authority = self.0.iter().find(|authority| authority.host == host);
            match authority {
                Some(authority) => authority.answer(request).await,
                None => Err(TransportError::Unreachable("no such host".into())),
            }
        })
    }
}

struct Problem(StatusCode, &'static str, String);

impl MockAuthority {
    pub fn new(host: &str, clock: Arc<MovingClock>, tokens: Tokens) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let authority = |topmost: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_identifier_method = KeyIdMethod::Sha256;
            params
                .distinguished_name
                .push(DnType::CommonName, format!("{host} intermediate"));
            let mut root = CertificateParams::default();
            root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            root.distinguished_name.push(DnType::CommonName, topmost);
            let root = Issuer::new(root, KeyPair::generate().unwrap());
            let pem = params.signed_by(&key, &root).unwrap().pem();
            (params, pem)
        };
        let (_, cross_pem) = authority("Other Root");
        let (params, issuer_pem) = authority("Root");
        Arc::new(Self {
            host: host.to_owned(),
            clock,
            tokens,
            behaviour: Mutex::new(Behaviour {
                validation: Validation::Real,
                life: Duration::from_secs(90 * 86_400),
                window: None,
                window_retry_after: true,
                echoes_replaces: true,
                refuses_replaces: false,
                limited_until: None,
                answers_orders: None,
                loses_orders: false,
                unreachable: false,
                bad_nonce_every: None,
                bad_nonce_run: 1,
                processing: 0,
                external_key: None,
                external_key_once: false,
                refuses_revocation: None,
                adds_name: None,
                refuses_finalize: None,
                refuses_name: false,
                caa_identities: vec![host.to_owned()],
            }),
            books: Mutex::default(),
            issuer: Issuer::new(params, key),
            issuer_pem,
            cross_pem,
        })
    }

    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    /// How a box would be configured for it.
    pub fn as_configured(&self) -> Authority {
        let key = self.behaviour.lock().unwrap().external_key.clone();
        let key = key.map(|key| BASE64_URL_SAFE_NO_PAD.encode(key));
        Authority {
            directory: self.url("directory"),
            contact: vec!["mailto:it@centre.example".into()],
            external_account: key.and_then(|key| ExternalAccount::new("customer", &key)),
            preferred_chain: None,
        }
    }

    pub fn issued(&self) -> usize {
        self.books.lock().unwrap().certificates.len()
    }

    pub fn orders(&self) -> usize {
        self.books.lock().unwrap().orders.len()
    }

    pub fn accounts(&self) -> usize {
        self.books.lock().unwrap().accounts.len()
    }

    pub fn open_accounts(&self) -> usize {
        let books = self.books.lock().unwrap();
        books.accounts.iter().filter(|account| account.open).count()
    }

    pub fn contact(&self, account: usize) -> Value {
        self.books.lock().unwrap().accounts[account].contact.clone()
    }

    /// Loses what it knew of accounts.
    pub fn forget_accounts(&self) {
        let mut books = self.books.lock().unwrap();
        for account in &mut books.accounts {
            account.jwk = Value::Null;
        }
    }

    /// The certificate of its issuer, PEM.
    pub fn issuer_pem(&self) -> &str {
        &self.issuer_pem
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/{path}", self.host)
    }

    fn nonce(books: &mut Books) -> String {
        books.given += 1;
        let nonce = format!("nonce-{}", books.given);
        books.nonces.insert(nonce.clone());
        nonce
    }

    pub async fn answer(&self, request: Request) -> Result<Response, TransportError> {
        if self.behaviour.lock().unwrap().unreachable {
            return Err(TransportError::Unreachable("connection refused".into()));
        }
        let path = request.uri().path().trim_start_matches('/').to_owned();
        // Answers of the store are read before the books are opened.
        let mut answers = HashMap::new();
        let open: Vec<String> = {
            let books = self.books.lock().unwrap();
            books
                .orders
                .iter()
                .map(|order| order.token.clone())
                .collect()
        };
        if path.starts_with("challenge/") {
            for token in open {
                if let Ok(Some(answer)) = self.tokens.answer(&token).await {
                    answers.insert(token, answer);
                }
            }
        }
        let mut books = self.books.lock().unwrap();
        books.requests += 1;
        let outcome = if request.method() == Method::POST {
            self.post(&mut books, &path, &request, &answers)
        } else {
            self.get(&books, &path)
        };
        if path == "order" && self.behaviour.lock().unwrap().loses_orders {
            return Err(TransportError::Broken("connection reset".into()));
        }
        let nonce = Self::nonce(&mut books);
        let response = match outcome {
            Ok(response) => response,
            Err(Problem(status, kind, detail)) => {
                let mut response = body(
                    http::Response::builder().status(status),
                    &json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail}),
                );
                if kind == "rateLimited" {
                    let until = self.behaviour.lock().unwrap().limited_until.unwrap();
                    let wait = until.since(self.clock.now()).as_secs().to_string();
                    response
                        .headers_mut()
                        .insert("retry-after", wait.parse().unwrap());
                }
                response
            }
        };
        let (mut head, content) = response.into_parts();
        head.headers.insert("replay-nonce", nonce.parse().unwrap());
        Ok(Response::from_parts(head, content))
    }

    fn get(&self, books: &Books, path: &str) -> Result<Response, Problem> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        if path == "directory" {
            let mut directory = json!({
                "newNonce": self.url("nonce"),
                "newAccount": self.url("account"),
                "newOrder": self.url("order"),
                "revokeCert": self.url("revoke"),
                "keyChange": self.url("rollover"),
                "meta": {
                    "externalAccountRequired": behaviour.external_key.is_some(),
                    "caaIdentities": behaviour.caa_identities,
                },
            });
            if behaviour.window.is_some() {
                directory["renewalInfo"] = self.url("renewal").into();
            }
            return Ok(body(http::Response::builder(), &directory));
        }
        if path == "nonce" {
            return Ok(body(http::Response::builder(), &Value::Null));
        }
        let id = path.strip_prefix("renewal/").ok_or_else(not_found)?;
        let certificate = books
            .certificates
            .iter()
            .find(|certificate| identifier(&certificate.leaf) == id)
            .ok_or_else(not_found)?;
        let (from, until) = behaviour.window.ok_or_else(not_found)?;
        let life = certificate.not_after.since(certificate.not_before);
        let at = |part: f64| {
            let moment = certificate.not_before.plus(life.mul_f64(part)).as_secs();
            let moment = OffsetDateTime::from_unix_timestamp(i64::try_from(moment).unwrap());
            let format = time::format_description::well_known::Rfc3339;
            moment.unwrap().format(&format).unwrap()
        };
        let mut response = http::Response::builder();
        if behaviour.window_retry_after {
            response = response.header("retry-after", "21600");
        }
        let window = json!({"suggestedWindow": {"start": at(from), "end": at(until)}});
        Ok(body(response, &window))
    }

    fn post(
        &self,
        books: &mut Books,
        path: &str,
        request: &Request,
        answers: &HashMap<String, String>,
    ) -> Result<Response, Problem> {
        let malformed = |what: &str| Problem(StatusCode::BAD_REQUEST, "malformed", what.to_owned());
        let jws = Jws::read(request.body()).ok_or_else(|| malformed("not a signed request"))?;
        if *request.uri() != jws.text("url") {
            return Err(malformed("url of another request"));
        }
        let nonce_is_good = books.nonces.remove(jws.text("nonce"));
        let refused = {
            let behaviour = self.behaviour.lock().unwrap();
            let run = behaviour.bad_nonce_run;
            behaviour
                .bad_nonce_every
                .is_some_and(|every| books.given % every < run)
        };
        if !nonce_is_good || refused {
            return Err(Problem(
                StatusCode::BAD_REQUEST,
                "badNonce",
                "another one, please".to_owned(),
            ));
        }
        if path == "account" {
            return self.new_account(books, &jws);
        }
        let known = books
            .accounts
            .iter()
            .enumerate()
            .find(|(number, _)| jws.text("kid") == self.url(&format!("account/{number}")));
        let (account, kept) = known.ok_or_else(no_account)?;
        if kept.jwk.is_null() {
            return Err(no_account());
        }
        if !jws.is_signed_by(&kept.jwk) {
            return Err(malformed("JWS verification error"));
        }
        if !kept.open {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "unauthorized",
                "account is deactivated".into(),
            ));
        }
        let (kind, rest) = path.split_once('/').unwrap_or((path, ""));
        let number = |text: &str| text.parse::<usize>().map_err(|_| not_found());
        match (kind, rest) {
            ("account", _) => {
                let account = &mut books.accounts[account];
                if let Some(contact) = jws.payload.get("contact") {
                    account.contact = contact.clone();
                }
                account.open = jws.payload.get("status") != Some(&json!("deactivated"));
                Ok(body(http::Response::builder(), &json!({"status": "valid"})))
            }
            ("rollover", _) => {
                let inner = Jws::of(&jws.payload).ok_or_else(|| malformed("inner"))?;
                let new = inner.header.get("jwk").cloned().unwrap_or_default();
                if !inner.is_signed_by(&new) {
                    return Err(malformed("inner signature"));
                }
                books.accounts[account].jwk = new;
                Ok(body(http::Response::builder(), &Value::Null))
            }
            ("order", "") => self.new_order(books, account, &jws.payload),
            ("order", order) => {
                let order = number(order)?;
                let found = books.orders.get_mut(order).ok_or_else(not_found)?;
                if found.account != account {
                    return Err(not_found());
                }
                if found.status == "processing" {
                    found.looks += 1;
                    if found.looks > self.behaviour.lock().unwrap().processing {
                        found.status = "valid";
                    }
                }
                Ok(self.show_order(books, order, http::Response::builder()))
            }
            ("authorization", order) => {
                let order = books.orders.get(number(order)?).ok_or_else(not_found)?;
                Ok(body(
                    http::Response::builder(),
                    &self.authorization(order, rest),
                ))
            }
            ("challenge", order) => {
                let position = number(order)?;
                self.validate(books, position, answers);
                let order = books.orders.get(position).ok_or_else(not_found)?;
                let shown = self.challenge(order, rest);
                Ok(body(http::Response::builder(), &shown))
            }
            ("finalize", order) => self.finalize(books, number(order)?, &jws.payload),
            ("certificate", which) => {
                let (number_text, alternate) = match which.strip_suffix("/1") {
                    Some(number) => (number, true),
                    None => (which, false),
                };
                let certificate = books.certificates.get(number(number_text)?);
                let certificate = certificate.ok_or_else(not_found)?;
                let issuer = if alternate {
                    &self.cross_pem
                } else {
                    &self.issuer_pem
                };
                let other = self.url(&format!("certificate/{number_text}/1"));
                let response = http::Response::builder()
                    .header("content-type", "application/pem-certificate-chain")
                    .header("link", format!("<{}>;rel=\"index\"", self.url("directory")))
                    .header("link", format!("<{other}>;rel=\"alternate\""));
                let content = format!("{}{issuer}", certificate.pem);
                Ok(response.body(Bytes::from(content)).unwrap())
            }
            ("revoke", _) => {
                if let Some(kind) = self.behaviour.lock().unwrap().refuses_revocation {
                    return Err(Problem(StatusCode::FORBIDDEN, kind, "no".into()));
                }
                let text = jws.payload.get("certificate").and_then(Value::as_str);
                let der = text.and_then(decode).unwrap_or_default();
                let mut certificates = books.certificates.iter_mut();
                let found = certificates.find(|certificate| certificate.leaf == der);
                let found = found.ok_or_else(not_found)?;
                found.revoked = Some(jws.payload.get("reason").and_then(Value::as_u64).unwrap());
                Ok(body(http::Response::builder(), &Value::Null))
            }
            _ => Err(not_found()),
        }
    }
}

fn body(response: http::response::Builder, content: &Value) -> Response {
    let text = if content.is_null() {
        Vec::new()
    } else {
        serde_json::to_vec(content).unwrap()
    };
    let has_kind = response
        .headers_ref()
        .is_some_and(|headers| headers.contains_key("content-type"));
    let response = if has_kind {
        response
    } else {
        response.header("content-type", "application/json")
    };
    response.body(Bytes::from(text)).unwrap()
}

fn not_found() -> Problem {
    Problem(
        StatusCode::NOT_FOUND,
        "malformed",
        "no such thing".to_owned(),
    )
}

fn no_account() -> Problem {
    Problem(
        StatusCode::BAD_REQUEST,
        "accountDoesNotExist",
        "no such account".to_owned(),
    )
}
