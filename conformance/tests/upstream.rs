//! A PACS reached by DICOMweb: who the gateway says it is, TLS, pages, and every fault, which ends in
//! a status before the first byte, or in a connection that is cut without closing boundary, or is
//! made good; the gateway then serves the same study whole.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use conformance::testkit::gateway::binary;
use conformance::testkit::web::WebBehaviour;
use conformance::testkit::{
    Client, FaultyWeb, Gateway, GatewayConfig, Nginx, Orthanc, PacsConfig, Pki, WebFault,
};
use dicom_dictionary_std::tags;
use support::{JSON, Seen, exam, exams, files, folder, look, metric, run, until};
use tokio::sync::OnceCell;

/// The study that is asked for, and one that is not.
const STUDY: &str = "ct300";
const OTHER: &str = "ct";

/// Seconds that a gateway waits for a PACS that is to be found silent.
const PATIENCE: f64 = 1.0;

/// The PACS in good health that the stories share.
async fn orthanc() -> &'static Orthanc {
    static ORTHANC: OnceCell<Orthanc> = OnceCell::const_new();
    ORTHANC
        .get_or_init(async || {
            let orthanc = Orthanc::builder(&folder("orthanc")).start().await.unwrap();
            orthanc.upload(files(&[STUDY, OTHER])).await.unwrap();
            let many = exams().set("many-studies").flat_map(|e| e.instances());
            let many = many.map(|instance| exams().path(instance)).collect();
            orthanc.upload(many).await.unwrap();
            orthanc
        })
        .await
}

async fn gateway(name: &str, pacs: PacsConfig) -> Gateway {
    let config = GatewayConfig::new(&folder(name)).unwrap();
    Gateway::start(config.pacs(pacs)).await.unwrap()
}

