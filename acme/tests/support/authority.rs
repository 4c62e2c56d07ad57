//! An ACME authority (RFC 8555, RFC 9773) as a [`Transport`]: accounts, orders, HTTP-01, certificates, renewal
//! information, and the faults that tests ask for. Signatures and nonces are checked.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acme::{
    Authority, BoxFuture, Clock as _, ExternalAccount, Request, Response, Tokens, Transport,
    TransportError, UnixTime,
};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Method, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, PublicKeyData,
    SerialNumber, SignatureAlgorithm,
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509CertificationRequest};

use super::MovingClock;
use super::jws::{Jws, decode, thumbprint};

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
    pub unreachable: bool,
    /// Every so many nonces are refused.
    pub bad_nonce_every: Option<usize>,
    /// Looks at an order that find it still processing.
    pub processing: usize,
    pub external_key: Option<Vec<u8>>,
    /// The certificate is for this name too.
    pub adds_name: Option<String>,
    pub refuses_csr: bool,
    pub refuses_name: bool,
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
                unreachable: false,
                bad_nonce_every: None,
                processing: 0,
                external_key: None,
                adds_name: None,
                refuses_csr: false,
                refuses_name: false,
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
                "meta": {"externalAccountRequired": behaviour.external_key.is_some()},
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
        let every = self.behaviour.lock().unwrap().bad_nonce_every;
        let refused = every.is_some_and(|every| books.given.is_multiple_of(every));
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

    fn new_account(&self, books: &mut Books, jws: &Jws) -> Result<Response, Problem> {
        let jwk = jws.header.get("jwk").cloned().unwrap_or_default();
        if !jws.is_signed_by(&jwk) {
            return Err(Problem(
                StatusCode::BAD_REQUEST,
                "malformed",
                "signature".into(),
            ));
        }
        let print = thumbprint(&jwk);
        let mut accounts = books.accounts.iter();
        let known = accounts.position(|account| thumbprint(&account.jwk) == print);
        if known.is_some_and(|known| !books.accounts[known].open) {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "unauthorized",
                "closed".into(),
            ));
        }
        let (number, status) = match known {
            Some(known) => (known, StatusCode::OK),
            None if jws.payload.get("onlyReturnExisting") == Some(&json!(true)) => {
                return Err(no_account());
            }
            None => {
                self.check_binding(&jws.payload)?;
                books.accounts.push(Account {
                    jwk,
                    contact: jws.payload.get("contact").cloned().unwrap_or_default(),
                    open: true,
                });
                (books.accounts.len() - 1, StatusCode::CREATED)
            }
        };
        let response = http::Response::builder()
            .status(status)
            .header("location", self.url(&format!("account/{number}")));
        Ok(body(response, &json!({"status": "valid"})))
    }

    fn check_binding(&self, payload: &Value) -> Result<(), Problem> {
        let Some(secret) = self.behaviour.lock().unwrap().external_key.clone() else {
            return Ok(());
        };
        let refused = || {
            Problem(
                StatusCode::FORBIDDEN,
                "externalAccountRequired",
                "no binding that we know".to_owned(),
            )
        };
        let binding = payload.get("externalAccountBinding").ok_or_else(refused)?;
        let binding = Jws::of(binding).ok_or_else(refused)?;
        if binding.is_signed_with(&secret) && binding.text("kid") == "customer" {
            Ok(())
        } else {
            Err(refused())
        }
    }

    fn new_order(
        &self,
        books: &mut Books,
        account: usize,
        payload: &Value,
    ) -> Result<Response, Problem> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        if behaviour
            .limited_until
            .is_some_and(|until| self.clock.now() < until)
        {
            return Err(Problem(
                StatusCode::TOO_MANY_REQUESTS,
                "rateLimited",
                "too many new orders".to_owned(),
            ));
        }
        let identifiers = payload
            .get("identifiers")
            .and_then(Value::as_array)
            .unwrap();
        assert_eq!(identifiers.len(), 1, "one name");
        let name = identifiers[0].get("value").and_then(Value::as_str).unwrap();
        if behaviour.refuses_name {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "rejectedIdentifier",
                "not this name".to_owned(),
            ));
        }
        let replaces = payload.get("replaces").and_then(Value::as_str);
        if let Some(replaced) = replaces {
            let again = books
                .certificates
                .iter()
                .any(|certificate| certificate.replaces.as_deref() == Some(replaced));
            if behaviour.refuses_replaces || again {
                return Err(Problem(
                    StatusCode::CONFLICT,
                    "alreadyReplaced",
                    replaced.to_owned(),
                ));
            }
        }
        books.orders.push(Order {
            account,
            name: name.to_owned(),
            token: format!("token-of-order-{}", books.orders.len()),
            status: "pending",
            challenge: ("pending", None),
            replaces: replaces.map(str::to_owned),
            looks: 0,
            certificate: None,
        });
        let number = books.orders.len() - 1;
        let response = http::Response::builder()
            .status(StatusCode::CREATED)
            .header("location", self.url(&format!("order/{number}")));
        Ok(self.show_order(books, number, response))
    }

    fn show_order(
        &self,
        books: &Books,
        number: usize,
        response: http::response::Builder,
    ) -> Response {
        let order = &books.orders[number];
        let mut shown = json!({
            "status": order.status,
            "identifiers": [{"type": "dns", "value": order.name}],
            "authorizations": [self.url(&format!("authorization/{number}"))],
            "finalize": self.url(&format!("finalize/{number}")),
        });
        if let (Some(certificate), "valid") = (order.certificate, order.status) {
            shown["certificate"] = self.url(&format!("certificate/{certificate}")).into();
        }
        let echoes = self.behaviour.lock().unwrap().echoes_replaces;
        if let (Some(replaces), true) = (&order.replaces, echoes) {
            shown["replaces"] = replaces.as_str().into();
        }
        body(response, &shown)
    }

    fn authorization(&self, order: &Order, number: &str) -> Value {
        json!({
            "status": order.challenge.0,
            "identifier": {"type": "dns", "value": order.name},
            "challenges": [
                {"type": "dns-01", "url": self.url("x"), "status": "pending", "token": "other"},
                self.challenge(order, number),
            ],
        })
    }

    fn challenge(&self, order: &Order, number: &str) -> Value {
        let mut shown = json!({
            "type": "http-01",
            "url": self.url(&format!("challenge/{number}")),
            "status": order.challenge.0,
            "token": order.token,
        });
        if let Some(error) = &order.challenge.1 {
            shown["error"] = error.clone();
        }
        shown
    }

    fn validate(&self, books: &mut Books, number: usize, answers: &HashMap<String, String>) {
        let Books {
            orders,
            accounts,
            failed_validations,
            ..
        } = books;
        let Some(order) = orders
            .get_mut(number)
            .filter(|order| order.status == "pending")
        else {
            return;
        };
        let expected = format!(
            "{}.{}",
            order.token,
            thumbprint(&accounts[order.account].jwk)
        );
        let refused = match self.behaviour.lock().unwrap().validation {
            Validation::Refused(kind) => Some(kind),
            Validation::Real if answers.get(&order.token) == Some(&expected) => None,
            Validation::Real => Some("unauthorized"),
        };
        match refused {
            None => {
                order.challenge = ("valid", None);
                order.status = "ready";
            }
            Some(kind) => {
                *failed_validations += 1;
                let kind = format!("urn:ietf:params:acme:error:{kind}");
                let error = json!({"type": kind, "detail": "as seen from the Internet"});
                order.challenge = ("invalid", Some(error));
                order.status = "invalid";
            }
        }
    }

    fn finalize(
        &self,
        books: &mut Books,
        number: usize,
        payload: &Value,
    ) -> Result<Response, Problem> {
        let behaviour = self.behaviour.lock().unwrap().clone();
        let order = books.orders.get(number).ok_or_else(not_found)?;
        if order.status != "ready" {
            return Err(Problem(
                StatusCode::FORBIDDEN,
                "orderNotReady",
                order.status.into(),
            ));
        }
        if behaviour.refuses_csr {
            return Err(Problem(
                StatusCode::BAD_REQUEST,
                "badCSR",
                "not this key".into(),
            ));
        }
        let csr = payload
            .get("csr")
            .and_then(Value::as_str)
            .and_then(decode)
            .unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&csr).unwrap();
        let mut names: Vec<String> = csr
            .requested_extensions()
            .unwrap()
            .filter_map(|extension| match extension {
                ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
                _ => None,
            })
            .flatten()
            .map(|name| match name {
                GeneralName::DNSName(name) => (*name).to_owned(),
                other => panic!("not a host name: {other:?}"),
            })
            .collect();
        assert_eq!(
            names,
            std::slice::from_ref(&order.name),
            "the name of the order and no other"
        );
        names.extend(behaviour.adds_name.clone());

        let key = &csr.certification_request_info.subject_pki;
        let public = Public {
            key: key.subject_public_key.data.to_vec(),
            // An RSA key of 2048 bits; one of P-256 has 65 bytes.
            rsa: key.subject_public_key.data.len() > 200,
        };
        // The request proves that its sender has the key.
        let algorithm: &'static dyn VerificationAlgorithm = if public.rsa {
            &signature::RSA_PKCS1_2048_8192_SHA256
        } else {
            &signature::ECDSA_P256_SHA256_ASN1
        };
        UnparsedPublicKey::new(algorithm, &public.key)
            .verify(
                csr.certification_request_info.raw,
                &csr.signature_value.data,
            )
            .unwrap();
        let not_before = self.clock.now();
        let not_after = not_before.plus(behaviour.life);
        let moment = |at: UnixTime| {
            OffsetDateTime::from_unix_timestamp(i64::try_from(at.as_secs()).unwrap()).unwrap()
        };
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.not_before = moment(not_before);
        params.not_after = moment(not_after);
        params.use_authority_key_identifier_extension = true;
        let serial = u64::try_from(books.certificates.len()).unwrap() + 0x80;
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&public, &self.issuer).unwrap();
        books.certificates.push(Certificate {
            leaf: certificate.der().to_vec(),
            pem: certificate.pem(),
            not_before,
            not_after,
            rsa: public.rsa,
            public_key: public.key,
            names,
            revoked: None,
            replaces: books.orders[number].replaces.clone(),
        });
        let position = books.certificates.len() - 1;
        let order = &mut books.orders[number];
        order.certificate = Some(position);
        order.status = "processing";
        Ok(self.show_order(books, number, http::Response::builder()))
    }
}

/// The public key of a request.
struct Public {
    key: Vec<u8>,
    rsa: bool,
}

impl PublicKeyData for Public {
    fn der_bytes(&self) -> &[u8] {
        &self.key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        if self.rsa {
            &rcgen::PKCS_RSA_SHA256
        } else {
            &rcgen::PKCS_ECDSA_P256_SHA256
        }
    }
}

/// RFC 9773 §4.1.
fn identifier(leaf: &[u8]) -> String {
    let der = rustls_pki_types::CertificateDer::from(leaf.to_vec());
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    let key = certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(key) => key.key_identifier.as_ref(),
            _ => None,
        })
        .unwrap();
    format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(key.0),
        BASE64_URL_SAFE_NO_PAD.encode(certificate.tbs_certificate.raw_serial())
    )
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
