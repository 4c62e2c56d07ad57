#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

pub(crate) fn exam(pacs: &str, study: &str, kos: &str) -> PublishedExam {
    PublishedExam {
        pacs: pacs.into(),
        study: StudyUid::parse(study).unwrap(),
        kos: InstanceUid::parse(kos).unwrap(),
        series: vec![PublishedSeries {
            series: SeriesUid::parse("1.2.1").unwrap(),
            instances: vec![InstanceUid::parse("1.2.1.1").unwrap()],
        }],
        accessions: vec![Accession {
            issuer: Some("1.2.250.1".into()),
            number: "A1".into(),
        }],
        cda_id: Some("1.2.3^4".into()),
        ins: Some(PatientIns {
            matricule: "279035121518989".into(),
            authority: "1.2.250.1.213.1.4.10".into(),
        }),
        restrictions: Restrictions::default(),
        patient: PatientFacts::default(),
        identity: Default::default(),
    }
}

fn study(uid: &str) -> StudyUid {
    StudyUid::parse(uid).unwrap()
}

#[tokio::test]
async fn an_exam_is_there_after_a_restart_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let first = exam("ct", "1.2", "1.9");
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(first.clone()).await.unwrap();
    drop(exams);
    let exams = Exams::open(folder.path()).unwrap();
    let found = exams.get("ct", &study("1.2")).await.unwrap().unwrap();
    assert_eq!(*found, first);
    assert!(exams.remove("ct", &study("1.2")).await.unwrap());
    assert!(!exams.remove("ct", &study("1.2")).await.unwrap());
    assert!(exams.get("ct", &study("1.2")).await.unwrap().is_none());
    drop(exams);
    let exams = Exams::open(folder.path()).unwrap();
    assert!(exams.get("ct", &study("1.2")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_newer_kos_takes_the_place_of_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(exam("ct", "1.2", "1.9")).await.unwrap();
    exams.get("ct", &study("1.2")).await.unwrap();
    exams.put(exam("ct", "1.2", "1.10")).await.unwrap();
    let found = exams.get("ct", &study("1.2")).await.unwrap().unwrap();
    assert_eq!(found.kos.as_str(), "1.10");
    assert_eq!(exams.list(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_study_of_another_pacs_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(exam("ct", "1.2", "1.9")).await.unwrap();
    assert!(exams.get("mr", &study("1.2")).await.unwrap().is_none());
    assert!(exams.get("ct", &study("1.22")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_damaged_file_is_told_and_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(exam("ct", "1.2", "1.9")).await.unwrap();
    exams.put(exam("ct", "1.3", "1.9")).await.unwrap();
    let path = |uid| exams.inner.path(&key("ct", &study(uid)));
    // One exam's file in the place of another's, then half a file.
    fs::copy(path("1.3"), path("1.2")).unwrap();
    let reopened = Exams::open(folder.path()).unwrap();
    let outcome = reopened.get("ct", &study("1.2")).await;
    assert!(
        matches!(outcome, Err(ExamError::Damaged { .. })),
        "{outcome:?}"
    );
    let whole = fs::read(path("1.3")).unwrap();
    fs::write(path("1.3"), &whole[..whole.len() / 2]).unwrap();
    let outcome = reopened.get("ct", &study("1.3")).await;
    assert!(
        matches!(outcome, Err(ExamError::Damaged { .. })),
        "{outcome:?}"
    );
    assert!(reopened.list(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_a_crash_left_half_written_is_gone_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(exam("ct", "1.2", "1.9")).await.unwrap();
    let half = folder.path().join(UNFINISHED).join("00");
    fs::write(&half, "{\"vers").unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    assert!(!half.exists());
    let found = exams.get("ct", &study("1.2")).await.unwrap().unwrap();
    assert_eq!(found.kos.as_str(), "1.9");
}

#[tokio::test]
async fn an_exam_that_cannot_be_written_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    exams.put(exam("ct", "1.2", "1.9")).await.unwrap();
    fs::remove_dir_all(folder.path().join(UNFINISHED)).unwrap();
    let outcome = exams.put(exam("ct", "1.2", "1.10")).await;
    assert!(matches!(outcome, Err(ExamError::Io { .. })), "{outcome:?}");
    let found = exams.get("ct", &study("1.2")).await.unwrap().unwrap();
    assert_eq!(found.kos.as_str(), "1.9");
}

#[test]
fn what_a_kos_names_is_told_from_what_it_does_not() {
    let exam = exam("ct", "1.2", "1.9");
    let series = |uid| SeriesUid::parse(uid).unwrap();
    let instance = |uid| InstanceUid::parse(uid).unwrap();
    assert!(exam.has_series(&series("1.2.1")) && !exam.has_series(&series("1.2.2")));
    assert!(exam.has_instance(&series("1.2.1"), &instance("1.2.1.1")));
    assert!(!exam.has_instance(&series("1.2.2"), &instance("1.2.1.1")));
    assert!(!exam.has_instance(&series("1.2.1"), &instance("1.2.1.2")));
}

#[test]
fn an_exam_without_content_or_with_doubles_is_not_taken() {
    let good = exam("ct", "1.2", "1.9");
    assert_eq!(good.check(), Ok(()));
    let mut empty = good.clone();
    empty.series[0].instances.clear();
    assert_eq!(empty.check(), Err(InvalidExam::Empty));
    let mut twice = good.clone();
    twice.series.push(good.series[0].clone());
    assert_eq!(twice.check(), Err(InvalidExam::Twice));
    let mut long = good;
    long.cda_id = Some("1".repeat(257));
    assert_eq!(long.check(), Err(InvalidExam::Text));
}

#[tokio::test]
async fn the_identity_of_the_kos_is_kept_and_a_record_of_before_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    let mut named = exam("ct", "1.2", "1.9");
    exams.put(named.clone()).await.unwrap();
    let path = exams.inner.path(&key("ct", &study("1.2")));
    let written = fs::read_to_string(&path).unwrap();
    assert!(!written.contains("identity"), "as records of before are");
    named.identity = PersonIdentity {
        name: Some("ESSAI^AMELIE".into()),
        other_names: vec!["^AMELIE JEANNE".into()],
        birth_place: Some("63220".into()),
        ..PersonIdentity::default()
    };
    exams.put(named.clone()).await.unwrap();
    let reopened = Exams::open(folder.path()).unwrap();
    let found = reopened.get("ct", &study("1.2")).await.unwrap().unwrap();
    assert_eq!(*found, named);
    fs::write(&path, written).unwrap();
    let reopened = Exams::open(folder.path()).unwrap();
    let found = reopened.get("ct", &study("1.2")).await.unwrap().unwrap();
    assert_eq!(found.identity, PersonIdentity::default());
}

#[test]
fn a_comment_is_no_place_of_birth_and_an_endless_name_is_no_name() {
    let written = PersonIdentity {
        name: Some("N".repeat(MAX_TRAIT + 1)),
        other_names: vec!["^A".into(); MAX_NAMES + 1],
        birth_place: Some("allergic to iodine".into()),
        ..PersonIdentity::default()
    };
    let kept = identity(&written);
    assert_eq!((kept.name, kept.birth_place), (None, None));
    assert_eq!(kept.other_names.len(), MAX_NAMES);
    let corsican = PersonIdentity {
        birth_place: Some("2A004".into()),
        ..PersonIdentity::default()
    };
    assert_eq!(identity(&corsican), corsican);
    let mut named = exam("ct", "1.2", "1.9");
    named.identity = written;
    assert_eq!(named.check(), Err(InvalidExam::Identity));
}

#[test]
fn nothing_of_the_patient_nor_of_the_order_is_printed() {
    let text = format!("{:?}", exam("ct", "1.2", "1.9"));
    assert!(
        !text.contains("279035121518989") && !text.contains("A1"),
        "{text}"
    );
}

#[tokio::test]
async fn a_report_stays_with_its_exam_and_goes_with_it() {
    use std::io::Read as _;
    let folder = tempfile::tempdir().unwrap();
    let exams = Exams::open(folder.path()).unwrap();
    let put = async |pdf: &[u8]| {
        exams
            .put_report("ct", &study("1.2"), pdf.to_vec())
            .await
            .unwrap()
    };
    assert!(!put(b"%PDF-1").await, "nothing is published");
    exams.put(exam("ct", "1.2", "1.9")).await.unwrap();
    assert!(put(b"%PDF-1").await && put(b"%PDF-22").await);
    exams.put(exam("ct", "1.2", "1.10")).await.unwrap();
    let reopened = Exams::open(folder.path()).unwrap();
    let (mut file, length) = reopened.report("ct", &study("1.2")).await.unwrap().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), length), ("%PDF-22", 7));
    assert_eq!(reopened.list(9).await.unwrap().len(), 1);
    assert!(
        reopened
            .report("mr", &study("1.2"))
            .await
            .unwrap()
            .is_none()
    );
    reopened.remove("ct", &study("1.2")).await.unwrap();
    assert!(
        reopened
            .report("ct", &study("1.2"))
            .await
            .unwrap()
            .is_none()
    );
}
