//! The typed, validated configuration: what the rest of the gateway sees.
//!
//! Values of these types were checked by [`super::load`]: paths are absolute, names are unique,
//! numbers are within their limits. Durations come from keys in seconds.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::audit::AuditTrail;
use ipnet::IpNet;

/// The whole configuration of one DRIMbox.
#[derive(Debug, Clone)]
pub struct Config {
    /// Folder of everything the gateway writes. `cache/` in it holds the images.
    pub data_dir: PathBuf,
    /// `[log]`
    pub log: Log,
    /// `[admin]`
    pub admin: Admin,
    /// `[local]`: DICOMweb for the centre's own network. Absent: no such listener.
    pub local: Option<LocalListener>,
    /// `[peer]`: DICOMweb for other DRIMboxes on the `db` names. Absent: no such listener.
    pub peer: Option<PeerListener>,
    /// `[consumer]`: exams of other DRIMboxes. Absent: none is fetched.
    pub consumer: Option<Consumer>,
    /// `[trust]`: which DRIMboxes are believed. Absent: no such decision.
    pub trust: Option<super::Trust>,
    /// `[dimse]`: the gateway as a DICOM application entity.
    pub dimse: Dimse,
    /// `[cache]`
    pub cache: Cache,
    /// `[dicomweb]`
    pub dicomweb: Dicomweb,
    /// `[limits]`
    pub limits: Limits,
    /// `[pixels]`
    pub pixels: Pixels,
    /// `[psc]`: Pro Santé Connect. Absent: nobody logs in, no token is accepted.
    pub psc: Option<super::Psc>,
    /// `[acme]`: certificates of the `vi` names. Absent: none is obtained.
    pub acme: Option<super::Acme>,
    /// `[alerts]`: who is told of certificates about to expire. Absent: the log alone.
    pub alerts: Option<super::Alerts>,
    /// `[keys]`
    pub keys: super::Keys,
    /// `[[watched]]`, with distinct names.
    pub watched: Vec<super::WatchedCertificate>,
    /// `[dmp]`: where the DMP is.
    pub dmp_server: Option<super::DmpServer>,
    /// `[[dmp.structures]]`, with distinct names.
    pub dmp: Vec<super::DmpStructure>,
    /// `[login]`
    pub login: super::Login,
    /// `[viewer]`
    pub viewer: super::ViewerSettings,
    /// `[audit]`
    pub audit: AuditTrail,
    /// `[[pacs]]`, at least one, with distinct names and host names.
    pub pacs: Vec<Pacs>,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// Form of a log line.
    pub format: LogFormat,
    /// Filter in the syntax of `tracing_subscriber::EnvFilter`, for example `info`.
    pub filter: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text.
    Human,
    /// One JSON object.
    Json,
}

/// `[admin]`: health and metrics.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Address; loopback unless the administrator says otherwise.
    pub listen: SocketAddr,
}

/// A kind of DICOMweb resource that a listener may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// WADO-RS: retrieve and metadata.
    Wado,
    /// QIDO-RS: search.
    Qido,
}

/// `[local]`
#[derive(Debug, Clone)]
pub struct LocalListener {
    /// Address; loopback by default. Elsewhere `tls` and `tokens_file` are required.
    pub listen: SocketAddr,
    /// Path under which the DICOMweb service of the default PACS stands, for example
    /// `/dicom-web`. Every PACS also answers under `/pacs/NAME` + this path.
    pub base_path: String,
    /// Public root for URLs in answers (`RetrieveURL`, `BulkDataURI`), without the base path;
    /// `None`: taken from the request's `Host`.
    pub public_url: Option<String>,
    /// Name of the PACS behind `base_path`; the first of the file unless chosen.
    pub default_pacs: String,
    /// Certificate of this listener.
    pub tls: Option<ServerIdentity>,
    /// File of bearer tokens, one `name token` a line.
    pub tokens_file: Option<PathBuf>,
    /// What it offers.
    pub resources: BTreeSet<Resource>,
}

/// A certificate chain and its private key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Certificate first, then its intermediates.
    pub certificate_file: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1), readable by the service alone.
    pub key_file: PathBuf,
}

