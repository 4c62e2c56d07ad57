//! What was generated: exams, series, instances, and what proves that their pixels arrived intact.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, Profile};

/// Name of the manifest's file in the output folder.
pub const MANIFEST_FILE: &str = "manifest.json";

/// The list of the exams in a folder, as `manifest.json` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the generator: files of another version are made again.
    pub generator: u32,
    /// Profile the exams were made for.
    pub profile: Profile,
    /// The exams, in the order of their making.
    pub exams: Vec<Exam>,
    /// Folder the files' names start from: where the manifest was written or read.
    #[serde(skip)]
    pub root: PathBuf,
}

/// One study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exam {
    /// Unique name, also the folder of its files: `ct`, `charsets/ir100`, `many-studies/0001`.
    pub name: String,
    /// Study Instance UID (0020,000D).
    pub study_instance_uid: String,
    /// Patient ID (0010,0020).
    pub patient_id: String,
    /// Patient's Name (0010,0010) in UTF-8, component groups kept (`Yamada^Tarou=山田^太郎=…`).
    pub patient_name: String,
    /// Specific Character Set (0008,0005) of the objects, values separated by `\`; empty when absent.
    pub specific_character_set: String,
    /// Accession Number (0008,0050).
    pub accession_number: String,
    /// Study Date (0008,0020), `YYYYMMDD`.
    pub study_date: String,
    /// Study Description (0008,1030).
    pub study_description: String,
    /// The series, by series number.
    pub series: Vec<Series>,
}

/// One series of an [`Exam`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Series Instance UID (0020,000E).
    pub series_instance_uid: String,
    /// Modality (0008,0060).
    pub modality: String,
    /// Series Number (0020,0011).
    pub series_number: u32,
    /// Series Description (0008,103E).
    pub series_description: String,
    /// Number of instances.
    pub count: usize,
    /// The instances, by instance number.
    pub instances: Vec<Instance>,
}

/// One object of a [`Series`], in one Part 10 file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    /// SOP Instance UID (0008,0018).
    pub sop_instance_uid: String,
    /// SOP Class UID (0008,0016).
    pub sop_class_uid: String,
    /// Transfer Syntax UID (0002,0010) of the file.
    pub transfer_syntax_uid: String,
    /// Instance Number (0020,0013).
    pub instance_number: u32,
    /// Number of Frames (0028,0008); 1 for an image without this attribute, 0 without pixels.
    pub frames: u32,
    /// File, relative to the manifest's folder, with `/` as separator.
    pub file: String,
    /// Size of the file in bytes, preamble and file meta information included.
    pub size: u64,
    /// SHA-256 of the pixels in hexadecimal, absent for an object without Pixel Data: see
    /// [`pixel_digest`](super::pixel_digest) for what is hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixel_sha256: Option<String>,
}

impl Manifest {
    /// Reads the manifest of the folder `root`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file can't be read, [`Error::Manifest`] when it is not a manifest of
    /// this version.
    pub fn load(root: &Path) -> Result<Self, Error> {
        let path = root.join(MANIFEST_FILE);
        let text = fs::read(&path).map_err(|source| Error::io(&path, source))?;
        let mut manifest: Manifest =
            serde_json::from_slice(&text).map_err(|source| Error::Manifest { path, source })?;
        manifest.root = root.to_owned();
        Ok(manifest)
    }

    /// Writes the manifest in its folder, whole or not at all.
    pub(super) fn save(&self) -> Result<(), Error> {
        let path = self.root.join(MANIFEST_FILE);
        let mut text = serde_json::to_vec_pretty(self).map_err(|source| Error::Manifest {
            path: path.clone(),
            source,
        })?;
        text.push(b'\n');
        let partial = path.with_extension("json.partial");
        fs::write(&partial, text).map_err(|source| Error::io(&partial, source))?;
        fs::rename(&partial, &path).map_err(|source| Error::io(&path, source))
    }

    /// The exam of that name.
    pub fn exam(&self, name: &str) -> Option<&Exam> {
        self.exams.iter().find(|exam| exam.name == name)
    }

    /// The exams of a set (`charsets`, `many-studies`): those whose name starts with `set/`.
    pub fn set<'a>(&'a self, set: &'a str) -> impl Iterator<Item = &'a Exam> {
        self.exams.iter().filter(move |exam| {
            exam.name
                .strip_prefix(set)
                .is_some_and(|rest| rest.starts_with('/'))
        })
    }

    /// Every instance, in order.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.exams.iter().flat_map(Exam::instances)
    }

    /// Path of every file, in order: what to send to a PACS.
    pub fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.instances().map(|instance| self.path(instance))
    }

    /// Path of the file of one instance.
    pub fn path(&self, instance: &Instance) -> PathBuf {
        self.root.join(&instance.file)
    }

    /// Size of all files in bytes.
    pub fn size(&self) -> u64 {
        self.instances().map(|instance| instance.size).sum()
    }

    /// True when every file is there with its size. Contents are not read.
    pub fn is_complete(&self) -> bool {
        self.instances().all(|instance| {
            fs::metadata(self.path(instance))
                .is_ok_and(|metadata| metadata.is_file() && metadata.len() == instance.size)
        })
    }
}

impl Exam {
    /// Every instance of the study, by series and instance number.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.series.iter().flat_map(|series| &series.instances)
    }

    /// Size of the study's files in bytes.
    pub fn size(&self) -> u64 {
        self.instances().map(|instance| instance.size).sum()
    }
}
