//! What others may try with a link, a cookie or a page.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use conformance::samples::Exam;
use conformance::testkit::psc::{PHYSICIAN, left_out};
use conformance::testkit::{Client, GatewayConfig, Pki, Protocol, Response};
use http::Method;
use serde_json::Value as Json;

use crate::site::{CLOSED, EXAM, HOSTS, OTHER, Site, accession_of, link, link_of, report_of};
use crate::support::{exam, metric, run, series_path};
use crate::visitor::{LINK, PAGE, SESSION, Visitor};

/// What anybody can tell of an answer: its status, its fields, its text.
async fn seen(answer: Response) -> (u16, Vec<String>, String) {
    let named = |name: &str| !matches!(name, "date" | "x-request-id" | "set-cookie");
    let mut fields: Vec<String> = answer
        .headers()
        .iter()
        .filter(|(name, _)| named(name.as_str()))
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    fields.sort();
    let status = answer.status().as_u16();
    (status, fields, answer.text().await.unwrap())
}

#[test]
fn whatever_is_wrong_with_a_link_the_page_is_the_same() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let (own, other, closed) = (exam(EXAM), exam(OTHER), exam(CLOSED));
        let (study, accession, report) = (
            own.study_instance_uid.as_str(),
            accession_of(own),
            report_of(EXAM).replace('^', "_"),
        );
        let well_formed = [
            link("1.2.250.1.999.404", &accession, &report),
            link(&other.study_instance_uid, &accession, &report),
            link(study, &accession_of(other), &report),
            link(study, &accession, &report_of(OTHER).replace('^', "_")),
            link(&closed.study_instance_uid, &accession_of(closed), &report),
        ];
        let mut pages = BTreeSet::new();
        for wrong in &well_formed {
            // Before anybody says who they are, a wrong link is like a right one.
            let (mut told, mut entrances) = (BTreeSet::new(), BTreeSet::new());
            for link in [wrong, &link_of(EXAM)] {
                let stranger = Visitor::new(&site);
                let answer = stranger.get(link).await;
                assert_eq!(answer.header("location"), "/viewer/entree");
                told.insert(seen(answer).await);
                entrances.insert(seen(stranger.get("/viewer/entree").await).await);
            }
            assert_eq!((told.len(), entrances.len()), (1, 1), "{wrong}");
            visitor.get(wrong).await;
            pages.insert(seen(visitor.refused("/viewer/pro").await).await);
        }
        let malformed = [
            "/IHEInvokeImageDisplay".to_owned(),
            link(study, &accession, ""),
            link("1.2.x", &accession, &report),
            link(study, &"9".repeat(300), &report),
            link_of(EXAM).replace("STUDY", "SERIES"),
            format!("{}&studyUID={study}", link_of(EXAM)),
        ];
        // A link that is none takes as long as one that opens nothing.
        for wrong in &malformed {
            pages.insert(seen(visitor.refused(wrong).await).await);
        }
        for nowhere in [
            "/IHEInvokeImageDisplay/",
            "/viewer/elsewhere",
            "/nothing",
            "/",
        ] {
            pages.insert(seen(visitor.get(nowhere).await).await);
        }
        assert_eq!(pages.len(), 1, "{pages:#?}");
        assert_eq!(pages.first().unwrap().0, 404);
        // None of it took the exam away that was open.
        assert_eq!(visitor.status("/viewer/api/exam").await, 200);
    });
}

#[test]
fn nothing_of_a_link_is_in_a_log_an_address_or_a_metric() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::lock().await;
        let (cookies, sent_to) = {
            let visitor = Visitor::with_exam(&site, EXAM).await;
            visitor.get(&link_of(OTHER)).await;
            visitor.get(&link_of(EXAM).replace("STUDY", "SERIES")).await;
            let cookies: Vec<String> = visitor.cookies.borrow().values().cloned().collect();
            (cookies, visitor.sent_to.borrow().join("\n"))
        };
        let secrets = [EXAM, OTHER].map(|name| {
            let exam = exam(name);
            [
                exam.accession_number.clone(),
                exam.study_instance_uid.clone(),
            ]
        });
        let secrets: Vec<String> = secrets.concat();
        let metrics = format!("{:?}", site.gateway.metrics().await.unwrap());
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        assert!(log.contains("viewer"), "requests are in the log at all");
        for secret in &secrets {
            assert!(!sent_to.contains(secret), "{sent_to}");
            assert!(!metrics.contains(secret));
        }
        // At the level of this log a UID may stand in it; what proves that someone has the report may not.
        for secret in [EXAM, OTHER].map(|name| exam(name).accession_number.clone()) {
            assert!(!log.contains(&secret), "an accession number is in the log");
        }
        for secret in ["IHEInvokeImageDisplay?", "idCDA", "1.2.250.1.999.7"] {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
        for cookie in cookies {
            assert!(!log.contains(&cookie), "a cookie is in the log");
        }
    });
}

