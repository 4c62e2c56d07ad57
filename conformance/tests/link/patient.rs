//! The patient's way: each proof, what guessing gives, what the trail says of it.

use std::collections::BTreeSet;
use std::time::Instant;

use conformance::testkit::psc::left_out;
use conformance::testkit::smtp::SmtpServer;
use conformance::testkit::{GatewayConfig, Pki};
use http::Method;
use serde_json::{Value as Json, json};

use crate::site::{CLOSED, EXAM, HOSTS, OTHER, Site, accession_of, link, link_of, report_of, tell};
use crate::support::{exam, metric, run, series_path};
use crate::visitor::{FLOOR, LINK, PAGE, SESSION, Visitor};

pub const PATIENT: &str = "__Host-drimbox-patient";
const ASK: &str = "/viewer/patient";
const CODE_PATH: &str = "/viewer/patient/code";
pub const CODE: &str = "KJHG-4567-MNPQ";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const HERE: (&str, &str) = ("sec-fetch-site", "same-origin");

pub fn gate(word: &'static str) -> impl FnOnce(GatewayConfig, &Pki) -> GatewayConfig {
    move |config, _| config.set("viewer.patient_gate", word)
}

/// The CSRF token of the page that a browser with a link is shown.
async fn token(visitor: &Visitor<'_>) -> String {
    let answer = visitor.get(ASK).await;
    assert_eq!(answer.status(), 200);
    token_in(&answer.text().await.unwrap())
}

fn token_in(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// Gives these fields; status and place that the answer leads to.
async fn give(visitor: &Visitor<'_>, token: &str, fields: &str) -> (u16, String) {
    let body = format!("csrf={token}&{fields}");
    let answer = visitor.ask(Method::POST, ASK, &[FORM, HERE], &body).await;
    let location = answer.header("location").to_owned();
    (answer.status().as_u16(), location)
}

/// Follows a link and gives these fields.
pub async fn prove(visitor: &Visitor<'_>, link: &str, fields: &str) -> (u16, String) {
    assert_eq!(visitor.get(link).await.header("location"), "/viewer/entree");
    let token = token(visitor).await;
    give(visitor, &token, fields).await
}

pub fn opened() -> (u16, String) {
    (303, PAGE.to_owned())
}

/// What anybody can tell of a refusal.
async fn refusal(visitor: &Visitor<'_>, link: &str, fields: &str) -> (u16, Vec<String>, String) {
    visitor.get(link).await;
    let csrf = token(visitor).await;
    let body = format!("csrf={csrf}&{fields}");
    let asked = Instant::now();
    let answer = visitor.ask(Method::POST, ASK, &[FORM, HERE], &body).await;
    assert!(asked.elapsed() >= FLOOR, "refused in {:?}", asked.elapsed());
    let mut names: Vec<String> = answer
        .headers()
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    names.sort();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap().replace(&csrf, "");
    (status, names, text)
}

#[test]
fn patients_are_not_let_in_where_the_centre_chose_nothing() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::new(&site);
        visitor.get(&link_of(EXAM)).await;
        let page = visitor.get("/viewer/entree").await.text().await.unwrap();
        assert!(page.contains("pas encore ouvert l'accès direct"), "{page}");
        assert!(!page.contains(ASK));
        assert_eq!(visitor.status(ASK).await, 404);
        for path in [ASK, CODE_PATH] {
            let fields = [FORM, HERE];
            let answer = visitor
                .ask(Method::POST, path, &fields, "csrf=x&code=y")
                .await;
            assert_eq!(answer.status(), 404, "{path}");
        }
    });
}

