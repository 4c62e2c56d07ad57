//! Decoded frames, as the gateway answers them, against the pixel values of pydicom and its decoders;
//! pictures against what it makes of the same values.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use conformance::samples::Instance;
use conformance::testkit::{Client, Gateway, GatewayConfig, Orthanc, PacsConfig};
use dicom_dictionary_std::uids;
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::render::{RenderOptions, render};
use drimbox::pixels::{PixelLimits, StoredImage, is_video};
use serde_json::{Value as Json, json};
use support::presentations::{self, Shown};
use support::{exam, exams, folder, instance_path, python, run};

const PACKAGES: [&str; 7] = [
    "pydicom==3.0.2",
    "numpy==2.4.6",
    "pylibjpeg==2.1.0",
    "pylibjpeg-libjpeg==2.5.0",
    "pylibjpeg-openjpeg==2.6.0",
    "pylibjpeg-rle==2.2.0",
    "pyjpegls==1.5.1",
];
const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/decode.py");
const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/picture.py");
const OCTETS: &str = "multipart/related; type=\"application/octet-stream\"";
/// Images of one series in one transfer syntax: those after them are of the same kind.
const OF_A_SERIES: usize = 2;
/// An exam whose images are each of a kind: the same pictures, their fragments laid out otherwise.
const LAYOUTS: &str = "fragments";

/// Images of every series in every transfer syntax, with their paths below the root of the service.
fn images() -> Vec<(&'static Instance, String)> {
    let mut images = Vec::new();
    for exam in &exams().exams {
        for series in &exam.series {
            let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
            for (at, instance) in series.instances.iter().enumerate() {
                let syntax = instance.transfer_syntax_uid.as_str();
                let count = seen.entry(syntax).or_default();
                if instance.frames > 0 && (*count < OF_A_SERIES || exam.name == LAYOUTS) {
                    *count += 1;
                    images.push((instance, instance_path(exam, series, at)));
                }
            }
        }
    }
    images
}

