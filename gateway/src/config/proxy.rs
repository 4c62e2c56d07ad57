//! The file of the proxy e-santé (`drimbox proxy`): apart from the gateway's, with keys of its own.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::error::ConfigError;
use super::http_proxy::{HttpProxy, http_proxy};
use super::keys::{self, Keys};
use super::model::{Limits, Log, ServerIdentity};
use super::psc::{PscEnvironment, SYSTEM_AUTHORITIES};
use super::section::{Section, Source};
use super::value::{Fault, Value};
use super::{Problem, error, files, psc, read, read_file};

/// Where the proxy reads its configuration unless told otherwise.
pub const DEFAULT_PROXY_FILE: &str = "/etc/drimbox-proxy/proxy.toml";

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The configuration of a proxy e-santé.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// `[log]`
    pub log: Log,
    /// `[limits]`, as for the gateway.
    pub limits: Limits,
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificate of the listener; absent on loopback only.
    pub tls: Option<ServerIdentity>,
    /// Authorities of the certificates that the software of professionals must show.
    pub client_ca_file: Option<PathBuf>,
    /// Address of health and metrics, in clear.
    pub admin: SocketAddr,
    /// Largest body of a request, and of an answer of an API, bytes.
    pub max_body_bytes: usize,
    /// Life of a session.
    pub session_lifetime: Duration,
    /// While a session is in use, its tokens of Pro Santé Connect are renewed this often.
    pub keep_alive: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
    /// Logins that wait for their user at once.
    pub max_pending: usize,
    /// Folder of what is kept of sessions, sealed, to end them after a crash.
    pub sessions_dir: PathBuf,
    /// The key that seals them; made when it is not there.
    pub sessions_key_file: PathBuf,
    /// `[keys]`
    pub keys: Keys,
    /// `[psc]`
    pub psc: ProxyPsc,
    /// `[traces]`
    pub traces: ProxyTraces,
    /// `[[client]]`, at least one, with distinct Client IDs.
    pub clients: Vec<ProxyClient>,
    /// `[[api]]`, with distinct names.
    pub apis: Vec<ProxyApi>,
}

/// `[psc]` of the proxy: what is the same for all its clients.
#[derive(Debug, Clone)]
pub struct ProxyPsc {
    /// Which Pro Santé Connect.
    pub environment: PscEnvironment,
    /// Authorities that the servers of PSC and of the APIs must chain to.
    pub ca_file: PathBuf,
    /// Outgoing HTTP proxy, asked with CONNECT.
    pub http_proxy: Option<HttpProxy>,
    /// From a request to the last byte of its answer.
    pub timeout: Duration,
    /// To open a connection.
    pub connect_timeout: Duration,
    /// How far clocks may differ.
    pub clock_leeway: Duration,
}

/// `[traces]`
#[derive(Debug, Clone)]
pub struct ProxyTraces {
    /// Folder of the files.
    pub dir: PathBuf,
    /// Size after which a new file is begun.
    pub max_file_bytes: u64,
    /// Files kept; the oldest goes.
    pub max_files: usize,
    /// Whether `GET /traces` answers: for the conformity test only.
    pub serve: bool,
}

/// One `[[client]]`: a Client ID and its ORG_AUTH_CLI certificate.
#[derive(Debug, Clone)]
pub struct ProxyClient {
    /// Client ID, which is also the CN of the certificate.
    pub client_id: String,
    /// ORG_AUTH_CLI certificate and its key.
    pub identity: ServerIdentity,
}

/// One `[[api]]`: an "API Pro Santé Connectée".
#[derive(Debug, Clone)]
pub struct ProxyApi {
    /// First segment after `/send/`.
    pub name: String,
    /// Root below which requests are sent.
    pub url: Url,
    /// Where its authorisation server exchanges tokens (RFC 8693).
    pub token_url: Url,
    /// Where tokens are revoked (RFC 7009), if it is offered.
    pub revocation_url: Option<Url>,
    /// `scope`, which the guide makes mandatory.
    pub scope: String,
    /// `audience`, where the server wants one.
    pub audience: Option<String>,
    /// `subject_issuer`, where the server (Keycloak) wants one.
    pub subject_issuer: Option<String>,
    /// Time for a whole exchange with the API.
    pub timeout: Duration,
}

