//! Whether the time of an answer tells what is wrong with the link of a report: a professional who is logged in, and
//! patients with codes of their reports, follow good links and wrong ones in turn. No PACS takes part: what a link opens
//! is known to the gateway alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::json;

use crate::samples::kos::Kos;
use crate::samples::{self, Exam, Profile};
use crate::testkit::psc::PHYSICIAN;
use crate::testkit::{
    Client, Gateway, GatewayConfig, KitError, PacsConfig, Pki, PscClient, PscProvider, Response,
    binary,
};

use super::report::{Bar, Row, Unit, median};

/// The measures by name.
pub const KEYS: [&str; 1] = ["link-timing"];

const HOST: &str = "vi.bench.test";
const CLIENT: &str = "drimbox-bench";
const PACS: &str = "pacs";
const PAGE: &str = "/viewer/";
/// Links of each kind in one run: the gateway looks at 20 wrong ones to a study in an hour, and the counters are emptied
/// between runs.
const PER_RUN: usize = 4;
/// Refusals after which a study is locked for professionals, and an exam for its patient.
const LOCKS: [usize; 2] = [20, 10];
/// What the link opens; masked to professionals; opposed; locked.
const EXAMS: [&str; 4] = ["ct", "mr", "dx", "us"];
/// The code on the first exam's report. The others have none.
const CODE: &str = "KJHG-4567-MNPQ";
const WRONG_CODE: &str = "KJHG-4567-MNPX";
/// Time for a gateway to be ready, and to stop.
const READY: Duration = Duration::from_secs(60);
/// Redirects from a link to the page or its refusal.
const MOST_STEPS: usize = 8;

/// A gateway with published exams, and somebody who is logged in.
pub struct LinkBench {
    folder: PathBuf,
    gateway: Gateway,
    provider: PscProvider,
    pki: Pki,
    origin: String,
    port: u16,
    exams: Vec<Exam>,
}

/// What somebody does with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A professional asks for the exam.
    Professional,
    /// A patient gives this code.
    Patient(&'static str),
    /// Nothing: it is refused at once.
    Malformed,
}

/// A kind of link, with its answers: the one to the link itself, and the one that opens the exam or does not.
#[derive(Clone)]
struct Kind {
    what: &'static str,
    link: String,
    way: Way,
    status: u16,
    followed: Vec<f64>,
    opened: Vec<f64>,
}

