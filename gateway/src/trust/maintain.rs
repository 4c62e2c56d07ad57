//! Keeping up to date: revocation lists every few hours, the white list once a day, and what a
//! command wrote to the folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustls::RootCertStore;
use rustls_pki_types::UnixTime;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::crl::{self, TakeError, Taken};
use super::http::{Answer, Downloads, FetchError, web_authorities};
use super::ocsp::{self, OcspError, Question};
use super::validated::Given;
use super::whitelist::{self, ListError, Outcome};
use super::{REVOCATION_LISTS, Trust, WHITE_LIST, disk};
use crate::config::Source;

/// Which files the trust folder has, how long they are and from when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stamps(BTreeSet<(PathBuf, u64, Option<SystemTime>)>);

impl Stamps {
    /// Of the folder of a trust store. Waits for the disk.
    pub(super) fn of(folder: &Path) -> Self {
        let folders = [
            folder.to_owned(),
            folder.join(REVOCATION_LISTS),
            folder.join(WHITE_LIST),
        ];
        Self(folders.iter().flat_map(|folder| files(folder)).collect())
    }
}

/// First pause after a failure; it doubles.
const RETRY: Duration = Duration::from_secs(300);
/// How often the folder is looked at, and gauges are set.
const LOOK: Duration = Duration::from_secs(30);
const DAY: u64 = 86_400;

