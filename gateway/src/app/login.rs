//! Login on the `vi` names, built from `[login]` and Pro Santé Connect.

use std::sync::Arc;

use anyhow::Context as _;
use psc_auth::{Clock, SystemClock};

use super::psc::{self, PscParts};
use crate::config::Config;
use crate::login::{Login, NoAudit, Parts, SessionLimits, Sessions, Vault};
use crate::store::SessionStore;

/// Builds it; `None` where nobody can log in: without `[psc]` or without a `vi` name. Blocks.
pub(super) fn build(
    config: &Config,
    psc: Option<&PscParts>,
    store: Arc<dyn SessionStore>,
) -> anyhow::Result<Option<Arc<Login>>> {
    let Some(psc) = psc else {
        return Ok(None);
    };
    let port = psc::public_port(config);
    let hosts = config
        .pacs
        .iter()
        .filter_map(|pacs| pacs.vi_host.as_deref());
    let return_addresses = hosts
        .map(|host| {
            let host = host.to_ascii_lowercase();
            let address = psc::callback_url(&host, port)?;
            Ok((host.into(), address))
        })
        .collect::<anyhow::Result<std::collections::HashMap<Arc<str>, _>>>()?;
    if return_addresses.is_empty() {
        return Ok(None);
    }
    let settings = &config.login;
    let vault =
        Vault::open(&settings.key_file).context("key of the sessions (`login.key_file`)")?;
    let limits = SessionLimits {
        idle: settings.idle_timeout,
        absolute: settings.absolute_timeout,
        most: settings.max_sessions,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let sessions = Sessions::open(limits, vault, store, Arc::clone(&clock))
        .context("the sessions of the last run cannot be read")?;
    Ok(Some(Arc::new(Login::new(Parts {
        party: psc.party.clone(),
        professions: psc.professions.clone(),
        sessions: Arc::new(sessions),
        return_addresses,
        max_pending: settings.max_pending,
        login_lifetime: psc.provider.settings().login_lifetime,
        audit: Arc::new(NoAudit),
        clock,
        centre: settings.centre.clone(),
        contact: settings.contact.clone(),
    }))))
}
