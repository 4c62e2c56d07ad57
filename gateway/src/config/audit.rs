//! `[audit]`: the trail of who saw what.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::model::ClientTls;
use super::section::Section;
use super::value::{Fault, Value};
use super::{files, names, read as tables};

/// `[audit]`
#[derive(Debug, Clone)]
pub struct AuditTrail {
    /// Folder; `data_dir/audit` by default.
    pub dir: PathBuf,
    /// Bytes after which a segment is ended.
    pub segment_bytes: u64,
    /// How long records are kept at least; `None`: for ever.
    pub retention: Option<Duration>,
    /// Name of the centre in exports (`AuditEnterpriseSiteID`).
    pub site: Option<String>,
    /// Name of this gateway in exports (`AuditSourceID`).
    pub source: String,
    /// File of the columns of ModelStat.
    pub modelstat_file: Option<PathBuf>,
    /// `[[audit.syslog]]`: servers that get every record, with distinct names.
    pub syslog: Vec<SyslogServer>,
}

/// `[[audit.syslog]]`
#[derive(Debug, Clone)]
pub struct SyslogServer {
    /// Short name (`[a-z0-9-]{1,32}`): in metrics and the file of its place.
    pub name: String,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS towards it.
    pub tls: ClientTls,
}

/// Reads the section; `None` when something in it is wrong, which is then reported.
pub(super) fn read(section: Section<'_>, data_dir: &Path) -> Option<AuditTrail> {
    let mib = 1 << 20;
    let day = 86_400;
    let days: Option<u64> = section.optional("retention_days", |v| v.integer(1..=36_500));
    let syslog: Vec<_> = section.sections("syslog").into_iter().map(server).collect();
    let mut known = std::collections::BTreeSet::new();
    for server in syslog.iter().flatten() {
        if !known.insert(server.name.clone()) {
            section.fault("syslog", two_of_a_name(&server.name));
        }
    }
    let audit = AuditTrail {
        dir: section.or("dir", data_dir.join("audit"), |v| v.path()),
        segment_bytes: section.or("segment_max_bytes", 64 * mib, |v| v.bytes(mib..=1024 * mib)),
        retention: days.map(|days| Duration::from_secs(days * day)),
        site: section.optional("site", label),
        source: section.or("source", "drimbox".to_owned(), label),
        modelstat_file: section.optional("modelstat_file", |v| v.path()),
        syslog: Vec::new(),
    };
    section.finish();
    Some(AuditTrail {
        syslog: syslog.into_iter().collect::<Option<_>>()?,
        ..audit
    })
}

fn server(section: Section<'_>) -> Option<SyslogServer> {
    let name = section.required(
        "name",
        "donner un nom court à ce serveur, par exemple name = \"central\"",
        server_name,
    );
    let host = section.required(
        "host",
        "indiquer le nom ou l'adresse du serveur syslog",
        names::host,
    );
    let port = section.or("port", 6514, |v| v.integer(1..=u16::MAX));
    let ca_file = section.required(
        "ca_file",
        "indiquer le fichier PEM des autorités qui signent le certificat du serveur syslog",
        files::certificates,
    );
    let server_name = section.optional("server_name", names::host);
    let identity = tables::identity(section.section("identity"));
    section.finish();
    let host = host?;
    Some(SyslogServer {
        name: name?,
        port,
        tls: ClientTls {
            ca_file: ca_file?,
            server_name: server_name.unwrap_or_else(|| host.clone()),
            identity,
        },
        host,
    })
}

/// A name that can be part of a file's name.
fn server_name(value: &Value<'_>) -> Result<String, Fault> {
    names::pacs_name(value).map_err(|_| {
        Fault::new(
            "ce nom de serveur n'est pas admis",
            "écrire 1 à 32 caractères parmi a-z, 0-9 et le tiret, par exemple \"central\"",
        )
    })
}

fn label(value: &Value<'_>) -> Result<String, Fault> {
    let text = value.text()?;
    let fits = text.len() <= 200 && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned()).ok_or_else(|| {
        Fault::new(
            "ce nom est trop long ou contient un caractère de contrôle",
            "écrire un nom de 200 octets au plus",
        )
    })
}

fn two_of_a_name(name: &str) -> Fault {
    Fault::new(
        format!("deux serveurs s'appellent « {name} »"),
        "donner à chaque serveur un nom qui lui est propre : il désigne ce qui lui reste à envoyer",
    )
}
