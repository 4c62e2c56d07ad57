//! A network of DRIMboxes in small: an IGC Santé, its revocation lists, a signed white list, and a
//! provider with the shape of Pro Santé Connect; and what a gateway is told to be part of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use time::{Duration, OffsetDateTime};
use toml::{Table, Value};

use super::igc::{Authority, CrlSpec, Igc, Leaf, LeafSpec};
use super::psc::{PscClient, PscProvider};
use super::whitelist::{Entry, ListSpec, Profile};
use super::{GatewayConfig, Identity, KitError, Pki};

/// A running network.
#[derive(Debug)]
pub struct Network {
    home: PathBuf,
    igc: Igc,
    signer: Leaf,
    pki: Pki,
    /// The provider of tokens.
    pub provider: PscProvider,
    start: OffsetDateTime,
}

impl Network {
    /// Starts one whose files are in `home`, without any revoked certificate, and with these `db` names in
    /// its white list. `clients` may ask for tokens, and have them checked. `build` is a folder that
    /// outlives the run, where npm installs the provider once.
    ///
    /// # Errors
    /// When a file cannot be written, or the provider does not start.
    pub async fn start(
        home: &Path,
        build: &Path,
        hosts: &[&str],
        clients: &[&str],
    ) -> Result<Self, KitError> {
        fs::create_dir_all(home).map_err(KitError::io("create", home))?;
        let start = OffsetDateTime::now_utc();
        let igc = Igc::new(true, start)?;
        igc.write(home, &[Authority::Root, Authority::Organisations])?;
        let signer = igc.leaf(&LeafSpec::signer())?;
        let pki = Pki::new(&home.join("pki"), "Test CA")?;
        let provider = PscProvider::start(build, &home.join("psc"), &pki).await?;
        let known: Vec<_> = clients
            .iter()
            .map(|client| PscClient::new(client))
            .collect();
        provider.register(&known).await?;
        let network = Self {
            home: home.to_owned(),
            igc,
            signer,
            pki,
            provider,
            start,
        };
        let root = network.igc.crl(Authority::Root, &CrlSpec::default())?;
        network.write("root.crl", &root)?;
        network.revoke(0, &[])?;
        network.list(0, hosts)?;
        Ok(network)
    }

    /// Publishes the revocation list of that number, with these serial numbers.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn revoke(&self, number: u64, revoked: &[u64]) -> Result<(), KitError> {
        self.revocation_list(&CrlSpec {
            number: 10 + number,
            revoked: revoked.to_vec(),
            ..CrlSpec::default()
        })
    }

    /// Publishes this revocation list of the authority that issues peers.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn revocation_list(&self, spec: &CrlSpec) -> Result<(), KitError> {
        let list = self.igc.crl(Authority::Organisations, spec)?;
        self.write("organisations.crl", &list).map(drop)
    }

    /// Publishes a white list, signed so many minutes after the first.
    ///
    /// # Errors
    /// When it cannot be signed or written.
    pub fn list(&self, minutes: i64, hosts: &[&str]) -> Result<(), KitError> {
        let entries = hosts.iter().map(|host| Entry::peer(host)).collect();
        let signed = self.start - Duration::HOUR + Duration::minutes(minutes);
        let list = ListSpec::new(Profile::Two, entries, signed).sign(&self.signer)?;
        self.write("whitelist.xml", list.as_bytes()).map(drop)
    }

    /// A certificate with the one above it, and its key, in files of this name; new ones replace them.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn identity(&self, name: &str, spec: &LeafSpec) -> Result<Identity, KitError> {
        let leaf = self.igc.leaf(spec)?;
        let identity = Identity {
            certificate_file: self.home.join(format!("{name}.pem")),
            key_file: self.home.join(format!("{name}.key")),
        };
        let above = self.igc.certificate(Authority::Organisations).pem();
        let chain = leaf.certificate.pem() + &above;
        let key = leaf.key.serialize_pem();
        replace(&identity.key_file, key.as_bytes(), 0o600)?;
        replace(&identity.certificate_file, chain.as_bytes(), 0o644)?;
        Ok(identity)
    }

    /// The root of the IGC, in PEM: what a client that is no DRIMbox needs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn root_file(&self) -> Result<PathBuf, KitError> {
        let root = self.igc.certificate(Authority::Root).pem();
        self.write("root.pem", root.as_bytes())
    }

    /// Makes a gateway part of the network: its listener with every gate, whom it trusts, and the client
    /// it is for the provider.
    ///
    /// # Errors
    /// When its certificate for the provider cannot be made.
    pub fn join(&self, config: GatewayConfig, client: &str) -> Result<GatewayConfig, KitError> {
        let psc = self.pki.client(client)?;
        let at = |name: &str| self.home.join(name).display().to_string();
        let text = |path: &Path| path.display().to_string();
        Ok(config
            .set("peer.base_path", "/dicom-web")
            .set("trust.environment", "test")
            .set(
                "trust.authority_files",
                vec![at("Root.cer"), at("Organisations.cer")],
            )
            .set(
                "trust.crl_sources",
                vec![at("root.crl"), at("organisations.crl")],
            )
            .set("trust.white_list.sources", vec![at("whitelist.xml")])
            .set("psc.environment", "custom")
            .set("psc.issuer", self.provider.issuer())
            .set("psc.client_id", client)
            .set("psc.certificate_file", text(&psc.certificate_file))
            .set("psc.key_file", text(&psc.key_file))
            .set("psc.ca_file", text(self.pki.ca_file())))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, KitError> {
        let path = self.home.join(name);
        replace(&path, bytes, 0o644)?;
        Ok(path)
    }
}

/// `[[consumer.addresses]]`: where DRIMboxes are found.
#[must_use]
pub fn addresses(known: &[(&str, String)]) -> Vec<Value> {
    let table = |(host, address): &(&str, String)| {
        let mut table = Table::new();
        table.insert("db_host".into(), (*host).into());
        table.insert("address".into(), address.clone().into());
        Value::Table(table)
    };
    known.iter().map(table).collect()
}

/// Writes a file as those do who publish: readers see the old one or the new one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), KitError> {
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let mut file = options.open(&new).map_err(KitError::io("create", &new))?;
    file.write_all(bytes).map_err(KitError::io("write", &new))?;
    fs::rename(&new, path).map_err(KitError::io("rename", &new))
}