/// `[peer]`
#[derive(Debug, Clone)]
pub struct PeerListener {
    /// Address.
    pub listen: SocketAddr,
    /// Path under which the DICOMweb service stands on each `db` name.
    pub base_path: String,
    /// Public port in URLs of answers; `None`: that of `listen`, left out when 443.
    pub public_port: Option<u16>,
    /// What peers must show.
    pub gate: Gate,
    /// Whether the INS of the KOS is added to the images that leave for a peer.
    pub add_ins: bool,
    /// Whether exams that are masked to professionals are served to those who have their KOS.
    pub serve_masked: bool,
    /// What it offers; WADO-RS alone unless chosen.
    pub resources: BTreeSet<Resource>,
    /// Who asks whether the service is up, on `db` and `vi` names.
    pub healthcheck: Healthcheck,
}

/// What peers must show on `db` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// All that DRIM-M asks for: a certificate of the white list, a professional's token, the KOS.
    Full,
    /// A certificate of these authorities, and nothing else: for a laboratory.
    None {
        /// PEM file of the authorities.
        client_ca_file: PathBuf,
    },
}

/// What answers those who watch the service from outside.
#[derive(Debug, Clone)]
pub struct Healthcheck {
    /// Paths, from the root of each name; none closes it.
    pub paths: Vec<String>,
    /// Whether `db` names answer it to clients without certificate. TLS then lets such clients in,
    /// and every other request of theirs is refused.
    pub without_certificate: bool,
    /// File of the addresses it is answered to, one address or network (CIDR) a line; `None`: to
    /// all.
    pub addresses_file: Option<PathBuf>,
}

/// `[consumer]`
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Form of images that is asked for first.
    pub prefer: PreferredImages,
    /// Ports that the URLs of a KOS may have.
    pub ports: Vec<u16>,
    /// Networks that peers may stand in though they are not public.
    pub private_networks: Vec<IpNet>,
    /// Requests to one peer at once.
    pub max_requests: usize,
    /// Series of one exam fetched at once.
    pub series_at_once: usize,
    /// Times that a series is asked for.
    pub attempts: u32,
    /// Whether single instances are asked for when a series came short.
    pub ask_for_instances: bool,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time without any byte from the peer while an answer is due.
    pub response_timeout: Duration,
    /// Time an idle connection is kept for the next request.
    pub idle_timeout: Duration,
    /// Bytes of one instance.
    pub max_instance_bytes: u64,
    /// Bytes of one series.
    pub max_series_bytes: u64,
    /// PEM file of the authorities that the certificates of `peers` must chain to.
    pub ca_file: Option<PathBuf>,
    /// The certificate that peers are shown; that of the first `db` name unless chosen.
    pub identity: ServerIdentity,
    /// `[[consumer.peers]]`: DRIMboxes that are trusted besides those of the white list.
    pub peers: Vec<KnownPeer>,
    /// `[[consumer.addresses]]`: where DRIMboxes are found, by `db` host name, instead of where their
    /// names lead. Whether they are trusted is said elsewhere.
    pub addresses: Vec<(String, SocketAddr)>,
}

/// Form of images that is asked for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreferredImages {
    /// Compressed without loss.
    Lossless,
    /// Compressed with loss.
    Lossy,
}

/// `[[consumer.peers]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPeer {
    /// Its `db` host name, in lower case.
    pub db_host: String,
    /// Where it is; `None`: where the name leads.
    pub address: Option<SocketAddr>,
}

/// `[dimse]`
#[derive(Debug, Clone)]
pub struct Dimse {
    /// AE title of the gateway.
    pub ae_title: AeTitle,
    /// Address of the gateway's storage SCP, which C-MOVE needs; `None`: no such listener.
    pub listen: Option<SocketAddr>,
    /// TLS of that listener.
    pub tls: Option<ServerIdentity>,
    /// Authorities that clients of that listener must chain to; needs `tls`.
    pub client_ca_file: Option<PathBuf>,
    /// Associations accepted at once.
    pub max_associations: usize,
}

/// `[cache]`
#[derive(Debug, Clone)]
pub struct Cache {
    /// Folder; `data_dir/cache` by default.
    pub dir: PathBuf,
    /// Bytes kept at most.
    pub max_bytes: u64,
    /// Free bytes left on the file system at least; below, images pass through unkept.
    pub min_free_bytes: u64,
    /// Age after which the PACS is asked again what a study holds.
    pub revalidate_after: Duration,
    /// Whether a complete cached series is served while the PACS cannot be asked.
    pub serve_when_unreachable: bool,
}

