//! Sample exams, made by formula: the same profile gives the same files, byte for byte.
//!
//! Patients, accession numbers and pixels are invented, UIDs derive from the exam's name. Compressed
//! pixels come from the encoders of DCMTK and GDCM, which have to be installed. [`generate`] makes the
//! files, [`Manifest`] says what they hold.

mod codec;
mod dataset;
mod exams;
pub mod kos;
mod manifest;
mod names;
mod part10;
mod phantom;
mod plan;
mod uid;
mod video;

use std::collections::HashSet;
use std::error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::{fs, io, thread};

use serde::{Deserialize, Serialize};

pub use manifest::{Exam, Instance, MANIFEST_FILE, Manifest, Series};
pub use part10::pixel_digest;

use plan::ExamPlan;

/// Version of what is generated: raised when a file changes, so that old files are made again.
pub const GENERATOR_VERSION: u32 = 2;

/// How much to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Every kind of exam with a few images each: for tests.
    Small,
    /// The same, and one CT exam of 1 300 images at the size of a real one: for the demonstration.
    Demo,
    /// Every kind of exam at the size of a real one.
    Large,
    /// The exams that the benchmark measures, at full size.
    Bench,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Profile::Small => "small",
            Profile::Demo => "demo",
            Profile::Large => "large",
            Profile::Bench => "bench",
        })
    }
}

/// Why exams could not be made or a manifest not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An encoder is not installed.
    #[error(
        "{tool} is not installed; install the Debian package {package} (apt-get install {package})"
    )]
    MissingTool {
        /// Program that was called.
        tool: &'static str,
        /// Debian package that holds it.
        package: &'static str,
    },
    /// An encoder refused an image.
    #[error("{tool} failed ({status}): {message}")]
    ToolFailed {
        /// Program that was called.
        tool: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote on its error output.
        message: String,
    },
    /// An exam asks for a transfer syntax that no encoder makes.
    #[error("no encoder makes transfer syntax {transfer_syntax}")]
    NoEncoder {
        /// Transfer Syntax UID.
        transfer_syntax: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A DICOM file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Dicom {
        /// File.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// The manifest is not readable as one.
    #[error("{path} is not a manifest of this version: {source}; remove it to make the exams again", path = path.display())]
    Manifest {
        /// The manifest's file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Error {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    fn dicom(path: &Path, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self::Dicom {
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Makes the exams of a profile in the folder `root`, `<exam>/<n>.dcm`, and their manifest.
///
/// Nothing is done when the folder already holds the complete files of that profile and version.
/// Otherwise files of an older manifest that are no longer made are removed; files that no manifest
/// names are left alone. The manifest is written last: a run cut short starts again.
///
/// # Errors
///
/// [`Error::MissingTool`] when an encoder has to be installed; else the first file that failed.
pub fn generate(profile: Profile, root: &Path) -> Result<Manifest, Error> {
    generate_plans(profile, root, &exams::plan(profile))
}

fn generate_plans(profile: Profile, root: &Path, plans: &[ExamPlan]) -> Result<Manifest, Error> {
    let previous = Manifest::load(root).ok();
    if let Some(manifest) = &previous
        && manifest.profile == profile
        && manifest.generator == GENERATOR_VERSION
        && manifest.is_complete()
    {
        return Ok(manifest.clone());
    }
    let manifest = make(profile, root, plans)?;
    if let Some(previous) = previous {
        let kept: HashSet<PathBuf> = manifest.files().collect();
        for path in previous.files().filter(|path| !kept.contains(path)) {
            // A file that is already gone is as good as removed.
            let _ = fs::remove_file(path);
        }
    }
    manifest.save()?;
    Ok(manifest)
}

/// Makes every object of the plans on all processors.
fn make(profile: Profile, root: &Path, plans: &[ExamPlan]) -> Result<Manifest, Error> {
    let seed = profile.to_string();
    let mut jobs = Vec::new();
    let mut exams = Vec::new();
    for (exam, plan) in plans.iter().enumerate() {
        let folder = root.join(&plan.name);
        fs::create_dir_all(&folder).map_err(|source| Error::io(&folder, source))?;
        exams.push(plan.exam(&seed));
        let mut file_number = 0;
        for (series_number, series) in (1..).zip(&plan.series) {
            for (instance_number, instance) in (1..).zip(&series.instances) {
                file_number += 1;
                let numbers = (series_number, instance_number, file_number);
                jobs.push((exam, plan, numbers, (series, instance)));
            }
        }
    }

    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let work = || {
        let mut made = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(exam, plan, numbers, what)) = jobs.get(number) else {
                break;
            };
            let instance = plan.make(&seed, root, numbers, what);
            failed.fetch_or(instance.is_err(), Ordering::Relaxed);
            made.push((number, exam, numbers.0, instance));
        }
        made
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut made = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let mut made = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(part) => made.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        made
    });

    made.sort_by_key(|&(number, ..)| number);
    for (_, exam, series_number, instance) in made {
        let instance = instance?;
        if let Some(series) = exams
            .get_mut(exam)
            .and_then(|exam: &mut Exam| exam.series.get_mut(series_number as usize - 1))
        {
            series.instances.push(instance);
        }
    }
    Ok(Manifest {
        generator: GENERATOR_VERSION,
        profile,
        exams,
        root: root.to_owned(),
    })
}

#[cfg(test)]
mod tests;
