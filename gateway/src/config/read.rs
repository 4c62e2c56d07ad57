//! Each section of the file, its keys, their limits and their defaults.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::model::{
    Admin, AeTitle, Cache, ClientTls, Config, Dicomweb, Dimse, Limits, LocalListener, Log,
    LogFormat, Pacs, PacsDimse, Pixels, Quirks, Resource, RetrieveMethod, ServerIdentity,
    UnnamedSyntax, Upstream,
};
use super::section::Section;
use super::{
    acme, alerts, audit, consumer, dmp, files, keys, login, names, pacs_dicomweb, peer, psc, rules,
    trust, viewer, watched,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

pub(super) const RESOURCES: [(&str, Resource); 2] =
    [("wado", Resource::Wado), ("qido", Resource::Qido)];

/// Reads the whole document; `None` when something that has no default is missing or wrong, which
/// is then reported.
pub(super) fn config(root: Section<'_>) -> Option<Config> {
    let sections = Sections {
        admin: root.section("admin"),
        local: root.section("local"),
        peer: root.section("peer"),
        dimse: root.section("dimse"),
        acme: root.section("acme"),
        pacs: root.sections("pacs"),
    };
    // First: private keys are opened with it.
    let keys = keys::read(root.section("keys"));
    let data_dir = root.or("data_dir", PathBuf::from("/var/lib/drimbox"), |v| v.path());
    let log = log(root.section("log"));
    let trust = trust::read(root.section("trust"), &data_dir);
    let admin = admin(&sections.admin);
    let dimse = dimse(&sections.dimse);
    let cache = cache(root.section("cache"), &data_dir);
    let dicomweb = dicomweb(root.section("dicomweb"));
    let limits = limits(root.section("limits"));
    let pixels = pixels(root.section("pixels"));
    let psc = psc::read(root.section("psc"));
    let login = login::read(root.section("login"), &data_dir);
    let viewer = viewer::read(root.section("viewer"));
    let audit = audit::read(root.section("audit"), &data_dir);
    let calling = dimse.as_ref().map(|dimse| dimse.ae_title.clone());
    let pacs: Vec<_> = sections
        .pacs
        .iter()
        .map(|s| pacs(s, calling.as_ref()))
        .collect();
    let local = local(&sections.local, &pacs);
    let peer = peer::read(&sections.peer);
    let acme = acme::read(&sections.acme);
    let alerts_are_there = root.section("alerts").is_present();
    let vi_url = vi_url(&pacs, peer.as_ref());
    let alerts = alerts::read(root.section("alerts"), vi_url);
    let consumer_is_there = root.section("consumer").is_present();
    let has_trust = root.section("trust").is_present();
    let (dmp_server, dmp) = dmp::read(root.section("dmp"));
    let watched = watched::read(&root);
    let consumer = consumer::read(root.section("consumer"), &pacs, has_trust);

    let parts = rules::Parts {
        root: &root,
        sections: &sections,
        admin: &admin,
        local: local.as_ref(),
        peer: peer.as_ref(),
        acme: acme.as_ref(),
        dimse: dimse.as_ref(),
        pacs: &pacs,
    };
    rules::check(&parts);
    sections.finish();
    root.finish();
    if consumer_is_there {
        consumer.as_ref()?;
    }
    if alerts_are_there {
        alerts.as_ref()?;
    }

    Some(Config {
        data_dir,
        log,
        admin,
        local,
        peer,
        consumer,
        trust,
        dimse: dimse?,
        cache,
        dicomweb,
        limits,
        pixels,
        psc,
        acme,
        alerts,
        keys,
        watched,
        dmp_server,
        dmp,
        login,
        viewer: viewer?,
        audit: audit?,
        pacs: pacs.into_iter().collect::<Option<_>>()?,
    })
}

/// Where the first `vi` name answers.
fn vi_url(pacs: &[Option<Pacs>], peer: Option<&super::PeerListener>) -> Option<String> {
    let peer = peer?;
    let host = pacs
        .iter()
        .flatten()
        .find_map(|pacs| pacs.vi_host.as_ref())?;
    Some(match peer.public_port.unwrap_or(peer.listen.port()) {
        443 => format!("https://{host}"),
        port => format!("https://{host}:{port}"),
    })
}

/// Tables that rules between sections speak of, kept open until those have been checked.
pub(super) struct Sections<'a> {
    pub(super) admin: Section<'a>,
    pub(super) local: Section<'a>,
    pub(super) peer: Section<'a>,
    pub(super) dimse: Section<'a>,
    pub(super) acme: Section<'a>,
    pub(super) pacs: Vec<Section<'a>>,
}

