//! What is to be made, before it is made: exams as plans whose objects are built one at a time.

use std::fs;
use std::path::Path;

use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};

use super::dataset::{DataSet, Put};
use super::manifest::{Exam, Instance, Series};
use super::part10::{self, EXPLICIT_VR_BIG_ENDIAN, Pixels};
use super::uid::uid;
use super::{Error, codec};

/// A patient's name as text and as the bytes its character set makes of it.
#[derive(Clone)]
pub(super) struct Name {
    /// The name in UTF-8, groups separated by `=`.
    pub text: String,
    /// The value of (0010,0010), without padding.
    pub bytes: Vec<u8>,
    /// Value of Specific Character Set (0008,0005); empty to leave the element out.
    pub character_set: String,
}

impl Name {
    /// A name in the default repertoire, ISO 646.
    pub fn ascii(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            bytes: text.as_bytes().to_vec(),
            character_set: String::new(),
        }
    }
}

/// One study to be made.
pub(super) struct ExamPlan {
    pub name: String,
    pub patient_id: String,
    pub patient_name: Name,
    pub accession_number: String,
    pub study_date: String,
    pub study_description: String,
    pub series: Vec<SeriesPlan>,
}

/// One series to be made.
pub(super) struct SeriesPlan {
    pub modality: &'static str,
    pub description: String,
    pub instances: Vec<InstancePlan>,
}

/// Fills a data set with what its SOP class asks for and returns the pixels.
pub(super) type Build = Box<dyn Fn(&Place, &mut DataSet) -> Result<Pixels, Error> + Send + Sync>;

/// One object to be made.
pub(super) struct InstancePlan {
    pub sop_class: &'static str,
    pub transfer_syntax: &'static str,
    pub layout: Layout,
    pub build: Build,
}

/// How code streams become fragments.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Layout {
    /// A fragment per frame and a Basic Offset Table.
    #[default]
    OffsetTable,
    /// A fragment per frame and an empty Basic Offset Table.
    NoOffsetTable,
    /// Frames cut in fragments of that many bytes, and a Basic Offset Table.
    Split(usize),
    /// The one frame cut in fragments of that many bytes, and an empty Basic Offset Table.
    SplitNoOffsetTable(usize),
    /// A fragment per frame, an empty Basic Offset Table and an Extended one (7FE0,0001).
    ExtendedOffsetTable,
    /// A fragment per frame and a Basic Offset Table whose entries are false.
    WrongOffsetTable,
}

/// The identifiers around an object.
pub(super) struct Place {
    seed: String,
    pub study: String,
    pub series: String,
    pub instance: String,
    pub instance_number: u32,
}

impl Place {
    /// A UID of the study: frame of reference, referenced object…
    pub fn study_uid(&self, name: &str) -> String {
        uid(&format!("{}/{name}", self.seed))
    }

    /// UID of another instance of the same study, by series and instance number, from 1.
    pub fn sibling(&self, series: u32, instance: u32) -> String {
        self.study_uid(&format!("{series}/{instance}"))
    }

    /// UID of another series of the same study, by its number, from 1.
    pub fn sibling_series(&self, series: u32) -> String {
        self.study_uid(&format!("{series}"))
    }
}

impl InstancePlan {
    /// An object with the usual layout of fragments.
    pub fn new(
        sop_class: &'static str,
        transfer_syntax: &'static str,
        build: impl Fn(&Place, &mut DataSet) -> Result<Pixels, Error> + Send + Sync + 'static,
    ) -> Self {
        Self {
            sop_class,
            transfer_syntax,
            layout: Layout::default(),
            build: Box::new(build),
        }
    }

    /// The same object with its code streams laid out otherwise.
    pub fn layout(self, layout: Layout) -> Self {
        Self { layout, ..self }
    }
}

impl ExamPlan {
    /// An exam of one invented patient; the accession number follows from the name of the exam.
    pub fn new(name: &str, patient_id: &str, patient_name: Name, study_date: &str) -> Self {
        let digits = uid(&format!("accession/{name}"));
        let digits: String = digits.chars().rev().take(8).collect();
        Self {
            name: name.to_owned(),
            patient_id: patient_id.to_owned(),
            patient_name,
            accession_number: format!("E{digits}"),
            study_date: study_date.to_owned(),
            study_description: String::new(),
            series: Vec::new(),
        }
    }