/// Reads, checks and completes the configuration of one proxy e-santé.
///
/// # Errors
/// As [`load`](super::load).
pub fn load_proxy(path: &Path) -> Result<ProxyConfig, ConfigError> {
    let (text, base) = read_file(path)?;
    parse_with(&text, &base, false).map_err(|problems| ConfigError::Invalid {
        file: PathBuf::from(path),
        problems,
    })
}

/// The same for commands that obtain certificates: those of the proxy, and their keys, need not be there yet.
///
/// # Errors
/// Those of [`load_proxy`].
pub fn load_proxy_awaiting_certificates(path: &Path) -> Result<ProxyConfig, ConfigError> {
    let (text, base) = read_file(path)?;
    parse_with(&text, &base, true).map_err(|problems| ConfigError::Invalid {
        file: PathBuf::from(path),
        problems,
    })
}

#[cfg(test)]
fn parse(text: &str, base: &Path) -> Result<ProxyConfig, Vec<Problem>> {
    parse_with(text, base, false)
}

fn parse_with(text: &str, base: &Path, awaiting: bool) -> Result<ProxyConfig, Vec<Problem>> {
    let (document, faults) = toml::de::DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        return Err(faults.iter().map(|f| error::syntax(text, f)).collect());
    }
    let source = Source::new(text, base);
    if awaiting {
        source.await_identities();
    }
    let config = config(Section::root(&source, document.get_ref()));
    match (config, source.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(problems),
    }
}

fn config(root: Section<'_>) -> Option<ProxyConfig> {
    // First: private keys are opened with it.
    let keys = keys::read(root.section("keys"));
    let log = read::log(root.section("log"));
    let limits = read::limits(root.section("limits"));
    let listen = root.section("listen");
    let address = listen.or(
        "address",
        SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
        |v| v.address(),
    );
    let certificate_file = listen.optional("certificate_file", files::own_certificates);
    let key_file = listen.optional("key_file", files::private_key);
    let client_ca_file = listen.optional("client_ca_file", files::certificates);
    let max_body_bytes = listen.or("max_body_bytes", 10 * MIB, |v| v.bytes(1024..=256 * MIB));
    let tls = certificate_file
        .zip(key_file)
        .map(|(certificate_file, key_file)| ServerIdentity {
            certificate_file,
            key_file,
        });
    reachable(&listen, address, tls.is_some(), client_ca_file.is_some());
    listen.finish();
    let admin = health(root.section("admin"), address);
    let session = root.section("session");
    let session_lifetime = session.or("lifetime_seconds", Duration::from_secs(14_400), |v| {
        v.seconds(1.0..=14_400.0)
    });
    // 30 minutes without a question ended a session in 2023: the value of today is not published.
    let keep_alive = session.or("keep_alive_seconds", Duration::from_secs(300), |v| {
        v.seconds(1.0..=1_500.0)
    });
    let max_sessions = session.or("max_sessions", 1_000, |v| v.integer(1..=100_000));
    let max_pending = session.or("max_pending", 64, |v| v.integer(1..=10_000));
    let state = Path::new("/var/lib/drimbox-proxy");
    let sessions_dir = session.or("dir", state.join("sessions"), |v| v.path());
    let sessions_key_file = session.or("key_file", state.join("sessions.key"), |v| v.path());
    session.finish();
    let psc = shared(root.section("psc"));
    let traces = traces(root.section("traces"));
    let clients: Vec<_> = root.sections("client").into_iter().map(client).collect();
    if clients.is_empty() {
        root.fault(
            "client",
            Fault::new(
                "aucun Client ID n'est déclaré",
                "ajouter une section [[client]] avec client_id, certificate_file et key_file",
            ),
        );
    }
    let apis: Vec<_> = root.sections("api").into_iter().map(api).collect();
    let clients = clients.into_iter().collect::<Option<Vec<_>>>();
    let apis = apis.into_iter().collect::<Option<Vec<_>>>();
    let ids = clients.iter().flatten().map(|one| one.client_id.as_str());
    distinct(&root, "client", ids);
    let names = apis.iter().flatten().map(|one| one.name.as_str());
    distinct(&root, "api", names);
    root.finish();
    Some(ProxyConfig {
        log,
        limits,
        listen: address,
        tls,
        client_ca_file,
        admin,
        max_body_bytes: usize::try_from(max_body_bytes).unwrap_or(usize::MAX),
        session_lifetime,
        keep_alive,
        max_sessions,
        max_pending,
        sessions_dir,
        sessions_key_file,
        keys,
        psc: psc?,
        traces,
        clients: clients?,
        apis: apis?,
    })
}

