//! `kill -9` in the middle of writing.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;

/// Where the child finds its folder.
const FOLDER: &str = "DRIMBOX_TEST_AUDIT_DIR";
/// The child, for the test harness.
const CHILD: &str = "audit::tests::crash::writes_until_it_is_killed";
const ROUNDS: usize = 100;

/// Records from eight tasks at once, and says on its output what was acknowledged.
#[test]
#[ignore = "started by the test below as a process to be killed"]
fn writes_until_it_is_killed() {
    let dir = std::env::var_os(FOLDER).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(async {
        let small = Settings {
            segment_bytes: 20_000,
            ..settings(Path::new(&dir))
        };
        let audit = Audit::open(small, system_clock()).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let audit = audit.clone();
            tasks.spawn(async move {
                loop {
                    let sequence = record(&audit, &format!("1.{task}")).await;
                    writeln!(std::io::stderr(), "acknowledged {sequence}").unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}

#[test]
fn a_hundred_kills_lose_no_acknowledged_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = std::collections::BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--ignored", "--nocapture"])
            .env(FOLDER, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut take = |line: std::io::Result<String>| {
            let line = line.unwrap();
            // The last line may be cut by the kill, digits and all: it counts when it is whole.
            let number = line.strip_prefix("acknowledged ").expect(&line).to_owned();
            number
        };
        // Another moment in each round.
        let mut numbers: Vec<String> = said.by_ref().take(1 + round % 37).map(&mut take).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        numbers.extend(said.map(take));
        numbers.pop();
        acknowledged.extend(numbers.iter().map(|number| number.parse::<u64>().unwrap()));

        let chain = Chain::open(dir.path(), None).unwrap();
        let there: std::collections::BTreeSet<_> =
            chain.map(|record| record.unwrap().sequence.0).collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round} lost {lost:?}");
    }
    assert!(acknowledged.len() >= ROUNDS, "{}", acknowledged.len());
    Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    is_whole(dir.path());
}

#[tokio::test]
async fn half_a_record_that_was_never_acknowledged_is_cut_and_told() {
    let dir = trail(8).await;
    let last = files::segments(dir.path()).unwrap().pop().unwrap();
    let mut file = OpenOptions::new().append(true).open(last.path).unwrap();
    file.write_all(br#"{"v":1,"sequence":9,"previous":"#)
        .unwrap();
    let report = is_whole(dir.path());
    assert_eq!((report.records, report.unfinished), (8, 31));

    let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    assert_eq!(
        audit.anchor().sequence,
        Sequence(9),
        "the repair is recorded"
    );
    assert_eq!(record(&audit, "1.2").await, Sequence(10));
    let report = is_whole(dir.path());
    assert_eq!((report.records, report.unfinished), (10, 0));
    let mut records = Chain::open(dir.path(), None).unwrap();
    let repair = records.nth(8).unwrap().unwrap().event().unwrap();
    assert_eq!(repair.kind, Kind::TrailRepaired);
    assert_eq!(repair.trail.unwrap().bytes, 31);
}

#[tokio::test]
async fn a_segment_begun_and_never_written_is_no_harm() {
    let dir = trail(6).await;
    let segments = files::segments(dir.path()).unwrap();
    let next = Segment::new(dir.path(), Sequence(7), segments[0].day);
    next.create().unwrap();
    let audit = Audit::open(settings(dir.path()), Hands::new().clock()).unwrap();
    assert_eq!(record(&audit, "1.2").await, Sequence(7));
    is_whole(dir.path());
}
