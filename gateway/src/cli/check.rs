//! `drimbox check config`: what a configuration that loads may still hide.

use std::path::Path;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::Verdict;
use crate::certs::inventory::{Judges, Severity, examine};
use crate::certs::place::{Place, igc_places, places};
use crate::config::{Config, Upstream};

/// Looks at what the configuration names: listeners, certificates (key, host name, dates at `now`),
/// folders and room for the cache. Opens no network connection.
#[must_use]
pub fn check_config(config: &Config, now: SystemTime) -> Vec<Verdict> {
    let now = OffsetDateTime::from(now);
    let mut verdicts = vec![listeners(config), pacs(config)];
    for place in places(config) {
        verdicts.push(certificate(place, now));
    }
    verdicts.extend(alerts(config));
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

/// The verdict on what is at a place.
pub(crate) fn certificate(place: Place, now: OffsetDateTime) -> Verdict {
    let entry = examine(place, &Judges::default(), now);
    let place = &entry.place;
    let step = format!("Certificat {} ({})", place.role, place.id);
    let file = place.identity.certificate_file.display();
    match (entry.findings.first(), &entry.facts) {
        (Some(finding), _) => {
            let said = format!("{file} : {}", finding.text());
            let remedy = finding.remedy(place.role);
            match finding.severity() {
                Severity::Critical => Verdict::failed(step, said, remedy),
                Severity::Warning => Verdict::warning(step, said, remedy),
            }
        }
        (None, Some(facts)) => Verdict::ok(
            step,
            format!("{file}, valable jusqu'au {}", facts.not_after.date()),
        ),
        (None, None) => Verdict::ok(step, file.to_string()),
    }
}

/// Whether somebody is told before a certificate that people must renew expires; `None` where there is none.
fn alerts(config: &Config) -> Option<Verdict> {
    let step = "Alertes d'expiration";
    if let Some(alerts) = &config.alerts {
        let told = format!("{} destinataires par courriel", alerts.recipients.len());
        return Some(Verdict::ok(step, told));
    }
    let igc: Vec<String> = igc_places(config).map(|place| place.id).collect();
    (!igc.is_empty()).then(|| {
        Verdict::warning(
            step,
            format!(
                "personne n'est prévenu avant la fin des certificats de l'IGC Santé ({}) : la section [alerts] manque",
                igc.join(", ")
            ),
            "ajouter [alerts] et au moins deux destinataires (guide d'exploitation, « Alertes d'expiration »)",
        )
    })
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
