//! What the stories share: a provider, an authority, clients with their certificates, and a clock to be moved.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use conformance::testkit::psc::left_out;
use conformance::testkit::{Identity, Pki, PscClient, PscProvider};
use psc_auth::{
    Callback, ClientIdentity, Clock, Environment, HttpsTransport, PendingLogin, Provider, PscError,
    RelyingParty, Session, Settings, SystemClock, TransportSettings, UnixTime,
};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

/// The client of the consumer, who logs professionals in.
pub const CONSUMER: &str = "drimbox-consumer";
/// The client of the source, who checks tokens.
pub const SOURCE: &str = "drimbox-source";
/// Where the consumer is.
pub const RETURN: &str = "https://consumer.test/psc/retour";

/// The clock of the machine, and what a story adds to it.
#[derive(Debug, Default)]
pub struct Held(AtomicU64);

impl Held {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for Held {
    fn now(&self) -> UnixTime {
        let ahead = Duration::from_secs(self.0.load(Ordering::SeqCst));
        SystemClock.now().plus(ahead)
    }
}

pub struct World {
    pub psc: PscProvider,
    pub pki: Pki,
    pub clock: Arc<Held>,
    folder: TempDir,
}

/// A provider that knows the consumer and the source; `None` when stories with it are left out.
pub async fn world() -> Option<World> {
    if left_out() {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::new(&folder.path().join("pki"), "Test CA").unwrap();
    let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let psc = PscProvider::start(build, &folder.path().join("psc"), &pki)
        .await
        .unwrap();
    let clients = [
        PscClient::new(CONSUMER).redirect(RETURN),
        PscClient::new(SOURCE),
    ];
    psc.register(&clients).await.unwrap();
    Some(World {
        psc,
        pki,
        clock: Arc::default(),
        folder,
    })
}

impl World {
    /// A certificate of the authority that the provider trusts.
    pub fn certificate(&self, name: &str) -> Identity {
        self.pki.organisation(name, "312345678900011").unwrap()
    }

    /// A certificate of an authority that it does not know.
    pub fn foreign_certificate(&self, name: &str) -> Identity {
        let other = Pki::new(&self.folder.path().join("other"), "Other CA").unwrap();
        other.organisation(name, "312345678900011").unwrap()
    }

    pub fn transport(
        &self,
        settings: TransportSettings,
        identity: Option<&Identity>,
    ) -> Arc<HttpsTransport> {
        let mut roots = RootCertStore::empty();
        let trusted = CertificateDer::from_pem_file(self.pki.ca_file()).unwrap();
        roots.add(trusted).unwrap();
        Arc::new(HttpsTransport::new(settings, roots, identity.map(loaded)).unwrap())
    }

    pub fn provider_over(&self, client: &str, transport: Arc<HttpsTransport>) -> Arc<Provider> {
        let environment = Environment::Issuer(self.psc.issuer().to_owned());
        let settings = Settings::new(environment, client, RETURN).unwrap();
        Arc::new(Provider::new(settings, transport, self.clock.clone()))
    }

    /// Pro Santé Connect as this client sees it, with its own certificate.
    pub fn provider(&self, client: &str) -> Arc<Provider> {
        let identity = self.certificate(client);
        let transport = self.transport(TransportSettings::default(), Some(&identity));
        self.provider_over(client, transport)
    }

    pub fn consumer(&self) -> RelyingParty {
        RelyingParty::new(self.provider(CONSUMER))
    }

    /// Goes to the login page and comes back; the knob `user` says what happens there.
    pub async fn comes_back(&self, pending: &PendingLogin) -> Callback {
        let back = self
            .psc
            .log_in(&self.pki, pending.url().as_str(), RETURN)
            .await
            .unwrap();
        Callback::parse(back.split_once('?').unwrap().1).unwrap()
    }

    /// A whole login.
    pub async fn log_in(&self, party: &RelyingParty) -> Result<Session, PscError> {
        let pending = party.begin_login(Default::default()).await?;
        let callback = self.comes_back(&pending).await;
        party.complete_login(pending, callback).await
    }
}

pub fn loaded(identity: &Identity) -> ClientIdentity {
    let chain = CertificateDer::pem_file_iter(&identity.certificate_file).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
    ClientIdentity::new(chain, key)
}
