//! The side of the codec process: bounds itself, then takes one job after the other until the gateway
//! is gone.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::protocol::{ANSWER_HEAD, JOB_HEAD, REASON_MAX, Status, answer_head, read_job};
use crate::pixels::error::PixelError;

/// Bytes of address space beside those of jobs: the program itself and what it is linked to.
const PROGRAM: u64 = 256 << 20;

/// Bounds of a codec process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLimits {
    /// Bytes that jobs may take.
    pub memory: u64,
    /// Seconds of processor time for one job.
    pub seconds: u64,
}

/// Runs this process as a codec process on its standard input and output: takes away from itself what
/// codecs do not need, then serves.
///
/// The kernel ends a process that takes more memory or time than the limits say, also when the gateway
/// is no longer there to do it.
///
/// # Errors
/// When a limit cannot be set: nothing is decoded then. See also [`serve`].
pub fn start(limits: ChildLimits) -> io::Result<()> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    limit(Resource::As, limits.memory.saturating_add(PROGRAM))?;
    // A core would hold an image. No file, socket or process is opened from here on.
    for resource in [
        Resource::Core,
        Resource::Fsize,
        Resource::Nofile,
        Resource::Nproc,
    ] {
        limit(resource, 0)?;
    }
    rustix::thread::set_no_new_privs(true)?;
    serve(input, output, || time_for_one_job(limits.seconds))
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let both = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, both)?)
}

/// The kernel counts from the start of the process, so the limit moves on with each job.
fn time_for_one_job(seconds: u64) -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec;
    let most = u64::try_from(used)
        .unwrap_or_default()
        .saturating_add(seconds);
    let soft = Rlimit {
        current: Some(most),
        maximum: None,
    };
    Ok(setrlimit(Resource::Cpu, soft)?)
}

/// Takes jobs from `input` and answers on `output` until the input ends between two jobs. `before` is
/// called before each.
///
/// # Errors
/// When a job is none, is cut, or its answer cannot be written.
pub fn serve(
    mut input: impl Read,
    mut output: impl Write,
    before: impl Fn() -> io::Result<()>,
) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut head = [0; JOB_HEAD];
        let (first, rest) = head.split_at_mut(1);
        if input.read(first)? == 0 {
            return Ok(());
        }
        input.read_exact(rest)?;
        let (job, length) = read_job(&head)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "this is no job"))?;
        before()?;
        bytes.clear();
        let capacity = usize::try_from(length).map_err(io::Error::other)?;
        bytes
            .try_reserve_exact(capacity)
            .map_err(io::Error::other)?;
        if input.by_ref().take(length).read_to_end(&mut bytes)? < capacity {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (head, answer) = answer(job.execute(&bytes));
        // What a large frame took is not kept for the next.
        bytes = Vec::new();
        output.write_all(&head)?;
        output.write_all(&answer)?;
        output.flush()?;
    }
}

fn answer(result: Result<Vec<u8>, PixelError>) -> ([u8; ANSWER_HEAD], Vec<u8>) {
    let (status, bytes) = match result {
        Ok(output) => (Status::Done, output),
        Err(PixelError::Damaged { reason, .. } | PixelError::Encode { reason, .. }) => {
            let mut reason = reason.into_bytes();
            reason.truncate(usize::try_from(REASON_MAX).unwrap_or_default());
            (Status::Refused, reason)
        }
        Err(_) => (Status::Panicked, Vec::new()),
    };
    (answer_head(status, bytes.len() as u64), bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::protocol::{job_head, read_answer};
    use super::*;
    use crate::pixels::codec::foreign::{Job, Task};

    const JOB: Job = Job {
        task: Task::EncodeJpegLs,
        width: 4,
        height: 2,
        components: 1,
        bits: 8,
        signed: false,
    };

    fn asked(job: &Job, input: &[u8]) -> Vec<u8> {
        let mut bytes = job_head(job, input.len() as u64).to_vec();
        bytes.extend_from_slice(input);
        bytes
    }

    fn served(input: &[u8]) -> (io::Result<()>, Vec<u8>) {
        let mut output = Vec::new();
        let ended = serve(input, &mut output, || Ok(()));
        (ended, output)
    }

    /// The first answer, and what follows it.
    fn next<'a>(output: &'a [u8], job: &Job) -> (Status, &'a [u8], &'a [u8]) {
        let (head, rest) = output.split_first_chunk().unwrap();
        let (status, length) = read_answer(head, job).unwrap();
        let (answer, rest) = rest.split_at(usize::try_from(length).unwrap());
        (status, answer, rest)
    }

    #[test]
    fn jobs_are_answered_in_turn_and_a_refusal_ends_nothing() {
        let samples = [1, 2, 3, 4, 5, 6, 7, 8];
        let broken = asked(&JOB, &samples[..7]);
        let (ended, output) = served(&[broken, asked(&JOB, &samples)].concat());
        ended.unwrap();
        let (status, reason, rest) = next(&output, &JOB);
        assert_eq!(
            (status, reason),
            (Status::Refused, &b"samples are missing"[..])
        );
        let (status, stream, rest) = next(rest, &JOB);
        assert_eq!((status, rest), (Status::Done, &[][..]));
        let back = Job {
            task: Task::DecodeJpegLs,
            ..JOB
        };
        let (_, output) = served(&asked(&back, stream));
        assert_eq!(next(&output, &back), (Status::Done, &samples[..], &[][..]));
    }

    #[test]
    fn a_job_cut_anywhere_ends_the_process_with_an_error() {
        let whole = asked(&JOB, &[7; 8]);
        assert!(served(&[]).0.is_ok());
        for end in 1..whole.len() {
            let (ended, output) = served(whole.get(..end).unwrap());
            assert!(ended.is_err() && output.is_empty(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = served(&bytes);
        }
    }
}
