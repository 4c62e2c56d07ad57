//! The table of published exams: one for each study of a PACS that a KOS was published for.
//!
//! It is what [`access`](crate::access) asks before images leave for another DRIMbox or for the link
//! of a report. What is not in it is not published.
//!
//! One exam is one file, written under a name of its own, synced and renamed: after a crash it is as
//! it was before or as it was to become. Files are read when they are asked for, and the last ones are
//! kept in memory, so that the table has any size.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use moka::sync::Cache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::patient::{PatientFacts, date};
use crate::dicom::kos::{Kos, PersonIdentity};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// Largest file of one exam, bytes: the largest KOS that is read has 100 000 instances.
pub const MAX_BYTES: u64 = 16 << 20;
/// Bytes of exams kept in memory.
const IN_MEMORY: u64 = 32 << 20;
/// Longest trait of a patient, bytes: a name has three groups of 64 characters (PS3.5 §6.2).
const MAX_TRAIT: usize = 1024;
/// Other names of one patient.
const MAX_NAMES: usize = 16;
/// Folder of files that are being written.
const UNFINISHED: &str = "unfinished";

/// An exam whose KOS was published.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedExam {
    /// Name of the PACS in the configuration.
    pub pacs: String,
    /// The study.
    pub study: StudyUid,
    /// SOP Instance UID of its current KOS.
    pub kos: InstanceUid,
    /// The series that the KOS names.
    pub series: Vec<PublishedSeries>,
    /// Accession numbers of the exam.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accessions: Vec<Accession>,
    /// Id of the report (CDA `id`: `root`, or `root^extension`) whose link opens the exam.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cda_id: Option<String>,
    /// The INS of the patient, where the KOS has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ins: Option<PatientIns>,
    /// The traits of the patient that stand beside the INS in the KOS; none in records of before they were kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub identity: PersonIdentity,
    /// What restricts access to it.
    #[serde(default)]
    pub restrictions: Restrictions,
    /// What proves that somebody is its patient.
    #[serde(default, skip_serializing_if = "is_default")]
    pub patient: PatientFacts,
}

/// A series of an exam.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedSeries {
    /// Series Instance UID (0020,000E).
    pub series: SeriesUid,
    /// SOP Instance UIDs (0008,0018) of its instances.
    pub instances: Vec<InstanceUid>,
}

/// An accession number and who issued it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accession {
    /// OID of the issuer: the `root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The number: the `extension`.
    pub number: String,
}

/// National health identity of a patient.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatientIns {
    /// The matricule.
    pub matricule: String,
    /// OID of its authority: NIR or NIA, production or test.
    pub authority: String,
}

/// What restricts access to an exam (metadata of the report, DMP-MSS).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restrictions {
    /// INVISIBLE_PATIENT: not for the patient, as long as a professional has not told them.
    pub invisible_patient: bool,
    /// MASQUE_PS: masked to professionals other than those who made it.
    pub masked_to_professionals: bool,
    /// The patient does not want it shared: nobody outside the centre gets it.
    pub opposed: bool,
}

impl PublishedExam {
    /// The exam that a KOS describes.
    #[must_use]
    pub fn of_kos(pacs: &str, kos: &Kos) -> Self {
        let accessions = kos.accessions().into_iter();
        let accessions = accessions.map(|(number, issuer)| Accession {
            issuer: issuer.map(str::to_owned),
            number: number.to_owned(),
        });
        let series = kos.series.iter().map(|series| PublishedSeries {
            series: series.series.clone(),
            instances: series
                .instances
                .iter()
                .map(|one| one.instance.clone())
                .collect(),
        });
        let ins = kos.patient.ins().and_then(|ins| {
            Some(PatientIns {
                matricule: ins.value.clone(),
                authority: ins.universal_issuer.clone()?,
            })
        });
        Self {
            pacs: pacs.to_owned(),
            study: kos.study.clone(),
            kos: kos.instance.clone(),
            series: series.collect(),
            accessions: accessions.collect(),
            cda_id: None,
            ins,
            identity: identity(&kos.patient.identity),
            restrictions: Restrictions::default(),
            patient: PatientFacts {
                birth_date: kos.patient.identity.birth_date.as_deref().and_then(date),
                ..PatientFacts::default()
            },
        }
    }

    /// Whether the KOS names this series.
    #[must_use]
    pub fn has_series(&self, series: &SeriesUid) -> bool {
        self.series.iter().any(|one| one.series == *series)
    }

    /// Whether the KOS names this instance in this series.
    #[must_use]
    pub fn has_instance(&self, series: &SeriesUid, instance: &InstanceUid) -> bool {
        let mut series = self.series.iter().filter(|one| one.series == *series);
        series.any(|one| one.instances.contains(instance))
    }

