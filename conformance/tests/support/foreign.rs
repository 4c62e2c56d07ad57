//! Programs of others: installed once into the build folder, run to their end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of the build that is filled once, whatever the number of programs that want it.
pub fn installed(name: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = root.join(name);
    let lock = File::create(root.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if !complete.exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        install(&folder);
        File::create(complete).unwrap();
    }
    folder
}

/// What a program prints; it must end well.
pub fn output(what: &str, command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{said}", output.status);
    output.stdout
}
