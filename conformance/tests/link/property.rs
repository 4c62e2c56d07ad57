//! Whoever asks for whatever, on whichever name: nobody is sent anything but the exam that was opened to them.

use std::collections::{BTreeMap, BTreeSet};

use conformance::samples::{Exam, Series};
use conformance::testkit::psc::left_out;
use http::Method;
use serde_json::json;

use crate::patient::{CODE, PATIENT, gate, opened, prove};
use crate::routes::{OF_ALL, OF_INSTANCE, OF_SERIES, OF_STUDY, ROOT, is_search};
use crate::site::{CLOSED, EXAM, HOSTS, OTHER, Site, link_of};
use crate::support::{exam, run};
use crate::visitor::{SESSION, Visitor};

/// How often each route is asked for.
const ROUNDS: usize = 14;
const UNKNOWN: &str = "1.2.250.1.999.404";

/// A stream of choices, the same for the same seed (SplitMix64).
struct Chance(u64);

impl Chance {
    /// As the other property tests: `PROPTEST_RNG_SEED` looks elsewhere.
    fn seeded() -> (Self, u64) {
        let seed = std::env::var("PROPTEST_RNG_SEED").ok();
        let seed = seed.and_then(|seed| seed.parse().ok()).unwrap_or(20_261);
        (Self(seed), seed)
    }

    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let b = (a ^ a >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        (b ^ b >> 31) as usize % count
    }

    /// One of these, or of the likely ones, where there are any.
    fn one<T: Clone>(&mut self, likely: &[T], all: &[T]) -> T {
        let from = match likely {
            [] => all,
            _ if self.below(4) == 0 => all,
            likely => likely,
        };
        from[self.below(from.len())].clone()
    }
}

/// Somebody, with what is open to them and where.
struct Person<'a> {
    what: &'static str,
    /// Where their cookie was given.
    home: usize,
    open: Option<(&'static Exam, &'static [Series])>,
    /// Their browser on each name.
    browsers: [Visitor<'a>; 2],
}

impl<'a> Person<'a> {
    fn new(
        site: &'a Site,
        what: &'static str,
        cookie: Option<(&'static str, String)>,
        home: usize,
        open: Option<(&'static Exam, &'static [Series])>,
    ) -> Self {
        let browsers = HOSTS.map(|host| {
            let browser = Visitor::at(site, host);
            if let Some((name, value)) = &cookie {
                browser.bring(name, value);
            }
            browser
        });
        Self {
            what,
            home,
            open,
            browsers,
        }
    }
}

/// What is in a path, whether or not it belongs together.
#[derive(Debug, Clone)]
struct Named {
    study: String,
    series: String,
    instance: String,
    level: usize,
    rest: &'static str,
}

impl Named {
    fn path(&self) -> String {
        let Self {
            study,
            series,
            instance,
            rest,
            ..
        } = self;
        let path = match self.level {
            0 => String::new(),
            1 => format!("/studies/{study}"),
            2 => format!("/studies/{study}/series/{series}"),
            _ => format!("/studies/{study}/series/{series}/instances/{instance}"),
        };
        format!("{ROOT}{path}{rest}")
    }

    /// Whether it is of what is open: the oracle. A search may look, and finds no more than that.
    fn is_open(&self, (study, series): (&Exam, &[Series])) -> bool {
        let named = series
            .iter()
            .find(|one| one.series_instance_uid == self.series);
        let has_instance = named.is_some_and(|series| {
            let mut instances = series.instances.iter();
            instances.any(|one| one.sop_instance_uid == self.instance)
        });
        let in_study = study.study_instance_uid == self.study;
        in_study
            && match self.level {
                0 => false,
                _ if is_search(self.rest) => true,
                1 => false,
                2 => named.is_some(),
                _ => has_instance,
            }
    }
}

/// The UIDs of series and instances.
fn uids<'s>(series: impl IntoIterator<Item = &'s Series>) -> BTreeSet<&'s str> {
    let uids = series.into_iter().flat_map(|series| {
        let instances = series.instances.iter();
        let instances = instances.map(|one| one.sop_instance_uid.as_str());
        instances.chain([series.series_instance_uid.as_str()])
    });
    uids.collect()
}

/// What of a body is written as UIDs are.
fn written(body: &[u8]) -> BTreeSet<&str> {
    let pieces = body.split(|byte| !byte.is_ascii_digit() && *byte != b'.');
    let texts = pieces.filter_map(|piece| std::str::from_utf8(piece).ok());
    texts.filter(|text| text.len() > 8).collect()
}

