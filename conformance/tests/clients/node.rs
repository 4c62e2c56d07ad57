//! The dicomweb-client of npm, which OHIF and Cornerstone's tools use.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::samples::Instance;
use conformance::testkit::http::sha256;
use serde_json::{Value as Json, json};

use crate::support::compare::{Part10, assert_same};
use crate::support::foreign::{installed, output};
use crate::support::{exam, folder, run};
use crate::{
    answer, assert_jpeg, frames_of, instances, png_size, questions, site, sorted,
    studies_of_patient,
};

/// The folder of the script and of the list of packages, which fixes their digests.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/js");

/// The folder whose `node_modules` holds the client; `None` when the stories are to be left out.
fn modules() -> Option<PathBuf> {
    if std::env::var_os("DRIMBOX_SKIP_NODE").is_some() {
        eprintln!("DRIMBOX_SKIP_NODE is set: nothing is shown with dicomweb-client of npm");
        return None;
    }
    let lists = ["package.json", "package-lock.json"].map(|name| Path::new(SOURCE).join(name));
    let digest = sha256(&fs::read(&lists[1]).unwrap());
    Some(installed(&format!("node-{}", &digest[..16]), |folder| {
        for list in &lists {
            fs::copy(list, folder.join(list.file_name().unwrap())).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder);
        let what = "install dicomweb-client from npm (DRIMBOX_SKIP_NODE=1 to leave out)";
        output(what, &mut npm);
    }))
}

async fn ask(modules: &Path, asked: &Json) -> Json {
    let mut client = Command::new("node");
    client
        .arg(Path::new(SOURCE).join("ask.cjs"))
        .arg(modules)
        .arg(asked.to_string());
    answer("dicomweb-client of npm", client).await
}

/// The files that an entry of the answer names.
fn kept(answer: &Json, name: &str, folder: &Path) -> Vec<Vec<u8>> {
    let files = answer[name].as_array().unwrap().iter();
    files
        .map(|file| fs::read(folder.join(file.as_str().unwrap())).unwrap())
        .collect()
}

fn assert_files<'a>(files: &[Vec<u8>], expected: impl IntoIterator<Item = &'a Instance>) {
    let mut missing: Vec<&Instance> = expected.into_iter().collect();
    assert_eq!(files.len(), missing.len(), "number of instances");
    for file in files {
        let uid = Part10::read(file).instance();
        let at = missing.iter().position(|one| one.sop_instance_uid == uid);
        assert_same(missing.swap_remove(at.unwrap()), file);
    }
}

fn uids(objects: &Json, tag: &str) -> Json {
    let values = objects.as_array().unwrap().iter();
    let values: Vec<String> = values
        .map(|object| object[tag]["Value"][0].as_str().unwrap().to_owned())
        .collect();
    sorted(&values)
}

#[test]
fn dicomweb_client_of_ohif_retrieves_shows_and_searches() {
    let Some(modules) = modules() else { return };
    run(async {
        let site = site().await;
        // (exam, media type of a stored frame in the client's words)
        for (name, media_type) in [
            ("ct", "image/jls"),
            ("dx", "image/jpeg"),
            ("multiframe", "application/octet-stream"),
        ] {
            let exam = exam(name);
            let (series, instance) = (&exam.series[0], &exam.series[0].instances[0]);
            let (stored, samples) = frames_of(instance);
            let numbers: Vec<usize> = (1..=stored.len().min(3)).rev().collect();
            let into = folder(&format!("node-{name}"));
            let mut asked = questions(&site.gateway.local_url(), exam);
            asked["patient"] = json!(exam.patient_id);
            asked["frames"] = json!(numbers);
            asked["syntax"] = json!(instance.transfer_syntax_uid);
            asked["mediaType"] = json!(media_type);
            let native = media_type == "application/octet-stream";
            asked["native"] = json!(native);
            asked["into"] = json!(into);
            let answer = ask(&modules, &asked).await;
            let kept = |name| kept(&answer, name, &into);

            assert_files(&kept("study"), exam.instances());
            assert_files(&kept("series"), &series.instances);
            assert_files(&kept("instance"), [instance]);
            let plain = &kept("plain")[0];
            assert_eq!(Part10::read(plain).instance(), instance.sop_instance_uid);
            let some = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                numbers.iter().map(|n| frames[n - 1].clone()).collect()
            };
            assert!(kept("frames") == some(&stored), "{name}: stored frames");
            assert!(kept("samples") == some(&samples), "{name}: decoded frames");
            // Compressed pixels come as frames, others as the value they are.
            if native {
                assert!(kept("bulk") == [stored.concat()], "{name}: bulk data");
                assert!(kept("singleBulk") == [stored.concat()], "{name}: bulk data");
            } else {
                assert!(kept("bulk") == samples, "{name}: bulk data");
            }
            for picture in ["rendered", "renderedJpeg", "thumbnail"] {
                assert_jpeg(&kept(picture)[0]);
            }
            let (width, height) = png_size(&kept("renderedFrame")[0]);
            assert_eq!(width.max(height), 32);

            let all = instances(exam.instances());
            assert_eq!(uids(&answer["studyMetadata"], "00080018"), all);
            let all = instances(&series.instances);
            assert_eq!(uids(&answer["seriesMetadata"], "00080018"), all);
            assert_eq!(uids(&answer["foundInstances"], "00080018"), all);
            let metadata = &answer["instanceMetadata"];
            assert_eq!(uids(metadata, "00080018"), instances([instance]));
            let studies = studies_of_patient(exam);
            assert_eq!(uids(&answer["foundStudies"], "0020000D"), studies);
            assert_eq!(answer["foundPage"].as_array().unwrap().len(), 2);
            let all = sorted(exam.series.iter().map(|series| &series.series_instance_uid));
            assert_eq!(uids(&answer["foundSeries"], "0020000E"), all);
        }
    });
}
