//! Syncs that are shared, and disks that fail.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc as std_mpsc;

use std::sync::atomic::Ordering::SeqCst;

use super::*;

/// A disk that counts its syncs and holds the first one back until it is told.
struct SlowDisk {
    syncs: Arc<AtomicUsize>,
    gate: Option<std_mpsc::Receiver<()>>,
}

impl Disk for SlowDisk {
    fn sync(&mut self, file: &File) -> io::Result<()> {
        if let Some(gate) = self.gate.take() {
            gate.recv().unwrap();
        }
        self.syncs.fetch_add(1, SeqCst);
        file.sync_data()
    }
}

#[tokio::test]
async fn two_thousand_records_at_once_share_a_few_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let (open, gate) = std_mpsc::channel();
    let disk = SlowDisk {
        syncs: Arc::clone(&syncs),
        gate: Some(gate),
    };
    let settings = settings(dir.path());
    let audit = Audit::open_on(&settings, Hands::new().clock(), Box::new(disk)).unwrap();
    let mut recording = tokio::task::JoinSet::new();
    for number in 0..2000 {
        let audit = audit.clone();
        recording.spawn(async move { record(&audit, &format!("1.{number}")).await });
    }
    // Every task has handed its record over once the queue does not grow any more: the runtime has
    // one thread, and they do nothing else before.
    let mut waiting = 0;
    loop {
        tokio::task::yield_now().await;
        let now = audit.waiting();
        if now == waiting && now > 900 {
            break;
        }
        waiting = now;
    }
    open.send(()).unwrap();
    let mut sequences: Vec<_> = recording.join_all().await.iter().map(|s| s.0).collect();
    sequences.sort_unstable();
    assert_eq!(sequences, (1..=2000).collect::<Vec<_>>());
    let syncs = syncs.load(SeqCst);
    assert!(syncs <= 4, "{syncs} syncs");
    assert_eq!(is_whole(dir.path()).records, 2000);
}

#[tokio::test]
async fn what_is_in_no_hurry_shares_the_sync_of_what_is() {
    let dir = tempfile::tempdir().unwrap();
    let syncs = Arc::new(AtomicUsize::new(0));
    let disk = SlowDisk {
        syncs: Arc::clone(&syncs),
        gate: None,
    };
    let settings = settings(dir.path());
    let audit = Audit::open_on(&settings, Hands::new().clock(), Box::new(disk)).unwrap();
    let late = audit.clone();
    let mut late = Box::pin(late.record_unhurried(audit.event(Kind::Logout)));
    assert!(futures_util::poll!(&mut late).is_pending());
    assert_eq!(syncs.load(SeqCst), 0);
    assert_eq!(record(&audit, "1.2").await, Sequence(2));
    assert_eq!(syncs.load(SeqCst), 1);
    assert_eq!(late.await.unwrap(), Sequence(1));
    assert_eq!(is_whole(dir.path()).records, 2);
}

#[tokio::test]
async fn what_is_in_no_hurry_is_written_though_nothing_else_comes_and_at_the_close() {
    let dir = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    let alone = audit.record_unhurried(audit.event(Kind::Logout)).await;
    assert_eq!(alone.unwrap(), Sequence(1));
    let other = audit.clone();
    let mut last = Box::pin(other.record_unhurried(audit.event(Kind::Logout)));
    assert!(futures_util::poll!(&mut last).is_pending());
    audit.close().await;
    assert_eq!(is_whole(dir.path()).records, 2);
    assert_eq!(last.await.unwrap(), Sequence(2));
    let closed = audit.record_unhurried(audit.event(Kind::Logout)).await;
    assert_eq!(closed.unwrap_err().cause(), "closed");
}

/// A disk that is full while told so: a part of what is written fits.
#[derive(Clone, Default)]
pub(crate) struct FullDisk {
    pub(crate) is_full: Arc<AtomicBool>,
    pub(crate) sync_fails: Arc<AtomicBool>,
}

impl Disk for FullDisk {
    fn append(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        if self.is_full.load(SeqCst) {
            file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        if self.sync_fails.swap(false, SeqCst) {
            return Err(io::Error::other("the disk went away"));
        }
        file.sync_data()
    }
}

impl FullDisk {
    /// A trail on it.
    pub(crate) fn trail(&self, dir: &Path) -> Audit {
        let disk = Box::new(self.clone());
        Audit::open_on(&settings(dir), Hands::new().clock(), disk).unwrap()
    }
}

/// A disk whose syncs wait, one after the other, until they are let go.
struct HeldDisk {
    reached: std_mpsc::Sender<()>,
    go: std_mpsc::Receiver<()>,
}

impl Disk for HeldDisk {
    fn sync(&mut self, file: &File) -> io::Result<()> {
        // Nobody listens or holds any more at the end of a test.
        let _ = self.reached.send(());
        let _ = self.go.recv();
        file.sync_data()
    }
}

/// A trail on such a disk, what tells that a sync was reached, and what lets it go.
pub(crate) fn held(dir: &Path) -> (Audit, std_mpsc::Receiver<()>, std_mpsc::Sender<()>) {
    let ((reached, is_reached), (go, goes)) = (std_mpsc::channel(), std_mpsc::channel());
    let disk = Box::new(HeldDisk { reached, go: goes });
    let audit = Audit::open_on(&settings(dir), Hands::new().clock(), disk).unwrap();
    (audit, is_reached, go)
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_leaves_the_trail_whole() {
    for records_before in [0, 2] {
        let dir = tempfile::tempdir().unwrap();
        let disk = FullDisk::default();
        let boxed = Box::new(disk.clone());
        let settings = settings(dir.path());
        let audit = Audit::open_on(&settings, Hands::new().clock(), boxed).unwrap();
        for _ in 0..records_before {
            record(&audit, "1.2").await;
        }
        disk.is_full.store(true, SeqCst);
        for _ in 0..3 {
            let refused = audit.record(audit.event(Kind::Login)).await.unwrap_err();
            assert_eq!(refused.cause(), "disk-full");
            assert_eq!(is_whole(dir.path()).records, records_before);
        }
        disk.is_full.store(false, SeqCst);
        assert_eq!(record(&audit, "1.3").await, Sequence(records_before + 1));
        audit.close().await;
        assert_eq!(is_whole(dir.path()).records, records_before + 1);
        Audit::open(settings, Hands::new().clock()).unwrap();
    }
}

#[tokio::test]
async fn a_record_whose_sync_failed_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FullDisk::default();
    let boxed = Box::new(disk.clone());
    let audit = Audit::open_on(&settings(dir.path()), Hands::new().clock(), boxed).unwrap();
    record(&audit, "1.2").await;
    disk.sync_fails.store(true, SeqCst);
    let refused = audit.record(audit.event(Kind::Login)).await.unwrap_err();
    assert_eq!(refused.cause(), "disk");
    assert_eq!(record(&audit, "1.3").await, Sequence(2));
    assert_eq!(studies(dir.path()), ["1.2", "1.3"]);
    is_whole(dir.path());
}
