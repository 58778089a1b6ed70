use std::collections::BTreeMap;

use super::*;
use crate::catalog::model::{Address, Port, Weight};
use crate::catalog::observed::Failure;
use crate::catalog::{Health, Instance, Presence};
use crate::proxy::balance::POLICIES;
use crate::proxy::balance::hash::mix;
use crate::proxy::balance::policy;
use crate::proxy::balance::simulation::{chi_squared, critical};
use crate::proxy::config::ServiceBalance;
use crate::proxy::cut::{Cutter, Reason};
use crate::units::{Period, Share};

pub(crate) fn instance(id: &str, address: &str, port: u16, weight: u16) -> Arc<Instance> {
    Arc::new(Instance {
        ports: Arc::new([Port { name: "".into(), number: port }]),
        weight: Weight::try_from(i64::from(weight)).unwrap(),
        ..Instance::bare("test", id, Address::parse(address).unwrap())
    })
}

pub(crate) fn service(name: &str, instances: &[Arc<Instance>]) -> Arc<Service> {
    Arc::new(Service {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: instances.into(),
        eligible: instances.into(),
        problems: Arc::new([]),
    })
}

pub(crate) fn endpoints(weights: &[u16]) -> Box<[Arc<Endpoint>]> {
    let instances: Vec<_> = weights
        .iter()
        .enumerate()
        .map(|(n, weight)| {
            instance(&n.to_string(), &format!("10.0.{}.{}", n / 250, n % 250), 80, *weight)
        })
        .collect();
    let service = service("web", &instances);
    Upstream::compile(Some(&service), "", policy("p2c").unwrap(), None, None).endpoints
}

#[test]
fn load_and_latency_belong_to_the_identity_and_outlive_a_compile() {
    let build = policy("p2c").unwrap();
    let a = instance("a", "10.0.0.1", 80, 1);
    let b = instance("b", "10.0.0.2", 80, 1);
    let first =
        Upstream::compile(Some(&service("web", &[a.clone(), b.clone()])), "", build, None, None);
    let work = first.endpoints[0].begin();
    first.endpoints[1].observe(9000, 1);

    let heavier = instance("a", "10.0.0.1", 80, 5);
    let moved = instance("b", "10.0.0.9", 80, 1);
    let second =
        Upstream::compile(Some(&service("web", &[heavier, moved])), "", build, Some(&first), None);
    assert_eq!(second.endpoints[0].in_flight(), 1, "another weight is the same endpoint");
    assert!(
        second.endpoints[1].cost(1) < first.endpoints[1].cost(1),
        "another address is another endpoint"
    );
    drop(work);
    assert_eq!(second.endpoints[0].in_flight(), 0);
}

#[test]
fn a_draining_instance_stays_for_its_own_clients_and_keeps_its_load() {
    let build = policy("p2c").unwrap();
    let active = instance("a", "10.0.0.1", 80, 1);
    let first = Upstream::compile(
        Some(&service("web", std::slice::from_ref(&active))),
        "",
        build,
        None,
        None,
    );
    let _work = first.endpoints[0].begin();
    let draining = Arc::new(Instance { presence: Presence::Draining, ..Instance::clone(&active) });
    let emptied = Service {
        instances: [draining].into(),
        eligible: [].into(),
        ..Arc::into_inner(service("web", &[])).unwrap()
    };
    let second = Upstream::compile(Some(&emptied), "", build, Some(&first), None);
    assert!(second.pick(PickKey::new(0, 0)).is_none());
    assert_eq!(second.staying[0].in_flight(), 1);
}

#[test]
fn only_watched_endpoints_are_counted_and_their_counts_outlive_a_compile() {
    let build = policy("p2c").unwrap();
    let service = service("web", &[instance("a", "10.0.0.1", 80, 1)]);
    let compile = |previous: Option<&Upstream>, watch| {
        Upstream::compile(Some(&service), "", build, previous, watch)
    };
    let blind = compile(None, None);
    blind.endpoints[0].failed(Failure::Connect);
    assert!(blind.endpoints[0].observed().is_none());

    let first = compile(Some(&blind), Some(FailureStatus::Gateway));
    first.endpoints[0].answered(500, 10, 1);
    first.endpoints[0].answered(503, 10, 2);
    let second = compile(Some(&first), Some(FailureStatus::Server));
    second.endpoints[0].answered(500, 10, 3);
    let totals = second.endpoints[0].observed().unwrap().totals();
    assert_eq!((totals.successes, totals.failures), (1, [0, 0, 0, 2]));
}

