//! Alerts on certificates, built from `[alerts]`.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::certs::alerts::mail::MailChannel;
use crate::certs::alerts::webhook::WebhookChannel;
use crate::certs::alerts::{Alerts, Channel, LogChannel, Recipient, Settings};
use crate::certs::inventory::Inventory;
use crate::config::{self, Config};

/// Builds them; without `[alerts]` they go to the log alone.
pub(super) async fn build(config: &Config) -> anyhow::Result<Alerts> {
    let (alerts, folder) = (config.alerts.clone(), config.data_dir.join("alerts"));
    let open = move || {
        let settings = alerts.map_or_else(|| Ok(to_the_log()), |alerts| settings(&alerts))?;
        Alerts::open(settings, &folder).with_context(|| {
            format!(
                "{} cannot be used: check that the service may write there",
                folder.display()
            )
        })
    };
    tokio::task::spawn_blocking(open)
        .await?
        .context("alerts on certificates (`alerts`)")
}

fn to_the_log() -> Settings {
    Settings {
        recipients: vec![(Recipient::Log, Arc::new(LogChannel))],
        roles: HashMap::new(),
        centre: None,
        // Of tests alone, which go by mail.
        link_url: String::new(),
    }
}

/// Those of the configuration. Blocks.
fn settings(alerts: &config::Alerts) -> anyhow::Result<Settings> {
    let mail: Arc<dyn Channel> = Arc::new(MailChannel::new(&alerts.smtp)?);
    let mut recipients: Vec<(Recipient, Arc<dyn Channel>)> = alerts
        .recipients
        .iter()
        .map(|one| (Recipient::Mail(one.address.clone()), Arc::clone(&mail)))
        .collect();
    let roles = alerts.recipients.iter().filter_map(|one| {
        let roles = one.roles.as_ref()?.iter().map(|role| (*role).to_owned());
        Some((Recipient::Mail(one.address.clone()), roles.collect()))
    });
    let roles = roles.collect();
    for webhook in &alerts.webhooks {
        let channel = Arc::new(WebhookChannel::new(webhook)?);
        recipients.push((Recipient::Webhook(webhook.name.clone()), channel));
    }
    recipients.push((Recipient::Log, Arc::new(LogChannel)));
    Ok(Settings {
        recipients,
        roles,
        centre: alerts.centre.clone(),
        link_url: alerts.link_url.clone(),
    })
}

/// Watches over the certificates of a configuration until `stop`.
pub(super) fn run(
    alerts: Alerts,
    inventory: Inventory,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    alerts.run(
        move |now| (inventory.examine(now), inventory.presented(now)),
        stop,
    )
}
