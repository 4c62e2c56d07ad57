//! Pictures against those that DCMTK makes of the same objects.

use std::fs;
use std::path::Path;
use std::process::Command;

use dicom_dictionary_std::{tags, uids};
use drimbox::pixels::render::{RenderOptions, render};

use crate::support::compare::Part10;
use crate::support::presentations::{self, Shown};
use crate::support::{exam, exams, folder};
use crate::{assert_same, open};

/// The samples of a frame as DCMTK shows it: grey or RGB by pixel.
fn by_dcmtk(shown: &Shown, scratch: &Path) -> (bool, Vec<u8>) {
    let file = Part10::read(&fs::read(&shown.file).unwrap());
    let program = match file.meta.transfer_syntax() {
        uids::JPEGLS_LOSSLESS => "dcml2pnm",
        _ => "dcmj2pnm",
    };
    let values = if shown.name == "voi-table" {
        ["--use-voi-lut", "1"]
    } else {
        ["--use-window", "1"]
    };
    let target = scratch.join("shown.pnm");
    let mut command = Command::new(program);
    if !is_colour(&file) {
        command.args(values);
    }
    let output = command
        .arg("--write-raw-pnm")
        .args([&shown.file, &target])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", shown.name);
    let picture = fs::read(&target).unwrap();
    // Three lines of text, then the samples.
    let lines = picture.iter().enumerate().filter(|(_, b)| **b == b'\n');
    let (third, _) = lines.clone().nth(2).unwrap();
    (picture.starts_with(b"P6"), picture[third + 1..].to_vec())
}

fn is_colour(file: &Part10) -> bool {
    let text = file.data_set.element(tags::PHOTOMETRIC_INTERPRETATION);
    let text = text.unwrap().to_str();
    !text.unwrap().starts_with("MONOCHROME")
}

fn assert_shown_alike(all: Vec<Shown>, scratch: &Path) {
    for shown in all {
        let image = open(&shown.file).unwrap();
        let ours = render(&image, shown.frame, &RenderOptions::default()).unwrap();
        let (colour, theirs) = by_dcmtk(&shown, scratch);
        assert_eq!(ours.colour, colour, "{}", shown.name);
        let different = ours.samples.iter().any(|one| *one != ours.samples[0]);
        assert!(different, "{} shows nothing", shown.name);
        // Greys are rounded, and two decoders of a lossy JPEG differ.
        let tolerance = if shown.is_lossy { 3 } else { 1 };
        assert_same(&ours.samples, &theirs, tolerance, &shown.name);
    }
}

/// dcmj2pnm is the judge of a window: the same linear function over the same values.
#[test]
fn windowed_images_look_as_dcmtk_shows_them() {
    let stored = ["ct", "mr", "dx"].map(|name| {
        let instance = exam(name).instances().next().unwrap();
        Shown {
            name: name.to_owned(),
            file: exams().path(instance),
            frame: 0,
            is_lossy: false,
        }
    });
    assert_shown_alike(stored.into(), &folder("judged-stored"));
}

#[test]
fn inverse_images_sigmoids_and_tables_look_as_dcmtk_shows_them() {
    let scratch = folder("judged-greys");
    let mut greys = presentations::greys(&scratch);
    // LINEAR_EXACT is unknown to DCMTK 3.6.7.
    greys.retain(|shown| shown.name != "linear-exact");
    assert_shown_alike(greys, &scratch);
}

#[test]
fn palettes_planes_and_luminance_look_as_dcmtk_shows_them() {
    assert_shown_alike(presentations::colours(), &folder("judged-colours"));
}
