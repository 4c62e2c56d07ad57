//! The certificate of a DRIMbox that is called: the same rules as for one that calls, and nothing is
//! sent to who does not keep them. One case a test, each over a connection of its own.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use conformance::testkit::igc::{Authority, CrlSpec, Igc, Leaf, LeafSpec};
use conformance::testkit::whitelist::{Entry, ListSpec, Profile};
use conformance::testkit::{Identity, Pki};
use drimbox::archive::peer::PeerError;
use drimbox::config::TrustEnvironment;
use drimbox::trust::{Clock, Trust};
use rcgen::{ExtendedKeyUsagePurpose as Usage, KeyUsagePurpose};
use time::OffsetDateTime;

use crate::consumer::{HOST, Kept, World, peer_error};
use crate::support::believed::settings;
use crate::support::{folder, run};

/// What a consumer knows when it calls.
struct Scene {
    name: &'static str,
    igc: Igc,
    /// Revocation lists of the root and of the issuing authority; `None`: none.
    root: Option<CrlSpec>,
    organisations: Option<CrlSpec>,
    /// Hosts of the white list; `None`: there is no list.
    listed: Option<&'static [&'static str]>,
}

impl Scene {
    /// All is well.
    fn new(name: &'static str) -> Self {
        Self {
            name,
            igc: Igc::new(true, OffsetDateTime::now_utc()).unwrap(),
            root: Some(CrlSpec::default()),
            organisations: Some(CrlSpec::default()),
            listed: Some(&[HOST]),
        }
    }

    fn trust(&self) -> Trust {
        let folder = folder(&format!("{}-trust", self.name));
        let both = [Authority::Root, Authority::Organisations];
        let files = self.igc.write(&folder, &both).unwrap();
        let settings = settings(&folder, TrustEnvironment::Test, files);
        let trust = Trust::open(settings, Clock::new(SystemTime::now)).unwrap();
        for (authority, spec) in both.into_iter().zip([&self.root, &self.organisations]) {
            if let Some(spec) = spec {
                let list = self.igc.crl(authority, spec).unwrap();
                trust.take_crl(&list).unwrap();
            }
        }
        if let Some(hosts) = self.listed {
            let entries = hosts.iter().map(|host| Entry::peer(host)).collect();
            let signed = OffsetDateTime::now_utc() - Duration::from_secs(3_600);
            let list = ListSpec::new(Profile::Two, entries, signed);
            let signer = self.igc.leaf(&LeafSpec::signer()).unwrap();
            let list = list.sign(&signer).unwrap();
            trust.take_list(list.as_bytes(), "test", false).unwrap();
        }
        trust
    }

    /// A DRIMbox with this certificate, and who may ask it.
    async fn world(&self, trust: &Trust, leaf: &Leaf) -> World {
        let files = folder(&format!("{}-shown", self.name));
        let shown = Identity {
            certificate_file: files.join("shown.pem"),
            key_file: files.join("shown.key"),
        };
        std::fs::write(&shown.certificate_file, leaf.certificate.pem()).unwrap();
        let mut key = std::fs::File::create(&shown.key_file).unwrap();
        key.write_all(leaf.key.serialize_pem().as_bytes()).unwrap();
        let pki = Pki::new(&folder(&format!("{}-callers", self.name)), "Callers").unwrap();
        let mut world = World::with(self.name, pki, &shown).await;
        world.verifier = Some(trust.server_verifier());
        world
    }

    /// The server with this certificate gets no request, and this is why.
    async fn refuses(&self, leaf: &Leaf, reason: &str) {
        let trust = self.trust();
        let world = self.world(&trust, leaf).await;
        let kept = Arc::<Kept>::default();
        match peer_error(world.fetch_first(world.settings(), &kept).await) {
            PeerError::Tls { host, detail } => {
                assert_eq!(host, HOST);
                assert!(detail.contains(reason), "{detail}");
            }
            other => panic!("{other:?}"),
        }
        assert!(world.peer.connections() > 0, "it was not called");
        assert_eq!(world.peer.received().concat(), "", "something was sent");
    }

    fn leaf(&self, change: impl FnOnce(&mut LeafSpec)) -> Leaf {
        let mut spec = LeafSpec::peer(HOST);
        change(&mut spec);
        self.igc.leaf(&spec).unwrap()
    }
}

/// A good certificate with one change.
fn changed(name: &'static str, reason: &str, change: impl FnOnce(&mut LeafSpec)) {
    let scene = Scene::new(name);
    let leaf = scene.leaf(change);
    run(scene.refuses(&leaf, reason));
}

/// A good certificate, and one change in what the consumer knows.
fn unknown(name: &'static str, reason: &str, change: impl FnOnce(&mut Scene)) {
    let mut scene = Scene::new(name);
    change(&mut scene);
    let leaf = scene.leaf(|_| {});
    run(scene.refuses(&leaf, reason));
}

