//! A market certificate and the revocation list that it names; the authorities on the box: in the inventory, the log, the
//! metrics.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use conformance::testkit::{Gateway, GatewayConfig, Identity, PacsConfig, Pki, free_port};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use serde_json::Value;
use time::OffsetDateTime;

use super::centre::{HOST, closed, code, drimbox, said};
use super::support::web::Web;
use super::support::{folder, metric, run, until};

const VI: &str = "vi1.certs.example";

/// Time for the gateway to stop.
const GRACE: Duration = Duration::from_secs(30);

/// An authority of browsers, whose own certificate ends in 40 days.
struct Market {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// Unix seconds.
    ends: i64,
}

impl Market {
    fn new(now: OffsetDateTime) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "AC du marché");
        params.not_before = now - time::Duration::DAY;
        params.not_after = now + time::Duration::days(40) + time::Duration::HOUR;
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let ends = params.not_after.unix_timestamp();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            ends,
        }
    }

    /// A certificate of [`VI`] that names a list, PEM, and that of its issuer.
    fn certificate(&self, serial: u64, key: &KeyPair, list: &str, now: OffsetDateTime) -> String {
        let mut params = CertificateParams::new(vec![VI.to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_before = now - time::Duration::HOUR;
        params.not_after = now + time::Duration::days(30);
        params.crl_distribution_points = vec![CrlDistributionPoint {
            uris: vec![list.to_owned()],
        }];
        params.signed_by(key, &self.issuer).unwrap().pem() + &self.pem
    }

    /// Number 7, in files.
    fn identity(&self, root: &Path, list: &str, now: OffsetDateTime) -> Identity {
        let identity = Identity {
            certificate_file: root.join("vi.pem"),
            key_file: root.join("vi.key"),
        };
        let key = KeyPair::generate().unwrap();
        let certificate = self.certificate(7, &key, list, now);
        fs::write(&identity.certificate_file, certificate).unwrap();
        closed(&identity.key_file, key.serialize_pem().as_bytes());
        identity
    }

    fn list(&self, number: u64, revoked: &[u64], now: OffsetDateTime) -> Vec<u8> {
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update: now + time::Duration::days(7),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

/// The entry of a place in `drimbox certs list --format json`.
fn entry(config: &Path, place: &str) -> Value {
    let listed = drimbox(&["certs", "list", "--format", "json"], config);
    assert_eq!(code(&listed), 0, "{}", said(&listed));
    let all: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let found = all.into_iter().find(|one| one["place"] == place);
    found.unwrap_or_else(|| panic!("{place}: {}", said(&listed)))
}

#[test]
fn revocation_of_a_market_certificate_and_the_end_of_an_authority_are_told() {
    run(async {
        let root = folder("certs-market-revoked");
        let now = OffsetDateTime::now_utc();
        let (web, market) = (Web::start(), Market::new(now));
        web.says("404 Not Found", b"");
        let drimbox::config::Source::Url(address) = web.source() else {
            panic!("the web server is no address");
        };
        let vi = market.identity(&root, &address, now);
        let authorities = root.join("market.pem");
        fs::write(&authorities, &market.pem).unwrap();
        let pki = Pki::new(&root.join("pki"), "Centre").unwrap();
        let pacs = PacsConfig::new("ct", "NOBODY", free_port().unwrap())
            .db_host(HOST, &pki.server(&[HOST]).unwrap())
            .vi_host(VI, &vi);
        let config = GatewayConfig::new(&root)
            .unwrap()
            .peer(&pki)
            .unwrap()
            .set("peer.client_ca_file", authorities.display().to_string())
            .pacs(pacs);
        let mut gateway = Gateway::start(config).await.unwrap();
        let file = root.join("drimbox.toml");
        let log = gateway.log_file().to_owned();
        let logged = |part: &str| fs::read_to_string(&log).unwrap().contains(part);

        until("the list that is not there", async || {
            logged("no revocation list from an address")
        })
        .await;
        assert_eq!(entry(&file, "vi:ct")["revocation"], "unknown");
        let name = "drimbox_named_crl_refresh_failures_total";
        assert!(metric(&gateway, name, &[]).await >= 1);

        // The authority, which the listener for peers believes too.
        let place = "authority:peer";
        assert!(logged(place), "its end in 40 days is in the log");
        // As an alert too, though nobody else is to be told.
        until("the alert", async || {
            logged("AUTHORITY de AC du marché expire dans 40 jours (J-60)")
        })
        .await;
        let found = entry(&file, place);
        assert_eq!(found["role"], "AUTHORITY");
        assert_eq!(found["status"], "warning");
        assert_eq!(found["certificate"]["common_name"], "AC du marché");
        let labels = [("place", place)];
        let end = metric(&gateway, "drimbox_certificate_not_after_seconds", &labels).await;
        assert_eq!(i64::try_from(end).unwrap(), market.ends);
        let refused = drimbox(&["certs", "request", place], &file);
        assert_ne!(code(&refused), 0);
        assert!(said(&refused).contains("est une autorité"));

        gateway.stop(GRACE).await.unwrap();
        web.says("200 OK", &market.list(1, &[8], now));
        gateway.restart().await.unwrap();
        until("the list", async || {
            entry(&file, "vi:ct")["revocation"] == "good"
        })
        .await;

        // The list is fetched again when it is old enough.
        gateway.stop(GRACE).await.unwrap();
        web.says("200 OK", &market.list(2, &[7], now));
        for kept in fs::read_dir(root.join("data/revocation")).unwrap() {
            let kept = fs::File::options().write(true).open(kept.unwrap().path());
            let old = SystemTime::now() - Duration::from_secs(7 * 3_600);
            kept.unwrap().set_modified(old).unwrap();
        }
        gateway.restart().await.unwrap();
        until("the log to tell it", async || {
            logged("certificat : révoqué par son autorité")
        })
        .await;
        let found = entry(&file, "vi:ct");
        assert_eq!(found["revocation"], "revoked");
        assert_eq!(found["status"], "critical");
        let check = drimbox(&["certs", "check"], &file);
        assert_eq!(code(&check), 2, "{}", said(&check));
        assert!(said(&check).contains("vi:ct révoqué par son autorité"));
        gateway.stop(GRACE).await.unwrap();

        // Another takes its place; it does not come back, nor one that the list names.
        let import = |serial: u64| {
            let asked = drimbox(&["certs", "request", "vi:ct", "--key", "p256"], &file);
            assert_eq!(code(&asked), 0, "{}", said(&asked));
            let key = fs::read_to_string(root.join("vi.key.nouvelle")).unwrap();
            let key = KeyPair::from_pem(&key).unwrap();
            let received = root.join("recu.pem");
            fs::write(&received, market.certificate(serial, &key, &address, now)).unwrap();
            let received = received.display().to_string();
            drimbox(&["certs", "import", "vi:ct", &received], &file)
        };
        let imported = import(9);
        assert_eq!(code(&imported), 0, "{}", said(&imported));
        let back = drimbox(&["certs", "rollback", "vi:ct"], &file);
        for refused in [back, import(7)] {
            assert_ne!(code(&refused), 0, "{}", said(&refused));
            assert!(said(&refused).contains("révoqué"), "{}", said(&refused));
        }
        assert_eq!(entry(&file, "vi:ct")["revocation"], "good");
    });
}
