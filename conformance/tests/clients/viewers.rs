//! What viewers write in their requests, word for word: Cornerstone's DICOM image loader 5.14 and
//! cornerstone-wado-image-loader 4.13 (`wadors/loadImage`), OHIF 3 (`generateAcceptHeader`,
//! `DicomWebDataSource/qido`), and the dicomweb-client of npm, which joins its own `Accept` and
//! OHIF's with a comma.

use conformance::samples::Instance;
use conformance::testkit::{Client, Response};

use crate::support::{exam, folder, instance_path, run, series_path};
use crate::{frames_of, site};

/// Every loader's, unless it is configured.
const CORNERSTONE: &str = "multipart/related; type=application/octet-stream; transfer-syntax=*";
/// OHIF's, unless it is configured.
const OHIF: &str = "multipart/related; type=\"application/octet-stream\"; transfer-syntax=\"*\"";
/// OHIF's, with `omitQuotationForMultipartRequest` and `requestTransferSyntaxUID`.
const OHIF_JPEG_LS: &str =
    "multipart/related; type=image/jls; transfer-syntax=1.2.840.10008.1.2.4.80; transfer-syntax=*";
/// The same, with quotation marks.
const OHIF_JPEG_LS_QUOTED: &str = "multipart/related; type=\"image/jls\"; transfer-syntax=\"1.2.840.10008.1.2.4.80\"; transfer-syntax=\"*\"";
/// OHIF's for a gateway that is to decode.
const OHIF_EXPLICIT: &str =
    "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1";
/// The npm client's, followed by OHIF's.
const METADATA: &str = "application/dicom+json, multipart/related; type=\"application/octet-stream\"; transfer-syntax=\"*\"";

async fn get(path: &str, accept: Option<&str>) -> Response {
    let url = site().await.gateway.local_url() + path;
    let call = Client::plain().unwrap().get(&url);
    let call = match accept {
        Some(accept) => call.accept(accept),
        None => call,
    };
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path} {accept:?}");
    answer
}

/// The only part of an answer, with its media type.
async fn frame(path: &str, accept: &str, name: &str) -> (String, Vec<u8>) {
    let into = folder(name);
    let body = get(path, Some(accept))
        .await
        .multipart_to(&into)
        .await
        .unwrap();
    assert!(body.is_complete(), "{accept}");
    assert_eq!(body.parts.len(), 1, "{accept}");
    let bytes = std::fs::read(into.join("0.part")).unwrap();
    (body.parts[0].content_type().to_owned(), bytes)
}

fn first(name: &str) -> (String, &'static Instance) {
    let exam = exam(name);
    let path = instance_path(exam, &exam.series[0], 0);
    (path, &exam.series[0].instances[0])
}

#[test]
fn every_frame_request_of_a_viewer_is_answered_in_the_form_it_decodes() {
    run(async {
        // The loader decodes by the transfer syntax of the part, whatever its media type.
        const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
        const EXPLICIT: &str = "1.2.840.10008.1.2.1";
        for (exam, accept, media_type, syntax) in [
            ("ct", CORNERSTONE, "application/octet-stream", JPEG_LS),
            ("ct", OHIF, "application/octet-stream", JPEG_LS),
            ("ct", OHIF_JPEG_LS, "image/jls", JPEG_LS),
            ("ct", OHIF_JPEG_LS_QUOTED, "image/jls", JPEG_LS),
            ("ct", OHIF_EXPLICIT, "application/octet-stream", EXPLICIT),
            ("mr", CORNERSTONE, "application/octet-stream", EXPLICIT),
            ("mr", OHIF, "application/octet-stream", EXPLICIT),
            (
                "multiframe",
                CORNERSTONE,
                "application/octet-stream",
                EXPLICIT,
            ),
            ("enhanced-ct", OHIF, "application/octet-stream", JPEG_LS),
        ] {
            let (path, instance) = first(exam);
            let what = format!("{exam} {accept}");
            let (kind, bytes) = frame(&format!("{path}/frames/1"), accept, "viewers").await;
            assert_eq!(
                kind,
                format!("{media_type}; transfer-syntax={syntax}"),
                "{what}"
            );
            let (stored, samples) = frames_of(instance);
            let expected = if syntax == EXPLICIT {
                &samples
            } else {
                &stored
            };
            assert!(bytes == expected[0], "{what}: other bytes");
        }
    });
}

#[test]
fn the_requests_of_ohif_before_the_first_image_are_answered() {
    run(async {
        let exam = exam("ct");
        let series = series_path(exam, &exam.series[0]);
        let answer = get(&format!("{series}/metadata"), Some(METADATA)).await;
        assert_eq!(answer.header("content-type"), "application/dicom+json");
        let metadata = answer.json().await.unwrap();
        assert_eq!(metadata.as_array().unwrap().len(), exam.series[0].count);
        let other = crate::support::exam("mr");
        let (uid, uid2) = (&exam.study_instance_uid, &other.study_instance_uid);
        let id = &exam.patient_id;
        let same = crate::support::exams().exams.iter();
        let same = same.filter(|other| other.patient_id.contains(id)).count();
        let page = "limit=101&offset=0&fuzzymatching=false\
                    &includefield=00081030%2C00080060%2C00080090%2C00100030";
        for (query, found) in [
            (format!("StudyInstanceUID={uid}"), 1),
            // A list of studies is joined with a backslash.
            (format!("StudyInstanceUID={uid}%5C{uid2}"), 2),
            (format!("00100020=*{id}*&StudyDate=19000101-21000101"), same),
        ] {
            let query = format!("{query}&{page}");
            let answer = get(&format!("/studies?{query}"), Some("application/dicom+json")).await;
            let studies = answer.json().await.unwrap();
            let studies = studies.as_array().unwrap();
            assert_eq!(studies.len(), found, "{query}");
            for tag in ["0020000D", "00080020", "00081030", "00201208", "00080061"] {
                assert!(studies[0].get(tag).is_some(), "{query}: no {tag}");
            }
        }
        // An <img> of a page: no Accept that the page could choose.
        let (path, _) = first("ct");
        for picture in [
            format!("{path}/thumbnail?accept=image/jpeg"),
            format!("{path}/rendered?accept=image%2Fjpeg"),
        ] {
            let answer = get(&picture, None).await;
            assert_eq!(answer.header("content-type"), "image/jpeg");
            crate::assert_jpeg(&answer.bytes().await.unwrap());
        }
    });
}
