//! Digital radiographs in JPEG lossless, and ultrasound in every colour encoding in use.

use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};

use super::image::{ImagePixel, colour};
use crate::samples::Profile;
use crate::samples::dataset::Put;
use crate::samples::part10::Pixels;
use crate::samples::phantom::{NoiseTile, Section};
use crate::samples::plan::{ExamPlan, InstancePlan, Name};

/// `dx`: 16-bit radiographs. `us`: RGB by pixel and by plane, YBR_FULL_422, PALETTE COLOR.
pub(super) fn exams(profile: Profile) -> Vec<ExamPlan> {
    let radiographs = match profile {
        Profile::Large => 4,
        Profile::Small | Profile::Demo | Profile::Bench => 1,
    };
    let noise = Arc::new(NoiseTile::new(2140, 1 << 18, 25.0));
    let (rows, columns) = match profile {
        Profile::Large => (600, 800),
        Profile::Small | Profile::Demo | Profile::Bench => (120, 160),
    };
    vec![
        ExamPlan::new(
            "dx",
            "PATIENT-DX",
            Name::ascii("IMAGINAIRE^DENIS"),
            "20260205",
        )
        .described("Radiographie du thorax")
        .series(
            "DX",
            "Face",
            (0..radiographs)
                .map(|number| radiograph(Arc::clone(&noise), number))
                .collect(),
        ),
        ExamPlan::new("us", "PATIENT-US", Name::ascii("MODELE^EMMA"), "20260206")
            .described("Echographie cardiaque")
            .series(
                "US",
                "Couleur",
                vec![
                    ultrasound(
                        rows,
                        columns,
                        uids::EXPLICIT_VR_LITTLE_ENDIAN,
                        Colour::ByPixel,
                    ),
                    ultrasound(
                        rows,
                        columns,
                        uids::EXPLICIT_VR_LITTLE_ENDIAN,
                        Colour::ByPlane,
                    ),
                    ultrasound(rows, columns, uids::JPEG_BASELINE8_BIT, Colour::ByPixel),
                    ultrasound(rows, columns, uids::RLE_LOSSLESS, Colour::ByPixel),
                    ultrasound(
                        rows,
                        columns,
                        uids::EXPLICIT_VR_LITTLE_ENDIAN,
                        Colour::Palette,
                    ),
                ],
            ),
    ]
}

/// Digital X-Ray Image Storage – For Presentation (PS3.3 §A.26), 14 of 16 bits.
fn radiograph(noise: Arc<NoiseTile>, number: u32) -> InstancePlan {
    InstancePlan::new(
        uids::DIGITAL_X_RAY_IMAGE_STORAGE_FOR_PRESENTATION,
        uids::JPEG_LOSSLESS_SV1,
        move |_, dataset| {
            let inverse = number % 2 == 1;
            ImagePixel {
                rows: 2140,
                columns: 2000,
                bits: 14,
                photometric: if inverse {
                    "MONOCHROME1"
                } else {
                    "MONOCHROME2"
                },
            }
            .put(dataset);
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\")
                .text(tags::PRESENTATION_INTENT_TYPE, "FOR PRESENTATION")
                .text(tags::BODY_PART_EXAMINED, "CHEST")
                .text(tags::IMAGE_LATERALITY, "U")
                .text(tags::PATIENT_ORIENTATION, "L\\F")
                .text(tags::VIEW_POSITION, "PA")
                .text(tags::PIXEL_INTENSITY_RELATIONSHIP, "LOG")
                .value(
                    tags::PIXEL_INTENSITY_RELATIONSHIP_SIGN,
                    if inverse { 1_i16 } else { -1 },
                )
                .text(tags::RESCALE_INTERCEPT, "0")
                .text(tags::RESCALE_SLOPE, "1")
                .text(tags::RESCALE_TYPE, "US")
                .text(
                    tags::PRESENTATION_LUT_SHAPE,
                    if inverse { "INVERSE" } else { "IDENTITY" },
                )
                .text(tags::BURNED_IN_ANNOTATION, "NO")
                .text(tags::LOSSY_IMAGE_COMPRESSION, "00")
                .text(tags::IMAGER_PIXEL_SPACING, "0.2\\0.2")
                .text(tags::WINDOW_CENTER, "900")
                .text(tags::WINDOW_WIDTH, "1800");
            let section = Section::trunk(2000, 2140, 0.2 * f64::from(number), 120);
            Ok(Pixels::Native(section.noisy(&noise, number.into(), 16_383)))
        },
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    ByPixel,
    ByPlane,
    Palette,
}

fn ultrasound(
    rows: u16,
    columns: u16,
    transfer_syntax: &'static str,
    layout: Colour,
) -> InstancePlan {
    InstancePlan::new(
        uids::ULTRASOUND_IMAGE_STORAGE,
        transfer_syntax,
        move |_, dataset| {
            ImagePixel {
                rows,
                columns,
                bits: 8,
                photometric: "RGB",
            }
            .put(dataset);
            dataset
                .text(tags::IMAGE_TYPE, "ORIGINAL\\PRIMARY\\TRANSTHORACIC\\0001")
                .text(tags::PATIENT_ORIENTATION, "");
            let rgb = colour(rows, columns, 0.3);
            Ok(Pixels::Native(match layout {
                Colour::ByPixel => rgb,
                Colour::ByPlane => {
                    dataset.value(tags::PLANAR_CONFIGURATION, 1_u16);
                    (0..3)
                        .flat_map(|plane| rgb.iter().skip(plane).step_by(3).copied())
                        .collect()
                }
                Colour::Palette => {
                    palette(dataset);
                    rgb.chunks(3)
                        .map(|pixel| {
                            pixel
                                .iter()
                                .fold(0, |index, &value| index << 2 | value >> 6)
                        })
                        .collect()
                }
            }))
        },
    )
}

/// The palette colour lookup table module (PS3.3 §C.7.9): two bits for each of red, green and blue.
fn palette(dataset: &mut crate::samples::dataset::DataSet) {
    use dicom_core::VR;
    dataset
        .value(tags::SAMPLES_PER_PIXEL, 1_u16)
        .text(tags::PHOTOMETRIC_INTERPRETATION, "PALETTE COLOR");
    dataset.remove_element(tags::PLANAR_CONFIGURATION);
    for (shift, descriptor, data) in [
        (
            4,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            2,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
        (
            0,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
            tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        ),
    ] {
        let table: Vec<u8> = (0..64_u16)
            .flat_map(|index| ((index >> shift & 3) * 0x5555).to_le_bytes())
            .collect();
        dataset
            .raw(descriptor, VR::US, &[64, 0, 0, 0, 16, 0])
            .raw(data, VR::OW, &table);
    }
}
