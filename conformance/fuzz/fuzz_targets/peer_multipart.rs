//! The answer of another DRIMbox: whatever it sends, only instances of the series come through, each once and whole, and
//! in whatever pieces it arrives.
#![no_main]

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use drimbox::archive::peer::{TransferLimits, inspect};
use drimbox::archive::{IncomingInstance, InstanceSink, InstanceWriter, SinkError};
use drimbox::dicom::scan::Limits;
use drimbox::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use libfuzzer_sys::fuzz_target;

const TYPE: &str = "multipart/related; type=\"application/dicom\"; boundary=b";

fuzz_target!(|input: &[u8]| {
    let Some((pieces, body)) = input.split_first() else {
        return;
    };
    let whole = read(body, usize::MAX);
    assert_eq!(read(body, usize::from(*pieces) + 1), whole);
});

/// The instances that came through; `None` when the answer is refused. What the sink finished is what is said.
fn read(body: &[u8], pieces: usize) -> Option<HashSet<InstanceUid>> {
    let known: HashSet<_> = ["1.2.3.1.1", "1.2.3.1.2"]
        .map(|uid| InstanceUid::parse(uid).expect("a UID"))
        .into();
    let limits = TransferLimits {
        instance_bytes: 4096,
        answer_bytes: u64::MAX,
        response_timeout: Duration::from_secs(1),
        data_set: Limits::default(),
    };
    let study = StudyUid::parse("1.2.3").expect("a UID");
    let series = SeriesUid::parse("1.2.3.1").expect("a UID");
    let taken = Arc::new(Taken::default());
    let sink = Arc::new(Sink(Arc::clone(&taken)));
    let body: Vec<Bytes> = body.chunks(pieces).map(Bytes::copy_from_slice).collect();
    let outcome = inspect(TYPE, body, (study, series), known.clone(), limits, sink)
        .now_or_never()
        .expect("nothing to wait for");
    let taken = taken.lock().expect("one thread");
    assert!(taken.iter().all(|instance| known.contains(instance)));
    let distinct: HashSet<_> = taken.iter().cloned().collect();
    assert_eq!(distinct.len(), taken.len(), "an instance came twice");
    let delivered = outcome.ok()?;
    assert_eq!(delivered, distinct);
    Some(delivered)
}

type Taken = Mutex<Vec<InstanceUid>>;

struct Sink(Arc<Taken>);

impl InstanceSink for Sink {
    fn begin(&self, incoming: IncomingInstance) -> Result<Box<dyn InstanceWriter>, SinkError> {
        Ok(Box::new(Writer {
            instance: incoming.instance,
            taken: Arc::clone(&self.0),
        }))
    }
}

struct Writer {
    instance: InstanceUid,
    taken: Arc<Taken>,
}

impl InstanceWriter for Writer {
    fn write(&mut self, _: Bytes) -> BoxFuture<'_, Result<(), SinkError>> {
        ready(Ok(())).boxed()
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), SinkError>> {
        self.taken.lock().expect("one thread").push(self.instance);
        ready(Ok(())).boxed()
    }
}
