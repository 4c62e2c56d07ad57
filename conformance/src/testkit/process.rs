//! Child processes that never outlive the test.
//!
//! Each runs in its own process group under `setpriv --pdeathsig`, started by one thread that lives
//! as long as this process: the kernel ends the child when that thread ends, that is with the test
//! process, even when it is killed. Its output goes to a file whose end is shown in errors.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use super::KitError;

/// Time between two looks at a condition that gives no event.
const POLL: Duration = Duration::from_millis(10);

/// What to start.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    path: PathBuf,
    args: Vec<String>,
    env: Vec<(String, Option<String>)>,
    folder: PathBuf,
    log: PathBuf,
    death_signal: &'static str,
}

impl Program {
    /// A program known as `name` in errors, run in `folder`, where its log is `NAME.log`.
    #[must_use]
    pub fn new(name: &str, path: impl Into<PathBuf>, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: folder.to_owned(),
            log: folder.join(format!("{name}.log")),
            death_signal: "KILL",
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Removes a variable that this process may have.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.push((name.to_owned(), None));
        self
    }

    /// Has the kernel send TERM instead of KILL when the test process dies: for a program that
    /// must end its own children.
    #[must_use]
    pub fn ends_by_term(mut self) -> Self {
        self.death_signal = "TERM";
        self
    }

    /// Starts it; its log file is continued when it exists.
    ///
    /// # Errors
    /// When the program or `setpriv` is missing, or the log cannot be written.
    pub fn start(&self) -> Result<Process, KitError> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(KitError::io("open", &self.log))?;
        let copy = log.try_clone().map_err(KitError::io("open", &self.log))?;
        if self.path.is_absolute() && !self.path.exists() {
            return Err(KitError::Missing {
                program: self.path.display().to_string(),
            });
        }
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", self.death_signal, "--"])
            .arg(&self.path)
            .args(&self.args)
            .current_dir(&self.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy);
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = spawn(command).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => KitError::Missing {
                program: "setpriv (package util-linux)".into(),
            },
            _ => KitError::Io {
                what: format!("start {}", self.path.display()),
                source,
            },
        })?;
        Ok(Process {
            name: self.name.clone(),
            log: self.log.clone(),
            child,
        })
    }
}

/// A child process; killed with its group when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with what it printed.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines it printed.
    #[must_use]
    pub fn tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// All of its output so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String, KitError> {
        let log = std::fs::read(&self.log).map_err(KitError::io("read", &self.log))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Waits until `probe` holds.
    ///
    /// # Errors
    /// When the process ends first, or `limit` passes; both with the end of its log.
    pub async fn ready(
        &mut self,
        limit: Duration,
        probe: impl AsyncFn() -> bool,
    ) -> Result<(), KitError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return Err(KitError::Ended {
                    name: self.name.clone(),
                    status: status.to_string(),
                    log: self.log.clone(),
                    tail: self.tail(30),
                });
            }
            if probe().await {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.deadline("readiness", limit));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// How it ended; `None` while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end (TERM) and waits for it.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn stop(&mut self, limit: Duration) -> Result<ExitStatus, KitError> {
        self.signal(Signal::TERM);
        self.wait(limit).await
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn wait(&mut self, limit: Duration) -> Result<ExitStatus, KitError> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.deadline("end", limit));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal to the process itself.
    pub fn signal(&mut self, signal: Signal) {
        // After its end its id may belong to another process.
        if self.exit_status().is_none()
            && let Some(pid) = id(&self.child)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills it and its group at once, as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) {
        if self.exit_status().is_none() {
            if let Some(pid) = id(&self.child) {
                let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
    }

    fn deadline(&self, what: &'static str, limit: Duration) -> KitError {
        KitError::Deadline {
            name: self.name.clone(),
            what,
            limit,
            log: self.log.clone(),
            tail: self.tail(30),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn id(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The last lines of a file, from its last 64 KiB.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(65_536)))?;
        let mut bytes = Vec::new();
        file.take(65_536).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let mut last: Vec<&str> = text.lines().rev().take(lines).collect();
    last.reverse();
    last.join("\n")
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts a command from the one thread whose end is the end of this process: the death signal of
/// Linux is bound to the thread that forked, and the threads of tests come and go.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let gone = || std::io::Error::other("the thread that starts processes has ended");
    let (answer, result) = mpsc::channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_program_that_ends_early_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let program = Program::new("early", "/bin/sh", folder.path())
            .arg("-c")
            .arg("echo the port is taken; exit 3");
        let mut process = program.start().unwrap();
        let error = process
            .ready(Duration::from_secs(20), async || false)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("the port is taken"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_process_takes_its_children_along() {
        let folder = tempfile::tempdir().unwrap();
        let child_id = folder.path().join("child");
        let program = Program::new("parent", "/bin/sh", folder.path())
            .arg("-c")
            .arg("sleep 1000 & echo $! > child.new; mv child.new child; wait");
        let mut process = program.start().unwrap();
        process
            .ready(Duration::from_secs(20), async || child_id.exists())
            .await
            .unwrap();
        let child: i32 = std::fs::read_to_string(&child_id)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let stat = PathBuf::from(format!("/proc/{child}/stat"));
        assert!(stat.exists());
        drop(process);
        // Killed; init may not have collected it yet, then it is a zombie.
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::fs::read_to_string(&stat).is_ok_and(|s| !s.contains(") Z ")) {
            assert!(Instant::now() < deadline, "the grandchild still runs");
            std::thread::yield_now();
        }
    }
}
