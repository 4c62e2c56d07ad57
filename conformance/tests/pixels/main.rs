//! Decoded and encoded pixels against those of DCMTK, GDCM and dicom-object; frames and pictures as
//! the gateway answers them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod judged;
mod layouts;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::samples::Instance;
use conformance::testkit::{Client, Gateway, GatewayConfig, Orthanc, Response};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::render::{Picture, PictureFormat, RenderOptions, VoiFunction, Window, render};
use drimbox::pixels::{
    PixelError, PixelLimits, StoredImage, TranscodeOptions, can_transcode, is_decodable, is_video,
    transcode,
};
use support::compare::Part10;
use support::pair::{Pair, is_web};
use support::{AS_STORED, exam, exams, folder, metric, run};

/// One instance of each kind of image among the samples.
fn kinds() -> Vec<&'static Instance> {
    let mut seen = BTreeSet::new();
    exams()
        .instances()
        .filter(|instance| instance.frames > 0)
        .filter(|instance| {
            let image = match open(&exams().path(instance)) {
                Ok(image) => image,
                Err(error) => panic!("{}: {error}", instance.file),
            };
            let shape = image.shape();
            seen.insert((
                instance.transfer_syntax_uid.clone(),
                format!("{:?}", shape.kind),
                shape.photometric.as_str().to_owned(),
                (shape.samples, shape.bits_allocated, shape.bits_stored),
                shape.planar,
                shape.frames > 1,
                shape.frame_bits() % 16,
                instance.file.starts_with("many-studies"),
            ))
        })
        .collect()
}

fn open(path: &Path) -> Result<StoredImage<File>, PixelError> {
    StoredImage::open(File::open(path).unwrap(), PixelLimits::default())
}

fn uid(text: &str) -> TransferSyntaxUid {
    TransferSyntaxUid::parse(text).unwrap()
}

fn written(path: &Path, target: &str) -> Result<Vec<u8>, PixelError> {
    let mut out = Vec::new();
    let options = TranscodeOptions::default();
    transcode(File::open(path).unwrap(), &uid(target), &options, &mut out)?;
    Ok(out)
}

/// What a program makes of a file.
fn judged(program: &str, options: &[&str], source: &Path, target: &Path) -> Part10 {
    let output = Command::new(program)
        .args(options)
        .args([source, target])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    Part10::read(&fs::read(target).unwrap())
}

/// The file with native pixels, by another toolkit.
fn reference(path: &Path, syntax: &str, scratch: &Path) -> Part10 {
    let target = scratch.join("reference.dcm");
    match syntax {
        uids::RLE_LOSSLESS => judged("dcmdrle", &[], path, &target),
        uids::JPEG_BASELINE8_BIT
        | uids::JPEG_EXTENDED12_BIT
        | uids::JPEG_LOSSLESS
        | uids::JPEG_LOSSLESS_SV1 => judged("dcmdjpeg", &[], path, &target),
        uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => {
            judged("dcmdjpls", &[], path, &target)
        }
        uids::JPEG2000_LOSSLESS | uids::JPEG2000 => judged("gdcmconv", &["--raw"], path, &target),
        _ => Part10::read(&fs::read(path).unwrap()),
    }
}

/// The value of the pixels, in little endian.
fn pixels(object: &Part10) -> Vec<u8> {
    let element = object
        .data_set
        .iter()
        .find(|element| {
            let tag = element.header().tag;
            tag.group() == 0x7FE0 && matches!(tag.element(), 0x0008..=0x0010)
        })
        .unwrap();
    element.to_bytes().unwrap().into_owned()
}

/// Pixels of three samples to three planes; what is too short to be a pixel is padding.
fn planes(frame: &[u8], width: usize) -> Vec<u8> {
    let pixels = || frame.chunks_exact(3 * width);
    (0..3)
        .flat_map(|sample| pixels().map(move |pixel| &pixel[sample * width..][..width]))
        .flatten()
        .copied()
        .collect()
}

