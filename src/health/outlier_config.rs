//! `[service.NAME] outlier`: its keys, and the bounds that follow from them.

use std::time::Duration;

use serde::Deserialize;

use crate::catalog::observed::FailureStatus;
use crate::units::{Period, Share};

/// `[service.NAME] outlier`: when an instance is ejected, and for how long.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierConfig {
    /// So many failures without a success between eject; 0: runs of failures do not count.
    pub consecutive_failures: u32,
    /// Which answers are failures.
    pub failure_status: FailureStatus,
    /// How often success rates and latencies are compared, over what was seen since the last time.
    pub interval: Period,
    /// Compares success rates; none: they do not count.
    pub success_rate: Option<SuccessRateConfig>,
    /// Compares latencies; none: they do not count.
    pub latency: Option<LatencyConfig>,
    /// How long the first ejection lasts; the n-th in a row lasts n times as long.
    pub base_ejection: Period,
    /// How long an ejection lasts at most.
    pub max_ejection: Period,
    /// Share of the instances that may be out at a time, rounded down, but one of two is allowed
    /// unless this is 0 %.
    pub max_ejected: Share,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_status: FailureStatus::default(),
            interval: Period::from_secs(10),
            success_rate: None,
            latency: None,
            base_ejection: Period::from_secs(10),
            max_ejection: Period::from_secs(300),
            max_ejected: Share(0.5),
        }
    }
}

/// `success_rate`: an instance is ejected whose rate of successes is below the mean of its siblings
/// by more than some standard deviations of theirs (as Envoy's success rate, but without itself, so
/// that it works for three instances too).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuccessRateConfig {
    /// How many standard deviations; one is taken for five percentage points at least.
    pub deviations: f64,
    /// Instances with enough requests that are needed for a comparison.
    pub min_instances: u32,
    /// Requests within an interval before an instance's rate says something.
    pub min_requests: u64,
}

impl Default for SuccessRateConfig {
    fn default() -> Self {
        Self { deviations: 1.9, min_instances: 3, min_requests: 100 }
    }
}

/// `latency`: an instance is ejected whose mean latency is so many times the median of its siblings.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyConfig {
    /// How many times the median.
    pub factor: f64,
    /// And by how much more at least: among the fast, a factor alone says little.
    pub min_difference: Period,
    /// Instances with enough answers that are needed for a comparison.
    pub min_instances: u32,
    /// Answers within an interval before an instance's latency says something.
    pub min_requests: u64,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self {
            factor: 5.0,
            min_difference: Period::from_millis(50),
            min_instances: 3,
            min_requests: 20,
        }
    }
}

impl OutlierConfig {
    /// What can't be, with what to write.
    #[must_use]
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let least = Duration::from_millis(100);
        if self.interval.0 < least {
            return Some(("interval", format!("interval = \"{}\" is below 100ms", self.interval)));
        }
        if self.base_ejection.0 < least {
            let message = format!("base_ejection = \"{}\" is below 100ms", self.base_ejection);
            return Some(("base_ejection", message));
        }
        if self.max_ejection.0 < self.base_ejection.0 {
            let message = format!(
                "max_ejection = \"{}\" is below base_ejection = \"{}\"",
                self.max_ejection, self.base_ejection
            );
            return Some(("max_ejection", message));
        }
        if let Some(rate) = &self.success_rate
            && !(rate.deviations > 0.0 && rate.deviations.is_finite())
        {
            let message = format!("deviations = {} is not above 0", rate.deviations);
            return Some(("success_rate", message));
        }
        if let Some(latency) = &self.latency
            && !(latency.factor > 1.0 && latency.factor.is_finite())
        {
            return Some(("latency", format!("factor = {} is not above 1", latency.factor)));
        }
        None
    }

    /// How long the ejection lasts that is the `times`-th in a row.
    pub(super) fn length(&self, times: u32) -> Duration {
        self.base_ejection.0.saturating_mul(times.max(1)).min(self.max_ejection.0)
    }

    /// How many of `count` instances may be out at a time; always one less than all.
    #[must_use]
    pub fn most(&self, count: usize) -> usize {
        if self.max_ejected.0 <= 0.0 {
            return 0;
        }
        // A share like 10 % is no exact fraction of two: what is meant as whole is taken as whole.
        let share = (self.max_ejected.0 * count as f64 + 1e-9).floor() as usize;
        share.max(1).min(count.saturating_sub(1))
    }
}