    /// The same exam with a description, in the default repertoire.
    pub fn described(self, description: &str) -> Self {
        Self {
            study_description: description.to_owned(),
            ..self
        }
    }

    /// The same exam with one more series.
    pub fn series(
        mut self,
        modality: &'static str,
        description: &str,
        instances: Vec<InstancePlan>,
    ) -> Self {
        self.series.push(SeriesPlan {
            modality,
            description: description.to_owned(),
            instances,
        });
        self
    }

    /// The manifest's entry, its instances not made yet. `profile` keeps the UIDs of the profiles apart.
    pub fn exam(&self, profile: &str) -> Exam {
        let seed = self.seed(profile);
        let series = (1..)
            .zip(&self.series)
            .map(|(number, series)| Series {
                series_instance_uid: uid(&format!("{seed}/{number}")),
                modality: series.modality.to_owned(),
                series_number: number,
                series_description: series.description.clone(),
                count: series.instances.len(),
                instances: Vec::new(),
            })
            .collect();
        Exam {
            name: self.name.clone(),
            study_instance_uid: uid(&seed),
            patient_id: self.patient_id.clone(),
            patient_name: self.patient_name.text.clone(),
            specific_character_set: self.patient_name.character_set.clone(),
            accession_number: self.accession_number.clone(),
            study_date: self.study_date.clone(),
            study_description: self.study_description.clone(),
            series,
        }
    }

    fn seed(&self, profile: &str) -> String {
        format!("{profile}/{}", self.name)
    }

    /// Makes one object and writes its file, number `file_number` of the exam's folder.
    pub fn make(
        &self,
        profile: &str,
        root: &Path,
        (series_number, instance_number, file_number): (u32, u32, usize),
        (series, plan): (&SeriesPlan, &InstancePlan),
    ) -> Result<Instance, Error> {
        let seed = self.seed(profile);
        let place = Place {
            study: uid(&seed),
            series: uid(&format!("{seed}/{series_number}")),
            instance: uid(&format!("{seed}/{series_number}/{instance_number}")),
            instance_number,
            seed,
        };
        let file = format!("{}/{file_number}.dcm", self.name);
        let path = root.join(&file);
        let mut dataset = self.common(&place, series_number, series, plan.sop_class);
        let mut pixels = (plan.build)(&place, &mut dataset)?;
        if let Pixels::Native(native) = &mut pixels
            && !is_native(plan.transfer_syntax)
        {
            let native = std::mem::take(native);
            let frames = codec::encode(plan.transfer_syntax, &mut dataset, native, root)?;
            pixels = plan.layout.fragments(frames, &mut dataset);
        }
        let pixel_sha256 = part10::write_file(&path, &dataset, plan.transfer_syntax, &mut pixels)?;
        let frames = match dataset.get(tags::NUMBER_OF_FRAMES) {
            Some(frames) => frames
                .to_int()
                .map_err(|error| Error::dicom(&path, error))?,
            None => u32::from(pixel_sha256.is_some()),
        };
        let size = fs::metadata(&path)
            .map_err(|source| Error::io(&path, source))?
            .len();
        Ok(Instance {
            sop_instance_uid: place.instance,
            sop_class_uid: plan.sop_class.to_owned(),
            transfer_syntax_uid: plan.transfer_syntax.to_owned(),
            instance_number,
            frames,
            file,
            size,
            pixel_sha256,
        })
    }