fn assert_same(ours: &[u8], theirs: &[u8], tolerance: u8, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap_or(0);
    assert!(worst <= tolerance, "{what}: differs by {worst}");
}

/// As [`assert_same`], of samples of 16 bits.
fn assert_close(ours: &[u8], theirs: &[u8], tolerance: u16, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let words = |bytes: &[u8]| -> Vec<u16> {
        let words = bytes.chunks_exact(2);
        words
            .map(|word| u16::from_le_bytes([word[0], word[1]]))
            .collect()
    };
    let pairs = words(ours).into_iter().zip(words(theirs));
    let worst = pairs.map(|(a, b)| a.abs_diff(b)).max().unwrap_or(0);
    assert!(worst <= tolerance, "{what}: differs by {worst}");
}

#[test]
fn every_kind_of_image_decodes_to_what_other_toolkits_decode() {
    let scratch = folder("pixels");
    let mut syntaxes = BTreeSet::new();
    for instance in kinds() {
        let path = exams().path(instance);
        let syntax = instance.transfer_syntax_uid.as_str();
        if !is_decodable(&uid(syntax)) {
            assert!(is_video(&uid(syntax)), "{syntax}");
            assert!(matches!(
                written(&path, uids::EXPLICIT_VR_LITTLE_ENDIAN),
                Err(PixelError::Unsupported(_))
            ));
            continue;
        }
        let ours = written(&path, uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .unwrap_or_else(|error| panic!("{}: {error}", instance.file));
        let ours = Part10::read(&ours);
        let theirs = reference(&path, syntax, &scratch);
        // Two decoders of a lossy JPEG may round differently.
        let tolerance = match syntax {
            uids::JPEG_BASELINE8_BIT => 3,
            uids::JPEG2000 => 1,
            _ => 0,
        };
        let what = format!("{} {syntax}", instance.file);
        if syntax == uids::JPEG_EXTENDED12_BIT {
            assert_close(&pixels(&ours), &pixels(&theirs), 2, &what);
        } else {
            assert_same(&pixels(&ours), &pixels(&theirs), tolerance, &what);
        }
        for tag in [tags::PHOTOMETRIC_INTERPRETATION, tags::BITS_ALLOCATED] {
            let text = |object: &Part10| {
                let element = object.data_set.element(tag).unwrap();
                element.to_str().unwrap().trim_end().to_owned()
            };
            assert_eq!(text(&ours), text(&theirs), "{what} {tag}");
        }
        syntaxes.insert(syntax.to_owned());
    }
    // All that the samples hold and that is decoded.
    assert_eq!(syntaxes.len(), 13, "{syntaxes:?}");
}

#[test]
fn what_is_encoded_without_loss_decodes_elsewhere_to_the_same() {
    let scratch = folder("encoded");
    let mut count = 0;
    for instance in kinds() {
        let path = exams().path(instance);
        let syntax = uid(&instance.transfer_syntax_uid);
        for (target, judge) in [
            (uids::JPEGLS_LOSSLESS, "dcmdjpls"),
            (uids::RLE_LOSSLESS, "dcmdrle"),
        ] {
            let image = open(&path).unwrap();
            if syntax.as_str() == target || !can_transcode(image.shape(), &syntax, &uid(target)) {
                continue;
            }
            let ours = match written(&path, target) {
                Err(PixelError::UnsupportedForm { .. }) => continue,
                result => result.unwrap_or_else(|error| panic!("{}: {error}", instance.file)),
            };
            let source = scratch.join("ours.dcm");
            fs::write(&source, ours).unwrap();
            let theirs = judged(judge, &[], &source, &scratch.join("theirs.dcm"));
            let plain = written(&path, uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
            let plain = Part10::read(&plain);
            let what = format!("{} {syntax} {target}", instance.file);
            if image.shape().planar && image.index().is_native() {
                // Native planes stay as they are; the codec's are pixels.
                continue;
            }
            let mut expected = pixels(&plain);
            if target == uids::RLE_LOSSLESS && image.shape().samples == 3 {
                // The head of ours says planes, and so does what was decoded.
                let width = usize::from(image.shape().sample_bytes());
                let frame = usize::try_from(image.shape().frame_bytes()).unwrap();
                expected = expected
                    .chunks(frame)
                    .flat_map(|frame| planes(frame, width))
                    .collect();
            }
            let mut theirs = pixels(&theirs);
            theirs.truncate(expected.len());
            assert_same(&expected, &theirs, 0, &what);
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}

#[test]
fn every_kind_of_image_is_rendered_and_no_other() {
    let mut rendered = 0;
    for instance in kinds() {
        let image = open(&exams().path(instance)).unwrap();
        let frame = image.index().frames() - 1;
        match render(&image, frame, &RenderOptions::default()) {
            Ok(picture) => {
                let (columns, rows) = (image.shape().columns, image.shape().rows);
                assert_eq!((picture.width, picture.height), (columns, rows));
                assert!(
                    picture.samples.iter().any(|sample| *sample > 0),
                    "{} is black",
                    instance.file
                );
                let jpeg = picture.encode(PictureFormat::Jpeg { quality: 90 }).unwrap();
                assert!(jpeg.starts_with(&[0xFF, 0xD8]));
                let png = picture.encode(PictureFormat::Png).unwrap();
                assert!(png.starts_with(b"\x89PNG"));
                rendered += 1;
            }
            Err(PixelError::Unsupported(syntax)) => assert!(is_video(&syntax), "{syntax}"),
            Err(error) => panic!("{}: {error}", instance.file),
        }
    }
    assert!(rendered > 20, "{rendered}");
}

const OCTETS: &str = "multipart/related; type=\"application/octet-stream\"";
const STORED: &str = "multipart/related; type=\"*/*\"; transfer-syntax=*";

/// The frames that a gateway answers.
trait Frames {
    async fn frames(&self, instance: &Instance, list: &str, accept: &str)
    -> (Vec<String>, Vec<u8>);
}

impl Frames for Pair {
    /// The parts of an answer: their media type, and their bytes one after the other.
    async fn frames(
        &self,
        instance: &Instance,
        list: &str,
        accept: &str,
    ) -> (Vec<String>, Vec<u8>) {
        let answer = self.get(instance, &format!("/frames/{list}"), accept).await;
        let what = format!("{} {accept}", instance.file);
        assert_eq!(
            answer.status(),
            200,
            "{what}: {}",
            answer.text().await.unwrap()
        );
        let into = folder("frames");
        let body = answer.multipart_to(&into).await.unwrap();
        assert!(body.is_complete(), "{what}");
        let kinds = body.parts.iter().map(|part| part.content_type().to_owned());
        let bytes = (0..body.parts.len())
            .flat_map(|part| fs::read(into.join(format!("{part}.part"))).unwrap());
        (kinds.collect(), bytes.collect())
    }
}

fn every_frame(instance: &Instance) -> String {
    let all: Vec<String> = (1..=instance.frames).map(|n| n.to_string()).collect();
    all.join(",")
}

#[test]
fn the_frames_of_every_kind_of_image_are_answered_decoded_and_as_stored() {
    run(async {
        let kinds = kinds();
        let files = kinds
            .iter()
            .map(|instance| exams().path(instance))
            .collect();
        let pair = Pair::over("frames-gateway", files).await;
        for instance in kinds {
            let syntax = instance.transfer_syntax_uid.as_str();
            let source = Part10::read(&fs::read(exams().path(instance)).unwrap());
            if let Ok(plain) = written(&exams().path(instance), uids::EXPLICIT_VR_LITTLE_ENDIAN) {
                let (kinds, ours) = pair.frames(instance, &every_frame(instance), OCTETS).await;
                assert_eq!(kinds.len(), instance.frames as usize);
                assert_eq!(
                    kinds[0],
                    "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
                );
                let mut theirs = pixels(&Part10::read(&plain));
                if theirs.len() > ours.len() {
                    assert_eq!(theirs.len(), ours.len() + 1, "{}", instance.file);
                    theirs.pop();
                }
                // One-bit frames start at a byte of their own: their values are compared elsewhere.
                if ours.len() == theirs.len() {
                    assert!(ours == theirs, "{}", instance.file);
                }
            }
            let fragments = source
                .data_set
                .iter()
                .filter_map(|element| element.value().fragments())
                .next()
                .map(<[Vec<u8>]>::concat);
            if let Some(fragments) = fragments {
                let list = if is_video(&uid(syntax)) {
                    "1".into()
                } else {
                    every_frame(instance)
                };
                let (kinds, ours) = pair.frames(instance, &list, STORED).await;
                assert!(
                    kinds[0].ends_with(&format!("transfer-syntax={syntax}")),
                    "{}",
                    kinds[0]
                );
                assert!(
                    !kinds[0].starts_with("application/octet-stream"),
                    "{}",
                    kinds[0]
                );
                assert!(ours == fragments, "{}", instance.file);
            }
        }
    });
}

#[test]
fn a_frame_is_had_without_parts_in_each_of_its_forms() {
    run(async {
        let of = |syntax| {
            let mut all = exam("syntaxes").instances();
            let found = all.find(|one| one.transfer_syntax_uid == syntax && one.frames == 1);
            found.unwrap()
        };
        let pair = Pair::over("frame-alone", support::files(&["syntaxes"])).await;
        for (syntax, own) in [
            (uids::JPEGLS_LOSSLESS, "image/jls"),
            (uids::JPEG2000_LOSSLESS, "image/jp2"),
            (uids::RLE_LOSSLESS, "image/dicom-rle"),
            (uids::EXPLICIT_VR_LITTLE_ENDIAN, "application/octet-stream"),
        ] {
            let instance = of(syntax);
            let source = Part10::read(&fs::read(exams().path(instance)).unwrap());
            let element = source.data_set.element(tags::PIXEL_DATA).unwrap();
            let stored = match element.value().fragments() {
                Some(fragments) => fragments.concat(),
                None => element.to_bytes().unwrap().into_owned(),
            };
            let plain = written(&exams().path(instance), uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
            let plain = pixels(&Part10::read(&plain));
            for (accept, syntax, bytes) in [
                (own, syntax, &stored),
                (
                    "application/octet-stream",
                    uids::EXPLICIT_VR_LITTLE_ENDIAN,
                    &plain,
                ),
            ] {
                let answer = pair.get(instance, "/frames/1", accept).await;
                assert_eq!(answer.status(), 200, "{accept} of {}", instance.file);
                let kind = format!("{accept}; transfer-syntax={syntax}");
                assert_eq!(answer.header("content-type"), kind);
                assert_eq!(answer.header("accept-ranges"), "bytes");
                assert!(answer.bytes().await.unwrap() == *bytes, "{}", instance.file);
            }
        }
    });
}

#[test]
fn what_is_larger_than_the_limits_is_413_and_can_be_had_as_it_is_stored() {
    run(async {
        let mut all = exam("syntaxes").instances();
        let explicit = |one: &&Instance| {
            one.transfer_syntax_uid == uids::EXPLICIT_VR_LITTLE_ENDIAN && one.frames == 1
        };
        let model = all.find(explicit).unwrap();
        let mut object = dicom_object::open_file(exams().path(model)).unwrap();
        for tag in [tags::ROWS, tags::COLUMNS] {
            object.put(DataElement::new(
                tag,
                VR::US,
                PrimitiveValue::from(1024_u16),
            ));
        }
        let bits = object.element(tags::BITS_ALLOCATED).unwrap();
        let bytes = usize::from(bits.to_int::<u16>().unwrap() / 8) << 20;
        let pixels = PrimitiveValue::from(vec![0_u8; bytes]);
        object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
        let file = folder("large").join("large.dcm");
        object.write_to_file(&file).unwrap();

        let orthanc = Orthanc::builder(&folder("large-orthanc"))
            .start()
            .await
            .unwrap();
        orthanc.upload(vec![file]).await.unwrap();
        let config = GatewayConfig::new(&folder("large-gateway")).unwrap();
        // A frame of 1024 by 1024 samples has one byte more in each.
        let config = config.set("pixels.max_frame_bytes", "1 MiB");
        let config = config.pacs(support::pair::entry(&orthanc));
        let gateway = Gateway::start(config).await.unwrap();
        let client = Client::plain().unwrap();
        let url = gateway.local_url() + &support::pair::path_of(model);
        let rle = format!("application/dicom; transfer-syntax={}", uids::RLE_LOSSLESS);
        for (below, accept) in [
            ("/frames/1", OCTETS),
            ("/rendered", "image/png"),
            ("/rendered?viewport=1024,1024", "image/png"),
            ("", rle.as_str()),
        ] {
            let answer = client.get(&format!("{url}{below}")).accept(accept);
            let answer = answer.send().await.unwrap();
            assert_eq!(answer.status(), 413, "{below}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            let problem = answer.json().await.unwrap();
            assert_eq!(problem["status"], 413, "{below}");
            assert!(problem.to_string().contains("as it is stored"), "{problem}");
        }
        let stored = client
            .get(&url)
            .accept(support::SINGLE)
            .send()
            .await
            .unwrap();
        assert_eq!(stored.status(), 200);
        assert!(stored.bytes().await.unwrap().len() > bytes);
    });
}

#[test]
fn a_frame_of_an_image_that_is_not_cached_fetches_no_other() {
    run(async {
        let exam = exam("ct");
        let files = exam
            .instances()
            .map(|instance| exams().path(instance))
            .collect();
        let pair = Pair::over("frame-cold", files).await;
        let instance = exam.instances().next().unwrap();
        let (parts, bytes) = pair.frames(instance, "1", OCTETS).await;
        assert_eq!((parts.len(), bytes.is_empty()), (1, false));
        let received = if is_web() {
            "drimbox_upstream_instances_received_total"
        } else {
            "drimbox_dimse_instances_received_total"
        };
        assert_eq!(metric(&pair.gateway, received, &[]).await, 1);
    });
}

#[test]
fn what_is_no_frame_or_no_image_is_told() {
    run(async {
        let exam = exam("ct");
        let image = exam.instances().next().unwrap();
        let text = exams()
            .instances()
            .find(|instance| instance.frames == 0)
            .unwrap();
        let files = vec![exams().path(image), exams().path(text)];
        let pair = Pair::over("frame-errors", files).await;
        for (instance, below, accept, status) in [
            (image, "/frames/2", OCTETS, 404),
            (image, "/frames/1,2", OCTETS, 404),
            (image, "/frames/0", OCTETS, 400),
            (image, "/frames/one", OCTETS, 400),
            (
                image,
                "/frames/1",
                "multipart/related; type=\"image/jp2\"",
                406,
            ),
            (image, "/frames/1", AS_STORED, 406),
            (image, "/frames/1", "image/jp2", 406),
            (image, "/frames/1,1", "application/octet-stream", 406),
            (image, "/frames/1%2", OCTETS, 400),
            (image, "/frames/1%2C2", OCTETS, 404),
            (image, "/thumbnail?viewport=64,64,1,1,9,9", "image/png", 400),
            (image, "/rendered", "image/gif", 406),
            (image, "/rendered?window=1", "image/png", 400),
            (image, "/frames/2/rendered", "image/png", 404),
            (text, "/frames/1", OCTETS, 404),
            (text, "/rendered", "image/png", 406),
        ] {
            let answer = pair.get(instance, below, accept).await;
            assert_eq!(answer.status(), status, "{below} {accept}");
            assert!(answer.header("content-type").contains("json"), "{below}");
        }
    });
}

#[test]
fn pictures_have_the_format_and_the_size_that_were_asked_for() {
    run(async {
        let image = exam("ct").instances().next().unwrap();
        let pair = Pair::over("rendered", vec![exams().path(image)]).await;
        let size = |png: &[u8]| {
            let side = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
            (side(16), side(20))
        };
        let whole = pair.get(image, "/rendered", "image/png").await;
        assert_eq!(whole.header("content-type"), "image/png");
        let whole = whole.bytes().await.unwrap();
        let file = open(&exams().path(image)).unwrap();
        let picture = render(&file, 0, &RenderOptions::default()).unwrap();
        assert_eq!(whole, picture.encode(PictureFormat::Png).unwrap());
        let small = pair
            .get(image, "/frames/1/rendered?viewport=32,32", "image/png")
            .await;
        let (width, height) = size(&small.bytes().await.unwrap());
        assert_eq!(width.max(height), 32);
        let thumbnail = pair.get(image, "/thumbnail", "image/png").await;
        let (width, height) = size(&thumbnail.bytes().await.unwrap());
        assert_eq!(width.max(height), 256);
        let rendered = async |query: &str, accept: &str| {
            let below = format!("/rendered?{query}");
            let answer = pair.get(image, &below, accept).await;
            assert_eq!(answer.header("content-type"), accept, "{query}");
            answer.bytes().await.unwrap()
        };
        let mut seen = BTreeSet::from([whole]);
        for (query, center, width, function) in [
            ("window=300,80", 300.0, 80.0, VoiFunction::Linear),
            (
                "window=-600,1500,linear",
                -600.0,
                1500.0,
                VoiFunction::Linear,
            ),
            (
                "window=0,90,linear-exact",
                0.0,
                90.0,
                VoiFunction::LinearExact,
            ),
            ("window=0,90,sigmoid", 0.0, 90.0, VoiFunction::Sigmoid),
        ] {
            let window = Window {
                center,
                width,
                function,
            };
            let options = RenderOptions {
                window: Some(window),
                viewport: None,
            };
            let png = rendered(query, "image/png").await;
            let picture = render(&file, 0, &options).unwrap();
            assert!(
                png == picture.encode(PictureFormat::Png).unwrap(),
                "{query}"
            );
            assert!(seen.insert(png), "{query} changes nothing");
        }
        for quality in [5, 50, 100] {
            let jpeg = rendered(&format!("quality={quality}"), "image/jpeg").await;
            assert!(jpeg.starts_with(&[0xFF, 0xD8, 0xFF]));
            let expected = picture.encode(PictureFormat::Jpeg { quality }).unwrap();
            assert!(jpeg == expected, "{quality}");
            assert!(seen.insert(jpeg), "{quality} changes nothing");
        }
    });
}

#[test]
fn a_region_is_cut_out_of_the_picture_and_what_is_not_done_is_told() {
    run(async {
        let image = exam("ct").instances().next().unwrap();
        let pair = Pair::over("region", vec![exams().path(image)]).await;
        let file = open(&exams().path(image)).unwrap();
        let whole = render(&file, 0, &RenderOptions::default()).unwrap();
        let cut = |x: usize, y: usize, width: usize, height: usize| {
            let rows = whole
                .samples
                .chunks(whole.width.into())
                .skip(y)
                .take(height);
            let samples = rows.flat_map(|row| row[x..x + width].to_vec()).collect();
            Picture {
                width: width.try_into().unwrap(),
                height: height.try_into().unwrap(),
                colour: false,
                samples,
            }
        };
        let (width, height) = (usize::from(whole.width), usize::from(whole.height));
        let (right, below) = (width - 20, height - 30);
        let mut flipped = cut(50, 60, 40, 24);
        flipped.samples = flipped
            .samples
            .chunks(40)
            .flat_map(|row| row.iter().rev())
            .copied()
            .collect();
        for (viewport, expected) in [
            ("40,24,50,60,40,24".to_owned(), cut(50, 60, 40, 24)),
            ("40,24,50,60,-40,24".to_owned(), flipped),
            ("48,32,,,48,32".to_owned(), cut(0, 0, 48, 32)),
            (format!("20,30,{right},{below}"), cut(right, below, 20, 30)),
            (format!("20,{height},{right}"), cut(right, 0, 20, height)),
        ] {
            let below = format!("/rendered?viewport={viewport}");
            let answer = pair.get(image, &below, "image/png").await;
            assert_eq!(answer.status(), 200, "{viewport}");
            assert_eq!(answer.header("warning"), "", "{viewport}");
            let png = expected.encode(PictureFormat::Png).unwrap();
            assert!(answer.bytes().await.unwrap() == png, "{viewport}");
        }
        let asked = "/rendered?charset=UTF-8&iccprofile=no&annotation=patient&unheard=of";
        let answer = pair.get(image, asked, "image/png").await;
        assert_eq!(answer.status(), 200);
        let warning = "299 drimbox \"The following annotation values are not supported: patient\"";
        assert_eq!(answer.header("warning"), warning);
        let png = whole.encode(PictureFormat::Png).unwrap();
        assert!(answer.bytes().await.unwrap() == png);
    });
}

#[test]
fn a_series_and_a_list_of_frames_are_answered_as_pictures_in_parts() {
    run(async {
        let exam = exam("ct");
        let series = &exam.series[0];
        let text = exams()
            .instances()
            .find(|instance| instance.frames == 0)
            .unwrap();
        let mut files: Vec<PathBuf> = exam.instances().map(|i| exams().path(i)).collect();
        files.push(exams().path(text));
        let cine = exams()
            .instances()
            .find(|instance| {
                instance.frames >= 3 && is_decodable(&uid(&instance.transfer_syntax_uid))
            })
            .unwrap();
        files.push(exams().path(cine));
        let pair = Pair::over("pictures", files).await;
        let get = async |path: String, accept: &str| {
            let url = pair.gateway.local_url() + &path;
            pair.client.get(&url).accept(accept).send().await.unwrap()
        };
        let parts = async |answer: Response| {
            assert_eq!(answer.status(), 200);
            assert!(
                answer
                    .header("content-type")
                    .starts_with("multipart/related; type=\"image/png\"")
            );
            let into = folder("pictures-parts");
            let body = answer.multipart_to(&into).await.unwrap();
            assert!(body.is_complete());
            for part in &body.parts {
                assert_eq!(part.content_type(), "image/png");
            }
            (0..body.parts.len())
                .map(|part| fs::read(into.join(format!("{part}.part"))).unwrap())
                .collect::<Vec<_>>()
        };

        let path = support::series_path(exam, series);
        let whole = parts(get(format!("{path}/rendered"), "image/png").await).await;
        assert_eq!(whole.len(), series.instances.len());
        assert!(whole.iter().all(|part| part.starts_with(b"\x89PNG")));
        let study = support::study_path(exam);
        let all = parts(get(format!("{study}/rendered"), "image/png").await).await;
        assert_eq!(all.len(), exam.instances().count());

        let only = "multipart/related; type=\"image/png\"";
        let three = parts(pair.get(cine, "/frames/3,1,3/rendered", only).await).await;
        assert_eq!((three.len(), three[0] == three[2]), (3, true));
        let one = parts(pair.get(cine, "/frames/3/rendered", only).await).await;
        assert!(one[0] == three[0]);
        let beyond = format!("/frames/1,{}/rendered", cine.frames + 1);
        assert_eq!(pair.get(cine, &beyond, only).await.status(), 404);

        for path in [path, study] {
            let answer = get(format!("{path}/thumbnail"), "image/png").await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.header("content-type"), "image/png");
        }
        let exam_of_text = exams()
            .exams
            .iter()
            .find(|exam| {
                let mut all = exam.instances();
                all.any(|one| one.sop_instance_uid == text.sop_instance_uid)
            })
            .unwrap();
        let of_text = support::study_path(exam_of_text);
        let answer = get(format!("{of_text}/rendered"), "image/png").await;
        assert_eq!(answer.status(), 406);
    });
}
