//! OHIF as npm ships it, installed once into the state of the benchmark and set up as a hospital would serve it:
//! files compressed beforehand, its PACS on the same origin.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA512, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Deserialize;

use crate::testkit::KitError;

/// The package: its dependencies are built into its `dist`, so none of them is installed.
const LOCK: &str = include_str!("../../../ohif/lock.json");
/// What is added to its configuration.
const CONFIGURATION: &str = include_str!("../../../ohif/app-config.js");
/// Parts that no CT needs: models for segmentation, slides.
const LEFT_OUT: [&str; 2] = ["ort", "dicom-microscopy-viewer"];
const COMPRESSED: [&str; 6] = ["js", "css", "wasm", "json", "svg", "html"];

#[derive(Debug, Deserialize)]
struct Lock {
    name: String,
    version: String,
    integrity: String,
}

/// OHIF's files.
#[derive(Debug)]
pub(super) struct Ohif {
    /// Where they are.
    pub folder: PathBuf,
    /// Which version they are of.
    pub version: String,
}

impl Ohif {
    /// Installs it below `build` unless it is there.
    ///
    /// # Errors
    /// When npm does not reach its registry, or the package is another than the one that the lock names.
    pub fn install(build: &Path) -> Result<Self, KitError> {
        let lock: Lock = serde_json::from_str(LOCK).map_err(KitError::http("read OHIF's lock"))?;
        let folder = build.join(format!("ohif-{}", lock.version));
        let complete = folder.join("complete");
        if !complete.exists() {
            eprintln!("installing {} {} from npm", lock.name, lock.version);
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).map_err(KitError::io("create", &folder))?;
            let package = fetch(&lock, &folder)?;
            unpack(&package, &folder)?;
            fs::remove_file(&package).map_err(KitError::io("remove", &package))?;
            configure(&folder.join("app-config.js"))?;
            compress(&folder)?;
            File::create(&complete).map_err(KitError::io("create", &complete))?;
        }
        Ok(Self {
            folder,
            version: lock.version,
        })
    }
}

fn fetch(lock: &Lock, folder: &Path) -> Result<PathBuf, KitError> {
    let wanted = format!("{}@{}", lock.name, lock.version);
    run(Command::new("npm")
        .args(["pack", "--silent", &wanted])
        .current_dir(folder))?;
    let packages = crate::testkit::orthanc::files_below(folder)?;
    let package = packages.into_iter().next().unwrap_or_default();
    let bytes = fs::read(&package).map_err(KitError::io("read", &package))?;
    let found = format!("sha512-{}", STANDARD.encode(digest(&SHA512, &bytes)));
    if found == lock.integrity {
        Ok(package)
    } else {
        Err(KitError::Invalid {
            what: wanted,
            reason: format!("its integrity is {found}, the lock has {}", lock.integrity),
        })
    }
}

fn unpack(package: &Path, folder: &Path) -> Result<(), KitError> {
    let mut tar = Command::new("tar");
    tar.arg("-xzf").arg(package).arg("-C").arg(folder);
    tar.args(["--strip-components=2", "package/dist"]);
    for part in LEFT_OUT {
        tar.arg(format!("--exclude=package/dist/{part}"));
    }
    run(&mut tar)
}

fn configure(file: &Path) -> Result<(), KitError> {
    let mut own = File::options()
        .append(true)
        .open(file)
        .map_err(KitError::io("open", file))?;
    write!(own, "\n{CONFIGURATION}").map_err(KitError::io("write", file))
}

fn compress(folder: &Path) -> Result<(), KitError> {
    for file in crate::testkit::orthanc::files_below(folder)? {
        let kind = file.extension().and_then(|kind| kind.to_str());
        if !kind.is_some_and(|kind| COMPRESSED.contains(&kind)) {
            continue;
        }
        let bytes = fs::read(&file).map_err(KitError::io("read", &file))?;
        let mut name = file.clone().into_os_string();
        name.push(".gz");
        let target = PathBuf::from(name);
        let out = File::create(&target).map_err(KitError::io("create", &target))?;
        let mut encoder = GzEncoder::new(out, Compression::best());
        encoder
            .write_all(&bytes)
            .and_then(|()| encoder.finish().map(drop))
            .map_err(KitError::io("write", &target))?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), KitError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let said = command.output().map_err(|_| KitError::Missing {
        program: program.clone(),
    })?;
    if said.status.success() {
        return Ok(());
    }
    Err(KitError::Invalid {
        what: format!("{program} for OHIF"),
        reason: String::from_utf8_lossy(&said.stderr).into_owned(),
    })
}
