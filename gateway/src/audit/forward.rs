//! Sending records to syslog servers over TLS (RFC 5425), each at least once.
//!
//! Syslog has no acknowledgement. A connection is therefore ended in order after a while, and only when
//! the server has ended it too, which it does after it has read everything, are its records held as
//! delivered and the place kept. What was sent on a connection that broke is sent again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::atna::Source;
use super::follow::{self, Cursor};
use super::record::{Anchor, Record, Sequence};
use super::{Audit, syslog};

/// Records read and sent together.
const BATCH: usize = 256;
/// Records after which a connection is confirmed.
const MAX_UNCONFIRMED: usize = 4_096;
/// How long a stop waits for a server.
const LAST_PATIENCE: Duration = Duration::from_secs(3);
/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// A syslog server.
#[derive(Clone)]
pub struct Target {
    /// Its name, of file and label: letters, digits and hyphens.
    pub name: Arc<str>,
    /// Host name or address to connect to.
    pub host: String,
    /// TCP port; 6514 is that of RFC 5425.
    pub port: u16,
    /// Trusted authorities, and the client certificate if there is one.
    pub tls: TlsConnector,
    /// Name expected in its certificate.
    pub server_name: ServerName<'static>,
    /// Limits of time.
    pub timing: Timing,
}

/// Limits of time of an exchange.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// To connect, TLS included; for the server to take or end something.
    pub patience: Duration,
    /// How long a connection is kept open for further records.
    pub confirm_after: Duration,
    /// First pause after a failure; it doubles up to a minute.
    pub pause: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(15),
            confirm_after: Duration::from_secs(5),
            pause: Duration::from_secs(1),
        }
    }
}

/// Why an exchange ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("it cannot be reached: {0}")]
    Connect(std::io::Error),
    #[error("it did not answer in time")]
    Patience,
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
    #[error("it ended the connection before it was asked to")]
    Ended,
    #[error("the trail cannot be read: {0}")]
    Read(std::io::Error),
}

impl Failure {
    fn cause(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Patience => "timeout",
            Self::Broken(_) => "broken",
            Self::Ended => "ended",
            Self::Read(_) => "read",
        }
    }
}

/// Sends what is recorded to every target until it is told to stop. What is recorded by then is still
/// tried, for a few seconds.
pub async fn forward(
    audit: Audit,
    dir: PathBuf,
    source: Source,
    targets: Vec<Target>,
    stop: CancellationToken,
) {
    let places = Arc::new(Mutex::new(vec![Sequence(0); targets.len()]));
    let mut sending = tokio::task::JoinSet::new();
    for (at, target) in targets.into_iter().enumerate() {
        let sender = Sender {
            audit: audit.clone(),
            dir: dir.clone(),
            source: source.clone(),
            target,
            at,
            places: Arc::clone(&places),
        };
        sending.spawn(sender.run(stop.clone()));
    }
    sending.join_all().await;
}

/// What one target has got, and how it gets the rest.
struct Sender {
    audit: Audit,
    dir: PathBuf,
    source: Source,
    target: Target,
    at: usize,
    places: Arc<Mutex<Vec<Sequence>>>,
}

