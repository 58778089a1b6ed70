use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn table(max: usize) -> Sources {
    Sources::new(max, [1, 2], IntCounter::new("dropped", "Dropped.").unwrap())
}

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn binding(table: &Sources, number: u32, endpoint: u64, until: u64) -> Binding {
    Binding { key: table.key(client(number), 7), endpoint, until }
}

#[test]
fn a_binding_lasts_until_its_time_after_the_client_was_last_seen() {
    let table = table(10);
    let bound = binding(&table, 1, 100, NOW + 1000);
    assert_eq!(table.find(bound.key, NOW), None);
    table.bind(bound, NOW);
    assert_eq!(table.find(bound.key, NOW + 999), Some(bound));
    let seen = Binding { until: NOW + 1900, ..bound };
    table.saw(seen);
    assert_eq!(table.find(bound.key, NOW + 1000), Some(seen));
    assert_eq!(table.find(bound.key, NOW + 1900), None, "the time counts from the last time");
}

#[test]
fn being_seen_neither_shortens_nor_moves_nor_makes_a_binding() {
    let table = table(10);
    let bound = binding(&table, 1, 100, NOW + 1000);
    table.bind(bound, NOW);
    table.saw(Binding { until: NOW + 10, ..bound });
    assert_eq!(table.find(bound.key, NOW), Some(bound));
    // A long connection ends at the endpoint that the client had before.
    table.saw(Binding { endpoint: 99, until: NOW + 9000, ..bound });
    assert_eq!(table.find(bound.key, NOW), Some(bound));
    let other = binding(&table, 2, 100, NOW + 1000);
    table.saw(other);
    assert_eq!(table.find(other.key, NOW), None);
}

#[test]
fn clients_and_upstreams_are_told_apart_and_mapped_addresses_are_not() {
    let table = table(10);
    let v4: IpAddr = "10.0.0.1".parse().unwrap();
    assert_eq!(table.key("::ffff:10.0.0.1".parse().unwrap(), 7), table.key(v4, 7));
    assert_ne!(table.key("10.0.0.2".parse().unwrap(), 7), table.key(v4, 7));
    assert_ne!(table.key(v4, 8), table.key(v4, 7));
    let whole = ["fd00::1", "fd00::2"].map(|ip| table.key(ip.parse().unwrap(), 7));
    assert_ne!(whole[0], whole[1], "the whole address counts");
    let other_seed = Sources::new(1, [3, 4], IntCounter::new("dropped", "Dropped.").unwrap());
    assert_ne!(other_seed.key(v4, 7), table.key(v4, 7));
}

#[test]
fn when_it_is_full_the_oldest_goes_and_is_counted() {
    let table = table(3);
    for number in 0..5 {
        let bound = binding(&table, number, 1, NOW + 1000 + u64::from(number));
        table.bind(bound, NOW);
    }
    let known: Vec<u32> =
        (0..5).filter(|n| table.find(table.key(client(*n), 7), NOW).is_some()).collect();
    assert_eq!(known, [2, 3, 4]);
    assert_eq!(table.dropped.get(), 2);
    // Those that have ended make room without being counted.
    table.bind(binding(&table, 9, 1, NOW + 9000), NOW + 5000);
    assert_eq!(table.dropped.get(), 2);
    assert_eq!(table.bindings(NOW + 5000).len(), 1);
    assert_eq!(table.used.load(Ordering::Relaxed), 1, "the slots of the others are free");
}

#[test]
fn a_table_for_nobody_keeps_nobody() {
    let table = table(0);
    let bound = binding(&table, 1, 1, NOW + 1000);
    table.bind(bound, NOW);
    table.saw(bound);
    assert_eq!((table.find(bound.key, NOW), table.bindings(NOW).len()), (None, 0));
}

#[test]
fn as_many_as_it_is_made_for_are_kept() {
    let table = table(10_000);
    for number in 0..10_000 {
        table.bind(binding(&table, number, u64::from(number), NOW + 1000), NOW);
    }
    let lost = table.dropped.get();
    assert!(lost <= 20, "{lost} of 10,000 went before the table was full");
    for number in 10_000..30_000 {
        table.bind(binding(&table, number, u64::from(number), NOW + 2000), NOW);
    }
    let kept = table.bindings(NOW).len();
    assert!((9_900..=10_100).contains(&kept), "{kept}");
}

#[test]
fn what_another_table_kept_is_taken_over_the_longest_first() {
    let first = table(10);
    for number in 0..6 {
        first.bind(binding(&first, number, u64::from(number), NOW + u64::from(number) * 100), NOW);
    }
    let second = table(3);
    let moved = binding(&second, 5, 77, NOW + 50);
    second.bind(moved, NOW);
    second.adopt(first.bindings(NOW), NOW);
    assert_eq!(second.find(moved.key, NOW), Some(moved), "what is known already stays");
    for (number, kept) in [(1, false), (3, true), (4, true)] {
        let found = second.find(second.key(client(number), 7), NOW);
        assert_eq!(found.is_some(), kept, "{number}");
    }
}

#[test]
fn it_says_what_has_changed_since_it_was_last_asked() {
    let table = table(10);
    let bound = binding(&table, 1, 1, NOW + 1000);
    assert_eq!(table.take_changes(), (false, false));
    table.bind(bound, NOW);
    assert_eq!(table.take_changes(), (true, false));
    table.saw(bound);
    assert_eq!(table.take_changes(), (false, true));
    assert_eq!(table.take_changes(), (false, false));
}

proptest! {
    /// As long as there is room, the table is a map whose entries end.
    #[test]
    fn it_is_a_map_whose_entries_end(
        steps in proptest::collection::vec((0..20_u32, 0..3_u64, 0..4_u8, 1..50_u64), 1..200),
    ) {
        let (table, mut model, mut now) = (table(1000), HashMap::new(), NOW);
        for (number, endpoint, what, time) in steps {
            let bound = binding(&table, number, endpoint, now + time);
            match what {
                0 => {
                    table.bind(bound, now);
                    model.insert(number, bound);
                }
                1 => {
                    table.saw(bound);
                    // One that has ended and whose slot is still there goes on; it is found by
                    // nobody before it is seen, so that nobody sees it then.
                    if model.get(&number).is_some_and(|known: &Binding| {
                        known.endpoint == endpoint && known.until > now
                    }) {
                        let known = model.get_mut(&number).unwrap();
                        known.until = known.until.max(bound.until);
                    } else {
                        model.remove(&number);
                        if let Some(known) = table.find(bound.key, now) {
                            model.insert(number, known);
                        }
                    }
                }
                2 => now += time,
                _ => {
                    let found = table.find(bound.key, now);
                    let want = model.get(&number).filter(|known| known.until > now).copied();
                    prop_assert_eq!(found, want);
                }
            }
        }
    }
}

#[test]
fn workers_that_write_at_the_same_time_never_lead_a_client_to_another_ones_endpoint() {
    let table = table(64);
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let table = &table;
            scope.spawn(move || {
                for round in 0..20_000_u64 {
                    let number = ((round * 7 + worker * 13) % 200) as u32;
                    // Each client has one endpoint of its own, so that a mixture would show.
                    let bound = binding(table, number, u64::from(number), NOW + round);
                    if let Some(found) = table.find(bound.key, 0) {
                        // A mixture is nobody, and no other client's.
                        assert!(found.endpoint == u64::from(number) || found.endpoint > 200);
                        table.saw(bound);
                    } else {
                        table.bind(bound, 0);
                    }
                    if round % 1000 == 0 {
                        drop(table.bindings(NOW + round / 2));
                    }
                }
            });
        }
    });
}
