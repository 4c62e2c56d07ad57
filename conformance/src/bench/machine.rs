//! What the figures of a run depend on: the machine, the versions, the load.

use std::path::Path;
use std::process::Command;

use crate::testkit::KitError;
use crate::testkit::gateway::{self, Memory};

/// Facts for the head of the report, one a line.
#[must_use]
pub fn facts() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        let value = line.and_then(|line| line.split_once(':'));
        value.map_or_else(|| "?".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory: u64 = after(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0);
    let load = read("/proc/loadavg");
    let load: Vec<&str> = load.split(' ').take(3).collect();
    vec![
        format!(
            "{cores} × {}, {} GiB, Linux {}",
            after(&read("/proc/cpuinfo"), "model name"),
            (memory + (1 << 19)) >> 20,
            read("/proc/sys/kernel/osrelease").trim(),
        ),
        format!(
            "load before the run: {} (on an idle machine well below 1)",
            load.join(" ")
        ),
        [
            version(&gateway::binary().unwrap_or_default(), "version"),
            version(Path::new("/usr/sbin/Orthanc"), "--version"),
            version(Path::new("getscu"), "--version"),
            version(Path::new("/usr/sbin/nginx"), "-v"),
        ]
        .join("; "),
    ]
}

/// The first line that a program says of itself.
fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return format!("{} is not there", program.display());
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().next().unwrap_or("?");
    line.trim_matches(['$', ' ']).to_owned()
}

/// Resident memory of a process.
///
/// # Errors
/// When it does not run.
pub fn memory(pid: u32) -> Result<Memory, KitError> {
    let file = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&file).map_err(KitError::io("read", Path::new(&file)))?;
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| KitError::Invalid {
                what: file.clone(),
                reason: format!("no line {key}"),
            })
    };
    Ok(Memory {
        peak: bytes("VmHWM:")?,
        now: bytes("VmRSS:")?,
    })
}

/// Sets the peak of a process back to what it uses now.
///
/// # Errors
/// When the kernel does not allow it.
pub fn reset_peak(pid: u32) -> Result<(), KitError> {
    let file = format!("/proc/{pid}/clear_refs");
    std::fs::write(&file, "5").map_err(KitError::io("write", Path::new(&file)))
}
