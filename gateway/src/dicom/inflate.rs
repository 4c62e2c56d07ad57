//! Bounded inflation of a deflated data set (PS3.5 §A.5, RFC 1951).

use flate2::{Decompress, FlushDecompress, Status};

use super::error::{Problem, ReadError};

const CHUNK: usize = 32 << 10;

/// Inflates fragments as they arrive, through one buffer of 32 KiB.
#[derive(Debug)]
pub(crate) struct Inflater {
    stream: Decompress,
    buffer: Vec<u8>,
    limit: u64,
    padding: u64,
    ended: bool,
}

impl Inflater {
    /// `limit`: bytes that may come out.
    pub fn new(limit: u64) -> Self {
        Self {
            stream: Decompress::new(false),
            buffer: vec![0; CHUNK],
            limit,
            padding: 0,
            ended: false,
        }
    }

    /// Gives what comes out of `input` to `sink`, piece by piece.
    pub fn feed(
        &mut self,
        mut input: &[u8],
        mut sink: impl FnMut(&[u8]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        while !self.ended {
            let before_in = self.stream.total_in();
            let before_out = self.stream.total_out();
            let status = self
                .stream
                .decompress(input, &mut self.buffer, FlushDecompress::None)
                .map_err(|_| self.error(Problem::Inflate))?;
            let taken = usize::try_from(self.stream.total_in() - before_in).unwrap_or(usize::MAX);
            let given = usize::try_from(self.stream.total_out() - before_out).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            if self.stream.total_out() > self.limit {
                return Err(self.error(Problem::InflatedTooLarge(self.limit)));
            }
            sink(self.buffer.get(..given).unwrap_or_default())?;
            self.ended = status == Status::StreamEnd;
            if !self.ended && taken == 0 && given == 0 {
                return if input.is_empty() {
                    Ok(())
                } else {
                    Err(self.error(Problem::Inflate))
                };
            }
        }
        // PS3.5 §A.5: one padding byte may follow, to make the length even.
        self.padding += input.len() as u64;
        if self.padding > 1 {
            Err(self.error(Problem::TrailingBytes))
        } else {
            Ok(())
        }
    }

    /// Says that nothing more comes.
    pub fn finish(&self) -> Result<(), ReadError> {
        if self.ended {
            Ok(())
        } else {
            Err(self.error(Problem::Truncated { missing: 1 }))
        }
    }

    fn error(&self, problem: Problem) -> ReadError {
        ReadError {
            offset: self.stream.total_out(),
            tag: None,
            problem,
        }
    }
}
