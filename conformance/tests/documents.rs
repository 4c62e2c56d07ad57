//! Objects that are no images, as they are shown: documents and videos in their own format, reports
//! as a page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;

use conformance::samples::Instance;
use dicom_dictionary_std::{tags, uids};
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::is_video;
use support::compare::Part10;
use support::pair::{Pair, path_of};
use support::{exam, exams, run};

fn of_class(exam_name: &str, sop_class: &str) -> &'static Instance {
    let mut all = exam(exam_name).instances();
    all.find(|one| one.sop_class_uid == sop_class).unwrap()
}

fn stored(instance: &Instance) -> Part10 {
    Part10::read(&fs::read(exams().path(instance)).unwrap())
}

#[test]
fn a_document_is_shown_in_its_own_format() {
    run(async {
        let pair = Pair::over("documents", support::files(&["documents"])).await;
        let pdf = of_class("documents", uids::ENCAPSULATED_PDF_STORAGE);
        let object = stored(pdf);
        let document = object
            .data_set
            .element(tags::ENCAPSULATED_DOCUMENT)
            .unwrap();
        let document = document.to_bytes().unwrap();
        for accept in ["application/pdf", "*/*", "image/png, application/*;q=0.1"] {
            let answer = pair.get(pdf, "/rendered", accept).await;
            assert_eq!(answer.status(), 200, "{accept}");
            assert_eq!(answer.header("content-type"), "application/pdf");
            assert!(answer.header("content-security-policy").contains("sandbox"));
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            let bytes = answer.bytes().await.unwrap();
            assert!(bytes.starts_with(b"%PDF"));
            assert!(document.starts_with(&bytes) && document.len() <= bytes.len() + 1);
        }
        let picture = pair.get(pdf, "/rendered", "image/png").await;
        assert_eq!(picture.status(), 406);
        assert!(picture.text().await.unwrap().contains("application/pdf"));
    });
}

#[test]
fn a_report_is_shown_as_a_page() {
    run(async {
        let pair = Pair::over("reports", support::files(&["documents"])).await;
        let reports = exam("documents")
            .instances()
            .filter(|one| one.sop_class_uid.starts_with("1.2.840.10008.5.1.4.1.1.88."));
        let mut count = 0;
        for report in reports {
            let answer = pair.get(report, "/rendered", "text/html").await;
            assert_eq!(answer.status(), 200, "{}", report.file);
            assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
            assert!(
                answer
                    .header("content-security-policy")
                    .contains("default-src 'none'")
            );
            let page = answer.text().await.unwrap();
            let name = exam("documents").patient_name.replace('^', " ");
            assert!(page.contains(&format!("<dd>{name}</dd>")), "{page}");
            count += 1;
        }
        assert!(count > 0);
    });
}

#[test]
fn a_video_is_shown_as_the_stream_that_is_stored_whole_or_in_part() {
    run(async {
        let pair = Pair::over("videos", support::files(&["syntaxes"])).await;
        let videos = exam("syntaxes")
            .instances()
            .filter(|one| is_video(&TransferSyntaxUid::parse(&one.transfer_syntax_uid).unwrap()));
        let mut count = 0;
        for video in videos {
            let object = stored(video);
            let pixels = object.data_set.element(tags::PIXEL_DATA).unwrap();
            let stream = pixels.value().fragments().unwrap().concat();
            let answer = pair.get(video, "/rendered", "video/*").await;
            assert_eq!(answer.status(), 200, "{}", video.file);
            assert!(answer.header("content-type").starts_with("video/mp"));
            assert_eq!(answer.header("accept-ranges"), "bytes");
            assert!(answer.bytes().await.unwrap() == stream, "{}", video.file);
            let url = pair.gateway.local_url() + &path_of(video) + "/rendered";
            let call = pair.client.get(&url).accept("video/*");
            let part = call.header("range", "bytes=10-19").send().await.unwrap();
            assert_eq!(part.status(), 206);
            assert_eq!(part.bytes().await.unwrap(), stream[10..20]);
            count += 1;
        }
        assert_eq!(count, 4);
    });
}