impl LinkBench {
    /// Starts everything; `folder` keeps the exams and what npm installed.
    ///
    /// # Errors
    /// When an exam cannot be made or a program does not start.
    pub async fn start(folder: &Path) -> Result<Self, KitError> {
        let build = std::path::absolute(folder).map_err(KitError::io("find", folder))?;
        let folder = build.join("link");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(KitError::io("empty", &folder))?;
        }
        std::fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
        let manifest = samples::generate(Profile::Small, &build.join("samples-small"))
            .map_err(KitError::http("make the exams"))?;
        let exams = EXAMS.map(|name| {
            let exam = manifest.exam(name).cloned();
            exam.ok_or_else(|| KitError::Invalid {
                what: "the exams".into(),
                reason: format!("no exam {name}"),
            })
        });
        let exams = exams.into_iter().collect::<Result<Vec<_>, _>>()?;
        let pki = Pki::new(&folder.join("pki"), "Bench CA")?;
        let provider = PscProvider::start(&build, &folder.join("psc"), &pki).await?;
        let identity = pki.client(CLIENT)?;
        let path = |path: &Path| path.display().to_string();
        let db = "db.bench.test";
        let config = GatewayConfig::new(&folder.join("gateway"))?
            .peer(&pki)?
            .set("psc.environment", "custom")
            .set("psc.issuer", provider.issuer())
            .set("psc.client_id", CLIENT)
            .set("psc.certificate_file", path(&identity.certificate_file))
            .set("psc.key_file", path(&identity.key_file))
            .set("psc.ca_file", path(pki.ca_file()))
            .set("viewer.patient_gate", "report-code")
            .pacs(
                PacsConfig::new(PACS, "NONE", 104)
                    .db_host(db, &pki.server(&[db])?)
                    .vi_host(HOST, &pki.server(&[HOST])?),
            );
        let port = config.address("peer").map_or(443, |address| address.port());
        let origin = format!("https://{HOST}:{port}");
        let returns = format!("{origin}/auth/psc/callback");
        provider
            .register(&[PscClient::new(CLIENT).redirect(&returns)])
            .await?;
        let bench = Self {
            gateway: Gateway::start(config).await?,
            folder,
            provider,
            pki,
            origin,
            port,
            exams,
        };
        for (exam, flags) in
            bench
                .exams
                .iter()
                .zip([[].as_slice(), &["--masque-ps"], &["--opposed"], &[]])
        {
            bench.publish(exam, flags).await?;
        }
        bench.register_code().await?;
        Ok(bench)
    }

    /// Makes the measure: one row for each kind of link, and how far those that open nothing are apart.
    ///
    /// # Errors
    /// When a link is answered with another status than it should.
    pub async fn measure(&mut self, runs: usize) -> Result<Vec<Row>, KitError> {
        let mut kinds = self.kinds();
        for run in 0..runs {
            self.forget_refusals().await?;
            let professional = self.log_in().await?;
            self.lock(&professional).await?;
            for turn in 0..PER_RUN {
                // An address of its own: none of them is refused too much.
                let mut visitor = self.visitor(10 + turn as u8)?;
                visitor.cookies.clone_from(&professional.cookies);
                visitor.get(PAGE).await?.bytes().await?;
                // What comes after half a second of waiting is answered a little later than what comes after a good
                // link. The number of kinds is prime: each stride meets them all, and over the strides each kind
                // follows each other one equally often.
                // The first follows the last of its order too, which is not counted.
                let stride = 1 + (run * PER_RUN + turn) % (kinds.len() - 1);
                let at = |step: usize| step * stride % kinds.len();
                let order: Vec<usize> = (0..kinds.len()).map(at).collect();
                let last = order.last().and_then(|last| kinds.get(*last));
                if let Some(mut last) = last.cloned() {
                    visitor.follow(&mut last).await?;
                }
                for at in order {
                    if let Some(kind) = kinds.get_mut(at) {
                        visitor.follow(kind).await?;
                    }
                }
            }
        }
        Ok(rows(kinds))
    }

    fn kinds(&self) -> Vec<Kind> {
        let [open, masked, opposed, locked] = self.exams.as_slice() else {
            return Vec::new();
        };
        let right = |exam: &Exam| {
            let study = exam.study_instance_uid.as_str();
            link(study, &accession(exam), &report(exam, '_'))
        };
        let study = open.study_instance_uid.as_str();
        // As long as what they stand for.
        let last = if study.ends_with('9') { '8' } else { '9' };
        let other_study = study.get(..study.len() - 1).unwrap_or_default();
        let other_study = format!("{other_study}{last}");
        let wrong = |text: &str| text.replace(&open.accession_number, "E00000000");
        let (accession, report) = (accession(open), report(open, '_'));
        let (other_accession, other_report) = (wrong(&accession), wrong(&report));
        let nothing_right = link(&other_study, &other_accession, &other_report);
        let good = right(open);
        let malformed = good.replace("STUDY", "STUDX");
        let kind = |what, link: String, way, status| Kind {
            what,
            link,
            way,
            status,
            followed: Vec::new(),
            opened: Vec::new(),
        };
        let professional = [
            ("a good link", good.clone(), 303),
            (
                "wrong accession number",
                link(study, &other_accession, &report),
                404,
            ),
            ("wrong report", link(study, &accession, &other_report), 404),
            (
                "study not published",
                link(&other_study, &accession, &report),
                404,
            ),
            ("nothing right", nothing_right.clone(), 404),
            ("masked to professionals", right(masked), 404),
            ("the patient is opposed", right(opposed), 404),
            ("locked", right(locked), 404),
        ];
        let professional =
            professional.map(|(what, link, status)| kind(what, link, Way::Professional, status));
        let malformed = kind("malformed", malformed, Way::Malformed, 404);
        let patient = [
            ("of a patient, wrong code", good, WRONG_CODE),
            ("of a patient, no code registered", right(masked), CODE),
            ("of a patient, nothing right", nothing_right, CODE),
            ("of a patient, locked", right(locked), CODE),
        ];
        let patient = patient.map(|(what, link, code)| kind(what, link, Way::Patient(code), 403));
        professional
            .into_iter()
            .chain([malformed])
            .chain(patient)
            .collect()
    }

    /// Uses up what may be tried for the last exam, by professionals and by its patient; each at an address of their
    /// own, all at once.
    async fn lock(&self, professional: &Visitor) -> Result<(), KitError> {
        let Some(exam) = self.exams.last() else {
            return Ok(());
        };
        let study = exam.study_instance_uid.as_str();
        let [links, proofs] = LOCKS;
        let wrong = link(study, &accession(exam), "1.2.250.1.999.7_CX");
        let right = link(study, &accession(exam), &report(exam, '_'));
        let ways = std::iter::repeat_n((Way::Professional, wrong, 404), links);
        let ways = ways.chain(std::iter::repeat_n(
            (Way::Patient(WRONG_CODE), right, 403),
            proofs,
        ));
        let mut tries = tokio::task::JoinSet::new();
        for (number, (way, link, status)) in ways.enumerate() {
            let mut visitor = self.visitor(100 + number as u8)?;
            visitor.cookies.clone_from(&professional.cookies);
            tries.spawn(async move {
                let mut kind = Kind {
                    what: "a lock",
                    link,
                    way,
                    status,
                    followed: Vec::new(),
                    opened: Vec::new(),
                };
                visitor.follow(&mut kind).await
            });
        }
        while let Some(tried) = tries.join_next().await {
            tried.map_err(KitError::http("lock an exam"))??;
        }
        Ok(())
    }

    /// Publishes an exam as an administrator does.
    async fn publish(&self, exam: &Exam, flags: &[&str]) -> Result<(), KitError> {
        let kos = self.folder.join("kos.dcm");
        Kos::of(exam, "https://db.bench.test/dicom-web")
            .write(&kos)
            .map_err(KitError::http("write a KOS"))?;
        let (kos, report) = (kos.display().to_string(), report(exam, '^'));
        let add = ["add", "--pacs", PACS, "--cda-id", &report, "--kos", &kos];
        self.exams(&[&add, flags].concat()).await
    }

    /// Says which code the report of the first exam has.
    async fn register_code(&self) -> Result<(), KitError> {
        let file = self.folder.join("patient.json");
        let facts = json!({ "code": CODE }).to_string();
        std::fs::write(&file, facts).map_err(KitError::io("write", &file))?;
        let study = self.exams.first().map(|exam| &exam.study_instance_uid);
        let (study, file) = (
            study.cloned().unwrap_or_default(),
            file.display().to_string(),
        );
        self.exams(&[
            "patient", "--pacs", PACS, "--study", &study, "--file", &file,
        ])
        .await
    }

    async fn exams(&self, arguments: &[&str]) -> Result<(), KitError> {
        let program = binary()?;
        let mut command = Command::new(&program);
        command.arg("exams").args(arguments);
        command.env("DRIMBOX_CONFIG", self.folder.join("gateway/drimbox.toml"));
        let ran = tokio::task::spawn_blocking(move || command.output()).await;
        let ran = ran.map_err(KitError::http("run drimbox exams"))?;
        let done = ran.map_err(KitError::io("run", &program))?;
        if done.status.success() {
            return Ok(());
        }
        let reason = String::from_utf8_lossy(&done.stderr).into_owned();
        Err(KitError::http("publish an exam")(reason))
    }

    /// Restarts the gateway without what it counted; sessions go with it.
    async fn forget_refusals(&mut self) -> Result<(), KitError> {
        self.gateway.stop(READY).await?;
        let store = self.folder.join("gateway/data/store");
        std::fs::remove_dir_all(&store).map_err(KitError::io("empty", &store))?;
        self.gateway.restart().await?;
        let url = format!("{}/health/live", self.gateway.admin_url());
        let client = Client::plain()?;
        let lives = async || {
            let answer = client.get(&url).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        };
        self.gateway.process().ready(READY, lives).await
    }

    /// Somebody at an address of this machine.
    fn visitor(&self, address: u8) -> Result<Visitor, KitError> {
        let address = Ipv4Addr::new(127, 0, 0, address);
        Ok(Visitor {
            client: Client::builder()
                .ca(self.pki.ca_file())
                .from_address(address.into())
                .resolve(HOST, SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
                .build()?,
            origin: self.origin.clone(),
            cookies: BTreeMap::new(),
        })
    }

    /// Somebody who followed a good link and logged in.
    async fn log_in(&self) -> Result<Visitor, KitError> {
        let mut visitor = self.visitor(1)?;
        let good = self.kinds().into_iter().next().map(|kind| kind.link);
        let mut path = good.unwrap_or_default();
        for _ in 0..MOST_STEPS {
            let answer = visitor.get(&path).await?;
            let location = answer.header("location").to_owned();
            path = match location.as_str() {
                PAGE => return Ok(visitor),
                "/viewer/entree" => "/viewer/pro".to_owned(),
                there if there.starts_with('/') => location,
                provider => {
                    self.provider.set(json!({ "user": PHYSICIAN })).await?;
                    let back = self.provider.log_in(&self.pki, provider, &self.origin);
                    let back = back.await?;
                    back.strip_prefix(&self.origin).unwrap_or(&back).to_owned()
                }
            };
        }
        Err(KitError::http("log in")("the page was not reached"))
    }
}