/// Why no list came from a source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// Nothing is configured to fetch from.
    #[error("no source is configured (`trust.white_list.sources`)")]
    NoSource,
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The white list is not used.
    #[error(transparent)]
    List(#[from] ListError),
    /// The revocation list is not used.
    #[error(transparent)]
    Crl(#[from] TakeError),
    /// The task was ended.
    #[error("it was interrupted")]
    Interrupted,
}

impl Trust {
    /// Keeps everything up to date until it is told to stop.
    pub async fn maintain(self, stop: CancellationToken) {
        let work = async {
            // The signer of the white list is looked up in the revocation lists.
            let first = self.refresh_crls().await;
            tokio::join!(
                self.keep_crls(first),
                self.keep_list(),
                self.keep_answers(),
                self.watch()
            );
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = work => {}
        }
    }

    /// Fetches every revocation list now. Each source with what became of it.
    pub async fn refresh_crls(&self) -> Vec<(String, Result<Taken, RefreshError>)> {
        let mut outcomes = Vec::new();
        for source in self.crl_sources() {
            let outcome = self.refresh_crl(&source).await;
            match &outcome {
                Ok(Taken::New(list)) => {
                    tracing::info!(%source, authority = list.authority, entries = list.entries(), "revocation list replaced");
                }
                Ok(Taken::Same(_)) => {}
                Err(error) => {
                    metrics::counter!("drimbox_crl_refresh_failures_total").increment(1);
                    tracing::warn!(%source, %error, "revocation list not refreshed");
                }
            }
            outcomes.push((source.to_string(), outcome));
        }
        self.set_gauges();
        outcomes
    }

    /// Fetches the white list now, from the first source that has one.
    ///
    /// # Errors
    /// What the last source ended with.
    pub async fn refresh_list(&self, confirmed: bool) -> Result<Outcome, RefreshError> {
        let sources = self.0.settings.white_list.sources.clone();
        let mut last = RefreshError::NoSource;
        for source in sources {
            let fetched = self.fetch_list(&source).await;
            let trust = self.clone();
            let name = source.to_string();
            let outcome = blocking(move || match fetched {
                Ok(bytes) => trust
                    .0
                    .take_list(&bytes, &name, confirmed)
                    .map_err(RefreshError::from),
                Err(error) => {
                    tracing::warn!(source = name, %error, "white list not fetched");
                    let noted = trust
                        .0
                        .lists
                        .failed(&name, error.to_string(), trust.0.clock.now());
                    if let Err(error) = noted {
                        tracing::error!(%error, "history of the white list not written");
                    }
                    Err(error.into())
                }
            });
            match outcome.await.and_then(|outcome| outcome) {
                Ok(outcome) => {
                    self.set_gauges();
                    self.tell_of_old_signature();
                    return Ok(outcome);
                }
                Err(error) => last = error,
            }
        }
        self.set_gauges();
        Err(last)
    }

    /// Whoever stands between could answer with the same signed list for ever: only its signing time
    /// tells.
    fn tell_of_old_signature(&self) {
        if let Some(status) = self.list_status().filter(|status| status.signed_long_ago) {
            tracing::error!(
                signed_days = status.signed_age / DAY,
                "the white list was signed long ago: ask its publisher whether there is a newer one"
            );
        }
    }

    async fn refresh_crl(&self, source: &Source) -> Result<Taken, RefreshError> {
        let lists = self.0.crls.current();
        let in_use = |digest: &[u8; 32]| lists.values().find(|list| list.fingerprint == *digest);
        let known = self.given(source, |digest| in_use(digest).is_some());
        let (fetched, digest) = self.fetch(source, crl::MAX_BYTES, known).await?;
        let Some(bytes) = fetched else {
            let list = in_use(&digest).ok_or(RefreshError::Interrupted)?;
            return Ok(Taken::Same(std::sync::Arc::clone(list)));
        };
        let trust = self.clone();
        // Long lists take a while: not on a thread that serves peers.
        Ok(blocking(move || trust.take_crl(&bytes)).await??)
    }

    /// Configured sources, the addresses in the authorities' own certificates, and those that the
    /// certificates of peers name.
    fn crl_sources(&self) -> Vec<Source> {
        let mut sources = self.0.settings.crl_sources.clone();
        for authority in self.0.anchors.load().authorities() {
            sources.extend(authority.crl_urls.iter().cloned().map(Source::Url));
        }
        sources.extend(self.0.points.met().into_iter().map(Source::Url));
        let mut seen = BTreeSet::new();
        sources.retain(|source| seen.insert(source.to_string()));
        sources
    }

    /// The white list of a source; the one in use when the source has no newer one.
    async fn fetch_list(&self, source: &Source) -> Result<Bytes, FetchError> {
        let active = self.0.lists.active();
        let in_use = |digest: &[u8; 32]| active.as_ref().is_some_and(|a| a.list.digest == *digest);
        let known = self.given(source, in_use);
        let (fetched, _) = self.fetch(source, whitelist::MAX_BYTES, known).await?;
        if let Some(bytes) = fetched {
            return Ok(bytes);
        }
        // Verified again as if it had come: its signer may have been revoked since.
        let trust = self.clone();
        let kept = blocking(move || trust.0.lists.active_bytes()).await;
        let kept = kept.unwrap_or(Ok(None)).ok().flatten();
        kept.map(Bytes::from).ok_or_else(|| FetchError::Status {
            url: source.to_string(),
            status: 304,
        })
    }

    /// What a source said of the list that it gave last, when this list is in use.
    fn given(&self, source: &Source, in_use: impl Fn(&[u8; 32]) -> bool) -> Given {
        let Source::Url(url) = source else {
            return Given::default();
        };
        let given = self.0.validators.get(url);
        given
            .filter(|given| in_use(&given.digest))
            .unwrap_or_default()
    }

    /// What a source has, `None` when it is what it gave last, and its SHA-256.
    async fn fetch(
        &self,
        source: &Source,
        limit: usize,
        known: Given,
    ) -> Result<(Option<Bytes>, [u8; 32]), FetchError> {
        let bytes = match source {
            Source::Url(url) => {
                let roots = match url.starts_with("https:") {
                    true => web_authorities(&self.0.settings.white_list.ca_file)?,
                    false => RootCertStore::empty(),
                };
                let downloads = self.downloads(url, roots)?;
                match downloads.get(url, limit, &known.validators).await? {
                    Answer::NotModified => return Ok((None, known.digest)),
                    Answer::Document(bytes, validators) => {
                        let digest = Sha256::digest(&bytes).into();
                        let given = Given { validators, digest };
                        let (trust, url) = (self.clone(), url.clone());
                        let kept = blocking(move || trust.0.validators.keep(&url, given)).await;
                        if let Ok(Err(error)) = kept {
                            tracing::warn!(%error, "after a restart this list is downloaded whole");
                        }
                        bytes
                    }
                }
            }
            Source::File(path) => {
                let failed = |source| FetchError::File {
                    path: path.clone(),
                    source,
                };
                let file = path.clone();
                let read = blocking(move || disk::read(&file, limit)).await;
                let read = read.unwrap_or(Ok(None)).map_err(failed)?;
                let read = read.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
                Bytes::from(read)
            }
        };
        let digest = Sha256::digest(&bytes).into();
        Ok((Some(bytes), digest))
    }

    fn downloads(&self, url: &str, roots: RootCertStore) -> Result<Downloads, FetchError> {
        let proxy = self.0.settings.http_proxy.as_ref();
        Downloads::new(roots, proxy).map_err(|error| FetchError::Unreachable {
            url: url.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Asks OCSP responders about the certificates that peers show, while there are any to ask about.
    async fn keep_answers(&self) {
        let Some(responders) = &self.0.ocsp else {
            return;
        };
        loop {
            for question in responders.due(self.0.clock.now()) {
                let outcome = self.ask(&question).await;
                let now = self.0.clock.now();
                let outcome = match outcome {
                    Ok((said, answer)) => {
                        self.keep_answer(&question, said, answer, now).await;
                        Ok(said)
                    }
                    Err(error) => Err(error),
                };
                responders.take(&question, outcome, now);
            }
            responders.one_more().await;
        }
    }

    /// On disk before it counts: what was once refused is not let in by a restart.
    async fn keep_answer(
        &self,
        question: &Question,
        said: ocsp::Said,
        answer: Bytes,
        now: UnixTime,
    ) {
        let (trust, question) = (self.clone(), question.clone());
        let kept = blocking(move || match &trust.0.ocsp {
            Some(responders) => responders.keep(&question, said, &answer, now),
            None => Ok(()),
        });
        if let Ok(Err(error)) = kept.await {
            tracing::error!(%error, "an answer of an OCSP responder is lost at the next restart");
        }
    }

    async fn ask(&self, question: &Question) -> Result<(ocsp::Said, Bytes), OcspError> {
        let unreachable = |error: FetchError| OcspError::Unreachable(error.to_string());
        let anchors = self.0.anchors.load_full();
        let request = question.request(&anchors, &self.0.known)?;
        let url = &question.url;
        let downloads = self.downloads(url, RootCertStore::empty());
        let downloads = downloads.map_err(unreachable)?;
        let media_type = "application/ocsp-request";
        let (limit, time) = (ocsp::MAX_ANSWER, ocsp::PATIENCE);
        let answer = downloads.post(url, media_type, request, limit, time).await;
        let answer = answer.map_err(unreachable)?;
        let lists = self.0.crls.current();
        let now = self.0.clock.now();
        let said = question.read(&answer, &anchors, &lists, &self.0.known, now)?;
        Ok((said, answer))
    }

    async fn keep_crls(&self, mut outcomes: Vec<(String, Result<Taken, RefreshError>)>) {
        let mut failures = 0;
        loop {
            let all_in_force = self.crl_status().iter().all(|status| status.in_force);
            let fetched = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
            failures = if fetched && all_in_force {
                0
            } else {
                failures + 1
            };
            let pause = next_crls(failures, self.0.settings.crl_refresh, random());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A certificate names an address that nobody did before.
                () = self.0.points.one_more() => {}
            }
            outcomes = self.refresh_crls().await;
        }
    }

    async fn keep_list(&self) {
        if self.0.settings.white_list.sources.is_empty() {
            return;
        }
        let minute = random() % (DAY / 60);
        let mut failures = 0;
        let recent = self.list_status().is_some_and(|status| status.age < DAY);
        if recent {
            tokio::time::sleep(until_minute(self.0.clock.now().as_secs(), minute)).await;
        }
        loop {
            failures = match self.refresh_list(false).await {
                Ok(_) => 0,
                Err(_) => failures + 1,
            };
            let now = self.0.clock.now().as_secs();
            tokio::time::sleep(next_list(failures, now, minute, random())).await;
        }
    }

    /// Notices what a command wrote, and the end of a bypass.
    async fn watch(&self) {
        let mut seen = self.stamps_when_opened();
        loop {
            self.look_at_bypass();
            tokio::time::sleep(LOOK).await;
            let stamps = self.stamps().await;
            if stamps != seen {
                let trust = self.clone();
                let _ = blocking(move || trust.read_again()).await;
                seen = stamps;
            }
            self.set_gauges();
        }
    }

    /// Says it again while one is open, and ends the one whose time is over, also when it ended while
    /// nothing ran.
    fn look_at_bypass(&self) {
        if let Some(open) = self.open_bypass() {
            tracing::error!(until = open.until, "revocation bypass OPEN");
        } else if self.0.bypass.load().is_some()
            && let Err(error) = self.end_bypass()
        {
            tracing::warn!(%error, "the file of a bypass that ended cannot be removed");
        }
    }

    /// Which files the folder has, from when: what changes when another process writes.
    pub async fn stamps(&self) -> Stamps {
        let folder = self.0.settings.folder.clone();
        let stamped = blocking(move || Stamps::of(&folder));
        stamped.await.unwrap_or_default()
    }

    /// Those of before the folder was opened: whatever was written since is not among them.
    #[must_use]
    pub fn stamps_when_opened(&self) -> Stamps {
        self.0.opened.clone()
    }

    pub(super) fn set_gauges(&self) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds and counts, far below 2^52"
        )]
        let number = |n: u64| n as f64;
        let now = self.0.clock.now().as_secs();
        for status in self.crl_status() {
            let left = status
                .list
                .as_ref()
                .map_or(0.0, |list| number(list.next_update.as_secs()) - number(now));
            let entries = status.list.as_ref().map_or(0, |list| list.entries() as u64);
            let authority = status.authority;
            metrics::gauge!("drimbox_crl_seconds_left", "authority" => authority.clone()).set(left);
            metrics::gauge!("drimbox_crl_entries", "authority" => authority).set(number(entries));
        }
        metrics::gauge!("drimbox_trust_bypass_open")
            .set(f64::from(u8::from(self.open_bypass().is_some())));
        if let Some(status) = self.list_status() {
            metrics::gauge!("drimbox_whitelist_age_seconds").set(number(status.age));
            metrics::gauge!("drimbox_whitelist_signed_age_seconds").set(number(status.signed_age));
            metrics::gauge!("drimbox_whitelist_domains")
                .set(number(status.list.domains().len() as u64));
            if status.confirmed_long_ago {
                tracing::error!(
                    age_seconds = status.age,
                    in_force = status.in_force,
                    "white list not confirmed for too long"
                );
            }
        } else {
            metrics::gauge!("drimbox_whitelist_domains").set(0.0);
        }
    }
}

