//! `[trust]`: what the gateway believes about other DRIMboxes.

use std::path::PathBuf;
use std::time::Duration;

use super::http_proxy::HttpProxy;

/// `[trust]`
#[derive(Debug, Clone)]
pub struct Trust {
    /// Folder of revocation lists and white lists; `data_dir/trust`.
    pub folder: PathBuf,
    /// Which IGC Santé.
    pub environment: TrustEnvironment,
    /// Certificates of the root and of the issuing authority, PEM or DER.
    pub authority_files: Vec<PathBuf>,
    /// Common names of the authorities that may issue peers.
    pub issuing_authorities: Vec<String>,
    /// Extended key usages of peers.
    pub key_usage: PeerKeyUsage,
    /// Where revocation lists come from, besides the addresses in the authorities' certificates.
    pub crl_sources: Vec<Source>,
    /// Time between two downloads of revocation lists.
    pub crl_refresh: Duration,
    /// Hosts whose addresses in certificates of peers are asked: revocation lists and OCSP responders.
    pub revocation_hosts: Vec<String>,
    /// What OCSP responders are asked for.
    pub ocsp: OcspUse,
    /// Outgoing HTTP proxy of every download.
    pub http_proxy: Option<HttpProxy>,
    /// Longest bypass of missing or expired revocation lists.
    pub max_bypass: Duration,
    /// `[trust.white_list]`
    pub white_list: WhiteListSettings,
}

/// Which IGC Santé: real or test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrustEnvironment {
    /// IGC-SANTE.
    Production,
    /// IGC-SANTE TEST.
    Test,
}

/// Extended key usages that let a peer in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKeyUsage {
    /// `clientAuth` or `serverAuth`.
    Either,
    /// That of the side the peer is on.
    Strict,
}

/// What OCSP responders are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspUse {
    /// Nothing.
    Off,
    /// Whether a certificate is revoked that the revocation lists let in.
    Tighten,
}

/// Where a list comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An address, `http` or `https`.
    Url(String),
    /// A file that somebody else keeps up to date.
    File(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => f.write_str(url),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// `[trust.white_list]`
#[derive(Debug, Clone)]
pub struct WhiteListSettings {
    /// Tried in order until one gives a list.
    pub sources: Vec<Source>,
    /// Authorities of the web servers among the sources, PEM.
    pub ca_file: PathBuf,
    /// Common name of the signer.
    pub signer_name: String,
    /// Organisational unit of the signer.
    pub signer_unit: String,
    /// Time since the list was last confirmed after which it counts for nothing.
    pub max_age: Duration,
    /// Time since the list was last confirmed after which there is an alarm.
    pub alarm_after: Duration,
    /// Time since the list was signed after which there is an alarm; `None`: there is none.
    pub signed_alarm_after: Option<Duration>,
    /// Share of domains that a new list may lose without confirmation, percent.
    pub max_loss_percent: u8,
}
