//! What OCSP responders say, with `openssl ocsp` as the responder: « revoked » is a refusal, and
//! nothing else changes anything.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::testkit::free_port;
use conformance::testkit::igc::{Authority, CrlSpec, Igc, Leaf, LeafSpec};
use drimbox::config::OcspUse;
use drimbox::trust::Trust;
use rcgen::ExtendedKeyUsagePurpose as Usage;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use super::web::Web;
use super::{HOUR, World};

const HOST: &str = "db3.test.example.fr";
/// Serial numbers of the responders.
const RESPONDER: u64 = 0x6001;

/// A gateway that asks responders, at the time of the machine: openssl has no other.
struct Asking {
    world: World,
    trust: Trust,
    now: u64,
}

impl Asking {
    fn new() -> Self {
        Self::with(OcspUse::Tighten)
    }

    fn with(ocsp: OcspUse) -> Self {
        let now = OffsetDateTime::now_utc();
        let world = World::with(Igc::new(true, now).unwrap());
        let now = u64::try_from(now.unix_timestamp()).unwrap();
        world.at(now);
        let mut settings = world.settings();
        settings.ocsp = ocsp;
        let trust = Trust::open(settings, world.clock()).unwrap();
        let revoked_responder = CrlSpec {
            revoked: vec![RESPONDER + 9],
            ..CrlSpec::default()
        };
        world.give_crls(&trust, &CrlSpec::default(), &revoked_responder);
        let folder = world.folder.path();
        let above = [
            ("root.pem", Authority::Root),
            ("above.pem", Authority::Organisations),
        ];
        for (name, authority) in above {
            let pem = world.igc.certificate(authority).pem();
            std::fs::write(folder.join(name), pem).unwrap();
        }
        let key = world.igc.key_pem(Authority::Organisations);
        std::fs::write(folder.join("above.key"), key).unwrap();
        Self { world, trust, now }
    }

    /// The same gateway after a restart.
    fn restart(&mut self) {
        let mut settings = self.world.settings();
        settings.ocsp = OcspUse::Tighten;
        self.trust = Trust::open(settings, self.world.clock()).unwrap();
    }

    /// The files of answers that are kept.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder().join("trust/ocsp")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    fn folder(&self) -> &Path {
        self.world.folder.path()
    }

    /// A peer whose certificate names this responder.
    fn peer(&self, responder: &str) -> Leaf {
        let spec = LeafSpec {
            ocsp_url: Some(responder.to_owned()),
            ..LeafSpec::peer(HOST)
        };
        self.world.igc.leaf(&spec).unwrap()
    }

    /// A certificate to answer with, and its key, as files of this name.
    fn signer(&self, name: &str, igc: &Igc, usage: Usage, serial: u64) -> String {
        let spec = LeafSpec {
            usages: vec![usage],
            serial,
            ..LeafSpec::peer("Responder")
        };
        let leaf = igc.leaf(&spec).unwrap();
        let write = |kind: &str, pem: String| {
            std::fs::write(self.folder().join(format!("{name}.{kind}")), pem).unwrap();
        };
        write("pem", leaf.certificate.pem());
        write("key", leaf.key.serialize_pem());
        name.to_owned()
    }

    /// What openssl knows of certificates: `R` (revoked) or `V` of this serial number.
    fn index(&self, state: char, serial: u64) {
        let revoked = if state == 'R' { "261001000000Z" } else { "" };
        let line = format!("{state}\t360101000000Z\t{revoked}\t{serial:04X}\tunknown\t/CN=peer\n");
        std::fs::write(self.folder().join("index.txt"), line).unwrap();
    }

    /// The answer of openssl, signed by `signer`, about a certificate with this serial number.
    fn answer(&self, signer: &str, serial: u64) -> Vec<u8> {
        let serial = format!("0x{serial:x}");
        let out = self.folder().join("answer.der");
        let pem = format!("{signer}.pem");
        let key = format!("{signer}.key");
        let done = Command::new("openssl")
            .current_dir(self.folder())
            .args(["ocsp", "-index", "index.txt", "-CA", "above.pem"])
            .args(["-issuer", "above.pem", "-serial", &serial])
            .args(["-rsigner", &pem, "-rkey", &key])
            .args(["-nmin", "60", "-respout", "answer.der"])
            .args(["-no_nonce", "-noverify"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        std::fs::read(out).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    fn lets_in(&self, peer: &Leaf) -> bool {
        let shown = peer.certificate.der();
        let verifier = self.trust.client_verifier();
        let outcome = verifier.verify_client_cert(shown, &[], self.world.unix());
        if let Err(error) = &outcome {
            let revoked = rustls::CertificateError::Revoked;
            assert_eq!(*error, rustls::Error::InvalidCertificate(revoked));
        }
        outcome.is_ok()
    }

    /// Asks until the peer is refused.
    async fn is_refused_in_the_end(&self, peer: &Leaf) {
        let stop = CancellationToken::new();
        let running = tokio::spawn(self.trust.clone().maintain(stop.clone()));
        while self.lets_in(peer) {
            assert!(!running.is_finished());
            tokio::task::yield_now().await;
        }
        stop.cancel();
        running.await.unwrap();
    }

    /// Has an answer taken, whatever it says; whether the peer is let in then. Questions are asked one
    /// after the other: when one that came up later is asked, the answer to this one was looked at.
    async fn hears(&self, web: &Web, peer: &Leaf) -> bool {
        let stop = CancellationToken::new();
        let running = tokio::spawn(self.trust.clone().maintain(stop.clone()));
        let later = Web::start();
        later.says("200 OK", b"");
        let sentinel = self.peer(&later.source().to_string());
        for (web, shown) in [(web, peer), (&later, &sentinel)] {
            assert!(self.lets_in(shown));
            while web.requests().is_empty() {
                assert!(!running.is_finished());
                tokio::task::yield_now().await;
            }
        }
        stop.cancel();
        running.await.unwrap();
        self.lets_in(peer)
    }
}

#[tokio::test]
async fn a_responder_that_says_revoked_has_a_peer_refused() {
    let asking = Asking::new();
    asking.index('R', 0x1234);
    let port = free_port().unwrap();
    let signer = asking.signer(
        "responder",
        &asking.world.igc,
        Usage::OcspSigning,
        RESPONDER,
    );
    let place = format!("{port}");
    let mut openssl = Command::new("openssl");
    openssl
        .current_dir(asking.folder())
        .args(["ocsp", "-index", "index.txt", "-CA", "above.pem"])
        .args(["-rsigner", &format!("{signer}.pem")])
        .args(["-rkey", &format!("{signer}.key")])
        .args(["-nmin", "60", "-port", &place]);
    openssl.stderr(Stdio::piped());
    let mut responder = Responder(openssl.spawn().unwrap());
    // It gives up at a connection that asks nothing: it says itself when it is ready.
    let said = BufReader::new(responder.0.stderr.take().unwrap());
    let mut lines = said.lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("waiting for OCSP client")));
    let peer = asking.peer(&format!("http://127.0.0.1:{port}"));
    // The first handshake does not wait for an answer.
    assert!(asking.lets_in(&peer));
    asking.is_refused_in_the_end(&peer).await;
}

