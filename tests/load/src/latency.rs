//! Latencies, which are recorded in histograms and reported as percentiles.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Upper bound of recorded latencies in nanoseconds (two minutes).
const LONGEST: u64 = 120_000_000_000;

/// Histogram of durations in nanoseconds with three significant digits.
pub(crate) struct Latencies(Option<Histogram<u64>>);

/// Distribution of latencies in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Distribution {
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) mean_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) max_ms: f64,
    /// Points of the distribution curve: percentile, and latency in milliseconds. Points are closer together towards
    /// 100 %.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        // Creating a histogram cannot fail with these bounds.
        Self(Histogram::new_with_bounds(100, LONGEST, 3).ok())
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(nanoseconds);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if let (Some(histogram), Some(other)) = (&mut self.0, &other.0) {
            // Adding cannot fail, because both histograms have the same bounds.
            let _ = histogram.add(other);
        }
    }

    pub(crate) fn at_ms(&self, percentile: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |histogram| ms(histogram.value_at_percentile(percentile)))
    }

    pub(crate) fn distribution(&self, name: &str) -> Distribution {
        let count = self.0.as_ref().map_or(0, Histogram::len);
        // Each further nine of the percentile has eight points, for example from 90 % to 99 %. No point lies beyond the
        // last sample.
        let curve = (0..).map(|step| 100.0 * (1.0 - 10_f64.powf(-f64::from(step) / 8.0)));
        let curve = curve.take_while(|percentile| (1.0 - percentile / 100.0) * count as f64 >= 1.0 - 1e-6);
        Distribution {
            name: name.to_owned(),
            count,
            mean_ms: self.0.as_ref().map_or(0.0, |histogram| histogram.mean() / 1e6),
            p50_ms: self.at_ms(50.0),
            p90_ms: self.at_ms(90.0),
            p99_ms: self.at_ms(99.0),
            p999_ms: self.at_ms(99.9),
            max_ms: self.at_ms(100.0),
            curve: curve.map(|percentile| (percentile, self.at_ms(percentile))).collect(),
        }
    }
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_is_reported_in_milliseconds() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|ms| latencies.record(ms * 1_000_000));
        let distribution = latencies.distribution("x");
        assert_eq!(distribution.count, 1000);
        for (is, expected) in [
            (distribution.p50_ms, 500.0),
            (distribution.p99_ms, 990.0),
            (distribution.max_ms, 1000.0),
            (distribution.mean_ms, 500.5),
        ] {
            assert!((is - expected).abs() / expected < 0.002, "{is} {expected}");
        }
        assert!(
            distribution.curve.is_sorted() && distribution.curve.last().unwrap().0 > 99.89,
            "{:?}",
            distribution.curve.last()
        );
    }

    #[test]
    fn empty_and_out_of_bounds_recordings_are_not_errors() {
        assert_eq!(Latencies::new().distribution("x").curve, []);
        let mut latencies = Latencies::new();
        latencies.record(0);
        latencies.record(u64::MAX);
        assert_eq!(latencies.distribution("x").count, 2);
    }
}
