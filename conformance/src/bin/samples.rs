//! Makes sample exams in a folder.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use conformance::samples::{self, Profile};

/// Makes sample exams as DICOM files, and the manifest that describes them.
#[derive(Parser)]
#[command(name = "samples")]
struct Arguments {
    /// How much to make.
    #[arg(long, value_enum, default_value_t = Profile::Small)]
    profile: Profile,
    /// Folder for <exam>/<n>.dcm and manifest.json; made if it is not there.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match samples::generate(arguments.profile, &arguments.out) {
        Ok(manifest) => {
            println!(
                "{} exams, {} objects, {} MB in {}",
                manifest.exams.len(),
                manifest.instances().count(),
                manifest.size() / 1_000_000,
                arguments.out.display()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("samples: {error}");
            ExitCode::FAILURE
        }
    }
}
