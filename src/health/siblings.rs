//! Who of several did much worse than the others. Pure figures.
//!
//! Each one is compared with its siblings only, never with a mean or median that contains it: so one
//! of three is found as well as one of thirty.

use super::outlier::Key;
use super::outlier_config::{LatencyConfig, SuccessRateConfig};
use crate::catalog::observed::Totals;

/// The least that a standard deviation of success rates is taken for: without it, 99.9 % among
/// siblings of 100 % would be an outlier.
const SPREAD_MIN: f64 = 0.05;

/// Those whose success rate is too low, the lowest first, each with the reason in words.
pub(super) fn low_success<'a>(
    config: &SuccessRateConfig,
    seen: impl Iterator<Item = (&'a Key, Totals)>,
) -> Vec<(Key, String)> {
    let rates: Vec<(&Key, f64)> = seen
        .filter_map(|(key, totals)| {
            let all = totals.successes + totals.failures.iter().sum::<u64>();
            let enough = all >= config.min_requests.max(1);
            enough.then(|| (key, totals.successes as f64 / all as f64))
        })
        .collect();
    if rates.len() < (config.min_instances as usize).max(2) {
        return Vec::new();
    }
    let others = (rates.len() - 1) as f64;
    let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
    let squares: f64 = rates.iter().map(|(_, rate)| rate * rate).sum();
    let mut low: Vec<(&Key, f64, f64)> = rates
        .iter()
        .filter_map(|(key, rate)| {
            let mean = (sum - rate) / others;
            let variance = (mean.mul_add(-mean, rate.mul_add(-rate, squares) / others)).max(0.0);
            let least = config.deviations.mul_add(-variance.sqrt().max(SPREAD_MIN), mean);
            (*rate < least).then_some((*key, *rate, mean))
        })
        .collect();
    low.sort_by(|a, b| a.1.total_cmp(&b.1));
    let told = |rate: f64, mean: f64| {
        format!("{:.0}% of its requests succeed, {:.0}% elsewhere", rate * 100.0, mean * 100.0)
    };
    low.into_iter().map(|(key, rate, mean)| (key.clone(), told(rate, mean))).collect()
}

/// Those whose mean latency is too high, the highest first, each with the reason in words.
pub(super) fn high_latency<'a>(
    config: &LatencyConfig,
    seen: impl Iterator<Item = (&'a Key, Totals)>,
) -> Vec<(Key, String)> {
    let mut means: Vec<(&Key, u64)> = seen
        .filter(|(_, totals)| totals.answers >= config.min_requests.max(1))
        .map(|(key, totals)| (key, totals.latency_micros / totals.answers))
        .collect();
    if means.len() < (config.min_instances as usize).max(2) {
        return Vec::new();
    }
    means.sort_by_key(|(_, micros)| *micros);
    let middle = (means.len() - 1) / 2;
    let difference = config.min_difference.0.as_micros() as f64;
    let slow = means.iter().enumerate().rev().filter_map(|(place, (key, micros))| {
        // The median of the others; of an even number the higher one, which ejects less.
        let (_, median) = means[if middle < place { middle } else { middle + 1 }];
        let (own, median) = (*micros as f64, median as f64);
        (own > median * config.factor && own - median >= difference).then(|| {
            let why = format!(
                "its answers take {:.0} ms, {:.0} ms elsewhere",
                own / 1000.0,
                median / 1000.0
            );
            ((*key).clone(), why)
        })
    });
    slow.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Period;

    fn keys(count: usize) -> Vec<Key> {
        (0..count).map(|n| ("r".into(), n.to_string().into())).collect()
    }

    fn ids(found: &[(Key, String)]) -> Vec<&str> {
        found.iter().map(|((_, id), _)| &**id).collect()
    }

    #[test]
    fn a_success_rate_far_below_the_siblings_is_found_and_a_usual_spread_is_not() {
        let config = SuccessRateConfig { min_requests: 100, ..SuccessRateConfig::default() };
        // Successes and failures of each.
        for (case, seen, want) in [
            ("one of three fails", &[(100, 0), (100, 0), (20, 80)][..], &["2"][..]),
            ("a little worse", &[(1000, 0), (1000, 0), (980, 20)], &[]),
            ("all alike", &[(50, 50), (52, 48), (49, 51)], &[]),
            ("all fail", &[(0, 100), (0, 100), (0, 100)], &[]),
            ("too few requests", &[(100, 0), (100, 0), (20, 70)], &[]),
            ("too few siblings", &[(100, 0), (20, 80)], &[]),
            ("one of a wide spread", &[(100, 0), (60, 40), (80, 20), (0, 100)], &["3"]),
            ("nothing seen", &[(0, 0), (0, 0), (0, 0)], &[]),
        ] {
            let keys = keys(seen.len());
            let seen = keys.iter().zip(seen).map(|(key, (successes, failed))| {
                let failures = [0, *failed, 0, 0];
                (key, Totals { successes: *successes, failures, ..Totals::default() })
            });
            assert_eq!(ids(&low_success(&config, seen)), want, "{case}");
        }
    }

    #[test]
    fn a_latency_far_above_the_siblings_is_found_unless_all_are_fast() {
        let config = LatencyConfig {
            factor: 3.0,
            min_difference: Period::from_millis(50),
            min_instances: 3,
            min_requests: 10,
        };
        // Mean milliseconds and number of answers of each.
        for (case, seen, want) in [
            ("one of three is slow", &[(10, 10), (12, 10), (200, 10)][..], &["2"][..]),
            ("three times, but fast", &[(10, 10), (12, 10), (40, 10)], &[]),
            ("slow all together", &[(900, 10), (950, 10), (1200, 10)], &[]),
            ("too few answers", &[(10, 10), (12, 10), (200, 9)], &[]),
            ("two of five", &[(10, 10), (300, 10), (11, 10), (200, 10), (9, 10)], &["1", "3"]),
            ("most are slow", &[(300, 10), (300, 10), (10, 10)], &[]),
        ] {
            let keys = keys(seen.len());
            let seen = keys.iter().zip(seen).map(|(key, (millis, answers))| {
                let latency_micros = millis * 1000 * answers;
                (key, Totals { answers: *answers, latency_micros, ..Totals::default() })
            });
            assert_eq!(ids(&high_latency(&config, seen)), want, "{case}");
        }
    }
}
