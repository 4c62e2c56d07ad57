//! CT exams: JPEG-LS lossless, 512 × 512, 12 of 16 bits, noise tuned so that an image compresses to
//! about 150 kB as a clinical one does.

use std::sync::Arc;

use dicom_dictionary_std::{tags, uids};

use super::image::{ImagePixel, axial_plane};
use crate::samples::Profile;
use crate::samples::dataset::Put;
use crate::samples::part10::Pixels;
use crate::samples::phantom::{NoiseTile, Section};
use crate::samples::plan::{ExamPlan, InstancePlan, Name};

/// `ct`: 1 300 images in three series, and `ct300`: 300 images in one series.
pub(super) fn exams(profile: Profile) -> Vec<ExamPlan> {
    let (counts, single) = match profile {
        Profile::Small => ([8, 3, 1], 6),
        Profile::Demo => ([800, 450, 50], 6),
        Profile::Large | Profile::Bench => ([800, 450, 50], 300),
    };
    let noise = Arc::new(NoiseTile::new(512, 1 << 20, 11.5));
    let [thin, thick, scout] = counts;
    let ct = ExamPlan::new("ct", "PATIENT-CT", Name::ascii("ESSAI^AMELIE"), "20260312")
        .described("Scanner thoraco-abdominal")
        .series("CT", "Thorax fin", series(&noise, thin, Kernel::Sharp))
        .series("CT", "Abdomen", series(&noise, thick, Kernel::Soft))
        .series("CT", "Reperage", series(&noise, scout, Kernel::Scout));
    let ct300 = ExamPlan::new(
        "ct300",
        "PATIENT-CT",
        Name::ascii("ESSAI^AMELIE"),
        "20260519",
    )
    .described("Scanner abdominal de controle")
    .series("CT", "Abdomen", series(&noise, single, Kernel::Soft));
    vec![ct, ct300]
}

/// What tells the series of a CT exam apart.
#[derive(Clone, Copy)]
enum Kernel {
    Sharp,
    Soft,
    Scout,
}

fn series(noise: &Arc<NoiseTile>, count: u32, kernel: Kernel) -> Vec<InstancePlan> {
    (0..count)
        .map(|index| image(Arc::clone(noise), index, count, kernel))
        .collect()
}

fn image(noise: Arc<NoiseTile>, index: u32, count: u32, kernel: Kernel) -> InstancePlan {
    let (name, thickness, image_type) = match kernel {
        Kernel::Sharp => ("SHARP", 0.625, "ORIGINAL\\PRIMARY\\AXIAL"),
        Kernel::Soft => ("SOFT", 1.25, "ORIGINAL\\PRIMARY\\AXIAL"),
        Kernel::Scout => ("SCOUT", 5.0, "ORIGINAL\\PRIMARY\\LOCALIZER"),
    };
    InstancePlan::new(
        uids::CT_IMAGE_STORAGE,
        uids::JPEGLS_LOSSLESS,
        move |place, dataset| {
            ImagePixel {
                rows: 512,
                columns: 512,
                bits: 12,
                photometric: "MONOCHROME2",
            }
            .put(dataset);
            axial_plane(
                dataset,
                0.78125,
                thickness,
                -thickness * f64::from(index) + 100.0,
            );
            dataset
                .text(tags::IMAGE_TYPE, image_type)
                .text(tags::ACQUISITION_NUMBER, "1")
                .text(tags::FRAME_OF_REFERENCE_UID, place.study_uid("frame"))
                .text(tags::POSITION_REFERENCE_INDICATOR, "")
                .text(tags::PATIENT_POSITION, "HFS")
                .text(tags::KVP, "120")
                .text(tags::CONVOLUTION_KERNEL, name)
                .text(tags::RESCALE_INTERCEPT, "-1024")
                .text(tags::RESCALE_SLOPE, "1")
                .text(tags::RESCALE_TYPE, "HU")
                .text(tags::WINDOW_CENTER, "40\\-600")
                .text(tags::WINDOW_WIDTH, "400\\1500")
                .text(tags::WINDOW_CENTER_WIDTH_EXPLANATION, "ABDOMEN\\POUMON");
            let level = f64::from(index) / f64::from(count);
            let section = Section::trunk(512, 512, level, 24);
            let seed = u64::from(index) << 8 | name.len() as u64;
            Ok(Pixels::Native(section.noisy(&noise, seed, 4095)))
        },
    )
}
