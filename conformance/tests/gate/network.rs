//! One source DRIMbox with everything around it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use conformance::testkit::igc::{Authority, CrlSpec, Igc, Leaf, LeafSpec};
use conformance::testkit::psc::{PscClient, PscProvider, RADIOLOGIST};
use conformance::testkit::whitelist::{Entry, ListSpec, Profile};
use conformance::testkit::{
    Client, FaultyPacs, Gateway, GatewayConfig, Identity, KitError, PacsConfig, Pki, Protocol,
    Response, free_port,
};
use serde_json::{Value as Json, json};
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::support::trail;
use crate::support::{AS_STORED, exam, files, folder, metric, series_path, until};

/// The `db` name of the source.
pub const SOURCE: &str = "db1.source.example";
/// Its `vi` name.
pub const VIEWER: &str = "vi1.source.example";
/// A peer of the white list.
pub const PEER: &str = "db2.peer.example";
/// A peer whose certificate is revoked.
pub const REVOKED: &str = "db3.peer.example";
/// A peer whose subject has accents, and is in the white list in the other order.
pub const ACCENTS: &str = "db4.peer.example";
/// Its state or province.
pub const ACCENTS_STATE: &str = "Côte-d'Or (21)";
/// A study that the source has.
pub const STUDY: &str = "ct300";
/// The KOS that was published for it.
pub const KOS: &str = "2.25.1000001";
/// The INS in it.
pub const INS: &str = "279035121518989";

/// Client ids at the provider: of the source, and of a consumer.
const SOURCE_CLIENT: &str = "drimbox-source";
pub const CONSUMER_CLIENT: &str = "drimbox-consumer";
pub const REVOKED_SERIAL: u64 = 0x7777;

pub struct Network {
    pub home: PathBuf,
    pub igc: Igc,
    pub gateway: Gateway,
    pub provider: PscProvider,
    pub ca_file: PathBuf,
    pub peer: Identity,
    _pacs: FaultyPacs,
}

/// The network of this program: stories have it one after the other.
pub async fn network() -> MutexGuard<'static, Network> {
    static NETWORK: OnceCell<Mutex<Network>> = OnceCell::const_new();
    let network = NETWORK
        .get_or_init(async || Mutex::new(Network::start("network").await))
        .await
        .lock()
        .await;
    network.provider.reset().await.unwrap();
    network
}

impl Network {
    pub async fn start(name: &str) -> Self {
        Self::start_with(name, &[]).await
    }

    /// One whose PACS has these files too.
    pub async fn start_with(name: &str, more: &[PathBuf]) -> Self {
        let home = folder(name);
        let now = OffsetDateTime::now_utc();
        let igc = Igc::new(true, now).unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = home.join(name);
            std::fs::write(&path, bytes).unwrap();
            path.display().to_string()
        };
        let authorities = igc
            .write(
                &home.join("igc"),
                &[Authority::Root, Authority::Organisations],
            )
            .unwrap();
        let authorities: Vec<String> = authorities
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        let revoked = CrlSpec {
            revoked: vec![REVOKED_SERIAL],
            ..CrlSpec::default()
        };
        let crls = vec![
            write(
                "root.crl",
                &igc.crl(Authority::Root, &CrlSpec::default()).unwrap(),
            ),
            write(
                "organisations.crl",
                &igc.crl(Authority::Organisations, &revoked).unwrap(),
            ),
        ];
        let list = write("whitelist.xml", white_list(&igc, &[], now).as_bytes());

        let pki = Pki::new(&home.join("pki"), "Test CA").unwrap();
        let build = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let provider = PscProvider::start(build, &home.join("psc"), &pki)
            .await
            .unwrap();
        provider
            .register(&[
                PscClient::new(SOURCE_CLIENT),
                PscClient::new(CONSUMER_CLIENT),
            ])
            .await
            .unwrap();
        let psc = pki.client(SOURCE_CLIENT).unwrap();
        let path = |path: &Path| path.display().to_string();