fn files(folder: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
            Some((entry.path(), metadata.len(), metadata.modified().ok()))
        })
        .collect()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RefreshError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| RefreshError::Interrupted)
}

/// Pause before the next attempt after so many failures.
fn back_off(failures: u32) -> Duration {
    RETRY.saturating_mul(1 << failures.saturating_sub(1).min(10))
}

/// Pause before the revocation lists are fetched again, after so many failures in a row: about the
/// regular one, a shorter one after failures.
fn next_crls(failures: u32, regular: Duration, draw: u64) -> Duration {
    match failures {
        0 => jittered(regular, draw),
        n => jittered(back_off(n), draw).min(regular),
    }
}

/// Pause before the white list is fetched again: to this minute of the day, a shorter one after failures.
fn next_list(failures: u32, now: u64, minute: u64, draw: u64) -> Duration {
    let daily = until_minute(now, minute);
    match failures {
        0 => daily,
        n => jittered(back_off(n), draw).min(daily),
    }
}

/// Between nine and eleven tenths of it, by a number drawn at random.
fn jittered(pause: Duration, draw: u64) -> Duration {
    let share = u32::try_from(draw % 201).unwrap_or(100);
    pause.saturating_mul(900 + share) / 1_000
}

/// From a moment (Unix seconds) to the next time the day's clock (UTC) shows this minute.
fn until_minute(now: u64, minute: u64) -> Duration {
    let ahead = (minute * 60 + DAY - now % DAY) % DAY;
    Duration::from_secs(if ahead == 0 { DAY } else { ahead })
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness, everybody asks at the same minute: no harm to trust.
    let _ = crate::net::tls::provider().secure_random.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minute_of_the_day_comes_within_a_day() {
        let midnight = 20_000 * DAY;
        assert_eq!(until_minute(midnight, 1), Duration::from_secs(60));
        assert_eq!(until_minute(midnight + 60, 1), Duration::from_secs(DAY));
        assert_eq!(until_minute(midnight + 61, 1), Duration::from_secs(DAY - 1));
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        assert_eq!(back_off(1), RETRY);
        assert_eq!(back_off(3), RETRY * 4);
        assert_eq!(back_off(u32::MAX), RETRY * 1_024);
    }

    #[test]
    fn gateways_ask_for_revocation_lists_at_moments_of_their_own_around_the_regular_one() {
        let regular = Duration::from_secs(4 * 3_600);
        let drawn: BTreeSet<_> = (0..1_000).map(|draw| next_crls(0, regular, draw)).collect();
        assert_eq!(drawn.len(), 201);
        assert_eq!(drawn.first(), Some(&(regular * 9 / 10)));
        assert_eq!(drawn.last(), Some(&(regular * 11 / 10)));
        // What is drawn is not the same twice.
        assert_ne!(random(), random());
    }

    #[test]
    fn after_a_failure_lists_are_asked_for_sooner_and_never_later_than_otherwise() {
        let regular = Duration::from_secs(4 * 3_600);
        let midnight = 20_000 * DAY;
        assert_eq!(next_list(0, midnight, 90, 7), Duration::from_secs(5_400));
        for draw in [0, 100, 200] {
            let (crls, list) = (
                |failures| next_crls(failures, regular, draw),
                |failures| next_list(failures, midnight, 90, draw),
            );
            for failures in [1, 2, 3] {
                assert_eq!(crls(failures), jittered(back_off(failures), draw));
                assert_eq!(list(failures), crls(failures));
            }
            assert_eq!(crls(u32::MAX), regular);
            assert_eq!(list(u32::MAX), Duration::from_secs(5_400));
        }
    }
}
