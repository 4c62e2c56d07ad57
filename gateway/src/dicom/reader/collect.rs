//! Reads a data set while it goes by, and keeps its small values only.

use std::borrow::Cow;

use super::tape::{Kept, Tape};
use super::{DataSet, Limits, ReadError};
use crate::dicom::inflate::Inflater;
use crate::dicom::syntax::Encoding;
use crate::dicom::walk::Walker;

/// Reads a data set of any size in bounded memory: the result has everything but the values that
/// are too long to keep and the pixels, of which it says where they are.
#[derive(Debug)]
pub struct Collector {
    walker: Walker,
    inflater: Option<Inflater>,
    tape: Tape,
}

impl Collector {
    /// A collector that keeps values of at most `value_max` bytes, and `total_max` bytes of them
    /// altogether.
    #[must_use]
    pub fn new(encoding: Encoding, limits: Limits, value_max: u32, total_max: u32) -> Self {
        Self {
            walker: Walker::new(encoding, limits, None),
            inflater: (encoding == Encoding::DeflatedExplicitLittle)
                .then(|| Inflater::new(limits.inflated_bytes)),
            tape: Tape::keeping(Kept::new(value_max, total_max as usize)),
        }
    }

    /// Takes the next bytes of the data set.
    ///
    /// # Errors
    /// [`ReadError`] when the bytes are no data set or exceed the limits.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        let Self {
            walker,
            inflater,
            tape,
        } = self;
        match inflater {
            None => walker.feed(bytes, &mut |event| tape.take(event)),
            Some(inflater) => inflater.feed(bytes, |bytes| {
                walker.feed(bytes, &mut |event| tape.take(event))
            }),
        }
    }

    /// Says that the data set ends here, which must be between two top-level elements.
    ///
    /// # Errors
    /// [`ReadError`] when the data set was cut short.
    pub fn finish(self) -> Result<DataSet<'static>, ReadError> {
        let Self {
            mut walker,
            inflater,
            mut tape,
        } = self;
        if let Some(inflater) = inflater {
            inflater.finish()?;
        }
        walker.finish(&mut |event| tape.take(event))?;
        tape.close_value();
        let (bytes, large) = tape
            .kept
            .map(|kept| (kept.bytes, kept.large))
            .unwrap_or_default();
        Ok(DataSet {
            bytes: Cow::Owned(bytes),
            nodes: tape.nodes,
            large,
        })
    }
}
