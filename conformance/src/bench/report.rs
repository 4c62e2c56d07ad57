//! Medians, bars and the table.

use std::fmt::Write;

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// Seconds, printed as milliseconds.
    Time,
    /// Seconds in which that many bytes went through, printed as MB/s.
    Throughput(u64),
    /// Bytes, printed as MB.
    Memory,
    /// A number of things.
    Count,
}

/// What is asked of a measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bar {
    /// This share of the peer's throughput at least.
    ThroughputOfPeer(f64),
    /// This many times the peer's time at most.
    TimesPeer(f64),
    /// Less than the peer.
    LessThanPeer,
    /// This figure at most, in the unit of the row.
    AtMost(f64),
    /// Nothing: printed for comparison.
    None,
}

/// One measure.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name for `--only`.
    pub key: &'static str,
    /// What is measured.
    pub measure: String,
    /// What its figures are.
    pub unit: Unit,
    /// The gateway's runs.
    pub ours: Vec<f64>,
    /// What it is held against.
    pub peer_name: String,
    /// The peer's runs.
    pub peer: Vec<f64>,
    /// Runs of Orthanc's DICOMweb, over plain HTTP.
    pub orthanc: Vec<f64>,
    /// Whether each run stands beside the peer's of the same rank: the ratio is the median of those of the pairs. A
    /// machine that is slower for a while then slows both sides of a pair.
    pub paired: bool,
    /// What is asked.
    pub bar: Bar,
    /// A second condition, and whether it held.
    pub also: Option<(String, bool)>,
    /// What a reader has to know.
    pub note: String,
}

impl Row {
    /// A row without figures.
    #[must_use]
    pub fn new(key: &'static str, measure: impl Into<String>, unit: Unit, bar: Bar) -> Self {
        Self {
            key,
            measure: measure.into(),
            unit,
            ours: Vec::new(),
            peer_name: String::new(),
            peer: Vec::new(),
            orthanc: Vec::new(),
            paired: false,
            bar,
            also: None,
            note: String::new(),
        }
    }

    /// What the bar is about: the ratio with the peer, in the sense of the bar.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        let ratio = |ours: f64, peer: f64| match self.bar {
            Bar::ThroughputOfPeer(_) => peer / ours,
            _ => ours / peer,
        };
        if self.paired {
            let pairs = self.ours.iter().zip(&self.peer);
            let ratios: Vec<_> = pairs.map(|(ours, peer)| ratio(*ours, *peer)).collect();
            return median(&ratios);
        }
        Some(ratio(median(&self.ours)?, median(&self.peer)?))
    }

    /// Whether the bar is met; `None` without bar or figures.
    #[must_use]
    pub fn met(&self) -> Option<bool> {
        let met = match self.bar {
            Bar::ThroughputOfPeer(least) => self.ratio()? >= least,
            Bar::TimesPeer(most) => self.ratio()? <= most,
            Bar::LessThanPeer => self.ratio()? < 1.0,
            Bar::AtMost(most) => median(&self.ours)? <= most,
            Bar::None => return None,
        };
        Some(met && self.also.as_ref().is_none_or(|(_, held)| *held))
    }

    /// Its line of the table.
    #[must_use]
    pub fn line(&self) -> String {
        let mut bar = match self.bar {
            Bar::ThroughputOfPeer(least) => format!("≥ {least} × its throughput"),
            Bar::TimesPeer(most) => format!("≤ {most} × its time"),
            Bar::LessThanPeer => "faster".into(),
            Bar::AtMost(most) => format!("≤ {}", self.unit.print(most)),
            Bar::None => "–".into(),
        };
        let mut ours = self.figure(&self.ours);
        if let Some((what, _)) = &self.also {
            let _ = write!(bar, ", {what}");
        }
        let runs = self.ours.len();
        if runs > 1 {
            let least = self.ours.iter().copied().fold(f64::INFINITY, f64::min);
            let most = self.ours.iter().copied().fold(0.0, f64::max);
            let (least, most) = match self.unit {
                Unit::Throughput(_) => (most, least),
                _ => (least, most),
            };
            let _ = write!(
                ours,
                " ({}…{})",
                self.unit.number(least),
                self.unit.number(most)
            );
        }
        format!(
            "| {} | {ours} | {} | {} | {} | {bar} | {} | {} | {runs} |",
            self.measure,
            if self.peer_name.is_empty() {
                "–"
            } else {
                &self.peer_name
            },
            self.figure(&self.peer),
            self.ratio()
                .map_or_else(|| "–".into(), |ratio| format!("{ratio:.2}")),
            match self.met() {
                None => "",
                Some(true) => "ok",
                Some(false) => "**MISSED**",
            },
            self.figure(&self.orthanc),
        )
    }

    fn figure(&self, runs: &[f64]) -> String {
        median(runs).map_or_else(|| "–".into(), |value| self.unit.print(value))
    }
}

