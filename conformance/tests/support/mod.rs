//! What the scenarios share: sample exams, folders, a runtime that outlives each test, and the
//! comparison of what a client received with what the PACS was given.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub mod believed;
pub mod browser;
pub mod compare;
pub mod foreign;
pub mod handshake;
pub mod json;
pub mod objects;
pub mod pair;
pub mod presentations;
pub mod python;
pub mod search;
pub mod secrets;
pub mod steered;
pub mod study;
pub mod trail;
pub mod web;

use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use conformance::samples::{self, Exam, Manifest, Profile, Series};
use conformance::testkit::http::Multipart;
use conformance::testkit::{Client, Gateway, Response};

/// Multipart, every instance as it is stored.
pub const AS_STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
/// One instance alone, as it is stored.
pub const SINGLE: &str = "application/dicom; transfer-syntax=*";
/// Metadata and search results.
pub const JSON: &str = "application/dicom+json";

/// Runs a story. Every story of a program runs on the same runtime, so that what they share (a
/// PACS, its connections) lives as long as all of them.
pub fn run<T>(story: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());
    RUNTIME.block_on(story)
}

/// The small exams; made once, kept in the build folder.
pub fn exams() -> &'static Manifest {
    static EXAMS: LazyLock<Manifest> = LazyLock::new(|| {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(root).unwrap();
        // Several test programs may want to make them at the same time.
        let lock = File::create(root.join("exams.lock")).unwrap();
        lock.lock().unwrap();
        let name = format!("exams-{}", samples::GENERATOR_VERSION);
        samples::generate(Profile::Small, &root.join(name)).unwrap()
    });
    &EXAMS
}

/// The exam of that name.
pub fn exam(name: &str) -> &'static Exam {
    exams()
        .exam(name)
        .unwrap_or_else(|| panic!("no exam {name}"))
}

/// The files of some exams.
pub fn files(names: &[&str]) -> Vec<PathBuf> {
    let exams = names.iter().flat_map(|name| exam(name).instances());
    exams.map(|instance| self::exams().path(instance)).collect()
}

/// An empty folder for this program, removed by the next program that starts after its end.
pub fn folder(name: &str) -> PathBuf {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scenarios");
        std::fs::create_dir_all(&all).unwrap();
        for entry in std::fs::read_dir(&all).unwrap().flatten() {
            let name = entry.file_name();
            if !Path::new("/proc").join(&name).exists() {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        all.join(std::process::id().to_string())
    });
    let folder = ROOT.join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Path of a study below the root of the service.
pub fn study_path(exam: &Exam) -> String {
    format!("/studies/{}", exam.study_instance_uid)
}

/// Path of a series below the root of the service.
pub fn series_path(exam: &Exam, series: &Series) -> String {
    format!("{}/series/{}", study_path(exam), series.series_instance_uid)
}

/// Path of an instance below the root of the service, by its position in the series.
pub fn instance_path(exam: &Exam, series: &Series, instance: usize) -> String {
    let uid = &series.instances[instance].sop_instance_uid;
    format!("{}/instances/{uid}", series_path(exam, series))
}

/// Asks for images as they are stored.
pub async fn ask(client: &Client, url: &str) -> Response {
    client.get(url).accept(AS_STORED).send().await.unwrap()
}

/// Retrieves images and keeps each part as `FOLDER/n.part`.
pub async fn retrieve(client: &Client, url: &str, into: &Path) -> Multipart {
    let answer = ask(client, url).await;
    if answer.status() != 200 {
        let status = answer.status();
        panic!("{url}: {status}: {}", answer.text().await.unwrap());
    }
    answer.multipart_to(into).await.unwrap()
}

/// What a client sees of a study behind a PACS that may misbehave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// A status instead of images.
    Status(u16),
    /// Images, then a cut.
    Cut,
    /// The whole study.
    Whole,
}

/// Asks for a study and compares what comes, if something comes.
pub async fn look(client: &Client, gateway: &Gateway, exam: &Exam, into: &Path) -> Seen {
    let url = gateway.local_url() + &study_path(exam);
    let answer = ask(client, &url).await;
    see(answer, into, |body| {
        compare::assert_study(exam, body, into);
    })
    .await
}

/// What an answer turns out to be; `compare` looks at the parts in `into` when it is whole.
pub async fn see(answer: Response, into: &Path, compare: impl FnOnce(&Multipart)) -> Seen {
    let status = answer.status().as_u16();
    if status != 200 {
        assert_eq!(answer.header("content-type"), "application/problem+json");
        if status == 503 {
            assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
        }
        let problem = answer.json().await.unwrap();
        assert_eq!(problem["status"], status);
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        return Seen::Status(status);
    }
    let body = answer.multipart_to(into).await.unwrap();
    if body.is_complete() {
        compare(&body);
        return Seen::Whole;
    }
    assert!(!body.is_closed, "a closing boundary, and then a cut");
    assert!(body.broken.is_some(), "the body just ends");
    Seen::Cut
}

/// The digests of the parts of a body, sorted: the order of instances is nobody's promise.
pub fn digests(body: &Multipart) -> Vec<String> {
    let mut all: Vec<String> = body.parts.iter().map(|part| part.sha256.clone()).collect();
    all.sort();
    all
}

/// The value of a counter or gauge of a gateway, summed over the labels left open.
pub async fn metric(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> u64 {
    gateway.metrics().await.unwrap().sum(name, labels) as u64
}

/// Waits until a condition holds that gives no event; gives up after a minute.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(60);
    assert!(
        tokio::time::timeout(limit, waits).await.is_ok(),
        "{what}: not within {limit:?}"
    );
}