    /// Instances of all series.
    #[must_use]
    pub fn instance_count(&self) -> usize {
        self.series.iter().map(|one| one.instances.len()).sum()
    }

    /// About how much memory it takes, bytes.
    fn weight(&self) -> u32 {
        let traits: usize = self.identity.texts().map(|text| text.len() + 24).sum();
        u32::try_from(self.instance_count() * 96 + self.series.len() * 128 + traits + 512)
            .unwrap_or(u32::MAX)
    }
}

/// Patients and orders are not shown.
impl fmt::Debug for PublishedExam {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishedExam")
            .field("pacs", &self.pacs)
            .field("study", &self.study)
            .field("kos", &self.kos)
            .field("series", &self.series.len())
            .field("restrictions", &self.restrictions)
            .finish_non_exhaustive()
    }
}

/// Why the table cannot answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExamError {
    /// The disk failed or is full.
    #[error(
        "the table of published exams could not {what} {path}: {source}. Make room or mend the disk"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A file is not as it was written.
    #[error(
        "{path} is damaged: the exam counts as not published. Move the file away and register the \
         exam again with `drimbox exams add`"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// More instances than one exam has.
    #[error("the exam is larger than {MAX_BYTES} bytes in the table")]
    TooLarge,
}

impl ExamError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what,
            path: path.to_owned(),
            source: Arc::new(source),
        }
    }
}

/// The table. Clones are the same table.
#[derive(Clone)]
pub struct Exams {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    recent: Cache<Key, Arc<PublishedExam>>,
    /// Held while a file is written or removed, and what is kept in memory with it.
    writing: Mutex<u64>,
}

/// SHA-256 of the names of PACS and study: nothing that comes from outside becomes a file name.
type Key = [u8; 32];

/// What stands in a file.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    exam: PublishedExam,
}

impl Exams {
    /// Opens the table in a folder of its own, made where it does not exist. Blocks.
    ///
    /// # Errors
    /// [`ExamError`].
    pub fn open(dir: &Path) -> Result<Self, ExamError> {
        let unfinished = dir.join(UNFINISHED);
        fs::create_dir_all(&unfinished).map_err(ExamError::io("make", &unfinished))?;
        // What a crash left half written was never acknowledged.
        for entry in fs::read_dir(&unfinished).map_err(ExamError::io("list", &unfinished))? {
            let path = entry.map_err(ExamError::io("list", &unfinished))?.path();
            fs::remove_file(&path).map_err(ExamError::io("remove", &path))?;
        }
        let recent = Cache::builder()
            .max_capacity(IN_MEMORY)
            .weigher(|_, exam: &Arc<PublishedExam>| exam.weight())
            .build();
        Ok(Self {
            inner: Arc::new(Inner {
                dir: dir.to_owned(),
                recent,
                writing: Mutex::new(0),
            }),
        })
    }

    /// The exam published for a study of a PACS.
    ///
    /// # Errors
    /// [`ExamError`], when that cannot be known.
    pub async fn get(
        &self,
        pacs: &str,
        study: &StudyUid,
    ) -> Result<Option<Arc<PublishedExam>>, ExamError> {
        let key = key(pacs, study);
        if let Some(exam) = self.inner.recent.get(&key) {
            return Ok(Some(exam));
        }
        self.blocking(move |inner| inner.read(&key)).await
    }

    /// Puts an exam in the place of the one published for its study. When this returns, it is on
    /// disk.
    ///
    /// # Errors
    /// [`ExamError`]; what was published before still is.
    pub async fn put(&self, exam: PublishedExam) -> Result<(), ExamError> {
        self.blocking(move |inner| inner.write(exam)).await
    }

    /// Takes an exam out; whether it was there. When this returns, that is on disk.
    ///
    /// # Errors
    /// [`ExamError`]; it is published still.
    pub async fn remove(&self, pacs: &str, study: &StudyUid) -> Result<bool, ExamError> {
        let key = key(pacs, study);
        self.blocking(move |inner| inner.remove(&key)).await
    }

    /// Every exam, in no order that means anything, `most` at most; damaged files are left out.
    ///
    /// # Errors
    /// [`ExamError`] when the folder cannot be listed.
    pub async fn list(&self, most: usize) -> Result<Vec<Arc<PublishedExam>>, ExamError> {
        self.blocking(move |inner| inner.list(most)).await
    }

    /// Puts the PDF of a report beside its exam, in the place of the one before. When this returns, it is on disk.
    /// `false` when no such exam is published.
    ///
    /// # Errors
    /// [`ExamError`]; the one before is still there.
    pub async fn put_report(
        &self,
        pacs: &str,
        study: &StudyUid,
        pdf: Vec<u8>,
    ) -> Result<bool, ExamError> {
        let key = key(pacs, study);
        self.blocking(move |inner| inner.write_report(&key, &pdf))
            .await
    }

