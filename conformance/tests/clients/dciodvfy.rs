//! dciodvfy, from David Clunie's dicom3tools, as the judge of what the gateway sends: no object has
//! an error that it did not have when the PACS was given it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::samples::Instance;
use conformance::testkit::Client;
use dicom_dictionary_std::uids;

use crate::support::compare::Part10;
use crate::support::{exams, folder, retrieve, run, study_path};
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

#[test]
fn dciodvfy_finds_no_error_that_the_stored_object_did_not_have() {
    run(async {
        let gateway = &site().await.gateway;
        let client = Client::plain().unwrap();
        let mut judged = 0;
        for exam in studies() {
            let into = folder("dciodvfy");
            let url = gateway.local_url() + &study_path(exam);
            let body = retrieve(&client, &url, &into).await;
            assert!(body.is_complete(), "{}", exam.name);
            for part in 0..body.parts.len() {
                let file = into.join(format!("{part}.part"));
                let uid = Part10::read(&std::fs::read(&file).unwrap()).instance();
                let source = source(&uid);
                let syntax = source.transfer_syntax_uid.as_str();
                let stored = exams().path(source);
                let before = errors(&readable(&stored, syntax, into.join("stored.dcm")));
                let after = errors(&readable(&file, syntax, into.join("sent.dcm")));
                let added: Vec<_> = after.difference(&before).collect();
                assert!(added.is_empty(), "{}: {added:#?}", source.file);
                judged += 1;
            }
        }
        assert_eq!(judged, studies().flat_map(|exam| exam.instances()).count());
    });
}
