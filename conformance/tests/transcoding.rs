//! Every form of `Accept` that clients send against every transfer syntax that a PACS stores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use conformance::samples::Instance;
use conformance::testkit::{Client, FaultyPacs, Gateway, GatewayConfig, PacsConfig, Response};
use dicom_core::value::PixelFragmentSequence;
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::FileMetaTableBuilder;
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::{TranscodeOptions, is_video, transcode};
use support::compare::{BIG_ENDIAN, Part10};
use support::pair::{Pair, path_of};
use support::{exam, exams, folder, metric, run, until};

const STORED: [&str; 17] = [
    uids::IMPLICIT_VR_LITTLE_ENDIAN,
    uids::EXPLICIT_VR_LITTLE_ENDIAN,
    BIG_ENDIAN,
    uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    uids::RLE_LOSSLESS,
    uids::JPEG_BASELINE8_BIT,
    uids::JPEG_EXTENDED12_BIT,
    uids::JPEG_LOSSLESS,
    uids::JPEG_LOSSLESS_SV1,
    uids::JPEGLS_LOSSLESS,
    uids::JPEGLS_NEAR_LOSSLESS,
    uids::JPEG2000_LOSSLESS,
    uids::JPEG2000,
    uids::MPEG2MPML,
    uids::MPEG2MPHL,
    uids::MPEG4HP41,
    uids::MPEG4HP41BD,
];

/// The images have more than 8 bits, which JPEG baseline does not hold.
///
/// What becomes of an instance: `=` as stored, `e` explicit VR little endian, `l` JPEG-LS, `r` RLE,
/// `j` JPEG baseline, `-` 406. A letter for each of [`STORED`].
type Expected = &'static str;

/// The form of the whole: several parts, or one file.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Parts,
    OneFile,
}

/// The list of DRIM-M that prefers what is lossless, as it is sent: one line, a comma at its end, a
/// boundary that is none.
const LOSSLESS_PREFERRED: &str = "multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.70;q=0.9;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.80;q=0.8;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.91;q=0.6;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.50;q=0.5;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.51;q=0.5;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.100;q=0.5;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.101;q=0.5;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.102;q=0.5;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.103;q=0.5;boundary=**,\
multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.1;q=0.4;boundary=**,";

/// The list of DRIM-M that prefers small images, as several lines of which the later leave the media
/// type out.
const LOSSY_PREFERRED: [&str; 7] = [
    "multipart/related; type=\"application/dicom\";transfer-syntax=1.2.840.10008.1.2.4.50;q=0.9;boundary=myboundary",
    "transfer-syntax=1.2.840.10008.1.2.4.51;q=0.9;boundary=myboundary",
    "transfer-syntax=1.2.840.10008.1.2.4.70;q=0.6;boundary=myboundary",
    "transfer-syntax=1.2.840.10008.1.2.4.80;q=0.5;boundary=myboundary",
    "transfer-syntax=1.2.840.10008.1.2.4.91;q=0.5;boundary=myboundary",
    "transfer-syntax=1.2.840.10008.1.2.4.100;q=0.5;boundary=myboundary",
    "transfer-syntax=1.2.840.10008.1.2.1;q=0.4;boundary=myboundary",
];

const DICOM: &str = "multipart/related; type=\"application/dicom\"";

