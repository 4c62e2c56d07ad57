//! Pro Santé Connect, built from `[psc]`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use psc_auth::{
    AcrPolicy, ClientIdentity, Environment, GateSettings, HttpsTransport, ProfessionPolicy,
    Provider, PscTokenGate, RelyingParty, Settings, SystemClock, TransportSettings,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::audit::{Audit, Ending};
use crate::certs::facts::Facts;
use crate::certs::follow::Follow;
use crate::certs::place::Role;
use crate::certs::presented::{By, Recorder};
use crate::certs::replaced::Replaced;
use crate::config::{Config, HttpProxy, Psc, PscEnvironment, ServerIdentity};
use crate::net;

/// Path of the return address on every `vi` name, as registered at PSC.
pub const CALLBACK_PATH: &str = "/auth/psc/callback";

/// How often it is looked whether what is known of PSC is due to be read again.
const READ_EVERY: Duration = Duration::from_secs(3600);

/// What is built on Pro Santé Connect. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PscParts {
    /// The way to PSC, whose certificate can be replaced.
    pub transport: Arc<HttpsTransport>,
    /// What is known of PSC.
    pub provider: Arc<Provider>,
    /// Logs professionals in.
    pub party: RelyingParty,
    /// Checks what peers present.
    pub gate: Arc<PscTokenGate>,
    /// Who may see images.
    pub professions: ProfessionPolicy,
    identity: ServerIdentity,
    client_id: String,
}

/// Builds them; `None` without `[psc]`. Nothing is asked of PSC yet. What its servers present is noted.
///
/// # Errors
/// When the certificate, the key or the authorities cannot be used.
pub fn build(config: &Config, recorder: Option<&Recorder>) -> anyhow::Result<Option<PscParts>> {
    let Some(psc) = &config.psc else {
        return Ok(None);
    };
    let roots = net::tls::read_authorities(&psc.ca_file)
        .context("authorities of Pro Santé Connect (`psc.ca_file`)")?;
    let verifier = match recorder {
        Some(recorder) => {
            let roots = Arc::new(roots.clone());
            let provider = net::tls::provider();
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .context("authorities of Pro Santé Connect (`psc.ca_file`)")?;
            let verifier: Arc<dyn ServerCertVerifier> = verifier;
            Some(recorder.servers(verifier, By::Psc))
        }
        None => None,
    };
    let transport = HttpsTransport::new(
        TransportSettings {
            timeout: psc.timeout,
            connect_timeout: psc.connect_timeout,
            proxy: psc.http_proxy.as_ref().map(HttpProxy::url),
            verifier,
            ..TransportSettings::default()
        },
        roots,
        Some(client_identity(&psc.identity)?),
    )
    .context("certificate towards Pro Santé Connect (`psc.certificate_file`)")?;
    let transport = Arc::new(transport);
    let provider = Arc::new(Provider::new(
        settings(psc, &return_address(config)?)?,
        Arc::clone(&transport) as Arc<dyn psc_auth::Transport>,
        Arc::new(SystemClock),
    ));
    Ok(Some(PscParts {
        party: RelyingParty::new(Arc::clone(&provider)),
        gate: Arc::new(PscTokenGate::new(Arc::clone(&provider), gate_settings(psc))),
        professions: professions(psc),
        identity: psc.identity.clone(),
        client_id: psc.client_id.clone(),
        transport,
        provider,
    }))
}

impl PscParts {
    /// Looks at the certificate's files every minute and at `hangup` until `stop`, and presents what they hold when they
    /// changed.
    pub async fn follow_certificate(self, audit: Audit, hangup: Signal, stop: CancellationToken) {
        let mut files = Follow::new(&self.identity, hangup);
        let mut in_use = leaf(&self.identity);
        while let Some(then) = files.next(&stop).await {
            match self.reload_certificate() {
                Ok(new) => {
                    tracing::info!("the certificate towards Pro Santé Connect was renewed");
                    files.in_use(then);
                    counted("loaded");
                    if in_use.as_ref() != Some(&new) {
                        let before = in_use.replace(new.clone());
                        self.record(&audit, before.as_ref(), &new).await;
                    }
                }
                // Perhaps only one of the two files is there yet: looked at again.
                Err(error) => {
                    tracing::warn!(
                        "the new certificate towards Pro Santé Connect is not used: {error:#}"
                    );
                    counted("refused");
                }
            }
        }
    }

    async fn record(
        &self,
        audit: &Audit,
        before: Option<&CertificateDer<'_>>,
        now: &CertificateDer<'_>,
    ) {
        let replaced = Replaced {
            host: &self.client_id,
            role: Role::OrgAuthCliPsc,
            before,
            now,
        };
        if let Err(error) = replaced.record(audit, Ending::Success).await {
            tracing::error!(%error, "a new certificate is in use, and not in the audit trail");
        }
    }

