//! The exam in Weasis: the address that the page gets, what a program without cookies opens with it, and what nobody
//! does.

use std::time::Duration;

use conformance::testkit::Response;
use conformance::testkit::psc::left_out;
use http::Method;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use url::form_urlencoded;

use crate::images::everything;
use crate::site::{EXAM, HOSTS, OTHER, Site, link_of, tell};
use crate::support::{SINGLE, exam, instance_path, metric, run, series_path};
use crate::visitor::{SESSION, Visitor};

const LAUNCH: &str = "/viewer/api/weasis";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const HERE: (&str, &str) = ("sec-fetch-site", "same-origin");
const LAUNCHES: &str = "drimbox_weasis_launches_total";
/// What Java sends of itself.
const JAVA: (&str, &str) = (
    "accept",
    "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
);

/// A site that offers Weasis, for one test after the other.
async fn site() -> MutexGuard<'static, Site> {
    static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
    let start = async || {
        let site = Site::with("link-weasis", |config, _| {
            config
                .set("viewer.weasis", true)
                .set("viewer.patient_gate", "report-code")
        });
        Mutex::new(site.await)
    };
    SITE.get_or_init(start).await.lock().await
}

async fn token(visitor: &Visitor<'_>) -> String {
    let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
    told["csrf"].as_str().unwrap().to_owned()
}

async fn ask_for_launch(visitor: &Visitor<'_>) -> Response {
    let body = format!("csrf={}", token(visitor).await);
    let fields = [FORM, HERE];
    visitor.ask(Method::POST, LAUNCH, &fields, &body).await
}

/// The path of the list that the page's address leads Weasis to.
async fn launch(site: &Site, visitor: &Visitor<'_>) -> String {
    let answer = ask_for_launch(visitor).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.header("content-type").starts_with("text/plain"));
    assert_eq!(answer.header("cache-control"), "no-store");
    list_of(site, visitor.host, &answer.text().await.unwrap())
}

/// The path of the list that an address has Weasis load.
fn list_of(site: &Site, host: &str, address: &str) -> String {
    let encoded = address.strip_prefix("weasis://").unwrap();
    let (command, _) = form_urlencoded::parse(encoded.as_bytes()).next().unwrap();
    let list = command.strip_prefix("$dicom:get -w \"").unwrap();
    let list = list.strip_suffix('"').unwrap();
    let root = site.url(host, "");
    let path = list.strip_prefix(&root).unwrap();
    assert!(path.starts_with("/viewer/weasis/"), "{path}");
    path.to_owned()
}

/// What a list says, as Weasis reads it.
#[derive(Debug)]
struct List {
    /// The field that every request has.
    key: String,
    /// Paths on the host.
    images: Vec<String>,
    text: String,
}

async fn read(site: &Site, host: &str, answer: Response) -> List {
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("content-type"), "application/xml");
    assert_eq!(answer.header("cache-control"), "no-store");
    let text = answer.text().await.unwrap();
    let values = |name: &str| {
        let start = format!(" {name}=\"");
        let parts = text.split(start.as_str()).skip(1);
        let parts = parts.map(|part| part.split('"').next().unwrap().to_owned());
        parts.collect::<Vec<_>>()
    };
    assert_eq!(values("key"), ["Authorization"]);
    let base = values("baseUrl").remove(0);
    let root = site.url(host, "");
    let base = base.strip_prefix(&root).unwrap();
    let files = values("DirectDownloadFile");
    let images = files.iter().map(|file| format!("{base}{file}")).collect();
    List {
        key: values("value").remove(0),
        images,
        text,
    }
}

/// Weasis, on a computer that has nothing of the session.
struct Weasis<'a> {
    program: Visitor<'a>,
    list: List,
}

impl<'a> Weasis<'a> {
    /// Started by the page of this person.
    async fn of(site: &'a Site, visitor: &Visitor<'_>) -> Self {
        let path = launch(site, visitor).await;
        let program = Visitor::at(site, visitor.host);
        let answer = program.get(&path).await;
        let list = read(site, visitor.host, answer).await;
        Self { program, list }
    }

    async fn ask(&self, path: &str) -> Response {
        let fields = [JAVA, ("authorization", self.list.key.as_str())];
        self.program.ask(Method::GET, path, &fields, "").await
    }