#[test]
fn a_session_begins_with_the_login_and_not_before() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let known = "A".repeat(43);
        let victim = Visitor::new(&site);
        victim.bring(SESSION, &known);
        assert_eq!(victim.open(&link_of(EXAM)).await, Ok(()));
        let session = victim.cookie(SESSION).unwrap();
        assert_ne!(session, known);
        let attacker = Visitor::new(&site);
        attacker.bring(SESSION, &known);
        assert_eq!(attacker.status("/viewer/api/exam").await, 401);
        // A second login gives another id, and the first is over.
        let location = victim.get("/auth/psc/login?again").await;
        let location = location.header("location").to_owned();
        if location.starts_with("https://") {
            let back = victim.log_in(&location).await;
            victim.get(&back).await;
            assert_ne!(victim.cookie(SESSION).unwrap(), session);
            attacker.bring(SESSION, &session);
            assert_eq!(attacker.status("/viewer/api/exam").await, 401);
        }
        // What the browser of somebody else followed is not this one's.
        let third = Visitor::new(&site);
        third.bring(LINK, &"B".repeat(43));
        assert_eq!(third.status("/viewer/entree").await, 404);
    });
}

#[test]
fn a_wrong_link_is_refused_after_the_login_no_sooner_than_before() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::new(&site);
        visitor.get(&link_of(EXAM).replace("CR-", "CX-")).await;
        let provider = visitor.get("/viewer/pro").await;
        let back = visitor.log_in(provider.header("location")).await;
        let mut place = visitor.get(&back).await.header("location").to_owned();
        while place != "/viewer/ouvrir" {
            place = visitor.get(&place).await.header("location").to_owned();
            assert!(!place.is_empty(), "{:?}", visitor.sent_to.borrow());
        }
        assert_eq!(visitor.refused(&place).await.status(), 404);
    });
}

#[test]
fn another_site_cannot_change_what_a_session_has_open() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let shown = async || {
            let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
            told["study"].as_str().unwrap().to_owned()
        };
        let opened = || {
            let events = site.events();
            let opened = events.iter().filter(|event| event["kind"] == "link-opened");
            opened.count()
        };
        // A page opens a valid link in a window, then takes that window to where the link is used.
        visitor.get(&link_of(OTHER)).await;
        let before = opened();
        assert!(before > 0);
        for from in ["cross-site", "same-site"] {
            let fields = [("sec-fetch-site", from)];
            let answer = visitor.ask(Method::GET, "/viewer/pro", &fields, "").await;
            assert_eq!(answer.header("location"), "/viewer/entree", "{from}");
        }
        assert_eq!(shown().await, exam(EXAM).study_instance_uid);
        assert_eq!(opened(), before);
        // The button of the entrance still works, and so does an address that somebody typed.
        for from in ["same-origin", "none"] {
            visitor.get(&link_of(OTHER)).await;
            let fields = [("sec-fetch-site", from)];
            let answer = visitor.ask(Method::GET, "/viewer/pro", &fields, "").await;
            assert_eq!(answer.header("location"), PAGE, "{from}");
        }
        assert_eq!(shown().await, exam(OTHER).study_instance_uid);
        assert_eq!(opened(), before + 2);
        // Somebody who is not logged in is not sent to the provider either.
        let stranger = Visitor::new(&site);
        stranger.get(&link_of(OTHER)).await;
        let fields = [("sec-fetch-site", "cross-site")];
        let answer = stranger.ask(Method::GET, "/viewer/pro", &fields, "").await;
        assert_eq!(answer.header("location"), "/viewer/entree");
        assert!(stranger.cookie(LINK).is_some(), "the link still waits");
    });
}

#[test]
fn the_link_of_one_vi_name_opens_nothing_on_another() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let here = Visitor::new(&site);
        here.get(&link_of(EXAM)).await;
        let elsewhere = Visitor::at(&site, HOSTS[1]);
        elsewhere.bring(LINK, &here.cookie(LINK).unwrap());
        assert_eq!(elsewhere.status("/viewer/entree").await, 404);
        assert_eq!(elsewhere.status("/viewer/pro").await, 404);
        // Nor does the link itself: the other PACS has not published it.
        let (status, page) = elsewhere.open(&link_of(EXAM)).await.unwrap_err();
        assert_eq!(status, 404);
        assert!(page.contains("pas disponible"), "{page}");
    });
}

