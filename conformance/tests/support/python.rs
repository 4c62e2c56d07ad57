//! Python with packages of PyPI, in an environment that the first run makes in the build folder.
//!
//! `DRIMBOX_SKIP_PYTHON=1` leaves the stories out that need it, on a machine without PyPI.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

/// The Python of an environment with these packages (`name==version`); another list makes another
/// environment. `None` when the stories are to be left out.
pub fn environment(name: &str, packages: &[&str]) -> Option<PathBuf> {
    if std::env::var_os("DRIMBOX_SKIP_PYTHON").is_some() {
        eprintln!("DRIMBOX_SKIP_PYTHON is set: nothing is shown with {name}");
        return None;
    }
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(root.join("python.lock")).unwrap();
    lock.lock().unwrap();
    let environment = root.join(format!("python-{}", packages.join("-").replace("==", "-")));
    let complete = environment.join("complete");
    if !complete.exists() {
        let _ = std::fs::remove_dir_all(&environment);
        let what = "make a Python environment (Debian package python3-venv)";
        command(
            what,
            Command::new("python3")
                .arg("-m")
                .arg("venv")
                .arg(&environment),
        );
        let mut pip = Command::new(environment.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"])
            .args(packages);
        let what = format!("install {name} from PyPI (DRIMBOX_SKIP_PYTHON=1 to leave out)");
        command(&what, &mut pip);
        File::create(complete).unwrap();
    }
    Some(environment.join("bin/python"))
}

/// Runs a script with one argument; its answer is JSON.
pub async fn ask(python: &Path, script: &str, asked: &str) -> Json {
    let mut script_of = Command::new(python);
    script_of.arg(script).arg(asked);
    let script = script.to_owned();
    let answer = tokio::task::spawn_blocking(move || command(&script, &mut script_of));
    serde_json::from_slice(&answer.await.unwrap()).unwrap()
}

fn command(what: &str, command: &mut Command) -> Vec<u8> {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{said}", output.status);
    output.stdout
}