#[test]
fn a_latency_peak_counts_at_once_and_wears_off() {
    let endpoint = &endpoints(&[1])[0];
    endpoint.observe(1000, 0);
    endpoint.observe(50_000, 1000);
    assert!(endpoint.cost(1000) >= 50_000.0);
    assert!(endpoint.cost(60_000_000) < 1000.0, "after a minute it is tried again");
}

#[test]
fn another_endpoint_is_one_that_was_not_tried() {
    let service =
        service("web", &[instance("a", "10.0.0.1", 80, 1), instance("b", "10.0.0.2", 80, 1)]);
    let upstream = Upstream::compile(Some(&service), "", policy("p2c").unwrap(), None, None);
    let key = PickKey::new(0, 0);
    let mut tried = vec![upstream.pick(key).unwrap().address];
    tried.push(upstream.pick_another(key, &tried).unwrap().address);
    assert_ne!(tried[0], tried[1]);
    assert!(upstream.pick_another(key, &tried).is_none());
}

#[test]
fn a_named_port_is_taken_and_an_instance_without_it_left_out() {
    let service = service("web", &[instance("a", "10.0.0.1", 80, 1)]);
    let build = policy("p2c").unwrap();
    assert_eq!(Upstream::compile(Some(&service), "", build, None, None).endpoints.len(), 1);
    assert_eq!(Upstream::compile(Some(&service), "metrics", build, None, None).endpoints.len(), 0);
}

/// A service of which only some are eligible.
fn service_of(instances: &[Arc<Instance>], eligible: &[Arc<Instance>]) -> Arc<Service> {
    let bare = Arc::into_inner(service("web", instances)).unwrap();
    Arc::new(Service { eligible: eligible.into(), ..bare })
}

fn rules(policy: &str, config: ServiceBalance) -> Arc<Rules> {
    let config = ServiceBalance { policy: Some(policy.into()), ..config };
    Arc::new(Rules::compile(&config).unwrap())
}

/// How often each endpoint is picked, by its id; every pick comes from another client.
fn picks(upstream: &Upstream, now_micros: u64, count: u64) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for n in 0..count {
        let endpoint = upstream.pick(PickKey::new(mix(n), now_micros)).unwrap();
        *counts.entry(endpoint.instance.id.to_string()).or_default() += 1;
    }
    counts
}

fn instances(count: usize) -> Vec<Arc<Instance>> {
    (0..count).map(|n| instance(&n.to_string(), &format!("10.0.0.{n}"), 80, 1)).collect()
}

#[test]
fn who_comes_to_others_starts_with_a_tenth_and_rises_to_the_whole_with_every_policy() {
    const SECOND: u64 = 1_000_000;
    let all = instances(11);
    for (policy, _) in POLICIES {
        let slow_start = Some(Period::from_secs(10));
        let rules = rules(policy, ServiceBalance { slow_start, ..ServiceBalance::default() });
        let compile = |eligible: &[Arc<Instance>], previous: Option<&Upstream>, now| {
            let service = service_of(&all, eligible);
            Upstream::compile_by(&rules, Some(&service), "", previous, now)
        };
        let first = compile(&all, None, SECOND);
        let whole = picks(&first, SECOND, 40_000)["10"] as f64 / 40_000.0;
        assert!((0.05..0.15).contains(&whole), "{policy}: the first table starts at once: {whole}");
        // It turns unhealthy, and comes back; then a tag changes somewhere.
        let second = compile(&all[..10], Some(&first), 50 * SECOND);
        let back = compile(&all, Some(&second), 100 * SECOND);
        let back = compile(&all, Some(&back), 101 * SECOND);
        for (after, share) in [(0, 0.1), (2, 0.28), (5, 0.55), (10, 1.0), (1000, 1.0)] {
            let now = (100 + after) * SECOND;
            let got = picks(&back, now, 40_000).get("10").copied().unwrap_or(0) as f64 / 40_000.0;
            let want = share * whole / (share * whole + 1.0 - whole);
            let off = (got / want - 1.0).abs();
            assert!(off < 0.15, "{policy}, after {after} s: {got} instead of {want}");
        }
    }
}