impl Sections<'_> {
    fn finish(self) {
        let Self {
            admin,
            local,
            peer,
            dimse,
            acme,
            pacs,
        } = self;
        for section in [admin, local, peer, dimse, acme].into_iter().chain(pacs) {
            section.finish();
        }
    }
}

pub(super) fn log(section: Section<'_>) -> Log {
    let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
    let log = Log {
        format: section.or("format", LogFormat::Human, |v| v.choice(&formats)),
        filter: section.or("filter", "info".to_owned(), names::log_filter),
    };
    section.finish();
    log
}

fn admin(section: &Section<'_>) -> Admin {
    Admin {
        listen: section.or("listen", loopback(9080), |v| v.address()),
    }
}

fn local(section: &Section<'_>, pacs: &[Option<Pacs>]) -> Option<LocalListener> {
    let first = pacs.iter().flatten().next();
    let listen = section.or("listen", loopback(8080), |v| v.address());
    let base_path = section.or("base_path", "/dicom-web".to_owned(), names::base_path);
    let public_url = section.optional("public_url", names::public_url);
    let default_pacs = section
        .optional("default_pacs", names::pacs_name)
        .or_else(|| first.map(|pacs| pacs.name.clone()))
        // Without any PACS in order, the configuration is refused anyway, with what is left to say
        // about this section.
        .unwrap_or_default();
    let tls = identity(section.section("tls"));
    let tokens_file = section.optional("tokens_file", files::secrets);
    let both = BTreeSet::from([Resource::Wado, Resource::Qido]);
    let resources = section.or("resources", both, |v| v.choices(&RESOURCES));
    section.is_present().then_some(())?;
    Some(LocalListener {
        listen,
        base_path,
        public_url,
        default_pacs,
        tls,
        tokens_file,
        resources,
    })
}

/// A certificate and its key, both or neither.
pub(super) fn identity(section: Section<'_>) -> Option<ServerIdentity> {
    let identity = section.is_present().then(|| {
        let certificate_file = section.required(
            "certificate_file",
            "indiquer le fichier PEM du certificat",
            files::own_certificates,
        );
        let key_file = section.required(
            "key_file",
            "indiquer le fichier PEM de la clé privée de ce certificat",
            files::private_key,
        );
        Some(ServerIdentity {
            certificate_file: certificate_file?,
            key_file: key_file?,
        })
    });
    section.finish();
    identity.flatten()
}

fn dimse(section: &Section<'_>) -> Option<Dimse> {
    let default = AeTitle::parse("DRIMBOX")?;
    Some(Dimse {
        ae_title: section.or("ae_title", default, names::ae_title),
        listen: section.optional("listen", |v| v.address()),
        tls: identity(section.section("tls")),
        client_ca_file: section.optional("client_ca_file", files::certificates),
        max_associations: section.or("max_associations", 64, |v| v.integer(1..=1_000)),
    })
}

fn cache(section: Section<'_>, data_dir: &std::path::Path) -> Cache {
    let day = 86_400.0;
    let cache = Cache {
        dir: section.or("dir", data_dir.join("cache"), |v| v.path()),
        max_bytes: section.or("max_bytes", 50 * GIB, |v| v.bytes(MIB..=1_000 * TIB)),
        min_free_bytes: section.or("min_free_bytes", 2 * GIB, |v| v.bytes(0..=1_000 * TIB)),
        revalidate_after: section.or("revalidate_after_seconds", Duration::from_secs(60), |v| {
            v.seconds(0.0..=day)
        }),
        serve_when_unreachable: section.or("serve_when_unreachable", true, |v| v.boolean()),
    };
    section.finish();
    cache
}

