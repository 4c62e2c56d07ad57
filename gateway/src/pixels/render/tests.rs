#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use dicom_core::VR;

use super::*;
use crate::dicom::syntax::Encoding;
use crate::dicom::testdata::Writer;
use crate::pixels::PixelLimits;
use crate::pixels::testdata::{native, shape};

fn show(file: &[u8], frame: u32, options: &RenderOptions) -> Picture {
    let image = StoredImage::open(file, PixelLimits::default()).unwrap();
    render(&image, frame, options).unwrap()
}

fn grey(shape: &ImageShape, values: &[i16], more: impl Fn(Writer) -> Writer) -> Vec<u8> {
    let pixels: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let file = native(shape, &pixels, more);
    show(&file, 0, &RenderOptions::default()).samples
}

fn row(values: usize) -> ImageShape {
    let mut shape = shape(1, u16::try_from(values).unwrap(), 1, 16);
    shape.kind = SampleKind::Integer { signed: true };
    shape
}

fn window(w: Writer, center: &str, width: &str, function: &str) -> Writer {
    w.put((0x0028, 0x1050), VR::DS, center.as_bytes())
        .put((0x0028, 0x1051), VR::DS, width.as_bytes())
        .put((0x0028, 0x1056), VR::CS, function.as_bytes())
}

#[test]
fn each_function_of_the_window_is_that_of_the_standard() {
    // PS3.3 C.11.2.1.2.1, example: center 2048, width 4096 is the identity of 12 bits.
    let values = [0, 2047, 2048, 4095, -5, 5000];
    let linear = grey(&row(6), &values, |w| window(w, "2048", "4096", "LINEAR"));
    assert_eq!(linear, [0, 127, 128, 255, 0, 255]);
    let exact = grey(&row(3), &[0, 50, 100], |w| {
        window(w, "50", "100", "LINEAR_EXACT")
    });
    assert_eq!(exact, [0, 128, 255]);
    let sigmoid = grey(&row(3), &[-100, 50, 100], |w| {
        window(w, "50", "100", "SIGMOID")
    });
    // 1 / (1 + e^6), 1 / 2, 1 / (1 + e^-2)
    assert_eq!(sigmoid, [1, 128, 225]);
}

#[test]
fn the_rescale_comes_before_the_window() {
    let rescaled = grey(&row(3), &[0, 1074, 2048], |w| {
        w.put((0x0028, 0x1050), VR::DS, b"50\\300")
            .put((0x0028, 0x1051), VR::DS, b"100\\900")
            .put((0x0028, 0x1052), VR::DS, b"-1024")
            .put((0x0028, 0x1053), VR::DS, b"1 ")
    });
    assert_eq!(rescaled, [0, 129, 255]);
}

#[test]
fn without_a_window_the_values_of_the_frame_fill_the_range_and_padding_is_left_out() {
    assert_eq!(grey(&row(3), &[-100, 0, 100], |w| w), [0, 128, 255]);
    let padded = grey(&row(4), &[-2000, -100, 0, 100], |w| {
        w.put((0x0028, 0x0120), VR::SS, &(-2000_i16).to_le_bytes())
    });
    assert_eq!(padded, [0, 0, 128, 255]);
    assert_eq!(grey(&row(2), &[7, 7], |w| w), [0, 0]);
}

#[test]
fn eight_bits_without_a_window_stay_what_they_are() {
    let values: Vec<u8> = vec![10, 200, 255, 0];
    let file = native(&shape(2, 2, 1, 8), &values, |w| w);
    assert_eq!(show(&file, 0, &RenderOptions::default()).samples, values);
    let mut inverse = shape(2, 2, 1, 8);
    inverse.photometric = Photometric::Monochrome1;
    let file = native(&inverse, &values, |w| w);
    let picture = show(&file, 0, &RenderOptions::default());
    assert_eq!(picture.samples, [245, 55, 0, 255]);
}

#[test]
fn bits_above_and_below_those_stored_are_not_looked_at() {
    let mut shape = row(2);
    shape.bits_stored = 8;
    shape.high_bit = 11;
    shape.kind = SampleKind::Integer { signed: false };
    let samples = grey(&shape, &[0x7ABF, 0x0010], |w| w);
    assert_eq!(samples, [0xAB, 0x01]);
}

