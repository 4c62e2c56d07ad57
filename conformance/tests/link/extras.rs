//! What the page offers besides images: the report, and the exam as one file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use conformance::testkit::psc::left_out;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use http::Method;
use std::io::Write as _;

use crate::site::{EXAM, HOSTS, OTHER, Site, report_of};
use crate::support::{SINGLE, exam, instance_path, run};
use crate::visitor::{SESSION, Visitor};

const REPORT: &str = "/viewer/api/report";
const ARCHIVE: &str = "/viewer/api/archive";
const PROGRESS: &str = "/viewer/api/archive/progress";
const PDF: &[u8] = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF";

/// A report of an exam with this text and content.
fn cda(name: &str, title: &str, compression: &str, content: &[u8]) -> String {
    let id = report_of(name);
    let (root, extension) = id.split_once('^').unwrap();
    let content = STANDARD.encode(content);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ClinicalDocument xmlns=\"urn:hl7-org:v3\">\
         <id root=\"{root}\" extension=\"{extension}\"/><title>{title}</title><component><nonXMLBody>\
         <text mediaType=\"application/pdf\" representation=\"B64\"{compression}>{content}</text>\
         </nonXMLBody></component></ClinicalDocument>"
    )
}

#[test]
fn the_report_of_the_exam_is_shown_and_nothing_of_it_runs() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert!(told["report"].is_null());
        assert_eq!(visitor.status(REPORT).await, 404);
        // What is in a CDA besides its PDF stays there: also where it would be a script.
        let script = "&lt;script&gt;alert(1)&lt;/script&gt;";
        site.report(EXAM, &cda(EXAM, script, "", PDF))
            .await
            .unwrap();
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(told["report"]["href"], REPORT);
        assert!(!told.to_string().contains("alert(1)"));
        let answer = visitor.get(REPORT).await;
        assert_eq!(answer.status(), 200);
        for (name, value) in [
            ("content-type", "application/pdf"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-embedder-policy", "require-corp"),
        ] {
            assert_eq!(answer.header(name), value, "{name}");
        }
        let policy = answer.header("content-security-policy").to_owned();
        assert!(policy.contains("sandbox") && policy.starts_with("default-src 'none'"));
        assert_eq!(&answer.bytes().await.unwrap()[..], PDF);
        let answer = visitor.get(&format!("{REPORT}?download")).await;
        assert!(
            answer
                .header("content-disposition")
                .starts_with("attachment")
        );
        // Nobody else's.
        assert_eq!(Visitor::new(&site).status(REPORT).await, 401);
        let other = Visitor::with_exam(&site, OTHER).await;
        assert_eq!(other.status(REPORT).await, 404);
        let elsewhere = Visitor::at(&site, HOSTS[1]);
        elsewhere.bring(SESSION, &visitor.cookie(SESSION).unwrap());
        assert_eq!(elsewhere.status(REPORT).await, 401);
    });
}

#[test]
fn a_report_that_is_a_bomb_another_document_or_no_pdf_is_not_taken() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let mut bomb = ZlibEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(b"%PDF-").unwrap();
        for _ in 0..200 {
            bomb.write_all(&[b' '; 1 << 20]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let page = b"<html><script>alert(1)</script></html>";
        let entity = "<!DOCTYPE x [<!ENTITY f SYSTEM \"file:///etc/passwd\">]><ClinicalDocument>&f;</ClinicalDocument>";
        for (document, says) in [
            (cda(OTHER, "x", " compression=\"ZL\"", &bomb), "larger"),
            (cda(OTHER, "x", "", page), "damaged"),
            (cda(EXAM, "x", "", PDF), "not that of the report"),
            (entity.to_owned(), "no CDA document that can be read"),
        ] {
            let refused = site.report(OTHER, &document).await.unwrap_err();
            assert!(refused.contains(says), "{refused}");
            assert!(!refused.contains("root:"), "{refused}");
        }
        let visitor = Visitor::with_exam(&site, OTHER).await;
        assert_eq!(visitor.status(REPORT).await, 404);
    });
}

