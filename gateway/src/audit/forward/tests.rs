#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeSet;
use std::path::Path;

use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::super::tests::{Hands, record, settings};
use super::super::{Settings, files};
use super::*;

/// Moments that no test measures: they only have to pass.
const SOON: Timing = Timing {
    patience: Duration::from_secs(20),
    confirm_after: Duration::from_millis(20),
    pause: Duration::from_millis(5),
};

/// A server for one connection after the other.
struct Server {
    port: u16,
    acceptor: TlsAcceptor,
    client: TlsConnector,
}

impl Server {
    fn new() -> Self {
        let key = rcgen::generate_simple_self_signed(vec!["syslog.test".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = key.cert.der().clone();
        let private = rustls_pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der());
        let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], private.unwrap())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A port that is free, and stays so in all likelihood while nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            port: free.local_addr().unwrap().port(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            client: TlsConnector::from(Arc::new(client)),
        }
    }

    fn target(&self) -> Target {
        Target {
            name: "central".into(),
            host: "127.0.0.1".into(),
            port: self.port,
            tls: self.client.clone(),
            server_name: ServerName::try_from("syslog.test").unwrap(),
            timing: SOON,
        }
    }

    fn bind(&self) -> TcpListener {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], self.port).into()).unwrap();
        socket.listen(16).unwrap()
    }

    /// Listens, and tells the sequence of every message of every connection. A connection is dropped
    /// after `drop_after` messages, without having read the rest.
    fn listen(&self, drop_after: usize) -> (mpsc::UnboundedReceiver<u64>, JoinHandle<()>) {
        let listener = self.bind();
        let acceptor = self.acceptor.clone();
        let (told, heard) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                for _ in 0..drop_after {
                    let Some(message) = read_frame(&mut stream).await else {
                        let _ = stream.shutdown().await;
                        break;
                    };
                    let _ = told.send(sequence(&message));
                }
            }
        });
        (heard, task)
    }
}

/// One message with its length in front; `None` at the end.
async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut length = 0;
    loop {
        let byte = stream.read_u8().await.ok()?;
        match byte {
            b'0'..=b'9' => length = length * 10 + usize::from(byte - b'0'),
            b' ' => break,
            other => panic!("{other} in a length"),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.ok()?;
    Some(String::from_utf8(message).unwrap())
}

fn sequence(message: &str) -> u64 {
    let (_, rest) = message.split_once("sequenceId=\"").unwrap();
    rest.split_once('"').unwrap().0.parse().unwrap()
}

fn source() -> Source {
    Source {
        site: None,
        host: "drimbox.test".into(),
    }
}

fn start(audit: &Audit, dir: &Path, target: Target) -> (CancellationToken, JoinHandle<()>) {
    let stop = CancellationToken::new();
    let sending = forward(
        audit.clone(),
        dir.to_owned(),
        source(),
        vec![target],
        stop.clone(),
    );
    (stop, tokio::spawn(sending))
}

/// Waits until the kept place is this record.
async fn confirmed(dir: &Path, last: u64) {
    while follow::read_position(dir, "central").unwrap() != Sequence(last) {
        tokio::task::yield_now().await;
    }
}

fn small(dir: &Path) -> Settings {
    Settings {
        segment_bytes: 2_000,
        ..settings(dir)
    }
}

#[tokio::test]
async fn a_server_that_goes_away_and_returns_gets_every_record() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(small(dir.path()), Hands::new().clock()).unwrap();
    let server = Server::new();
    // Nobody listens yet.
    let (stop, sending) = start(&audit, dir.path(), server.target());
    for _ in 0..40 {
        record(&audit, "1.2").await;
    }
    // A server that drops each connection after three messages gets the first ones again and again.
    let (mut heard, task) = server.listen(3);
    for _ in 0..9 {
        assert!(heard.recv().await.unwrap() <= 3);
    }
    assert_eq!(
        follow::read_position(dir.path(), "central").unwrap(),
        Sequence(0)
    );
    task.abort();
    let _ = task.await;
    for _ in 0..10 {
        record(&audit, "1.2").await;
    }
    let (mut heard, _task) = server.listen(usize::MAX);
    let mut all = BTreeSet::new();
    while all.len() < 50 {
        all.insert(heard.recv().await.unwrap());
    }
    assert_eq!(all, (1..=50).collect());
    confirmed(dir.path(), 50).await;
    stop.cancel();
    sending.await.unwrap();
}

#[tokio::test]
async fn after_a_restart_sending_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::new();
    let (mut heard, _task) = server.listen(usize::MAX);
    let mut next = 1;
    for _ in 0..3 {
        let audit = Audit::open(small(dir.path()), Hands::new().clock()).unwrap();
        for _ in 0..7 {
            record(&audit, "1.2").await;
        }
        let (stop, sending) = start(&audit, dir.path(), server.target());
        for _ in 0..7 {
            assert_eq!(heard.recv().await.unwrap(), next);
            next += 1;
        }
        confirmed(dir.path(), next - 1).await;
        stop.cancel();
        sending.await.unwrap();
        audit.close().await;
    }
    assert!(heard.try_recv().is_err(), "a record was sent twice");
}

#[tokio::test]
async fn a_server_of_another_authority_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(small(dir.path()), Hands::new().clock()).unwrap();
    record(&audit, "1.2").await;
    let (server, other) = (Server::new(), Server::new());
    let (mut heard, _task) = server.listen(usize::MAX);
    let target = Target {
        tls: other.target().tls,
        ..server.target()
    };
    let sender = Sender {
        audit: audit.clone(),
        dir: dir.path().to_owned(),
        source: source(),
        target,
        at: 0,
        places: Arc::default(),
    };
    let refused = sender
        .exchange(Sequence(0), &CancellationToken::new())
        .await;
    assert!(matches!(refused, Err(Failure::Connect(_))), "{refused:?}");
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn what_a_server_took_without_reading_it_does_not_count_as_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(small(dir.path()), Hands::new().clock()).unwrap();
    for _ in 0..60 {
        record(&audit, "1.2").await;
    }
    let server = Server::new();
    let listener = server.bind();
    let acceptor = server.acceptor.clone();
    let _holding = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        read_frame(&mut stream).await.unwrap();
        std::future::pending::<()>().await;
    });
    let sender = Sender {
        audit: audit.clone(),
        dir: dir.path().to_owned(),
        source: source(),
        target: Target {
            timing: Timing {
                patience: Duration::from_millis(500),
                confirm_after: Duration::ZERO,
                ..SOON
            },
            ..server.target()
        },
        at: 0,
        places: Arc::default(),
    };
    let exchanged = sender
        .exchange(Sequence(0), &CancellationToken::new())
        .await;
    assert!(exchanged.is_err(), "{exchanged:?}");
}

#[tokio::test]
async fn records_are_read_across_segments_and_never_beyond_what_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(small(dir.path()), Hands::new().clock()).unwrap();
    for _ in 0..30 {
        record(&audit, "1.2").await;
    }
    assert!(files::segments(dir.path()).unwrap().len() > 3);
    for from in [0, 1, 7, 28] {
        let mut cursor = Cursor::after(Sequence(from));
        let mut read = Vec::new();
        loop {
            let records = cursor.read(dir.path(), Sequence(29), 4).unwrap();
            if records.is_empty() {
                break;
            }
            read.extend(records.iter().map(|record| record.sequence.0));
        }
        assert_eq!(read, (from + 1..=29).collect::<Vec<_>>());
        let last = cursor.read(dir.path(), Sequence(30), 4).unwrap();
        assert_eq!(last[0].sequence, Sequence(30));
    }
}
