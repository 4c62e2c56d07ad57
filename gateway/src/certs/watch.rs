//! The inventory while the service runs: gauges, and a line in the log when something changes.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::inventory::{Entry, Inventory, Severity};
use super::report;

/// Time between two looks at the files.
const EVERY: Duration = Duration::from_secs(3600);

/// Examines the certificates again and again until `stop`.
pub async fn run(inventory: Inventory, stop: CancellationToken) {
    let mut said = BTreeMap::new();
    loop {
        let inventory = inventory.clone();
        let now = OffsetDateTime::now_utc();
        let examine = move || (inventory.examine(now), inventory.presented(now));
        if let Ok((entries, presented)) = tokio::task::spawn_blocking(examine).await {
            report::record(&entries);
            report::record_presented(&presented);
            for line in news(&entries, &mut said) {
                match line.severity {
                    Severity::Warning => tracing::warn!(place = line.place, "{}", line.text),
                    Severity::Critical => tracing::error!(place = line.place, "{}", line.text),
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

struct Line {
    place: String,
    severity: Severity,
    text: String,
}

/// What was not said before; a certificate near its end is spoken of once a day.
fn news(entries: &[Entry], said: &mut BTreeMap<String, Vec<String>>) -> Vec<Line> {
    let mut lines = Vec::new();
    for entry in entries {
        let texts: Vec<String> = entry
            .findings
            .iter()
            .map(|finding| finding.text())
            .collect();
        let before = said.insert(entry.place.id.clone(), texts.clone());
        let is_new = |text: &String| before.as_ref().is_none_or(|before| !before.contains(text));
        for (finding, text) in entry.findings.iter().zip(&texts) {
            if is_new(text) {
                let remedy = finding.remedy(entry.place.role);
                lines.push(Line {
                    place: entry.place.id.clone(),
                    severity: finding.severity(),
                    text: format!("certificat : {text} ; {remedy}"),
                });
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::certs::inventory::Finding;
    use crate::certs::place::{Place, Role};
    use crate::config::ServerIdentity;

    fn entry(findings: Vec<Finding>) -> Entry {
        Entry {
            place: Place {
                id: "local".into(),
                role: Role::Local,
                user: "[local]".into(),
                host: None,
                holder: crate::certs::place::Holder::default(),
                identity: ServerIdentity {
                    certificate_file: "c".into(),
                    key_file: "k".into(),
                },
                kept: crate::certs::place::Kept::Files,
            },
            facts: None,
            chain: Vec::new(),
            standing: None,
            findings,
        }
    }

    #[test]
    fn each_finding_is_said_once_until_it_changes() {
        let mut said = BTreeMap::new();
        let expiring = |days| {
            entry(vec![Finding::Expiring {
                days,
                urgent: false,
            }])
        };
        assert_eq!(news(&[expiring(20)], &mut said).len(), 1);
        assert_eq!(news(&[expiring(20)], &mut said).len(), 0);
        let next_day = news(&[expiring(19)], &mut said);
        assert_eq!(next_day.len(), 1);
        assert!(next_day[0].text.contains("19 jours"));
        assert_eq!(news(&[entry(vec![])], &mut said).len(), 0);
        assert_eq!(news(&[expiring(19)], &mut said).len(), 1, "it came back");
    }
}