/// Whoever reaches the proxy acts for its professionals: only the machine itself does so in clear text, and without
/// a certificate.
fn reachable(listen: &Section<'_>, address: SocketAddr, tls: bool, clients_known: bool) {
    for (key, other) in [
        ("certificate_file", "key_file"),
        ("key_file", "certificate_file"),
    ] {
        if listen.has(key) && !listen.has(other) {
            let missing = format!("{other} manque");
            listen.fault(key, Fault::new(missing, "indiquer les deux fichiers"));
        }
    }
    if listen.has("client_ca_file") && !tls {
        listen.fault(
            "client_ca_file",
            Fault::new(
                "sans TLS, aucun certificat n'est demandé aux logiciels",
                "indiquer certificate_file et key_file",
            ),
        );
    }
    if !(address.ip().is_loopback() || tls && clients_known) {
        listen.fault(
            "address",
            Fault::new(
                "le proxy serait joignable du réseau sans chiffrement, ou sans certificat des logiciels",
                "indiquer certificate_file, key_file et client_ca_file, ou écouter sur 127.0.0.1",
            ),
        );
    }
}

/// `[admin]`: a port of its own, as for the gateway.
fn health(section: Section<'_>, service: SocketAddr) -> SocketAddr {
    let default = SocketAddr::from((Ipv4Addr::LOCALHOST, 9081));
    let admin = section.or("listen", default, |v| v.address());
    let everywhere = admin.ip().is_unspecified() || service.ip().is_unspecified();
    if admin.port() == service.port() && (everywhere || admin.ip() == service.ip()) {
        section.fault(
            "listen",
            Fault::new(
                format!("le port {} est déjà celui de [listen]", admin.port()),
                "choisir un autre port, par exemple listen = \"127.0.0.1:9081\"",
            ),
        );
    }
    section.finish();
    admin
}

fn shared(section: Section<'_>) -> Option<ProxyPsc> {
    let environment = psc::environment_of(&section);
    if !section.has("environment") {
        section.fault(
            "environment",
            Fault::new(
                "clé obligatoire absente",
                "choisir \"bas\" (bac à sable) ou \"production\"",
            ),
        );
    }
    let ca_file = section.or(
        "ca_file",
        PathBuf::from(SYSTEM_AUTHORITIES),
        files::certificates,
    );
    let http_proxy = section.optional("http_proxy", http_proxy);
    let seconds = |key, default: u64, low: f64, high: f64| {
        section.or(key, Duration::from_secs(default), |v| v.seconds(low..=high))
    };
    let timeout = seconds("timeout_seconds", 10, 0.1, 120.0);
    let connect_timeout = seconds("connect_timeout_seconds", 5, 0.1, 120.0);
    let clock_leeway = seconds("clock_leeway_seconds", 30, 0.0, 300.0);
    section.finish();
    Some(ProxyPsc {
        environment: environment?,
        ca_file,
        http_proxy,
        timeout,
        connect_timeout,
        clock_leeway,
    })
}

fn traces(section: Section<'_>) -> ProxyTraces {
    let dir = PathBuf::from("/var/lib/drimbox-proxy/traces");
    let traces = ProxyTraces {
        dir: section.or("dir", dir, |v| v.path()),
        max_file_bytes: section.or("max_file_bytes", 16 * MIB, |v| v.bytes(4096..=GIB)),
        max_files: section.or("max_files", 64, |v| v.integer(2..=10_000)),
        serve: section.or("serve", false, |v| v.boolean()),
    };
    section.finish();
    traces
}

fn client(section: Section<'_>) -> Option<ProxyClient> {
    let client_id = section.required(
        "client_id",
        "indiquer le Client ID obtenu par Datapass : c'est le CN du certificat ORG_AUTH_CLI",
        psc::client_id,
    );
    let certificate_file = section.required(
        "certificate_file",
        "indiquer le fichier PEM du certificat ORG_AUTH_CLI, suivi de ses intermédiaires",
        files::own_certificates,
    );
    let key_file = section.required(
        "key_file",
        "indiquer le fichier PEM de la clé privée du certificat ORG_AUTH_CLI",
        files::private_key,
    );
    section.finish();
    Some(ProxyClient {
        client_id: client_id?,
        identity: ServerIdentity {
            certificate_file: certificate_file?,
            key_file: key_file?,
        },
    })
}

