//! What a program does to files, as strace(1) sees its system calls.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::KitError;

/// A system call on a file that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// The file was made, with these permission bits.
    Created(PathBuf, u32),
    /// The folder was made.
    Folder(PathBuf),
    /// Something was written to it.
    Written(PathBuf),
    /// The file or folder was made durable.
    Synced(PathBuf),
    /// The file has another name, or takes the place of another file.
    Renamed(PathBuf, PathBuf),
}

/// The words that run a program with its calls written to `file`. The program is the process that is started, not strace.
#[must_use]
pub fn traced(file: &Path) -> Vec<OsString> {
    let calls = "openat,write,pwrite64,writev,copy_file_range,sendfile,fsync,fdatasync,\
                 rename,renameat,renameat2,mkdir,mkdirat";
    let words = [
        "strace",
        "-D",
        "-f",
        "-y",
        "-qq",
        "-s",
        "0",
        "--seccomp-bpf",
    ];
    let mut words: Vec<OsString> = words.map(Into::into).into();
    words.extend(["-e".into(), format!("trace={calls}").into()]);
    words.extend(["-e".into(), "signal=none".into(), "-o".into(), file.into()]);
    words
}

/// The calls that a file of strace tells of, in the order in which they returned.
///
/// # Errors
/// When it cannot be read, or tells of no call at all.
pub fn calls(file: &Path) -> Result<Vec<Call>, KitError> {
    let text = std::fs::read_to_string(file).map_err(KitError::io("read", file))?;
    let mut begun: Vec<(&str, &str)> = Vec::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let Some((thread, line)) = line.split_once(' ') else {
            continue;
        };
        let line = line.trim_start();
        if let Some(start) = line.strip_suffix(" <unfinished ...>") {
            // A thread has one call under way; one that ended with its thread never returned.
            begun.retain(|(of, _)| *of != thread);
            begun.push((thread, start));
        } else if let Some(rest) = line.strip_prefix("<... ") {
            let start = begun.iter().position(|(of, _)| *of == thread);
            let end = rest.split_once(" resumed>").map(|(_, end)| end);
            if let (Some(start), Some(end)) = (start, end) {
                let (_, start) = begun.swap_remove(start);
                calls.extend(call(&format!("{start}{end}")));
            }
        } else {
            calls.extend(call(line));
        }
    }
    if calls.is_empty() {
        return Err(KitError::Invalid {
            what: file.display().to_string(),
            reason: format!("strace tells of no call:\n{text}"),
        });
    }
    Ok(calls)
}

/// The files below `folder` that got their names before what was written to them was durable, and those whose names were not
/// made durable after it; folders that were made there, are there still, and whose names were not made durable.
#[must_use]
pub fn not_durable(calls: &[Call], folder: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let (from, to) = match call {
            Call::Renamed(from, to) => (from, to),
            Call::Folder(made) if made.starts_with(folder) && made.is_dir() => {
                let parent = made.parent().unwrap_or(Path::new("/")).to_owned();
                let after = calls.get(at..).unwrap_or_default();
                if !after.contains(&Call::Synced(parent)) {
                    wrong.push(format!("the folder {} was never durable", made.display()));
                }
                continue;
            }
            _ => continue,
        };
        if !to.starts_with(folder) {
            continue;
        }
        let (before, after) = (
            calls.get(..at).unwrap_or_default(),
            calls.get(at..).unwrap_or_default(),
        );
        let last = |call: &Call| before.iter().rposition(|other| other == call);
        if last(&Call::Written(from.clone())) > last(&Call::Synced(from.clone())) {
            wrong.push(format!(
                "{} was renamed before it was durable",
                from.display()
            ));
        }
        // A folder takes along what is in it.
        for (made_at, made) in before.iter().enumerate() {
            let Call::Created(made, _) = made else {
                continue;
            };
            let holds = made.parent().filter(|folder| folder.starts_with(from));
            let synced = holds.map(|folder| last(&Call::Synced(folder.to_owned())));
            if synced.is_some_and(|synced| synced < Some(made_at)) {
                wrong.push(format!(
                    "the name {} was not durable when its folder got another",
                    made.display()
                ));
            }
        }
        let parent = to.parent().unwrap_or(Path::new("/")).to_owned();
        if !after.contains(&Call::Synced(parent)) {
            wrong.push(format!("the new name {} was never durable", to.display()));
        }
    }
    wrong
}

