//! dciodvfy, from David Clunie's dicom3tools, as the judge of what the gateway sends: no object has
//! an error that it did not have when the PACS was given it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::samples::Instance;
use conformance::testkit::Client;
use dicom_dictionary_std::uids;

use crate::support::compare::Part10;
use crate::support::{AS_STORED, exam, exams, folder, run, study_path};
use crate::{output, site};

/// The errors of a file.
fn errors(file: &Path) -> BTreeSet<String> {
    let output = Command::new("dciodvfy")
        .arg("-new")
        .arg(file)
        .output()
        .unwrap_or_else(|error| panic!("dciodvfy (Debian package dicom3tools): {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    said.lines()
        .filter(|line| line.starts_with("Error"))
        .map(str::to_owned)
        .collect()
}

/// The file in a form that dciodvfy reads: it knows no deflated data sets.
fn readable(file: &Path, syntax: &str, inflated: PathBuf) -> PathBuf {
    if syntax != uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        return file.to_owned();
    }
    let mut convert = Command::new("dcmconv");
    convert.arg("--write-xfer-little").arg(file).arg(&inflated);
    output("dcmconv", &mut convert);
    inflated
}

/// One study of each kind: those of a set differ in their texts only.
fn studies() -> impl Iterator<Item = &'static conformance::samples::Exam> {
    exams()
        .exams
        .iter()
        .filter(|exam| !exam.name.starts_with("many-"))
}

fn source(uid: &str) -> &'static Instance {
    let found = exams().instances().find(|one| one.sop_instance_uid == uid);
    found.unwrap_or_else(|| panic!("{uid} was never stored"))
}

/// Retrieves and compares what dciodvfy finds in each instance with what it finds in the stored one.
async fn judge(client: &Client, url: &str, accept: &str, into: &str) -> usize {
    let into = folder(into);
    let answer = client.get(url).accept(accept).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{url} {accept}");
    let body = answer.multipart_to(&into).await.unwrap();
    assert!(body.is_complete(), "{url}");
    for part in 0..body.parts.len() {
        let file = into.join(format!("{part}.part"));
        let sent = Part10::read(&std::fs::read(&file).unwrap());
        let source = source(&sent.instance());
        let stored = exams().path(source);
        let syntax = source.transfer_syntax_uid.as_str();
        let before = errors(&readable(&stored, syntax, into.join("stored.dcm")));
        let syntax = sent.meta.transfer_syntax();
        let after = errors(&readable(&file, syntax, into.join("sent.dcm")));
        let added: Vec<_> = after.difference(&before).collect();
        assert!(added.is_empty(), "{} in {syntax}: {added:#?}", source.file);
    }
    body.parts.len()
}

#[test]
fn dciodvfy_finds_no_error_that_the_stored_object_did_not_have() {
    run(async {
        let gateway = &site().await.gateway;
        let client = Client::plain().unwrap();
        let mut judged = 0;
        for exam in studies() {
            let url = gateway.local_url() + &study_path(exam);
            judged += judge(&client, &url, AS_STORED, "stored").await;
        }
        assert_eq!(judged, studies().flat_map(|exam| exam.instances()).count());
    });
}

#[test]
fn dciodvfy_finds_no_error_in_transcoded_objects_that_the_stored_ones_did_not_have() {
    run(async {
        let gateway = &site().await.gateway;
        let client = Client::plain().unwrap();
        for name in ["ct", "dx", "us", "enhanced-ct", "multiframe", "fragments"] {
            for syntax in [
                uids::EXPLICIT_VR_LITTLE_ENDIAN,
                uids::JPEGLS_LOSSLESS,
                uids::RLE_LOSSLESS,
            ] {
                let exam = exam(name);
                let url = gateway.local_url() + &study_path(exam);
                let accept = format!(
                    "multipart/related; type=\"application/dicom\"; transfer-syntax={syntax}"
                );
                let judged = judge(&client, &url, &accept, "transcoded").await;
                assert_eq!(judged, exam.instances().count(), "{name} {syntax}");
            }
        }
    });
}