#[test]
fn where_nobody_was_nobody_starts_slowly_and_a_drain_that_is_called_off_is_no_start() {
    let all = instances(2);
    let slow_start = Some(Period::from_secs(10));
    let rules = rules("random", ServiceBalance { slow_start, ..ServiceBalance::default() });
    let compile = |service: &Service, previous: &Upstream, now| {
        Upstream::compile_by(&rules, Some(service), "", Some(previous), now)
    };
    let empty = Upstream::compile_by(&rules, None, "", None, 1);
    let both = compile(&service("web", &all), &empty, 2);
    assert!(both.endpoints.iter().all(|endpoint| endpoint.share(2) >= 1.0));
    let draining = Arc::new(Instance { presence: Presence::Draining, ..(*all[1]).clone() });
    let drained = service_of(&[all[0].clone(), draining], &all[..1]);
    let drained = compile(&drained, &both, 3);
    assert_eq!(drained.staying.len(), 1);
    let back = compile(&service("web", &all), &drained, 4);
    assert!(back.endpoints[1].share(4) >= 1.0);
    // By then another one is new.
    let three = instances(3);
    let more = compile(&service("web", &three), &back, 5);
    let shares: Vec<f64> = more.endpoints.iter().map(|endpoint| endpoint.share(5)).collect();
    assert_eq!(shares, [1.0, 1.0, FIRST_SHARE]);
}

#[test]
fn a_weight_that_an_operator_changes_counts_at_once_with_every_policy() {
    for (policy, _) in POLICIES {
        let rules = rules(policy, ServiceBalance::default());
        let compile = |weights: [u16; 3], previous: Option<&Upstream>| {
            let instances: Vec<_> = (0..)
                .zip(weights)
                .map(|(n, weight)| instance(&format!("{n}"), &format!("10.0.0.{n}"), 80, weight))
                .collect();
            Upstream::compile_by(&rules, Some(&service("web", &instances)), "", previous, 1)
        };
        let even = compile([10, 10, 10], None);
        let uneven = compile([10, 10, 80], Some(&even));
        for (upstream, want) in [(&even, 1.0 / 3.0), (&uneven, 0.8)] {
            let got = picks(upstream, 1, 30_000)["2"] as f64 / 30_000.0;
            assert!((got / want - 1.0).abs() < 0.1, "{policy}: {got} instead of {want}");
        }
    }
}

#[test]
fn work_stays_near_while_enough_is_there_and_spills_over_in_proportion() {
    let near = |n: usize, there: bool| {
        let plain = instance(&format!("n{n}"), &format!("10.0.1.{n}"), 80, 1);
        let health = if there { Health::Healthy } else { Health::Unhealthy };
        Arc::new(Instance { locality: Some("east".into()), health, ..(*plain).clone() })
    };
    let far: Vec<_> = (0..10)
        .map(|n| {
            let plain = instance(&format!("f{n}"), &format!("10.0.2.{n}"), 80, 1);
            let locality = (n > 0).then(|| Arc::from("west"));
            Arc::new(Instance { locality, ..(*plain).clone() })
        })
        .collect();
    for (policy, _) in POLICIES {
        for (case, there, here, enough, want) in [
            ("all", 10, Some("east"), Some(0.7), 1.0),
            ("just enough", 7, Some("east"), Some(0.7), 1.0),
            ("too few", 5, Some("east"), Some(0.7), 5.0 / 7.0),
            ("very few", 1, Some("east"), Some(0.7), 1.0 / 7.0),
            ("none", 0, Some("east"), Some(0.7), 0.0),
            ("any is enough", 1, Some("east"), Some(0.0), 1.0),
            ("elsewhere", 10, Some("north"), Some(0.7), 0.5),
            ("nowhere", 10, None, Some(0.7), 0.5),
            ("not asked for", 10, Some("east"), None, 0.5),
        ] {
            let config = ServiceBalance { near: enough.map(Share), ..ServiceBalance::default() };
            let rules = Rules::clone(&rules(policy, config)).at(here.map(Into::into));
            let mut all: Vec<_> = (0..10).map(|n| near(n, n < there)).collect();
            all.extend(far.iter().cloned());
            let eligible: Vec<_> = all.iter().filter(|i| i.health.serves()).cloned().collect();
            let service = service_of(&all, &eligible);
            let upstream = Upstream::compile_by(&rules.into(), Some(&service), "", None, 1);
            let counts = picks(&upstream, 1, 20_000);
            let count = |kind: &str| {
                counts.iter().filter(|(id, _)| id.starts_with(kind)).map(|(_, n)| n).sum::<usize>()
            };
            let (nearby, away) = (count("n"), count("f"));
            if want <= 0.0 || want >= 1.0 {
                assert_eq!(nearby, (want * 20_000.0) as usize, "{policy}, {case}");
            } else if (here != Some("east") || enough.is_none()) && *policy == "ring-hash" {
                assert!(nearby.abs_diff(away) < 4000, "{policy}, {case}: {nearby} and {away}");
            } else {
                let found = chi_squared(&[want, 1.0 - want], &[nearby, away]);
                assert!(found < critical(1), "{policy}, {case}: {nearby} near, {away} far");
            }
        }
    }
}

