//! The exam page in a real browser, in front of the gateway and a PACS: `conformance/viewer` has the stories.
//!
//! Needs Chromium, Node and the built page (`make viewer`). Pictures of the pages are kept in the build folder,
//! under `tmp/viewer`. `DRIMBOX_SKIP_NODE=1` leaves everything out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use conformance::testkit::http::sha256;
use conformance::testkit::{Gateway, GatewayConfig, Orthanc, PacsConfig};
use serde_json::{Value as Json, json};
use support::foreign::{installed, output};
use support::{exam, exams, folder, python, run};
use tokio::sync::{Mutex, OnceCell};

const PYTHON: [&str; 7] = [
    "pydicom==3.0.2",
    "numpy==2.4.6",
    "pylibjpeg==2.1.0",
    "pylibjpeg-libjpeg==2.5.0",
    "pylibjpeg-openjpeg==2.6.0",
    "pylibjpeg-rle==2.2.0",
    "pyjpegls==1.5.1",
];
/// Makes exams that the samples have not.
const READINGS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/readings.py");
/// Images of the longest of them.
const SLICES: usize = 1300;
/// Windows of the page for scanners, center and width: lung and brain.
const WINDOWS: [[i32; 2]; 2] = [[-600, 1500], [40, 80]];
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/expected.py");
/// Scripts of the browser, and the list of packages that they need.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/viewer");
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gateway/viewer");

#[test]
fn a_reader_sees_scrolls_measures_compares_and_leaves() {
    tell("page", &[]);
}

#[test]
fn a_reader_finds_in_every_kind_of_exam_what_it_holds() {
    if python::environment("pydicom", &PYTHON).is_some() {
        tell("reading", &[]);
    }
}

#[test]
fn fingers_mouse_and_keys_change_what_is_on_screen() {
    tell("hands", &[]);
}

#[test]
fn nothing_from_outside_leads_the_page_elsewhere_or_stops_it() {
    tell("hostile", &[]);
}

#[test]
fn a_long_scanner_does_not_end_the_tab_of_a_phone() {
    if python::environment("pydicom", &PYTHON).is_some() {
        tell("phone", &[]);
    }
}

#[test]
fn the_page_is_accessible() {
    tell("accessibility", &[]);
}

#[test]
fn the_screen_shows_what_pydicom_makes_of_the_images() {
    let Some(python) = python::environment("pydicom", &PYTHON) else {
        return;
    };
    let out = folder("viewer-expected");
    run(async {
        let mut files: Vec<PathBuf> = exams()
            .exams
            .iter()
            .filter(|exam| !exam.name.contains('/'))
            .flat_map(|exam| exam.instances())
            .filter(|instance| instance.frames > 0)
            .map(|instance| exams().path(instance))
            .collect();
        if let Some(readings) = readings().await {
            files.extend(readings.files(&["looks", "radiograph"]));
        }
        let asked = out.join("asked.json");
        let list = json!({"out": out, "files": files, "windows": {"CT": WINDOWS}});
        fs::write(&asked, serde_json::to_vec(&list).unwrap()).unwrap();
        let answer = python::ask(&python, EXPECTED, &asked.display().to_string()).await;
        fs::write(
            out.join("expected.json"),
            serde_json::to_vec(&answer).unwrap(),
        )
        .unwrap();
    });
    tell("pixels", &[("DRIMBOX_TEST_EXPECTED", out.as_path())]);
}

/// Runs one file of stories; what Node says of them is the failure.
fn tell(stories: &str, more: &[(&str, &Path)]) {
    if env::var_os("DRIMBOX_SKIP_NODE").is_some() {
        eprintln!("DRIMBOX_SKIP_NODE is set: the exam page is not driven");
        return;
    }
    let built = Path::new(PAGE).join("dist/files.tsv");
    assert!(
        built.exists(),
        "the exam page is not built: run `make viewer`"
    );
    run(async {
        // One browser at a time, so that each has the machine.
        static TURN: Mutex<()> = Mutex::const_new(());
        let _turn = TURN.lock().await;
        let scripts = scripts();
        let gateway = gateway().await;
        let address = gateway.local_url();
        let origin = address.trim_end_matches("/dicom-web").to_owned();
        let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("viewer");
        let mut node = Command::new(scripts.join("node_modules/.bin/node"));
        node.args(["--test", "--test-concurrency=1"])
            .arg(scripts.join(format!("tests/{stories}.test.mjs")))
            .env("DRIMBOX_TEST_GATEWAY", origin)
            .env("DRIMBOX_TEST_SAMPLES", samples())
            .env("DRIMBOX_TEST_VIEWER", PAGE)
            .env("DRIMBOX_TEST_PICTURES", pictures)
            .envs(
                readings()
                    .await
                    .map(|readings| ("DRIMBOX_TEST_READINGS", &readings.list)),
            )
            .envs(more.iter().copied());
        let ended = tokio::task::spawn_blocking(move || node.output().unwrap())
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{said}");
    });
}