#[test]
fn the_birth_date_and_the_digits_of_the_ins_open_the_exam() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-birth-date", gate("birth-date-and-ins")).await;
        site.facts(EXAM, &json!({ "birth_date": "1979-03-15" }))
            .await;
        site.facts(OTHER, &json!({ "birth_date": "1979-03-15" }))
            .await;
        let own = exam(EXAM);
        let right = "naissance=15%2F03%2F1979&chiffres=999999";
        // Whatever is wrong, the answer is the same.
        let unknown = link("1.2.250.1.999.404", &accession_of(own), &report_of(EXAM));
        let other_report = link(&own.study_instance_uid, &accession_of(own), "1.2.3");
        site.publish(OTHER, &["--invisible-patient"]).await;
        let mut seen = BTreeSet::new();
        for (link, fields) in [
            (link_of(EXAM), "naissance=14%2F03%2F1979&chiffres=999999"),
            (link_of(EXAM), "naissance=15%2F03%2F1979&chiffres=999998"),
            (link_of(EXAM), "naissance=&chiffres="),
            (link_of(EXAM), ""),
            (link_of(CLOSED), right),
            (link_of(OTHER), right),
            (unknown, right),
            (other_report, right),
        ] {
            seen.insert(refusal(&Visitor::new(&site), &link, fields).await);
        }
        assert_eq!(seen.len(), 1, "{seen:#?}");
        assert_eq!(seen.first().unwrap().0, 403);

        let visitor = Visitor::new(&site);
        assert_eq!(prove(&visitor, &link_of(EXAM), right).await, opened());
        assert_eq!(visitor.cookie(LINK), None, "the link is used up");
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(told["visitor"], "patient");
        assert_eq!(told["study"], own.study_instance_uid.as_str());
        let series = "/dicom-web".to_owned() + &series_path(own, &own.series[0]);
        for path in [series.clone(), series.clone() + "/metadata"] {
            assert_eq!(visitor.status(&path).await, 200);
        }
        let other = exam(OTHER);
        let foreign = "/dicom-web".to_owned() + &series_path(other, &other.series[0]);
        assert_eq!(visitor.status(&foreign).await, 404);
        // What professionals must not see is the patient's own all the same; what the patient must not see is closed
        // at once.
        site.publish(EXAM, &["--masque-ps"]).await;
        assert_eq!(visitor.status(&series).await, 200);
        site.publish(EXAM, &["--invisible-patient"]).await;
        assert_eq!(visitor.status(&series).await, 404);
        assert_eq!(visitor.status("/viewer/api/exam").await, 410);
        site.publish(EXAM, &[]).await;

        // Who, how they proved it, what: once for a series, however much is asked for.
        for _ in 0..5 {
            visitor.status(&(series.clone() + "/metadata")).await;
        }
        let events = site.events();
        let of = |kind: &str| {
            let kind = kind.to_owned();
            events.iter().filter(move |event| event["kind"] == kind)
        };
        let proved: Vec<_> = of("patient-gate")
            .filter(|event| event["outcome"]["ending"] == "success")
            .collect();
        assert_eq!(proved.len(), 1);
        assert_eq!(proved[0]["object"]["resource"], "birth_date_and_ins");
        let seen: Vec<&Json> = of("images-seen")
            .filter(|event| event["object"]["resource"] == "metadata")
            .collect();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        assert_eq!(seen[0]["actor"]["account"], "patient:birth_date_and_ins");
        assert_eq!(
            seen[0]["object"]["series"],
            own.series[0].series_instance_uid.as_str()
        );
        let refused: Vec<_> = of("images-refused").collect();
        assert!(
            refused
                .iter()
                .any(|event| event["outcome"]["reason"] == "not_granted")
        );
        assert!(
            refused
                .iter()
                .any(|event| event["outcome"]["reason"] == "invisible_patient")
        );
    });
}

