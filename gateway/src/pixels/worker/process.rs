//! One codec process, as the gateway holds it.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::WorkerSettings;
use super::protocol::{ANSWER_HEAD, INPUT_MAX, Status, job_head, read_answer};
use crate::pixels::codec::foreign::Job;
use crate::pixels::error::PixelError;

/// Bytes written or read between two looks at the clock.
const STEP: usize = 1 << 20;

/// Why a process cannot be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It ended.
    Ended,
    /// It gave no whole answer in time.
    TimedOut,
    /// It answered something else than what was asked.
    Nonsense,
}

impl Lost {
    /// A fixed word for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::TimedOut => "timeout",
            Self::Nonsense => "protocol",
        }
    }
}

/// A process and the socket that is its standard input and output. It ends when this is dropped, and
/// when the gateway ends however that happens: its input is then closed.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    socket: UnixStream,
}

impl Process {
    /// Starts a process. It inherits no environment and no other open file.
    pub fn start(settings: &WorkerSettings) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let input = OwnedFd::from(theirs.try_clone()?);
        let child = Command::new(&settings.program)
            .arg0("drimbox")
            .args(settings.arguments())
            .env_clear()
            .current_dir("/")
            .stdin(input)
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::null())
            // What a terminal sends to the gateway is not for it.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, socket })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Gives it one job. After `Err` the state of the exchange is unknown: the process must go.
    pub fn exchange(
        &mut self,
        job: &Job,
        input: &[u8],
        timeout: Duration,
    ) -> Result<Result<Vec<u8>, PixelError>, Lost> {
        let length = input.len() as u64;
        if length > INPUT_MAX {
            return Ok(Err(PixelError::TooLarge {
                what: "bytes of one frame",
                size: length,
                limit: INPUT_MAX,
            }));
        }
        let mut timed = Timed {
            socket: &self.socket,
            until: Instant::now() + timeout,
        };
        timed.send(&job_head(job, length))?;
        timed.send(input)?;
        let mut head = [0; ANSWER_HEAD];
        timed.fill(&mut head)?;
        let (status, length) = read_answer(&head, job).ok_or(Lost::Nonsense)?;
        let mut answer = vec![0; usize::try_from(length).map_err(|_| Lost::Nonsense)?];
        timed.fill(&mut answer)?;
        Ok(match status {
            Status::Done => Ok(answer),
            Status::Refused => {
                let reason = String::from_utf8_lossy(&answer).into_owned();
                Err(job.task.refused(reason))
            }
            Status::Panicked => Err(PixelError::Panicked(job.task.codec())),
        })
    }

    /// Ends it; tells how it ended, in a word for the log.
    pub fn end(mut self) -> String {
        // One that ended by itself keeps its own status.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket that is read and written until a moment.
struct Timed<'s> {
    socket: &'s UnixStream,
    until: Instant,
}

impl Timed<'_> {
    fn left(&self) -> Result<Duration, Lost> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Lost::TimedOut);
        }
        Ok(left)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = Some(self.left()?);
            self.socket.set_write_timeout(left).map_err(lost)?;
            let piece = rest.get(..STEP).unwrap_or(rest);
            match self.socket.write(piece) {
                Ok(0) => return Err(Lost::Ended),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(())
    }

    fn fill(&mut self, mut rest: &mut [u8]) -> Result<(), Lost> {
        while !rest.is_empty() {
            let left = Some(self.left()?);
            self.socket.set_read_timeout(left).map_err(lost)?;
            let most = rest.len().min(STEP);
            match self.socket.read(rest.get_mut(..most).unwrap_or_default()) {
                Ok(0) => return Err(Lost::Ended),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value)]
fn lost(error: io::Error) -> Lost {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Lost::TimedOut,
        _ => Lost::Ended,
    }
}
