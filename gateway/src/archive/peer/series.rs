//! One series of an exam, fetched to its last instance: attempts, tokens, what is missing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::RETRY_AFTER;

use super::location::{SeriesLocation, check_listed};
use super::request::{UNCOMPRESSED, fields};
use super::source::Source;
use super::transfer::{Delivered, Expected, receive};
use super::{PeerError, PeerExam, TokenError};
use crate::archive::dicomweb::client::{Answer, Ask};
use crate::archive::{ArchiveError, InstanceSink, RetrieveReport};
use crate::dicom::kos::KosSeries;
use crate::dicom::uid::InstanceUid;

const SERVICE: &str = "WADO-RS";
/// Instances asked for one by one after a series broke off; for more, the series is asked for again.
const MAX_SINGLY: usize = 64;
/// Times that a series which breaks off again and again, and each time gives something, is asked for.
const MAX_PASSES: u32 = 16;

/// A series on its way.
pub(super) struct Run<'a> {
    exam: &'a PeerExam,
    location: &'a SeriesLocation,
    source: Arc<Source>,
    series: &'a KosSeries,
    known: Arc<HashSet<InstanceUid>>,
    missing: HashSet<InstanceUid>,
    delivered: u64,
    sink: Arc<dyn InstanceSink>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Series,
    Instances,
}

impl<'a> Run<'a> {
    pub fn new(
        exam: &'a PeerExam,
        location: &'a SeriesLocation,
        series: &'a KosSeries,
        missing: HashSet<InstanceUid>,
        sink: Arc<dyn InstanceSink>,
    ) -> Self {
        let known = series.instances.iter().map(|one| one.instance.clone());
        Self {
            source: exam.peers.source(location),
            known: Arc::new(known.collect()),
            exam,
            location,
            series,
            missing,
            delivered: 0,
            sink,
        }
    }

    /// Fetches what is missing.
    pub async fn run(&mut self, one_by_one: bool) -> Result<RetrieveReport, ArchiveError> {
        let outcome = self.passes(one_by_one).await;
        let word = match &outcome {
            Ok(_) => "ok",
            Err(error) => error.cause(),
        };
        metrics::counter!("drimbox_peer_series_total", "peer" => self.source.host.clone(), "outcome" => word)
            .increment(1);
        outcome
    }