/// The forms of `Accept`, each as its lines.
fn forms() -> Vec<(Vec<String>, Form, Expected)> {
    let parts = |accept: &str, expected| (vec![accept.to_owned()], Form::Parts, expected);
    let named = |syntax: &str, expected| {
        let accept = format!("{DICOM}; transfer-syntax={syntax}");
        (vec![accept], Form::Parts, expected)
    };
    let file = |accept: &str, expected| (vec![accept.to_owned()], Form::OneFile, expected);
    const ANY: Expected = "e=e= ========= ====";
    const PLAIN: Expected = "e=ee eeeeeeeee ====";
    const NONE: Expected = "---- --------- ----";
    vec![
        named("*", ANY),
        named("\"*\"", ANY),
        // Without quotes, in another order, with a boundary.
        parts(
            "multipart/related;transfer-syntax=*;boundary=x;type=application/dicom",
            ANY,
        ),
        parts("multipart/related; type=\"*/*\"; transfer-syntax=*", ANY),
        parts("*/*; transfer-syntax=*", ANY),
        file("application/dicom; transfer-syntax=*", ANY),
        file("application/dicom; transfer-syntax=*, */*; q=0.1", ANY),
        // No syntax is named: the default of the standard.
        (Vec::new(), Form::Parts, PLAIN),
        parts("*/*", PLAIN),
        parts(DICOM, PLAIN),
        parts("multipart/related; type=application/dicom", PLAIN),
        parts("multipart/related", PLAIN),
        parts("multipart/related; type=\"*/*\"", PLAIN),
        file("application/dicom", PLAIN),
        // One syntax is named.
        named(uids::EXPLICIT_VR_LITTLE_ENDIAN, "e=ee eeeeeeeee ----"),
        named(uids::JPEGLS_LOSSLESS, "llll lllll=lll ----"),
        named(uids::RLE_LOSSLESS, "rrrr =rrrrrrrr ----"),
        named(uids::JPEG_BASELINE8_BIT, "---- -=------- ----"),
        named(uids::JPEG2000_LOSSLESS, "---- -------=- ----"),
        named(uids::IMPLICIT_VR_LITTLE_ENDIAN, NONE),
        named(uids::MPEG4HP41, "---- --------- --=-"),
        file(
            "application/dicom; transfer-syntax=1.2.840.10008.1.2.1",
            "e=ee eeeeeeeee ----",
        ),
        // Several are: what is stored first, then by weight.
        parts(LOSSLESS_PREFERRED, "e=ee l==l==ll= ===="),
        (
            LOSSY_PREFERRED.map(str::to_owned).to_vec(),
            Form::Parts,
            "e=ee l==l==ll= =---",
        ),
        parts(
            &format!(
                "{DICOM}; transfer-syntax=*, {DICOM}; transfer-syntax=1.2.840.10008.1.2.4.80; q=0"
            ),
            "e=e= =====e=== ====",
        ),
        // Other media types are for other resources.
        parts(
            "multipart/related; type=\"image/jls\"; transfer-syntax=*",
            NONE,
        ),
        parts("application/dicom+json", NONE),
        parts("image/jpeg", NONE),
        parts(&format!("{DICOM}; transfer-syntax=*; q=0"), NONE),
    ]
}

#[test]
fn every_form_of_accept_gets_what_it_asks_of_every_stored_syntax() {
    run(async {
        let instances: Vec<&Instance> = exam("syntaxes").instances().collect();
        let files = instances.iter().map(|one| exams().path(one)).collect();
        let pair = Pair::over("accept", files).await;
        let into = folder("accept-parts");
        for (lines, form, expected) in forms() {
            let expected: Vec<char> = expected.chars().filter(|c| *c != ' ').collect();
            assert_eq!(expected.len(), STORED.len());
            let mut got = String::new();
            for stored in STORED {
                let instance = instances.iter().find(|i| i.transfer_syntax_uid == stored);
                let instance = instance.unwrap();
                let url = pair.gateway.local_url() + &path_of(instance);
                let mut call = pair.client.get(&url);
                for line in &lines {
                    call = call.accept(line);
                }
                let answer = call.send().await.unwrap();
                got.push(letter(answer, form, instance, &into).await);
            }
            let expected: String = expected.into_iter().collect();
            assert_eq!(got, expected, "{lines:?}");
        }
    });
}

/// What became of an instance; the parts are what they say they are, with the pixels they must have.
async fn letter(answer: Response, form: Form, instance: &Instance, into: &Path) -> char {
    if answer.status() == 406 {
        let problem = answer.text().await.unwrap();
        assert!(problem.contains("remedy"), "{problem}");
        return '-';
    }
    assert_eq!(answer.status(), 200, "{}", instance.file);
    let kind = answer.header("content-type").to_owned();
    let (kind, bytes) = match form {
        Form::OneFile => {
            let length: usize = answer.header("content-length").parse().unwrap_or_default();
            let bytes = answer.bytes().await.unwrap();
            assert!(length == 0 || length == bytes.len());
            (kind, bytes.to_vec())
        }
        Form::Parts => {
            assert!(kind.starts_with("multipart/related"), "{kind}");
            let body = answer.multipart_to(into).await.unwrap();
            assert!(body.is_complete() && body.parts.len() == 1);
            let part = fs::read(into.join("0.part")).unwrap();
            (body.parts[0].content_type().to_owned(), part)
        }
    };
    let what = format!("{} as {kind}", instance.file);
    assert_eq!(bytes.get(128..132), Some(&b"DICM"[..]), "{what}");
    let object = Part10::read(&bytes);
    let syntax = object.meta.transfer_syntax().to_owned();
    assert_eq!(kind, format!("application/dicom; transfer-syntax={syntax}"));
    assert_eq!(object.instance(), instance.sop_instance_uid);
    if syntax == instance.transfer_syntax_uid {
        let stored = Part10::read(&fs::read(exams().path(instance)).unwrap());
        assert!(pixels(&object) == pixels(&stored), "{}", instance.file);
        return '=';
    }
    let letter = match syntax.as_str() {
        uids::EXPLICIT_VR_LITTLE_ENDIAN => 'e',
        uids::JPEGLS_LOSSLESS => 'l',
        uids::RLE_LOSSLESS => 'r',
        uids::JPEG_BASELINE8_BIT => 'j',
        other => panic!("{}: {other}", instance.file),
    };
    if letter != 'j' {
        let file = into.join("again.dcm");
        fs::write(&file, &bytes).unwrap();
        let (ours, theirs) = (plain(&file), plain(&exams().path(instance)));
        assert!(
            pixels(&ours) == pixels(&theirs),
            "{} {letter}",
            instance.file
        );
    }
    letter
}

