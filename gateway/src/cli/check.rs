//! `drimbox check config`: what a configuration that loads may still hide.

use std::path::Path;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::Verdict;
use crate::config::{Config, ServerIdentity, Upstream};

/// A certificate with less than this left is worth a warning, days.
const SOON_DAYS: i64 = 30;

/// Looks at what the configuration names: listeners, certificates (key, host name, dates at `now`),
/// folders and room for the cache. Opens no network connection.
#[must_use]
pub fn check_config(config: &Config, now: SystemTime) -> Vec<Verdict> {
    let now = OffsetDateTime::from(now);
    let mut verdicts = vec![listeners(config), pacs(config)];
    let local = config.local.as_ref().and_then(|local| {
        let name = local.public_url.as_deref().and_then(host_of);
        local
            .tls
            .as_ref()
            .map(|tls| ("[local]".to_owned(), name, tls))
    });
    let dimse = config.dimse.tls.as_ref();
    let dimse = dimse.map(|tls| ("[dimse]".to_owned(), None, tls));
    let pacs = config.pacs.iter().flat_map(|pacs| {
        let db = pacs.db_tls.as_ref().map(|tls| {
            (
                format!("db_tls de {}", pacs.name),
                pacs.db_host.clone(),
                tls,
            )
        });
        let client = pacs.tls().and_then(|tls| tls.identity.as_ref());
        let client = client.map(|tls| (format!("client vers {}", pacs.name), None, tls));
        db.into_iter().chain(client)
    });
    for (of, host, identity) in local.into_iter().chain(dimse).chain(pacs) {
        verdicts.push(certificate(&of, host.as_deref(), identity, now));
    }
    verdicts.push(room(config));
    verdicts
}

fn listeners(config: &Config) -> Verdict {
    let mut listeners = vec![format!("administration {}", config.admin.listen)];
    if let Some(local) = &config.local {
        listeners.push(format!("local {}{}", local.listen, local.base_path));
    }
    if let Some(peer) = &config.peer {
        listeners.push(format!("DRIMbox {}{}", peer.listen, peer.base_path));
    }
    if let Some(listen) = config.dimse.listen {
        listeners.push(format!("DICOM {} {listen}", config.dimse.ae_title));
    }
    let exposed = !config.admin.listen.ip().is_loopback();
    let listeners = listeners.join(", ");
    if exposed {
        Verdict::warning(
            "Points d'accès",
            listeners,
            "la page d'administration est visible du réseau, sans authentification : la réserver \
             à 127.0.0.1 ou la protéger par un pare-feu",
        )
    } else {
        Verdict::ok("Points d'accès", listeners)
    }
}

fn pacs(config: &Config) -> Verdict {
    let pacs = config.pacs.iter().map(|pacs| match &pacs.upstream {
        Upstream::Dimse(dimse) => format!(
            "{} ({} à {}:{})",
            pacs.name, dimse.ae_title, dimse.host, dimse.port
        ),
        Upstream::Dicomweb(web) => format!("{} ({})", pacs.name, web.root),
    });
    Verdict::ok("PACS", pacs.collect::<Vec<_>>().join(", "))
}