#[tokio::test]
async fn what_a_responder_revoked_stays_refused_after_a_restart() {
    let mut asking = Asking::new();
    let web = Web::start();
    asking.index('R', 0x1234);
    web.says("200 OK", &asking.answer("above", 0x1234));
    let peer = asking.peer(&web.source().to_string());
    asking.is_refused_in_the_end(&peer).await;
    let asked = web.requests().len();
    asking.restart();
    assert!(!asking.lets_in(&peer));
    // Also when the answer itself is out of date, and nobody was asked.
    asking.world.at(asking.now + 2 * HOUR);
    asking.restart();
    assert!(!asking.lets_in(&peer));
    assert_eq!(web.requests().len(), asked);

    // The file is believed for its signature alone.
    let [file] = &asking.kept()[..] else {
        panic!("one file")
    };
    let good = std::fs::read_to_string(file).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
    let mut answer = STANDARD.decode(json["answer"].as_str().unwrap()).unwrap();
    // A digit of the time of revocation, after the serial number.
    let serial = [2, 2, 0x12, 0x34];
    let at = answer.windows(4).position(|part| part == serial).unwrap();
    answer[at + 8] ^= 1;
    json["answer"] = STANDARD.encode(answer).into();
    std::fs::write(file, json.to_string()).unwrap();
    for rest in ["00.json", "tmp"] {
        std::fs::write(file.with_file_name(rest), &good).unwrap();
    }
    asking.restart();
    assert!(asking.lets_in(&peer));
    assert!(asking.kept().is_empty(), "what says nothing is removed");
}

#[tokio::test]
async fn a_certificate_that_was_read_back_is_asked_about_again() {
    let mut asking = Asking::new();
    let web = Web::start();
    asking.index('V', 0x1234);
    web.says("200 OK", &asking.answer("above", 0x1234));
    let peer = asking.peer(&web.source().to_string());
    assert!(asking.hears(&web, &peer).await);
    assert_eq!(asking.kept().len(), 1);
    asking.restart();
    asking.index('R', 0x1234);
    web.says("200 OK", &asking.answer("above", 0x1234));
    assert!(asking.lets_in(&peer));
    asking.is_refused_in_the_end(&peer).await;
}