/// `[dicomweb]`: how clients are answered, on every listener.
#[derive(Debug, Clone)]
pub struct Dicomweb {
    /// What a client that names no transfer syntax is sent.
    pub unnamed_transfer_syntax: UnnamedSyntax,
    /// Web origins (RFC 6454) whose pages may read answers of the local listener; none unless
    /// chosen. Peers are never answered to pages of another origin.
    pub cors_origins: Vec<String>,
}

/// What a client that names no transfer syntax is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnnamedSyntax {
    /// Explicit VR Little Endian, the default of PS3.18 §8.7.3.3: pixels are decoded.
    ExplicitVrLittleEndian,
    /// What is stored.
    AsStored,
}

/// `[limits]`
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections open at once, all HTTP listeners together.
    pub max_connections: usize,
    /// Connections open at once that come from one address, on the `db` and `vi` names.
    pub max_connections_per_address: usize,
    /// Age at which a connection is asked to finish; its running requests do.
    pub max_connection_age: Duration,
    /// Requests in progress at once; beyond: 503 with `Retry-After`.
    pub max_requests: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time for the head of a request.
    pub header_timeout: Duration,
    /// Time without a byte accepted by the client after which its transfer is ended.
    pub idle_timeout: Duration,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// Time given to running transfers when the service stops.
    pub grace_period: Duration,
    /// Matches of one search held at most; beyond: the answer is cut with a `Warning`.
    pub max_matches: usize,
    /// Bytes of one instance without its bulk data (metadata, search answers).
    pub max_head_bytes: usize,
}

/// `[pixels]`: decoding, transcoding and pictures.
#[derive(Debug, Clone)]
pub struct Pixels {
    /// Images worked on at once; `None`: one for each processor.
    pub jobs: Option<NonZeroUsize>,
    /// Images that wait for their turn at most; beyond: 503 with `Retry-After`.
    pub max_waiting: usize,
    /// Bytes that the images worked on take together, as estimated from their heads; also what one
    /// process of a codec may take.
    pub max_memory_bytes: u64,
    /// Bytes of one frame, decoded or as it is stored.
    pub max_frame_bytes: u64,
    /// Bytes of transcoded instances that wait for their clients, in memory and on disk; beyond: 503
    /// with `Retry-After`.
    pub max_spool_bytes: u64,
    /// Time for a codec process to decode or encode one frame.
    pub codec_timeout: Duration,
}

/// An application entity title (PS3.8 §9.3.2): 1 to 16 characters, printable ASCII without
/// backslash, no space at either end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AeTitle(pub(super) String);

impl AeTitle {
    /// Checks and keeps a title; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\0']);
        let fits = (1..=16).contains(&text.len())
            && text
                .bytes()
                .all(|b| (0x20..0x7f).contains(&b) && b != b'\\');
        fits.then(|| Self(text.to_owned()))
    }

    /// The title without padding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for AeTitle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[[pacs]]`: one PACS, with its host names and its ways.
#[derive(Debug, Clone)]
pub struct Pacs {
    /// Short name (`[a-z0-9-]{1,32}`): in URLs of the local listener, logs and metrics.
    pub name: String,
    /// Host name for peers (SERV_SSL certificate, one per PACS).
    pub db_host: Option<String>,
    /// Certificate of `db_host`.
    pub db_tls: Option<ServerIdentity>,
    /// Host name of the viewer link, on the listener of `[peer]`.
    pub vi_host: Option<String>,
    /// Certificate of `vi_host`; `None`: it is obtained while the service runs, and the name is
    /// refused until then.
    pub vi_tls: Option<ServerIdentity>,
    /// How it is reached: `[pacs.dimse]` or `[pacs.dicomweb]`.
    pub upstream: Upstream,
    /// `[pacs.quirks]`
    pub quirks: Quirks,
}

impl Pacs {
    /// The PACS as a DICOM application entity, when it is reached so.
    #[must_use]
    pub fn dimse(&self) -> Option<&PacsDimse> {
        match &self.upstream {
            Upstream::Dimse(dimse) => Some(dimse),
            Upstream::Dicomweb(_) => None,
        }
    }

    /// TLS towards the PACS.
    #[must_use]
    pub fn tls(&self) -> Option<&ClientTls> {
        match &self.upstream {
            Upstream::Dimse(dimse) => dimse.tls.as_ref(),
            Upstream::Dicomweb(web) => web.tls.as_ref(),
        }
    }
}