/// Unpacks with Info-ZIP, which checks every sum.
fn unpacked(archive: &[u8], folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let file = folder.join("examen.zip");
    fs::write(&file, archive).unwrap();
    let mut unzip = Command::new("unzip");
    unzip.arg("-q").arg(&file).arg("-d").arg(folder);
    let output = unzip.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

fn dcmdump(arguments: &[&str], file: &Path) -> String {
    let mut dump = Command::new("dcmdump");
    dump.args(arguments).arg(file);
    let output = dump.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_exam_comes_as_one_file_with_a_directory_that_dicom_tools_read() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-archive", |config, _| {
            config.set("viewer.download", true)
        })
        .await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let own = exam(EXAM);
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(
            (&told["download"], &told["instances"]),
            (&true.into(), &own.series[0].count.into())
        );
        let before = visitor.get(PROGRESS).await.json().await.unwrap();
        assert_eq!(before["state"], "none");
        let answer = visitor.get(ARCHIVE).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("content-type"), "application/zip");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(
            answer.header("x-instances"),
            own.series[0].count.to_string()
        );
        assert!(!answer.header("content-disposition").contains("ESSAI"));
        let archive = answer.bytes().await.unwrap();
        let after = visitor.get(PROGRESS).await.json().await.unwrap();
        assert_eq!(after["state"], "done");
        assert_eq!(after["sent"], after["total"]);

        let folder = site.home.join("unpacked");
        unpacked(&archive, &folder);
        assert!(
            fs::read_to_string(folder.join("LISEZMOI.TXT"))
                .unwrap()
                .contains("DICOMDIR")
        );
        // The instances of the KOS and no other.
        let images = folder.join("DICOM/S00001");
        let names: Vec<_> = fs::read_dir(&images)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(names.len(), own.series[0].count);
        let mut uids = BTreeSet::new();
        for name in &names {
            let dump = dcmdump(&["-q", "+P", "0008,0018", "-M"], name);
            uids.extend(
                own.series[0]
                    .instances
                    .iter()
                    .map(|one| &one.sop_instance_uid)
                    .filter(|uid| dump.contains(&format!("[{uid}]"))),
            );
        }
        assert_eq!(uids.len(), own.series[0].count);
        // Each is what a retrieval on this name gives, with the INS of the KOS among its identifiers.
        let mut retrieved = BTreeSet::new();
        for at in 0..own.series[0].count {
            let path = "/dicom-web".to_owned() + &instance_path(own, &own.series[0], at);
            let fields = [("accept", SINGLE)];
            let answer = visitor.ask(Method::GET, &path, &fields, "").await;
            retrieved.insert(answer.bytes().await.unwrap().to_vec());
        }
        let stored: BTreeSet<_> = names.iter().map(|name| fs::read(name).unwrap()).collect();
        assert!(stored == retrieved, "the archive has other objects");
        let identifiers = dcmdump(&["-q", "+P", "0010,0020"], &names[0]);
        assert!(identifiers.contains("[299999999999999]"), "{identifiers}");
        // dcmtk reads the directory, and each of its records names a file that is there.
        let directory = dcmdump(&["-q", "+L"], &folder.join("DICOMDIR"));
        for kind in ["PATIENT", "STUDY", "SERIES", "IMAGE"] {
            assert!(directory.contains(&format!("[{kind}]")), "{kind}");
        }
        let files: Vec<&str> = directory
            .lines()
            .filter(|line| line.contains("(0004,1500)"))
            .collect();
        assert_eq!(files.len(), own.series[0].count);
        for line in files {
            let name = line.split(['[', ']']).nth(1).unwrap().replace('\\', "/");
            assert!(folder.join(&name).is_file(), "{name}");
        }
        // dcmtk's own tool goes on with it: it updates the record of an instance that is there, and loses none.
        let mut more = Command::new("dcmmkdir");
        more.current_dir(&folder);
        more.args([
            "-q", "+U", "-nb", "-Nxc", "-Nec", "-Nrc", "+I", "-W", "+D", "DICOMDIR",
        ]);
        let output = more.arg("DICOM/S00001/I0000001").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let again = dcmdump(&["-q", "+L"], &folder.join("DICOMDIR"));
        assert_eq!(again.matches("[IMAGE]").count(), own.series[0].count);

        // The trail has it once, before the first byte.
        let events = site.events();
        let seen = events.iter().filter(|event| {
            event["object"]["resource"] == "archive" && event["kind"] == "images-seen"
        });
        assert_eq!(seen.count(), 1);
        // Nobody else's.
        for path in [ARCHIVE, PROGRESS] {
            assert_eq!(Visitor::new(&site).status(path).await, 401, "{path}");
        }
    });
}

#[test]
fn an_archive_that_misses_an_image_is_no_archive() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::with("link-broken-archive", |config, _| {
            config.set("viewer.download", true)
        })
        .await;
        // The KOS names one instance that the PACS does not have.
        site.publish_with(EXAM, |kos| {
            kos.series[0].instances.push((
                "1.2.840.10008.5.1.4.1.1.2".into(),
                "1.2.250.1.999.404".into(),
            ));
        })
        .await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let answer = visitor.get(ARCHIVE).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.drain().await.broken.is_some(), "the client is told");
        let after = visitor.get(PROGRESS).await.json().await.unwrap();
        assert_eq!(after["state"], "failed");
    });
}

#[test]
fn without_the_centres_leave_there_is_no_archive() {
    if left_out() {
        return;
    }
    run(async {
        let site = Site::lock().await;
        let visitor = Visitor::with_exam(&site, EXAM).await;
        let told = visitor.get("/viewer/api/exam").await.json().await.unwrap();
        assert_eq!(told["download"], false);
        assert_eq!(visitor.status(ARCHIVE).await, 404);
    });
}
