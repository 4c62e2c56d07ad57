//! Lists from the web and from files, against a small web server.

use std::time::Duration;

use conformance::testkit::ConnectProxy;
use conformance::testkit::igc::{Authority, CrlSpec, Igc, LeafSpec};
use drimbox::config::{Source, Trust as Settings};
use drimbox::trust::Trust;
use drimbox::trust::whitelist::Outcome;
use tokio_util::sync::CancellationToken;

use super::web::Web;
use super::{DAY, START, World, date};

const HOST: &str = "db3.test.example.fr";

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
    web.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
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

#[tokio::test(start_paused = true)]
async fn what_changes_at_its_source_is_taken_at_the_next_round() {
    let world = World::new();
    let folder = world.folder.path();
    let put = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).unwrap();
        Source::File(folder.join(name))
    };
    let crl = |authority, number: u64, revoked: Vec<u64>| {
        let spec = CrlSpec {
            number,
            revoked,
            ..CrlSpec::default()
        };
        world.igc.crl(authority, &spec).unwrap()
    };
    let list = |hosts: &[&str]| world.list(hosts).sign(&world.signer()).unwrap();
    let mut settings = world.settings();
    settings.crl_sources = vec![
        put("root.crl", &crl(Authority::Root, 10, vec![])),
        put("org.crl", &crl(Authority::Organisations, 10, vec![])),
    ];
    settings.white_list.sources = vec![put("list.xml", list(&[HOST]).as_bytes())];
    let regular = settings.crl_refresh;
    let trust = Trust::open(settings, world.clock()).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(trust.clone().maintain(stop.clone()));
    let said = || {
        let leaf = world.peer(HOST);
        let peer = trust.peer(&[leaf.certificate.der().clone()]);
        peer.map(|_| ()).map_err(|refusal| refusal.label())
    };
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(said(), Ok(()));

    // Revocation lists: about the regular pause later, at most a tenth more or less.
    put("org.crl", &crl(Authority::Organisations, 11, vec![0x1234]));
    put("list.xml", list(&[HOST, "db9.test.example.fr"]).as_bytes());
    tokio::time::sleep(regular * 8 / 10).await;
    assert_eq!(said(), Ok(()), "sooner than the next round");
    tokio::time::sleep(regular * 3 / 10).await;
    assert_eq!(said(), Err("revoked"));

    // The white list: within a day of the change.
    let domains = || trust.list_status().unwrap().list.domains().len();
    tokio::time::sleep(Duration::from_secs(DAY) - regular * 11 / 10).await;
    assert_eq!(domains(), 2);
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_list_that_did_not_change_is_confirmed_without_being_sent_again() {
    let world = World::new();
    let web = Web::start();
    let list = world.list(&[HOST]).sign(&world.signer()).unwrap();
    web.has_version("\"one\"", list.as_bytes());
    let mut settings = world.settings();
    settings.white_list.sources = vec![web.source()];
    let trust = ready(&world, settings.clone());
    assert_eq!(trust.refresh_list(false).await.unwrap(), Outcome::Accepted);
    assert!(!web.requests()[0].contains("if-none-match"));

    // A day later: asked for a newer one only, and confirmed.
    world.at(START + DAY);
    assert_eq!(trust.refresh_list(false).await.unwrap(), Outcome::Unchanged);
    assert!(web.requests()[1].contains("if-none-match: \"one\""));
    let modified = "if-modified-since: Thu, 01 Oct 2026 00:00:00 GMT";
    assert!(web.requests()[1].contains(modified), "{:?}", web.requests());
    assert_eq!(web.statuses(), [200, 304]);
    let status = trust.list_status().unwrap();
    assert_eq!((status.confirmed_at, status.age), (START + DAY, 0));

    // Another one is sent, and counts.
    let two = [HOST, "db9.test.example.fr"];
    let newer = world.list(&two).sign(&world.signer()).unwrap();
    web.has_version("\"two\"", newer.as_bytes());
    assert_eq!(trust.refresh_list(false).await.unwrap(), Outcome::Accepted);
    assert_eq!(trust.list_status().unwrap().list.domains().len(), 2);

    // Who knows no list asks for all of it, whatever the server says.
    std::fs::remove_dir_all(world.folder.path().join("trust/whitelist")).unwrap();
    let bare = ready(&world, settings);
    assert_eq!(bare.refresh_list(false).await.unwrap(), Outcome::Accepted);
    assert!(!web.requests()[3].contains("if-none-match"));
}

