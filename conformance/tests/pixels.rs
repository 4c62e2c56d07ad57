//! Decoded and encoded pixels against those of DCMTK, GDCM and dicom-object.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::samples::Instance;
use dicom_dictionary_std::{tags, uids};
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::render::{PictureFormat, RenderOptions, render};
use drimbox::pixels::{
    PixelError, PixelLimits, StoredImage, TranscodeOptions, can_transcode, is_decodable, is_video,
    transcode,
};
use support::compare::Part10;
use support::{exam, exams, folder};

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
        let ours = match written(&path, uids::EXPLICIT_VR_LITTLE_ENDIAN) {
            // The one form for which there is no decoder.
            Err(PixelError::UnsupportedForm { .. }) if syntax == uids::JPEG_EXTENDED12_BIT => {
                continue;
            }
            result => result.unwrap_or_else(|error| panic!("{}: {error}", instance.file)),
        };
        let ours = Part10::read(&ours);
        let theirs = reference(&path, syntax, &scratch);
        // Two decoders of a lossy JPEG may round differently.
        let tolerance = match syntax {
            uids::JPEG_BASELINE8_BIT => 3,
            uids::JPEG2000 => 1,
            _ => 0,
        };
        let what = format!("{} {syntax}", instance.file);
        assert_same(&pixels(&ours), &pixels(&theirs), tolerance, &what);
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
    assert_eq!(syntaxes.len(), 12, "{syntaxes:?}");
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
            Err(PixelError::UnsupportedForm { .. }) => {
                assert_eq!(instance.transfer_syntax_uid, uids::JPEG_EXTENDED12_BIT);
            }
            Err(error) => panic!("{}: {error}", instance.file),
        }
    }
    assert!(rendered > 20, "{rendered}");
}

/// dcmj2pnm is the judge of a window: the same linear function over the same values.
#[test]
fn a_windowed_image_looks_as_dcmtk_shows_it() {
    let scratch = folder("rendered");
    let mut compared = 0;
    for name in ["ct", "mr"] {
        let Some(instance) = exam(name).instances().next() else {
            continue;
        };
        let path: PathBuf = exams().path(instance);
        let image = open(&path).unwrap();
        let head = image.head().unwrap();
        let number = |tag| {
            let text = head.elements().text(tag, &Default::default());
            text.and_then(|text| text.parse::<f64>().ok())
        };
        let (Some(_), Some(_)) = (number(tags::WINDOW_CENTER), number(tags::WINDOW_WIDTH)) else {
            continue;
        };
        let native = scratch.join("native.dcm");
        fs::write(
            &native,
            written(&path, uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap(),
        )
        .unwrap();
        let shown = scratch.join("shown.pgm");
        let output = Command::new("dcmj2pnm")
            .args(["--use-window", "1", "--write-raw-pnm"])
            .args([&native, &shown])
            .output()
            .unwrap();
        assert!(output.status.success());
        let theirs = fs::read(&shown).unwrap();
        let picture = render(&image, 0, &RenderOptions::default()).unwrap();
        let theirs = &theirs[theirs.len() - picture.samples.len()..];
        assert_same(&picture.samples, theirs, 1, name);
        compared += 1;
    }
    assert!(compared > 0);
}