    /// The PDF of the report of an exam, and its length in bytes.
    ///
    /// # Errors
    /// [`ExamError`] when that cannot be known.
    pub async fn report(
        &self,
        pacs: &str,
        study: &StudyUid,
    ) -> Result<Option<(File, u64)>, ExamError> {
        let key = key(pacs, study);
        self.blocking(move |inner| inner.read_report(&key)).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, ExamError> + Send + 'static,
    ) -> Result<T, ExamError> {
        let inner = Arc::clone(&self.inner);
        let dir = inner.dir.clone();
        // Runs to its end even when the caller goes away: what is on disk and in memory agree.
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|panic| ExamError::io("use", &dir)(io::Error::other(panic)))?
    }
}

impl Inner {
    fn read(&self, key: &Key) -> Result<Option<Arc<PublishedExam>>, ExamError> {
        let before = *self.writing.lock();
        let path = self.path(key);
        let Some(exam) = read_file(&path, key)? else {
            return Ok(None);
        };
        let exam = Arc::new(exam);
        // Unless it changed meanwhile: then the next one reads it again.
        let writing = self.writing.lock();
        if *writing == before {
            self.recent.insert(*key, Arc::clone(&exam));
        }
        Ok(Some(exam))
    }

    fn write(&self, exam: PublishedExam) -> Result<(), ExamError> {
        let key = key(&exam.pacs, &exam.study);
        let stored = Stored { version: 1, exam };
        let path = self.path(&key);
        let text = serde_json::to_vec(&stored).map_err(|_| ExamError::TooLarge)?;
        if text.len() as u64 > MAX_BYTES {
            return Err(ExamError::TooLarge);
        }
        let mut writing = self.writing.lock();
        let new = self.dir.join(UNFINISHED).join(hex(&key));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(ExamError::io("write", &new))?;
        let shard = self.shard(&key);
        if !shard.is_dir() {
            fs::create_dir(&shard).map_err(ExamError::io("make", &shard))?;
            sync(&self.dir)?;
        }
        fs::rename(&new, &path).map_err(ExamError::io("write", &path))?;
        // Shown to nobody before it is sure to last, and not any more whatever comes.
        *writing += 1;
        self.recent.invalidate(&key);
        sync(&shard)?;
        self.recent.insert(key, Arc::new(stored.exam));
        Ok(())
    }

    fn write_report(&self, key: &Key, pdf: &[u8]) -> Result<bool, ExamError> {
        // Neither a removal nor a newer exam comes between.
        let _writing = self.writing.lock();
        if !self.path(key).is_file() {
            return Ok(false);
        }
        let path = self.report_path(key);
        let new = self.dir.join(UNFINISHED).join(format!("{}.pdf", hex(key)));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(pdf)?;
            file.sync_all()
        };
        write().map_err(ExamError::io("write", &new))?;
        fs::rename(&new, &path).map_err(ExamError::io("write", &path))?;
        sync(&self.shard(key))?;
        Ok(true)
    }

    fn read_report(&self, key: &Key) -> Result<Option<(File, u64)>, ExamError> {
        let path = self.report_path(key);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ExamError::io("read", &path)(error)),
        };
        let length = file.metadata().map_err(ExamError::io("read", &path))?.len();
        Ok(Some((file, length)))
    }

    fn remove(&self, key: &Key) -> Result<bool, ExamError> {
        let path = self.path(key);
        let mut writing = self.writing.lock();
        let report = self.report_path(key);
        match fs::remove_file(&report) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ExamError::io("remove", &report)(error)),
        }
        *writing += 1;
        self.recent.invalidate(key);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(ExamError::io("remove", &path)(error)),
        }
        sync(&self.shard(key))?;
        Ok(true)
    }

    fn list(&self, most: usize) -> Result<Vec<Arc<PublishedExam>>, ExamError> {
        let mut exams = Vec::new();
        for shard in fs::read_dir(&self.dir).map_err(ExamError::io("list", &self.dir))? {
            let shard = shard.map_err(ExamError::io("list", &self.dir))?.path();
            if shard.ends_with(UNFINISHED) || !shard.is_dir() {
                continue;
            }
            for file in fs::read_dir(&shard).map_err(ExamError::io("list", &shard))? {
                let path = file.map_err(ExamError::io("list", &shard))?.path();
                if exams.len() >= most {
                    return Ok(exams);
                }
                let Some(key) = path.file_name().and_then(|name| unhex(name.to_str()?)) else {
                    continue;
                };
                match read_file(&path, &key) {
                    Ok(exam) => exams.extend(exam.map(Arc::new)),
                    Err(error) => tracing::error!("{error}"),
                }
            }
        }
        Ok(exams)
    }

    fn shard(&self, key: &Key) -> PathBuf {
        let [first, ..] = key;
        self.dir.join(format!("{first:02x}"))
    }

    fn report_path(&self, key: &Key) -> PathBuf {
        self.shard(key).join(format!("{}.pdf", hex(key)))
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.shard(key).join(hex(key))
    }
}