#[test]
fn overlays_are_not_drawn() {
    let values = [10, 200, 255, 0];
    let file = native(&shape(2, 2, 1, 8), &values, |w| {
        let number = |number: u16| number.to_le_bytes();
        w.put((0x6000, 0x0010), VR::US, &number(2))
            .put((0x6000, 0x0011), VR::US, &number(2))
            .put((0x6000, 0x0040), VR::CS, b"G ")
            .put((0x6000, 0x0050), VR::SS, &[1, 0, 1, 0])
            .put((0x6000, 0x0100), VR::US, &number(1))
            .put((0x6000, 0x0102), VR::US, &number(0))
            .put((0x6000, 0x3000), VR::OW, &number(0x000F))
    });
    assert_eq!(show(&file, 0, &RenderOptions::default()).samples, values);
    // The retired form, in a bit above those stored (PS3.5 §8.1.2).
    let mut shape = row(2);
    shape.bits_stored = 8;
    shape.high_bit = 7;
    shape.kind = SampleKind::Integer { signed: false };
    let samples = grey(&shape, &[0x1010, 0x0010], |w| {
        w.put((0x6000, 0x0100), VR::US, &16_u16.to_le_bytes()).put(
            (0x6000, 0x0102),
            VR::US,
            &12_u16.to_le_bytes(),
        )
    });
    assert_eq!(samples, [0x10, 0x10]);
}

#[test]
fn the_window_of_the_caller_takes_the_place_of_the_objects() {
    let pixels: Vec<u8> = [0_i16, 50, 100]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let file = native(&row(3), &pixels, |w| window(w, "1000", "10", "LINEAR"));
    let options = RenderOptions {
        window: Some(Window {
            center: 50.0,
            width: 100.0,
            function: VoiFunction::LinearExact,
        }),
        viewport: None,
    };
    assert_eq!(show(&file, 0, &options).samples, [0, 128, 255]);
}

#[test]
fn the_groups_of_the_frame_come_before_the_shared_and_the_object() {
    let voi = |center: &str| {
        let item = window(
            Writer::new(Encoding::ExplicitLittle),
            center,
            "100",
            "LINEAR_EXACT",
        )
        .bytes;
        Writer::new(Encoding::ExplicitLittle)
            .sequence((0x0028, 0x9132), false, std::slice::from_ref(&item))
            .bytes
    };
    let mut shape = row(1);
    shape.frames = 2;
    let pixels: Vec<u8> = [50_i16, 50].iter().flat_map(|v| v.to_le_bytes()).collect();
    let file = native(&shape, &pixels, |w| {
        window(w, "5000", "100", "LINEAR_EXACT")
            .sequence((0x5200, 0x9229), false, &[voi("100")])
            .sequence((0x5200, 0x9230), false, &[voi("50"), Vec::new()])
    });
    let options = RenderOptions::default();
    assert_eq!(show(&file, 0, &options).samples, [128]);
    assert_eq!(show(&file, 1, &options).samples, [0]);
}

fn table(first: i16, bits: u16, values: &[u16]) -> Vec<u8> {
    let entries = u16::try_from(values.len()).unwrap();
    let mut descriptor = entries.to_le_bytes().to_vec();
    descriptor.extend(first.to_le_bytes());
    descriptor.extend(bits.to_le_bytes());
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Writer::new(Encoding::ExplicitLittle)
        .put((0x0028, 0x3002), VR::SS, &descriptor)
        .put((0x0028, 0x3006), VR::OW, &data)
        .bytes
}

#[test]
fn tables_are_followed_and_end_at_their_ends() {
    let item = table(-1, 12, &[0, 4095, 2048]);
    let samples = grey(&row(5), &[-9, -1, 0, 1, 9], |w| {
        window(w, "1", "2", "LINEAR").sequence((0x0028, 0x3010), true, std::slice::from_ref(&item))
    });
    assert_eq!(samples, [0, 0, 255, 128, 128]);
    let modality = table(0, 16, &[0, 100]);
    let samples = grey(&row(2), &[0, 1], |w| {
        window(w, "100", "200", "LINEAR_EXACT").sequence(
            (0x0028, 0x3000),
            true,
            std::slice::from_ref(&modality),
        )
    });
    assert_eq!(samples, [0, 128]);
}

#[test]
fn a_palette_gives_colours() {
    let mut shape = shape(1, 4, 1, 8);
    shape.photometric = Photometric::PaletteColor;
    let descriptor: Vec<u8> = [2_u16, 10, 16]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let data = |a: u16, b: u16| [a.to_le_bytes(), b.to_le_bytes()].concat();
    let file = native(&shape, &[0, 10, 11, 200], |w| {
        w.put((0x0028, 0x1101), VR::US, &descriptor)
            .put((0x0028, 0x1102), VR::US, &descriptor)
            .put((0x0028, 0x1103), VR::US, &descriptor)
            .put((0x0028, 0x1201), VR::OW, &data(0xFF00, 0x0100))
            .put((0x0028, 0x1202), VR::OW, &data(0x0200, 0x8000))
            .put((0x0028, 0x1203), VR::OW, &data(3, 200))
    });
    let picture = show(&file, 0, &RenderOptions::default());
    assert!(picture.colour);
    assert_eq!(
        picture.samples,
        [255, 2, 3, 255, 2, 3, 1, 128, 200, 1, 128, 200]
    );
}

