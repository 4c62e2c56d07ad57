//! Lists from the web and from files, against a small web server.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use conformance::testkit::igc::{Authority, CrlSpec, LeafSpec};
use drimbox::config::{Source, Trust as Settings};
use drimbox::trust::Trust;
use drimbox::trust::whitelist::Outcome;
use tokio_util::sync::CancellationToken;

use super::World;

const HOST: &str = "db3.test.example.fr";

/// Answers every request with the same bytes, until it is told others.
#[derive(Clone)]
struct Web {
    root: String,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Vec::new()));
        let current = Arc::clone(&answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read(&mut byte).unwrap_or(0) == 0 {
                        break;
                    }
                    head.push(byte[0]);
                }
                let answer = current.lock().unwrap().clone();
                // A client that has read enough may be gone.
                let _ = stream.write_all(&answer);
            }
        });
        Self { root, answer }
    }

    fn says(&self, status: &str, body: &[u8]) {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        *self.answer.lock().unwrap() = [head.as_bytes(), body].concat();
    }

    fn source(&self) -> Source {
        Source::Url(format!("{}/list", self.root))
    }
}

fn ready(world: &World, settings: Settings) -> Trust {
    let trust = Trust::open(settings, world.clock()).unwrap();
    world.give_crls(&trust, &CrlSpec::default(), &CrlSpec::default());
    trust
}

#[tokio::test]
async fn the_white_list_comes_from_the_first_source_that_has_a_good_one() {
    let world = World::new();
    let (broken, good) = (Web::start(), Web::start());
    broken.says("200 OK", world.list(&[HOST]).unsigned().as_bytes());
    good.says(
        "200 OK",
        world
            .list(&[HOST])
            .sign(&world.signer())
            .unwrap()
            .as_bytes(),
    );
    let mut settings = world.settings();
    let nowhere = Source::File(world.folder.path().join("absent.xml"));
    settings.white_list.sources = vec![nowhere, broken.source(), good.source()];
    let trust = ready(&world, settings);
    assert_eq!(trust.refresh_list(false).await.unwrap(), Outcome::Accepted);
    assert_eq!(trust.refresh_list(false).await.unwrap(), Outcome::Unchanged);
    let outcomes: Vec<_> = trust
        .list_history()
        .into_iter()
        .map(|v| v.outcome)
        .collect();
    assert_eq!(
        outcomes,
        [
            "unreachable",
            "unsigned",
            "accepted",
            "unreachable",
            "unsigned",
            "unchanged"
        ]
    );
}

#[tokio::test]
async fn what_is_no_plain_answer_is_refused() {
    let world = World::new();
    let web = Web::start();
    let mut settings = world.settings();
    settings.white_list.sources = vec![web.source()];
    let trust = ready(&world, settings);
    let list = world.list(&[HOST]).sign(&world.signer()).unwrap();
    for status in [
        "404 Not Found",
        "302 Found\r\nLocation: http://127.0.0.1:9/",
        "204 No Content",
    ] {
        web.says(status, list.as_bytes());
        let error = trust.refresh_list(false).await.unwrap_err().to_string();
        assert!(error.contains(&status[..3]), "{status}: {error}");
    }
    web.says(
        "200 OK",
        &vec![b' '; drimbox::trust::whitelist::MAX_BYTES + 1],
    );
    let error = trust.refresh_list(false).await.unwrap_err().to_string();
    assert!(error.contains("larger"), "{error}");
    *web.answer.lock().unwrap() = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
    trust.refresh_list(false).await.unwrap_err();
    assert!(trust.list_status().is_none());
}

#[tokio::test]
async fn revocation_lists_come_from_the_web_and_from_files() {
    let world = World::new();
    let web = Web::start();
    web.says(
        "200 OK",
        &world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap(),
    );
    let file = world.folder.path().join("organisations.crl");
    std::fs::write(
        &file,
        world
            .igc
            .crl(Authority::Organisations, &CrlSpec::default())
            .unwrap(),
    )
    .unwrap();
    let mut settings = world.settings();
    settings.crl_sources = vec![web.source(), Source::File(file.clone())];
    let trust = Trust::open(settings, world.clock()).unwrap();
    assert!(
        trust
            .crl_status()
            .iter()
            .all(|status| status.list.is_none())
    );
    let outcomes = trust.refresh_crls().await;
    assert!(
        outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        "{outcomes:?}"
    );
    assert!(trust.crl_status().iter().all(|status| status.in_force));

    // A source that fails leaves what is in use.
    web.says("500 Oops", b"");
    std::fs::write(&file, b"<html>").unwrap();
    let outcomes = trust.refresh_crls().await;
    assert!(
        outcomes.iter().all(|(_, outcome)| outcome.is_err()),
        "{outcomes:?}"
    );
    assert!(trust.crl_status().iter().all(|status| status.in_force));
}

#[tokio::test]
async fn at_its_start_the_service_fetches_what_it_lacks_and_it_stops_when_told() {
    let world = World::new();
    let folder = world.folder.path();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).unwrap();
        Source::File(folder.join(name))
    };
    let mut settings = world.settings();
    settings.crl_sources = vec![
        put(
            "root.crl",
            &world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap(),
        ),
        put(
            "org.crl",
            &world
                .igc
                .crl(Authority::Organisations, &CrlSpec::default())
                .unwrap(),
        ),
    ];
    let list = world.list(&[HOST]).sign(&world.signer()).unwrap();
    settings.white_list.sources = vec![put("list.xml", list.as_bytes())];
    let trust = Trust::open(settings, world.clock()).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(trust.clone().maintain(stop.clone()));
    let leaf = world.igc.leaf(&LeafSpec::peer(HOST)).unwrap();
    let chain = [leaf.certificate.der().clone()];
    while trust.peer(&chain).is_err() {
        assert!(!running.is_finished());
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
}
