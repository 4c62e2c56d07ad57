//! The exam page of the `vi` names, built from what stands behind it.

use std::sync::Arc;

use anyhow::Context as _;

use super::{Parts, gate};
use crate::config::Config;
use crate::login::Login;
use crate::viewer::{self, ViewedPacs, Viewer};

/// Builds it. Blocks.
pub(super) fn build(
    config: &Config,
    parts: &Parts,
    login: &Arc<Login>,
) -> anyhow::Result<Arc<Viewer>> {
    let hosts = config.pacs.iter().filter_map(|pacs| {
        let host = pacs.vi_host.as_deref()?.to_ascii_lowercase();
        let served = parts.service.pacs.get(pacs.name.as_str())?;
        let viewed = ViewedPacs {
            name: pacs.name.as_str().into(),
            studies: Arc::clone(&served.studies),
            texts: served.texts.clone(),
        };
        Some((host.into(), viewed))
    });
    let viewer = Viewer::new(viewer::Parts {
        login: Arc::clone(login),
        gate: gate::links(config, login, &parts.exams),
        audit: parts.audit.clone(),
        attempts: Arc::clone(&parts.attempts),
        hosts: hosts.collect(),
    });
    let viewer = viewer.context("the counters of refused links cannot be read")?;
    Ok(Arc::new(viewer))
}
