//! `drimbox exams`: asks the running service, with the token of its data folder.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::admin::AdminToken;
use crate::cli::{ExamsCommand, NewExam};
use crate::config::Config;

/// Time for the whole exchange.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const MAX_ANSWER: usize = 64 << 20;

/// Runs a command; what it prints.
pub(super) async fn run(config: &Config, command: &ExamsCommand) -> anyhow::Result<String> {
    match command {
        ExamsCommand::Add(new) => {
            let kos = std::fs::read(&new.kos)
                .with_context(|| format!("lecture de {}", new.kos.display()))?;
            let path = format!("/api/exams?{}", query(new));
            let (status, answer) = ask(config, Method::POST, &path, kos).await?;
            if status != StatusCode::CREATED {
                bail!("{}", refused(status, &answer));
            }
            let count = |key: &str| answer.get(key).and_then(Value::as_u64).unwrap_or(0);
            Ok(format!(
                "Examen publié : {} séries, {} images.\n",
                count("series"),
                count("instances")
            ))
        }
        ExamsCommand::List => {
            let (status, answer) = ask(config, Method::GET, "/api/exams", Vec::new()).await?;
            if status != StatusCode::OK {
                bail!("{}", refused(status, &answer));
            }
            Ok(listed(&answer))
        }
        ExamsCommand::Patient { pacs, study, file } => {
            put(config, &below(pacs, study, "patient"), file).await?;
            Ok("Preuve d'identité du patient enregistrée.\n".to_owned())
        }
        ExamsCommand::Report { pacs, study, cda } => {
            put(config, &below(pacs, study, "report"), cda).await?;
            Ok("Compte rendu joint à l'examen.\n".to_owned())
        }
        ExamsCommand::Remove { pacs, study } => {
            let path = of_study(pacs, study);
            let (status, answer) = ask(config, Method::DELETE, &path, Vec::new()).await?;
            if status != StatusCode::NO_CONTENT {
                bail!("{}", refused(status, &answer));
            }
            Ok("Examen retiré : il n'est plus accessible aux autres DRIMbox.\n".to_owned())
        }
    }
}

fn of_study(pacs: &str, study: &str) -> String {
    let part = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    format!("/api/exams/{}/{}", part(pacs), part(study))
}

fn below(pacs: &str, study: &str, what: &str) -> String {
    format!("{}/{what}", of_study(pacs, study))
}

/// Sends a file to a path that takes it.
async fn put(config: &Config, path: &str, file: &Path) -> anyhow::Result<()> {
    let content = std::fs::read(file).with_context(|| format!("lecture de {}", file.display()))?;
    let (status, answer) = ask(config, Method::PUT, path, content).await?;
    if status != StatusCode::NO_CONTENT {
        bail!("{}", refused(status, &answer));
    }
    Ok(())
}

fn query(new: &NewExam) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("pacs", &new.pacs);
    if let Some(id) = &new.cda_id {
        query.append_pair("cda_id", id);
    }
    for (key, set) in [
        ("invisible_patient", new.invisible_patient),
        ("masked_to_professionals", new.masked_to_professionals),
        ("opposed", new.opposed),
    ] {
        if let Some(set) = set {
            query.append_pair(key, if set { "true" } else { "false" });
        }
    }
    query.finish()
}

fn listed(answer: &Value) -> String {
    let none = Vec::new();
    let exams = answer
        .get("exams")
        .and_then(Value::as_array)
        .unwrap_or(&none);
    let mut text = String::new();
    for exam in exams {
        let part = |key: &str| exam.get(key).and_then(Value::as_str).unwrap_or_default();
        let count = |key: &str| exam.get(key).and_then(Value::as_u64).unwrap_or(0);
        let restricted: Vec<&str> = [
            ("invisible_patient", "invisible au patient"),
            ("masked_to_professionals", "masqué aux professionnels"),
            ("opposed", "opposition du patient"),
        ]
        .into_iter()
        .filter(|(key, _)| {
            exam.pointer(&format!("/restrictions/{key}")) == Some(&Value::Bool(true))
        })
        .map(|(_, words)| words)
        .collect();
        text.push_str(&format!(
            "{} {} : KOS {}, {} séries, {} images{}{}\n",
            part("pacs"),
            part("study"),
            part("kos"),
            count("series"),
            count("instances"),
            if restricted.is_empty() { "" } else { " ; " },
            restricted.join(", ")
        ));
    }
    text.push_str(&format!("{} examens publiés.\n", exams.len()));
    text
}

pub(super) fn refused(status: StatusCode, answer: &Value) -> String {
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let (detail, remedy) = (text("detail"), text("remedy"));
    format!("le service répond {status} : {detail}\n  Remède : {remedy}")
}

/// Asks the running service; its status, and its answer in JSON. Bodies that begin with `{` are JSON.
///
/// # Errors
/// When it does not answer.
pub(super) async fn ask(
    config: &Config,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(StatusCode, Value)> {
    let exchange = exchange(config, method, path, body);
    tokio::time::timeout(PATIENCE, exchange)
        .await
        .context("le service n'a pas répondu à temps")?
}

async fn exchange(
    config: &Config,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> anyhow::Result<(StatusCode, Value)> {
    let token = AdminToken::load(&config.data_dir).context(
        "le jeton d'administration ne peut être lu : démarrer le service une première fois, et \
         lancer cette commande sous son compte (sudo -u drimbox …)",
    )?;
    let address = reachable(config.admin.listen);
    let stream = TcpStream::connect(address).await.with_context(|| {
        format!("le service ne répond pas sur {address} ([admin] listen) : est-il démarré ?")
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut field = HeaderValue::from_str(token.field().expose_secret())?;
    field.set_sensitive(true);
    let kind = match body.first() {
        Some(b'{') => "application/json",
        _ => "application/dicom",
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, address.to_string())
        .header(AUTHORIZATION, field)
        .header(CONTENT_TYPE, kind)
        .body(Full::new(Bytes::from(body)))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("réponse illisible : {error}"))?;
    let body = body.to_bytes();
    let json = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).unwrap_or_default()
    };
    Ok((status, json))
}

/// Where to reach an address that may stand for all of a machine's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