#[test]
fn planes_and_luminance_become_rgb() {
    let mut planes = shape(1, 2, 3, 8);
    planes.planar = true;
    let file = native(&planes, &[1, 2, 3, 4, 5, 6], |w| w);
    let options = RenderOptions::default();
    assert_eq!(show(&file, 0, &options).samples, [1, 3, 5, 2, 4, 6]);
    let mut ybr = shape(1, 2, 3, 8);
    ybr.photometric = Photometric::YbrFull422;
    let file = native(&ybr, &[76, 77, 85, 255], |w| w);
    assert_eq!(show(&file, 0, &options).samples, [254, 0, 0, 255, 1, 1]);
    let mut deep = shape(1, 1, 3, 16);
    deep.bits_stored = 12;
    deep.high_bit = 11;
    let file = native(&deep, &[0xFF, 0x0F, 0, 8, 0, 0], |w| w);
    assert_eq!(show(&file, 0, &options).samples, [255, 128, 0]);
}

fn viewport(width: u16, height: u16, region: Option<[f64; 4]>) -> RenderOptions {
    let region = region.map(|[x, y, width, height]| Region {
        x,
        y,
        width,
        height,
    });
    RenderOptions {
        window: None,
        viewport: Some(Viewport {
            width,
            height,
            region,
        }),
    }
}

#[test]
fn a_viewport_keeps_the_proportions_and_the_mean() {
    let pixels: Vec<u8> = [0, 100].repeat(32);
    let file = native(&shape(4, 16, 1, 8), &pixels, |w| w);
    let picture = show(&file, 0, &viewport(8, 8, None));
    assert_eq!((picture.width, picture.height), (8, 2));
    assert!(picture.samples.iter().all(|sample| *sample == 50));
    let larger = show(&file, 0, &viewport(64, 64, None));
    assert_eq!((larger.width, larger.height), (64, 16));
}

#[test]
fn a_region_is_cut_out_and_flipped() {
    let pixels: Vec<u8> = (0..16).collect();
    let file = native(&shape(4, 4, 1, 8), &pixels, |w| w);
    let part = show(&file, 0, &viewport(2, 2, Some([1.0, 1.0, 2.0, 2.0])));
    assert_eq!(part.samples, [5, 6, 9, 10]);
    let flipped = show(&file, 0, &viewport(2, 2, Some([1.0, 1.0, -2.0, -2.0])));
    assert_eq!(flipped.samples, [10, 9, 6, 5]);
    let outside = show(&file, 0, &viewport(2, 2, Some([3.0, 3.0, 99.0, f64::NAN])));
    assert_eq!(outside.samples, [15; 4]);
}

#[test]
fn a_viewport_beyond_the_limit_is_refused() {
    let file = native(&shape(1, 1, 1, 8), &[0], |w| w);
    let image = StoredImage::open(file.as_slice(), PixelLimits::default()).unwrap();
    let result = render(&image, 0, &viewport(u16::MAX, u16::MAX, None));
    assert!(matches!(result, Err(PixelError::TooLarge { .. })));
    let result = render(&image, 1, &RenderOptions::default());
    assert!(matches!(result, Err(PixelError::NoSuchFrame { .. })));
}

#[test]
fn pictures_are_written_as_jpeg_and_png() {
    let picture = Picture {
        width: 8,
        height: 8,
        colour: true,
        samples: [10, 20, 30].repeat(64),
    };
    let png = picture.encode(PictureFormat::Png).unwrap();
    let mut reader = png::Decoder::new(std::io::Cursor::new(png))
        .read_info()
        .unwrap();
    let mut samples = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut samples).unwrap();
    assert_eq!(samples, picture.samples);
    let jpeg = picture.encode(PictureFormat::Jpeg { quality: 90 }).unwrap();
    let decoded = jpeg_decoder::Decoder::new(jpeg.as_slice())
        .decode()
        .unwrap();
    assert!(
        decoded
            .iter()
            .zip(&samples)
            .all(|(a, b)| a.abs_diff(*b) < 4)
    );
}

#[test]
fn the_frame_that_stands_for_an_object_is_named_or_in_the_middle() {
    let mut shape = shape(1, 1, 1, 8);
    shape.frames = 5;
    let named = native(&shape, &[0; 5], |w| {
        w.put((0x0028, 0x6010), VR::US, &2_u16.to_le_bytes())
    });
    let image = StoredImage::open(named.as_slice(), PixelLimits::default()).unwrap();
    assert_eq!(representative_frame(&image).unwrap(), 1);
    let plain = native(&shape, &[0; 5], |w| w);
    let image = StoredImage::open(plain.as_slice(), PixelLimits::default()).unwrap();
    assert_eq!(representative_frame(&image).unwrap(), 2);
}
