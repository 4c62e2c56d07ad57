//! The provider's addresses, over TLS that asks for a client certificate and takes connections without.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::tokens::{Signer, jwks, sign};
use super::{Certificate, SUB, State, USER, challenge_of};

/// A request, as far as the provider looks at it.
pub struct Asked {
    /// Last segment of the path.
    pub path: String,
    pub query: HashMap<String, String>,
    pub form: HashMap<String, String>,
    pub bearer: Option<String>,
    /// The client that the certificate is registered for.
    pub client: Option<String>,
}

pub enum Answer {
    Json(StatusCode, Value),
    Text(StatusCode, &'static str, String),
    Redirect(String),
    /// Never comes.
    Never,
}

impl Answer {
    pub fn error(code: &str) -> Self {
        Self::Json(
            StatusCode::BAD_REQUEST,
            json!({"error": code, "error_description": "as asked for"}),
        )
    }

    fn ok(value: Value) -> Self {
        Self::Json(StatusCode::OK, value)
    }
}

pub async fn serve(
    listener: TcpListener,
    identity: (Certificate, RootCertStore),
    state: Arc<State>,
) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (certificate, roots) = identity;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der.clone()], certificate.key())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else {
                return;
            };
            let presented = tls
                .get_ref()
                .1
                .peer_certificates()
                .and_then(|chain| chain.first())
                .cloned();
            let client = presented
                .and_then(|leaf| state.registered.lock().unwrap().get(leaf.as_ref()).cloned());
            let service = service_fn(|request| handle(request, client.clone(), Arc::clone(&state)));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(tls), service)
                .await;
        });
    }
}

async fn handle(
    request: http::Request<Incoming>,
    client: Option<String>,
    state: Arc<State>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let pairs = |text: &[u8]| {
        url::form_urlencoded::parse(text)
            .into_owned()
            .collect::<HashMap<_, _>>()
    };
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let bearer = head.headers.get("authorization").map(|value| {
        value
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap()
            .to_owned()
    });
    let asked = Asked {
        path: head.uri.path().rsplit('/').next().unwrap().to_owned(),
        query: pairs(head.uri.query().unwrap_or_default().as_bytes()),
        form: pairs(&body),
        bearer,
        client,
    };
    let instead = {
        let mut memory = state.memory.lock().unwrap();
        *memory.counts.entry(asked.path.clone()).or_default() += 1;
        memory.last_form = asked.form.clone();
        memory.last_query = asked.query.clone();
        state
            .knobs
            .lock()
            .unwrap()
            .instead
            .get(asked.path.as_str())
            .cloned()
    };
    if asked.path == "token"
        && let Some(arrived) = &state.knobs.lock().unwrap().arrived
    {
        arrived.notify_one();
    }
    let answer = match instead {
        Some(instead) => instead(&asked),
        None => state.answer(&asked),
    };
    let response = http::Response::builder().header("date", state.date());
    let response = match answer {
        Answer::Json(status, value) => response
            .status(status)
            .header("content-type", "application/json")
            .body(value.to_string().into()),
        Answer::Text(status, media_type, text) => response
            .status(status)
            .header("content-type", media_type)
            .body(text.into()),
        Answer::Redirect(to) => response
            .status(302)
            .header("location", to)
            .body(Full::default()),
        Answer::Never => std::future::pending().await,
    };
    Ok(response.unwrap())
}