/// The image that pydicom decodes to judge another: itself, but of those laid out otherwise the one with
/// the same frames and a right table, as pydicom believes a false one.
fn judge_of(instance: &'static Instance) -> &'static Instance {
    if !instance.file.starts_with(LAYOUTS) {
        return instance;
    }
    let mut layouts = exam(LAYOUTS).instances();
    layouts.find(|one| one.frames == instance.frames).unwrap()
}

/// What two decoders of the same standard may differ by, for one sample and on the mean: the DCT is not
/// exact (ISO/IEC 10918-2), and chrominance at half width is widened as each likes.
fn tolerance(syntax: &str) -> (i64, f64) {
    match syntax {
        uids::JPEG_BASELINE8_BIT => (12, 1.0),
        uids::JPEG_EXTENDED12_BIT => (2, 0.5),
        uids::JPEG2000 => (1, 0.1),
        _ => (0, 0.0),
    }
}

/// True when a transfer syntax is only given as it is stored.
fn is_only_stored(syntax: &str) -> bool {
    let uid = TransferSyntaxUid::parse(syntax).unwrap();
    is_video(&uid)
}

async fn decoded(client: &Client, url: &str, into: &Path) -> Result<Vec<PathBuf>, (u16, String)> {
    let answer = client.get(url).accept(OCTETS).send().await.unwrap();
    let status = u16::from(answer.status());
    if status != 200 {
        return Err((status, answer.text().await.unwrap()));
    }
    fs::create_dir_all(into).unwrap();
    let body = answer.multipart_to(into).await.unwrap();
    assert!(body.is_complete(), "{url}");
    let parts = 0..body.parts.len();
    Ok(parts
        .map(|part| into.join(format!("{part}.part")))
        .collect())
}

async fn judged(python: &Path, script: &str, scratch: &Path, asked: &[Json]) -> Vec<Json> {
    let list = scratch.join("asked.json");
    fs::write(&list, serde_json::to_vec(asked).unwrap()).unwrap();
    let answer = python::ask(python, script, &list.display().to_string()).await;
    answer.as_array().unwrap().clone()
}

#[test]
fn pixel_values_agree_with_those_of_pydicom() {
    let Some(python) = python::environment("pydicom", &PACKAGES) else {
        return;
    };
    run(async {
        let scratch = folder("pydicom");
        let images = images();
        let orthanc = Orthanc::builder(&folder("pydicom-orthanc"))
            .start()
            .await
            .unwrap();
        let files = images.iter().map(|(instance, _)| exams().path(instance));
        orthanc.upload(files.collect()).await.unwrap();
        let config = GatewayConfig::new(&folder("pydicom-gateway")).unwrap();
        let entry = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let client = Client::plain().unwrap();

        let mut asked = Vec::new();
        let mut compared = Vec::new();
        for (at, (instance, path)) in images.iter().enumerate() {
            let all: Vec<String> = (1..=instance.frames).map(|n| n.to_string()).collect();
            let url = format!("{}{path}/frames/{}", gateway.local_url(), all.join(","));
            match decoded(&client, &url, &scratch.join(at.to_string())).await {
                Ok(frames) => {
                    let file = exams().path(judge_of(instance));
                    asked.push(json!({"file": file, "frames": frames}));
                    compared.push(*instance);
                }
                Err((status, text)) => {
                    let syntax = instance.transfer_syntax_uid.as_str();
                    assert!(is_only_stored(syntax), "{}: {text}", instance.file);
                    assert_eq!(status, 406, "{}: {text}", instance.file);
                }
            }
        }
        let answers = judged(&python, FRAMES, &scratch, &asked).await;
        let mut syntaxes = BTreeSet::new();
        let mut wrong = Vec::new();
        for (instance, answer) in compared.iter().zip(&answers) {
            let syntax = instance.transfer_syntax_uid.as_str();
            syntaxes.insert(syntax);
            let (worst, mean) = tolerance(syntax);
            let agrees = answer["frames"].as_u64() == Some(u64::from(instance.frames))
                && answer["worst"].as_i64().is_some_and(|found| found <= worst)
                && answer["mean"].as_f64().is_some_and(|found| found <= mean);
            if !agrees {
                wrong.push(format!("{} in {syntax}: {answer}", instance.file));
            }
        }
        assert_eq!(answers.len(), compared.len());
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(syntaxes.len() >= 10, "{syntaxes:?}");
    });
}

#[test]
fn pictures_agree_with_those_of_pydicom() {
    let Some(python) = python::environment("pydicom", &PACKAGES) else {
        return;
    };
    run(async {
        let scratch = folder("pydicom-pictures");
        let all = presentations::all(&scratch);
        let picture = |(at, shown): (usize, &Shown)| {
            let file = File::open(&shown.file).unwrap();
            let image = StoredImage::open(file, PixelLimits::default()).unwrap();
            let picture = render(&image, shown.frame, &RenderOptions::default()).unwrap();
            let path = scratch.join(format!("{at}.picture"));
            fs::write(&path, picture.samples).unwrap();
            json!({"file": shown.file, "frame": shown.frame, "picture": path})
        };
        let asked: Vec<Json> = all.iter().enumerate().map(picture).collect();
        let answers = judged(&python, PICTURES, &scratch, &asked).await;
        assert_eq!(answers.len(), all.len());
        let mut wrong = Vec::new();
        for (shown, answer) in all.iter().zip(&answers) {
            let (worst, mean) = if shown.is_lossy {
                tolerance(uids::JPEG_BASELINE8_BIT)
            } else {
                (1, 0.02)
            };
            let agrees = answer["worst"].as_i64().is_some_and(|found| found <= worst)
                && answer["mean"].as_f64().is_some_and(|found| found <= mean);
            if !agrees {
                wrong.push(format!("{}: {answer}", shown.name));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
}
