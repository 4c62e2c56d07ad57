//! Who is asked at all, and what is sent to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use conformance::samples;
use conformance::testkit::{PeerFault, Pki};
use drimbox::archive::peer::{
    AddressPolicy, LocationError, PeerError, PeerExam, PeerSettings, Preference,
};

use crate::consumer::{HOST, Kept, ROOT, Tokens, World, fetch_all, instances, peer_error};
use crate::support::{folder, run, until};

#[test]
fn an_exam_comes_byte_for_byte_and_is_asked_for_as_drim_m_says() {
    run(async {
        let world = World::new("whole").await;
        let kept = Arc::<Kept>::default();
        let settings = PeerSettings {
            series_at_once: 4,
            ..world.settings()
        };
        let report = world.fetch(settings, &kept).await.unwrap();
        assert_eq!(report.delivered, 12);
        kept.assert_holds(&instances(world.exam));

        let requests = world.peer.requests();
        assert_eq!(requests.len(), 3, "one request a series");
        let kos = world.kos(ROOT);
        for request in requests {
            let field = |name: &str| {
                let mut all = request.fields.get_all(name).iter();
                let one = all.next().unwrap().to_str().unwrap();
                assert!(all.next().is_none(), "{name} stands there twice");
                one.to_owned()
            };
            assert!(request.line.starts_with("GET /any/path/studies/"));
            assert_eq!(field("authorization"), "Bearer token");
            assert_eq!(field("kos-sopinstanceuid"), kos.instance.as_str());
            assert_eq!(field("accept"), Preference::Lossless.accept());
            assert_eq!(field("host"), HOST);
            let known = [
                "authorization",
                "kos-sopinstanceuid",
                "accept",
                "host",
                "user-agent",
            ];
            for name in request.fields.keys() {
                assert!(known.contains(&name.as_str()), "{name} is sent too");
            }
        }
    });
}

#[test]
fn a_request_is_on_the_wire_as_the_samples_of_drim_m_have_it() {
    run(async {
        let world = World::new("wire").await;
        let kept = Arc::<Kept>::default();
        world.fetch_first(world.settings(), &kept).await.unwrap();
        let received = world.peer.received();
        let [head] = &received[..] else {
            panic!("{received:?}");
        };
        let (head, body) = head.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, "");
        let mut lines = head.split("\r\n");
        let exam = &world.exam;
        let line = format!(
            "GET /any/path/studies/{}/series/{} HTTP/1.1",
            exam.study_instance_uid, exam.series[0].series_instance_uid
        );
        assert_eq!(lines.next(), Some(line.as_str()));
        let mut fields: Vec<(String, String)> = lines
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                // Letter case of names means nothing (RFC 9110 §5.1); that of values is kept.
                (name.to_ascii_lowercase(), value.to_owned())
            })
            .filter(|(name, _)| name != "user-agent")
            .collect();
        fields.sort();
        let kos = world.kos(ROOT);
        let expected = [
            ("Accept", Preference::Lossless.accept()),
            ("Authorization", "Bearer token"),
            ("Host", HOST),
            ("KOS-SOPInstanceUID", kos.instance.as_str()),
        ];
        let expected = expected.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
        assert_eq!(fields, expected);
    });
}

/// The most series that are asked for at once, of three, with these settings.
async fn most_at_once(name: &str, settings: impl FnOnce(PeerSettings) -> PeerSettings) -> usize {
    let world = World::new(name).await;
    world.peer.behave(|behaviour| behaviour.holds = true);
    let settings = settings(world.settings());
    let limit = settings.series_at_once.min(settings.max_requests).min(3);
    let kept = Arc::<Kept>::default();
    let let_go = async {
        until("so many are asked for", async || world.peer.open() >= limit).await;
        world.peer.let_go();
    };
    let (report, ()) = tokio::join!(world.fetch(settings, &kept), let_go);
    assert_eq!(report.unwrap().delivered, 12);
    assert_eq!(world.peer.requests().len(), 3);
    world.peer.most_open()
}

#[test]
fn series_are_asked_for_together() {
    run(async {
        let most = most_at_once("together", |settings| PeerSettings {
            series_at_once: 4,
            ..settings
        });
        assert_eq!(most.await, 3);
    });
}

#[test]
fn no_more_series_are_asked_for_at_once_than_configured() {
    run(async {
        let most = most_at_once("two-at-once", |settings| PeerSettings {
            series_at_once: 2,
            ..settings
        });
        assert_eq!(most.await, 2);
    });
}

#[test]
fn no_more_requests_are_open_at_once_than_configured() {
    run(async {
        let most = most_at_once("one-request", |settings| PeerSettings {
            series_at_once: 4,
            max_requests: 1,
            ..settings
        });
        assert_eq!(most.await, 1);
    });
}

