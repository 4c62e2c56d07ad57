//! `drimbox check pacs`: association, C-ECHO, a query, a small retrieval, each with a verdict.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use dicom_core::{Tag, VR};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use crate::archive::dimse::{Moves, StorageScp, status};
use crate::archive::{
    Archive, ArchiveError, FindRequest, Identifier, IncomingInstance, InstanceSink, InstanceWriter,
    Level, RetrieveRequest, Scope, SinkError,
};
use crate::cli::Verdict;
use crate::config::{Config, Pacs, RetrieveMethod, Upstream};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

const STUDY_UID: Tag = Tag(0x0020, 0x000D);
const SERIES_UID: Tag = Tag(0x0020, 0x000E);
const INSTANCE_UID: Tag = Tag(0x0008, 0x0018);

/// Tries one PACS step by step.
pub(super) async fn pacs(config: &Config, name: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let Some(pacs) = config.pacs.iter().find(|pacs| pacs.name == name) else {
        return verdicts;
    };
    // The verdicts so far stand, whichever step ended the list.
    let _ = steps(config, pacs, &mut verdicts).await;
    verdicts
}

/// Ends early, with `Err`, when the next steps would mean nothing.
async fn steps(config: &Config, pacs: &Pacs, verdicts: &mut Vec<Verdict>) -> Result<(), ()> {
    let moves = Moves::new(config.dimse.ae_title.clone());
    let archive = match super::archive(pacs, &moves, &mut Vec::new()) {
        Ok(archive) => archive,
        Err(error) => {
            verdicts.push(Verdict::failed(
                "TLS et authentification",
                format!("{error:#}"),
                "corriger dans la section du PACS les fichiers nommés : autorités, certificat, clé, \
                 mot de passe, jeton",
            ));
            return Err(());
        }
    };
    let step = match pacs.upstream {
        Upstream::Dimse(_) => "Association et C-ECHO",
        Upstream::Dicomweb(_) => "Connexion et authentification (QIDO-RS)",
    };
    match timed(archive.verify()).await {
        (Ok(()), time) => verdicts.push(Verdict::ok(step, format!("le PACS répond ({time})"))),
        (Err(error), _) => {
            verdicts.push(failure(step, &error));
            if !matches!(error, ArchiveError::NotOffered { .. }) {
                return Err(());
            }
        }
    }
    let found = query(&*archive, verdicts).await?;
    let Some(instance) = found else {
        verdicts.push(Verdict::warning(
            "Récupération",
            "non essayée : la recherche n'a trouvé aucune image",
            "envoyer un examen d'essai au PACS, puis recommencer",
        ));
        return Ok(());
    };
    retrieve(config, pacs, &moves, &*archive, instance, verdicts).await
}

/// Looks for any one image, level by level as every PACS must allow.
async fn query(archive: &dyn Archive, verdicts: &mut Vec<Verdict>) -> Result<Option<Found>, ()> {
    let step = "Recherche";
    let study = first(
        archive,
        Level::Study,
        Identifier::default().with(STUDY_UID, VR::UI, ""),
    )
    .await;
    let study = match study {
        (Ok(Some(found)), time) => {
            verdicts.push(Verdict::ok(
                step,
                format!("au moins un examen trouvé ({time})"),
            ));
            found
        }
        (Ok(None), _) => {
            verdicts.push(Verdict::warning(
                step,
                "le PACS répond mais ne montre aucun examen",
                "vérifier que le PACS autorise la passerelle à voir les examens (droits de son AE title ou de son compte)",
            ));
            return Ok(None);
        }
        (Err(error), _) => {
            verdicts.push(failure(step, &error));
            return Err(());
        }
    };
    let Some(study) = study.uid(STUDY_UID).map(StudyUid::from) else {
        return Ok(None);
    };
    let identifier = Identifier::default()
        .with(STUDY_UID, VR::UI, study.as_str())
        .with(SERIES_UID, VR::UI, "")
        .with(Tag(0x0008, 0x0060), VR::CS, "")
        .with(Tag(0x0020, 0x1209), VR::IS, "");
    let series = match first(archive, Level::Series, identifier).await.0 {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => {
            verdicts.push(failure("Recherche des séries", &error));
            return Err(());
        }
    };
    if series
        .text(Tag(0x0020, 0x1209))
        .is_none_or(|count| count.is_empty())
    {
        verdicts.push(Verdict::warning(
            "Nombre d'images d'une série",
            "le PACS ne le donne pas (0020,1209)",
            "mettre related_counts = false dans [pacs.quirks]",
        ));
    }
    let modality = series
        .text(Tag(0x0008, 0x0060))
        .filter(|text| !text.is_empty());
    let Some(series) = series.uid(SERIES_UID).map(SeriesUid::from) else {
        return Ok(None);
    };
    let identifier = Identifier::default()
        .with(STUDY_UID, VR::UI, study.as_str())
        .with(SERIES_UID, VR::UI, series.as_str())
        .with(INSTANCE_UID, VR::UI, "");
    let image = match first(archive, Level::Image, identifier).await.0 {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => {
            verdicts.push(failure("Recherche des images", &error));
            return Err(());
        }
    };
    let instance = image.uid(INSTANCE_UID).map(InstanceUid::from);
    Ok(instance.map(|instance| Found {
        scope: Scope::Instance(study, series, instance),
        modality,
    }))
}

