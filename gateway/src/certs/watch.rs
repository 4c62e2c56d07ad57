//! The inventory while the service runs: gauges, and a line in the log when something changes.

use std::collections::BTreeMap;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::inventory::{Entry, Finding, Inventory, Severity};
use super::market::Market;
use super::presented::Presented;
use super::report;

/// Counter: revocation lists that certificates name and that were not fetched.
pub const LIST_FAILURES: &str = "drimbox_named_crl_refresh_failures_total";

/// Time between two looks at the files.
const EVERY: Duration = Duration::from_secs(3600);
/// The same while a revoked certificate waits for its renewal.
const SOON: Duration = Duration::from_secs(60);

/// Examines the certificates again and again until `stop`, and fetches the revocation lists that they name. A revoked
/// certificate that the gateway obtained itself is renewed by `market`.
pub async fn run(inventory: Inventory, market: Option<Market>, stop: CancellationToken) {
    let mut watch = Watch::new(inventory, market);
    let work = async {
        loop {
            let mut waits = watch.look().await;
            if watch.refresh().await {
                waits = watch.look().await;
            }
            tokio::time::sleep(if waits { SOON } else { EVERY }).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// What a look at the certificates goes by.
pub(crate) struct Watch {
    inventory: Inventory,
    market: Option<Market>,
    /// What was said last, of each place.
    said: BTreeMap<String, Vec<String>>,
    /// Why there is no newer list of an address, as it was said last.
    not_fetched: BTreeMap<String, String>,
}

impl Watch {
    pub(crate) fn new(inventory: Inventory, market: Option<Market>) -> Self {
        Self {
            inventory,
            market,
            said: BTreeMap::new(),
            not_fetched: BTreeMap::new(),
        }
    }

    /// Whether a renewal waits for somebody to order it.
    async fn look(&mut self) -> bool {
        let inventory = self.inventory.clone();
        let now = OffsetDateTime::now_utc();
        let examine = move || (inventory.examine(now), inventory.presented(now));
        let Ok((entries, presented)) = tokio::task::spawn_blocking(examine).await else {
            return false;
        };
        report::record(&entries);
        report::record_presented(&presented);
        let found = own(&entries).chain(of_others(&presented, now));
        for line in news(found, &mut self.said) {
            match line.severity {
                Severity::Warning => tracing::warn!(place = line.place, "{}", line.text),
                Severity::Critical => tracing::error!(place = line.place, "{}", line.text),
            }
        }
        self.renew(&entries).await
    }

    /// Fetches revocation lists; whether there are new ones.
    async fn refresh(&mut self) -> bool {
        let outcomes = self.inventory.refresh(OffsetDateTime::now_utc()).await;
        let is_new = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
        for (url, outcome) in outcomes {
            let Err(error) = outcome else {
                self.not_fetched.remove(&url);
                continue;
            };
            metrics::counter!(LIST_FAILURES).increment(1);
            let said = error.to_string();
            if self.not_fetched.get(&url) != Some(&said) {
                tracing::warn!(
                    %error,
                    "no revocation list from an address that certificates name: the one before counts as long as it is \
                     valid, then it cannot be told whether they are revoked"
                );
                self.not_fetched.insert(url, said);
            }
        }
        is_new
    }

    /// Has revoked certificates that the gateway obtained renewed; whether one waits, because this process does not order.
    pub(crate) async fn renew(&self, entries: &[Entry]) -> bool {
        let Some(market) = &self.market else {
            return false;
        };
        let mut waits = false;
        for entry in entries {
            let is_revoked = entry.findings.contains(&Finding::Revoked);
            let wanted = is_revoked && entry.place.is_from_acme();
            let Some(facts) = entry.facts.as_ref().filter(|_| wanted) else {
                continue;
            };
            let id = &entry.place.id;
            match market.renew_revoked(id, &facts.fingerprint).await {
                Ok(noted) => waits |= !noted,
                Err(failure) => {
                    tracing::error!(%failure, place = id, "a revoked certificate is not renewed");
                }
            }
        }
        waits
    }
}

/// What is wrong with one certificate, in the words of the log.
struct Found {
    place: String,
    lines: Vec<(Severity, String)>,
}

struct Line {
    place: String,
    severity: Severity,
    text: String,
}

fn own(entries: &[Entry]) -> impl Iterator<Item = Found> {
    entries.iter().map(|entry| Found {
        place: entry.place.id.clone(),
        lines: lines(&entry.findings, "certificat", |finding| {
            finding.remedy(entry.place.role)
        }),
    })
}

fn of_others(presented: &[Presented], now: OffsetDateTime) -> impl Iterator<Item = Found> {
    presented.iter().map(move |one| Found {
        place: format!("{}:{}", one.by.code(), one.name()),
        lines: lines(&one.findings(now), "certificat présenté", |_| {
            report::NOT_OURS.to_owned()
        }),
    })
}

fn lines(
    findings: &[Finding],
    what: &str,
    remedy: impl Fn(&Finding) -> String,
) -> Vec<(Severity, String)> {
    let line = |finding: &Finding| {
        let text = format!("{what} : {} ; {}", finding.text(), remedy(finding));
        (finding.severity(), text)
    };
    findings.iter().map(line).collect()
}

/// What was not said before; a certificate near its end is spoken of once a day.
fn news(found: impl Iterator<Item = Found>, said: &mut BTreeMap<String, Vec<String>>) -> Vec<Line> {
    let mut news = Vec::new();
    for Found { place, lines } in found {
        let texts = lines.iter().map(|(_, text)| text.clone()).collect();
        let before = said.insert(place.clone(), texts).unwrap_or_default();
        let new = lines.into_iter().filter(|(_, text)| !before.contains(text));
        news.extend(new.map(|(severity, text)| Line {
            place: place.clone(),
            severity,
            text,
        }));
    }
    news
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;
    use crate::certs::alerts::testdata::presented;
    use crate::certs::place::{Place, Role};
    use crate::certs::presented::By;
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
            is_superseded: false,
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
        let mut news = |entry: Entry| news(own(&[entry]), &mut said);
        assert_eq!(news(expiring(20)).len(), 1);
        assert_eq!(news(expiring(20)).len(), 0);
        let next_day = news(expiring(19));
        assert_eq!(next_day.len(), 1);
        assert!(next_day[0].text.contains("19 jours"));
        assert_eq!(news(entry(vec![])).len(), 0);
        assert_eq!(news(expiring(19)).len(), 1, "it came back");
    }

    #[test]
    fn certificates_of_others_that_the_gateway_depends_on_are_said_too() {
        let mut said = BTreeMap::new();
        let now = OffsetDateTime::now_utc();
        let all = [
            By::Psc,
            By::Dmp,
            By::WhiteListSigner,
            By::Caller,
            By::Called,
        ]
        .map(|by| presented(by, now, 10));
        let lines = news(of_others(&all, now), &mut said);
        let places: Vec<&str> = lines.iter().map(|line| line.place.as_str()).collect();
        let name = "auth.example";
        assert_eq!(
            places,
            ["PSC", "DMP", "WHITE_LIST_SIGNER"].map(|by| format!("{by}:{name}"))
        );
        assert!(lines[0].text.contains("prévenir son titulaire"));
        assert_eq!(news(of_others(&all, now), &mut said).len(), 0);
        let far = [presented(By::Psc, now, 100)];
        assert_eq!(news(of_others(&far, now), &mut said).len(), 0);
    }
}
