//! What a session may see: its exam, as its KOS names it, and nothing beside it.

use conformance::samples::{Exam, Series};
use conformance::testkit::psc::left_out;
use http::Method;
use serde_json::json;

use crate::routes::{self, ROOT, retrievals};
use crate::site::{CLOSED, EXAM, HOSTS, OTHER, Site};
use crate::support::{exam, instance_path, metric, run, series_path, study_path};
use crate::visitor::{SESSION, Visitor};

/// Every route about the exams of this site, and about what of the first two is mixed in one path.
pub fn everything() -> Vec<String> {
    let (own, other) = (exam(EXAM), exam(OTHER));
    let mut routes = routes::everything(&[own, other, exam(CLOSED)]);
    // A series or an instance that is published, under the study or the series of another exam.
    for (exam, foreign) in [(own, other), (other, own)] {
        let under = |study: &Exam, series: &Series, of: &Series| Exam {
            series: vec![Series {
                instances: of.instances.clone(),
                ..series.clone()
            }],
            ..study.clone()
        };
        let (mine, theirs) = (&exam.series[0], &foreign.series[0]);
        for (series, instances) in [(theirs, theirs), (mine, theirs), (theirs, mine)] {
            let mixed = under(exam, series, instances);
            let paths = routes::retrievals(&mixed, &mixed.series[0]);
            // What names no instance is of the own series, which may be open.
            let of_series = format!("{ROOT}{}", series_path(exam, mine));
            let names_instance = |path: &String| path.contains("/instances/");
            routes.extend(
                paths
                    .into_iter()
                    .filter(|path| names_instance(path) || !path.starts_with(&of_series)),
            );
        }
    }
    routes
}

#[test]
fn a_session_sees_every_form_of_its_exam() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let exam = exam(EXAM);
        for path in retrievals(exam, &exam.series[0]) {
            let answer = visitor
                .ask(Method::GET, &path, &[("accept", "*/*")], "")
                .await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.header("cache-control"), "no-store", "{path}");
            assert!(answer.drain().await.broken.is_none(), "{path}");
        }
        let found = visitor
            .get(&format!("{ROOT}{}/series", study_path(exam)))
            .await;
        let found = found.json().await.unwrap();
        let uids: Vec<_> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|series| series["0020000E"]["Value"][0].clone())
            .collect();
        assert_eq!(uids, [exam.series[0].series_instance_uid.as_str()]);
        let found = visitor
            .get(&format!("{ROOT}{}/instances", study_path(exam)))
            .await;
        let found = found.json().await.unwrap();
        assert_eq!(found.as_array().unwrap().len(), exam.series[0].count);
    });
}

#[test]
fn the_page_is_told_the_published_series_with_an_image_in_its_middle() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let own = exam(EXAM);
        let series = &own.series[0];
        let middle = series.instances.len() / 2;
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(
            told["series"],
            json!([{
                "uid": series.series_instance_uid,
                "modality": series.modality,
                "description": series.series_description,
                "number": series.series_number,
                "count": series.count,
                "middle": series.instances[middle].sop_instance_uid,
            }])
        );
        let frame = ROOT.to_owned() + &instance_path(own, series, middle) + "/frames/1";
        let accept = [("accept", "*/*")];
        let answer = visitor.ask(Method::GET, &frame, &accept, "").await;
        assert_eq!(answer.status(), 200);
    });
}

#[test]
fn nothing_beside_the_exam_of_a_session_is_found() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let own = exam(EXAM);
        let mine = retrievals(own, &own.series[0]);
        let study = ROOT.to_owned() + &study_path(own);
        // Searches stay in the exam: what they find is looked at below.
        let searches: Vec<String> = own
            .series
            .iter()
            .flat_map(|series| routes::searches(own, series))
            .collect();
        let mut bodies = std::collections::BTreeSet::new();
        for path in everything() {
            if mine.contains(&path) || searches.contains(&path) {
                continue;
            }
            // Nothing that a peer or a machine of the centre would show opens more.
            let fields = [
                ("accept", "*/*"),
                ("authorization", "Bearer abc"),
                ("kos-sopinstanceuid", "1.2.3"),
            ];
            let answer = visitor.ask(Method::GET, &path, &fields, "").await;
            assert_eq!(answer.status(), 404, "{path}");
            let mut problem = answer.json().await.unwrap();
            problem.as_object_mut().unwrap().remove("requestId");
            bodies.insert(problem["detail"].as_str().unwrap().to_owned());
        }
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        // A search stays in the exam, whatever it names.
        let other = exam(OTHER);
        for key in ["StudyInstanceUID", "0020000D"] {
            let path = format!("{study}/series?{key}={}", other.study_instance_uid);
            let text = visitor.get(&path).await.text().await.unwrap();
            assert!(
                !text.contains(&other.series[0].series_instance_uid),
                "{path}"
            );
        }
        let foreign = &own.series[1].series_instance_uid;
        let path = format!("{ROOT}{}/instances", series_path(own, &own.series[1]));
        assert!(
            !visitor
                .get(&path)
                .await
                .text()
                .await
                .unwrap()
                .contains(foreign)
        );
        for reason in ["not_granted", "series_not_named", "whole_study"] {
            let labels = [("reason", reason)];
            let name = "drimbox_viewer_refusals_total";
            assert!(metric(&site.gateway, name, &labels).await > 0, "{reason}");
        }
    });
}

#[test]
fn without_a_session_no_route_answers() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let stranger = Visitor::new(&site);
        for path in everything() {
            assert_eq!(stranger.status(&path).await, 401, "{path}");
        }
        assert_eq!(stranger.status("/viewer/api/exam").await, 401);
        // A link that was followed is no session yet.
        stranger.get(&crate::site::link_of(EXAM)).await;
        assert!(stranger.cookie(crate::visitor::LINK).is_some());
        for path in everything() {
            assert_eq!(stranger.status(&path).await, 401, "{path}");
        }
    });
}

#[test]
fn what_the_service_can_do_is_not_described_to_visitors() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let mut statuses = Vec::new();
        for exam in [exam(EXAM), exam(OTHER)] {
            let path = ROOT.to_owned() + &study_path(exam);
            let answer = visitor.ask(Method::OPTIONS, &path, &[], "").await;
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
            statuses.push(answer.status().as_u16());
        }
        assert_eq!(statuses, [403, 403]);
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let path = format!("{ROOT}/studies");
            let answer = visitor.ask(method, &path, &[], "").await;
            assert_eq!(answer.status(), 405);
        }
    });
}

#[test]
fn a_session_of_one_vi_name_is_nothing_on_another() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let elsewhere = Visitor::at(&site, HOSTS[1]);
        elsewhere.bring(SESSION, &visitor.cookie(SESSION).unwrap());
        for path in everything() {
            assert_eq!(elsewhere.status(&path).await, 401, "{path}");
        }
        assert_eq!(elsewhere.status("/viewer/api/exam").await, 401);
        assert_eq!(visitor.status("/viewer/api/exam").await, 200);
    });
}