#[test]
fn the_code_of_the_report_opens_the_exam_and_guessing_locks_it_also_after_a_crash() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::with("link-report-code", gate("report-code")).await;
        site.facts(EXAM, &json!({ "code": CODE })).await;
        site.facts(OTHER, &json!({ "code": CODE })).await;
        let typed = "code=kjhg+4567mnpq";
        let session = {
            let visitor = Visitor::new(&site);
            assert_eq!(prove(&visitor, &link_of(OTHER), typed).await, opened());
            // A KOS that is published anew leaves the code as it is.
            site.publish(OTHER, &[]).await;
            let again = Visitor::new(&site);
            assert_eq!(prove(&again, &link_of(OTHER), typed).await, opened());
            let guesser = Visitor::new(&site);
            for guess in 0..10 {
                let wrong = format!("code=KJHG-4567-{guess:04}");
                assert_eq!(prove(&guesser, &link_of(EXAM), &wrong).await.0, 403);
            }
            let stranger = Visitor::new(&site);
            assert_eq!(
                prove(&stranger, &link_of(EXAM), typed).await.0,
                403,
                "locked"
            );
            visitor.cookie(PATIENT).unwrap()
        };
        assert_eq!(
            metric(&site.gateway, "drimbox_patient_lockouts_total", &[]).await,
            1
        );
        // The file of the exam and the log have no code.
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        assert!(!log.contains("KJHG") && !log.contains("kjhg"));
        let mut alarms = log.lines().filter(|line| line.contains("it is locked"));
        let alarm = alarms.next().unwrap();
        assert!(
            alarm.contains("WARN") && alarm.contains("for a day"),
            "{alarm}"
        );
        assert!(!alarm.contains(&exam(EXAM).study_instance_uid), "{alarm}");
        assert_eq!(alarms.next(), None, "told once");
        site.gateway.kill();
        site.gateway.restart().await.unwrap();
        let visitor = Visitor::new(&site);
        assert_eq!(
            prove(&visitor, &link_of(EXAM), typed).await.0,
            403,
            "locked still"
        );
        // Other exams are not, nor is the way of professionals, and who was in still is.
        assert_eq!(prove(&visitor, &link_of(OTHER), typed).await, opened());
        assert_eq!(Visitor::new(&site).open(&link_of(EXAM)).await, Ok(()));
        let before = Visitor::new(&site);
        before.bring(PATIENT, &session);
        assert_eq!(before.status("/viewer/api/exam").await, 200);
    });
}

