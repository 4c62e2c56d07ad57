//! The exam page of the `vi` names, built from what stands behind it.

use std::sync::Arc;

use anyhow::Context as _;

use super::{Parts, gate};
use crate::access::Visitors;
use crate::certs::alerts::mail::MailChannel;
use crate::config::{Config, PatientGate};
use crate::login::{Login, SessionKey, Vault};
use crate::store::{AttemptStore, SharedAttempts, SledStore};
use crate::viewer::patient::{CodeChannel, CodeSender, PatientLimits, PatientSessions, SmsChannel};
use crate::viewer::weasis::Tickets;
use crate::viewer::{self, Comers, ViewedPacs, Viewer};

/// Everybody who may come in on a `vi` name. Blocks.
pub(super) fn comers(
    config: &Config,
    login: &Arc<Login>,
    store: &SledStore,
) -> anyhow::Result<Arc<Comers>> {
    let settings = &config.login;
    let limits = PatientLimits {
        idle: settings.idle_timeout,
        absolute: settings.absolute_timeout,
        most: settings.max_sessions,
    };
    let vault =
        || Vault::open(&settings.key_file).context("key of the sessions (`login.key_file`)");
    let patients =
        PatientSessions::open(limits, vault()?, Arc::new(store.patients()?), login.now())
            .context("the sessions of patients of the last run cannot be read")?;
    let weasis = if config.viewer.weasis {
        let lives =
            |session: SessionKey, host: &str| login.sessions().behind(session, host).is_some();
        let tickets = Tickets::open(vault()?, Arc::new(store.weasis()?), login.now(), lives);
        Some(Arc::new(tickets.context(
            "what was opened in Weasis in the last run cannot be read",
        )?))
    } else {
        None
    };
    Ok(Arc::new(Comers {
        login: Arc::clone(login),
        patients: Arc::new(patients),
        weasis,
    }))
}

/// Where refused links and proofs are counted. Blocks.
pub(super) fn attempts(
    config: &Config,
    store: &SledStore,
) -> anyhow::Result<Arc<dyn AttemptStore>> {
    let Some(dir) = &config.viewer.shared_dir else {
        return Ok(Arc::new(store.attempts()?));
    };
    // A node is a machine and a data folder on it.
    let machine = rustix::system::uname();
    let node = format!(
        "{}:{}",
        machine.nodename().to_string_lossy(),
        config.data_dir.display()
    );
    let shared = SharedAttempts::open(dir, &node);
    Ok(Arc::new(shared.context(
        "the counters that nodes share (`viewer.shared_dir`) cannot be used",
    )?))
}

/// Builds the page. Blocks.
pub(super) fn build(
    config: &Config,
    parts: &Parts,
    comers: &Arc<Comers>,
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
    let visitors = Arc::clone(comers) as Arc<dyn Visitors>;
    let viewer = Viewer::new(viewer::Parts {
        login: Arc::clone(&comers.login),
        gate: gate::links(config, visitors, &parts.exams),
        audit: parts.audit.clone(),
        trail: Arc::clone(&parts.trail),
        exams: parts.exams.clone(),
        patients: Arc::clone(&comers.patients),
        codes: codes(&config.viewer.patient_gate)?,
        download: config.viewer.download,
        add_ins: parts.service.add_ins,
        weasis: comers.weasis.clone(),
        attempts: Arc::clone(&parts.attempts),
        hosts: hosts.collect(),
    });
    let viewer = viewer.context("the counters of refused links cannot be read")?;
    Ok(Arc::new(viewer))
}

/// How one-time codes leave, where the gate of patients has them.
fn codes(gate: &PatientGate) -> anyhow::Result<Option<CodeSender>> {
    let (channel, lifetime): (Arc<dyn CodeChannel>, _) = match gate {
        PatientGate::Mail { smtp, lifetime } => {
            let mail = MailChannel::new(smtp).context("mail server (`viewer.smtp`)")?;
            (Arc::new(mail), *lifetime)
        }
        PatientGate::Sms { gateway, lifetime } => (Arc::new(SmsChannel::new(gateway)?), *lifetime),
        PatientGate::Closed | PatientGate::BirthDateAndIns { .. } | PatientGate::ReportCode => {
            return Ok(None);
        }
    };
    Ok(Some(CodeSender { channel, lifetime }))
}
