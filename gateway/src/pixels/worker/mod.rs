//! The codecs written in C and C++, in processes of their own: a crash, an endless loop or a flood of
//! memory in one of them ends that process and the one request it worked for.
//!
//! [`Workers`] is the side of the gateway, [`serve`] that of the process, [`protocol`] what they say
//! to each other.

mod child;
mod process;
mod protocol;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::codec::foreign::Job;
use super::error::PixelError;
pub use child::{ChildLimits, serve, start};
use process::{Lost, Process};

/// The name of the command that a process is started with.
pub const COMMAND: &str = "codec-worker";

/// Where the codecs written in C and C++ run.
#[derive(Debug, Clone, Default)]
pub enum Codecs {
    /// In this process: for tests, benchmarks and tools that may fall with them.
    #[default]
    InProcess,
    /// In processes of their own.
    Workers(Arc<Workers>),
}

impl Codecs {
    pub(super) fn run(&self, job: &Job, input: &[u8]) -> Result<Vec<u8>, PixelError> {
        match self {
            Self::InProcess => job.execute(input),
            Self::Workers(workers) => workers.run(job, input),
        }
    }
}

/// How processes are started and bounded.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The program; it is given the arguments of [`COMMAND`].
    pub program: PathBuf,
    /// Processes kept for the next job.
    pub keep: usize,
    /// Bytes that one process may take.
    pub memory: u64,
    /// Time for one job, from its first byte to the last of its result.
    pub timeout: Duration,
}

impl WorkerSettings {
    /// Settings for processes of the program that runs now, also when its file has been replaced
    /// since: another version would speak another protocol.
    #[must_use]
    pub fn of_this_program(keep: usize, memory: u64, timeout: Duration) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            keep,
            memory,
            timeout,
        }
    }

    fn arguments(&self) -> [OsString; 3] {
        // Whole seconds, rounded up, and one for what is not the job.
        let seconds = self.timeout.as_secs().saturating_add(2);
        [
            COMMAND.into(),
            self.memory.to_string().into(),
            seconds.to_string().into(),
        ]
    }
}

/// Processes for the codecs written in C and C++. They are started when a job finds none idle, and
/// kept for the next; how many run at once is the caller's to bound: the [`pool`](super::pool) does.
#[derive(Debug)]
pub struct Workers {
    settings: WorkerSettings,
    idle: Mutex<Vec<Process>>,
}

impl Workers {
    /// No process yet.
    #[must_use]
    pub fn new(settings: WorkerSettings) -> Self {
        Self {
            settings,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Ids of the processes that wait for a job.
    #[must_use]
    pub fn idle(&self) -> Vec<u32> {
        self.idle.lock().iter().map(Process::id).collect()
    }

    fn run(&self, job: &Job, input: &[u8]) -> Result<Vec<u8>, PixelError> {
        let codec = job.task.codec();
        let mut process = self.take().map_err(PixelError::NoWorker)?;
        metrics::counter!("drimbox_codec_jobs_total", "codec" => codec.word()).increment(1);
        let busy = metrics::gauge!("drimbox_codec_processes_busy");
        busy.increment(1.0);
        let ended = process.exchange(job, input, self.settings.timeout);
        busy.decrement(1.0);
        match ended {
            Ok(answer) => {
                self.give_back(process);
                answer
            }
            Err(lost) => {
                let status = process.end();
                metrics::counter!(
                    "drimbox_codec_processes_lost_total",
                    "codec" => codec.word(),
                    "cause" => lost.word(),
                )
                .increment(1);
                tracing::error!(
                    cause = lost.word(),
                    status,
                    "a process of the {codec} codec was lost: one image could not be decoded or encoded"
                );
                Err(match lost {
                    Lost::TimedOut => PixelError::CodecTimedOut(codec),
                    Lost::Ended | Lost::Nonsense => PixelError::CodecEnded(codec),
                })
            }
        }
    }

    fn take(&self) -> io::Result<Process> {
        loop {
            let idle = self.idle.lock().pop();
            let Some(mut process) = idle else {
                metrics::counter!("drimbox_codec_processes_started_total").increment(1);
                return Process::start(&self.settings);
            };
            // One that ended while it waited harmed nobody.
            if process.is_alive() {
                return Ok(process);
            }
        }
    }

    fn give_back(&self, process: Process) {
        let mut idle = self.idle.lock();
        if idle.len() < self.settings.keep {
            idle.push(process);
        }
    }
}
