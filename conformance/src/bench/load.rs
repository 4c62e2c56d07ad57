//! Many clients at once, some of which go away in the middle: is anything lost?

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::samples::{Exam, Instance, Series};

use super::fetch::Server;
use super::stage::AS_STORED;
use super::verify::{self, Expected, Outcome};

/// Clients at work at the same time.
pub const CLIENTS: usize = 8;
/// One retrieval in this many is broken off by its client, and not counted.
const CANCELLED_OF: u64 = 7;

/// What came of all retrievals.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers that claimed to be whole.
    pub complete: usize,
    /// Instances in them that arrived intact.
    pub intact: usize,
    /// Instances that were missing from them.
    pub lost: usize,
    /// Parts of them that should not be there, or not so.
    pub wrong: usize,
    /// Retrievals that this side broke off.
    pub cancelled: usize,
    /// Answers with another status than 200, by status.
    pub refused: BTreeMap<u16, usize>,
    /// Answers that showed themselves to be cut.
    pub broken: Vec<String>,
    /// Time it all took.
    pub elapsed: Duration,
}

/// Makes `count` retrievals of these exams (instances, series and studies in a fixed pseudo-random
/// order), and cancels others among them.
pub fn run(server: &Server, exams: &[Exam], count: usize) -> Tally {
    let started = Instant::now();
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (tally, next) = (&tally, &next);
            scope.spawn(move || {
                let mut random = Random::new(client as u64);
                while next.load(Ordering::Relaxed) < count {
                    let Some((path, expected, bytes)) = target(exams, &mut random) else {
                        return;
                    };
                    let cancel = (random.below(CANCELLED_OF) == 0).then(|| random.below(bytes));
                    if cancel.is_none() && next.fetch_add(1, Ordering::Relaxed) >= count {
                        return;
                    }
                    let outcome = verify::retrieve(server, &path, AS_STORED, &expected, cancel);
                    tally
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(outcome);
                }
            });
        }
    });
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.elapsed = started.elapsed();
    tally
}

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Complete(delivery) => {
                self.complete += 1;
                self.intact += delivery.intact;
                self.lost += delivery.lost;
                self.wrong += delivery.wrong;
            }
            Outcome::Cancelled => self.cancelled += 1,
            Outcome::Refused(status) => *self.refused.entry(status).or_default() += 1,
            Outcome::Broken(reason) => self.broken.push(reason),
        }
    }

    /// Retrievals that ended visibly short of what was asked.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.broken.len() + self.refused.values().sum::<usize>()
    }

    /// All of it in a line.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!(
            "{} whole answers with {} instances, {} wrong parts, {} cancelled by the client, {} failed, {:.0} s",
            self.complete,
            self.intact,
            self.wrong,
            self.cancelled,
            self.failed(),
            self.elapsed.as_secs_f64(),
        );
        for (status, count) in &self.refused {
            text.push_str(&format!("; {count} × status {status}"));
        }
        if let Some(first) = self.broken.first() {
            text.push_str(&format!("; first broken answer: {first}"));
        }
        text
    }
}

/// Path, content and size of a resource: of twenty, three studies, five series, twelve instances.
fn target(exams: &[Exam], random: &mut Random) -> Option<(String, Expected, u64)> {
    let exam = random.choose(exams)?;
    let study = format!("/studies/{}", exam.study_instance_uid);
    let kind = random.below(20);
    if kind < 3 {
        return Some((study, verify::expected(exam.instances()), exam.size()));
    }
    let series: &Series = random.choose(&exam.series)?;
    let path = format!("{study}/series/{}", series.series_instance_uid);
    if kind < 8 {
        let size = series.instances.iter().map(|instance| instance.size).sum();
        return Some((path, verify::expected(&series.instances), size));
    }
    let instance: &Instance = random.choose(&series.instances)?;
    let path = format!("{path}/instances/{}", instance.sop_instance_uid);
    Some((path, verify::expected([instance]), instance.size))
}

/// xorshift64*: the same choices in every run.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn choose<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.below(from.len() as u64);
        from.get(usize::try_from(at).ok()?)
    }
}
