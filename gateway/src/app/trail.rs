//! The audit trail of the service, and the syslog servers that get it.

use std::io;

use anyhow::Context as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::certificates::Watched;
use super::tls;
use crate::audit::atna::Source;
use crate::audit::forward::{self, Target, Timing};
use crate::audit::{Actor, Audit, Event, Kind, Object, Outcome, Peer, Settings, system_clock};
use crate::certs::place::Role;
use crate::config::AuditTrail;
use crate::trust::{TrustAudit, TrustEvent};

/// Opens the trail. Without it the service does not start: nothing may be shown that is not recorded.
pub(super) async fn open(config: &AuditTrail) -> anyhow::Result<Audit> {
    let settings = Settings {
        dir: config.dir.clone(),
        segment_bytes: config.segment_bytes,
        retention: config.retention,
        targets: config.syslog.iter().map(|s| s.name.clone()).collect(),
    };
    let opened = tokio::task::spawn_blocking(move || Audit::open(settings, system_clock()));
    opened
        .await?
        .with_context(|| format!("the audit trail {} cannot be opened", config.dir.display()))
}

/// Starts what sends the trail to the syslog servers of the configuration. Certificates towards them are added to those
/// that are read again.
pub(super) fn forward(
    config: &AuditTrail,
    audit: &Audit,
    background: &CancellationToken,
    behind: &mut JoinSet<()>,
    watched: &mut Vec<Watched>,
) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for server in &config.syslog {
        let (connector, server_name) = tls::connector(
            &server.tls,
            format!("syslog:{}", server.name),
            Role::Syslog,
            watched,
        )
        .with_context(|| format!("TLS towards the syslog server {:?}", server.name))?;
        targets.push(Target {
            name: server.name.as_str().into(),
            host: server.host.clone(),
            port: server.port,
            tls: connector,
            server_name,
            timing: Timing::default(),
        });
    }
    if !targets.is_empty() {
        behind.spawn(forward::forward(
            audit.clone(),
            config.dir.clone(),
            Source::new(config.site.as_deref(), &config.source),
            targets,
            background.clone(),
        ));
    }
    Ok(())
}

/// Records that the service started or stopped.
pub(super) async fn service(audit: &Audit, kind: Kind) -> anyhow::Result<()> {
    let event = audit.event(kind).on(Object {
        subject: Some(concat!("drimbox ", env!("CARGO_PKG_VERSION")).into()),
        ..Object::default()
    });
    let recorded = audit.record(event).await;
    recorded
        .map(drop)
        .context("the audit trail cannot be written")
}

/// Takes what the trust store says to the trail.
pub(super) struct TrustTrail {
    audit: Audit,
    runtime: Handle,
}

impl TrustTrail {
    /// To be made on the runtime of the service.
    pub(super) fn new(audit: Audit) -> Self {
        Self {
            audit,
            runtime: Handle::current(),
        }
    }

    fn event(&self, event: &TrustEvent) -> Event {
        let (kind, actor, subject) = match event {
            TrustEvent::BypassOpened { until, reason } => (
                Kind::BypassStarted,
                Actor {
                    account: Some("admin-token".into()),
                    ..Actor::default()
                },
                format!("revocation lists, until {}: {reason}", moment(*until)),
            ),
            TrustEvent::BypassClosed => (
                Kind::BypassEnded,
                Actor::default(),
                "revocation lists".to_owned(),
            ),
            TrustEvent::BypassUsed { dn } => {
                let peer = Peer {
                    subject: Some(dn.into()),
                    ..Peer::default()
                };
                let actor = Actor {
                    peer: Some(peer),
                    ..Actor::default()
                };
                (Kind::BypassUsed, actor, "revocation lists".to_owned())
            }
            TrustEvent::WhiteListReplaced { signed, domains } => {
                let signed = moment(u64::try_from(*signed).unwrap_or_default());
                let subject = format!("white list signed {signed}, {domains} domains");
                (Kind::Administration, Actor::default(), subject)
            }
        };
        let object = Object {
            subject: Some(subject.into()),
            ..Object::default()
        };
        let event = self.audit.event(kind).by(actor).on(object);
        event.ending(Outcome::default())
    }
}

impl TrustAudit for TrustTrail {
    fn record(&self, event: &TrustEvent) -> io::Result<()> {
        let audit = self.audit.clone();
        let told = self.event(event);
        let record = async move { audit.record(told).await };
        if matches!(event, TrustEvent::BypassOpened { .. }) {
            let recorded = self.runtime.block_on(record);
            return recorded.map(drop).map_err(io::Error::other);
        }
        // Asked during handshakes, which do not wait for the disk: whatever a peer is then given is on
        // record itself before it leaves.
        self.runtime.spawn(async move {
            if let Err(error) = record.await {
                tracing::error!(%error, "an event of the trust store is not in the audit trail");
            }
        });
        Ok(())
    }
}

/// A moment (Unix seconds) as RFC 3339.
fn moment(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok();
    let at = at.and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}
