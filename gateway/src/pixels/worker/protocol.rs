//! What the gateway and a codec process say to each other: one job, one answer, in turn.
//!
//! A job is a head of 20 bytes and its input, an answer a head of 9 bytes and its output; numbers are
//! little endian. Both sides know the length before they take memory for it, and bound it.

use crate::pixels::codec::foreign::{Job, Task};

pub(super) const JOB_HEAD: usize = 20;
pub(super) const ANSWER_HEAD: usize = 9;
/// Bytes of one input: more than any frame that limits allow.
pub(super) const INPUT_MAX: u64 = 2 << 30;
/// Bytes of what a codec says when it refuses.
pub(super) const REASON_MAX: u64 = 1 << 10;

/// The head of a job with an input of `length` bytes.
pub(super) fn job_head(job: &Job, length: u64) -> [u8; JOB_HEAD] {
    let task = match job.task {
        Task::DecodeJpegLs => 1,
        Task::EncodeJpegLs => 2,
        Task::DecodeJpeg2000 => 3,
    };
    let [w0, w1] = job.width.to_le_bytes();
    let [h0, h1] = job.height.to_le_bytes();
    let [c0, c1] = job.components.to_le_bytes();
    let [l0, l1, l2, l3, l4, l5, l6, l7] = length.to_le_bytes();
    [
        task,
        u8::from(job.signed),
        job.bits,
        0,
        w0,
        w1,
        h0,
        h1,
        c0,
        c1,
        0,
        0,
        l0,
        l1,
        l2,
        l3,
        l4,
        l5,
        l6,
        l7,
    ]
}

/// The job, and the length of its input; `None` for what is no job.
pub(super) fn read_job(head: &[u8; JOB_HEAD]) -> Option<(Job, u64)> {
    let [
        task,
        signed @ (0 | 1),
        bits @ 1..=64,
        0,
        w0,
        w1,
        h0,
        h1,
        c0,
        c1,
        0,
        0,
        length @ ..,
    ] = *head
    else {
        return None;
    };
    let job = Job {
        task: match task {
            1 => Task::DecodeJpegLs,
            2 => Task::EncodeJpegLs,
            3 => Task::DecodeJpeg2000,
            _ => return None,
        },
        width: u16::from_le_bytes([w0, w1]),
        height: u16::from_le_bytes([h0, h1]),
        components: u16::from_le_bytes([c0, c1]),
        bits,
        signed: signed == 1,
    };
    let length = u64::from_le_bytes(length);
    let sound = (1..=4).contains(&job.components) && length <= INPUT_MAX;
    sound.then_some((job, length))
}

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// The output follows.
    Done,
    /// The codec refused; what it said follows.
    Refused,
    /// The codec panicked; nothing follows.
    Panicked,
}

/// The head of an answer of `length` bytes.
pub(super) fn answer_head(status: Status, length: u64) -> [u8; ANSWER_HEAD] {
    let status = match status {
        Status::Done => 0,
        Status::Refused => 1,
        Status::Panicked => 2,
    };
    let [l0, l1, l2, l3, l4, l5, l6, l7] = length.to_le_bytes();
    [status, l0, l1, l2, l3, l4, l5, l6, l7]
}

/// What an answer to this job is, and its length; `None` for what cannot answer it.
pub(super) fn read_answer(head: &[u8; ANSWER_HEAD], job: &Job) -> Option<(Status, u64)> {
    let [status, length @ ..] = *head;
    let length = u64::from_le_bytes(length);
    match status {
        0 if job.may_give(length) => Some((Status::Done, length)),
        1 if length <= REASON_MAX => Some((Status::Refused, length)),
        2 if length == 0 => Some((Status::Panicked, 0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_job_is_read_as_it_was_written(
            task in prop::sample::select(vec![
                Task::DecodeJpegLs, Task::EncodeJpegLs, Task::DecodeJpeg2000,
            ]),
            width in any::<u16>(),
            height in any::<u16>(),
            components in 1_u16..=4,
            bits in 1_u8..=64,
            signed in any::<bool>(),
            length in 0..=INPUT_MAX,
        ) {
            let job = Job { task, width, height, components, bits, signed };
            prop_assert_eq!(read_job(&job_head(&job, length)), Some((job, length)));
        }

        #[test]
        fn no_answer_is_taken_that_the_job_cannot_have(status in any::<u8>(), length in any::<u64>()) {
            let job = Job {
                task: Task::DecodeJpegLs, width: 10, height: 10, components: 1, bits: 12, signed: false,
            };
            let mut head = answer_head(Status::Done, length);
            let [first, ..] = &mut head;
            *first = status;
            if let Some((status, length)) = read_answer(&head, &job) {
                match status {
                    Status::Done => prop_assert_eq!(length, 200),
                    Status::Refused => prop_assert!(length <= REASON_MAX),
                    Status::Panicked => prop_assert_eq!(length, 0),
                }
            }
        }
    }

    #[test]
    fn an_input_beyond_the_limit_is_no_job() {
        let job = Job {
            task: Task::EncodeJpegLs,
            width: 1,
            height: 1,
            components: 1,
            bits: 8,
            signed: false,
        };
        assert!(read_job(&job_head(&job, INPUT_MAX)).is_some());
        assert!(read_job(&job_head(&job, INPUT_MAX + 1)).is_none());
    }
}
