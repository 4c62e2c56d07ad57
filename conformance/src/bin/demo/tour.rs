//! The tour: what a user of the gateway would do, each step with its verdict.

use std::path::Path;
use std::time::{Duration, Instant};

use conformance::samples::{Exam, Series, pixel_digest};
use conformance::testkit::http::Multipart;
use conformance::testkit::{Client, KitError, Protocol};
use serde_json::Value;

use super::neighbour::Way;
use super::scene::{DB_HOST, Scene, SceneError};

/// Everything as it is stored, which costs neither side any transcoding.
const AS_STORED: &str = "multipart/related; type=\"application/dicom\"; transfer-syntax=*";
const JSON: &str = "application/dicom+json";

/// Plays every step; whether all of them succeeded.
pub async fn play(scene: &Scene) -> Result<bool, SceneError> {
    let exam = scene.manifest.exam("ct").ok_or(SceneError::NoExam("ct"))?;
    let series = exam.series.first().ok_or(SceneError::NoExam("ct"))?;
    let local = Client::plain()?;
    let peer = scene.peer_client(Protocol::Http2)?;
    let study_url = format!(
        "{}/studies/{}",
        scene.gateway.peer_url(DB_HOST),
        exam.study_instance_uid
    );
    let series_url = format!("{study_url}/series/{}", series.series_instance_uid);

    let mut tour = Tour::default();
    tour.step("search the patient's studies", search(scene, &local, exam))
        .await;
    tour.step("names in Cyrillic, Greek, Kanji…", names(scene, &local))
        .await;
    tour.step(
        "a series from a peer, mutual TLS",
        one_series(&peer, &series_url, scene, series),
    )
    .await;
    tour.step("the whole study", study(&peer, &study_url, scene, exam))
        .await;
    tour.step(
        "the same again, from the cache",
        cached(&peer, &study_url, scene, exam),
    )
    .await;
    tour.step("metadata of a study", metadata(scene, &local, exam))
        .await;
    tour.step(
        "a peer without certificate is turned away",
        stranger(scene, &study_url),
    )
    .await;
    tour.step(
        "an exam of another DRIMbox, by its KOS",
        between(scene, exam, Way::Here),
    )
    .await;
    tour.step(
        "and by the other one, from here",
        between(scene, exam, Way::There),
    )
    .await;
    tour.step("not without the token of a professional", no_token(scene))
        .await;
    tour.step(
        "a market certificate, obtained over ACME",
        scene.market.certificate(scene),
    )
    .await;
    tour.step(
        "the inventory of certificates",
        super::market::inventory(scene),
    )
    .await;
    println!(
        "\n{}",
        if tour.failures == 0 {
            "Every step succeeded.".to_owned()
        } else {
            format!("{} steps failed.", tour.failures)
        }
    );
    Ok(tour.failures == 0)
}

/// What a step found: a line for the reader, or why it is not what it should be.
pub type Outcome = Result<String, String>;

#[derive(Default)]
struct Tour {
    number: usize,
    failures: usize,
}

impl Tour {
    async fn step(&mut self, what: &str, step: impl Future<Output = Outcome>) {
        if self.number == 0 {
            println!("\nTour");
        }
        self.number += 1;
        let outcome = step.await;
        let (verdict, detail) = match &outcome {
            Ok(detail) => ("ok    ", detail),
            Err(reason) => ("FAILED", reason),
        };
        self.failures += usize::from(outcome.is_err());
        println!(
            "{:>3}  {verdict}  {what}\n             {detail}",
            self.number
        );
    }
}

async fn search(scene: &Scene, client: &Client, exam: &Exam) -> Outcome {
    let url = format!(
        "{}/studies?PatientID={}",
        scene.gateway.local_url(),
        exam.patient_id
    );
    let (found, time) = json(client, &url).await?;
    let expected = scene
        .manifest
        .exams
        .iter()
        .filter(|e| e.patient_id == exam.patient_id);
    let expected = expected.count();
    check(found.len() == expected, || {
        format!("{} studies instead of {expected}", found.len())
    })?;
    Ok(format!("{expected} found in {}", milliseconds(time)))
}