fn api(section: Section<'_>) -> Option<ProxyApi> {
    let name = section.required(
        "name",
        "donner un nom court à cette API, par exemple name = \"dmp\"",
        api_name,
    );
    let url = section.required("url", "indiquer l'adresse de l'API", https);
    let token_url = section.required(
        "token_url",
        "indiquer l'adresse où son serveur d'autorisation échange les jetons",
        https,
    );
    let revocation_url = section.optional("revocation_url", https);
    let scope = section.required(
        "scope",
        "indiquer la portée (scope) convenue avec l'API : elle est obligatoire",
        |v| v.text().map(str::to_owned),
    );
    let audience = section.optional("audience", |v| v.text().map(str::to_owned));
    let subject_issuer = section.optional("subject_issuer", |v| v.text().map(str::to_owned));
    let timeout = section.or("timeout_seconds", Duration::from_secs(30), |v| {
        v.seconds(0.1..=300.0)
    });
    section.finish();
    Some(ProxyApi {
        name: name?,
        url: url?,
        token_url: token_url?,
        revocation_url,
        scope: scope?,
        audience,
        subject_issuer,
        timeout,
    })
}

fn api_name(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = text.len() <= 32 && text.bytes().all(allowed);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce nom ne convient pas pour une adresse",
            "écrire au plus 32 lettres sans accent, chiffres, tirets ou soulignés",
        )
    })
}

fn https(value: &Value<'_>) -> Result<Url, Fault> {
    psc::https(value).map(|(url, _)| url)
}

fn distinct<'a>(root: &Section<'_>, key: &'static str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            root.fault(
                key,
                Fault::new(
                    format!("« {name} » est déclaré deux fois"),
                    "donner à chaque section un nom différent, ou en retirer une",
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::expect_used
    )]

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const REFERENCE: &str = include_str!("../../../deploy/proxy.reference.toml");

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tls")).unwrap();
        let names = REFERENCE.split('"').filter(|text| text.starts_with("tls/"));
        for name in names {
            let (label, mode) = match name.ends_with(".pem") {
                true => ("CERTIFICATE", 0o644),
                false => ("PRIVATE KEY", 0o600),
            };
            let path = folder.path().join(name);
            let pem = format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n");
            fs::write(&path, pem).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        folder
    }

    fn read(text: &str) -> Result<ProxyConfig, String> {
        read_in(&folder(), text)
    }

    fn read_in(folder: &tempfile::TempDir, text: &str) -> Result<ProxyConfig, String> {
        parse(text, folder.path()).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(Problem::to_string).collect();
            problems.join("\n")
        })
    }

    #[test]
    fn the_reference_loads_and_its_commented_lines_are_the_defaults() {
        let folder = folder();
        let plain = read_in(&folder, REFERENCE).unwrap();
        let lines = REFERENCE.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest,
            _ => line,
        });
        let full = read_in(&folder, &lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(format!("{plain:?}"), format!("{full:?}"));
    }

    #[test]
    fn a_proxy_on_the_network_wants_tls_and_the_certificates_of_software() {
        let open = REFERENCE.replace("client_ca_file", "#client_ca_file");
        let said = read(&open).unwrap_err();
        assert!(said.contains("joignable du réseau"), "{said}");
        let local = "address = \"127.0.0.1:8443\"";
        let near: Vec<_> = open
            .lines()
            .map(|line| match line.starts_with("address") {
                true => local,
                false => line,
            })
            .collect();
        read(&near.join("\n")).unwrap();
    }

    #[test]
    fn two_clients_of_one_name_and_unknown_keys_are_refused() {
        let (_, client) = REFERENCE.split_once("[[client]]").unwrap();
        let client = client.split("[[").next().unwrap();
        let twice = format!("{REFERENCE}\n[[client]]\n{client}");
        assert!(read(&twice).unwrap_err().contains("deux fois"));
        let unknown = format!("{REFERENCE}\nlifetime = 3\n");
        assert!(read(&unknown).unwrap_err().contains("clé inconnue"));
    }
}