    async fn passes(&mut self, one_by_one: bool) -> Result<RetrieveReport, ArchiveError> {
        let expected = self.missing.len() as u64;
        let settings = self.exam.peers.settings();
        let mut next = match one_by_one && self.may_ask_singly() {
            true => Pass::Instances,
            false => Pass::Series,
        };
        let mut series_came_whole = false;
        let mut failures = 0;
        for _ in 0..MAX_PASSES {
            let before = self.delivered;
            let outcome = match next {
                Pass::Series => self.series_pass().await,
                Pass::Instances => self.instances_pass().await,
            };
            series_came_whole |= outcome.is_ok() && next == Pass::Series;
            match outcome {
                Ok(()) if self.missing.is_empty() => {
                    return Ok(RetrieveReport {
                        delivered: self.delivered,
                    });
                }
                Ok(()) => {
                    next = match next {
                        Pass::Series if self.may_ask_singly() => Pass::Instances,
                        Pass::Instances if !series_came_whole => Pass::Series,
                        _ => break,
                    };
                }
                Err(ArchiveError::Peer(error)) if error.is_transient() => {
                    failures = if self.delivered > before {
                        1
                    } else {
                        failures + 1
                    };
                    if failures >= settings.attempts {
                        return Err(error.into());
                    }
                    let wanted = match &error {
                        PeerError::Unavailable { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    tracing::info!(peer = self.source.host, attempt = failures, "{error}");
                    tokio::time::sleep(settings.pause(failures, wanted)).await;
                    let few = self.missing.len() <= MAX_SINGLY
                        && self.missing.len() * 2 <= self.known.len();
                    next = match few && self.may_ask_singly() {
                        true => Pass::Instances,
                        false => Pass::Series,
                    };
                }
                Err(error) => return Err(error),
            }
        }
        Err(ArchiveError::Incomplete {
            missing: self.missing.len() as u64,
            expected,
        })
    }

    fn may_ask_singly(&self) -> bool {
        self.exam.peers.settings().ask_for_instances && self.source.sends_instances()
    }

    /// Asks for the series; what is there already is read and dropped.
    async fn series_pass(&mut self) -> Result<(), ArchiveError> {
        let answer = self.ask(self.location.path().to_owned()).await?;
        let (known, wanted) = (Arc::clone(&self.known), self.missing.clone());
        self.take(answer, known, wanted).await
    }

    /// Asks for what is missing, one by one, up to the first that the source does not give.
    async fn instances_pass(&mut self) -> Result<(), ArchiveError> {
        let missing: Vec<InstanceUid> = self.missing.iter().cloned().collect();
        for instance in missing {
            let answer = match self.ask(self.location.instance_path(&instance)).await {
                Ok(answer) => answer,
                // The network works with series: a source need not know instances.
                Err(ArchiveError::Peer(
                    PeerError::NotUnderstood { .. }
                    | PeerError::Forbidden { .. }
                    | PeerError::Status { .. },
                )) => {
                    self.source.refuses_instances();
                    return Ok(());
                }
                Err(ArchiveError::Peer(PeerError::NotPublished { .. })) => return Ok(()),
                Err(error) => return Err(error),
            };
            let one = HashSet::from([instance.clone()]);
            self.take(answer, Arc::new(one.clone()), one).await?;
            if self.missing.contains(&instance) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take(
        &mut self,
        answer: Answer,
        known: Arc<HashSet<InstanceUid>>,
        wanted: HashSet<InstanceUid>,
    ) -> Result<(), ArchiveError> {
        let expected = Expected {
            study: self.exam.kos.study.clone(),
            series: self.series.series.clone(),
            known,
            wanted,
        };
        let mut delivered = Delivered::default();
        let limits = self.exam.peers.settings().transfer();
        let sink = Arc::clone(&self.sink);
        let host = self.source.host.as_str();
        let outcome = receive(answer, host, expected, limits, sink, &mut delivered).await;
        let peer = || self.source.host.clone();
        metrics::counter!("drimbox_peer_bytes_received_total", "peer" => peer())
            .increment(delivered.bytes);
        metrics::counter!("drimbox_peer_instances_received_total", "peer" => peer())
            .increment(delivered.instances.len() as u64);
        metrics::counter!("drimbox_peer_instances_refused_total", "peer" => peer())
            .increment(delivered.malformed);
        self.delivered += delivered.instances.len() as u64;
        for instance in &delivered.instances {
            self.missing.remove(instance);
        }
        outcome.map_err(|error| match error {
            // Our own side.
            ArchiveError::Cancelled | ArchiveError::Sink(_) => error,
            ArchiveError::TimedOut { .. } => PeerError::Interrupted {
                host: host.to_owned(),
                detail: "nothing came for too long".into(),
            }
            .into(),
            error => PeerError::of(host, &error).into(),
        })
    }

    /// One question, with a token that the source accepts and a syntax that it can send.
    async fn ask(&self, path: String) -> Result<Answer, ArchiveError> {
        let host = self.source.host.as_str();
        // The list may have changed since the KOS was read.
        check_listed(self.exam.peers.directory(), host).map_err(PeerError::from)?;
        let no_token = |cause: TokenError| PeerError::NoToken {
            host: host.to_owned(),
            cause,
        };
        let tokens = &self.exam.tokens;
        let mut token = tokens.token().await.map_err(no_token)?;
        let mut is_renewed = false;
        let mut accept = self.exam.peers.settings().preference.accept();
        loop {
            let ask = Ask {
                service: SERVICE,
                path: path.clone(),
                accept,
                fields: fields(&token, &self.exam.kos.instance).map_err(no_token)?,
            };
            let answer = self.source.client.get_any(&ask).await;
            let answer = answer.map_err(|error| PeerError::of(host, &error))?;
            match answer.status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
                StatusCode::UNAUTHORIZED if !is_renewed => {
                    answer.finish().await;
                    token = tokens.renewed(&token).await.map_err(no_token)?;
                    is_renewed = true;
                }
                StatusCode::NOT_ACCEPTABLE if accept != UNCOMPRESSED => {
                    answer.finish().await;
                    accept = UNCOMPRESSED;
                }
                status => return Err(refusal(host, status, answer.field(RETRY_AFTER)).into()),
            }
        }
    }
}

/// What a status that is no success means (RFC 9110 §15, PS3.18 table 8.5-1).
fn refusal(host: &str, status: StatusCode, retry_after: Option<&str>) -> PeerError {
    let host = host.to_owned();
    let status = status.as_u16();
    match status {
        300..=399 => PeerError::Redirected { host, status },
        400 => PeerError::NotUnderstood { host },
        401 => PeerError::NotAuthenticated { host },
        403 => PeerError::Forbidden { host },
        204 | 404 | 410 => PeerError::NotPublished { host },
        406 => PeerError::NotAcceptable { host },
        421 => PeerError::Misdirected { host },
        408 | 429 | 500 | 502..=504 => PeerError::Unavailable {
            host,
            detail: format!("status {status}"),
            // A date instead of seconds is rare, and only lengthens a pause that has its own bound.
            retry_after: retry_after
                .and_then(|text| text.trim().parse().ok())
                .map(Duration::from_secs),
        },
        _ => PeerError::Status { host, status },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_meaning_and_words_for_a_radiologist() {
        let of = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap_or_default();
            refusal("db1.example.org", status, Some("120"))
        };
        for (status, cause) in [
            (301, "redirected"),
            (400, "bad_request"),
            (401, "unauthorized"),
            (403, "forbidden"),
            (404, "not_published"),
            (406, "not_acceptable"),
            (410, "not_published"),
            (418, "status"),
            (421, "misdirected"),
            (429, "unavailable"),
            (503, "unavailable"),
        ] {
            let error = of(status);
            assert_eq!(error.cause(), cause, "{status}");
            let advice = error.advice();
            assert!(advice.message.contains("db1.example.org"), "{advice:?}");
            assert!(advice.remedy.ends_with('.'), "{advice:?}");
        }
        assert!(of(503).is_transient() && !of(403).is_transient());
        assert!(of(503).advice().remedy.contains("2 minutes"));
    }
}
