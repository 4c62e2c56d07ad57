//! Python with packages of PyPI, in an environment that the first run makes in the build folder.
//!
//! `DRIMBOX_SKIP_PYTHON=1` leaves the stories out that need it, on a machine without PyPI.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use super::foreign::{installed, output};

/// The Python of an environment with these packages (`name==version`); another list makes another
/// environment. `None` when the stories are to be left out.
pub fn environment(name: &str, packages: &[&str]) -> Option<PathBuf> {
    if std::env::var_os("DRIMBOX_SKIP_PYTHON").is_some() {
        eprintln!("DRIMBOX_SKIP_PYTHON is set: nothing is shown with {name}");
        return None;
    }
    let folder = format!("python-{}", packages.join("-").replace("==", "-"));
    let environment = installed(&folder, |folder| {
        let what = "make a Python environment (Debian package python3-venv)";
        let mut venv = Command::new("python3");
        output(what, venv.args(["-m", "venv"]).arg(folder));
        let mut pip = Command::new(folder.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check"])
            .args(packages);
        let what = format!("install {name} from PyPI (DRIMBOX_SKIP_PYTHON=1 to leave out)");
        output(&what, &mut pip);
    });
    Some(environment.join("bin/python"))
}

/// Runs a script with one argument; its answer is JSON.
pub async fn ask(python: &Path, script: &str, asked: &str) -> Json {
    let mut script_of = Command::new(python);
    script_of.arg(script).arg(asked);
    let script = script.to_owned();
    let answer = tokio::task::spawn_blocking(move || output(&script, &mut script_of));
    serde_json::from_slice(&answer.await.unwrap()).unwrap()
}
