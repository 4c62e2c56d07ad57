//! How a market certificate stands, for metrics and the log.

use std::sync::atomic::{AtomicU8, Ordering};

use acme::{Age, Status, UnixTime, Validity};

use super::{moment, words};
use crate::certs::place::Role;

/// What was told of one name, so that nothing is told twice.
#[derive(Debug)]
pub struct Report {
    /// The name's place in the inventory.
    place: String,
    /// The last alert: 0 none, 1 late, 2 critical, 3 expired.
    alert: AtomicU8,
}

impl Report {
    /// Nothing was told yet of this place of the inventory.
    #[must_use]
    pub fn new(place: String) -> Self {
        Self {
            place,
            alert: AtomicU8::new(0),
        }
    }

    /// One step in the life of a certificate, at `now`.
    pub fn tell(&self, status: &Status, now: UnixTime) {
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
        metrics::gauge!("drimbox_acme_next_attempt_seconds", "fqdn" => name.to_owned())
            .set(seconds(status.next.0));
        metrics::gauge!("drimbox_acme_consecutive_failures", "fqdn" => name.to_owned())
            .set(f64::from(status.failures));
        if let Some(validity) = &status.validity {
            metrics::gauge!(
                "drimbox_certificate_not_after_seconds",
                "place" => self.place.clone(), "role" => Role::Market.code()
            )
            .set(seconds(validity.not_after));
            self.dates(name, validity, now);
        }
    }

    /// The dates of a certificate, with an alert when the last quarter of its life begins, the last tenth, and its end.
    /// Parts of its life, not days: it may last 397 days or 45.
    fn dates(&self, name: &str, validity: &Validity, now: UnixTime) {
        let alert = match validity.age(now) {
            Age::Fresh | Age::Due => 0,
            Age::Late => 1,
            Age::Critical | Age::Emergency => 2,
            Age::Expired => 3,
        };
        let before = self.alert.swap(alert, Ordering::Relaxed);
        if alert <= before {
            return;
        }
        let until = moment(validity.not_after);
        match alert {
            1 => tracing::warn!(
                fqdn = name,
                "Le certificat public arrive au dernier quart de sa vie sans avoir été renouvelé ; il \
                 expire le {until}. Lancer drimbox check acme."
            ),
            2 => tracing::error!(
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

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of this century are exact in a double"
)]
fn seconds(at: UnixTime) -> f64 {
    at.as_secs() as f64
}