/// A file that only its owner can read.
fn secret(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("secret");
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// The story of every fault.
async fn story(
    name: &str,
    patience: Option<f64>,
    fault: impl FnOnce(&mut WebBehaviour),
    expected: Seen,
    cause: Option<&'static str>,
) {
    let into = folder(&format!("{name}-parts"));
    let pacs = FaultyWeb::start(&orthanc().await.dicomweb_url())
        .await
        .unwrap();
    let mut entry = PacsConfig::dicomweb("web", &pacs.url());
    if let Some(seconds) = patience {
        entry = entry.set("dicomweb.response_timeout_seconds", seconds);
    }
    let gateway = gateway(name, entry).await;
    let client = Client::plain().unwrap();
    pacs.behave(fault);
    assert_eq!(look(&client, &gateway, exam(STUDY), &into).await, expected);
    if let Some(cause) = cause {
        until("the counter of this fault", async || {
            metric(
                &gateway,
                "drimbox_upstream_errors_total",
                &[("cause", cause)],
            )
            .await
                > 0
        })
        .await;
    }
    if expected == Seen::Cut {
        until("the counter of cut answers", async || {
            metric(&gateway, "drimbox_http_aborted_responses_total", &[]).await == 1
        })
        .await;
    }
    pacs.recover();
    for study in [STUDY, OTHER] {
        assert_eq!(
            look(&client, &gateway, exam(study), &into).await,
            Seen::Whole,
            "{study}, once the PACS is well again"
        );
    }
}

macro_rules! stories {
    ($($name:ident: $patience:expr, $fault:expr => $seen:expr, $cause:expr;)*) => {$(
        #[test]
        fn $name() {
            run(story(stringify!($name), $patience, $fault, $seen, $cause));
        }
    )*};
}

stories! {
    // The search before the images.
    a_search_without_rights_is_502: None,
        |b| b.search = Some(WebFault::Status(401))
        => Seen::Status(502), Some("unauthorized");
    a_search_that_fails_is_502: None,
        |b| b.search = Some(WebFault::Status(500))
        => Seen::Status(502), Some("status");
    a_busy_pacs_is_503: None,
        |b| b.search = Some(WebFault::Status(503))
        => Seen::Status(503), Some("status");
    a_study_that_the_pacs_does_not_find_is_404: None,
        |b| b.search = Some(WebFault::Status(404))
        => Seen::Status(404), None;
    garbage_in_place_of_matches_is_502: None,
        |b| b.search = Some(WebFault::Garbage)
        => Seen::Status(502), Some("protocol");
    a_page_in_place_of_matches_is_502: None,
        |b| b.search = Some(WebFault::MediaType("text/html"))
        => Seen::Status(502), Some("protocol");
    matches_that_are_cut_are_502: None,
        |b| b.search = Some(WebFault::CutAfter(100))
        => Seen::Status(502), Some("closed");
    a_search_without_answer_is_504: Some(PATIENCE),
        |b| b.search = Some(WebFault::StallAfter(0))
        => Seen::Status(504), Some("timeout");

    // Images, before anything could be sent.
    images_without_rights_are_502: None,
        |b| b.retrieve = Some(WebFault::Status(403))
        => Seen::Status(502), Some("unauthorized");
    a_retrieval_that_fails_is_502: None,
        |b| b.retrieve = Some(WebFault::Status(500))
        => Seen::Status(502), Some("status");
    garbage_in_place_of_images_is_502: None,
        |b| b.retrieve = Some(WebFault::Garbage)
        => Seen::Status(502), Some("protocol");
    a_page_in_place_of_images_is_502: None,
        |b| b.retrieve = Some(WebFault::MediaType("text/html"))
        => Seen::Status(502), Some("protocol");
    images_without_boundary_are_502: None,
        |b| b.retrieve = Some(WebFault::MediaType("multipart/related"))
        => Seen::Status(502), Some("protocol");
    a_cut_in_the_first_image_is_502: None,
        |b| b.retrieve = Some(WebFault::CutAfter(1_000))
        => Seen::Status(502), Some("closed");
    a_stall_in_the_first_image_is_504: Some(PATIENCE),
        |b| b.retrieve = Some(WebFault::StallAfter(1_000))
        => Seen::Status(504), Some("timeout");
    images_that_are_listed_and_not_sent_are_502: None,
        |b| { b.retrieve = Some(WebFault::Status(404)); b.instance = Some(WebFault::Status(404)); }
        => Seen::Status(502), Some("incomplete");

    // Once images are on their way.
    a_cut_in_the_middle_cuts_the_answer: None,
        |b| b.retrieve = Some(WebFault::CutAfter(500_000))
        => Seen::Cut, Some("closed");
    a_stall_in_the_middle_cuts_the_answer: Some(PATIENCE),
        |b| b.retrieve = Some(WebFault::StallAfter(500_000))
        => Seen::Cut, Some("timeout");
    an_answer_without_closing_boundary_cuts_the_answer: None,
        |b| b.retrieve = Some(WebFault::WithoutClosing)
        => Seen::Cut, Some("closed");
    images_lost_in_silence_every_time_cut_the_answer: None,
        |b| { b.retrieve = Some(WebFault::LosesFrom(5)); b.instance = Some(WebFault::LosesFrom(0)); }
        => Seen::Cut, Some("incomplete");

    // Made good.
    images_lost_in_silence_are_asked_for_again: None,
        |b| b.retrieve = Some(WebFault::LosesFrom(295))
        => Seen::Whole, None;
    a_study_that_comes_image_by_image_only_is_whole: None,
        |b| b.retrieve = Some(WebFault::Status(404))
        => Seen::Whole, None;
}

#[test]
fn a_redirection_is_not_followed_and_takes_no_secret_elsewhere() {
    run(async {
        let behind = orthanc().await.dicomweb_url();
        let pacs = FaultyWeb::start(&behind).await.unwrap();
        let elsewhere = FaultyWeb::start(&behind).await.unwrap();
        pacs.behave(|b| b.search = Some(WebFault::Redirect(elsewhere.url())));
        let token = secret(&folder("redirect-secret"), "0123456789abcdef\n");
        let entry = PacsConfig::dicomweb("web", &pacs.url())
            .set("dicomweb.token_file", token.display().to_string());
        let gateway = gateway("redirect", entry).await;
        let client = Client::plain().unwrap();
        let seen = look(&client, &gateway, exam(OTHER), &folder("redirect-parts")).await;
        assert_eq!(seen, Seen::Status(502));
        assert_eq!(elsewhere.requests(), []);
        let requests = pacs.requests();
        assert!(!requests.is_empty());
        for request in requests {
            let shown = request.authorization.as_deref();
            assert_eq!(shown, Some("Bearer 0123456789abcdef"));
        }
    });
}

#[test]
fn a_pacs_that_keeps_failing_is_left_alone_for_a_while() {
    run(async {
        let pacs = FaultyWeb::start(&orthanc().await.dicomweb_url())
            .await
            .unwrap();
        let gateway = gateway("breaker", PacsConfig::dicomweb("web", &pacs.url())).await;
        let (client, into) = (Client::plain().unwrap(), folder("breaker-parts"));
        pacs.behave(|b| b.search = Some(WebFault::Status(502)));
        while look(&client, &gateway, exam(OTHER), &into).await != Seen::Status(503) {
            assert!(pacs.requests().len() < 10, "it is asked again and again");
        }
        let paused = async || metric(&gateway, "drimbox_upstream_breaker_open", &[]).await;
        assert_eq!(paused().await, 1);
        pacs.recover();
        until("the next try", async || {
            look(&client, &gateway, exam(OTHER), &into).await == Seen::Whole
        })
        .await;
        assert_eq!(paused().await, 0);
    });
}

#[test]
fn a_pacs_that_cuts_its_answers_is_asked_for_the_other_pages() {
    run(async {
        let pacs = FaultyWeb::start(&orthanc().await.dicomweb_url())
            .await
            .unwrap();
        let entry = PacsConfig::dicomweb("web", &pacs.url());
        let says_so = gateway("pages-said", entry.clone()).await;
        let says_nothing = gateway("pages-silent", entry.set("quirks.max_results", 7)).await;
        for (gateway, warns) in [(says_so, true), (says_nothing, false)] {
            pacs.behave(|b| {
                b.most_matches = Some(7);
                b.warns = warns;
            });
            let url = gateway.local_url() + "/studies";
            let client = Client::plain().unwrap();
            let answer = client.get(&url).accept(JSON).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.header("warning"), "");
            let found = answer.json().await.unwrap();
            let mut found: Vec<String> = found
                .as_array()
                .unwrap()
                .iter()
                .map(|study| support::json::text(study, tags::STUDY_INSTANCE_UID))
                .collect();
            found.sort();
            let mut wanted: Vec<String> = exams()
                .set("many-studies")
                .chain([exam(STUDY), exam(OTHER)])
                .map(|exam| exam.study_instance_uid.clone())
                .collect();
            wanted.sort();
            assert!(wanted.len() > 14, "one page proves nothing");
            assert_eq!(found, wanted);
        }
    });
}

