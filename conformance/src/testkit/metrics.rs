//! The text format of Prometheus, as far as tests read it.

use std::collections::BTreeMap;

/// The samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    samples: Vec<Sample>,
}

/// One value with its name and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Metrics {
    /// Reads the text of a scrape; lines that are no samples are left out.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter_map(sample).collect();
        Self { samples }
    }

    /// All samples.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Sum of the samples called `name` that have all of these labels; 0 when there are none, as a
    /// counter that never counted.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(has).map(|s| s.value).sum()
    }
}

fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let (head, value) = line.trim().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = head.split_once('{') else {
        return Some(Sample {
            name: head.trim().to_owned(),
            labels: BTreeMap::new(),
            value,
        });
    };
    Some(Sample {
        name: name.to_owned(),
        labels: labels(rest.trim_end().strip_suffix('}')?)?,
        value,
    })
}

/// `a="x",b="y"` with the escapes `\\`, `\"` and `\n`.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.trim_matches([',', ' ']).is_empty() {
        let (name, after) = rest.trim_start_matches([',', ' ']).split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => match characters.next()? {
                    (_, 'n') => value.push('\n'),
                    (_, other) => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = after.get(end..)?;
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_summed_over_the_labels_left_open() {
        let metrics = Metrics::parse(concat!(
            "# TYPE requests counter\n",
            "requests{status=\"200\",path=\"a,\\\"b\\\"\"} 3\n",
            "requests{status=\"404\",path=\"c\"} 2\n",
            "up 1\n",
        ));
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(close(metrics.sum("requests", &[]), 5.0));
        assert!(close(metrics.sum("requests", &[("path", "a,\"b\"")]), 3.0));
        assert!(close(metrics.sum("up", &[]), 1.0));
        assert!(close(metrics.sum("absent", &[]), 0.0));
    }
}