/// Names of every character set, in searches and in the metadata of the objects. The PACS answers a
/// search in one character set and may lose what that one cannot write; the objects lose nothing.
async fn names(scene: &Scene, client: &Client) -> Outcome {
    let started = Instant::now();
    let (mut count, mut found) = (0, 0);
    for exam in scene.manifest.set("charsets") {
        let local = scene.gateway.local_url();
        let uid = &exam.study_instance_uid;
        let (search, _) = json(client, &format!("{local}/studies?StudyInstanceUID={uid}")).await?;
        let (objects, _) = json(client, &format!("{local}/studies/{uid}/metadata")).await?;
        let expected = bare(&exam.patient_name);
        let name = objects.first().map(patient_name).unwrap_or_default();
        check(name == expected, || {
            format!("{name:?} instead of {expected:?}")
        })?;
        count += 1;
        found += usize::from(search.first().map(patient_name) == Some(expected));
    }
    check(count > 0, || "the samples have no such names".to_owned())?;
    Ok(format!(
        "{count} of {count} names whole in the metadata, {found} in what the PACS answers to a \
         search, in {}",
        milliseconds(started.elapsed())
    ))
}

/// Patient's Name of an object in DICOM JSON, its component groups joined as in a data set.
fn patient_name(object: &Value) -> String {
    let name = object.pointer("/00100010/Value/0");
    let group = |group: &str| {
        name.and_then(|name| name.get(group)?.as_str())
            .unwrap_or_default()
    };
    bare(
        &["Alphabetic", "Ideographic", "Phonetic"]
            .map(group)
            .join("="),
    )
}

/// Component groups that are empty at the end say nothing (PS3.5 §6.2.1.2).
fn bare(name: &str) -> String {
    name.trim_end_matches('=').to_owned()
}

async fn metadata(scene: &Scene, client: &Client, exam: &Exam) -> Outcome {
    let url = format!(
        "{}/studies/{}/metadata",
        scene.gateway.local_url(),
        exam.study_instance_uid
    );
    let (objects, time) = json(client, &url).await?;
    let expected = exam.instances().count();
    check(objects.len() == expected, || {
        format!("{} objects instead of {expected}", objects.len())
    })?;
    Ok(format!("{expected} objects in {}", milliseconds(time)))
}

async fn one_series(client: &Client, url: &str, scene: &Scene, series: &Series) -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let body = retrieve(client, url, Some(folder.path())).await?;
    complete(&body, series.count)?;
    let path = folder.path().to_owned();
    let manifest = scene.manifest.clone();
    let uid = series.series_instance_uid.clone();
    let pixels = tokio::task::spawn_blocking(move || {
        let series = manifest.exams.iter().flat_map(|exam| &exam.series);
        let series = series.into_iter().find(|s| s.series_instance_uid == uid);
        let mut expected: Vec<String> = series
            .into_iter()
            .flat_map(|series| &series.instances)
            .filter_map(|instance| instance.pixel_sha256.clone())
            .collect();
        let mut found = digests(&path)?;
        expected.sort();
        found.sort();
        check(expected == found, || {
            "the pixels are not those of the source".to_owned()
        })
    });
    pixels.await.map_err(|error| error.to_string())??;
    Ok(format!("{}; pixels equal to the source", summary(&body)))
}

async fn study(client: &Client, url: &str, scene: &Scene, exam: &Exam) -> Outcome {
    let before = gets(scene)?;
    let body = retrieve(client, url, None).await?;
    complete(&body, exam.instances().count())?;
    let retrievals = gets(scene)? - before;
    Ok(format!("{}; {retrievals} C-GET", summary(&body)))
}

async fn cached(client: &Client, url: &str, scene: &Scene, exam: &Exam) -> Outcome {
    let before = gets(scene)?;
    let body = retrieve(client, url, None).await?;
    complete(&body, exam.instances().count())?;
    let retrievals = gets(scene)? - before;
    check(retrievals == 0, || {
        format!("the PACS was asked again: {retrievals} C-GET")
    })?;
    Ok(format!(
        "{}; the PACS was not asked for images",
        summary(&body)
    ))
}

async fn stranger(scene: &Scene, url: &str) -> Outcome {
    let client = scene.stranger().map_err(|error| error.to_string())?;
    match client.get(url).accept(AS_STORED).send().await {
        Err(_) => Ok("the TLS handshake fails".to_owned()),
        Ok(answer) => Err(format!("it was answered {}", answer.status())),
    }
}