        let served = identity(&home, &igc, "source", &serving(SOURCE));
        let viewer = pki.server(&[VIEWER]).unwrap();
        let stored = [files(&[STUDY]), more.to_vec()].concat();
        let pacs = FaultyPacs::start("SIM", &stored, &[]).await.unwrap();
        let address = format!("127.0.0.1:{}", free_port().unwrap());
        let config = GatewayConfig::new(&home.join("gateway"))
            .unwrap()
            .set("peer.listen", address)
            .set("peer.base_path", "/dicom-web")
            .set("trust.environment", "test")
            .set("trust.authority_files", authorities)
            .set("trust.crl_sources", crls)
            .set("trust.white_list.sources", vec![list])
            .set("psc.environment", "custom")
            .set("psc.issuer", provider.issuer())
            .set("psc.client_id", SOURCE_CLIENT)
            .set("psc.certificate_file", path(&psc.certificate_file))
            .set("psc.key_file", path(&psc.key_file))
            .set("psc.ca_file", path(pki.ca_file()))
            .pacs(
                PacsConfig::new("sim", "SIM", pacs.port())
                    .db_host(SOURCE, &served)
                    .set("vi_host", VIEWER)
                    .set("vi_tls.certificate_file", path(&viewer.certificate_file))
                    .set("vi_tls.key_file", path(&viewer.key_file)),
            );
        let gateway = Gateway::start(config).await.unwrap();
        // What a browser and a peer trust here.
        let both = [
            igc.certificate(Authority::Root).pem(),
            std::fs::read_to_string(pki.ca_file()).unwrap(),
        ];
        let ca_file = PathBuf::from(write("trusted.pem", both.concat().as_bytes()));
        let peer = identity(&home, &igc, "peer", &LeafSpec::peer(PEER));
        let network = Self {
            home,
            igc,
            gateway,
            provider,
            ca_file,
            peer,
            _pacs: pacs,
        };
        until("the white list is in use", async || {
            metric(&network.gateway, "drimbox_whitelist_domains", &[]).await == 4
        })
        .await;
        network.publish(&published()).await;
        network
    }

    /// Gives the gateway a revocation list of this authority, and has it read at once.
    pub async fn revoke(&self, by: Authority, list: &CrlSpec) {
        let file = match by {
            Authority::Root => "root.crl",
            Authority::Organisations | Authority::Persons => "organisations.crl",
        };
        let list = self.igc.crl(by, list).unwrap();
        std::fs::write(self.home.join(file), list).unwrap();
        self.refresh(file).await;
    }

    /// Gives the gateway a newer white list without these peers, and has it read at once.
    pub async fn delist(&self, peers: &[&str]) {
        let list = white_list(&self.igc, peers, OffsetDateTime::now_utc());
        std::fs::write(self.home.join("whitelist.xml"), list).unwrap();
        self.refresh("white list").await;
    }

    /// Has authorities, revocation lists and the white list read again, as an administrator does: this one is
    /// in use then.
    async fn refresh(&self, wanted: &str) {
        let url = self.gateway.admin_url() + "/api/trust/refresh";
        let call = Client::plain()
            .unwrap()
            .request(http::Method::POST, &url)
            .header("authorization", &self.admin_token());
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let told = answer.json().await.unwrap();
        let mut all = told["refreshed"].as_array().unwrap().iter();
        let is_wanted = |one: &&Json| one["what"].as_str().unwrap().ends_with(wanted);
        assert!(all.find(is_wanted).unwrap()["error"].is_null(), "{told}");
    }

    /// Registers an exam as an administrator does.
    pub async fn publish(&self, exam: &Json) {
        let answer = self.administrate(exam).await;
        assert_eq!(answer.status(), 201);
    }

    /// Sends an exam to the admin API.
    pub async fn administrate(&self, exam: &Json) -> Response {
        let url = self.gateway.admin_url() + "/api/exams";
        Client::plain()
            .unwrap()
            .request(http::Method::POST, &url)
            .header("authorization", &self.admin_token())
            .header("content-type", "application/json")
            .body(exam.to_string())
            .send()
            .await
            .unwrap()
    }

    /// The field that carries the token of the administrator.
    pub fn admin_token(&self) -> String {
        let file = self.home.join("gateway/data/admin.token");
        format!("Bearer {}", std::fs::read_to_string(file).unwrap().trim())
    }

    /// A client with this certificate, or none.
    pub fn client(&self, identity: Option<&Identity>) -> Client {
        self.client_of(Protocol::Http1, identity)
    }

    /// The same, for this version of HTTP.
    pub fn client_of(&self, protocol: Protocol, identity: Option<&Identity>) -> Client {
        let mut client = Client::builder().protocol(protocol).ca(&self.ca_file);
        for host in [SOURCE, VIEWER] {
            client = client.resolve(host, self.gateway.address("peer"));
        }
        if let Some(identity) = identity {
            client = client.identity(identity);
        }
        client.build().unwrap()
    }

    /// A certificate of this authority, in files.
    pub fn identity(&self, name: &str, spec: &LeafSpec) -> Identity {
        identity(&self.home, &self.igc, name, spec)
    }

    /// The revoked peer.
    pub fn revoked(&self) -> Identity {
        let spec = LeafSpec {
            serial: REVOKED_SERIAL,
            ..LeafSpec::peer(REVOKED)
        };
        self.identity("revoked", &spec)
    }

    /// A good token of a radiologist.
    pub async fn token(&self) -> String {
        self.token_of(RADIOLOGIST).await
    }

    pub async fn token_of(&self, user: &str) -> String {
        self.provider.issue(user, CONSUMER_CLIENT).await.unwrap().0
    }

    /// A good request, to be changed.
    pub async fn request(&self) -> Asking {
        let exam = exam(STUDY);
        Asking {
            url: self.gateway.peer_url(SOURCE) + &series_path(exam, &exam.series[0]),
            token: Some(self.token().await),
            kos: Some(KOS.to_owned()),
            identity: Some(self.peer.clone()),
            accept: AS_STORED,
            more: Vec::new(),
        }
    }

    /// Sends it.
    pub async fn ask(&self, asking: &Asking) -> Response {
        self.ask_by(&self.client(asking.identity.as_ref()), asking)
            .await
    }

    /// Sends it by this client, whatever its certificate.
    pub async fn ask_by(&self, client: &Client, asking: &Asking) -> Response {
        self.try_by(client, asking).await.unwrap()
    }

    /// The same, where the connection may end before there is an answer.
    pub async fn try_by(&self, client: &Client, asking: &Asking) -> Result<Response, KitError> {
        let mut call = client.get(&asking.url).accept(asking.accept);
        if let Some(token) = &asking.token {
            call = call.header("authorization", &format!("Bearer {token}"));
        }
        if let Some(kos) = &asking.kos {
            call = call.header("kos-sopinstanceuid", kos);
        }
        for (name, value) in &asking.more {
            call = call.header(name, value);
        }
        call.send().await
    }

    /// Refusals for this reason so far.
    pub async fn refusals(&self, reason: &str) -> u64 {
        let labels = [("reason", reason)];
        metric(&self.gateway, "drimbox_peer_refusals_total", &labels).await
    }

    /// Sends a request that must be refused: its status and reason, and that it is on record.
    pub async fn refused(&self, asking: &Asking, status: u16, reason: &str) -> Response {
        let client = self.client(asking.identity.as_ref());
        self.refused_by(&client, asking, status, reason).await
    }

    /// The same, sent by this client.
    pub async fn refused_by(
        &self,
        client: &Client,
        asking: &Asking,
        status: u16,
        reason: &str,
    ) -> Response {
        let before = self.refusals(reason).await;
        let said = self.log().len();
        let answer = self.ask_by(client, asking).await;
        assert_eq!(answer.status(), status, "{reason}");
        assert_eq!(self.refusals(reason).await, before + 1, "{reason}");
        let last = self.trail().pop().unwrap();
        assert_eq!(last["kind"], "request-refused", "{reason}");
        assert_eq!(last["outcome"]["reason"], reason);
        assert_eq!(last["outcome"]["status"], status);
        let log = self.log().split_off(said);
        let told = |line: &str| line.contains("request of a peer refused") && line.contains(reason);
        assert!(log.lines().any(told), "{reason} is not in the log: {log}");
        answer
    }

    /// What the gateway logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.gateway.log_file()).unwrap()
    }

    /// The events of the audit trail, the oldest first.
    pub fn trail(&self) -> Vec<Json> {
        trail::events(&self.home.join("gateway/data/audit"))
    }
}

