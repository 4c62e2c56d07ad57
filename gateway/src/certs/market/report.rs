//! How a market certificate stands, for metrics and the log.

use std::sync::atomic::{AtomicU8, Ordering};

use acme::{Age, Status, UnixTime, Validity};

use super::{moment, words};

/// What was told of one name, so that nothing is told twice.
#[derive(Debug, Default)]
pub struct Report {
    /// The last alert: 0 none, 1 due, 2 late, 3 critical, 4 expired.
    alert: AtomicU8,
}

impl Report {
    /// One step in the life of a certificate.
    pub fn tell(&self, status: &Status) {
        let name = status.name.as_str();
        for failure in &status.met {
            let (what, remedy) = words::explain(failure.cause);
            metrics::counter!(
                "drimbox_acme_failures_total",
                "fqdn" => name.to_owned(), "cause" => failure.cause.as_str()
            )
            .increment(1);
            tracing::warn!(
                fqdn = name,
                cause = failure.cause.as_str(),
                authority = failure.authority.as_deref().unwrap_or("-"),
                detail = failure.detail,
                "{what} {remedy}"
            );
        }
        if status.renewed {
            metrics::counter!("drimbox_acme_certificates_total", "fqdn" => name.to_owned())
                .increment(1);
            tracing::info!(
                fqdn = name,
                authority = status.directory.as_deref().unwrap_or("-"),
                "nouveau certificat public en service"
            );
        }
        gauge("drimbox_acme_next_attempt_seconds", name, status.next.0);
        metrics::gauge!("drimbox_acme_consecutive_failures", "fqdn" => name.to_owned())
            .set(f64::from(status.failures));
        match &status.validity {
            Some(validity) => self.dates(name, validity, acme::Clock::now(&acme::SystemClock)),
            None => gauge(NOT_AFTER, name, UnixTime::from_secs(0)),
        }
    }

    /// The dates of a certificate, with an alert when the last quarter of its life begins, the last tenth, and its end.
    /// Parts of its life, not days: it may last 397 days or 45.
    pub fn dates(&self, name: &str, validity: &Validity, now: UnixTime) {
        gauge(NOT_AFTER, name, validity.not_after);
        let alert = match validity.age(now) {
            Age::Fresh | Age::Due => 0,
            Age::Late => 2,
            Age::Critical | Age::Emergency => 3,
            Age::Expired => 4,
        };
        let before = self.alert.swap(alert, Ordering::Relaxed);
        if alert <= before {
            return;
        }
        let until = moment(validity.not_after);
        match alert {
            2 => tracing::warn!(
                fqdn = name,
                "Le certificat public arrive au dernier quart de sa vie sans avoir été renouvelé ; il \
                 expire le {until}. Lancer drimbox check acme."
            ),
            3 => tracing::error!(
                fqdn = name,
                "Le certificat public expire le {until}. Lancer drimbox check acme sans attendre, ou en \
                 installer un par vi_tls."
            ),
            _ => tracing::error!(
                fqdn = name,
                "Le certificat public a expiré le {until} : les navigateurs refusent ce nom. Lancer \
                 drimbox check acme, ou en installer un par vi_tls."
            ),
        }
    }
}

const NOT_AFTER: &str = "drimbox_market_certificate_not_after_seconds";

fn gauge(metric: &'static str, name: &str, at: UnixTime) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of this century are exact in a double"
    )]
    metrics::gauge!(metric, "fqdn" => name.to_owned()).set(at.as_secs() as f64);
}