#[tokio::test]
async fn a_list_confirmed_by_304_whose_signer_was_revoked_since_is_not_confirmed() {
    let world = World::new();
    let web = Web::start();
    let list = world.list(&[HOST]).sign(&world.signer()).unwrap();
    web.has_version("\"one\"", list.as_bytes());
    let mut settings = world.settings();
    settings.white_list.sources = vec![web.source()];
    let trust = ready(&world, settings);
    trust.refresh_list(false).await.unwrap();
    let signer = CrlSpec {
        number: 11,
        revoked: vec![LeafSpec::signer().serial],
        ..CrlSpec::default()
    };
    world.give_crls(&trust, &CrlSpec::default(), &signer);
    trust.refresh_list(false).await.unwrap_err();
    assert_eq!(web.statuses().last(), Some(&304));
}

#[tokio::test]
async fn a_revocation_list_that_did_not_change_is_not_sent_again() {
    let world = World::new();
    let web = Web::start();
    let list = world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap();
    web.has_version("\"crl\"", &list);
    let mut settings = world.settings();
    settings.crl_sources = vec![web.source()];
    let trust = Trust::open(settings, world.clock()).unwrap();
    for _ in 0..2 {
        let outcomes = trust.refresh_crls().await;
        assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));
    }
    assert_eq!(web.statuses(), [200, 304]);
}

#[tokio::test]
async fn after_a_restart_too_only_a_newer_list_is_sent() {
    let world = World::new();
    let (lists, crls) = (Web::start(), Web::start());
    let list = world.list(&[HOST]).sign(&world.signer()).unwrap();
    lists.has_version("\"one\"", list.as_bytes());
    let crl = world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap();
    crls.has_version("\"crl\"", &crl);
    let mut settings = world.settings();
    settings.white_list.sources = vec![lists.source()];
    settings.crl_sources = vec![crls.source()];
    let above = world.igc.crl(Authority::Organisations, &CrlSpec::default());
    let restart = || Trust::open(settings.clone(), world.clock()).unwrap();
    restart().take_crl(&above.unwrap()).unwrap();
    let refreshed = async || {
        let trust = restart();
        assert!(trust.refresh_crls().await.iter().all(|(_, o)| o.is_ok()));
        trust.refresh_list(false).await.unwrap()
    };
    assert_eq!(refreshed().await, Outcome::Accepted);
    assert_eq!(refreshed().await, Outcome::Unchanged);
    assert_eq!(
        (lists.statuses(), crls.statuses()),
        (vec![200, 304], vec![200, 304])
    );

    // What is not in use any more is sent whole: the list on disk was damaged.
    let kept = world.folder.path().join("trust/whitelist/active.xml");
    std::fs::write(&kept, list.replacen("db3", "db4", 1)).unwrap();
    assert_eq!(refreshed().await, Outcome::Accepted);
    assert_eq!(lists.statuses(), [200, 304, 200]);
    // A file of validators that cannot be read is as none.
    let noted = world.folder.path().join("trust/downloads/validators.json");
    std::fs::write(noted, "damaged").unwrap();
    assert_eq!(refreshed().await, Outcome::Unchanged);
    assert_eq!(lists.statuses(), [200, 304, 200, 200]);
    assert_eq!(crls.statuses(), [200, 304, 304, 200]);
}