#[test]
fn nobody_is_logged_out_by_another_page() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        let form = format!("csrf={}", told["csrf"].as_str().unwrap());
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let post = async |site: &str, body: &str| {
            let fields = [kind, ("sec-fetch-site", site)];
            let answer = visitor
                .ask(Method::POST, "/auth/logout", &fields, body)
                .await;
            answer.status().as_u16()
        };
        for (from, body) in [
            ("cross-site", form.as_str()),
            ("same-site", &form),
            ("none", &form),
            ("same-origin", "csrf=x"),
            ("same-origin", ""),
        ] {
            assert_eq!(post(from, body).await, 403, "{from} {body}");
        }
        assert_eq!(
            visitor
                .ask(Method::POST, "/auth/logout", &[kind], &form)
                .await
                .status(),
            403
        );
        assert_eq!(visitor.status("/viewer/api/exam").await, 200);
        let session = visitor.cookie(SESSION).unwrap();
        assert_eq!(post("same-origin", &form).await, 303);
        assert_eq!(visitor.cookie(SESSION), None);
        visitor.bring(SESSION, &session);
        assert_eq!(visitor.status("/viewer/api/exam").await, 401);
        let path = "/dicom-web".to_owned() + &series_path(exam(EXAM), &exam(EXAM).series[0]);
        assert_eq!(visitor.status(&path).await, 401);
    });
}

#[test]
fn no_answer_is_framed_kept_or_indexed() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let series = "/dicom-web".to_owned() + &series_path(exam(EXAM), &exam(EXAM).series[0]);
        let waiting = Visitor::new(&site);
        let followed = waiting.get(&link_of(EXAM)).await;
        let mut answers = vec![("link", followed)];
        answers.push(("entrance", waiting.get("/viewer/entree").await));
        answers.push(("refused", waiting.get("/viewer/nothing").await));
        answers.push(("no session", waiting.get(&series).await));
        for path in [PAGE, "/viewer/api/exam"] {
            answers.push((path, visitor.get(path).await));
        }
        let metadata = series.clone() + "/metadata";
        let picture = series.clone() + "/thumbnail";
        for path in [&series, &metadata, &picture] {
            answers.push(("images", visitor.get(path).await));
        }
        for (what, answer) in answers {
            assert_eq!(answer.header("cache-control"), "no-store", "{what}");
            assert_eq!(answer.header("referrer-policy"), "no-referrer", "{what}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{what}");
            assert_eq!(answer.header("x-robots-tag"), "noindex, nofollow", "{what}");
            let policy = answer.header("content-security-policy");
            let frames = if matches!(what, "images" | "no session") {
                "frame-ancestors 'self'"
            } else {
                "frame-ancestors 'none'"
            };
            assert!(policy.contains(frames), "{what}: {policy}");
            assert!(policy.starts_with("default-src 'none'"), "{what}: {policy}");
            let resource = answer.header("cross-origin-resource-policy");
            assert_eq!(resource, "same-origin", "{what}");
        }
    });
}

#[test]
fn a_request_for_another_name_than_that_of_the_connection_is_misdirected() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, site.port));
        let client = Client::builder()
            .ca(site.pki.ca_file())
            .protocol(Protocol::Http2)
            .resolve(HOSTS[0], loopback)
            .build()
            .unwrap();
        for host in [HOSTS[1], "evil.example", "db-ici.test.example"] {
            for path in [link_of(EXAM), "/auth/psc/login".to_owned(), PAGE.to_owned()] {
                let call = client.get(&site.url(HOSTS[0], &path)).header("host", host);
                let answer = call.send().await.unwrap();
                assert_eq!(answer.status(), 421, "{host} {path}");
                assert_eq!(answer.header("location"), "");
            }
        }
    });
}