    /// Presents what the certificate's files hold now; the certificate.
    ///
    /// # Errors
    /// When they cannot be used, the certificate is out of date, or another Client ID's; the certificate in use stays.
    fn reload_certificate(&self) -> anyhow::Result<CertificateDer<'static>> {
        let (chain, key) = net::tls::read_identity(&self.identity)?;
        is_of_client(&chain, &self.client_id)?;
        let leaf = chain.first().cloned().context("no certificate")?;
        let in_date = Facts::of(&leaf)?.in_date(SystemTime::now().into());
        in_date.map_err(|why| anyhow::anyhow!("it {why}"))?;
        let identity = ClientIdentity::new(chain, key);
        self.transport.replace_identity(identity)?;
        Ok(leaf)
    }
}

/// Reports how far the clock of Pro Santé Connect is from this one, as a metric, and in the log where connections begin to
/// fail, until `stop`. Every answer tells; discovery is read at the start, and once a day, so that one comes.
pub async fn follow_clock(provider: Arc<Provider>, stop: CancellationToken) {
    let tolerated = provider.settings().leeway.as_secs();
    let mut told = provider.watch_clock_skew();
    let mut reading = tokio::time::interval(READ_EVERY);
    let mut warned = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = reading.tick() => tokio::select! {
                () = stop.cancelled() => return,
                // What fails is in the log.
                _ = provider.prepare() => continue,
            },
            changed = told.changed() => if changed.is_err() { return },
        }
        let Some(skew) = *told.borrow_and_update() else {
            continue;
        };
        metrics::gauge!("drimbox_psc_clock_skew_seconds").set(skew as f64);
        let apart = skew.unsigned_abs();
        if apart > tolerated && !warned {
            let way = if skew > 0 { "behind" } else { "ahead of" };
            tracing::warn!(
                "the clock of this machine is {apart} s {way} that of Pro Santé Connect, {tolerated} s are tolerated: \
                 logins and tokens are refused until its time is set right (NTP)"
            );
            warned = true;
        } else if warned && apart <= tolerated / 2 {
            tracing::info!("the clock of this machine is right again");
            warned = false;
        }
    }
}

/// The library's settings.
///
/// # Errors
/// When an address or the Client ID is none.
pub fn settings(psc: &Psc, redirect_uri: &Url) -> anyhow::Result<Settings> {
    let environment = match &psc.environment {
        PscEnvironment::Bas => Environment::Sandbox,
        PscEnvironment::Production => Environment::Production,
        PscEnvironment::Custom { issuer, .. } => Environment::Issuer(issuer.clone()),
    };
    let mut settings = Settings::new(environment, &psc.client_id, redirect_uri.as_str())
        .context("section `[psc]`")?;
    if let PscEnvironment::Custom {
        discovery_url: Some(url),
        ..
    } = &psc.environment
    {
        settings.discovery_url = url.clone();
    }
    settings.scopes.clone_from(&psc.scopes);
    settings.acr = acr(psc);
    settings
        .identity_provider_hint
        .clone_from(&psc.identity_provider_hint);
    settings.leeway = psc.clock_leeway;
    Ok(settings)
}

fn acr(psc: &Psc) -> AcrPolicy {
    AcrPolicy {
        requested: psc.acr_values.clone(),
        accepted: psc.accepted_acr.clone(),
        missing_is_eidas1: psc.accept_missing_acr,
    }
}

fn gate_settings(psc: &Psc) -> GateSettings {
    let mut settings = GateSettings::default();
    settings.clock_leeway = psc.clock_leeway;
    settings.acr = Some(acr(psc));
    settings.scopes.clone_from(&psc.scopes);
    settings.clients.clone_from(&psc.peer_client_ids);
    settings.refuse_other_clients = psc.refuse_other_clients;
    settings.active_for = psc.introspection_cache;
    settings
}

fn professions(psc: &Psc) -> ProfessionPolicy {
    ProfessionPolicy {
        allowed: psc.professions.clone(),
        refused_categories: psc.refused_categories.clone(),
    }
}

/// The return address on a `vi` name.
///
/// # Errors
/// When name and port make no address.
pub fn callback_url(host: &str, port: u16) -> anyhow::Result<Url> {
    let mut url = Url::parse(&format!("https://{host}{CALLBACK_PATH}"))?;
    if port != 443 {
        url.set_port(Some(port))
            .map_err(|()| anyhow::anyhow!("{host}: no port fits"))?;
    }
    Ok(url)
}

/// That of the first `vi` name. Where there is none nobody logs in, and it is not used.
fn return_address(config: &Config) -> anyhow::Result<Url> {
    let host = config.pacs.iter().find_map(|pacs| pacs.vi_host.as_deref());
    callback_url(host.unwrap_or("localhost"), public_port(config))
}

/// The port in addresses that browsers see.
#[must_use]
pub fn public_port(config: &Config) -> u16 {
    match &config.peer {
        Some(peer) => peer.public_port.unwrap_or(peer.listen.port()),
        None => 443,
    }
}

fn counted(outcome: &'static str) {
    metrics::counter!("drimbox_psc_certificate_reloads_total", "outcome" => outcome).increment(1);
}