impl State {
    fn date(&self) -> String {
        let now = psc_auth::Clock::now(&*self.clock).as_secs();
        let now = now.saturating_add_signed(self.knobs.lock().unwrap().ahead);
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now);
        httpdate::fmt_http_date(now)
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let unauthenticated =
            || Answer::Json(StatusCode::UNAUTHORIZED, json!({"error": "invalid_client"}));
        let authenticated =
            asked.client.is_some() && asked.form.get("client_id") == asked.client.as_ref();
        match asked.path.as_str() {
            "wallet-openid-configuration" => self.discovery(),
            "certs" => {
                let kid = self.knobs.lock().unwrap().kid.clone();
                Answer::ok(jwks(kid.as_deref().unwrap_or("key-1")))
            }
            "userinfo" if asked.client.is_some() => self.user_info(asked.bearer.as_deref()),
            "logout" => Answer::Text(StatusCode::OK, "text/html", "bye".to_owned()),
            _ if !authenticated => unauthenticated(),
            "token" => self.token(&asked.form),
            "introspect" => self.introspect(&asked.form["token"]),
            "revoke" => {
                self.memory
                    .lock()
                    .unwrap()
                    .refresh
                    .remove(&asked.form["token"]);
                Answer::ok(json!({}))
            }
            "ciba" => {
                Answer::ok(json!({"auth_req_id": "request-1", "expires_in": 120, "interval": 1}))
            }
            _ => Answer::Json(StatusCode::NOT_FOUND, json!({})),
        }
    }

    fn discovery(&self) -> Answer {
        let issuer = &self.issuer;
        let origin = issuer.strip_suffix("/auth/realms/esante-wallet").unwrap();
        let at = |path: &str| format!("{issuer}/protocol/openid-connect/{path}");
        let document = json!({
            "issuer": issuer, "authorization_endpoint": format!("{origin}/wallet/auth"), "jwks_uri": at("certs"),
            "end_session_endpoint": at("logout"), "acr_values_supported": ["0", "0"],
            "token_endpoint": "https://localhost:1/not-this-one",
            "introspection_endpoint": "https://localhost:1/not-this-one",
            "userinfo_endpoint": "https://localhost:1/not-this-one",
            "id_token_signing_alg_values_supported": ["HS256", "RS256", "none"],
            "authorization_response_iss_parameter_supported": true,
            "mtls_endpoint_aliases": {
                "token_endpoint": at("token"), "userinfo_endpoint": at("userinfo"),
                "introspection_endpoint": at("introspect"), "revocation_endpoint": at("revoke"),
                "backchannel_authentication_endpoint": at("ciba"),
            },
        });
        let document = document.to_string();
        let changed = match &self.knobs.lock().unwrap().discovery {
            Some(change) => change(document),
            None => document,
        };
        Answer::Text(StatusCode::OK, "application/json", changed)
    }

    fn token(&self, form: &HashMap<String, String>) -> Answer {
        let client = form["client_id"].as_str();
        match form["grant_type"].as_str() {
            "authorization_code" => {
                let code = self.memory.lock().unwrap().codes.remove(&form["code"]);
                let Some(code) = code else {
                    return Answer::error("invalid_grant");
                };
                let proved = challenge_of(&form["code_verifier"]) == code.challenge;
                if !proved || form["redirect_uri"] != super::REDIRECT {
                    return Answer::error("invalid_grant");
                }
                self.grant(client, Some(&code.nonce))
            }
            "refresh_token" => {
                let known = self
                    .memory
                    .lock()
                    .unwrap()
                    .refresh
                    .remove(&form["refresh_token"]);
                if known {
                    self.grant(client, None)
                } else {
                    Answer::error("invalid_grant")
                }
            }
            "urn:openid:params:grant-type:ciba" => {
                let mut knobs = self.knobs.lock().unwrap();
                if knobs.ciba_answers.is_empty() {
                    drop(knobs);
                    return self.grant(client, None);
                }
                Answer::error(knobs.ciba_answers.remove(0))
            }
            _ => Answer::error("unsupported_grant_type"),
        }
    }

    fn grant(&self, client: &str, nonce: Option<&str>) -> Answer {
        let access = self.access_claims(client).to_string();
        let refresh = format!("refresh-{}", self.next());
        self.memory.lock().unwrap().refresh.insert(refresh.clone());
        let knobs = self.knobs.lock().unwrap();
        let changed = |change: &Option<super::Change>, text: String| match change {
            Some(change) => change(text),
            None => text,
        };
        let access = sign(
            &changed(&knobs.access_token, access),
            knobs.access_signer,
            self.kid(&knobs),
        );
        let now = psc_auth::Clock::now(&*self.clock).as_secs();
        let half = &Sha256::digest(&access)[..16];
        let mut id = json!({
            "iss": self.issuer, "aud": client, "azp": client, "sub": SUB, "typ": "ID", "exp": now + 120, "iat": now,
            "auth_time": now, "acr": "eidas1", "sid": "a-session", "jti": "id", "preferred_username": USER,
            "SubjectNameID": USER, "family_name": "DOC", "given_name": "KIT",
            "at_hash": URL_SAFE_NO_PAD.encode(half),
        });
        if let Some(nonce) = nonce {
            id["nonce"] = json!(nonce);
        }
        let id = sign(
            &changed(&knobs.id_token, id.to_string()),
            knobs.id_signer,
            self.kid(&knobs),
        );
        Answer::ok(json!({
            "access_token": access, "expires_in": 120, "refresh_token": refresh, "refresh_expires_in": 1800,
            "token_type": "Bearer", "id_token": id, "not-before-policy": 0, "session_state": "a-session",
            "scope": "openid scope_all",
        }))
    }

    fn kid<'k>(&self, knobs: &'k super::Knobs) -> &'k str {
        knobs.kid.as_deref().unwrap_or("key-1")
    }

    fn introspect(&self, token: &str) -> Answer {
        let knobs = self.knobs.lock().unwrap();
        if knobs.inactive {
            return Answer::ok(json!({"active": false}));
        }
        let payload = URL_SAFE_NO_PAD
            .decode(token.split('.').nth(1).unwrap())
            .unwrap();
        let mut claims: Value = serde_json::from_slice(&payload).unwrap();
        claims["active"] = json!(true);
        claims["client_id"] = claims["azp"].clone();
        let text = match &knobs.introspection {
            Some(change) => change(claims.to_string()),
            None => claims.to_string(),
        };
        Answer::Text(StatusCode::OK, "application/json", text)
    }

    fn user_info(&self, bearer: Option<&str>) -> Answer {
        let Some(_token) = bearer else {
            return Answer::Json(StatusCode::UNAUTHORIZED, json!({"error": "invalid_token"}));
        };
        Answer::ok(user_info())
    }
}

pub fn user_info() -> Value {
    json!({
        "sub": SUB, "SubjectNameID": USER, "preferred_username": USER, "given_name": "KIT", "family_name": "DOC",
        "SubjectRefPro": {"exercices": [{"codeProfession": "10", "codeCategorieProfessionnelle": "C", "activities": [
            {"codeModeExercice": "S", "ancienIdentifiantDeLaStructure": "10B0172805"}
        ]}]},
    })
}

pub fn signed(payload: &Value) -> String {
    sign(&payload.to_string(), Signer::Good, "key-1")
}
