//! Clients that nobody here wrote, and judges that nobody here wrote: the dicomweb-client of PyPI
//! and that of npm (which OHIF uses), the headers of Cornerstone's loader, Orthanc's DICOMweb
//! plugin, and dciodvfy.
//!
//! The first run installs the two dicomweb-clients into the build folder. On a machine without PyPI
//! or npm `DRIMBOX_SKIP_PYTHON=1` and `DRIMBOX_SKIP_NODE=1` leave them out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod dciodvfy;
mod node;
mod orthanc;
mod python;
#[path = "../support/mod.rs"]
mod support;
mod viewers;

use std::fs::File;
use std::process::Command;

use conformance::samples::{Exam, Instance};
use conformance::testkit::{Gateway, GatewayConfig, Orthanc, PacsConfig, Pki};
use serde_json::{Value as Json, json};
use tokio::sync::OnceCell;

use support::foreign::output;
use support::{exams, folder};

/// The name of the peer listener's PACS.
const HOST: &str = "db.clients.example";

/// A gateway with all sample exams behind it, for every story of this program.
struct Site {
    gateway: Gateway,
    pki: Pki,
    _orthanc: Orthanc,
}

async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(async || {
        let home = folder("gateway");
        let orthanc = Orthanc::builder(&folder("orthanc")).start().await.unwrap();
        orthanc.upload(exams().files().collect()).await.unwrap();
        let pki = Pki::new(&home.join("pki"), "Scenario CA").unwrap();
        let server = pki.server(&[HOST]).unwrap();
        let pacs = PacsConfig::new("pacs", orthanc.ae_title(), orthanc.dicom_port());
        let config = GatewayConfig::new(&home).unwrap().peer(&pki).unwrap();
        // The client of PyPI names no port in Host: URLs of bulk data need the public root.
        let root = format!("http://{}", config.address("local").unwrap());
        let config = config.set("local.public_url", root);
        let gateway = Gateway::start(config.pacs(pacs.db_host(HOST, &server)))
            .await
            .unwrap();
        Site {
            gateway,
            pki,
            _orthanc: orthanc,
        }
    })
    .await
}

/// The JSON that a client prints, run off the threads of the other tasks.
async fn answer(what: &'static str, mut client: Command) -> Json {
    let printed = tokio::task::spawn_blocking(move || output(what, &mut client));
    serde_json::from_slice(&printed.await.unwrap()).unwrap()
}

/// The first instance of the first series, and what holds it, as both clients are asked for it.
fn questions(url: &str, exam: &Exam) -> Json {
    let series = &exam.series[0];
    json!({
        "url": url,
        "study": exam.study_instance_uid,
        "series": series.series_instance_uid,
        "instance": series.instances[0].sop_instance_uid,
    })
}

/// The UIDs, in order.
fn sorted<'a>(uids: impl IntoIterator<Item = &'a String>) -> Json {
    let mut uids: Vec<&String> = uids.into_iter().collect();
    uids.sort();
    json!(uids)
}

/// The SOP Instance UIDs, in order.
fn instances<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> Json {
    sorted(instances.into_iter().map(|one| &one.sop_instance_uid))
}

/// The studies of the patient of an exam, in order.
fn studies_of_patient(exam: &Exam) -> Json {
    let all = exams().exams.iter();
    sorted(
        all.filter(|other| other.patient_id == exam.patient_id)
            .map(|exam| &exam.study_instance_uid),
    )
}

/// The width and height that the head of a PNG file says.
fn png_size(png: &[u8]) -> (u32, u32) {
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "no PNG");
    let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (side(16), side(20))
}

fn assert_jpeg(bytes: &[u8]) {
    assert!(bytes.starts_with(&[0xFF, 0xD8, 0xFF]), "no JPEG");
    assert!(bytes.ends_with(&[0xFF, 0xD9]), "a JPEG without its end");
}

/// The frames of an image as they are stored, and decoded: by the code of the gateway that
/// `tests/pixels.rs` holds against other toolkits.
fn frames_of(instance: &Instance) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    use drimbox::pixels::{PixelLimits, StoredImage};
    let file = File::open(exams().path(instance)).unwrap();
    let image = StoredImage::open(file, PixelLimits::default()).unwrap();
    let all = || 0..image.index().frames();
    (
        all().map(|n| image.stored_frame(n).unwrap()).collect(),
        all().map(|n| image.frame(n).unwrap().samples).collect(),
    )
}