impl Sender {
    async fn run(self, stop: CancellationToken) {
        let name = &self.target.name;
        let mut acknowledged = self.audit.acknowledged();
        let mut confirmed = match follow::read_position(&self.dir, name) {
            Ok(position) => position,
            Err(error) => {
                tracing::warn!(%error, target = %name, "the place of a syslog server is lost: it gets the whole audit trail again");
                Sequence(0)
            }
        };
        self.note(confirmed);
        let mut pause = self.target.timing.pause;
        loop {
            let news = acknowledged.wait_for(|anchor| anchor.sequence > confirmed);
            let is_over = tokio::select! {
                biased;
                news = news => news.is_err(),
                () = stop.cancelled() => true,
            };
            if is_over {
                return;
            }
            let over = async {
                stop.cancelled().await;
                sleep(LAST_PATIENCE).await;
            };
            let exchanged = tokio::select! {
                exchanged = self.exchange(confirmed, &stop) => exchanged,
                () = over => Err(Failure::Patience),
            };
            match exchanged {
                Ok(last) => {
                    confirmed = last.sequence;
                    pause = self.target.timing.pause;
                    if let Err(error) = follow::write_position(&self.dir, name, last) {
                        tracing::warn!(%error, target = %name, "the place of a syslog server cannot be kept: after a restart it gets some records again");
                    }
                    self.note(confirmed);
                }
                Err(failure) => {
                    let cause = failure.cause();
                    tracing::warn!(error = %failure, target = %name, "the audit trail waits for a syslog server");
                    metrics::counter!("drimbox_audit_syslog_failures_total", "target" => name.to_string(), "cause" => cause).increment(1);
                    self.note(confirmed);
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = stop.cancelled() => return,
                    }
                    pause = (pause * 2).min(MAX_PAUSE);
                }
            }
        }
    }

    /// Tells what the target has: to the retention, and as the metric of what it has not.
    fn note(&self, confirmed: Sequence) {
        let mut places = self.places.lock();
        if let Some(place) = places.get_mut(self.at) {
            *place = confirmed;
        }
        let last = places.iter().min().copied();
        self.audit.hold_after(last.unwrap_or_default());
        drop(places);
        let lag = self.audit.anchor().sequence.0.saturating_sub(confirmed.0);
        #[allow(clippy::cast_precision_loss, reason = "a number for a graph")]
        let lag = lag as f64;
        let name = self.target.name.to_string();
        metrics::gauge!("drimbox_audit_syslog_lag_records", "target" => name).set(lag);
    }

    /// One connection: the records after `confirmed`, then those that come while it is open. The last
    /// one, once the server has ended the connection in its turn.
    async fn exchange(
        &self,
        confirmed: Sequence,
        stop: &CancellationToken,
    ) -> Result<Anchor, Failure> {
        let Timing {
            patience,
            confirm_after,
            ..
        } = self.target.timing;
        let stream = timeout(patience, self.connect());
        let stream = stream.await.map_err(|_| Failure::Patience)??;
        let (mut from, mut to) = tokio::io::split(stream);
        let mut acknowledged = self.audit.acknowledged();
        let mut cursor = Cursor::after(confirmed);
        let mut last = Anchor::EMPTY;
        let mut sent = 0;
        let until = Instant::now() + confirm_after;
        while sent < MAX_UNCONFIRMED {
            let known = acknowledged.borrow_and_update().sequence;
            let (records, next) = self.batch(cursor, known).await?;
            cursor = next;
            if let Some(record) = records.last() {
                last = record.anchor();
                sent += records.len();
                let delivered = timeout(patience, self.deliver(&mut to, &records));
                delivered.await.map_err(|_| Failure::Patience)??;
                continue;
            }
            // Nothing more for now: wait for more, for the end of the time, or for the server to go.
            let mut byte = [0; 64];
            tokio::select! {
                news = timeout_at(until, acknowledged.changed()) => {
                    if !matches!(news, Ok(Ok(()))) {
                        break;
                    }
                }
                () = stop.cancelled() => break,
                read = from.read(&mut byte) => match read {
                    Ok(0) => return Err(Failure::Ended),
                    Ok(_) => {}
                    Err(error) => return Err(Failure::Broken(error)),
                },
            }
        }
        timeout(patience, confirm(from, to))
            .await
            .map_err(|_| Failure::Patience)??;
        Ok(last)
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
        let address = (self.target.host.as_str(), self.target.port);
        let stream = TcpStream::connect(address)
            .await
            .map_err(Failure::Connect)?;
        let name = self.target.server_name.clone();
        self.target
            .tls
            .connect(name, stream)
            .await
            .map_err(Failure::Connect)
    }

    async fn batch(
        &self,
        mut cursor: Cursor,
        known: Sequence,
    ) -> Result<(Vec<Record>, Cursor), Failure> {
        let dir = self.dir.clone();
        let read = tokio::task::spawn_blocking(move || {
            let records = cursor.read(&dir, known, BATCH)?;
            Ok((records, cursor))
        });
        match read.await {
            Ok(read) => read.map_err(Failure::Read),
            Err(error) => Err(Failure::Read(std::io::Error::other(error))),
        }
    }

    async fn deliver(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        records: &[Record],
    ) -> Result<(), Failure> {
        for record in records {
            // A kind that this version does not know was written by a later one, which sends it.
            let Some(event) = record.event() else {
                continue;
            };
            let message = syslog::message(record, &event, &self.source);
            let written = to.write_all(&syslog::frame(&message)).await;
            written.map_err(Failure::Broken)?;
        }
        to.flush().await.map_err(Failure::Broken)
    }
}

/// Ends the connection and waits until the server does. A server that goes with something unread
/// resets the connection instead (RFC 9293 §3.10.7.4 leaves it to the system; Linux does).
async fn confirm(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> Result<(), Failure> {
    to.shutdown().await.map_err(Failure::Broken)?;
    let mut bytes = [0; 64];
    loop {
        match from.read(&mut bytes).await {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // A server that leaves out close_notify (RFC 5246 §7.2.1), as rsyslog does with GnuTLS, has ended
            // it all the same.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(Failure::Broken(error)),
        }
    }
}

#[cfg(test)]
mod tests;