#[test]
fn nothing_is_sent_when_one_series_lies_where_nobody_is_listed() {
    run(async {
        let world = World::new("elsewhere").await;
        let mut kos = samples::kos::Kos::of(world.exam, ROOT);
        let url = kos.series[2].retrieve_url.take().unwrap();
        kos.series[2].retrieve_url = Some(url.replace(HOST, "db1.evil.example"));
        let peers = world.peers(world.settings());
        let opened = PeerExam::new(world.kos_of(&kos), peers, Arc::new(Tokens::of(&["token"])));
        let refused = opened.err().unwrap();
        assert_eq!(
            refused,
            PeerError::Location(LocationError::NotListed("db1.evil.example".into()))
        );
        assert_eq!(world.peer.connections(), 0);
    });
}

#[test]
fn a_peer_that_left_the_list_is_not_asked_any_more() {
    run(async {
        let world = World::new("left").await;
        let exam = world.open(world.settings(), Arc::new(Tokens::of(&["token"])));
        world.listed.is_gone.store(true, Ordering::SeqCst);
        let kept = Arc::<Kept>::default();
        let refused = peer_error(fetch_all(&exam, &kept).await);
        assert!(matches!(refused, PeerError::Location(_)), "{refused}");
        assert_eq!(world.peer.connections(), 0);
    });
}

#[test]
fn a_listed_name_that_leads_into_the_own_network_is_not_connected_to() {
    run(async {
        let world = World::new("private").await;
        let port = world.peer.address().port();
        // No address is configured: the name is resolved, to this machine.
        let settings = PeerSettings {
            fixed_addresses: HashMap::new(),
            ports: vec![port],
            ..world.settings()
        };
        let kos = world.kos(&format!("https://localhost:{port}"));
        let exam = |settings| {
            let peers = world.peers_listing("localhost", settings);
            PeerExam::new(Arc::clone(&kos), peers, Arc::new(Tokens::of(&["token"]))).unwrap()
        };
        let kept = Arc::<Kept>::default();
        let refused = peer_error(fetch_all(&exam(settings.clone()), &kept).await);
        assert_eq!(
            refused,
            PeerError::PrivateAddress {
                host: "localhost".into()
            }
        );
        assert_eq!(world.peer.connections(), 0);

        // Where it is allowed, the certificate still has to be that of the name.
        let allowed = PeerSettings {
            addresses: AddressPolicy {
                networks: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
            },
            ..settings
        };
        let refused = peer_error(fetch_all(&exam(allowed), &kept).await);
        assert!(matches!(refused, PeerError::Tls { .. }), "{refused}");
        assert!(world.peer.requests().is_empty());
    });
}

#[test]
fn a_redirection_is_not_followed() {
    run(async {
        let world = World::new("redirect").await;
        let other = World::new("redirect-other").await;
        for status in [301, 302, 303, 307, 308] {
            let before = world.peer.requests().len();
            let to = format!("https://{}/", other.peer.address());
            world.peer.behave(|b| {
                b.always = Some(PeerFault::Status(status, vec![("location", to)]));
            });
            let kept = Arc::<Kept>::default();
            let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
            let host = HOST.to_owned();
            assert_eq!(refused, PeerError::Redirected { host, status });
            assert_eq!(world.peer.requests().len(), before + 1);
        }
        assert_eq!(other.peer.connections(), 0);
    });
}

#[test]
fn a_peer_with_another_certificate_gets_no_token() {
    run(async {
        let pki = Pki::new(&folder("certificates-pki"), "Test CA").unwrap();
        let foreign = Pki::new(&folder("certificates-foreign"), "Other CA").unwrap();
        let other_name = pki.server(&["db3.peer.example"]).unwrap();
        let mut worlds = vec![World::with("other-name", pki, &other_name).await];
        let pki = Pki::new(&folder("certificates-pki-2"), "Test CA").unwrap();
        let foreign_name = foreign.server(&[HOST]).unwrap();
        worlds.push(World::with("foreign", pki, &foreign_name).await);
        for world in worlds {
            let kept = Arc::<Kept>::default();
            let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
            assert!(matches!(refused, PeerError::Tls { .. }), "{refused}");
            assert!(world.peer.requests().is_empty());
        }
    });
}

#[test]
fn a_consumer_whose_certificate_is_refused_is_told_so() {
    run(async {
        let mut world = World::new("refused").await;
        let foreign = Pki::new(&folder("refused-foreign"), "Other CA").unwrap();
        world.ours = foreign.client("db2.peer.example").unwrap();
        let kept = Arc::<Kept>::default();
        let refused = peer_error(world.fetch_first(world.settings(), &kept).await);
        assert!(matches!(refused, PeerError::Tls { .. }), "{refused}");
        assert!(world.peer.requests().is_empty());
    });
}