/// How a PACS is reached.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// DIMSE services.
    Dimse(PacsDimse),
    /// DICOMweb services.
    Dicomweb(PacsDicomweb),
}

/// `[pacs.dicomweb]`: the PACS as a DICOMweb origin server (PS3.18).
#[derive(Debug, Clone)]
pub struct PacsDicomweb {
    /// Root of its service, without a slash at the end: scheme, host, port and path.
    pub root: String,
    /// Host name or address in `root`.
    pub host: String,
    /// TCP port in `root`, or that of its scheme.
    pub port: u16,
    /// TLS; `None` for a root in `http`.
    pub tls: Option<ClientTls>,
    /// Who the gateway says it is.
    pub authentication: Authentication,
    /// Requests under way at once.
    pub max_requests: usize,
    /// Time an idle connection is kept for the next request.
    pub idle_timeout: Duration,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time without any byte from the PACS while an answer is due.
    pub response_timeout: Duration,
    /// Requests that wait for their turn at most; beyond: 503.
    pub max_waiting: usize,
}

/// Who the gateway says it is to a DICOMweb server, besides its client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Nobody.
    None,
    /// A user with a password (RFC 7617).
    Basic {
        /// User name.
        username: String,
        /// File whose first line is the password, readable by the service alone.
        password_file: PathBuf,
    },
    /// A token (RFC 6750).
    Bearer {
        /// File whose first line is the token, readable by the service alone.
        token_file: PathBuf,
    },
}

/// `[pacs.dimse]`: the PACS as a DICOM application entity.
#[derive(Debug, Clone)]
pub struct PacsDimse {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// AE title of the PACS (called).
    pub ae_title: AeTitle,
    /// AE title the gateway takes towards this PACS (calling).
    pub calling_ae_title: AeTitle,
    /// How images are asked for.
    pub retrieve: RetrieveMethod,
    /// TLS towards the PACS.
    pub tls: Option<ClientTls>,
    /// Associations open at once, all services together.
    pub max_associations: usize,
    /// Time an idle association is kept for the next query.
    pub idle_timeout: Duration,
    /// Time to connect and negotiate.
    pub connect_timeout: Duration,
    /// Time without any byte from the PACS while an answer is due.
    pub response_timeout: Duration,
    /// Largest PDU the gateway accepts, bytes.
    pub max_pdu: u32,
    /// Requests that wait for a free association at most; beyond: 503.
    pub max_waiting: usize,
}

/// How images are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetrieveMethod {
    /// C-GET: images come back on the association of the request.
    Get,
    /// C-MOVE: images come to the gateway's own storage SCP.
    Move,
}

/// TLS towards a PACS.
#[derive(Debug, Clone)]
pub struct ClientTls {
    /// Authorities the PACS's certificate must chain to.
    pub ca_file: PathBuf,
    /// Name expected in that certificate; `host` by default.
    pub server_name: String,
    /// Client certificate.
    pub identity: Option<ServerIdentity>,
}

/// `[pacs.quirks]`: what this PACS does differently from the standard.
#[derive(Debug, Clone)]
pub struct Quirks {
    /// False: series and image queries must name every parent UID; wide searches below the study
    /// level are resolved level by level.
    pub relational_queries: bool,
    /// False: the PACS leaves out or miscounts `NumberOf…Related…`; the gateway counts itself.
    pub related_counts: bool,
    /// The PACS silently stops after this many matches; reaching it is reported as incomplete.
    pub max_results: Option<usize>,
    /// Character set (defined term of (0008,0005)) of texts that declare none, or declare wrongly.
    pub charset: Option<String>,
    /// True: `charset` replaces what the PACS declares.
    pub charset_overrides: bool,
    /// False: (0008,0005) is not sent in queries that are plain ASCII.
    pub send_charset: bool,
    /// True: images are asked for uncompressed only, for a PACS that fails to send compressed.
    pub uncompressed_only: bool,
    /// False: a DICOMweb server that does not undo percent-encoding (RFC 3986 §2.1) in values to
    /// match; what needs it is asked for with the wildcard `?` in its place.
    pub decodes_queries: bool,
    /// True: a DICOMweb server that matches names by their meaning where it is asked to, and warns
    /// where it does not (PS3.18 §8.3.4.2). Many leave the parameter out without a word.
    pub fuzzy_matching: bool,
}
