//! Measures under strain: memory, and what gets lost.

use crate::samples::Exam;
use crate::testkit::KitError;

use super::load::{self, CLIENTS};
use super::machine;
use super::report::{Bar, Row, Unit, median};
use super::rows::{Bench, FEW, figure, study, together};
use super::stage::dicomweb;

/// Resident memory above idle that one request may take, in bytes.
pub(super) const ONE: f64 = 32.0 * 1024.0 * 1024.0;
/// Resident memory above idle that eight requests may take together, in bytes.
pub(super) const EIGHT: f64 = 64e6;

impl Bench {
    /// The peak of the resident memory over what the idle process uses; `bar` is the most it may be.
    pub(super) async fn memory(
        &mut self,
        key: &'static str,
        measure: &str,
        exams: &[Exam],
        bar: f64,
    ) -> Result<Row, KitError> {
        let paths: Vec<_> = exams.iter().map(study).collect();
        let orthanc = dicomweb(&self.stage.pacs)?;
        let mut row = Row::new(key, measure, Unit::Memory, Bar::AtMost(bar));
        let mut idle = Vec::new();
        for _ in 0..self.runs.min(FEW) {
            // Of a process that has worked before, the idle memory is what it never gave back.
            self.stage.pacs.restart().await?;
            self.stage.cold().await?;
            let drimbox = self.stage.drimbox();
            let pid = self.stage.gateway.pid();
            idle.push(figure(machine::memory(pid)?.now));
            row.ours.push(peak_over_idle(pid, || {
                together(&drimbox, &paths, None)?;
                together(&drimbox, &paths, None)
            })?);
            let pid = self.stage.pacs.process().pid();
            row.orthanc
                .push(peak_over_idle(pid, || together(&orthanc, &paths, None))?);
        }
        let studies: u64 = exams
            .iter()
            .flat_map(Exam::instances)
            .map(|one| one.size)
            .sum();
        row.note = format!(
            "idle: {:.1} MB; {:.0} MB of images",
            median(&idle).unwrap_or_default() / 1e6,
            figure(studies) / 1e6
        );
        Ok(row)
    }

    pub(super) async fn lost(&mut self) -> Result<Row, KitError> {
        let mut exams = self.stage.copies.clone();
        exams.push(self.stage.ct.clone());
        exams.push(self.stage.ct300.clone());
        let (gateway, drimbox) = self.stage.small_gateway().await?;
        let tally = load::run(&drimbox, &exams, self.retrievals);
        let metrics = gateway.metrics().await?;
        let count = |name| metrics.sum(name, &[]);
        let ways = format!(
            "{} retrievals from the PACS, {} times joined to one under way, {} times from the cache, {} evictions",
            count("drimbox_cache_misses_total"),
            count("drimbox_cache_joined_total"),
            count("drimbox_cache_hits_total"),
            count("drimbox_cache_evictions_total"),
        );
        let orthanc = load::run(&dicomweb(&self.stage.pacs)?, &exams, self.retrievals);
        let mut row = Row::new(
            "lost",
            format!(
                "lost instances in {} retrievals under load",
                self.retrievals
            ),
            Unit::Count,
            Bar::AtMost(0.0),
        );
        row.ours.push(figure((tally.lost + tally.wrong) as u64));
        row.orthanc
            .push(figure((orthanc.lost + orthanc.wrong) as u64));
        let visible = tally.failed() == 0;
        row.also = Some((format!("none failed ({} did)", tally.failed()), visible));
        row.note = format!(
            "{CLIENTS} clients; {}; {ways}. Orthanc: {}",
            tally.describe(),
            orthanc.describe()
        );
        Ok(row)
    }
}

fn peak_over_idle(pid: u32, work: impl FnOnce() -> Result<f64, KitError>) -> Result<f64, KitError> {
    let idle = machine::memory(pid)?.now;
    machine::reset_peak(pid)?;
    work()?;
    Ok(figure(machine::memory(pid)?.peak.saturating_sub(idle)))
}