fn read_file(path: &Path, key: &Key) -> Result<Option<PublishedExam>, ExamError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ExamError::io("read", path)(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(ExamError::io("read", path))?;
    let damaged = || ExamError::Damaged {
        path: path.to_owned(),
    };
    let stored: Stored = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let same = stored.version == 1 && self::key(&stored.exam.pacs, &stored.exam.study) == *key;
    if same {
        Ok(Some(stored.exam))
    } else {
        Err(damaged())
    }
}

/// Makes what was renamed in a folder, or removed from it, last.
fn sync(dir: &Path) -> Result<(), ExamError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(ExamError::io("sync", dir))
}

fn key(pacs: &str, study: &StudyUid) -> Key {
    let mut hash = Sha256::new();
    hash.update(pacs.as_bytes());
    // No PACS and no UID has this byte.
    hash.update([0]);
    hash.update(study.as_str().as_bytes());
    hash.finalize().into()
}

fn hex(key: &Key) -> String {
    use fmt::Write as _;
    key.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(name: &str) -> Option<Key> {
    let mut key = [0; 32];
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(name.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(key)
}

/// Why a description of an exam cannot be taken into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExam {
    /// Nothing could be asked for.
    #[error("the exam names no instance")]
    Empty,
    /// A series or an instance stands there twice.
    #[error("the exam names a series or an instance twice")]
    Twice,
    /// A text that is empty or longer than any genuine one.
    #[error("an accession number, a report id or an INS is empty or longer than 256 characters")]
    Text,
    /// What is known of the patient has not its form.
    #[error("the facts about the patient have not their form")]
    Patient,
    /// A trait of the patient that is longer than any genuine one, or more other names than a person has.
    #[error(
        "a trait of the patient is empty or longer than 1024 bytes, or there are more than 16 other names"
    )]
    Identity,
}

impl PublishedExam {
    /// Checks what [`serde`] cannot.
    ///
    /// # Errors
    /// [`InvalidExam`].
    pub fn check(&self) -> Result<(), InvalidExam> {
        if self.instance_count() == 0 {
            return Err(InvalidExam::Empty);
        }
        if !self.patient.is_well_formed() {
            return Err(InvalidExam::Patient);
        }
        let identity = &self.identity;
        if identity.other_names.len() > MAX_NAMES || !identity.texts().all(is_trait) {
            return Err(InvalidExam::Identity);
        }
        let (mut series, mut instances) = (HashSet::new(), HashSet::new());
        let mut of_series = self.series.iter();
        let once = of_series.all(|one| {
            series.insert(&one.series) && one.instances.iter().all(|uid| instances.insert(uid))
        });
        if !once {
            return Err(InvalidExam::Twice);
        }
        let accessions = self
            .accessions
            .iter()
            .flat_map(|accession| [Some(accession.number.as_str()), accession.issuer.as_deref()]);
        let ins = self
            .ins
            .iter()
            .flat_map(|ins| [Some(ins.matricule.as_str()), Some(ins.authority.as_str())]);
        let mut texts = accessions
            .chain(ins)
            .chain([self.cda_id.as_deref()])
            .flatten();
        if texts.all(|text| (1..=256).contains(&text.len()) && !text.chars().any(char::is_control))
        {
            Ok(())
        } else {
            Err(InvalidExam::Text)
        }
    }
}

/// The traits of a KOS that are traits: whatever else a device wrote in their place is left out.
fn identity(written: &PersonIdentity) -> PersonIdentity {
    let fits = |text: &&String| is_trait(text);
    let kept = |text: &Option<String>| text.as_ref().filter(fits).cloned();
    let place = kept(&written.birth_place);
    PersonIdentity {
        name: kept(&written.name),
        other_names: written
            .other_names
            .iter()
            .filter(fits)
            .take(MAX_NAMES)
            .cloned()
            .collect(),
        birth_date: kept(&written.birth_date),
        sex: kept(&written.sex),
        // Patient Comments of others are comments: a code of the COG has five digits or letters.
        birth_place: place.filter(|code| {
            code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }),
    }
}

fn is_trait(text: &str) -> bool {
    (1..=MAX_TRAIT).contains(&text.len())
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
pub(crate) mod tests;
