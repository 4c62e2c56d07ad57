//! The audit trail of the service, and the syslog servers that get it.

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::tls;
use crate::audit::atna::Source;
use crate::audit::forward::{self, Target, Timing};
use crate::audit::{Audit, Kind, Object, Settings, system_clock};
use crate::config::AuditTrail;

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

/// Starts what sends the trail to the syslog servers of the configuration.
pub(super) fn forward(
    config: &AuditTrail,
    audit: &Audit,
    background: &CancellationToken,
    behind: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let mut targets = Vec::new();
    for server in &config.syslog {
        let (connector, server_name) = tls::connector(&server.tls)
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
