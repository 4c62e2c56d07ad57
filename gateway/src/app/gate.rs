//! What stands between peers and images, built from the configuration.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::Signal;
use tokio_util::sync::CancellationToken;

use super::psc::PscParts;
use crate::access::patient::{BirthDateAndIns, OneTimeCode, PatientProof, ReportCode, Way};
use crate::access::{LinkGate, PeerGate, Visitors};
use crate::admin::Refreshed;
use crate::config::{Config, Gate, PatientGate};
use crate::source::Exams;
use crate::trust::{Clock, Trust};

/// The trust store of `[trust]`; `None` without it.
pub(super) async fn trust(config: &Config) -> anyhow::Result<Option<Trust>> {
    let Some(settings) = config.trust.clone() else {
        return Ok(None);
    };
    // Long revocation lists are read.
    let open = tokio::task::spawn_blocking(move || Trust::open(settings, Clock::system()));
    Ok(Some(open.await??))
}

/// Reads the files of the authorities again, then revocation lists and the white list from where they
/// come, at every `hangup` until `stop`. What cannot be used is told and changes nothing.
pub(super) async fn refresh_at(trust: Trust, mut hangup: Signal, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            came = hangup.recv() => if came.is_none() { return },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            _ = refresh(&trust) => {}
        }
    }
}

/// Does so once; each thing with what became of it.
pub(super) async fn refresh(trust: &Trust) -> Vec<Refreshed> {
    let mut all = Vec::new();
    let again = trust.clone();
    let authorities = tokio::task::spawn_blocking(move || again.reload_authorities()).await;
    let authorities = match authorities {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("it was interrupted".to_owned()),
    };
    let outcome = if let Err(error) = &authorities {
        tracing::error!("authorities of peers: {error} What was there before stays in use.");
        "refused"
    } else {
        tracing::info!("authorities of peers read again; new connections use them");
        "loaded"
    };
    metrics::counter!("drimbox_tls_reloads_total", "outcome" => outcome).increment(1);
    all.push(Refreshed {
        what: "authorities".to_owned(),
        outcome: authorities,
    });
    for (what, outcome) in trust.refresh_crls().await {
        let outcome = outcome.map(drop).map_err(|error| error.to_string());
        all.push(Refreshed { what, outcome });
    }
    let list = trust.refresh_list(false).await;
    all.push(Refreshed {
        what: "white list".to_owned(),
        outcome: list.map(drop).map_err(|error| error.to_string()),
    });
    all
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

/// The gate of the links of reports.
pub(super) fn links(config: &Config, visitors: Arc<dyn Visitors>, exams: &Exams) -> LinkGate {
    let patients: Option<Arc<dyn PatientProof>> = match &config.viewer.patient_gate {
        PatientGate::Closed => None,
        PatientGate::BirthDateAndIns { digits } => {
            Some(Arc::new(BirthDateAndIns { digits: *digits }))
        }
        PatientGate::ReportCode => Some(Arc::new(ReportCode)),
        PatientGate::Mail { .. } => Some(Arc::new(OneTimeCode(Way::Mail))),
        PatientGate::Sms { .. } => Some(Arc::new(OneTimeCode(Way::Sms))),
    };
    LinkGate {
        visitors,
        exams: exams.clone(),
        serve_masked: config.peer.as_ref().is_some_and(|peer| peer.serve_masked),
        patients,
        root_alone: config.viewer.report_root_alone,
    }
}