/// A process that ends with the story.
struct Responder(std::process::Child);

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn the_authority_itself_may_answer() {
    let asking = Asking::new();
    let web = Web::start();
    asking.index('R', 0x1234);
    web.says("200 OK", &asking.answer("above", 0x1234));
    let peer = asking.peer(&web.source().to_string());
    asking.is_refused_in_the_end(&peer).await;
    let head = &web.requests()[0];
    assert!(head.starts_with("POST ") && head.contains("content-type: application/ocsp-request"));
    // openssl reads the request too.
    let request = asking.folder().join("request.der");
    std::fs::write(&request, &web.bodies()[0]).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.args(["ocsp", "-req_text", "-reqin"]).arg(request);
    let shown = String::from_utf8(openssl.output().unwrap().stdout).unwrap();
    assert!(shown.contains("Hash Algorithm: sha1"), "{shown}");
    assert!(shown.contains("Serial Number: 1234"), "{shown}");
}

#[tokio::test]
async fn whatever_else_is_answered_changes_nothing() {
    let asking = Asking::new();
    let igc = &asking.world.igc;
    let forged = Igc::new(true, OffsetDateTime::now_utc()).unwrap();
    asking.index('R', 0x1234);
    let good = asking.signer("good", igc, Usage::OcspSigning, RESPONDER);
    let signers = [
        (
            "a certificate for something else",
            asking.signer("server", igc, Usage::ServerAuth, RESPONDER + 1),
        ),
        (
            "another authority",
            asking.signer("forged", &forged, Usage::OcspSigning, RESPONDER + 2),
        ),
        (
            "a responder that is revoked",
            asking.signer("gone", igc, Usage::OcspSigning, RESPONDER + 9),
        ),
    ];
    let mut answers: Vec<_> = signers
        .iter()
        .map(|(what, signer)| (*what, asking.answer(signer, 0x1234)))
        .collect();
    let revoked = asking.answer(&good, 0x1234);
    let mut changed = revoked.clone();
    let last = changed.len() / 2;
    changed[last] ^= 1;
    answers.push(("one changed byte", changed));
    asking.index('R', 0x9999);
    answers.push(("an answer about another", asking.answer(&good, 0x9999)));
    answers.push((
        "a certificate that is not known",
        asking.answer(&good, 0x1234),
    ));
    asking.index('V', 0x1234);
    answers.push(("good", asking.answer(&good, 0x1234)));
    answers.push(("try later", vec![0x30, 3, 0x0a, 1, 3]));
    answers.push(("a page", b"<html>".to_vec()));
    answers.push(("nothing", Vec::new()));
    answers.push(("too much", vec![0x30; 1 << 17]));
    for (what, answer) in answers {
        let web = Web::start();
        web.says("200 OK", &answer);
        let peer = asking.peer(&web.source().to_string());
        assert!(asking.hears(&web, &peer).await, "{what}");
    }
    let web = Web::start();
    web.says("500 Oops", &revoked);
    let peer = asking.peer(&web.source().to_string());
    assert!(asking.hears(&web, &peer).await);
    // Two hours later the same answer is out of date; it was good for something before.
    asking.world.at(asking.now + 2 * HOUR);
    let web = Web::start();
    web.says("200 OK", &revoked);
    let peer = asking.peer(&web.source().to_string());
    assert!(asking.hears(&web, &peer).await);
    asking.world.at(asking.now);
    let peer = asking.peer(&web.source().to_string());
    asking.is_refused_in_the_end(&peer).await;
}

#[tokio::test]
async fn a_good_answer_lets_nobody_in_whom_the_revocation_list_names() {
    let asking = Asking::new();
    let web = Web::start();
    asking.index('V', 0x1234);
    web.says("200 OK", &asking.answer("above", 0x1234));
    let peer = asking.peer(&web.source().to_string());
    assert!(asking.hears(&web, &peer).await);
    let spec = CrlSpec {
        number: 11,
        revoked: vec![0x1234],
        ..CrlSpec::default()
    };
    asking
        .world
        .give_crls(&asking.trust, &CrlSpec::default(), &spec);
    assert!(!asking.lets_in(&peer));
}

#[tokio::test]
async fn nobody_is_asked_where_it_is_off_or_on_a_host_that_is_not_allowed() {
    for (ocsp, host) in [(OcspUse::Off, "127.0.0.1"), (OcspUse::Tighten, "localhost")] {
        let asking = Asking::with(ocsp);
        // Where a question would come to, if there were one.
        let silent = Web::start();
        let url = silent.source().to_string().replace("127.0.0.1", host);
        let peer = asking.peer(&url);
        assert!(asking.lets_in(&peer));
        if ocsp == OcspUse::Tighten {
            let other = Web::start();
            other.says("200 OK", b"");
            let next = asking.peer(&other.source().to_string());
            assert!(asking.hears(&other, &next).await);
        } else {
            asking.trust.refresh_crls().await;
        }
        assert!(asking.lets_in(&peer));
        assert!(silent.requests().is_empty(), "{host}");
    }
}
