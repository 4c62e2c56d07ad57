//! Whether the time of an answer tells what is wrong with the link of a report: the same person follows good links and
//! wrong ones in turn. No PACS takes part: what a link opens is known to the gateway alone.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

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
/// Links of each kind in one run: the gateway answers 20 wrong ones of an address in an hour, and the counters are
/// emptied between runs.
const PER_RUN: usize = 4;
/// Time for a gateway to be ready, and to stop.
const READY: Duration = Duration::from_secs(60);
/// Redirects from a link to the page or its refusal.
const MOST_STEPS: usize = 8;

/// A gateway with one published exam, and somebody who is logged in.
pub struct LinkBench {
    folder: PathBuf,
    gateway: Gateway,
    provider: PscProvider,
    pki: Pki,
    origin: String,
    port: u16,
    exam: Exam,
}

/// A kind of link, with its answers: the one to the link itself, and the one that opens the exam or does not.
struct Kind {
    what: &'static str,
    link: String,
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
        let exam = manifest.exam("ct").cloned();
        let exam = exam.ok_or_else(|| KitError::Invalid {
            what: "the exams".into(),
            reason: "no exam ct".into(),
        })?;
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
            exam,
        };
        bench.publish().await?;
        Ok(bench)
    }

    /// Makes the measure: one row for each kind of link, and how far those that open nothing are apart.
    ///
    /// # Errors
    /// When a link is answered with another status than it should.
    pub async fn measure(&mut self, runs: usize) -> Result<Vec<Row>, KitError> {
        let mut kinds = self.kinds();
        for _ in 0..runs {
            self.forget_refusals().await?;
            let mut visitor = self.log_in().await?;
            // What comes after half a second of waiting is answered a little later than what comes after a good
            // link: each kind follows each other one equally often.
            for stride in 1..=PER_RUN {
                for step in 0..kinds.len() {
                    let at = step * stride % kinds.len();
                    if let Some(kind) = kinds.get_mut(at) {
                        visitor.follow(kind).await?;
                    }
                }
            }
        }
        Ok(rows(kinds))
    }

    fn kinds(&self) -> Vec<Kind> {
        let exam = &self.exam;
        let study = exam.study_instance_uid.as_str();
        let accession = format!("1.2.250.1.999.5.{}", exam.accession_number);
        let report = report(exam, '_');
        // As long as what they stand for.
        let last = if study.ends_with('9') { '8' } else { '9' };
        let other_study = study.get(..study.len() - 1).unwrap_or_default();
        let other_study = format!("{other_study}{last}");
        let other_accession = accession.replace(&exam.accession_number, "E00000000");
        let other_report = report.replace(&exam.accession_number, "E00000000");
        let kind = |what, study: &str, accession: &str, report: &str, status| Kind {
            what,
            link: link(study, accession, report),
            status,
            followed: Vec::new(),
            opened: Vec::new(),
        };
        vec![
            kind("a good link", study, &accession, &report, 303),
            kind(
                "wrong accession number",
                study,
                &other_accession,
                &report,
                404,
            ),
            kind("wrong report", study, &accession, &other_report, 404),
            kind(
                "study not published",
                &other_study,
                &accession,
                &report,
                404,
            ),
            kind(
                "nothing right",
                &other_study,
                &other_accession,
                &other_report,
                404,
            ),
        ]
    }

    /// Publishes the exam as an administrator does.
    async fn publish(&self) -> Result<(), KitError> {
        let kos = self.folder.join("kos.dcm");
        Kos::of(&self.exam, "https://db.bench.test/dicom-web")
            .write(&kos)
            .map_err(KitError::http("write a KOS"))?;
        let program = binary()?;
        let mut command = Command::new(&program);
        command.args(["exams", "add", "--pacs", PACS, "--cda-id"]);
        command.arg(report(&self.exam, '^')).arg("--kos").arg(&kos);
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

    /// Somebody who followed a good link and logged in.
    async fn log_in(&self) -> Result<Visitor, KitError> {
        let mut visitor = Visitor {
            client: Client::builder()
                .ca(self.pki.ca_file())
                .resolve(HOST, SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
                .build()?,
            origin: self.origin.clone(),
            cookies: BTreeMap::new(),
        };
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
        let cookies = self.cookies.iter();
        let cookies: Vec<String> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let call = self.client.get(&format!("{}{path}", self.origin));
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
    async fn time(&mut self, path: &str) -> Result<(u16, f64), KitError> {
        let begun = Instant::now();
        let answer = self.get(path).await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok((status, begun.elapsed().as_secs_f64()))
    }

    async fn follow(&mut self, kind: &mut Kind) -> Result<(), KitError> {
        let (followed, first) = self.time(&kind.link).await?;
        let (opened, second) = self.time("/viewer/pro").await?;
        if (followed, opened) != (303, kind.status) {
            let reason = format!("{}: {followed}, then {opened}", kind.what);
            return Err(KitError::http("follow a link")(reason));
        }
        kind.followed.push(first);
        kind.opened.push(second);
        Ok(())
    }
}

fn rows(kinds: Vec<Kind>) -> Vec<Row> {
    let row = |what: &str| Row::new(KEYS[0], format!("link: {what}"), Unit::Time, Bar::None);
    let of_kind = |times: fn(&Kind) -> &Vec<f64>| {
        let wrong = kinds.iter().filter(|kind| kind.status != 303);
        apart(&wrong.map(|kind| times(kind).as_slice()).collect::<Vec<_>>())
    };
    let all: Vec<&[f64]> = kinds.iter().map(|kind| kind.followed.as_slice()).collect();
    let mut spreads = Vec::new();
    for (what, (spread, noise), note) in [
        (
            "medians of those that open nothing are apart",
            of_kind(|kind| &kind.opened),
            "before the answer leaves, the gateway waits for half a second since the request, whatever is wrong",
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