struct Found {
    scope: Scope,
    modality: Option<String>,
}

async fn retrieve(
    config: &Config,
    pacs: &Pacs,
    moves: &Arc<Moves>,
    archive: &dyn Archive,
    found: Found,
    verdicts: &mut Vec<Verdict>,
) -> Result<(), ()> {
    let method = pacs.dimse().map(|dimse| dimse.retrieve);
    let step = match method {
        Some(RetrieveMethod::Get) => "Récupération d'une image (C-GET)",
        Some(RetrieveMethod::Move) => "Récupération d'une image (C-MOVE)",
        None => "Récupération d'une image (WADO-RS)",
    };
    let stop = CancellationToken::new();
    let scp = if method == Some(RetrieveMethod::Move) {
        match listen(config, moves, &stop).await {
            Ok(running) => Some(running),
            Err(detail) => {
                verdicts.push(Verdict::failed(
                    step,
                    detail,
                    "arrêter le service le temps du contrôle, ou libérer l'adresse de [dimse] listen",
                ));
                return Err(());
            }
        }
    } else {
        None
    };
    let sink = Arc::new(Counting::default());
    let request = RetrieveRequest {
        scope: found.scope,
        modalities: found.modality.into_iter().collect(),
        expected: None,
    };
    let retrieving = archive.retrieve(
        request,
        Arc::clone(&sink) as Arc<dyn InstanceSink>,
        CancellationToken::new(),
    );
    let (outcome, time) = timed(retrieving).await;
    let verdict = match outcome {
        Ok(report) if report.delivered > 0 => {
            let (bytes, syntax) = sink.seen();
            Verdict::ok(
                step,
                format!("{bytes} octets reçus en {time}, syntaxe {syntax}"),
            )
        }
        Ok(_) => Verdict::failed(
            step,
            "le PACS annonce un succès mais n'envoie rien",
            "vérifier les droits de l'AE title de la passerelle ; avec C-MOVE, que le PACS connaît \
             son adresse et son port",
        ),
        Err(error) => failure(step, &error),
    };
    verdicts.push(verdict);
    stop.cancel();
    if let Some(running) = scp {
        let _ = running.await;
    }
    Ok(())
}

async fn listen(
    config: &Config,
    moves: &Arc<Moves>,
    stop: &CancellationToken,
) -> Result<tokio::task::JoinHandle<()>, String> {
    let address = config.dimse.listen.ok_or("[dimse] listen manque")?;
    let listener = super::storage_listener(address)
        .await
        .map_err(|error| format!("{error:#}"))?;
    let scp: StorageScp = super::storage_scp(config, moves, &mut Certificates::default())
        .map_err(|error| format!("{error:#}"))?;
    Ok(tokio::spawn(scp.run(listener, stop.clone())))
}