/// A gateway in front of a PACS with the small exams, for every story of this program.
async fn gateway() -> &'static Gateway {
    static SETTING: OnceCell<(Orthanc, Gateway)> = OnceCell::const_new();
    let setting = SETTING.get_or_init(async || {
        let orthanc = Orthanc::builder(&folder("viewer-orthanc"))
            .start()
            .await
            .unwrap();
        let files = exams().exams.iter().flat_map(|exam| exam.instances());
        orthanc
            .upload(files.map(|instance| exams().path(instance)).collect())
            .await
            .unwrap();
        if let Some(readings) = readings().await {
            orthanc.upload(readings.files(&[])).await.unwrap();
        }
        let config = GatewayConfig::new(&folder("viewer-gateway")).unwrap();
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let gateway = Gateway::start(config.pacs(pacs)).await.unwrap();
        (orthanc, gateway)
    });
    &setting.await.1
}

/// Exams made by pydicom.
struct Readings {
    folder: PathBuf,
    /// The file that lists them, in the form of the samples' manifest.
    list: PathBuf,
    exams: Json,
}

impl Readings {
    /// The files of the exams with these names; of all without any.
    fn files(&self, names: &[&str]) -> Vec<PathBuf> {
        let exams = self.exams.as_array().unwrap().iter();
        exams
            .filter(|exam| names.is_empty() || names.contains(&exam["name"].as_str().unwrap()))
            .flat_map(|exam| exam["series"].as_array().unwrap())
            .flat_map(|series| series["instances"].as_array().unwrap())
            .map(|instance| self.folder.join(instance["file"].as_str().unwrap()))
            .collect()
    }
}

/// The exams that the samples have not, made once; `None` without Python.
async fn readings() -> Option<&'static Readings> {
    static READY: OnceCell<Option<Readings>> = OnceCell::const_new();
    let ready = READY.get_or_init(async || {
        let python = python::environment("pydicom", &PYTHON)?;
        let folder = folder("viewer-readings");
        let asked = folder.join("asked.json");
        let request = json!({"out": folder, "slices": SLICES});
        fs::write(&asked, serde_json::to_vec(&request).unwrap()).unwrap();
        let exams = python::ask(&python, READINGS, &asked.display().to_string()).await;
        let list = folder.join("readings.json");
        fs::write(&list, serde_json::to_vec(&exams).unwrap()).unwrap();
        Some(Readings {
            folder,
            list,
            exams,
        })
    });
    ready.await.as_ref()
}

/// The folder of the small exams and their manifest.
fn samples() -> PathBuf {
    let file = exams().path(exam("ct").instances().next().unwrap());
    file.parent().and_then(Path::parent).unwrap().to_owned()
}

/// The folder with the scripts and their packages.
fn scripts() -> PathBuf {
    let lock = fs::read(Path::new(SOURCE).join("package-lock.json")).unwrap();
    let digest = sha256(&lock);
    let packages = installed(&format!("viewer-{}", &digest[..16]), |folder| {
        for list in ["package.json", "package-lock.json"] {
            fs::copy(Path::new(SOURCE).join(list), folder.join(list)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(folder);
        let what = "install the browser's driver from npm (DRIMBOX_SKIP_NODE=1 to leave out)";
        output(what, &mut npm);
    });
    // Node looks for packages above the scripts, so the scripts go there.
    for folder in ["", "tests"] {
        fs::create_dir_all(packages.join(folder)).unwrap();
        for entry in fs::read_dir(Path::new(SOURCE).join(folder)).unwrap() {
            let script = entry.unwrap().path();
            if script
                .extension()
                .is_some_and(|extension| extension == "mjs")
            {
                let name = script.file_name().unwrap();
                fs::copy(&script, packages.join(folder).join(name)).unwrap();
            }
        }
    }
    packages
}