/// A browser with a session.
struct Visitor {
    client: Client,
    origin: String,
    cookies: BTreeMap<String, String>,
}

impl Visitor {
    async fn get(&mut self, path: &str) -> Result<Response, KitError> {
        self.ask(Method::GET, path, "").await
    }

    /// As a page of this host does.
    async fn ask(&mut self, method: Method, path: &str, form: &str) -> Result<Response, KitError> {
        let cookies = self.cookies.iter();
        let cookies: Vec<String> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let url = format!("{}{path}", self.origin);
        let mut call = self.client.request(method, &url);
        if !form.is_empty() {
            call = call
                .header("content-type", "application/x-www-form-urlencoded")
                .header("sec-fetch-site", "same-origin")
                .body(form.to_owned());
        }
        let answer = call.header("cookie", &cookies.join("; ")).send().await?;
        for line in answer.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap_or_default();
            let pair = line.split(';').next().and_then(|pair| pair.split_once('='));
            match pair {
                Some((name, _)) if line.contains("Max-Age=0") => {
                    self.cookies.remove(name);
                }
                Some((name, value)) => {
                    self.cookies.insert(name.to_owned(), value.to_owned());
                }
                None => {}
            }
        }
        Ok(answer)
    }

    /// The status of an answer, and the seconds until its last byte.
    async fn time(
        &mut self,
        method: Method,
        path: &str,
        form: &str,
    ) -> Result<(u16, f64), KitError> {
        let begun = Instant::now();
        let answer = self.ask(method, path, form).await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok((status, begun.elapsed().as_secs_f64()))
    }

    async fn follow(&mut self, kind: &mut Kind) -> Result<(), KitError> {
        let (followed, first) = self.time(Method::GET, &kind.link, "").await?;
        let (opened, second) = match kind.way {
            Way::Malformed => (followed, first),
            Way::Professional => self.time(Method::GET, "/viewer/pro", "").await?,
            Way::Patient(code) => {
                let form = format!("csrf={}&code={code}", self.token().await?);
                self.time(Method::POST, "/viewer/patient", &form).await?
            }
        };
        let is_kept = kind.way == Way::Malformed || followed == 303;
        if !is_kept || opened != kind.status {
            let reason = format!("{}: {followed}, then {opened}", kind.what);
            return Err(KitError::http("follow a link")(reason));
        }
        if kind.way != Way::Malformed {
            kind.followed.push(first);
        }
        kind.opened.push(second);
        Ok(())
    }

    /// The token of the page that asks a patient for the code.
    async fn token(&mut self) -> Result<String, KitError> {
        let page = self.get("/viewer/patient").await?.text().await?;
        let token = page.split_once("name=\"csrf\" value=\"");
        let token = token.and_then(|(_, rest)| rest.split('"').next());
        let token = token.ok_or("the question has no token");
        Ok(token.map_err(KitError::http("ask a patient"))?.to_owned())
    }
}