/// A file in explicit VR little endian.
fn plain(path: &Path) -> Part10 {
    let explicit = TransferSyntaxUid::parse(uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
    let mut out = Vec::new();
    let options = TranscodeOptions::default();
    transcode(File::open(path).unwrap(), &explicit, &options, &mut out).unwrap();
    Part10::read(&out)
}

fn pixels(object: &Part10) -> Vec<u8> {
    let element = object.data_set.element(tags::PIXEL_DATA).unwrap();
    match element.value().fragments() {
        Some(fragments) => fragments.concat(),
        None => element.to_bytes().unwrap().into_owned(),
    }
}

/// The forms of `Accept` for frames. What becomes of one: `=` the stored code stream, `o` its samples, `-` 406.
fn forms_of_frames() -> Vec<(&'static str, Form, Expected)> {
    const PARTS: Form = Form::Parts;
    const FILE: Form = Form::OneFile;
    vec![
        ("", PARTS, "oooo ooooooooo ===="),
        ("*/*", PARTS, "oooo ooooooooo ===="),
        ("multipart/related", PARTS, "oooo ooooooooo ===="),
        (
            "multipart/related; type=\"*/*\"; transfer-syntax=*",
            PARTS,
            "oooo ========= ====",
        ),
        (
            "multipart/related; type=\"application/octet-stream\"",
            PARTS,
            "oooo ooooooooo ----",
        ),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
            PARTS,
            "oooo ooooooooo ----",
        ),
        // Of Cornerstone, of OHIF.
        (
            "multipart/related; type=\"application/octet-stream\"; transfer-syntax=*",
            PARTS,
            "oooo ========= ====",
        ),
        (
            "multipart/related; type=application/octet-stream; transfer-syntax=*; transfer-syntax=*",
            PARTS,
            "oooo ========= ====",
        ),
        (
            "multipart/related; type=\"image/jls\"",
            PARTS,
            "---- -----==-- ----",
        ),
        (
            "multipart/related; type=\"image/jls\"; transfer-syntax=1.2.840.10008.1.2.4.80",
            PARTS,
            "---- -----=--- ----",
        ),
        (
            "multipart/related; type=image/jls; transfer-syntax=*",
            PARTS,
            "---- -----==-- ----",
        ),
        (
            "multipart/related; type=\"image/jp2\"; transfer-syntax=1.2.840.10008.1.2.4.90",
            PARTS,
            "---- -------=- ----",
        ),
        (
            "multipart/related; type=\"image/jp2\"; transfer-syntax=*",
            PARTS,
            "---- -------== ----",
        ),
        (
            "multipart/related; type=\"image/jpeg\"",
            PARTS,
            "---- -====---- ----",
        ),
        (
            "multipart/related; type=\"image/jpeg\"; transfer-syntax=1.2.840.10008.1.2.4.50",
            PARTS,
            "---- -=------- ----",
        ),
        (
            "multipart/related; type=\"image/jpeg\"; transfer-syntax=*",
            PARTS,
            "---- -====---- ----",
        ),
        (
            "multipart/related; type=\"image/dicom-rle\"",
            PARTS,
            "---- =-------- ----",
        ),
        (
            "multipart/related; type=\"video/mpeg2\"; transfer-syntax=*",
            PARTS,
            "---- --------- ==--",
        ),
        (
            "multipart/related; type=\"video/mp4\"; transfer-syntax=*",
            PARTS,
            "---- --------- --==",
        ),
        (
            "multipart/related; type=\"image/jls\"; transfer-syntax=*, multipart/related; type=\"application/octet-stream\"; q=0.5",
            PARTS,
            "oooo ooooo==oo ----",
        ),
        ("application/octet-stream", FILE, "oooo ooooooooo ----"),
        (
            "application/octet-stream; transfer-syntax=*",
            FILE,
            "oooo ========= ====",
        ),
        ("image/jls; transfer-syntax=*", FILE, "---- -----==-- ----"),
        (
            "multipart/related; type=\"application/dicom\"; transfer-syntax=*",
            PARTS,
            "---- --------- ----",
        ),
        ("application/dicom+json", FILE, "---- --------- ----"),
    ]
}