#[test]
fn no_parameter_leads_to_another_place() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::new(&site);
        let more = "return_to=https%3A%2F%2Fevil.example%2F&url=https%3A%2F%2Fevil.example%2F&next=%2F%2Fevil.example";
        let link = format!("{}&{more}", link_of(EXAM));
        visitor.get(&link).await;
        visitor.get(&format!("/viewer/entree?{more}")).await;
        let answer = visitor.get(&format!("/viewer/pro?{more}")).await;
        let provider = answer.header("location").to_owned();
        let back = visitor.log_in(&provider).await;
        visitor.get(&back).await;
        visitor.get(&format!("/viewer/ouvrir?{more}")).await;
        visitor.get(&format!("/viewer/ouvrir?{more}")).await;
        visitor.get(&link).await;
        visitor.get(&format!("/viewer/pro?{more}")).await;
        let sent_to = visitor.sent_to.borrow().clone();
        assert_eq!(sent_to.len(), 7, "{sent_to:?}");
        for place in &sent_to {
            assert!(!place.contains("evil"), "{place}");
            assert!(
                *place == provider || place.starts_with("/viewer/"),
                "{place}"
            );
        }
        assert_eq!(visitor.status("/viewer/api/exam").await, 200);
    });
}

#[test]
fn restrictions_that_come_later_close_an_exam_that_is_open() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, OTHER).await;
        let own = exam(OTHER);
        let path = "/dicom-web".to_owned() + &series_path(own, &own.series[0]) + "/metadata";
        for flags in [["--masque-ps"], ["--opposed"]] {
            assert_eq!(visitor.status(&path).await, 200);
            site.publish(OTHER, &flags).await;
            assert_eq!(visitor.status(&path).await, 404, "{flags:?}");
            assert_eq!(visitor.status("/viewer/api/exam").await, 410, "{flags:?}");
            let newcomer = Visitor::new(&site);
            let (status, _) = newcomer.open(&link_of(OTHER)).await.unwrap_err();
            assert_eq!(status, 404, "{flags:?}");
            site.publish(OTHER, &[]).await;
        }
        // What the patient must not see yet, a professional may.
        site.publish(OTHER, &["--invisible-patient"]).await;
        assert_eq!(visitor.status(&path).await, 200);
        site.withdraw(OTHER).await;
        assert_eq!(visitor.status(&path).await, 404);
        assert_eq!(visitor.status("/viewer/api/exam").await, 410);
        site.publish(OTHER, &[]).await;
        assert_eq!(visitor.status(&path).await, 200);
    });
}

#[test]
fn who_guesses_is_locked_out_also_after_a_crash() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::start("link-guesses").await;
        let session = {
            let visitor = Visitor::with_exam(&site, EXAM).await;
            let study = &exam(EXAM).study_instance_uid;
            for guess in 0..20 {
                let wrong = link(study, &format!("E{guess:08}"), "1.2.250.1.999.7_CR");
                assert_eq!(visitor.open(&wrong).await.unwrap_err().0, 404);
            }
            visitor.cookie(SESSION).unwrap()
        };
        for subject in ["address", "study"] {
            let labels = [("subject", subject)];
            let name = "drimbox_viewer_lockouts_total";
            assert_eq!(metric(&site.gateway, name, &labels).await, 1, "{subject}");
        }
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        let alarms: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("it is locked"))
            .collect();
        assert_eq!(alarms.len(), 2, "{alarms:?}");
        for alarm in alarms {
            assert!(alarm.contains("WARN"), "{alarm}");
            for told in ["127.0.0.1", &exam(EXAM).study_instance_uid] {
                assert!(!alarm.contains(told), "{alarm}");
            }
        }
        for crashed in [false, true] {
            if crashed {
                site.gateway.kill();
                site.gateway.restart().await.unwrap();
            }
            // The address: no link of it is looked at, whatever its study.
            for link in [link_of(OTHER), link_of(EXAM)] {
                let here = Visitor::new(&site);
                assert_eq!(here.refused(&link).await.status(), 404, "{crashed}");
                assert_eq!(here.cookie(LINK), None);
            }
            // The study: nobody's link to it opens, and links to others do.
            let elsewhere = Visitor::elsewhere(&site);
            let (status, page) = elsewhere.open(&link_of(EXAM)).await.unwrap_err();
            assert_eq!(status, 404, "{crashed}");
            assert!(page.contains("pas disponible"), "{page}");
            assert_eq!(elsewhere.open(&link_of(OTHER)).await, Ok(()), "{crashed}");
        }
        // The exam that was open before stays so.
        let visitor = Visitor::new(&site);
        visitor.bring(SESSION, &session);
        assert_eq!(visitor.status("/viewer/api/exam").await, 200);
    });
}