fn rows(kinds: Vec<Kind>) -> Vec<Row> {
    let row = |what: &str| Row::new(KEYS[0], format!("link: {what}"), Unit::Time, Bar::None);
    let is_patient = |kind: &Kind| matches!(kind.way, Way::Patient(_));
    let of_kinds = |patients: bool| {
        let wrong = kinds.iter().filter(|kind| kind.status != 303);
        let wrong = wrong.filter(|kind| is_patient(kind) == patients);
        apart(&wrong.map(|kind| kind.opened.as_slice()).collect::<Vec<_>>())
    };
    let first = kinds.iter().filter(|kind| !kind.followed.is_empty());
    let all: Vec<&[f64]> = first.map(|kind| kind.followed.as_slice()).collect();
    let floor = "before the answer leaves, the gateway waits for half a second since the request, whatever is wrong";
    let mut spreads = Vec::new();
    for (what, (spread, noise), note) in [
        (
            "medians of those that open nothing are apart",
            of_kinds(false),
            floor,
        ),
        (
            "medians of what patients are refused are apart",
            of_kinds(true),
            floor,
        ),
        (
            "medians of the first answers are apart, good links included",
            apart(&all),
            "the first answer comes before anything is looked at",
        ),
    ] {
        let mut spread_row = row(what);
        spread_row.bar = Bar::TimesPeer(1.0);
        spread_row.ours.push(spread);
        spread_row.peer_name = "the middle half of one kind, the widest".into();
        spread_row.peer.push(noise);
        spread_row.note = note.into();
        spreads.push(spread_row);
    }
    let mut rows: Vec<Row> = kinds
        .into_iter()
        .map(|kind| Row {
            ours: kind.opened,
            ..row(kind.what)
        })
        .collect();
    rows.extend(spreads);
    rows
}