#[test]
fn every_form_of_accept_gets_what_it_asks_of_a_frame_of_every_stored_syntax() {
    run(async {
        let instances: Vec<&Instance> = exam("syntaxes").instances().collect();
        let files = instances.iter().map(|one| exams().path(one)).collect();
        let pair = Pair::over("accept-frames", files).await;
        let into = folder("accept-frame-parts");
        let mut wrong = Vec::new();
        for (accept, form, expected) in forms_of_frames() {
            let expected: String = expected.chars().filter(|c| *c != ' ').collect();
            let mut got = String::new();
            let mut by_parameter = String::new();
            for stored in STORED {
                let instance = instances.iter().find(|i| i.transfer_syntax_uid == stored);
                let instance = instance.unwrap();
                let url = pair.gateway.local_url() + &path_of(instance) + "/frames/1";
                let mut call = pair.client.get(&url);
                if !accept.is_empty() {
                    call = call.accept(accept);
                }
                got.push(frame(call.send().await.unwrap(), form, instance, &into).await);
                if accept.is_empty() {
                    continue;
                }
                // The parameter stands for the field, whatever that says (PS3.18 §8.3.3.1).
                let value: String = accept.bytes().map(|byte| format!("%{byte:02X}")).collect();
                let call = pair.client.get(&format!("{url}?accept={value}"));
                let call = call.accept("application/x-nobody").send();
                by_parameter.push(frame(call.await.unwrap(), form, instance, &into).await);
            }
            if got != expected || !accept.is_empty() && by_parameter != expected {
                wrong.push(format!("{accept}: {got}, {by_parameter} as a parameter"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// The forms of `Accept` for pictures. What becomes of an image: `j` a JPEG, `p` a PNG, `v` the video that
/// is stored, `-` 406.
fn forms_of_pictures() -> Vec<(&'static str, Form, Expected)> {
    const PARTS: Form = Form::Parts;
    const FILE: Form = Form::OneFile;
    const NONE: Expected = "---- --------- ----";
    vec![
        ("", FILE, "jjjj jjjjjjjjj vvvv"),
        ("*/*", FILE, "jjjj jjjjjjjjj vvvv"),
        ("image/*", FILE, "jjjj jjjjjjjjj ----"),
        ("image/jpeg", FILE, "jjjj jjjjjjjjj ----"),
        ("image/png", FILE, "pppp ppppppppp ----"),
        ("image/png, image/jpeg; q=0.9", FILE, "pppp ppppppppp ----"),
        ("image/png; q=0.1, image/*", FILE, "jjjj jjjjjjjjj ----"),
        ("image/gif, image/png", FILE, "pppp ppppppppp ----"),
        // A browser's.
        (
            "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5",
            FILE,
            "pppp ppppppppp vvvv",
        ),
        ("video/mpeg", FILE, "---- --------- vv--"),
        ("video/mp4", FILE, "---- --------- --vv"),
        ("video/*, image/png; q=0.5", FILE, "pppp ppppppppp vvvv"),
        (
            "multipart/related; type=\"image/jpeg\"",
            PARTS,
            "jjjj jjjjjjjjj ----",
        ),
        (
            "multipart/related; type=image/png",
            PARTS,
            "pppp ppppppppp ----",
        ),
        ("image/gif", FILE, NONE),
        ("image/jp2", FILE, NONE),
        ("image/jpeg; q=0, image/png; q=0.0", FILE, NONE),
        ("application/dicom; transfer-syntax=*", FILE, NONE),
        ("application/octet-stream", FILE, NONE),
    ]
}

#[test]
fn every_form_of_accept_gets_what_it_asks_of_a_picture_of_every_stored_syntax() {
    run(async {
        let instances: Vec<&Instance> = exam("syntaxes").instances().collect();
        let files = instances.iter().map(|one| exams().path(one)).collect();
        let pair = Pair::over("accept-pictures", files).await;
        let into = folder("accept-picture-parts");
        let mut wrong = Vec::new();
        for (accept, form, expected) in forms_of_pictures() {
            let expected: String = expected.chars().filter(|c| *c != ' ').collect();
            let (mut got, mut by_parameter) = (String::new(), String::new());
            for stored in STORED {
                let instance = instances.iter().find(|i| i.transfer_syntax_uid == stored);
                let url = pair.gateway.local_url() + &path_of(instance.unwrap()) + "/rendered";
                let mut call = pair.client.get(&url);
                if !accept.is_empty() {
                    call = call.accept(accept);
                }
                got.push(picture(call.send().await.unwrap(), form, &into).await);
                // The parameter stands for the field, whatever that says (PS3.18 §8.3.3.1).
                let value = if accept.is_empty() { "*/*" } else { accept };
                let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
                let call = pair.client.get(&format!("{url}?accept={value}"));
                let call = call.accept("application/x-nobody").send();
                by_parameter.push(picture(call.await.unwrap(), form, &into).await);
            }
            if got != expected || by_parameter != expected {
                wrong.push(format!("{accept}: {got}, {by_parameter} as a parameter"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    });
}

/// What became of a picture, which is what its media type says.
async fn picture(answer: Response, form: Form, into: &Path) -> char {
    if answer.status() == 406 {
        let problem = answer.text().await.unwrap();
        assert!(problem.contains("remedy"), "{problem}");
        return '-';
    }
    assert_eq!(answer.status(), 200);
    let kind = answer.header("content-type").to_owned();
    let (kind, bytes) = match form {
        Form::OneFile => (kind, answer.bytes().await.unwrap().to_vec()),
        Form::Parts => {
            assert!(kind.starts_with("multipart/related"), "{kind}");
            let body = answer.multipart_to(into).await.unwrap();
            assert!(body.is_complete() && body.parts.len() == 1);
            let part = fs::read(into.join("0.part")).unwrap();
            (body.parts[0].content_type().to_owned(), part)
        }
    };
    let (letter, begins): (char, &[u8]) = match kind.as_str() {
        "image/jpeg" => ('j', &[0xFF, 0xD8, 0xFF]),
        "image/png" => ('p', b"\x89PNG"),
        // A pack header; the box with the type of the file.
        "video/mpeg" => ('v', &[0, 0, 1]),
        "video/mp4" => ('v', b""),
        other => panic!("{other}"),
    };
    assert!(bytes.starts_with(begins), "{kind}");
    letter
}

/// What became of a frame, which is what its media type says.
async fn frame(answer: Response, form: Form, instance: &Instance, into: &Path) -> char {
    if answer.status() == 406 {
        let problem = answer.text().await.unwrap();
        assert!(problem.contains("remedy"), "{problem}");
        return '-';
    }
    assert_eq!(answer.status(), 200, "{}", instance.file);
    let kind = answer.header("content-type").to_owned();
    let (kind, bytes) = match form {
        Form::OneFile => (kind, answer.bytes().await.unwrap().to_vec()),
        Form::Parts => {
            assert!(kind.starts_with("multipart/related"), "{kind}");
            let body = answer.multipart_to(into).await.unwrap();
            assert!(body.is_complete() && body.parts.len() == 1);
            let part = fs::read(into.join("0.part")).unwrap();
            (body.parts[0].content_type().to_owned(), part)
        }
    };
    let (_, syntax) = kind.split_once("; transfer-syntax=").unwrap();
    let what = format!("{} as {kind}", instance.file);
    if syntax == instance.transfer_syntax_uid && syntax != uids::EXPLICIT_VR_LITTLE_ENDIAN {
        let stored = Part10::read(&fs::read(exams().path(instance)).unwrap());
        assert!(padded(&bytes) == pixels(&stored), "{what}");
        return '=';
    }
    assert_eq!(
        kind, "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1",
        "{what}"
    );
    assert!(
        padded(&bytes) == pixels(&plain(&exams().path(instance))),
        "{what}"
    );
    'o'
}

/// A fragment has an even length.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes
}

#[test]
fn an_image_of_8_bits_loses_some_for_a_client_that_names_jpeg() {
    run(async {
        let mut ultrasound = exam("us").instances();
        let instance = ultrasound
            .find(|one| one.transfer_syntax_uid == uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .unwrap();
        let pair = Pair::over("lossy", vec![exams().path(instance)]).await;
        let into = folder("lossy-parts");
        let lossy = format!("{DICOM}; transfer-syntax={}", uids::JPEG_BASELINE8_BIT);
        let answer = pair.get(instance, "", &lossy).await;
        assert_eq!(letter(answer, Form::Parts, instance, &into).await, 'j');
        let object = Part10::read(&fs::read(into.join("0.part")).unwrap());
        let lost = object.data_set.element(tags::LOSSY_IMAGE_COMPRESSION);
        assert_eq!(lost.unwrap().to_str().unwrap(), "01");
        // A syntax without loss of the same weight is preferred.
        let both = format!("{lossy}, {DICOM}; transfer-syntax={}", uids::RLE_LOSSLESS);
        let answer = pair.get(instance, "", &both).await;
        assert_eq!(letter(answer, Form::Parts, instance, &into).await, 'r');
    });
}

#[test]
fn a_study_is_sent_whole_in_the_one_syntax_a_client_takes() {
    run(async {
        let names = ["ct", "documents", "multiframe", "enhanced-ct", "fragments"];
        let pair = Pair::over("transcoded-studies", support::files(&names)).await;
        for name in names {
            let exam = exam(name);
            let url = pair.gateway.local_url() + &support::study_path(exam);
            let accept = format!("{DICOM}; transfer-syntax=1.2.840.10008.1.2.1");
            // Cold and from the cache.
            for _ in 0..2 {
                let answer = pair.client.get(&url).accept(&accept).send().await.unwrap();
                assert_eq!(answer.status(), 200, "{name}");
                let into = folder("transcoded-parts");
                let body = answer.multipart_to(&into).await.unwrap();
                assert!(body.is_complete(), "{name}");
                let mut files = BTreeMap::new();
                for part in 0..body.parts.len() {
                    let file = into.join(format!("{part}.part"));
                    let object = Part10::read(&fs::read(&file).unwrap());
                    assert_eq!(
                        object.meta.transfer_syntax(),
                        uids::EXPLICIT_VR_LITTLE_ENDIAN
                    );
                    files.insert(object.instance(), object);
                }
                assert_eq!(files.len(), exam.instances().count(), "{name}");
                for instance in exam.instances().filter(|instance| instance.frames > 0) {
                    let ours = &files[&instance.sop_instance_uid];
                    let theirs = plain(&exams().path(instance));
                    assert!(pixels(ours) == pixels(&theirs), "{}", instance.file);
                }
            }
        }
    });
}

#[test]
fn a_study_with_an_instance_that_cannot_be_had_is_refused_before_its_first_byte() {
    run(async {
        let exam = exam("syntaxes");
        let pair = Pair::over("transcoded-refused", support::files(&["syntaxes"])).await;
        let video = exam.instances().any(|instance| {
            is_video(&TransferSyntaxUid::parse(&instance.transfer_syntax_uid).unwrap())
        });
        assert!(video);
        let url = pair.gateway.local_url() + &support::study_path(exam);
        // In the cache: what is stored is known before anything is sent.
        let whole = support::retrieve(&pair.client, &url, &folder("refused-parts")).await;
        assert_eq!(whole.parts.len(), exam.instances().count());
        let accept = format!("{DICOM}; transfer-syntax=1.2.840.10008.1.2.1");
        let answer = pair.client.get(&url).accept(&accept).send().await.unwrap();
        assert_eq!(answer.status(), 406);
        let problem = answer.text().await.unwrap();
        assert!(problem.contains(uids::MPEG4HP41), "{problem}");
        let aborted = "drimbox_http_aborted_responses_total";
        assert_eq!(metric(&pair.gateway, aborted, &[]).await, 0);
    });
}

#[test]
fn a_cold_study_with_an_instance_that_cannot_be_had_is_cut_and_then_refused() {
    run(async {
        let of = |syntax| {
            let mut all = exam("syntaxes").instances();
            let found = all.find(|one: &&Instance| one.transfer_syntax_uid == syntax);
            exams().path(found.unwrap())
        };
        // A series of an image, then a video, which comes once the image has been answered.
        let image = of(uids::JPEGLS_LOSSLESS);
        let series = Part10::read(&fs::read(&image).unwrap()).data_set;
        let series = series.element(tags::SERIES_INSTANCE_UID).unwrap().clone();
        let mut object = dicom_object::open_file(of(uids::MPEG4HP41)).unwrap();
        object.put(series);
        let video = folder("cold-refused-files").join("video.dcm");
        object.write_to_file(&video).unwrap();
        let files = [image, video];
        let pacs = FaultyPacs::start("SIM", &files, &[]).await.unwrap();
        pacs.behave(|b| b.hold_before = Some(2));
        let config = GatewayConfig::new(&folder("cold-refused")).unwrap();
        let entry = PacsConfig::new("sim", "SIM", pacs.port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let client = Client::plain().unwrap();
        let url = gateway.local_url() + &support::study_path(exam("syntaxes"));
        let accept = format!("{DICOM}; transfer-syntax=1.2.840.10008.1.2.1");
        let begun = client.get(&url).accept(&accept).send().await.unwrap();
        assert_eq!(begun.status(), 200);
        pacs.recover();
        let into = folder("cold-refused-parts");
        let body = begun.multipart_to(&into).await.unwrap();
        assert!(!body.is_closed, "a closing boundary, and then a cut");
        assert!(body.broken.is_some(), "the body just ends");
        let aborted = "drimbox_http_aborted_responses_total";
        until("the counter of cut answers", async || {
            metric(&gateway, aborted, &[("cause", "source_failed")]).await == 1
        })
        .await;
        let again = client.get(&url).accept(&accept).send().await.unwrap();
        assert_eq!(again.status(), 406);
        let problem = again.text().await.unwrap();
        assert!(problem.contains(uids::MPEG4HP41), "{problem}");
        assert_eq!(metric(&gateway, aborted, &[]).await, 1);
    });
}

/// A high throughput JPEG 2000 stream (ISO/IEC 15444-15), lossless, made with OpenJPH 0.31: 64 by 48
/// samples of 16 bits, [`sample`] of them.
const HTJ2K: &[u8] = include_bytes!("streams/gradient.j2c");

fn sample(x: u32, y: u32) -> u16 {
    u16::try_from(x * 61 + y * 23 + (x * y) % 7).unwrap()
}

/// An object of `file` whose only frame is that stream, in this transfer syntax.
fn with_stream(file: &Path, syntax: &str, to: &Path) {
    let mut object = dicom_object::open_file(file).unwrap();
    let uid = format!("2.25.88{}", syntax.rsplit('.').next().unwrap());
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, &uid);
    for (tag, value) in [
        (tags::ROWS, 48_u16),
        (tags::COLUMNS, 64),
        (tags::BITS_ALLOCATED, 16),
        (tags::BITS_STORED, 16),
        (tags::HIGH_BIT, 15),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }
    let fragments = PixelFragmentSequence::new_fragments(vec![HTJ2K.to_vec()]);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, fragments));
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(object.meta().media_storage_sop_class_uid())
        .media_storage_sop_instance_uid(&uid)
        .transfer_syntax(syntax);
    let object = object.into_inner().with_meta(meta).unwrap();
    object.write_to_file(to).unwrap();
}

#[test]
fn high_throughput_jpeg_2000_goes_as_it_is_stored_and_is_decoded_for_others() {
    run(async {
        let source = exam("syntaxes")
            .instances()
            .find(|instance| instance.transfer_syntax_uid == uids::EXPLICIT_VR_LITTLE_ENDIAN);
        let source = exams().path(source.unwrap());
        let from = folder("htj2k-files");
        let syntaxes = [uids::HTJ2K_LOSSLESS, uids::HTJ2K_LOSSLESS_RPCL, uids::HTJ2K];
        let files: Vec<_> = syntaxes
            .map(|syntax| from.join(format!("{syntax}.dcm")))
            .into();
        for (syntax, file) in syntaxes.iter().zip(&files) {
            with_stream(&source, syntax, file);
        }
        // Orthanc does not send this syntax by DIMSE.
        let pacs = FaultyPacs::start("SIM", &files, &[]).await.unwrap();
        let config = GatewayConfig::new(&folder("htj2k")).unwrap();
        let entry = PacsConfig::new("sim", "SIM", pacs.port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let client = Client::plain().unwrap();
        let exam = exam("syntaxes");
        let into = folder("htj2k-parts");
        let samples = (0..48).flat_map(|y| (0..64).flat_map(move |x| sample(x, y).to_le_bytes()));
        let samples: Vec<u8> = samples.collect();
        for (syntax, file) in syntaxes.iter().zip(&files) {
            let stored = Part10::read(&fs::read(file).unwrap());
            let url = format!(
                "{}{}/series/{}/instances/{}",
                gateway.local_url(),
                support::study_path(exam),
                stored
                    .data_set
                    .element(tags::SERIES_INSTANCE_UID)
                    .unwrap()
                    .to_str()
                    .unwrap(),
                stored.instance(),
            );
            let get = async |below: &str, accept: &str| {
                let call = client.get(&format!("{url}{below}")).accept(accept);
                let answer = call.send().await.unwrap();
                assert_eq!(answer.status(), 200, "{below} {syntax}");
                answer
            };
            let part = async |below: &str, accept: &str| {
                let body = get(below, accept).await.multipart_to(&into).await.unwrap();
                assert!(body.is_complete() && body.parts.len() == 1, "{below}");
                let bytes = fs::read(into.join("0.part")).unwrap();
                (body.parts[0].content_type().to_owned(), bytes)
            };
            let (kind, whole) = part("", &format!("{DICOM}; transfer-syntax=*")).await;
            assert_eq!(kind, format!("application/dicom; transfer-syntax={syntax}"));
            assert!(pixels(&Part10::read(&whole)) == pixels(&stored), "{syntax}");
            // Only padding may follow the stream of a fragment.
            let stored_frame = "multipart/related; type=\"image/jphc\"; transfer-syntax=*";
            let (kind, frame) = part("/frames/1", stored_frame).await;
            assert_eq!(kind, format!("image/jphc; transfer-syntax={syntax}"));
            assert_eq!(&frame[..HTJ2K.len()], HTJ2K);
            let octets = "multipart/related; type=\"application/octet-stream\"";
            let (_, frame) = part("/frames/1", octets).await;
            assert!(
                frame == samples,
                "{syntax}: the samples are not those of the stream"
            );
            let explicit = format!(
                "{DICOM}; transfer-syntax={}",
                uids::EXPLICIT_VR_LITTLE_ENDIAN
            );
            let (_, plain) = part("", &explicit).await;
            assert!(pixels(&Part10::read(&plain)) == samples, "{syntax}");
            let picture = get("/rendered", "image/png").await.bytes().await.unwrap();
            assert!(picture.starts_with(b"\x89PNG"));
            let metadata = get("/metadata", "application/dicom+json").await;
            let metadata = metadata.json().await.unwrap();
            assert_eq!(metadata[0]["00083002"]["Value"][0], *syntax);
        }
    });
}

#[test]
fn transcoded_instances_that_wait_for_slow_clients_are_bounded_in_bytes() {
    run(async {
        // Room for one of two; much more than the buffers of both sockets hold.
        let size = 12 << 20;
        let made = support::objects::make(&folder("spool-files"), "2.25.8901", 2, size);
        let pacs = FaultyPacs::start("SIM", &made.files, &[]).await.unwrap();
        let config = GatewayConfig::new(&folder("spool")).unwrap();
        let config = config.set("pixels.max_spool_bytes", 20_i64 << 20);
        let entry = PacsConfig::new("sim", "SIM", pacs.port());
        let gateway = Gateway::start(config.pacs(entry)).await.unwrap();
        let rle = format!("application/dicom; transfer-syntax={}", uids::RLE_LOSSLESS);
        let url = |number| gateway.local_url() + &made.instance_path(number);
        let slow = Client::builder().receive_buffer(8192).build().unwrap();
        let mut slow = slow.get(&url(0)).accept(&rle).send().await.unwrap();
        assert_eq!(slow.status(), 200);
        assert!(slow.next().await.unwrap().is_some());

        let client = Client::plain().unwrap();
        let refused = client.get(&url(1)).accept(&rle).send().await.unwrap();
        assert_eq!(refused.status(), 503);
        assert!(refused.header("retry-after").parse::<u32>().unwrap() >= 1);
        // What is sent as it is stored needs no room.
        let stored = client.get(&url(1)).accept(support::SINGLE).send().await;
        made.position(&stored.unwrap().bytes().await.unwrap());

        assert!(slow.drain().await.broken.is_none());
        // The gateway may not have seen the end of it yet.
        let mut answer = client.get(&url(1)).accept(&rle).send().await.unwrap();
        while answer.status() == 503 {
            answer = client.get(&url(1)).accept(&rle).send().await.unwrap();
        }
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap();
        // Both at once, one after the other as far as there is room for them.
        let parts = format!("{DICOM}; transfer-syntax={}", uids::RLE_LOSSLESS);
        let series = gateway.local_url() + &made.series_path();
        let answer = client.get(&series).accept(&parts).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.multipart().await.unwrap();
        assert!(body.is_complete() && body.parts.len() == 2);
    });
}