#[test]
fn a_pacs_that_asks_for_a_password_gets_it_and_no_log_does() {
    run(async {
        let orthanc = Orthanc::builder(&folder("account"))
            .account("drimbox", "open-sesame")
            .start()
            .await
            .unwrap();
        orthanc.upload(files(&[OTHER])).await.unwrap();
        let (client, into) = (Client::plain().unwrap(), folder("account-parts"));
        for (password, expected) in [
            ("open-sesame", Seen::Whole),
            ("close-sesame", Seen::Status(502)),
        ] {
            let secrets = folder(&format!("account-{password}"));
            let entry = PacsConfig::dicomweb("web", &orthanc.dicomweb_url())
                .set("dicomweb.username", "drimbox")
                .set(
                    "dicomweb.password_file",
                    secret(&secrets, password).display().to_string(),
                );
            let config = GatewayConfig::new(&folder(&format!("gateway-{password}"))).unwrap();
            let config = config.set("log.filter", "trace").pacs(entry);
            let mut gateway = Gateway::start(config).await.unwrap();
            assert_eq!(look(&client, &gateway, exam(OTHER), &into).await, expected);
            let log = std::fs::read_to_string(gateway.process().log_file()).unwrap();
            assert!(!log.contains(password), "the password is in the log");
            // Base64 of `drimbox:`, as far as it does not depend on what follows.
            assert!(!log.contains("ZHJpbWJveD"), "the header is in the log");
        }
    });
}

#[test]
fn a_pacs_with_tls_takes_our_client_certificate_and_is_known_by_its_authority() {
    run(async {
        let pki = Pki::new(&folder("pki"), "centre").unwrap();
        let foreign = Pki::new(&folder("foreign-pki"), "elsewhere").unwrap();
        let server = pki.server(&["localhost"]).unwrap();
        let nginx = Nginx::proxy(
            &folder("nginx"),
            orthanc().await.http_url(),
            &server,
            pki.ca_file(),
        )
        .await
        .unwrap();
        let ours = pki.client("drimbox").unwrap();
        let stranger = foreign.client("stranger").unwrap();
        let (client, into) = (Client::plain().unwrap(), folder("tls-parts"));
        for (name, ca, identity, expected) in [
            ("ours", pki.ca_file(), &ours, Seen::Whole),
            ("distrust", foreign.ca_file(), &ours, Seen::Status(502)),
            ("stranger", pki.ca_file(), &stranger, Seen::Status(502)),
        ] {
            let url = nginx.url("localhost", "/dicom-web");
            let entry = PacsConfig::dicomweb("web", &url)
                .set("dicomweb.ca_file", ca.display().to_string())
                .client_identity(identity);
            let gateway = gateway(&format!("tls-{name}"), entry).await;
            let seen = look(&client, &gateway, exam(OTHER), &into).await;
            assert_eq!(seen, expected, "{name}");
        }
    });
}

#[test]
fn check_pacs_says_what_works_and_what_to_correct() {
    run(async {
        let url = orthanc().await.dicomweb_url();
        let check = async |name: &str, url: &str| -> (bool, String) {
            let config = GatewayConfig::new(&folder(name)).unwrap();
            let file = config
                .pacs(PacsConfig::dicomweb("web", url))
                .write()
                .unwrap();
            let mut command = std::process::Command::new(binary().unwrap());
            command.args(["check", "pacs", "web", "--config"]).arg(file);
            let Output { status, stdout, .. } = command.output().unwrap();
            (status.success(), String::from_utf8(stdout).unwrap())
        };
        let (good, text) = check("check-good", &url).await;
        assert!(good, "{text}");
        assert!(
            text.contains("WADO-RS") && text.contains("octets"),
            "{text}"
        );
        let (good, text) = check("check-path", &format!("{url}-elsewhere")).await;
        assert!(!good);
        assert!(text.contains("404") && text.contains("url"), "{text}");
    });
}
