//! Every change from outside is found.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

fn paths(dir: &Path) -> Vec<PathBuf> {
    let segments = files::segments(dir).unwrap();
    segments.into_iter().map(|segment| segment.path).collect()
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    text.split_inclusive('\n').map(str::to_owned).collect()
}

fn faults(dir: &Path) -> Vec<Fault> {
    verify(dir, None).unwrap().faults
}

#[tokio::test]
async fn a_changed_word_is_found() {
    let dir = trail(10).await;
    let path = &paths(dir.path())[1];
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen("1.2.", "1.9.", 1)).unwrap();
    assert!(matches!(
        faults(dir.path())[0],
        Fault::Line {
            line: 1,
            what: NotARecord::Changed,
            ..
        }
    ));
}

#[tokio::test]
async fn a_removed_line_and_two_exchanged_ones_are_found() {
    let dir = trail(10).await;
    let path = &paths(dir.path())[1];
    let whole = lines(path);
    fs::write(path, [&whole[..1], &whole[2..]].concat().concat()).unwrap();
    assert!(matches!(
        faults(dir.path())[0],
        Fault::Order { line: 2, .. }
    ));
    let mut exchanged = whole.clone();
    exchanged.swap(0, 1);
    fs::write(path, exchanged.concat()).unwrap();
    assert!(matches!(
        faults(dir.path())[0],
        Fault::Order { line: 1, .. }
    ));
    fs::write(path, whole.concat()).unwrap();
    is_whole(dir.path());
}

#[tokio::test]
async fn a_removed_segment_is_found_wherever_it_was() {
    for at in 0..3 {
        let dir = trail(9).await;
        let paths = paths(dir.path());
        assert_eq!(paths.len(), 3);
        fs::remove_file(&paths[at]).unwrap();
        let faults = faults(dir.path());
        match at {
            0 => assert!(matches!(faults[0], Fault::Head { .. }), "{faults:?}"),
            1 => assert!(matches!(faults[0], Fault::Order { .. }), "{faults:?}"),
            _ => assert!(matches!(faults[0], Fault::Tail { .. }), "{faults:?}"),
        }
    }
}

#[tokio::test]
async fn a_segment_of_another_trail_is_found() {
    let (dir, other) = (trail(9).await, tempfile::tempdir().unwrap());
    let hands = Hands::new();
    hands.advance(Duration::from_secs(1));
    let small = Settings {
        segment_bytes: 900,
        ..settings(other.path())
    };
    let audit = Audit::open(small, hands.clock()).unwrap();
    for number in 1..=9 {
        record(&audit, &format!("1.2.{number}")).await;
    }
    for at in 0..3 {
        let own = fs::read(&paths(dir.path())[at]).unwrap();
        fs::copy(&paths(other.path())[at], &paths(dir.path())[at]).unwrap();
        assert!(!faults(dir.path()).is_empty(), "segment {at}");
        fs::write(&paths(dir.path())[at], own).unwrap();
    }
    is_whole(dir.path());
}

#[tokio::test]
async fn a_cut_tail_is_found_and_the_service_does_not_go_on_after_it() {
    let dir = trail(8).await;
    let path = paths(dir.path()).pop().unwrap();
    let mut left = lines(&path);
    left.pop();
    fs::write(&path, left.concat()).unwrap();
    let cut = Fault::Tail {
        last: Sequence(7),
        acknowledged: Sequence(8),
    };
    assert_eq!(faults(dir.path()), [cut]);
    let opened = Audit::open(settings(dir.path()), Hands::new().clock());
    assert!(matches!(
        opened,
        Err(AuditError::Damaged(Fault::Tail { .. }))
    ));
}

#[tokio::test]
async fn a_missing_anchor_is_found() {
    let dir = trail(3).await;
    fs::remove_file(dir.path().join("anchor")).unwrap();
    assert_eq!(faults(dir.path()), [Fault::NoAnchor]);
    let opened = Audit::open(settings(dir.path()), Hands::new().clock());
    assert!(matches!(opened, Err(AuditError::Damaged(Fault::NoAnchor))));
}

#[tokio::test]
async fn a_trail_written_anew_is_found_by_an_anchor_kept_elsewhere() {
    let (dir, forged) = (trail(8).await, trail(8).await);
    let kept = files::read_anchor(dir.path()).unwrap();
    assert!(verify(forged.path(), kept).unwrap().faults.is_empty());
    // The same number of records, one of them another.
    let forged = tempfile::tempdir().unwrap();
    let audit = Audit::open(settings(forged.path()), Hands::new().clock()).unwrap();
    for number in 1..=8 {
        record(&audit, &format!("1.3.{number}")).await;
    }
    is_whole(forged.path());
    let faults = verify(forged.path(), kept).unwrap().faults;
    assert_eq!(
        faults,
        [Fault::Anchor {
            sequence: Sequence(8)
        }]
    );
}

#[tokio::test]
async fn a_line_added_by_hand_is_found_and_stops_the_start() {
    let dir = trail(8).await;
    let path = paths(dir.path()).pop().unwrap();
    let mut text = lines(&path);
    text.push(text[0].clone());
    fs::write(&path, text.concat()).unwrap();
    assert!(matches!(faults(dir.path())[0], Fault::Order { .. }));
    let opened = Audit::open(settings(dir.path()), Hands::new().clock());
    assert!(matches!(opened, Err(AuditError::Damaged(_))));
}

/// What someone may do to the lines of a trail.
#[derive(Debug, Clone)]
enum Harm {
    Flip { at: usize, bit: u8 },
    Remove(usize),
    Exchange(usize, usize),
    Double(usize),
    CutAfter(usize),
    CutBytes(usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let line = 0..24usize;
    prop_oneof![
        (0..4000usize, 0..8u8).prop_map(|(at, bit)| Harm::Flip { at, bit }),
        line.clone().prop_map(Harm::Remove),
        (line.clone(), line.clone()).prop_map(|(a, b)| Harm::Exchange(a, b)),
        line.clone().prop_map(Harm::Double),
        line.prop_map(Harm::CutAfter),
        (1..2000usize).prop_map(Harm::CutBytes),
    ]
}

fn apply(harm: &Harm, all: &[String]) -> Vec<u8> {
    let mut lines = all.to_vec();
    let count = lines.len();
    match harm {
        Harm::Flip { at, bit } => {
            let mut bytes = lines.concat().into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            return bytes;
        }
        Harm::Remove(at) => drop(lines.remove(at % count)),
        Harm::Exchange(a, b) => lines.swap(a % count, b % count),
        Harm::Double(at) => lines.insert(at % count, lines[at % count].clone()),
        Harm::CutAfter(at) => lines.truncate(at % count),
        Harm::CutBytes(bytes) => {
            let mut text = lines.concat().into_bytes();
            text.truncate(text.len() - bytes % text.len());
            return text;
        }
    }
    lines.concat().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_harm_to_the_lines_stays_unseen(records in 1..24u64, harm in harm()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
            for number in 1..=records {
                record(&audit, &format!("1.{number}")).await;
            }
            audit.close().await;
            dir
        });
        let path = paths(dir.path()).remove(0);
        let before = lines(&path);
        let after = apply(&harm, &before);
        prop_assume!(after != before.concat().into_bytes());
        fs::write(&path, after).unwrap();
        prop_assert!(!faults(dir.path()).is_empty(), "{harm:?}");
        let opened = Audit::open(settings(dir.path()), Hands::new().clock());
        prop_assert!(opened.is_err(), "{harm:?}");
    }
}