/// What there is to say of a certificate and its key: that they fit, the name when there is one, the dates.
pub(crate) fn certificate(
    of: &str,
    host: Option<&str>,
    identity: &ServerIdentity,
    now: OffsetDateTime,
) -> Verdict {
    let step = format!("Certificat {of}");
    let file = identity.certificate_file.display();
    let chain = CertificateDer::pem_file_iter(&identity.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let key = PrivateKeyDer::from_pem_file(&identity.key_file);
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (Err(error), _) | (_, Err(error)) => {
            return Verdict::failed(step, format!("{file} : {error}"), "remplacer ce fichier");
        }
    };
    let Some(first) = chain.first().cloned() else {
        return Verdict::failed(step, format!("{file} est vide"), "remplacer ce fichier");
    };
    if let Err(error) = CertifiedKey::from_der(chain, key, &provider()) {
        return Verdict::failed(
            step,
            format!(
                "{file} et {} ne vont pas ensemble ({error})",
                identity.key_file.display()
            ),
            "indiquer la clé avec laquelle ce certificat a été demandé ; le certificat du serveur \
             vient en premier dans son fichier, puis ses intermédiaires",
        );
    }
    let Ok((_, parsed)) = X509Certificate::from_der(&first) else {
        return Verdict::failed(
            step,
            format!("{file} ne se lit pas"),
            "remplacer ce fichier",
        );
    };
    if let Some(host) = host.filter(|host| !covers(&parsed, host)) {
        return Verdict::failed(
            step,
            format!("{file} n'est pas au nom de {host}"),
            "corriger le nom, ou indiquer le certificat demandé pour ce nom",
        );
    }
    let (from, until) = (parsed.validity().not_before, parsed.validity().not_after);
    let (from, until) = (from.to_datetime(), until.to_datetime());
    let left = (until - now).whole_days();
    if from > now {
        Verdict::failed(
            step,
            format!("{file} n'est valable qu'à partir du {}", from.date()),
            "vérifier l'horloge de la machine, ou attendre cette date",
        )
    } else if until <= now {
        Verdict::failed(
            step,
            format!("{file} a expiré le {}", until.date()),
            "demander un nouveau certificat",
        )
    } else if left < SOON_DAYS {
        Verdict::warning(
            step,
            format!("{file} expire le {} ({left} jours)", until.date()),
            "demander dès maintenant un nouveau certificat",
        )
    } else {
        Verdict::ok(step, format!("{file}, valable jusqu'au {}", until.date()))
    }
}

/// Whether a certificate is for `host`: a subject alternative name equal to it, or a wildcard in
/// place of its first label (RFC 6125 §6.4).
fn covers(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) => {
            let wildcard = name.strip_prefix("*.");
            name.eq_ignore_ascii_case(host)
                || wildcard.is_some_and(|w| parent.is_some_and(|p| p.eq_ignore_ascii_case(w)))
        }
        GeneralName::IPAddress(bytes) => match host.parse() {
            Ok(std::net::IpAddr::V4(ip)) => ip.octets() == *bytes,
            Ok(std::net::IpAddr::V6(ip)) => ip.octets() == *bytes,
            Err(_) => false,
        },
        _ => false,
    })
}

fn host_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url)
        .ok()
        .filter(|url| url.scheme() == "https")?;
    let host = url.host_str()?;
    Some(host.trim_matches(['[', ']']).to_owned())
}

fn room(config: &Config) -> Verdict {
    let cache = &config.cache;
    let step = "Espace du cache";
    let mut ancestors = cache.dir.ancestors();
    let existing = ancestors.find(|dir| dir.is_dir()).unwrap_or(Path::new("/"));
    let wanted = cache.max_bytes.saturating_add(cache.min_free_bytes);
    match rustix::fs::statvfs(existing) {
        Err(error) => Verdict::failed(
            step,
            format!("{} : {error}", existing.display()),
            "vérifier data_dir et [cache] dir, et les droits du compte du service",
        ),
        Ok(stat) => {
            let total = stat.f_blocks.saturating_mul(stat.f_frsize);
            let detail = format!(
                "{} : {} sur la partition, {} demandés (max_bytes + min_free_bytes)",
                cache.dir.display(),
                gib(total),
                gib(wanted)
            );
            if total < wanted {
                Verdict::warning(step, detail, "réduire max_bytes, ou agrandir la partition")
            } else {
                Verdict::ok(step, detail)
            }
        }
    }
}

fn gib(bytes: u64) -> String {
    format!("{} Gio", bytes >> 30)
}

#[cfg(feature = "aws_lc_rs")]
fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

#[cfg(all(feature = "ring", not(feature = "aws_lc_rs")))]
fn provider() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}
