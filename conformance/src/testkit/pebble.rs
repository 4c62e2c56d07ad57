//! Pebble, the ACME authority of Let's Encrypt for tests, with a name server that answers loopback for every name.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Method;
use rustix::process::Signal;
use serde_json::json;

use super::{Client, Identity, KitError, Pki, Process, Program, free_port};

const PEBBLE: &str = "/usr/bin/pebble";
const NAMES: &str = "/usr/bin/pebble-challtestsrv";
/// Name that its own certificate must be for.
const HOST: &str = "localhost";

/// What the authority is like.
#[derive(Debug, Clone, Default)]
pub struct PebbleSettings {
    /// The port on which it looks for challenges.
    pub http_port: u16,
    /// Identifier and HMAC key (base64url) that a new account must have.
    pub external_account: Option<(String, String)>,
    /// Good nonces refused, of a hundred.
    pub refused_nonces: u8,
    /// Roots besides the first, each with a chain of its own.
    pub other_roots: u8,
}

/// A running Pebble, strict, which validates every order anew; it ends when dropped.
#[derive(Debug)]
pub struct Pebble {
    process: Process,
    _names: Process,
    dns: u16,
    names_management: u16,
    port: u16,
    management: u16,
    folder: PathBuf,
    client: Client,
}

impl Pebble {
    /// Starts it in `folder`, with a certificate of `pki` for its own address.
    ///
    /// # Errors
    /// When it is not installed, or does not start; then with the end of its log.
    pub async fn start(
        folder: &Path,
        pki: &Pki,
        settings: &PebbleSettings,
    ) -> Result<Self, KitError> {
        std::fs::create_dir_all(folder).map_err(KitError::io("create", folder))?;
        let identity = pki.server(&[HOST])?;
        let (port, management) = (free_port()?, free_port()?);
        let (dns, names_management) = (free_port()?, free_port()?);
        let file = folder.join("pebble.json");
        let text = configuration(&identity, port, management, settings).to_string();
        std::fs::write(&file, text).map_err(KitError::io("write", &file))?;

        let loopback = |port: u16| format!("127.0.0.1:{port}");
        let mut names = Program::new("challtestsrv", NAMES, folder)
            .arg("-dns01")
            .arg(loopback(dns))
            .arg("-management")
            .arg(loopback(names_management));
        for unused in ["-http01", "-https01", "-tlsalpn01", "-defaultIPv6"] {
            names = names.arg(unused).arg("");
        }
        let mut names = names.start()?;
        names
            .ready(Duration::from_secs(30), async || {
                tokio::net::TcpStream::connect(("127.0.0.1", names_management))
                    .await
                    .is_ok()
            })
            .await?;

        let mut process = Program::new("pebble", PEBBLE, folder)
            .arg("-config")
            .arg(file.display().to_string())
            .arg("-strict")
            .arg("-dnsserver")
            .arg(loopback(dns))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .env("PEBBLE_ALTERNATE_ROOTS", &settings.other_roots.to_string())
            .env(
                "PEBBLE_WFE_NONCEREJECT",
                &settings.refused_nonces.to_string(),
            )
            .start()?;
        let client = Client::builder().ca(pki.ca_file()).build()?;
        let directory = format!("https://{HOST}:{port}/dir");
        let asking = client.clone();
        process
            .ready(Duration::from_secs(30), async || {
                let answer = asking.get(&directory).send().await;
                answer.is_ok_and(|answer| answer.status().is_success())
            })
            .await?;
        Ok(Self {
            process,
            _names: names,
            dns,
            names_management,
            port,
            management,
            folder: folder.to_owned(),
            client,
        })
    }

    /// URL of its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://{HOST}:{}/dir", self.port)
    }

    /// A PEM file with the root of the certificates that it issues; another one at each start.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn root_file(&self) -> Result<PathBuf, KitError> {
        self.root_file_of(0).await
    }

    /// The same for the root with this number, of [`PebbleSettings::other_roots`] from 1 on.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn root_file_of(&self, number: u8) -> Result<PathBuf, KitError> {
        let url = format!("https://{HOST}:{}/roots/{number}", self.management);
        let pem = self.client.get(&url).send().await?.text().await?;
        let file = self.folder.join(format!("root-{number}.pem"));
        std::fs::write(&file, pem).map_err(KitError::io("write", &file))?;
        Ok(file)
    }

    /// The name server that it asks, for others to ask too.
    #[must_use]
    pub fn name_server(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.dns).into()
    }

    /// Gives a name CAA records of the kind `issue` with these values (RFC 8659 §4.2). Pebble itself looks at none.
    ///
    /// # Errors
    /// When the name server does not take them.
    pub async fn set_caa(&self, name: &str, issuers: &[&str]) -> Result<(), KitError> {
        let policy = |issuer: &&str| json!({ "tag": "issue", "value": issuer });
        let policies: Vec<_> = issuers.iter().map(policy).collect();
        // It compares names as they stand in the question.
        let records = json!({ "host": format!("{name}."), "policies": policies });
        let url = format!("http://127.0.0.1:{}/add-caa", self.names_management);
        let answer = Client::plain()?
            .request(Method::POST, &url)
            .body(records.to_string())
            .send()
            .await?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(KitError::Invalid {
                what: "CAA records".into(),
                reason: answer.text().await?,
            }),
        }
    }

    /// How many orders it took.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn orders(&self) -> Result<usize, KitError> {
        Ok(self.process.log()?.matches("Added order ").count())
    }

    /// What it says of the certificate with this serial number, in hexadecimal: `Valid` or `Revoked`.
    ///
    /// # Errors
    /// When it knows none with that number.
    pub async fn status_of(&self, serial: &str) -> Result<String, KitError> {
        let url = format!(
            "https://{HOST}:{}/cert-status-by-serial/{serial}",
            self.management
        );
        let status = self.client.get(&url).send().await?.json().await?;
        let status = status.get("Status").and_then(|status| status.as_str());
        status.map(str::to_owned).ok_or_else(|| KitError::Invalid {
            what: format!("status of the certificate {serial}"),
            reason: "Pebble does not say it".into(),
        })
    }

    /// Stops answering until [`Self::resume`]; connections stay open.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Answers again.
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// The process, to look at its log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn configuration(
    identity: &Identity,
    port: u16,
    management: u16,
    settings: &PebbleSettings,
) -> serde_json::Value {
    let mut pebble = json!({
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": identity.certificate_file,
        "privateKey": identity.key_file,
        "httpPort": settings.http_port,
        "tlsPort": 1,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": settings.external_account.is_some(),
    });
    if let Some((id, key)) = &settings.external_account
        && let Some(pebble) = pebble.as_object_mut()
    {
        pebble.insert("externalAccountMACKeys".into(), json!({ id: key }));
    }
    json!({ "pebble": pebble })
}
