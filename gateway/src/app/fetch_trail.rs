//! What `drimbox fetch` leaves in the audit trail: by itself, or through the service that holds the
//! trail.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::Value;

use super::exams::{ask, refused};
use super::trail;
use crate::admin::FetchRecord;
use crate::audit::{Audit, AuditError, Ending, Object, Outcome, Sequence};
use crate::config::Config;
use crate::trust::{TrustAudit, TrustEvent};

/// Subjects of the DRIMboxes that the trust store believed by the bypass alone. Handshakes do not wait
/// for the trail: they are recorded after each series.
#[derive(Debug, Default)]
pub(super) struct Bypassed(Mutex<BTreeSet<String>>);

impl TrustAudit for Bypassed {
    fn record(&self, event: &TrustEvent) -> std::io::Result<()> {
        if let TrustEvent::BypassUsed { dn } = event {
            self.0.lock().insert(dn.clone());
        }
        Ok(())
    }
}

/// Where fetches are recorded.
pub(super) enum FetchTrail<'a> {
    /// No service runs on this folder.
    Own(Audit),
    /// The service has the trail.
    Service(&'a Config),
}

impl<'a> FetchTrail<'a> {
    /// The trail of this configuration.
    pub(super) async fn open(config: &'a Config) -> anyhow::Result<Self> {
        match trail::open(&config.audit).await {
            Ok(audit) => Ok(Self::Own(audit)),
            Err(error) => match error.downcast_ref::<AuditError>() {
                Some(AuditError::Locked) => Ok(Self::Service(config)),
                _ => Err(error),
            },
        }
    }

    /// Records that images are asked for; they are not, when this fails.
    pub(super) async fn begins(&self, object: &Object) -> anyhow::Result<Sequence> {
        let record = FetchRecord {
            object: object.clone(),
            outcome: Outcome::of(Ending::Begun),
            follows: None,
            bypassed: None,
        };
        self.record(record).await
    }

    /// Records how that ended.
    pub(super) async fn ends(
        &self,
        begun: Sequence,
        object: Object,
        outcome: Outcome,
    ) -> anyhow::Result<()> {
        let record = FetchRecord {
            object,
            outcome,
            follows: Some(begun),
            bypassed: None,
        };
        self.record(record).await.map(drop)
    }

    /// Records whom the trust store believed by the bypass alone since it was last asked.
    pub(super) async fn believes(&self, bypassed: &Bypassed) -> anyhow::Result<()> {
        let subjects = std::mem::take(&mut *bypassed.0.lock());
        for subject in subjects {
            let record = FetchRecord {
                object: Object {
                    subject: Some("revocation lists".into()),
                    ..Object::default()
                },
                outcome: Outcome::default(),
                follows: None,
                bypassed: Some(subject.into()),
            };
            self.record(record).await?;
        }
        Ok(())
    }

    async fn record(&self, record: FetchRecord) -> anyhow::Result<Sequence> {
        let failed = "le journal des accès ne peut être écrit";
        match self {
            Self::Own(audit) => record.write(audit).await.context(failed),
            Self::Service(config) => {
                let body = serde_json::to_vec(&record)?;
                let asked = ask(config, Method::POST, "/api/fetches", body).await;
                let (status, answer) = asked.context(failed)?;
                if status != StatusCode::CREATED {
                    bail!("{failed} : {}", refused(status, &answer));
                }
                let sequence = answer.get("sequence").and_then(Value::as_u64);
                Ok(Sequence(sequence.context(failed)?))
            }
        }
    }

    /// Waits until everything is on disk.
    pub(super) async fn close(&self) {
        if let Self::Own(audit) = self {
            audit.close().await;
        }
    }
}