/// A request of a peer.
#[derive(Debug, Clone)]
pub struct Asking {
    pub url: String,
    pub token: Option<String>,
    pub kos: Option<String>,
    pub identity: Option<Identity>,
    pub accept: &'static str,
    /// Fields that follow the others.
    pub more: Vec<(&'static str, String)>,
}

/// A white list that is signed at this moment, with all the peers of the network but those `without`.
fn white_list(igc: &Igc, without: &[&str], now: OffsetDateTime) -> String {
    let mut entries = [SOURCE, PEER, REVOKED, ACCENTS].map(Entry::peer);
    let (state, upper) = (ACCENTS_STATE, ACCENTS.to_uppercase());
    entries[3].dn =
        format!("C=FR, ST={state}, O=AGENCE DU NUMERIQUE EN SANTE,OU=318751275100020,CN={upper}");
    let mut entries = entries.to_vec();
    entries.retain(|entry| !without.contains(&entry.db.as_str()));
    let signer = igc.leaf(&LeafSpec::signer()).unwrap();
    let mut list = ListSpec::new(Profile::Two, entries, now);
    // Several domains of one operator (list of 2024): their number tells nobody apart.
    list.edit_list = |text| text.replace("<Identifiant>1</", "<Identifiant>0</");
    list.sign(&signer).unwrap()
}

/// The first series of the study, with its INS; the others are not in the KOS.
pub fn published() -> Json {
    let exam = exam(STUDY);
    let series = &exam.series[0];
    let instances: Vec<&str> = series
        .instances
        .iter()
        .map(|one| one.sop_instance_uid.as_str())
        .collect();
    json!({
        "pacs": "sim",
        "study": exam.study_instance_uid,
        "kos": KOS,
        "series": [{ "series": series.series_instance_uid, "instances": instances }],
        "ins": { "matricule": INS, "authority": "1.2.250.1.213.1.4.10" },
    })
}

/// A SERV_SSL certificate that servers and browsers can use.
pub fn serving(host: &str) -> LeafSpec {
    LeafSpec {
        dns_names: vec![host.to_owned()],
        ..LeafSpec::peer(host)
    }
}

fn identity(home: &Path, igc: &Igc, name: &str, spec: &LeafSpec) -> Identity {
    let leaf = igc.leaf(spec).unwrap();
    write_identity(
        home,
        name,
        &leaf,
        &igc.certificate(Authority::Organisations).pem(),
    )
}

/// Writes a certificate with those above it, and its key.
pub fn write_identity(home: &Path, name: &str, leaf: &Leaf, above: &str) -> Identity {
    let identity = Identity {
        certificate_file: home.join(format!("{name}.pem")),
        key_file: home.join(format!("{name}.key")),
    };
    let chain = leaf.certificate.pem() + above;
    std::fs::write(&identity.certificate_file, chain).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&identity.key_file)
        .unwrap()
        .write_all(leaf.key.serialize_pem().as_bytes())
        .unwrap();
    identity
}