fn dicomweb(section: Section<'_>) -> Dicomweb {
    let syntaxes = [
        (
            "explicit-vr-little-endian",
            UnnamedSyntax::ExplicitVrLittleEndian,
        ),
        ("as-stored", UnnamedSyntax::AsStored),
    ];
    let dicomweb = Dicomweb {
        unnamed_transfer_syntax: section.or(
            "unnamed_transfer_syntax",
            UnnamedSyntax::ExplicitVrLittleEndian,
            |v| v.choice(&syntaxes),
        ),
        cors_origins: section.or("cors_origins", Vec::new(), names::origins),
    };
    section.finish();
    dicomweb
}

pub(super) fn limits(section: Section<'_>) -> Limits {
    let size = |key, default: u64, low: u64, high: u64| {
        let bytes = section.or(key, default, |v| v.bytes(low..=high));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    };
    let seconds = |key, default, high: f64| {
        section.or(key, Duration::from_secs(default), |v| {
            v.seconds(0.01..=high)
        })
    };
    let limits = Limits {
        max_connections: section.or("max_connections", 1_024, |v| v.integer(1..=100_000)),
        max_connections_per_address: section.or("max_connections_per_address", 256, |v| {
            v.integer(1..=100_000)
        }),
        max_connection_age: seconds("max_connection_age_seconds", 900, 86_400.0),
        max_requests: section.or("max_requests", 256, |v| v.integer(1..=100_000)),
        handshake_timeout: seconds("handshake_timeout_seconds", 10, 300.0),
        header_timeout: seconds("header_timeout_seconds", 15, 300.0),
        idle_timeout: seconds("idle_timeout_seconds", 60, 3_600.0),
        // 8 KiB: the least that hyper's HTTP/1 reader takes.
        max_header_bytes: size("max_header_bytes", 64 * KIB, 8 * KIB, MIB),
        grace_period: section.or("grace_period_seconds", Duration::from_secs(30), |v| {
            v.seconds(0.0..=3_600.0)
        }),
        max_matches: section.or("max_matches", 20_000, |v| v.integer(1..=1_000_000)),
        max_head_bytes: size("max_head_bytes", 64 * MIB, MIB, GIB),
    };
    section.finish();
    limits
}

fn pixels(section: Section<'_>) -> Pixels {
    let jobs: Option<usize> = section.optional("jobs", |v| v.integer(1..=256));
    let pixels = Pixels {
        jobs: jobs.and_then(NonZeroUsize::new),
        max_waiting: section.or("max_waiting", 256, |v| v.integer(0..=100_000)),
        // The smallest machine has 2 GiB.
        max_memory_bytes: section.or("max_memory_bytes", 512 * MIB, |v| {
            v.bytes(64 * MIB..=64 * GIB)
        }),
        max_frame_bytes: section.or("max_frame_bytes", 256 * MIB, |v| v.bytes(MIB..=GIB)),
        max_spool_bytes: section.or("max_spool_bytes", 4 * GIB, |v| v.bytes(MIB..=1024 * GIB)),
        codec_timeout: section.or("codec_timeout_seconds", Duration::from_secs(60), |v| {
            v.seconds(0.1..=3_600.0)
        }),
    };
    section.finish();
    pixels
}

fn pacs(section: &Section<'_>, calling: Option<&AeTitle>) -> Option<Pacs> {
    let name = section.required(
        "name",
        "donner un nom court à ce PACS, par exemple name = \"scanner-nord\"",
        names::pacs_name,
    );
    let db_host = section.optional("db_host", names::host_name);
    let db_tls = identity(section.section("db_tls"));
    let vi_host = section.optional("vi_host", names::host_name);
    let vi_tls = identity(section.section("vi_tls"));
    let upstream = upstream(section, calling);
    let quirks = quirks(section.section("quirks"), section.has("dicomweb"));
    Some(Pacs {
        name: name?,
        db_host,
        db_tls,
        vi_host,
        vi_tls,
        upstream: upstream?,
        quirks,
    })
}

