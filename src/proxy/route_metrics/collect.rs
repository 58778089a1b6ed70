//! The counters of all routes, as Prometheus reads them.

use std::sync::PoisonError;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::super::added_metrics::Told;
use super::{CLASSES, FAMILIES, Fault, Routes};

impl Collector for Routes {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metrics: [Vec<Metric>; FAMILIES.len()] = Default::default();
        for ([listener, route], counted) in &counters.routes {
            let labels = [("listener", &**listener), ("route", &**route)];
            for (at, class) in CLASSES.iter().enumerate() {
                let count = counted.sum(|shard| &shard.classes[at]);
                metrics[0].extend(counter(&labels, ("class", class), count));
            }
            for fault in Fault::ALL {
                let count = counted.sum(|shard| &shard.faults[fault as usize]);
                metrics[1].extend(counter(&labels, ("reason", fault.word()), count));
            }
            metrics[2].extend(histogram(&labels, &counted.told(|shard| &shard.duration)));
            metrics[3].extend(histogram(&labels, &counted.told(|shard| &shard.response)));
        }
        for (listener, added) in &counters.added {
            metrics[4].extend(histogram(&[("listener", &**listener)], &added.told()));
        }
        let families = FAMILIES.iter().zip(metrics).enumerate();
        let families = families.filter(|(_, (_, metrics))| !metrics.is_empty());
        families
            .map(|(at, ((name, help, _), metrics))| {
                let mut family = MetricFamily::default();
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                let counts = at < 2;
                let kind = if counts { MetricType::COUNTER } else { MetricType::HISTOGRAM };
                family.set_field_type(kind);
                family.set_metric(metrics);
                family
            })
            .collect()
    }
}

fn labels(labels: &[(&str, &str)], more: Option<(&str, &str)>) -> Vec<LabelPair> {
    let mut pairs: Vec<LabelPair> = labels
        .iter()
        .copied()
        .chain(more)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        })
        .collect();
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    pairs
}

/// None for what never happened: most routes have few of all these.
fn counter(known: &[(&str, &str)], more: (&str, &str), count: u64) -> Option<Metric> {
    (count > 0).then(|| {
        let mut value = Counter::default();
        value.set_value(count as f64);
        let mut metric = Metric::from_label(labels(known, Some(more)));
        metric.set_counter(value);
        metric
    })
}

/// None for what never happened either.
fn histogram(known: &[(&str, &str)], told: &Told) -> Option<Metric> {
    (told.count > 0).then(|| {
        let bucket = |&(bound, count): &(f64, u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut value = Histogram::default();
        value.set_sample_count(told.count);
        value.set_sample_sum(told.sum_seconds);
        value.set_bucket(told.buckets.iter().map(bucket).collect());
        let mut metric = Metric::from_label(labels(known, None));
        metric.set_histogram(value);
        metric
    })
}