#[test]
fn no_endpoint_gets_more_than_its_limit_and_a_place_that_is_free_is_found() {
    for (policy, _) in POLICIES {
        let max_connections = Some(2);
        let rules = rules(policy, ServiceBalance { max_connections, ..ServiceBalance::default() });
        let all = instances(30);
        let upstream = Upstream::compile_by(&rules, Some(&service("web", &all)), "", None, 1);
        // All of the same client, for those that go by hashes.
        let take = |n| upstream.take(PickKey::new(mix(n), 1).with_hash(9), &[]);
        let mut held: Vec<_> = (0..60).map(|n| take(n).unwrap()).collect();
        assert!(upstream.endpoints.iter().all(|endpoint| endpoint.in_flight() == 2), "{policy}");
        assert_eq!(take(60).unwrap_err(), Missed::Full, "{policy}");
        let freed = held.swap_remove(17).0.address;
        assert_eq!(take(61).unwrap().0.address, freed, "{policy}");
        let tried: Vec<_> = all.iter().filter_map(|instance| instance.socket("")).collect();
        drop(held);
        assert_eq!(upstream.take(PickKey::new(1, 1), &tried).unwrap_err(), Missed::Nobody);
        let last = upstream.take(PickKey::new(1, 1), &tried[1..]).unwrap().0.address;
        assert_eq!(last, tried[0], "{policy}");
    }
}

#[test]
fn work_at_an_endpoint_that_was_away_for_a_while_still_counts() {
    let max_connections = Some(1);
    let rules = rules("p2c", ServiceBalance { max_connections, ..ServiceBalance::default() });
    let all = instances(2);
    let compile = |listed: &[Arc<Instance>], eligible: &[Arc<Instance>], previous| {
        let service = service_of(listed, eligible);
        Upstream::compile_by(&rules, Some(&service), "", previous, 1)
    };
    let first = compile(&all, &all, None);
    let work = first.endpoints[1].try_begin().unwrap();
    first.endpoints[1].observe(77_000, 1);
    let ejected = compile(&all, &all[..1], Some(&first));
    let gone = compile(&all[..1], &all[..1], Some(&ejected));
    let back = compile(&all, &all, Some(&gone));
    assert!(back.endpoints[1].try_begin().is_none(), "what was begun before its ejection runs");
    assert!(back.endpoints[1].latency(1) > 70_000.0);
    drop(work);
    assert!(back.endpoints[1].try_begin().is_some());
    let gone = compile(&all[..1], &all[..1], Some(&back));
    assert!(gone.departed.is_empty(), "nothing runs there, and nobody knows it");
}

#[test]
fn who_comes_back_after_its_work_was_cut_starts_anew() {
    let rules = rules("p2c", ServiceBalance::default());
    let all = instances(2);
    let compile = |listed: &[Arc<Instance>], previous| {
        Upstream::compile_by(&rules, Some(&service_of(listed, listed)), "", previous, 1)
    };
    let first = compile(&all, None);
    let _work = first.endpoints[1].begin();
    let gone = compile(&all[..1], Some(&first));
    Cutter::default().cut(first.endpoints[1].load(), Reason::Left);
    let back = compile(&all, Some(&gone));
    assert!(!back.endpoints[1].is_cut(), "or all that comes now would be cut too");
    assert_eq!(back.endpoints[1].in_flight(), 0);
    assert!(back.departed.is_empty(), "what it remembered does not count any more");
}

#[test]
fn a_policy_is_built_again_only_when_addresses_or_weights_changed() {
    let rules = rules("maglev", ServiceBalance::default());
    let compile = |instances: &[Arc<Instance>], previous: Option<&Upstream>| {
        Upstream::compile_by(&rules, Some(&service("web", instances)), "", previous, 1)
    };
    let all = instances(3);
    let first = compile(&all, None);
    let mut tagged = all.clone();
    tagged[1] = Arc::new(Instance { tags: Arc::new(["x".into()]), ..(*all[1]).clone() });
    let second = compile(&tagged, Some(&first));
    assert!(second.all.same_policy(&first.all));
    assert!(Arc::ptr_eq(&second.endpoints[0], &first.endpoints[0]), "the same instance, the same");
    tagged[1] = instance("1", "10.0.0.1", 80, 2);
    assert!(!compile(&tagged, Some(&second)).all.same_policy(&second.all), "another weight");
    assert!(!compile(&all[..2], Some(&second)).all.same_policy(&second.all), "one less");
}