#[test]
fn a_patients_session_is_its_own_browsers_and_ends_with_its_form_alone() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-patient-session", gate("report-code")).await;
        site.facts(EXAM, &json!({ "code": CODE })).await;
        let right = format!("code={CODE}");
        // Who knows the study and not the rest of the link locks nobody out, whatever they give.
        let nosy = link(&exam(EXAM).study_instance_uid, "A-1", "1.2.3");
        for _ in 0..11 {
            assert_eq!(
                prove(&Visitor::elsewhere(&site), &nosy, &right).await.0,
                403
            );
        }
        // Fixation: an id that was there before is nobody's.
        let victim = Visitor::new(&site);
        victim.bring(PATIENT, &"A".repeat(43));
        assert_eq!(prove(&victim, &link_of(EXAM), &right).await, opened());
        let session = victim.cookie(PATIENT).unwrap();
        assert_ne!(session, "A".repeat(43));
        let attacker = Visitor::new(&site);
        attacker.bring(PATIENT, &"A".repeat(43));
        assert_eq!(attacker.status("/viewer/api/exam").await, 401);
        // A second proof ends the session before.
        assert_eq!(prove(&victim, &link_of(EXAM), &right).await, opened());
        attacker.bring(PATIENT, &session);
        assert_eq!(attacker.status("/viewer/api/exam").await, 401);
        // The cookie of one vi name is nothing on another, nor as the cookie of a professional.
        let session = victim.cookie(PATIENT).unwrap();
        let elsewhere = Visitor::at(&site, HOSTS[1]);
        elsewhere.bring(PATIENT, &session);
        assert_eq!(elsewhere.status("/viewer/api/exam").await, 401);
        let stranger = Visitor::new(&site);
        stranger.bring(SESSION, &session);
        assert_eq!(stranger.status("/viewer/api/exam").await, 401);
        // The form needs the token of its own link and a page of this host.
        let forger = Visitor::new(&site);
        forger.get(&link_of(EXAM)).await;
        let body = format!("csrf={}&{right}", token(&forger).await);
        let foreign = format!("csrf={}&{right}", "B".repeat(43));
        for (site_, body) in [("cross-site", &body), ("same-origin", &foreign)] {
            let fields = [FORM, ("sec-fetch-site", site_)];
            let answer = forger.ask(Method::POST, ASK, &fields, body).await;
            assert_eq!(answer.status(), 403);
            assert_eq!(forger.cookie(PATIENT), None);
        }
        // So does the logout.
        let told = victim.get("/viewer/api/exam").await.json().await.unwrap();
        let leave = told["logout"].as_str().unwrap().to_owned();
        let form = format!("csrf={}", told["csrf"].as_str().unwrap());
        let out = async |from: &str, body: &str| {
            let fields = [FORM, ("sec-fetch-site", from)];
            victim.ask(Method::POST, &leave, &fields, body).await
        };
        assert_eq!(out("cross-site", &form).await.status(), 403);
        assert_eq!(out("same-origin", "csrf=x").await.status(), 403);
        assert_eq!(victim.status("/viewer/api/exam").await, 200);
        let answer = out("same-origin", &form).await;
        assert_eq!(
            (answer.status().as_u16(), victim.cookie(PATIENT)),
            (303, None)
        );
        victim.bring(PATIENT, &session);
        assert_eq!(victim.status("/viewer/api/exam").await, 401);
        // A professional who comes in after the patient in the same browser ends what the patient had open.
        assert_eq!(prove(&victim, &link_of(EXAM), &right).await, opened());
        let patient = victim.cookie(PATIENT).unwrap();
        assert_eq!(victim.open(&link_of(OTHER)).await, Ok(()));
        assert_eq!(victim.cookie(PATIENT), None);
        let told = victim.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(told["visitor"], "professional");
        attacker.bring(PATIENT, &patient);
        assert_eq!(attacker.status("/viewer/api/exam").await, 401);
    });
}

/// Codes go by this server.
fn by_mail(config: GatewayConfig, mail: &SmtpServer, pki: &Pki) -> GatewayConfig {
    config
        .set("viewer.patient_gate", "mail-code")
        .set("viewer.smtp.host", "localhost")
        .set("viewer.smtp.port", i64::from(mail.port()))
        .set("viewer.smtp.from", "drimbox@centre.example")
        .set("viewer.smtp.ca_file", pki.ca_file().display().to_string())
}

/// Asks for a code as the page does.
async fn ask_for_code(visitor: &Visitor<'_>) {
    let body = format!("csrf={}", token(visitor).await);
    let answer = visitor
        .ask(Method::POST, CODE_PATH, &[FORM, HERE], &body)
        .await;
    assert_eq!(
        (answer.status().as_u16(), answer.header("location")),
        (303, ASK)
    );
}

fn code_in(text: &str) -> String {
    let (_, rest) = text.split_once("vos images : ").unwrap();
    rest.chars().take(6).collect()
}