/// Head of the table.
pub const HEAD: &str = "\
| measure | drimbox (least…most) | peer | its figure | ratio | bar | | Orthanc DICOMweb | runs |
|---|---|---|---|---|---|---|---|---|";

impl Unit {
    fn print(self, value: f64) -> String {
        let unit = match self {
            Self::Time => " ms",
            Self::Throughput(_) => " MB/s",
            Self::Memory => " MB",
            Self::Count => "",
        };
        self.number(value) + unit
    }

    fn number(self, value: f64) -> String {
        let value = match self {
            Self::Time => value * 1e3,
            #[expect(clippy::cast_precision_loss, reason = "a size for print")]
            Self::Throughput(bytes) => bytes as f64 / value / 1e6,
            Self::Memory => value / 1e6,
            Self::Count => value,
        };
        let places = match self {
            Self::Count => 0,
            Self::Time if value < 0.1 => 4,
            _ if value >= 100.0 => 0,
            _ if value >= 10.0 => 1,
            _ => 2,
        };
        format!("{value:.places$}")
    }
}

/// The rows that miss their bar.
#[must_use]
pub fn missed(rows: &[Row]) -> Vec<&Row> {
    let missed = rows.iter().filter(|row| row.met() == Some(false));
    missed.collect()
}

/// The middle of the values; the mean of the two in the middle of an even number of them.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn row(unit: Unit, bar: Bar, ours: &[f64], peer: &[f64]) -> Row {
        Row {
            ours: ours.to_vec(),
            peer: peer.to_vec(),
            ..Row::new("key", "measure", unit, bar)
        }
    }

    #[test]
    fn the_median_is_not_moved_by_one_bad_run() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_bar_on_throughput_is_missed_by_the_slower_and_a_bar_on_time_too() {
        let throughput = Bar::ThroughputOfPeer(0.8);
        let unit = Unit::Throughput(1_000_000);
        assert_eq!(row(unit, throughput, &[1.2], &[1.0]).met(), Some(true));
        assert_eq!(row(unit, throughput, &[1.3], &[1.0]).met(), Some(false));
        let time = Bar::TimesPeer(1.05);
        assert_eq!(row(Unit::Time, time, &[1.04], &[1.0]).met(), Some(true));
        assert_eq!(row(Unit::Time, time, &[1.06], &[1.0]).met(), Some(false));
        assert_eq!(row(Unit::Time, time, &[1.0], &[]).met(), None);
    }

    #[test]
    fn a_slow_while_of_the_machine_does_not_move_the_ratio_of_pairs() {
        let unit = Unit::Throughput(1_000_000);
        let bar = Bar::ThroughputOfPeer(0.95);
        let mut row = row(unit, bar, &[1.0, 4.0, 4.0], &[1.0, 1.0, 4.0]);
        assert_eq!(row.ratio(), Some(0.25));
        row.paired = true;
        assert_eq!(row.ratio(), Some(1.0));
    }

    #[test]
    fn a_second_condition_that_did_not_hold_misses_the_bar() {
        let mut row = row(Unit::Time, Bar::TimesPeer(2.0), &[1.0], &[1.0]);
        row.also = Some(("one C-GET".into(), false));
        assert_eq!(row.met(), Some(false));
        assert!(row.line().contains("**MISSED**"));
    }

    #[test]
    fn every_row_below_its_bar_is_missed_and_one_without_bar_is_not() {
        let time = Bar::TimesPeer(1.0);
        let rows = [
            row(Unit::Time, time, &[0.9], &[1.0]),
            row(Unit::Time, time, &[1.1], &[1.0]),
            row(Unit::Time, Bar::None, &[9.0], &[1.0]),
            row(Unit::Count, Bar::AtMost(0.0), &[1.0], &[]),
        ];
        let found: Vec<_> = missed(&rows).iter().map(|row| row.bar).collect();
        assert_eq!(found, [time, Bar::AtMost(0.0)]);
    }

    #[test]
    fn figures_are_printed_in_the_unit_of_the_row() {
        let line = row(Unit::Throughput(250_000_000), Bar::None, &[0.5], &[0.25]).line();
        assert!(line.contains("500 MB/s"), "{line}");
        assert!(line.contains("1000 MB/s"), "{line}");
        let line = row(Unit::Time, Bar::AtMost(0.02), &[0.0123, 0.02, 0.001], &[]).line();
        assert!(line.contains("12.3 ms (1.00…20.0)"), "{line}");
        assert!(line.contains("≤ 20.0 ms"), "{line}");
    }
}
