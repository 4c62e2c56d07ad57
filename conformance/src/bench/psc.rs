//! What the check of a token costs a request, and what logins hold in memory; in this process, with the provider of
//! npm. No PACS takes part.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use psc_auth::{
    Callback, ClientIdentity, Environment, GateSettings, HttpsTransport, Provider, PscError,
    PscTokenGate, RelyingParty, Session, Settings, SystemClock, TokenGate, TransportSettings,
};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::SecretString;
use serde_json::json;

use crate::testkit::psc::RADIOLOGIST;
use crate::testkit::{KitError, Pki, PscClient, PscProvider};

use super::machine;
use super::report::{Bar, Row, Unit};

/// The measures by name.
pub const KEYS: [&str; 2] = ["token", "logins"];

const CLIENT: &str = "drimbox-bench";
const RETURN: &str = "https://bench.test/retour";
/// Checks in one run.
const CHECKS: u32 = 20_000;
/// What a check of a token that is known may take.
const PER_CHECK: f64 = 50e-6;
/// Sessions that are held.
const LOGINS: usize = 1_000;
/// What they may take.
const MEMORY: f64 = 32e6;

/// A provider, and what asks it.
pub struct PscBench {
    psc: PscProvider,
    pki: Pki,
    provider: Arc<Provider>,
}

impl PscBench {
    /// Starts the provider; `folder` keeps what npm installed.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start(folder: &Path) -> Result<Self, KitError> {
        let folder = std::path::absolute(folder).map_err(KitError::io("find", folder))?;
        let pki = Pki::new(&folder.join("psc-pki"), "Bench CA")?;
        let psc = PscProvider::start(&folder, &folder.join("psc"), &pki).await?;
        psc.register(&[PscClient::new(CLIENT).redirect(RETURN)])
            .await?;
        let identity = pki.organisation(CLIENT, "312345678900011")?;
        let unusable = |what: &str, reason: String| KitError::Invalid {
            what: what.to_owned(),
            reason,
        };
        let read = |path: &Path| {
            CertificateDer::from_pem_file(path)
                .map_err(|error| unusable("a certificate", error.to_string()))
        };
        let mut roots = RootCertStore::empty();
        roots.add(read(pki.ca_file())?)?;
        let key = PrivateKeyDer::from_pem_file(&identity.key_file)
            .map_err(|error| unusable("a key", error.to_string()))?;
        let identity = ClientIdentity::new(vec![read(&identity.certificate_file)?], key);
        let transport = HttpsTransport::new(TransportSettings::default(), roots, Some(identity))
            .map_err(|error| unusable("the transport", error.to_string()))?;
        let environment = Environment::Issuer(psc.issuer().to_owned());
        let settings = Settings::new(environment, CLIENT, RETURN)
            .map_err(|error| unusable("the settings", error.to_string()))?;
        let provider = Provider::new(settings, Arc::new(transport), Arc::new(SystemClock));
        Ok(Self {
            psc,
            pki,
            provider: Arc::new(provider),
        })
    }

    /// Makes one measure.
    ///
    /// # Errors
    /// When a token or a login is refused.
    pub async fn measure(&self, key: &str, runs: usize) -> Result<Row, KitError> {
        match key {
            "token" => self.token(runs).await,
            _ => self.logins().await,
        }
    }

    async fn token(&self, runs: usize) -> Result<Row, KitError> {
        let failed = KitError::http::<psc_auth::GateError>;
        self.psc.set(json!({"accessTokenSeconds": 600})).await?;
        let (token, _) = self.psc.issue(RADIOLOGIST, CLIENT).await?;
        let token = SecretString::from(token);
        let mut settings = GateSettings::default();
        // So that no run meets the end of the remembered answer.
        settings.active_for = Duration::from_secs(600);
        let gate = PscTokenGate::new(Arc::clone(&self.provider), settings);
        gate.check(&token, None)
            .await
            .map_err(failed("check a token"))?;
        let what = "check of a known token, per request";
        let mut row = Row::new("token", what, Unit::Time, Bar::AtMost(PER_CHECK));
        for _ in 0..runs {
            let start = Instant::now();
            for _ in 0..CHECKS {
                gate.check(&token, None)
                    .await
                    .map_err(failed("check a token"))?;
            }
            row.ours
                .push(start.elapsed().as_secs_f64() / f64::from(CHECKS));
        }
        let asked = self.psc.report().await?.count("introspection");
        row.also = Some(("one introspection".to_owned(), asked == 1));
        row.note = format!("mean of {CHECKS} checks, one after the other, in the process");
        Ok(row)
    }

    async fn logins(&self) -> Result<Row, KitError> {
        self.psc.set(json!({"user": RADIOLOGIST})).await?;
        let party = RelyingParty::new(Arc::clone(&self.provider));
        // What the first logins leave behind for good is no cost of a session.
        let mut held = Vec::with_capacity(LOGINS + 20);
        for _ in 0..20 {
            held.push(self.log_in(&party).await?);
        }
        let before = machine::memory(std::process::id())?.now;
        for _ in 0..LOGINS {
            held.push(self.log_in(&party).await?);
        }
        let after = machine::memory(std::process::id())?.now;
        let what = format!("memory of {LOGINS} sessions with their tokens");
        let mut row = Row::new("logins", what, Unit::Memory, Bar::AtMost(MEMORY));
        #[expect(clippy::cast_precision_loss, reason = "a size for print")]
        row.ours.push(after.saturating_sub(before) as f64);
        row.note = "resident memory of this process, which is client and browser too".to_owned();
        drop(held);
        Ok(row)
    }

    async fn log_in(&self, party: &RelyingParty) -> Result<Session, KitError> {
        let failed = KitError::http::<PscError>;
        let pending = party
            .begin_login(psc_auth::LoginChoice::default())
            .await
            .map_err(failed("begin a login"))?;
        let back = self
            .psc
            .log_in(&self.pki, pending.url().as_str(), RETURN)
            .await?;
        let query = back.split_once('?').map(|(_, query)| query);
        let callback = Callback::parse(query.unwrap_or_default())
            .map_err(KitError::http("read the return"))?;
        party
            .complete_login(pending, callback)
            .await
            .map_err(failed("complete a login"))
    }
}