#[test]
fn a_log_as_centres_keep_it_has_nothing_of_a_link_and_no_uid_at_all() {
    if left_out() {
        return;
    }
    run(async {
        let info = |config: GatewayConfig, _: &Pki| config.set("log.filter", "info");
        let mut site = Site::with("link-log", info).await;
        let (own, other) = (exam(EXAM), exam(OTHER));
        let wrong = link_of(EXAM).replace("CR-", "CX-");
        let cookies: Vec<String> = {
            let visitor = Visitor::with_exam(&site, EXAM).await;
            assert_eq!(visitor.open(&wrong).await.unwrap_err().0, 404);
            visitor.refused(&link_of(EXAM).replace("STUDY", "X")).await;
            visitor.get("/viewer/api/exam").await;
            for exam in [own, other] {
                let series = "/dicom-web".to_owned() + &series_path(exam, &exam.series[0]);
                visitor.status(&(series.clone() + "/metadata")).await;
                Visitor::new(&site).status(&series).await;
            }
            visitor.get(&link_of(OTHER)).await;
            let cookies = visitor.cookies.borrow();
            cookies.values().cloned().collect()
        };
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        assert!(
            log.contains("request of a visitor refused"),
            "what is refused is in the log at all"
        );
        let words = [
            "IHEInvokeImageDisplay?",
            "idCDA",
            "1.2.250.1.999.7",
            "/studies/",
        ];
        let mut secrets: Vec<&str> = words.to_vec();
        secrets.extend(cookies.iter().map(String::as_str));
        for exam in [own, other] {
            let series = &exam.series[0];
            secrets.extend([
                exam.accession_number.as_str(),
                &exam.study_instance_uid,
                &series.series_instance_uid,
                &series.instances[0].sop_instance_uid,
            ]);
        }
        for secret in secrets {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    });
}

#[test]
fn what_a_professional_is_shown_or_refused_is_on_record_with_how_they_proved_who_they_are() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let before = site.events().len();
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let (own, other) = (exam(EXAM), exam(OTHER));
        let metadata =
            |exam: &Exam| format!("/dicom-web{}/metadata", series_path(exam, &exam.series[0]));
        for _ in 0..5 {
            assert_eq!(visitor.status(&metadata(own)).await, 200);
        }
        assert_eq!(visitor.status(&metadata(other)).await, 404);
        let wrong = link_of(EXAM).replace("CR-", "CX-");
        assert_eq!(visitor.open(&wrong).await.unwrap_err().0, 404);
        let events = site.events();
        let events = &events[before..];
        let study = |exam: &Exam| Json::from(exam.study_instance_uid.as_str());
        for (kind, resource, study, ending, reason) in [
            ("link-opened", Json::Null, study(own), "success", Json::Null),
            (
                "images-seen",
                "metadata".into(),
                study(own),
                "success",
                Json::Null,
            ),
            (
                "images-refused",
                Json::Null,
                study(other),
                "refused",
                "not_granted".into(),
            ),
            (
                "link-refused",
                Json::Null,
                study(own),
                "refused",
                "other_link".into(),
            ),
        ] {
            let of_kind: Vec<&Json> = events
                .iter()
                .filter(|event| event["kind"] == kind && event["object"]["resource"] == resource)
                .collect();
            assert_eq!(of_kind.len(), 1, "{kind}: {of_kind:#?}");
            let event = of_kind[0];
            let person = &event["actor"]["person"];
            assert_eq!(person["national_id"], PHYSICIAN, "{event}");
            assert_eq!(person["proof"], "psc", "{event}");
            assert!(person["profession"].is_string(), "{event}");
            assert_eq!(event["actor"]["address"], "127.0.0.1", "{event}");
            assert_eq!(event["object"]["study"], study, "{event}");
            assert_eq!(event["outcome"]["ending"], ending, "{event}");
            assert_eq!(event["outcome"]["reason"], reason, "{event}");
            assert!(event["at"].is_string(), "{event}");
        }
        let seen = events.iter().find(|event| {
            event["kind"] == "images-seen" && event["object"]["resource"] == "metadata"
        });
        let series = &own.series[0].series_instance_uid;
        assert_eq!(seen.unwrap()["object"]["series"], series.as_str());
    });
}

#[test]
fn reports_of_the_policy_are_counted_and_not_kept() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = Site::lock().await;
        let name = "drimbox_viewer_policy_reports_total";
        let before = metric(&site.gateway, name, &[]).await;
        let body = "{\"csp-report\":{\"blocked-uri\":\"https://secret.example/x\"}}";
        {
            let visitor = Visitor::new(&site);
            let path = "/viewer/csp-report";
            let fields = [("content-type", "application/csp-report")];
            let answer = visitor.ask(Method::POST, path, &fields, body).await;
            assert_eq!(answer.status(), 204);
        }
        assert_eq!(metric(&site.gateway, name, &[]).await, before + 1);
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        assert!(!log.contains("secret.example"));
    });
}