async fn first(
    archive: &dyn Archive,
    level: Level,
    identifier: Identifier,
) -> (Result<Option<crate::archive::Match>, ArchiveError>, String) {
    let request = FindRequest {
        level,
        identifier,
        max_matches: 1,
    };
    let (outcome, time) = timed(archive.find(request)).await;
    (
        outcome.map(|matches| matches.items.into_iter().next()),
        time,
    )
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, String) {
    let start = Instant::now();
    let outcome = work.await;
    (outcome, format!("{} ms", start.elapsed().as_millis()))
}

fn failure(step: &'static str, error: &ArchiveError) -> Verdict {
    let remedy = match error {
        ArchiveError::Unreachable { .. } => {
            "vérifier host et port dans [pacs.dimse], ou url dans [pacs.dicomweb], que le PACS est démarré, et que le pare-feu laisse passer"
        }
        ArchiveError::Tls { .. } => {
            "vérifier que le PACS attend bien TLS sur ce port, et les certificats des deux côtés"
        }
        ArchiveError::Rejected {
            transient: true, ..
        } => {
            "recommencer ; si le refus se répète, admettre plus d'associations dans le PACS, ou réduire \
             max_associations dans [pacs.dimse]"
        }
        ArchiveError::Rejected { .. } => {
            "déclarer l'AE title de la passerelle (calling_ae_title) dans le PACS et vérifier ae_title dans [pacs.dimse]"
        }
        ArchiveError::TimedOut { .. } => {
            "vérifier que le PACS n'est pas surchargé ; sinon augmenter les délais dans [pacs.dimse] ou [pacs.dicomweb]"
        }
        ArchiveError::NotOffered { .. } => {
            "activer ce service dans le PACS, ou changer retrieve (\"get\" ou \"move\") dans [pacs.dimse]"
        }
        ArchiveError::Failed {
            status: status::MOVE_DESTINATION_UNKNOWN,
            ..
        } => {
            "déclarer dans le PACS la destination : l'AE title de la passerelle (ae_title dans [dimse]), \
             son adresse et le port de listen dans [dimse]"
        }
        ArchiveError::Failed { .. } => {
            "chercher ce code d'état dans le journal du PACS ; voir aussi [pacs.quirks]"
        }
        ArchiveError::Status { status: 401, .. } => {
            "vérifier username et password_file, ou token_file, ou identity, dans [pacs.dicomweb]"
        }
        ArchiveError::Status { status: 403, .. } => {
            "autoriser dans le PACS le compte de la passerelle à lire les examens"
        }
        ArchiveError::Status {
            status: 300..=399, ..
        } => "mettre dans url l'adresse finale : les redirections ne sont pas suivies",
        ArchiveError::Status {
            status: 404 | 405 | 501,
            ..
        } => "vérifier le chemin de url, et que le PACS offre QIDO-RS et WADO-RS",
        ArchiveError::Status { .. } => "chercher cette requête dans le journal du PACS",
        ArchiveError::Incomplete { .. } => {
            "vérifier dans le PACS que l'image est lisible et que le service accepte la passerelle ; \
             avec C-MOVE, que le PACS connaît l'adresse et le port de la passerelle"
        }
        _ => "consulter le journal du PACS et celui de la passerelle",
    };
    Verdict::failed(step, error.to_string(), remedy)
}

/// Counts what comes and keeps nothing.
#[derive(Default)]
struct Counting {
    seen: Arc<parking_lot::Mutex<(u64, String)>>,
}

impl Counting {
    fn seen(&self) -> (u64, String) {
        self.seen.lock().clone()
    }
}

impl InstanceSink for Counting {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        self.seen.lock().1 = incoming.transfer_syntax.to_string();
        Ok(Box::new(CountingWriter(Arc::clone(&self.seen))))
    }
}

struct CountingWriter(Arc<parking_lot::Mutex<(u64, String)>>);

impl InstanceWriter for CountingWriter {
    fn write(&mut self, data: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        self.0.lock().0 += data.len() as u64;
        async { Ok(()) }.boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}