    async fn status(&self, path: &str) -> u16 {
        self.ask(path).await.status().as_u16()
    }

    async fn first(&self) -> u16 {
        self.status(&self.list.images[0]).await
    }
}

#[test]
fn weasis_is_not_offered_unless_the_centre_says_so() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(told["weasis"], false);
        assert_eq!(ask_for_launch(&visitor).await.status(), 404);
        let list = format!("/viewer/weasis/{}", "A".repeat(43));
        assert_eq!(visitor.status(&list).await, 404);
        let key = format!("Drimbox-Weasis {}", "A".repeat(43));
        let image = "/dicom-web".to_owned() + &instance_path(exam(EXAM), &exam(EXAM).series[0], 0);
        let fields = [("authorization", key.as_str())];
        let answer = visitor.ask(Method::GET, &image, &fields, "").await;
        assert_eq!(answer.status(), 401, "the key counts, and not the cookie");
    });
}

#[test]
fn a_professional_opens_every_image_of_the_exam_in_weasis() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        let own = exam(EXAM);
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(told["weasis"], true);
        let opened = metric(&site.gateway, LAUNCHES, &[("outcome", "opened")]).await;
        let path = launch(&site, &visitor).await;
        let program = Visitor::new(&site);
        // Who only looks, uses nothing up.
        let looked = program.ask(Method::HEAD, &path, &[], "").await;
        assert_eq!(looked.status(), 404);
        let elsewhere = Visitor::at(&site, HOSTS[1]);
        assert_eq!(elsewhere.status(&path).await, 404);
        let answer = program.get(&path).await;
        let list = read(&site, HOSTS[0], answer).await;
        let weasis = Weasis { program, list };
        assert!(weasis.program.cookies.borrow().is_empty());
        // Not a second time.
        let again = weasis.program.get(&path).await;
        assert_eq!(again.status(), 404);
        assert!(again.text().await.unwrap().contains("pas disponible"));

        let list = &weasis.list;
        let series = &own.series[0];
        assert_eq!(list.images.len(), series.count);
        assert!(
            list.text
                .contains("xmlns=\"http://www.weasis.org/xsd/2.5\"")
        );
        for said in [
            format!("StudyInstanceUID=\"{}\"", own.study_instance_uid),
            format!("StudyDescription=\"{}\"", own.study_description),
            format!("Modality=\"{}\"", series.modality),
        ] {
            assert!(list.text.contains(&said), "{said}: {}", list.text);
        }
        assert!(!list.text.contains(&own.series[1].series_instance_uid));
        for (at, image) in list.images.iter().enumerate() {
            let answer = weasis.ask(image).await;
            assert_eq!(answer.status(), 200, "{image}");
            assert!(
                answer
                    .header("content-type")
                    .starts_with("application/dicom")
            );
            let got = answer.bytes().await.unwrap();
            assert_eq!(&got[128..132], b"DICM");
            // What the page gets, and nothing else.
            let path = "/dicom-web".to_owned() + &instance_path(own, series, at);
            let fields = [("accept", SINGLE)];
            let page = visitor.ask(Method::GET, &path, &fields, "").await;
            assert!(got == page.bytes().await.unwrap(), "{image}");
        }
        let now = metric(&site.gateway, LAUNCHES, &[("outcome", "opened")]).await;
        assert_eq!(now, opened + 1);
        // Who, with what: beside what the same person saw on the page.
        let events = site.events();
        for resource in ["weasis", "instance"] {
            let seen = events.iter().rev().find(|event| {
                let object = &event["object"];
                event["kind"] == "images-seen"
                    && object["resource"] == resource
                    && event["actor"]["account"] == "weasis"
            });
            let seen = seen.unwrap_or_else(|| panic!("no event of {resource}"));
            assert!(seen["actor"]["person"]["national_id"].is_string(), "{seen}");
            assert_eq!(seen["object"]["study"], own.study_instance_uid.as_str());
        }
    });
}

#[test]
fn the_button_of_the_page_leads_to_the_images_in_weasis() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        let obey = async |order: serde_json::Value| {
            let path = list_of(&site, HOSTS[0], order["address"].as_str().unwrap());
            let program = Visitor::new(&site);
            let answer = program.get(&path).await;
            let list = read(&site, HOSTS[0], answer).await;
            let weasis = Weasis { program, list };
            json!({ "status": weasis.first().await })
        };
        tell(&site, "weasis", json!({}), obey).await;
    });
}