#[test]
fn a_code_by_mail_goes_to_the_address_that_the_centre_holds_and_opens_once() {
    if left_out() {
        return;
    }
    run(async {
        let folder = crate::support::folder("link-mail-server");
        let pki = Pki::new(&folder, "Mail CA").unwrap();
        let mail = SmtpServer::start(&pki.server(&["localhost"]).unwrap(), true)
            .await
            .unwrap();
        let site = Site::with("link-mail", |config, _| by_mail(config, &mail, &pki)).await;
        site.facts(EXAM, &json!({ "mail": "amelie@maison.example" }))
            .await;
        // Who knows the study and not the rest of the link does not use its codes up.
        for _ in 0..3 {
            let nosy = Visitor::new(&site);
            let study = &exam(EXAM).study_instance_uid;
            nosy.get(&link(study, "A-1", "1.2.3")).await;
            for _ in 0..3 {
                ask_for_code(&nosy).await;
            }
        }
        let visitor = Visitor::new(&site);
        visitor.get(&link_of(EXAM)).await;
        let page = visitor.get(ASK).await.text().await.unwrap();
        assert!(
            !page.contains("maison") && !page.contains("Code reçu"),
            "{page}"
        );
        ask_for_code(&visitor).await;
        let mails = mail.wait_for(1).await;
        assert_eq!(mails[0].to, "amelie@maison.example");
        let (text, own) = (mails[0].text(), exam(EXAM));
        for secret in [
            "ESSAI",
            "AMELIE",
            &own.accession_number,
            &own.study_instance_uid,
        ] {
            assert!(
                !mails[0].raw.contains(secret) && !text.contains(secret),
                "{secret}"
            );
        }
        let code = code_in(&text);
        let csrf = token(&visitor).await;
        // The code is this browser's.
        let other = Visitor::new(&site);
        assert_eq!(
            prove(&other, &link_of(EXAM), &format!("code={code}"))
                .await
                .0,
            403
        );
        assert_eq!(give(&visitor, &csrf, "code=00000x").await.0, 403);
        assert_eq!(
            give(&visitor, &csrf, &format!("code={code}")).await,
            opened()
        );
        assert_eq!(visitor.status("/viewer/api/exam").await, 200);
        // Nobody learns who has an address: without one, or without an exam, the page is the same, and nothing leaves.
        let mut pages = BTreeSet::new();
        for link in [link_of(EXAM), link_of(OTHER), link_of(CLOSED)] {
            let visitor = Visitor::new(&site);
            visitor.get(&link).await;
            ask_for_code(&visitor).await;
            let page = visitor.get(ASK).await.text().await.unwrap();
            pages.insert(page.replace(&token_in(&page), ""));
        }
        assert_eq!(pages.len(), 1, "{pages:#?}");
        assert_eq!(mail.wait_for(2).await.len(), 2);
        let told = json!({ "sends": true, "wrong": { "code": "00000x" } });
        tell(&site, "patient", told, async |order| {
            assert_eq!(order["order"], "code");
            json!(code_in(&mail.wait_for(3).await[2].text()))
        })
        .await;
    });
}

#[test]
fn no_other_site_has_a_code_sent_or_uses_one_up() {
    if left_out() {
        return;
    }
    run(async {
        let folder = crate::support::folder("link-forged-code-mail");
        let pki = Pki::new(&folder, "Mail CA").unwrap();
        let mail = SmtpServer::start(&pki.server(&["localhost"]).unwrap(), true)
            .await
            .unwrap();
        let site = Site::with("link-forged-code", |config, _| by_mail(config, &mail, &pki)).await;
        site.facts(EXAM, &json!({ "mail": "amelie@maison.example" }))
            .await;
        let visitor = Visitor::new(&site);
        visitor.get(&link_of(EXAM)).await;
        let own = format!("csrf={}", token(&visitor).await);
        let foreign = format!("csrf={}", "B".repeat(43));
        let from = |site: &'static str| vec![FORM, ("sec-fetch-site", site)];
        let elsewhere = vec![FORM, ("origin", "https://other.example")];
        // More than the codes that a link has.
        for (fields, body) in [
            (from("cross-site"), own.as_str()),
            (from("same-site"), &own),
            (from("none"), &own),
            (elsewhere, &own),
            (vec![FORM], &own),
            (from("same-origin"), &foreign),
            (from("same-origin"), ""),
        ] {
            let answer = visitor.ask(Method::POST, CODE_PATH, &fields, body).await;
            assert_eq!(answer.status(), 403, "{fields:?} {body}");
        }
        let page = visitor.get(ASK).await.text().await.unwrap();
        assert!(!page.contains("Code reçu"), "{page}");
        ask_for_code(&visitor).await;
        let mails = mail.wait_for(1).await;
        assert_eq!(mails.len(), 1);
        let code = code_in(&mails[0].text());
        let csrf = token(&visitor).await;
        assert_eq!(
            give(&visitor, &csrf, &format!("code={code}")).await,
            opened()
        );
        let forged = metric(&site.gateway, "drimbox_forged_requests_total", &[]).await;
        assert_eq!(forged, 7);
    });
}

