//! Studies of many small images, with the KOS that announces them.

use std::path::{Path, PathBuf};

use conformance::samples::kos::{Kos, KosSeries};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::meta::FileMetaTableBuilder;

use super::{exam, exams, folder};

/// A study, its KOS, and its files.
pub struct Study {
    /// The KOS.
    pub kos: Kos,
    /// Series Instance UID, SOP Instance UID and file of each image.
    pub files: Vec<(String, String, PathBuf)>,
}

impl Study {
    /// That many small images for each series, each with pixels of its own, which a KOS announces under
    /// this root of a DICOMweb service.
    pub fn of(name: &str, uid: &str, root: &str, series: &[usize]) -> Self {
        let study = uid;
        let folder = folder(&format!("{name}-images"));
        let source = &exam("many-studies/0001").series[0].instances[0];
        let mut object = dicom_object::open_file(exams().path(source))
            .unwrap()
            .into_inner();
        let mut kos = Kos::of(exam("many-studies/0001"), "");
        kos.instance = format!("{study}.99");
        kos.study = study.to_owned();
        kos.series.clear();
        let mut files = Vec::new();
        for (number, count) in series.iter().enumerate() {
            let uid = format!("{study}.{number}");
            let mut instances = Vec::new();
            for image in 0..*count {
                let instance = format!("{uid}.{image}");
                let put =
                    |tag, vr, value: &str| DataElement::new(tag, vr, PrimitiveValue::from(value));
                object.put(put(tags::STUDY_INSTANCE_UID, VR::UI, study));
                object.put(put(tags::SERIES_INSTANCE_UID, VR::UI, &uid));
                object.put(put(tags::SOP_INSTANCE_UID, VR::UI, &instance));
                object.put(put(tags::INSTANCE_NUMBER, VR::IS, &image.to_string()));
                let pixels = (0..256_usize).map(|at| ((at + image * 7 + number) % 251) as u8);
                let pixels = PrimitiveValue::U8(pixels.collect());
                object.put(DataElement::new(tags::PIXEL_DATA, VR::OW, pixels));
                let meta = FileMetaTableBuilder::new()
                    .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
                    .media_storage_sop_class_uid(&source.sop_class_uid)
                    .media_storage_sop_instance_uid(&instance);
                let path = folder.join(format!("{number}-{image}.dcm"));
                let file = object.clone().with_meta(meta).unwrap();
                file.write_to_file(&path).unwrap();
                files.push((uid.clone(), instance.clone(), path));
                instances.push((source.sop_class_uid.clone(), instance));
            }
            kos.series.push(KosSeries {
                retrieve_url: Some(format!("{root}/studies/{study}/series/{uid}")),
                uid,
                about: ("CT".into(), "Essai".into()),
                instances,
            });
        }
        Self { kos, files }
    }

    /// The files alone.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(_, _, path)| path.clone()).collect()
    }

    /// Every image is in the folder, byte for byte, and nothing else.
    pub fn assert_in(&self, folder: &Path) {
        for (series, instance, source) in &self.files {
            let came = folder.join(series).join(format!("{instance}.dcm"));
            assert!(
                data_set_of(&came) == data_set_of(source),
                "{}",
                came.display()
            );
        }
        let entries = |path: &Path| std::fs::read_dir(path).unwrap().flatten();
        let all: usize = entries(folder)
            .map(|series| entries(&series.path()).count())
            .sum();
        assert_eq!(all, self.files.len(), "other files were left");
    }
}

/// The data set of a file on disk.
fn data_set_of(path: &Path) -> Vec<u8> {
    let file = std::fs::read(path).unwrap();
    let meta = drimbox::dicom::part10::parse(&file).unwrap();
    file[meta.data_set_offset..].to_vec()
}
