//! Certificates for tests of alerts: facts without files.

use time::{Duration, OffsetDateTime};

use crate::certs::facts::Facts;
use crate::certs::inventory::Entry;
use crate::certs::place::{Kept, Place, Role};
use crate::certs::presented::{By, Presented};
pub use crate::certs::testdata::START;
use crate::config::ServerIdentity;

/// A certificate of that many days from [`START`].
pub fn facts(fingerprint: &str, days: i64) -> Facts {
    Facts {
        subject: "CN=db.exemple.fr".into(),
        common_name: Some("db.exemple.fr".into()),
        organizational_units: Vec::new(),
        organization: None,
        state: None,
        dns_names: Vec::new(),
        issuer: "AC".into(),
        serial: "01".into(),
        fingerprint: fingerprint.into(),
        not_before: START,
        not_after: START + Duration::days(days),
        usages: Vec::new(),
        key: "RSA-2048".into(),
    }
}

/// What a party presented last at `now`, with that many days left.
pub fn presented(by: By, now: OffsetDateTime, days_left: i64) -> Presented {
    let mut facts = facts("p", 0);
    facts.common_name = Some("auth.example".into());
    facts.not_after = now + Duration::days(days_left) + Duration::HOUR;
    Presented {
        by,
        facts,
        first_seen: now,
        last_seen: now,
        standing: None,
    }
}

/// A place without files.
pub fn place(id: &str, role: Role) -> Place {
    Place {
        id: id.into(),
        role,
        user: "PACS scanner".into(),
        host: Some("db.exemple.fr".into()),
        holder: crate::certs::place::Holder::default(),
        identity: ServerIdentity {
            certificate_file: "c".into(),
            key_file: "k".into(),
        },
        kept: Kept::Files,
    }
}

/// The certificate `fingerprint`, valid for `days` from `from`, at a place.
pub fn entry(place: &Place, fingerprint: &str, from: OffsetDateTime, days: i64) -> Entry {
    let shift = from - START;
    let mut facts = facts(fingerprint, days);
    facts.not_before += shift;
    facts.not_after += shift;
    Entry {
        place: place.clone(),
        facts: Some(facts),
        chain: Vec::new(),
        standing: None,
        is_superseded: false,
        findings: Vec::new(),
    }
}