#[test]
fn a_key_sees_what_its_session_sees_and_no_more() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let weasis = Weasis::of(&site, &visitor).await;
        let mut seen = std::collections::BTreeSet::new();
        for path in everything() {
            let fields = [("accept", "*/*")];
            let page = visitor.ask(Method::GET, &path, &fields, "").await;
            let fields = [
                ("accept", "*/*"),
                ("authorization", weasis.list.key.as_str()),
            ];
            let key = weasis.program.ask(Method::GET, &path, &fields, "").await;
            assert_eq!(key.status(), page.status(), "{path}");
            seen.insert(key.status().as_u16());
        }
        assert_eq!(seen, [200, 404].into());
        // It opens images, and nothing of the page; nor does it become a cookie.
        for path in [
            "/viewer/api/exam",
            "/viewer/api/report",
            "/viewer/api/archive/progress",
        ] {
            assert_eq!(weasis.status(path).await, 401, "{path}");
        }
        let value = weasis.list.key.split(' ').nth(1).unwrap().to_owned();
        let thief = Visitor::new(&site);
        thief.bring(SESSION, &value);
        assert_eq!(thief.status("/viewer/api/exam").await, 401);
        assert_eq!(thief.status(&format!("/viewer/weasis/{value}")).await, 404);
        // Nor is the cookie a key.
        let cookie = format!("Drimbox-Weasis {}", visitor.cookie(SESSION).unwrap());
        let fields = [("authorization", cookie.as_str())];
        let image = &weasis.list.images[0];
        let answer = thief.ask(Method::GET, image, &fields, "").await;
        assert_eq!(answer.status(), 401);
        // Another name of the gateway is another place.
        let elsewhere = Weasis {
            program: Visitor::at(&site, HOSTS[1]),
            list: weasis.list,
        };
        assert_eq!(elsewhere.first().await, 401);
    });
}

#[test]
fn a_launch_comes_from_the_page_of_a_session() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        let offered = metric(&site.gateway, LAUNCHES, &[("outcome", "offered")]).await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let form = format!("csrf={}", token(&visitor).await);
        let other = Visitor::with_exam(&site, EXAM).await;
        let others = format!("csrf={}", token(&other).await);
        for (from, body) in [
            ("cross-site", form.as_str()),
            ("same-site", &form),
            ("none", &form),
            ("same-origin", &others),
            ("same-origin", "csrf=x"),
            ("same-origin", ""),
        ] {
            let fields = [FORM, ("sec-fetch-site", from)];
            let answer = visitor.ask(Method::POST, LAUNCH, &fields, body).await;
            assert_eq!(answer.status(), 403, "{from} {body}");
        }
        let answer = visitor.ask(Method::POST, LAUNCH, &[FORM], &form).await;
        assert_eq!(
            answer.status(),
            403,
            "a browser says where a form comes from"
        );
        assert_eq!(visitor.status(LAUNCH).await, 405);
        let stranger = Visitor::new(&site);
        let fields = [FORM, HERE];
        let answer = stranger.ask(Method::POST, LAUNCH, &fields, &form).await;
        assert_eq!(answer.status(), 401);
        let now = metric(&site.gateway, LAUNCHES, &[("outcome", "offered")]).await;
        assert_eq!(now, offered);
    });
}

#[test]
fn a_patient_has_the_page_alone() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        site.facts(EXAM, &json!({ "code": "KJHG-4567-MNPQ" })).await;
        let patient = Visitor::new(&site);
        patient.get(&link_of(EXAM)).await;
        let page = patient.get("/viewer/patient").await.text().await.unwrap();
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").unwrap();
        let body = format!(
            "csrf={}&code=KJHG-4567-MNPQ",
            rest.split('"').next().unwrap()
        );
        let fields = [FORM, HERE];
        let answer = patient
            .ask(Method::POST, "/viewer/patient", &fields, &body)
            .await;
        assert_eq!(answer.status(), 303);
        let told = patient.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(
            (&told["visitor"], &told["weasis"]),
            (&json!("patient"), &json!(false))
        );
        assert_eq!(ask_for_launch(&patient).await.status(), 403);
        let events = site.events();
        let refused = events
            .iter()
            .rev()
            .find(|event| event["kind"] == "images-refused");
        assert_eq!(refused.unwrap()["outcome"]["reason"], "not_for_patients");
    });
}