/// Whether the CN of a certificate is a Client ID, as PSC demands of the ORG_AUTH_CLI of a client.
///
/// # Errors
/// When it is another, with both.
pub(crate) fn is_of_client(chain: &[CertificateDer<'_>], client_id: &str) -> anyhow::Result<()> {
    let leaf = chain.first().context("no certificate")?;
    let found = Facts::of(leaf)?.common_name.unwrap_or_default();
    anyhow::ensure!(
        found == client_id,
        "its CN is {found:?}, and not the Client ID {client_id:?}: install the certificate issued for this Client ID"
    );
    Ok(())
}

fn client_identity(identity: &ServerIdentity) -> anyhow::Result<ClientIdentity> {
    let (chain, key) = net::tls::read_identity(identity)?;
    Ok(ClientIdentity::new(chain, key))
}

fn leaf(identity: &ServerIdentity) -> Option<CertificateDer<'static>> {
    let (chain, _) = net::tls::read_identity(identity).ok()?;
    chain.into_iter().next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::certs::testdata::{Profile, certificate};

    #[test]
    fn a_certificate_of_another_client_id_is_not_taken() {
        let profile = Profile {
            common_name: "drimbox-centre",
            ..Profile::default()
        };
        let chain = [certificate(&profile).0];
        is_of_client(&chain, "drimbox-centre").unwrap();
        let refused = is_of_client(&chain, "drimbox-autre").unwrap_err();
        assert!(refused.to_string().contains("drimbox-centre"), "{refused}");
    }
    /// Every key of the section, none of them as it is without it.
    fn psc() -> Psc {
        fn words<T: FromIterator<String>>(words: &[&str]) -> T {
            words.iter().map(|word| (*word).to_owned()).collect()
        }
        Psc {
            environment: PscEnvironment::Production,
            client_id: "drimbox-centre".into(),
            identity: ServerIdentity {
                certificate_file: "/nowhere.pem".into(),
                key_file: "/nowhere.key".into(),
            },
            ca_file: "/nowhere.pem".into(),
            http_proxy: None,
            timeout: Duration::from_secs(7),
            connect_timeout: Duration::from_secs(3),
            scopes: words(&["openid", "scope_all", "identity"]),
            acr_values: "eidas2".into(),
            accepted_acr: words(&["eidas2"]),
            accept_missing_acr: false,
            identity_provider_hint: Some("centre-idp".into()),
            clock_leeway: Duration::from_secs(11),
            professions: words(&["10", "98"]),
            refused_categories: words(&["E", "M"]),
            peer_client_ids: words(&["drimbox-voisine"]),
            refuse_other_clients: true,
            introspection_cache: Duration::from_secs(13),
        }
    }

    #[test]
    fn every_key_of_the_section_is_what_the_library_is_set_to() {
        let back = callback_url("vi.example", 8443).unwrap();
        let levels = |acr: &AcrPolicy| {
            assert_eq!(acr.requested, "eidas2");
            assert!(acr.accepts(Some("eidas2")));
            assert!(!acr.accepts(Some("eidas1")) && !acr.accepts(None));
        };
        let mut psc = psc();
        let settings = settings(&psc, &back).unwrap();
        let production = "https://auth.esw.esante.gouv.fr/auth/realms/esante-wallet";
        assert_eq!(settings.issuer, production);
        assert_eq!(settings.client_id, "drimbox-centre");
        assert_eq!(
            settings.redirect_uri.as_str(),
            "https://vi.example:8443/auth/psc/callback"
        );
        assert_eq!(settings.scopes, ["openid", "scope_all", "identity"]);
        levels(&settings.acr);
        assert_eq!(
            settings.identity_provider_hint.as_deref(),
            Some("centre-idp")
        );
        assert_eq!(settings.leeway, Duration::from_secs(11));

        let gate = gate_settings(&psc);
        assert_eq!(gate.clock_leeway, Duration::from_secs(11));
        assert_eq!(gate.scopes, ["openid", "scope_all", "identity"]);
        levels(gate.acr.as_ref().unwrap());
        assert!(gate.clients.iter().eq(["drimbox-voisine"]));
        assert!(gate.refuse_other_clients && gate.ask_user_info);
        assert_eq!(gate.active_for, Duration::from_secs(13));

        let who = professions(&psc);
        assert!(who.allowed.iter().eq(["10", "98"]));
        assert!(who.refused_categories.iter().eq(["E", "M"]));

        for (environment, issuer, discovery) in [
            (
                PscEnvironment::Bas,
                "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet",
                "https://auth.bas.psc.esante.gouv.fr/auth/realms/esante-wallet/.well-known/wallet-openid-configuration",
            ),
            (
                PscEnvironment::Custom {
                    issuer: "https://psc.example/realm".into(),
                    discovery_url: Some("https://psc.example/discovery".parse().unwrap()),
                },
                "https://psc.example/realm",
                "https://psc.example/discovery",
            ),
        ] {
            psc.environment = environment;
            let settings = super::settings(&psc, &back).unwrap();
            assert_eq!(settings.issuer, issuer);
            assert_eq!(settings.discovery_url.as_str(), discovery);
        }
    }
}
