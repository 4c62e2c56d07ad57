//! What stands between peers and images, built from the configuration.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use super::psc::PscParts;
use crate::access::PeerGate;
use crate::audit::{self, Audit};
use crate::config::{Config, Gate};
use crate::source::Exams;
use crate::trust::{Clock, Trust};

/// Bytes of a segment of the audit trail.
const SEGMENT: u64 = 64 << 20;

/// The trust store of `[trust]`; `None` without it.
pub(super) async fn trust(config: &Config) -> anyhow::Result<Option<Trust>> {
    let Some(settings) = config.trust.clone() else {
        return Ok(None);
    };
    // Long revocation lists are read.
    let open = tokio::task::spawn_blocking(move || Trust::open(settings, Clock::system()));
    Ok(Some(open.await??))
}

/// The audit trail in the data folder.
pub(super) async fn audit(data_dir: &Path) -> anyhow::Result<Audit> {
    let settings = audit::Settings {
        dir: data_dir.join("audit"),
        segment_bytes: SEGMENT,
        retention: None,
        targets: Vec::new(),
    };
    let open = tokio::task::spawn_blocking(move || Audit::open(settings, audit::system_clock()));
    Ok(open.await??)
}

/// The table of published exams in the data folder.
pub(super) async fn exams(data_dir: &Path) -> anyhow::Result<Exams> {
    let dir = data_dir.join("exams");
    Ok(tokio::task::spawn_blocking(move || Exams::open(&dir)).await??)
}

/// The gate of `[peer]`; `None` where there is no such listener, or the configuration says that a
/// certificate is enough.
pub(super) fn peers(
    config: &Config,
    trust: Option<&Trust>,
    psc: Option<&PscParts>,
    exams: &Exams,
) -> anyhow::Result<Option<PeerGate>> {
    let Some(peer) = &config.peer else {
        return Ok(None);
    };
    if let Gate::None { .. } = peer.gate {
        tracing::warn!(
            "peer.gate = \"none\": any certificate of client_ca_file sees every image, without \
             white list, without a professional's token and without a KOS. For laboratories only."
        );
        return Ok(None);
    }
    // The configuration was checked for both.
    let trust = trust.context("peer.gate = \"full\" needs the section [trust]")?;
    let psc = psc.context("peer.gate = \"full\" needs the section [psc]")?;
    Ok(Some(PeerGate {
        directory: Arc::new(trust.clone()),
        tokens: Arc::clone(&psc.gate) as Arc<dyn psc_auth::TokenGate>,
        professions: psc.professions.clone(),
        exams: exams.clone(),
        serve_masked: peer.serve_masked,
    }))
}