#[test]
fn with_the_session_ticket_and_key_are_over() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let weasis = Weasis::of(&site, &visitor).await;
        let ticket = launch(&site, &visitor).await;
        assert_eq!(weasis.first().await, 200);
        let body = format!("csrf={}", token(&visitor).await);
        let fields = [FORM, HERE];
        let left = visitor
            .ask(Method::POST, "/auth/logout", &fields, &body)
            .await;
        assert_eq!(left.status(), 303);
        assert_eq!(weasis.first().await, 401);
        assert_eq!(weasis.program.status(&ticket).await, 404);
    });
}

#[test]
fn a_key_ends_where_the_exam_does() {
    if left_out() {
        return;
    }
    run(async {
        let site = site().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let weasis = Weasis::of(&site, &visitor).await;
        site.publish(EXAM, &["--masque-ps"]).await;
        assert_eq!(weasis.first().await, 404);
        site.publish(EXAM, &[]).await;
        assert_eq!(weasis.first().await, 200);
        // A session has one exam open, and Weasis no other.
        let ticket = launch(&site, &visitor).await;
        assert_eq!(visitor.open(&link_of(OTHER)).await, Ok(()));
        assert_eq!(weasis.first().await, 404);
        assert_eq!(weasis.program.status(&ticket).await, 404);
        let other = exam(OTHER);
        let path = "/dicom-web".to_owned() + &series_path(other, &other.series[0]);
        assert_eq!(weasis.status(&path).await, 404, "nor the other one");
        let weasis = Weasis::of(&site, &visitor).await;
        assert_eq!(weasis.first().await, 200);
    });
}

#[test]
fn a_restart_takes_no_key_away_and_brings_no_ticket_back() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = site().await;
        let (path, key, images, cookie) = {
            let visitor = Visitor::with_exam(&site, EXAM).await;
            let path = launch(&site, &visitor).await;
            let program = Visitor::new(&site);
            let answer = program.get(&path).await;
            let list = read(&site, HOSTS[0], answer).await;
            (
                path,
                list.key,
                list.images,
                visitor.cookie(SESSION).unwrap(),
            )
        };
        site.gateway.stop(Duration::from_secs(60)).await.unwrap();
        site.gateway.restart().await.unwrap();
        let program = Visitor::new(&site);
        let fields = [("authorization", key.as_str())];
        let answer = program.ask(Method::GET, &images[0], &fields, "").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(program.status(&path).await, 404);
        let visitor = Visitor::new(&site);
        visitor.bring(SESSION, &cookie);
        let weasis = Weasis::of(&site, &visitor).await;
        assert_eq!(weasis.first().await, 200);
    });
}

#[test]
fn neither_ticket_nor_key_is_in_a_log_an_address_or_a_metric() {
    if left_out() {
        return;
    }
    run(async {
        let mut site = site().await;
        let secrets = {
            let visitor = Visitor::with_exam(&site, EXAM).await;
            let path = launch(&site, &visitor).await;
            let program = Visitor::new(&site);
            let answer = program.get(&path).await;
            let list = read(&site, HOSTS[0], answer).await;
            let weasis = Weasis { program, list };
            assert_eq!(weasis.first().await, 200);
            assert_eq!(weasis.program.status(&path).await, 404);
            assert!(weasis.program.sent_to.borrow().is_empty());
            let ticket = path.rsplit('/').next().unwrap().to_owned();
            let key = weasis.list.key.split(' ').nth(1).unwrap().to_owned();
            [ticket, key]
        };
        let metrics = format!("{:?}", site.gateway.metrics().await.unwrap());
        let log = std::fs::read_to_string(site.gateway.process().log_file()).unwrap();
        let trail = serde_json::to_string(&site.events()).unwrap();
        assert!(log.contains("viewer"), "requests are in the log at all");
        for secret in secrets {
            assert_eq!(secret.len(), 43);
            for (what, text) in [("log", &log), ("metrics", &metrics), ("trail", &trail)] {
                assert!(!text.contains(&secret), "in the {what}");
            }
        }
    });
}
