use proptest::prelude::*;

use super::*;
use crate::catalog::model::{Address, Meta, Service};

/// Service number, address and host of each instance.
type Told = BTreeMap<u8, Vec<(u8, Option<u8>)>>;

fn service(number: u8, instances: &[(u8, Option<u8>)]) -> Service {
    // Some share a stack, some an environment, one is of a file of answers.
    let name = match number % 4 {
        0 => format!("s{number}"),
        1 => format!("s{number}.t{}", number % 3),
        2 => format!("s{number}.t{}.e{}", number % 3, number % 2),
        _ => format!("S{number}"),
    };
    let mut meta = Meta::new();
    if number == 7 {
        meta.insert("rancher.answers".into(), "a".into());
    }
    let instance = |(at, (ip, host)): (usize, &(u8, Option<u8>))| {
        let mut instance = Instance::bare(
            if ip % 5 == 0 { "hidden" } else { "shown" },
            &format!("{number}-{at}"),
            Address::Ip([10, 0, 0, *ip].into()),
        );
        instance.node = host.map(|host| Machine {
            name: format!("n{host}").into(),
            address: Some(Address::Ip([10, 1, 0, host].into())),
            meta: Meta::new(),
        });
        Arc::new(instance)
    };
    let instances: Arc<[Arc<Instance>]> = instances.iter().enumerate().map(instance).collect();
    Service {
        name: name.into(),
        tags: Arc::new([]),
        meta: Arc::new(meta),
        eligible: Arc::clone(&instances),
        instances,
        problems: Arc::new([]),
    }
}

fn snapshot(before: &Snapshot, told: &Told, changed: &Told) -> Snapshot {
    let mut services = before.services.clone();
    let names: Vec<u8> = told.keys().chain(changed.keys()).copied().collect();
    for number in names {
        let now = changed.get(&number).or_else(|| told.get(&number)).unwrap();
        let service = service(number, now);
        let name = Arc::clone(&service.name);
        if now.is_empty() {
            services.remove(&*name);
        } else if services.get(&*name).is_none_or(|known| **known != service) {
            services.insert(name, Arc::new(service));
        }
    }
    Snapshot { generation: before.generation + 1, services, ..Snapshot::default() }
}

fn sieve() -> Arc<Sieve> {
    Arc::new(Sieve { registries: Some(vec!["shown".to_owned()]), environment: "e0".into() })
}

/// All that a chart can be asked.
fn all(chart: &Chart) -> String {
    let services = (0..chart.services() as u32).map(|number| {
        let placed = chart.service(number).unwrap();
        format!("{:?} {:?} in {:?}", placed.order, placed.shown, chart.stack_of(number))
    });
    let stacks = (0..chart.stacks() as u32).map(|number| format!("{:?}", chart.stack(number)));
    let containers = (0..=chart.containers()).map(|at| format!("{:?}", chart.container(at)));
    let hosts = (0..chart.hosts() as u32).map(|number| {
        let host = chart.host(number).unwrap();
        assert_eq!(chart.host_named(&host.name), Some(number));
        assert_eq!(chart.host_at(host.address.as_ref().unwrap().ip().unwrap()), Some(number));
        host.name.to_string()
    });
    let addresses =
        (0..=255u8).map(|ip| format!("{:?}", chart.container_at([10, 0, 0, ip].into())));
    let parts = services.chain(stacks).chain(containers).chain(hosts).chain(addresses);
    parts.collect::<Vec<_>>().join("\n") + &format!("{:?}", chart.environments())
}

fn told() -> impl Strategy<Value = Told> {
    let instance = (0..40u8, prop::option::of(0..6u8));
    prop::collection::btree_map(0..100u8, prop::collection::vec(instance, 0..4), 0..90)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_mended_chart_is_the_one_that_is_made_anew(first in told(), second in told(), third in told()) {
        let sieve = sieve();
        let mut now = Arc::new(Snapshot::default());
        let mut chart = Chart::next(None, &now, &sieve);
        let mut told = Told::new();
        // The last one changes little.
        let third: Told = third.into_iter().take(5).collect();
        for changed in [first, second, third] {
            now = Arc::new(snapshot(&now, &told, &changed));
            told.extend(changed);
            chart = Chart::next(Some(&chart), &now, &sieve);
            let anew = Chart::next(None, &now, &sieve);
            prop_assert_eq!(all(&chart), all(&anew));
        }
    }
}

#[test]
fn of_several_containers_at_one_address_the_one_of_the_first_service_counts() {
    let told = Told::from([(4, vec![(1, None), (2, None)]), (0, vec![(2, None)])]);
    let now = Arc::new(snapshot(&Snapshot::default(), &told, &Told::new()));
    let chart = Chart::next(None, &now, &sieve());
    assert_eq!(chart.container_at([10, 0, 0, 2].into()), Some((0, 0)));
    assert_eq!(chart.container_at("::ffff:10.0.0.1".parse().unwrap()), Some((1, 0)));
    assert_eq!(chart.container_at([10, 0, 0, 9].into()), None);
}
