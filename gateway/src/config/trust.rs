//! `[trust]`: its keys, their limits and their defaults.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::http_proxy::http_proxy;
use super::section::Section;
use super::trust_model::{
    OcspUse, PeerKeyUsage, Source, Trust, TrustEnvironment, WhiteListSettings,
};
use super::value::{Fault, Value};
use super::{files, names};

const DAY: u64 = 86_400;
const PUBLISHED: &str = "http://igc-sante.esante.gouv.fr/CRL";
/// Hosts that the certificates of IGC Santé name.
const HOSTS: [&str; 2] = ["igc-sante.esante.gouv.fr", "ocsp.esante.gouv.fr"];

/// `None` when the section is absent, or lacks what has no default.
pub(super) fn read(section: Section<'_>, data_dir: &Path) -> Option<Trust> {
    let environments = [
        ("production", TrustEnvironment::Production),
        ("test", TrustEnvironment::Test),
    ];
    let usages = [
        ("either", PeerKeyUsage::Either),
        ("strict", PeerKeyUsage::Strict),
    ];
    let uses = [("off", OcspUse::Off), ("tighten", OcspUse::Tighten)];
    let hosts = HOSTS.map(str::to_owned).to_vec();
    let environment = section.or("environment", TrustEnvironment::Production, |v| {
        v.choice(&environments)
    });
    let (issuing, lists) = defaults(environment);
    let authority_files = if section.is_present() {
        section.required(
            "authority_files",
            "indiquer les fichiers de l'AC racine et de l'AC émettrice de l'IGC Santé",
            |v| v.list::<_, Vec<_>>(files::authority),
        )
    } else {
        None
    };
    let trust = Trust {
        folder: data_dir.join("trust"),
        environment,
        authority_files: authority_files.clone().unwrap_or_default(),
        issuing_authorities: section.or("issuing_authorities", vec![issuing], |v| {
            v.list(|name| name.text().map(str::to_owned))
        }),
        key_usage: section.or("key_usage", PeerKeyUsage::Either, |v| v.choice(&usages)),
        crl_sources: section.or("crl_sources", lists, |v| v.list(clear_source)),
        crl_refresh: section.or("crl_refresh_seconds", Duration::from_secs(4 * 3_600), |v| {
            v.seconds(60.0..=86_400.0)
        }),
        revocation_hosts: section.or("revocation_hosts", hosts, |v| v.list(names::host)),
        ocsp: section.or("ocsp", OcspUse::Off, |v| v.choice(&uses)),
        http_proxy: section.optional("http_proxy", http_proxy),
        max_bypass: section.or("max_bypass_seconds", Duration::from_secs(3 * DAY), |v| {
            v.seconds(0.0..=604_800.0)
        }),
        white_list: white_list(section.section("white_list")),
    };
    section.finish();
    authority_files.map(|_| trust)
}

fn white_list(section: Section<'_>) -> WhiteListSettings {
    let debian = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
    let text =
        |key, default: &str| section.or(key, default.to_owned(), |v| v.text().map(str::to_owned));
    let seconds = |key, days: u64| {
        section.or(key, Duration::from_secs(days * DAY), |v| {
            v.seconds(3_600.0..=7_776_000.0)
        })
    };
    let allow_clear = section.or("allow_clear", false, |v| v.boolean());
    let signed_alarm = section.or("signed_alarm_after_seconds", 90 * DAY, |v| {
        v.integer(0..=365 * DAY)
    });
    let settings = WhiteListSettings {
        sources: section.or("sources", Vec::new(), |v| {
            v.list(|source| list_source(source, allow_clear))
        }),
        ca_file: section.or("ca_file", debian, files::certificates),
        signer_name: text("signer_name", "Liste Blanche DRIM-M"),
        signer_unit: text("signer_unit", "318751275100020"),
        max_age: seconds("max_age_seconds", 7),
        alarm_after: seconds("alarm_after_seconds", 2),
        signed_alarm_after: (signed_alarm > 0).then(|| Duration::from_secs(signed_alarm)),
        max_loss_percent: section.or("max_loss_percent", 50, |v| v.integer(0..=100)),
    };
    section.finish();
    settings
}

/// The issuing authority and the revocation lists that IGC Santé publishes (the address of the
/// production list of the issuing authority is inferred from that of the test one).
fn defaults(environment: TrustEnvironment) -> (String, Vec<Source>) {
    let (prefix, suffix) = match environment {
        TrustEnvironment::Production => ("", ""),
        TrustEnvironment::Test => ("TEST ", "-TEST"),
    };
    let list = |name| Source::Url(format!("{PUBLISHED}/{name}{suffix}.crl"));
    (
        format!("{prefix}AC IGC-SANTE ELEMENTAIRE ORGANISATIONS"),
        vec![list("ACR-EL"), list("ACI-EL-ORG")],
    )
}

/// An address in `https`, or an absolute path; `http` on this machine, or where it is wanted. In clear,
/// whoever stands between could keep a newer list away for ever (ANS FAQ C17 does not have this flow
/// among those in clear).
fn list_source(value: &Value<'_>, allow_clear: bool) -> Result<Source, Fault> {
    let source = read_source(value, &["http", "https"])?;
    match &source {
        Source::Url(url) if !allow_clear && is_clear_elsewhere(url) => Err(Fault::new(
            "la liste blanche viendrait en clair",
            "écrire une adresse en https ; si la liste n'est publiée qu'en clair, écrire aussi \
             allow_clear = true dans la même section",
        )),
        _ => Ok(source),
    }
}

fn is_clear_elsewhere(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return true;
    };
    let is_here = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    };
    url.scheme() != "https" && !is_here
}

/// An address in plain `http`, or an absolute path. Revocation lists are signed, and fetching them
/// over TLS would need revocation lists.
fn clear_source(value: &Value<'_>) -> Result<Source, Fault> {
    read_source(value, &["http"])
}

fn read_source(value: &Value<'_>, schemes: &[&str]) -> Result<Source, Fault> {
    let text = value.text()?;
    if text.starts_with('/') {
        return value.path().map(Source::File);
    }
    let url = url::Url::parse(text).ok().filter(|url| {
        schemes.contains(&url.scheme())
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    match url {
        Some(url) => Ok(Source::Url(url.to_string())),
        None => Err(Fault::new(
            "ce n'est ni une adresse web admise ici, ni un chemin absolu",
            format!(
                "écrire une adresse complète en {}, ou le chemin d'un fichier, qui commence par \
                 une barre oblique",
                schemes.join(" ou ")
            ),
        )),
    }
}