#[test]
fn whatever_anybody_asks_for_they_are_sent_their_own_exam_or_nothing() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-property", gate("report-code")).await;
        let (ct, mr, dx) = (exam(EXAM), exam(OTHER), exam(CLOSED));
        site.facts(EXAM, &json!({ "code": CODE })).await;
        let two_series = site.publish_two_series().await;
        let session = async |host, link: &str| {
            let visitor = Visitor::at(&site, host);
            assert_eq!(visitor.open(link).await, Ok(()));
            Some((SESSION, visitor.cookie(SESSION).unwrap()))
        };
        let patient = Visitor::new(&site);
        let code = format!("code={CODE}");
        assert_eq!(prove(&patient, &link_of(EXAM), &code).await, opened());
        let patient = Some((PATIENT, patient.cookie(PATIENT).unwrap()));
        let of = |exam: &'static Exam, count: usize| Some((exam, &exam.series[..count]));
        let person = |what, cookie, home, open| Person::new(&site, what, cookie, home, open);
        let people = [
            person("nobody", None, 0, None),
            person("a stranger", Some((SESSION, "A".repeat(43))), 0, None),
            person(
                "who reads the CT",
                session(HOSTS[0], &link_of(EXAM)).await,
                0,
                of(ct, 1),
            ),
            person(
                "who reads the MR",
                session(HOSTS[0], &link_of(OTHER)).await,
                0,
                of(mr, 1),
            ),
            person(
                "who reads two series",
                session(HOSTS[1], &two_series).await,
                1,
                of(ct, 2),
            ),
            person("the patient", patient, 0, of(ct, 1)),
        ];
        let everything: Vec<&Series> = [ct, mr, dx].iter().flat_map(|exam| &exam.series).collect();
        let text = |uid: &str| uid.to_owned();
        let studies: Vec<String> = [ct, mr, dx]
            .iter()
            .map(|exam| text(&exam.study_instance_uid))
            .chain([text(UNKNOWN)])
            .collect();
        let all_series: Vec<String> = everything
            .iter()
            .map(|series| text(&series.series_instance_uid))
            .chain([text(UNKNOWN)])
            .collect();
        let instances_of = |series: &Series| -> Vec<String> {
            let instances = series.instances.iter();
            instances.map(|one| text(&one.sop_instance_uid)).collect()
        };
        let all_instances: Vec<String> = everything
            .iter()
            .flat_map(|series| instances_of(series))
            .chain([text(UNKNOWN)])
            .collect();
        let tables: [&[&'static str]; 4] = [&OF_ALL, &OF_STUDY, &OF_SERIES, &OF_INSTANCE];
        let (mut chance, seed) = Chance::seeded();
        let mut answers: BTreeMap<(&str, u16), usize> = BTreeMap::new();
        for round in 0..ROUNDS {
            for (level, table) in tables.iter().enumerate() {
                for rest in table.iter().copied() {
                    let person = &people[chance.below(people.len())];
                    let host = chance.one(&[person.home], &[0, 1]);
                    let own = person.open.map_or(&[][..], |(_, series)| series);
                    let own_study = person.open.map(|(exam, _)| text(&exam.study_instance_uid));
                    let own_series: Vec<String> = own
                        .iter()
                        .map(|series| text(&series.series_instance_uid))
                        .collect();
                    let series = chance.one(&own_series, &all_series);
                    let named = everything
                        .iter()
                        .find(|one| one.series_instance_uid == series);
                    let likely = named.map(|series| instances_of(series));
                    let asked = Named {
                        study: chance.one(own_study.as_slice(), &studies),
                        instance: chance.one(&likely.unwrap_or_default(), &all_instances),
                        series,
                        level,
                        rest,
                    };
                    let is_known = person.open.filter(|_| host == person.home);
                    let is_open = is_known.is_some_and(|open| asked.is_open(open));
                    let wanted: &[u16] = match is_known {
                        None => &[401],
                        Some(_) if !is_open => &[404],
                        Some(_) if is_search(rest) => &[200, 204],
                        Some(_) => &[200],
                    };
                    let path = asked.path();
                    let case = || {
                        let (what, host) = (person.what, HOSTS[host]);
                        format!("{what} on {host}: {path} (seed {seed}, round {round})")
                    };
                    let accept = [("accept", "*/*")];
                    let browser = &person.browsers[host];
                    let answer = browser.ask(Method::GET, &path, &accept, "").await;
                    let status = answer.status().as_u16();
                    assert!(wanted.contains(&status), "{status} to {}", case());
                    *answers.entry((person.what, status)).or_default() += 1;
                    let body = answer.bytes().await.unwrap();
                    let allowed = if is_open { uids(own) } else { BTreeSet::new() };
                    let of_all = uids(everything.iter().copied());
                    let told = written(&body);
                    let leaked = of_all
                        .intersection(&told)
                        .find(|uid| !allowed.contains(*uid));
                    // A refusal may repeat what it was asked, and knows nothing else.
                    let leaked = leaked.filter(|uid| is_open || !path.contains(**uid));
                    assert_eq!(leaked, None, "in the answer to {}", case());
                }
            }
        }
        // Each of them was shown something, was refused something, and was nobody on the other name.
        for person in people.iter().filter(|person| person.open.is_some()) {
            for status in [200, 401, 404] {
                let times = answers.get(&(person.what, status));
                assert!(times.is_some(), "{status} to {}: {answers:?}", person.what);
            }
        }
    });
}