#[test]
fn a_server_with_everything_in_order_is_asked() {
    run(async {
        let scene = Scene::new("server-good");
        let (trust, leaf) = (scene.trust(), scene.leaf(|_| {}));
        let world = scene.world(&trust, &leaf).await;
        let kept = Arc::<Kept>::default();
        let report = world.fetch_first(world.settings(), &kept).await.unwrap();
        assert_eq!(report.delivered, 8);
    });
}

#[test]
fn an_expired_server_is_sent_nothing() {
    changed("server-expired", "Expired", |spec| spec.days = (-20, -1));
}

#[test]
fn a_server_of_tomorrow_is_sent_nothing() {
    changed("server-tomorrow", "NotValidYet", |spec| spec.days = (1, 20));
}

#[test]
fn a_server_of_the_branch_of_persons_is_sent_nothing() {
    changed("server-persons", "UnknownIssuer", |spec| {
        spec.by = Authority::Persons;
    });
}

#[test]
fn a_server_whom_the_root_itself_issued_is_sent_nothing() {
    changed("server-root", "UnknownIssuer", |spec| {
        spec.by = Authority::Root;
    });
}

#[test]
fn a_server_for_another_use_is_sent_nothing() {
    changed("server-mail", "InvalidPurpose", |spec| {
        spec.usages = vec![Usage::EmailProtection];
    });
}

#[test]
fn a_server_whose_key_may_not_sign_is_sent_nothing() {
    changed("server-key", "InvalidPurpose", |spec| {
        spec.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
}

#[test]
fn a_server_of_another_name_is_sent_nothing() {
    changed("server-name", "NotValidForName", |spec| {
        spec.common_name = "db9.peer.example".to_owned();
    });
}

#[test]
fn a_server_under_another_subject_than_listed_is_sent_nothing() {
    changed("server-subject", "OtherSubject", |spec| {
        spec.unit = "300000000000000".to_owned();
    });
}

#[test]
fn a_server_of_the_other_environment_is_sent_nothing() {
    let production = Igc::new(false, OffsetDateTime::now_utc()).unwrap();
    let leaf = production.leaf(&LeafSpec::peer(HOST)).unwrap();
    run(Scene::new("server-production").refuses(&leaf, "UnknownIssuer"));
}

#[test]
fn a_server_of_an_authority_with_the_same_names_is_sent_nothing() {
    let forged = Igc::new(true, OffsetDateTime::now_utc()).unwrap();
    let leaf = forged.leaf(&LeafSpec::peer(HOST)).unwrap();
    run(Scene::new("server-forged").refuses(&leaf, "BadSignature"));
}

#[test]
fn a_server_of_an_authority_of_another_family_is_sent_nothing() {
    let key = rcgen::KeyPair::generate().unwrap();
    let own = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let certificate = own.self_signed(&key).unwrap();
    let leaf = Leaf {
        certificate,
        key,
        serial: 1,
    };
    run(Scene::new("server-foreign").refuses(&leaf, "UnknownIssuer"));
}

#[test]
fn a_revoked_server_is_sent_nothing() {
    unknown("server-revoked", "Revoked", |scene| {
        scene.organisations = Some(CrlSpec {
            revoked: vec![LeafSpec::peer(HOST).serial],
            ..CrlSpec::default()
        });
    });
}

#[test]
fn a_server_of_a_revoked_authority_is_sent_nothing() {
    unknown("server-authority", "Revoked", |scene| {
        scene.listed = None;
        scene.root = Some(CrlSpec {
            revoked: vec![Igc::serial_of(Authority::Organisations)],
            ..CrlSpec::default()
        });
    });
}

#[test]
fn without_a_revocation_list_a_server_is_sent_nothing() {
    unknown("server-no-crl", "UnknownRevocationStatus", |scene| {
        scene.listed = None;
        scene.organisations = None;
    });
}

#[test]
fn without_the_revocation_list_of_the_root_a_server_is_sent_nothing() {
    unknown("server-no-root-crl", "UnknownRevocationStatus", |scene| {
        scene.listed = None;
        scene.root = None;
    });
}

#[test]
fn with_a_stale_revocation_list_a_server_is_sent_nothing() {
    unknown("server-stale-crl", "ExpiredRevocationList", |scene| {
        scene.listed = None;
        scene.organisations = Some(CrlSpec {
            hours: (-48, -1),
            ..CrlSpec::default()
        });
    });
}

#[test]
fn without_a_white_list_a_server_is_sent_nothing() {
    unknown("server-no-list", "NoWhiteList", |scene| scene.listed = None);
}

#[test]
fn a_server_that_is_not_listed_is_sent_nothing() {
    unknown("server-unlisted", "NotListed", |scene| {
        scene.listed = Some(&["db8.peer.example"]);
    });
}
