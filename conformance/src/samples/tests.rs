//! The small profile, checked with dicom-object and with DCMTK.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::HashSet;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTable, InMemDicomObject, open_file};
use dicom_transfer_syntax_registry::entries;
use flate2::read::DeflateDecoder;
use tempfile::TempDir;

use super::{
    Error, GENERATOR_VERSION, Manifest, Profile, exams, generate, generate_plans, pixel_digest,
};

/// The small profile, made once for all tests.
fn small() -> &'static Manifest {
    static SMALL: OnceLock<(TempDir, Manifest)> = OnceLock::new();
    let (_, manifest) = SMALL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let manifest = generate(Profile::Small, folder.path()).unwrap();
        (folder, manifest)
    });
    manifest
}

/// Reads a file whatever its transfer syntax; dicom-object inflates nothing here.
fn read(path: &Path) -> (FileMetaTable, InMemDicomObject) {
    let bytes = fs::read(path).unwrap();
    let meta = FileMetaTable::from_reader(&bytes[128..]).unwrap();
    if meta.transfer_syntax() != uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN {
        let object = open_file(path).unwrap();
        return (object.meta().clone(), object.into_inner());
    }
    // Preamble, prefix, group length element, the group.
    let start = 128 + 4 + 12 + meta.information_group_length as usize;
    let mut inflated = Vec::new();
    DeflateDecoder::new(&bytes[start..])
        .read_to_end(&mut inflated)
        .unwrap();
    let encoding = entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
    let dataset = InMemDicomObject::read_dataset_with_ts(&inflated[..], &encoding).unwrap();
    (meta, dataset)
}