#[test]
fn each_proof_is_usable_in_a_browser() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-story-code", gate("report-code")).await;
        site.facts(EXAM, &json!({ "code": CODE })).await;
        let told = json!({ "fields": { "code": CODE }, "wrong": { "code": "WRONG-CODE-1" } });
        tell(&site, "patient", told, async |order| {
            panic!("no order {order}")
        })
        .await;
        drop(site);
        let site = Site::with("link-story-birth", gate("birth-date-and-ins")).await;
        site.facts(EXAM, &json!({ "birth_date": "1979-03-15" }))
            .await;
        let told = json!({
            "fields": { "naissance": "15/03/1979", "chiffres": "999999" },
            "wrong": { "naissance": "15/03/1979", "chiffres": "999998" },
            "tools": true,
        });
        tell(&site, "patient", told, async |order| {
            panic!("no order {order}")
        })
        .await;
    });
}

/// What the SMS gateway is asked: its head and body.
type Asked = tokio::sync::mpsc::UnboundedReceiver<(String, Json)>;

/// A program that would send SMS: it takes every request over TLS.
async fn sms_gateway(pki: &Pki) -> (u16, Asked) {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let identity = pki.server(&["localhost"]).unwrap();
    let chain = CertificateDer::pem_file_iter(&identity.certificate_file).unwrap();
    let chain = chain.map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(&identity.key_file).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut bytes = Vec::new();
            let (head, body) = loop {
                stream.read_buf(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n")
                    && let Ok(body) = serde_json::from_str::<Json>(body)
                {
                    break (head.to_owned(), body);
                }
            };
            let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = stream.shutdown().await;
            sender.send((head, body)).unwrap();
        }
    });
    (port, asked)
}

#[test]
fn a_code_by_sms_goes_through_the_gateway_of_the_centre() {
    if left_out() {
        return;
    }
    run(async {
        let folder = crate::support::folder("link-sms-gateway");
        let pki = Pki::new(&folder, "SMS CA").unwrap();
        let (port, mut asked) = sms_gateway(&pki).await;
        let ca = pki.ca_file().display().to_string();
        let token = folder.join("token");
        std::fs::write(&token, "secret-of-the-gateway\n").unwrap();
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&token, closed).unwrap();
        let token = token.display().to_string();
        let mut site = Site::with("link-sms", |config, _| {
            config
                .set("viewer.patient_gate", "sms-code")
                .set("viewer.sms.url", format!("https://localhost:{port}/send"))
                .set("viewer.sms.ca_file", ca.as_str())
                .set("viewer.sms.token_file", token.as_str())
                .set(
                    "viewer.sms.body",
                    r#"{"to": "{phone}", "message": "{text}"}"#,
                )
        })
        .await;
        site.facts(EXAM, &json!({ "phone": "+33 6 12 34 56 78" }))
            .await;
        let told = json!({ "sends": true, "wrong": { "code": "00000x" } });
        tell(&site, "patient", told, async |order| {
            assert_eq!(order["order"], "code");
            let (head, body) = asked.recv().await.unwrap();
            assert!(
                head.to_ascii_lowercase()
                    .contains("authorization: bearer secret-of-the-gateway"),
                "{head}"
            );
            assert_eq!(body["to"], "+33612345678");
            json!(code_in(body["message"].as_str().unwrap()))
        })
        .await;
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        assert!(!log.contains("612345678") && !log.contains("secret-of-the-gateway"));
    });
}