/// `[pacs.dimse]` or `[pacs.dicomweb]`, exactly one.
fn upstream(section: &Section<'_>, calling: Option<&AeTitle>) -> Option<Upstream> {
    let (dimse, web) = (section.section("dimse"), section.section("dicomweb"));
    match (dimse.is_present(), web.is_present()) {
        (true, true) => section.fault("dicomweb", rules::two_upstreams()),
        (false, false) if !section.has("dimse") && !section.has("dicomweb") => {
            section.fault("dimse", rules::no_upstream());
        }
        _ => {}
    }
    let dimse = pacs_dimse(dimse, calling).map(Upstream::Dimse);
    let web = pacs_dicomweb::read(web).map(Upstream::Dicomweb);
    dimse.or(web)
}

fn pacs_dimse(section: Section<'_>, calling: Option<&AeTitle>) -> Option<PacsDimse> {
    if !section.is_present() {
        return None;
    }
    let host = section.required(
        "host",
        "indiquer le nom ou l'adresse du PACS dans [pacs.dimse]",
        names::host,
    );
    let ae_title = section.required(
        "ae_title",
        "indiquer l'AE title du PACS, donné par son éditeur ou sa page de configuration",
        names::ae_title,
    );
    let methods = [("get", RetrieveMethod::Get), ("move", RetrieveMethod::Move)];
    let seconds = |key, default| {
        section.or(key, Duration::from_secs(default), |v| {
            v.seconds(0.01..=3_600.0)
        })
    };
    let port = section.or("port", 104, |v| v.integer(1..=u16::MAX));
    let calling_ae_title = section
        .optional("calling_ae_title", names::ae_title)
        .or_else(|| calling.cloned());
    let retrieve = section.or("retrieve", RetrieveMethod::Get, |v| v.choice(&methods));
    let tls = client_tls(section.section("tls"), host.as_deref());
    let max_associations = section.or("max_associations", 4, |v| v.integer(1..=256));
    let idle_timeout = seconds("idle_timeout_seconds", 5);
    let connect_timeout = seconds("connect_timeout_seconds", 5);
    let response_timeout = seconds("response_timeout_seconds", 60);
    let max_pdu = section.or("max_pdu", 1 << 20, |v| v.bytes(4_096u32..=16 << 20));
    let max_waiting = section.or("max_waiting", 64, |v| v.integer(0..=100_000));
    section.finish();
    Some(PacsDimse {
        host: host?,
        port,
        ae_title: ae_title?,
        calling_ae_title: calling_ae_title?,
        retrieve,
        tls,
        max_associations,
        idle_timeout,
        connect_timeout,
        response_timeout,
        max_pdu,
        max_waiting,
    })
}

pub(super) fn client_tls(section: Section<'_>, host: Option<&str>) -> Option<ClientTls> {
    let tls = section.is_present().then(|| {
        let ca_file = section.required(
            "ca_file",
            "indiquer le fichier PEM des autorités qui signent le certificat du PACS",
            files::certificates,
        );
        let server_name = section.optional("server_name", names::host);
        let identity = identity(section.section("identity"));
        Some(ClientTls {
            ca_file: ca_file?,
            server_name: server_name.or_else(|| host.map(str::to_owned))?,
            identity,
        })
    });
    section.finish();
    tls.flatten()
}

fn quirks(section: Section<'_>, is_dicomweb: bool) -> Quirks {
    let quirks = Quirks {
        relational_queries: section.or("relational_queries", true, |v| v.boolean()),
        related_counts: section.or("related_counts", true, |v| v.boolean()),
        max_results: section.optional("max_results", |v| v.integer(1..=1_000_000)),
        charset: section.optional("charset", names::charset),
        charset_overrides: section.or("charset_overrides", false, |v| v.boolean()),
        send_charset: section.or("send_charset", true, |v| v.boolean()),
        uncompressed_only: section.or("uncompressed_only", false, |v| v.boolean()),
        decodes_queries: section.or("decodes_queries", true, |v| v.boolean()),
        fuzzy_matching: section.or("fuzzy_matching", false, |v| v.boolean()),
    };
    if quirks.charset_overrides && quirks.charset.is_none() {
        section.fault("charset_overrides", rules::needs_charset());
    }
    if quirks.charset_overrides && is_dicomweb {
        section.fault("charset_overrides", rules::json_is_utf8());
    }
    section.finish();
    quirks
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