/// `drimbox fetch` from the neighbour, or by it: white list, token and KOS.
async fn between(scene: &Scene, exam: &Exam, way: Way) -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let config = match way {
        Way::Here => scene.config_file(),
        Way::There => scene.neighbour.config_file(Way::Here),
    };
    // Both read the white list when they start.
    let limit = Instant::now() + Duration::from_secs(30);
    let mut started = Instant::now();
    let fetch = async || {
        scene
            .neighbour
            .fetch(way, &config, folder.path(), true)
            .await
    };
    let mut done = fetch().await.map_err(|error| error.to_string())?;
    while !done.status.success() && Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(200)).await;
        started = Instant::now();
        done = fetch().await.map_err(|error| error.to_string())?;
    }
    check(done.status.success(), || {
        String::from_utf8_lossy(&done.stderr).into_owned()
    })?;
    let time = started.elapsed();
    let mut found = Vec::new();
    for series in &exam.series {
        found.extend(digests(&folder.path().join(&series.series_instance_uid))?);
    }
    let mut expected: Vec<String> = exam
        .instances()
        .filter_map(|instance| instance.pixel_sha256.clone())
        .collect();
    found.sort();
    expected.sort();
    check(found == expected, || {
        "the pixels are not those of the source".to_owned()
    })?;
    let verified = scene.neighbour.audit(way).await;
    let verified = verified.map_err(|error| error.to_string())?;
    check(verified.status.success(), || {
        "its audit trail is not whole".to_owned()
    })?;
    Ok(format!(
        "{} instances in {}; pixels equal to the source; its audit trail is whole",
        exam.instances().count(),
        milliseconds(time)
    ))
}

async fn no_token(scene: &Scene) -> Outcome {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let config = scene.config_file();
    let fetch = scene
        .neighbour
        .fetch(Way::Here, &config, folder.path(), false);
    let done = fetch.await;
    let done = done.map_err(|error| error.to_string())?;
    check(done.status.code() == Some(1), || {
        format!("it ended with {}", done.status)
    })?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let first = said.lines().next().unwrap_or_default();
    Ok(first.trim_start_matches("drimbox : ").to_owned())
}

/// Asks for a list in DICOM JSON.
async fn json(client: &Client, url: &str) -> Result<(Vec<Value>, Duration), String> {
    let text = |error: KitError| error.to_string();
    let started = Instant::now();
    let answer = client.get(url).accept(JSON).send().await.map_err(text)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{status}: {}", answer.text().await.map_err(text)?));
    }
    let value = answer.json().await.map_err(text)?;
    let time = started.elapsed();
    match value {
        Value::Array(list) => Ok((list, time)),
        _ => Err("the answer is no list".to_owned()),
    }
}

async fn retrieve(client: &Client, url: &str, folder: Option<&Path>) -> Result<Multipart, String> {
    let text = |error: KitError| error.to_string();
    let answer = client
        .get(url)
        .accept(AS_STORED)
        .send()
        .await
        .map_err(text)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("{status}: {}", answer.text().await.map_err(text)?));
    }
    let body = match folder {
        Some(folder) => answer.multipart_to(folder).await,
        None => answer.multipart().await,
    };
    body.map_err(text)
}

fn complete(body: &Multipart, expected: usize) -> Result<(), String> {
    check(body.is_complete(), || {
        format!("the body stopped early: {:?}", body.broken)
    })?;
    check(body.parts.len() == expected, || {
        format!("{} instances instead of {expected}", body.parts.len())
    })
}

/// The digests of the pixels of every file of a folder.
fn digests(folder: &Path) -> Result<Vec<String>, String> {
    let mut digests = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        let object = dicom_object::open_file(&path).map_err(|error| error.to_string())?;
        digests.extend(pixel_digest(&object));
    }
    Ok(digests)
}

fn gets(scene: &Scene) -> Result<usize, String> {
    let requests = scene
        .orthanc
        .requests()
        .map_err(|error| error.to_string())?;
    Ok(requests.get)
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

fn summary(body: &Multipart) -> String {
    let rate = body.bytes as f64 / body.total.as_secs_f64().max(1e-9) / 1e6;
    format!(
        "{} instances, {} in {} ({rate:.0} MB/s), first byte after {}",
        body.parts.len(),
        size(body.bytes),
        milliseconds(body.total),
        milliseconds(body.first_byte.unwrap_or_default()),
    )
}

/// Bytes for a reader.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