#[tokio::test]
async fn every_download_goes_through_the_proxy_of_the_site() {
    let world = World::new();
    let way_out = ConnectProxy::start().await.unwrap();
    let (clear, secret) = (Web::start(), Web::start_tls(world.folder.path()));
    let crl = world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap();
    clear.says("200 OK", &crl);
    let list = world.list(&[HOST]).sign(&world.signer()).unwrap();
    secret.says("200 OK", list.as_bytes());
    let mut settings = world.settings();
    settings.crl_sources = vec![clear.source()];
    settings.white_list.sources = vec![secret.source()];
    settings.white_list.ca_file = secret.ca_file();
    way_out.require("drimbox", "mot de passe");
    let address = way_out.url().replace("//", "//drimbox:mot%20de%20passe@");
    settings.http_proxy = Some(address.parse().unwrap());
    let trust = ready(&world, settings);
    assert_eq!(trust.refresh_list(false).await.unwrap(), Outcome::Accepted);
    let outcomes = trust.refresh_crls().await;
    assert!(
        outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
        "{outcomes:?}"
    );
    // In clear the proxy sees the address; else a name and a port.
    assert_eq!(way_out.forwarded(), [clear.source().to_string()]);
    let place = secret.source().to_string().replace("https://", "");
    assert_eq!(way_out.tunnels(), [place.replace("/list", "")]);

    way_out.refuse(true);
    trust.refresh_list(false).await.unwrap_err();
    assert!(trust.list_status().unwrap().in_force);
}

#[tokio::test]
async fn the_revocation_list_that_a_peer_names_is_fetched() {
    let world = World::new();
    let web = Web::start();
    let crl = world
        .igc
        .crl(Authority::Organisations, &CrlSpec::default())
        .unwrap();
    web.says("200 OK", &crl);
    let trust = Trust::open(world.settings(), world.clock()).unwrap();
    let root = world.igc.crl(Authority::Root, &CrlSpec::default()).unwrap();
    trust.take_crl(&root).unwrap();
    let spec = LeafSpec {
        crl_url: web.source().to_string(),
        ..LeafSpec::peer(HOST)
    };
    let leaf = world.igc.leaf(&spec).unwrap();
    let verifier = trust.client_verifier();
    let let_in = || {
        let shown = leaf.certificate.der();
        verifier
            .verify_client_cert(shown, &[], world.unix())
            .is_ok()
    };
    // No handshake waits for a download.
    assert!(!let_in() && web.requests().is_empty());
    let stop = CancellationToken::new();
    let running = tokio::spawn(trust.clone().maintain(stop.clone()));
    while !let_in() {
        assert!(!running.is_finished());
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn addresses_in_certificates_are_asked_only_where_they_may_be() {
    let world = World::new();
    let trust = Trust::open(world.settings(), world.clock()).unwrap();
    let show = |igc: &Igc, url: &str| {
        let spec = LeafSpec {
            crl_url: url.to_owned(),
            ..LeafSpec::peer(HOST)
        };
        let leaf = igc.leaf(&spec).unwrap();
        let verifier = trust.client_verifier();
        let _ = verifier.verify_client_cert(leaf.certificate.der(), &[], world.unix());
    };
    // One that nobody signed for us, another host, another scheme.
    let forged = Igc::new(true, date(START)).unwrap();
    show(&forged, "http://127.0.0.1:9/forged");
    show(&world.igc, "http://localhost:9/elsewhere");
    show(&world.igc, "https://127.0.0.1:9/secret");
    show(&world.igc, "ldap://127.0.0.1:9/cn=x");
    let asked = async || {
        let outcomes = trust.refresh_crls().await;
        outcomes
            .into_iter()
            .map(|(what, _)| what)
            .collect::<Vec<_>>()
    };
    assert!(asked().await.is_empty());
    // There is room for a few.
    for number in 0..40 {
        show(&world.igc, &format!("http://127.0.0.1:9/{number}"));
    }
    assert_eq!(asked().await.len(), 16);
}