/// How far the medians of some measures are apart, and the widest middle half of one.
fn apart(measures: &[&[f64]]) -> (f64, f64) {
    let medians = measures.iter().filter_map(|times| median(times));
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for value in medians {
        least = least.min(value);
        most = most.max(value);
    }
    let halves = measures.iter().map(|times| middle_half(times));
    ((most - least).max(0.0), halves.fold(0.0, f64::max))
}

/// The distance between the quartiles.
fn middle_half(times: &[f64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    at(sorted.len() * 3 / 4) - at(sorted.len() / 4)
}

fn accession(exam: &Exam) -> String {
    format!("1.2.250.1.999.5.{}", exam.accession_number)
}

fn report(exam: &Exam, separator: char) -> String {
    format!("1.2.250.1.999.7{separator}CR-{}", exam.accession_number)
}

fn link(study: &str, accession: &str, report: &str) -> String {
    format!(
        "/IHEInvokeImageDisplay?requestType=STUDY&studyUID={study}&Accessionnumber={accession}&idCDA={report}"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_kind_that_stands_out_is_seen_and_one_slow_answer_is_not() {
        let even = [0.5, 0.51, 0.52, 0.53, 0.54];
        let one_slow = [0.5, 0.51, 0.52, 0.53, 9.0];
        let (spread, noise) = apart(&[&even, &one_slow]);
        assert!(spread <= noise, "{spread} {noise}");
        let slow = even.map(|time| time + 0.1);
        let (spread, noise) = apart(&[&even, &slow]);
        assert!(spread > noise, "{spread} {noise}");
    }
}
