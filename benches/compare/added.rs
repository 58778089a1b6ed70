//! Portolan's own time for a request, by its own histogram: from the end of the head to the head
//! being sent on.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use crate::probe;

const METRIC: &str = "portolan_proxy_recv_to_send_seconds_bucket{";

/// The histogram at one moment: how many took at most so many seconds, by bound; the last bound is
/// infinite.
#[derive(Debug, Default)]
pub(crate) struct Added(Vec<(f64, u64)>);

impl Added {
    /// Asks the admin face at `address`.
    pub(crate) fn read(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::parse(&probe::page(address, "/metrics")?))
    }

    fn parse(page: &str) -> Self {
        let mut bounds: BTreeMap<u64, (f64, u64)> = BTreeMap::new();
        for line in page.lines().filter_map(|line| line.strip_prefix(METRIC)) {
            let bound = line.split_once("le=\"").and_then(|(_, rest)| rest.split_once('"'));
            let count = line.rsplit_once(' ').and_then(|(_, count)| count.parse::<f64>().ok());
            if let (Some((bound, _)), Some(count)) = (bound, count)
                && let Ok(bound) = bound.replace("+Inf", "inf").parse::<f64>()
            {
                // Positive numbers stand in the order of their bits. Listeners are added up.
                bounds.entry(bound.to_bits()).or_insert((bound, 0)).1 += count as u64;
            }
        }
        Self(bounds.into_values().collect())
    }

    /// The 99th percentile, in microseconds, of what was counted since `before`; `None` when that is
    /// nothing. Within a bucket times are taken to be spread evenly.
    pub(crate) fn p99_since(&self, before: &Self) -> Option<f64> {
        let earlier = |bound: f64| {
            let known = before.0.iter().find(|(other, _)| other.to_bits() == bound.to_bits());
            known.map_or(0, |(_, count)| *count)
        };
        let grown: Vec<(f64, f64)> = self
            .0
            .iter()
            .map(|&(bound, count)| (bound, count.saturating_sub(earlier(bound)) as f64))
            .collect();
        let wanted = grown.last().filter(|(_, all)| *all > 0.0)?.1 * 0.99;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in grown {
            if count >= wanted {
                let share = (wanted - below) / (count - below);
                // Beyond the last bound nothing is known but that it is more.
                let high = if bound.is_finite() { bound } else { low };
                return Some((low + (high - low) * share) * 1e6);
            }
            (low, below) = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_lies_within_the_bucket_that_holds_it_and_counts_only_what_came_since() {
        let page = |counts: [u64; 4]| {
            let bounds = ["0.00001", "0.0001", "0.001", "+Inf"];
            let line =
                |(bound, count)| format!("{METRIC}listener=\"b\",le=\"{bound}\"}} {count}\n");
            Added::parse(&bounds.into_iter().zip(counts).map(line).collect::<String>())
        };
        for (case, before, now, want) in [
            ("half of a bucket", [0, 0, 0, 0], [98, 100, 100, 100], Some(55.0)),
            ("what was before is not counted", [0, 0, 0, 50], [98, 100, 100, 150], Some(55.0)),
            ("nothing since", [9, 9, 9, 9], [9, 9, 9, 9], None),
            ("beyond the last bound", [0, 0, 0, 0], [0, 0, 0, 5], Some(1000.0)),
        ] {
            let p99 = page(now).p99_since(&page(before));
            let near = |want: f64| p99.is_some_and(|p99| (p99 - want).abs() < 0.5);
            assert!(want.map_or_else(|| p99.is_none(), near), "{case}: {p99:?}");
        }
        assert_eq!(Added::parse("nothing 1\n").p99_since(&Added::default()), None);
    }
}