    /// Patient, study, series, equipment and SOP common modules (PS3.3 §C.7.1 to C.7.5, C.12.1).
    fn common(
        &self,
        place: &Place,
        series_number: u32,
        series: &SeriesPlan,
        sop_class: &str,
    ) -> DataSet {
        let mut dataset = DataSet::new_empty();
        if !self.patient_name.character_set.is_empty() {
            dataset.text(
                tags::SPECIFIC_CHARACTER_SET,
                self.patient_name.character_set.as_str(),
            );
        }
        let mut name = self.patient_name.bytes.clone();
        if name.len() % 2 == 1 {
            name.push(b' ');
        }
        dataset
            .text(tags::SOP_CLASS_UID, sop_class)
            .text(tags::SOP_INSTANCE_UID, place.instance.as_str())
            .text(tags::STUDY_DATE, self.study_date.as_str())
            .text(tags::SERIES_DATE, self.study_date.as_str())
            .text(tags::CONTENT_DATE, self.study_date.as_str())
            .text(tags::STUDY_TIME, "091500")
            .text(tags::SERIES_TIME, "091730")
            .text(tags::CONTENT_TIME, "091731")
            .text(tags::ACCESSION_NUMBER, self.accession_number.as_str())
            .text(tags::MODALITY, series.modality)
            .text(tags::MANUFACTURER, "Sample generator")
            .text(tags::INSTITUTION_NAME, "Centre d'imagerie imaginaire")
            .text(tags::REFERRING_PHYSICIAN_NAME, "")
            .text(tags::STUDY_DESCRIPTION, self.study_description.as_str())
            .text(tags::SERIES_DESCRIPTION, series.description.as_str())
            .text(tags::MANUFACTURER_MODEL_NAME, "Phantom")
            .text(tags::PATIENT_ID, self.patient_id.as_str())
            .text(tags::PATIENT_BIRTH_DATE, "19700101")
            .text(tags::PATIENT_SEX, "O")
            .text(tags::DEVICE_SERIAL_NUMBER, "1")
            .text(tags::SOFTWARE_VERSIONS, "1")
            .text(tags::STUDY_INSTANCE_UID, place.study.as_str())
            .text(tags::SERIES_INSTANCE_UID, place.series.as_str())
            .text(tags::STUDY_ID, "1")
            .text(tags::SERIES_NUMBER, series_number.to_string())
            .text(tags::INSTANCE_NUMBER, place.instance_number.to_string())
            .raw(tags::PATIENT_NAME, VR::PN, &name);
        dataset
    }
}

/// True for the transfer syntaxes that hold native pixels.
fn is_native(transfer_syntax: &str) -> bool {
    matches!(
        transfer_syntax,
        uids::IMPLICIT_VR_LITTLE_ENDIAN
            | uids::EXPLICIT_VR_LITTLE_ENDIAN
            | EXPLICIT_VR_BIG_ENDIAN
            | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    )
}

impl Layout {
    /// Lays code streams out in fragments of even length.
    fn fragments(self, frames: Vec<Vec<u8>>, dataset: &mut DataSet) -> Pixels {
        let size = match self {
            Layout::Split(size) | Layout::SplitNoOffsetTable(size) => size.next_multiple_of(2),
            _ => usize::MAX,
        };
        let mut offsets = Vec::new();
        let mut lengths = Vec::new();
        let mut fragments = Vec::new();
        let mut position = 0_usize;
        for mut frame in frames {
            lengths.push(frame.len() as u64);
            if frame.len() % 2 == 1 {
                frame.push(0);
            }
            offsets.push(position);
            for fragment in frame.chunks(size) {
                position += 8 + fragment.len();
                fragments.push(fragment.to_vec());
            }
        }
        if self == Layout::ExtendedOffsetTable {
            let offsets: Vec<u64> = offsets.iter().map(|&offset| offset as u64).collect();
            for (tag, values) in [
                (tags::EXTENDED_OFFSET_TABLE, offsets),
                (tags::EXTENDED_OFFSET_TABLE_LENGTHS, lengths),
            ] {
                let value = PrimitiveValue::U64(values.into_iter().collect());
                dataset.put(DataElement::new(tag, VR::OV, value));
            }
        }
        let offsets = match self {
            Layout::OffsetTable | Layout::Split(_) => offsets,
            Layout::WrongOffsetTable => offsets.iter().map(|offset| offset * 2 + 4).collect(),
            _ => Vec::new(),
        };
        Pixels::Encapsulated {
            offsets: offsets.into_iter().map(|offset| offset as u32).collect(),
            fragments,
        }
    }
}
