//! A centre with one `db` name, a test IGC Santé, and the commands of its administrator.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use conformance::testkit::gateway::binary;
use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use drimbox::trust::{Clock, Trust};
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::support::folder;

pub(super) const HOST: &str = "db1.certs.example";

pub(super) const SIRET: &str = "318751275100020";

pub(super) const FINESS: &str = "5750000001";

/// `drimbox` with these arguments; how it ended and what it said.
pub(super) fn drimbox(arguments: &[&str], config: &Path) -> Output {
    Command::new(binary().unwrap())
        .args(arguments)
        .env("DRIMBOX_CONFIG", config)
        .env_remove("CREDENTIALS_DIRECTORY")
        .output()
        .unwrap()
}

pub(super) fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

pub(super) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(super) fn closed(path: &Path, content: &[u8]) {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new();
    let file = file.write(true).create_new(true).mode(0o600);
    std::io::Write::write_all(&mut file.open(path).unwrap(), content).unwrap();
}

/// A box of one `db` name with a certificate of a test IGC Santé.
pub(super) struct Centre {
    pub(super) root: PathBuf,
    pub(super) igc: Igc,
    pub(super) config: PathBuf,
}

impl Centre {
    pub(super) fn new(name: &str) -> Self {
        let root = folder(name);
        fs::create_dir_all(&root).unwrap();
        let igc = Igc::new(true, OffsetDateTime::now_utc()).unwrap();
        let both = [Authority::Root, Authority::Organisations];
        igc.write(&root.join("igc"), &both).unwrap();
        let at = root.display();
        let text = format!(
            "data_dir = \"{at}/data\"\n[local]\n[trust]\nenvironment = \"test\"\n\
             authority_files = [\"igc/Root.cer\", \"igc/Organisations.cer\"]\n\
             crl_sources = [\"{at}/root.crl\"]\n\
             [trust.white_list]\nsources = [\"{at}/list.xml\"]\n\
             [[dmp.structures]]\nname = \"centre\"\nstructure = \"{FINESS}\"\n\
             auth = {{ certificate_file = \"auth.pem\", key_file = \"auth.key\" }}\n\
             sign = {{ certificate_file = \"sign.pem\", key_file = \"sign.key\" }}\n\
             [[pacs]]\nname = \"ct\"\ndb_host = \"{HOST}\"\n\
             db_tls = {{ certificate_file = \"db.pem\", key_file = \"db.key\" }}\n\
             [pacs.dimse]\nhost = \"127.0.0.1\"\nae_title = \"PACS\"\n"
        );
        let config = root.join("drimbox.toml");
        fs::write(&config, text).unwrap();
        Self { root, igc, config }
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        drimbox(arguments, &self.config)
    }

    pub(super) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(code(&output), 0, "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks for a certificate; what an authority answers of these.
    pub(super) fn answered(&self, place: &str, key: &str, spec: &LeafSpec) -> PathBuf {
        let unit = if place.starts_with("dmp") {
            FINESS
        } else {
            SIRET
        };
        let name = &spec.common_name;
        let pending = self.root.join(format!("{key}.nouvelle"));
        if !pending.exists() {
            let asked = ["certs", "request", place, "--unit", unit, "--key", "p256"];
            let asked = [&asked[..], &["--common-name", name]].concat();
            let csr = self.ok(&asked);
            assert!(csr.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
        }
        let key = KeyPair::from_pem(&fs::read_to_string(pending).unwrap()).unwrap();
        self.signed(spec, &key)
    }

    pub(super) fn signed(&self, spec: &LeafSpec, key: &impl PublicKeyData) -> PathBuf {
        let leaf = self.igc.leaf_for(spec, key).unwrap();
        let above = self.igc.certificate(Authority::Organisations).pem();
        let file = self.root.join("recu.pem");
        fs::write(&file, leaf.pem() + &above).unwrap();
        file
    }

    /// What the revocation lists say from now on.
    pub(super) fn revoke(&self, number: u64, serials: &[u64]) {
        let settings = drimbox::config::load_awaiting_certificates(&self.config);
        let settings = settings.unwrap().trust.unwrap();
        let trust = Trust::open(settings, Clock::system()).unwrap();
        let root = CrlSpec {
            number,
            ..CrlSpec::default()
        };
        let spec = CrlSpec {
            number,
            revoked: serials.to_vec(),
            ..CrlSpec::default()
        };
        trust
            .take_crl(&self.igc.crl(Authority::Root, &root).unwrap())
            .unwrap();
        trust
            .take_crl(&self.igc.crl(Authority::Organisations, &spec).unwrap())
            .unwrap();
    }

    pub(super) fn import(&self, place: &str, file: &Path) -> Output {
        self.run(&["certs", "import", place, &file.display().to_string()])
    }
}

pub(super) fn good() -> LeafSpec {
    LeafSpec::peer(HOST)
}

/// Asks for another certificate of the `db` name of the gateway in a folder, and imports what an authority answers; `key`
/// reads the key that was made, PEM. The certificate and the key.
pub(super) fn renew(
    root: &Path,
    igc: &Igc,
    key: impl FnOnce() -> String,
) -> (CertificateDer<'static>, String) {
    let file = root.join("drimbox.toml");
    let asked = [
        "certs", "request", "db:ct", "--unit", SIRET, "--key", "p256",
    ];
    let asked = drimbox(&asked, &file);
    assert_eq!(code(&asked), 0, "{}", said(&asked));
    let key = key();
    let spec = LeafSpec {
        dns_names: vec![HOST.into()],
        ..good()
    };
    let leaf = igc
        .leaf_for(&spec, &KeyPair::from_pem(&key).unwrap())
        .unwrap();
    let received = root.join("recu.pem");
    let issuer = igc.certificate(Authority::Organisations).pem();
    fs::write(&received, leaf.pem() + &issuer).unwrap();
    let received = received.display().to_string();
    let done = drimbox(&["certs", "import", &received], &file);
    assert_eq!(code(&done), 0, "{}", said(&done));
    (leaf.der().clone(), key)
}