/// One line without its thread: `fsync(5</data/key.tmp>) = 0`.
fn call(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    if result.starts_with(['-', '?']) {
        return None;
    }
    // The descriptors of an argument are followed by what they are open on.
    let open_on = |text: &str| -> Option<PathBuf> {
        let (_, path) = text.split_once('<')?;
        let (path, _) = path.split_once('>')?;
        path.starts_with('/').then(|| path.into())
    };
    let mut quoted = arguments.split('"').skip(1).step_by(2).map(PathBuf::from);
    match name {
        "write" | "pwrite64" | "writev" => open_on(arguments).map(Call::Written),
        "copy_file_range" => {
            let (_, to) = arguments.split_once(">, ")?;
            open_on(to).map(Call::Written)
        }
        "sendfile" => open_on(arguments).map(Call::Written),
        "fsync" | "fdatasync" => open_on(arguments).map(Call::Synced),
        "rename" | "renameat" | "renameat2" => Some(Call::Renamed(quoted.next()?, quoted.next()?)),
        "openat" if arguments.contains("O_CREAT") => {
            let arguments = arguments.trim_end().trim_end_matches(')');
            let (_, mode) = arguments.rsplit_once(", ")?;
            let mode = u32::from_str_radix(mode, 8).unwrap_or(0o7777);
            Some(Call::Created(open_on(result)?, mode))
        }
        "mkdir" | "mkdirat" => {
            let made = quoted.next()?;
            made.is_absolute().then_some(Call::Folder(made))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str) -> Vec<Call> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace");
        std::fs::write(&file, text).unwrap();
        calls(&file).unwrap()
    }

    #[test]
    fn a_name_before_its_content_and_a_name_that_may_go_are_seen() {
        let good = "7 openat(AT_FDCWD</tmp>, \"/d/key.tmp\", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 5</d/key.tmp>\n\
                    7 write(5</d/key.tmp>, \"\"..., 12) = 12\n\
                    7 fsync(5</d/key.tmp> <unfinished ...>\n\
                    8 write(6<socket:[3]>, \"\"..., 12) = 12\n\
                    7 <... fsync resumed>)             = 0\n\
                    7 rename(\"/d/key.tmp\", \"/d/key\") = 0\n\
                    7 fsync(5</d>) = 0\n";
        let key = || PathBuf::from("/d/key.tmp");
        let all = read(good);
        assert_eq!(
            all,
            [
                Call::Created(key(), 0o600),
                Call::Written(key()),
                Call::Synced(key()),
                Call::Renamed(key(), "/d/key".into()),
                Call::Synced("/d".into()),
            ]
        );
        assert!(not_durable(&all, Path::new("/d")).is_empty());
        for missing in [2, 4] {
            let mut fewer = all.clone();
            fewer.remove(missing);
            assert_eq!(not_durable(&fewer, Path::new("/d")).len(), 1, "{missing}");
            assert!(not_durable(&fewer, Path::new("/elsewhere")).is_empty());
        }
    }

    #[test]
    fn a_call_that_another_thread_interrupts_is_read_whole() {
        let text = "7 openat(AT_FDCWD</tmp>, \"/d/a\", O_WRONLY|O_CREAT|O_CLOEXEC, 0640 <unfinished ...>\n\
                    8 mkdir(\"/d/b\", 0700) = 0\n\
                    7 <... openat resumed>)             = 5</d/a>\n\
                    7 fsync(5</d/a> <unfinished ...>\n\
                    7 write(5</d/a>, \"\"..., 12)       = ?\n";
        let all = read(text);
        assert_eq!(
            all,
            [
                Call::Folder("/d/b".into()),
                Call::Created("/d/a".into(), 0o640)
            ]
        );
        assert!(
            not_durable(&all, Path::new("/d")).is_empty(),
            "no such folder is there"
        );
        let there = tempfile::tempdir().unwrap();
        let made = [Call::Folder(there.path().into())];
        assert_eq!(not_durable(&made, there.path()).len(), 1);
        let parent = there.path().parent().unwrap().to_owned();
        let synced = [&made[..], &[Call::Synced(parent)]].concat();
        assert!(not_durable(&synced, there.path()).is_empty());
    }

    #[test]
    fn what_a_folder_takes_along_is_durable_before() {
        let all = [
            Call::Created("/d/new/key".into(), 0o600),
            Call::Synced("/d/new".into()),
            Call::Renamed("/d/new".into(), "/d/old".into()),
            Call::Synced("/d".into()),
        ];
        assert!(not_durable(&all, Path::new("/d")).is_empty());
        let [made, synced, rest @ ..] = all;
        for early in [vec![synced, made.clone()], vec![made]] {
            let calls = [&early, &rest[..]].concat();
            assert_eq!(not_durable(&calls, Path::new("/d")).len(), 1, "{early:?}");
        }
    }

    #[test]
    fn a_call_that_failed_did_nothing() {
        let text = "7 rename(\"/d/a\", \"/d/b\") = -1 ENOENT (No such file or directory)\n7 fsync(5</d>) = 0\n";
        assert_eq!(read(text), [Call::Synced("/d".into())]);
    }
}