fn run(tool: &str, arguments: &[&Path], options: &[&str]) -> String {
    let output = Command::new(tool)
        .args(options)
        .args(arguments)
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{tool}: {messages}");
    messages + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn two_runs_make_the_same_files() {
    let first = small();
    let folder = tempfile::tempdir().unwrap();
    let mut second = generate(Profile::Small, folder.path()).unwrap();
    for (a, b) in first.files().zip(second.files()) {
        assert_eq!(
            fs::read(&a).unwrap(),
            fs::read(b).unwrap(),
            "{}",
            a.display()
        );
    }
    second.root.clone_from(&first.root);
    assert_eq!(first, &second);
}

#[test]
fn every_file_is_what_the_manifest_says() {
    let manifest = small();
    for exam in &manifest.exams {
        for series in &exam.series {
            assert_eq!(series.count, series.instances.len());
            for instance in &series.instances {
                let (meta, dataset) = read(&manifest.path(instance));
                let text = |tag| dataset.element(tag).unwrap().to_str().unwrap().into_owned();
                assert_eq!(meta.transfer_syntax(), instance.transfer_syntax_uid);
                assert_eq!(
                    meta.media_storage_sop_instance_uid(),
                    instance.sop_instance_uid
                );
                assert_eq!(text(tags::SOP_INSTANCE_UID), instance.sop_instance_uid);
                assert_eq!(text(tags::SOP_CLASS_UID), instance.sop_class_uid);
                assert_eq!(text(tags::SERIES_INSTANCE_UID), series.series_instance_uid);
                assert_eq!(text(tags::STUDY_INSTANCE_UID), exam.study_instance_uid);
                assert_eq!(text(tags::MODALITY), series.modality);
                assert_eq!(text(tags::PATIENT_ID), exam.patient_id);
                assert_eq!(text(tags::ACCESSION_NUMBER), exam.accession_number);
                assert_eq!(text(tags::STUDY_DATE), exam.study_date);
                assert_eq!(
                    pixel_digest(&dataset),
                    instance.pixel_sha256,
                    "{}",
                    instance.file
                );
            }
        }
    }
}

#[test]
fn dcmtk_reads_every_file_without_a_warning() {
    let manifest = small();
    let files: Vec<_> = manifest.files().collect();
    let files: Vec<_> = files.iter().map(AsRef::as_ref).collect();
    let output = run("dcmdump", &files, &["+P", "0008,0018"]);
    let warning = output
        .lines()
        .filter(|line| line.starts_with("W:") || line.starts_with("E:"))
        // A note on a private sequence in implicit VR, whose VR can't be known.
        .find(|line| !line.contains("CP-246"));
    assert_eq!(warning, None);
    assert_eq!(output.matches("SOPInstanceUID").count(), files.len());
}

#[test]
fn dcmtk_reads_the_names_of_the_character_sets_it_knows() {
    for exam in small().set("charsets") {
        let known = [
            "ir100", "ir101", "ir126", "ir144", "ir149", "ir192", "gb18030",
        ];
        if known.iter().any(|set| exam.name.contains(set)) {
            let file = small().path(exam.instances().next().unwrap());
            let output = run("dcmdump", &[&file], &["+U8", "+P", "0010,0010"]);
            assert!(
                output.contains(&format!("[{}]", exam.patient_name)),
                "{output}"
            );
        }
    }
}

#[test]
fn lossless_syntaxes_hold_the_same_pixels() {
    let exam = small().exam("syntaxes").unwrap();
    let instance = |syntax| {
        exam.instances()
            .find(|instance| instance.transfer_syntax_uid == syntax)
            .unwrap()
    };
    let native = instance(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let folder = tempfile::tempdir().unwrap();
    for (syntax, decoder, options) in [
        (uids::RLE_LOSSLESS, "dcmdrle", &[][..]),
        (uids::JPEG_LOSSLESS, "dcmdjpeg", &[]),
        (uids::JPEG_LOSSLESS_SV1, "dcmdjpeg", &[]),
        (uids::JPEGLS_LOSSLESS, "dcmdjpls", &[]),
        (uids::JPEG2000_LOSSLESS, "gdcmconv", &["--raw"]),
        ("1.2.840.10008.1.2.2", "dcmconv", &["+te"]),
        (
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
            "dcmconv",
            &["+te"],
        ),
        (uids::IMPLICIT_VR_LITTLE_ENDIAN, "dcmconv", &["+te"]),
    ] {
        let decoded = folder.path().join("decoded.dcm");
        run(
            decoder,
            &[&small().path(instance(syntax)), &decoded],
            options,
        );
        let (_, dataset) = read(&decoded);
        assert_eq!(pixel_digest(&dataset), native.pixel_sha256, "{syntax}");
    }
}

#[test]
fn many_classes_need_more_contexts_than_an_association_has() {
    let exam = small().exam("many-classes").unwrap();
    let classes: HashSet<_> = exam.instances().map(|i| &i.sop_class_uid).collect();
    let pairs: HashSet<_> = exam
        .instances()
        .map(|i| (&i.sop_class_uid, &i.transfer_syntax_uid))
        .collect();
    assert!(classes.len() > 40);
    assert!(pairs.len() > 128);
}

#[test]
fn uids_are_unique_over_all_exams() {
    let manifest = small();
    let mut seen = HashSet::new();
    for exam in &manifest.exams {
        assert!(seen.insert(&exam.study_instance_uid));
        assert!(
            exam.series
                .iter()
                .all(|series| seen.insert(&series.series_instance_uid))
        );
        assert!(
            exam.instances()
                .all(|instance| seen.insert(&instance.sop_instance_uid))
        );
    }
}

#[test]
fn complete_exams_are_left_alone_and_damaged_ones_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut plans = exams::plan(Profile::Small);
    plans.retain(|plan| plan.name.starts_with("many-studies/"));
    let manifest = generate_plans(Profile::Small, folder.path(), &plans).unwrap();
    let file = manifest.files().next().unwrap();
    let content = fs::read(&file).unwrap();

    // Same size: only a file that is written again gets its content back.
    fs::write(&file, vec![0; content.len()]).unwrap();
    assert_eq!(
        generate_plans(Profile::Small, folder.path(), &plans).unwrap(),
        manifest
    );
    assert_ne!(fs::read(&file).unwrap(), content);

    fs::remove_file(&file).unwrap();
    assert_eq!(
        generate_plans(Profile::Small, folder.path(), &plans).unwrap(),
        manifest
    );
    assert_eq!(fs::read(&file).unwrap(), content);
}

#[test]
fn files_of_an_older_manifest_are_removed_and_others_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut plans = exams::plan(Profile::Small);
    plans.retain(|plan| plan.name.starts_with("many-studies/"));
    let mut manifest = generate_plans(Profile::Small, folder.path(), &plans).unwrap();
    manifest.generator = GENERATOR_VERSION - 1;
    manifest.save().unwrap();
    let foreign = folder.path().join("many-studies/0030/notes.txt");
    fs::write(&foreign, "kept").unwrap();
    let dropped = manifest.files().last().unwrap();

    plans.pop();
    let manifest = generate_plans(Profile::Small, folder.path(), &plans).unwrap();

    assert!(!dropped.exists());
    assert!(foreign.exists());
    assert_eq!(Manifest::load(folder.path()).unwrap(), manifest);
}

#[test]
fn a_manifest_that_is_none_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifest.json"), "{}").unwrap();
    let error = Manifest::load(folder.path()).unwrap_err();
    assert!(matches!(&error, Error::Manifest { .. }));
    assert!(error.to_string().contains("manifest.json"));
}
