//! What the figures of a run depend on: the machine, the versions, the load.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

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

/// Time on processors that a process took so far, with the children it has and those it had.
///
/// # Errors
/// When it does not run.
pub fn processor_time(pid: u32) -> Result<Duration, KitError> {
    let folder = Path::new("/proc");
    let entries = std::fs::read_dir(folder).map_err(KitError::io("list", folder))?;
    let mut all: HashMap<u32, (u32, u64)> = HashMap::new();
    for entry in entries.flatten() {
        let Some(known) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // A process that ended in between is counted by its parent.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        if let Some((parent, ticks)) = parent_and_ticks(&text) {
            all.insert(known, (parent, ticks));
        }
    }
    if !all.contains_key(&pid) {
        return Err(KitError::Invalid {
            what: format!("process {pid}"),
            reason: "it does not run".into(),
        });
    }
    let belongs = |mut process: u32| {
        // Deeper than any family of processes here, and no loop.
        for _ in 0..32 {
            if process == pid {
                return true;
            }
            let Some((parent, _)) = all.get(&process) else {
                return false;
            };
            process = *parent;
        }
        false
    };
    let family = all.iter().filter(|(process, _)| belongs(**process));
    let ticks: u64 = family.map(|(_, (_, ticks))| ticks).sum();
    let milliseconds = ticks * 1000 / rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_millis(milliseconds))
}

/// Parent, and clock ticks of a process and of its children that ended (proc_pid_stat(5)).
fn parent_and_ticks(stat: &str) -> Option<(u32, u64)> {
    // The name, which may hold anything, ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let parent = fields.get(1)?.parse().ok()?;
    let ticks: Option<Vec<u64>> = fields
        .get(11..15)?
        .iter()
        .map(|field| field.parse().ok())
        .collect();
    Some((parent, ticks?.into_iter().sum()))
}

/// Sets the peak of a process back to what it uses now.
///
/// # Errors
/// When the kernel does not allow it.
pub fn reset_peak(pid: u32) -> Result<(), KitError> {
    let file = format!("/proc/{pid}/clear_refs");
    std::fs::write(&file, "5").map_err(KitError::io("write", Path::new(&file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_read_whatever_its_name() {
        let stat = "42 (a) R (b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6";
        assert_eq!(parent_and_ticks(stat), Some((7, 127)));
        assert_eq!(parent_and_ticks("42 (cut"), None);
    }

    #[test]
    fn this_process_took_some_time_and_one_that_is_not_there_none() {
        assert!(processor_time(std::process::id()).is_ok());
        assert!(processor_time(u32::MAX).is_err());
    }
}
