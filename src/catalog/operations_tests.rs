use std::time::Duration;

use super::*;
use crate::catalog::assemble::{Inputs, Source, assemble};
use crate::catalog::health::WhenNoneHealthy;
use crate::catalog::model::{Address, Node};
use crate::catalog::settings::ServiceSettings;
use crate::catalog::{RegistryState, RegistryView, Snapshot, SourceService, Verdicts};

pub(crate) fn on_instance(id: &str) -> Target {
    Target::Instance { service: "web".into(), registry: "r".into(), id: id.into() }
}

pub(crate) fn on_node(name: &str) -> Target {
    Target::Node(name.into())
}

pub(crate) fn drain(target: Target) -> Operation {
    Operation {
        number: 0,
        target,
        does: Does::Drain,
        who: "uid 0".into(),
        since: SystemTime::UNIX_EPOCH,
        reason: "disk".into(),
        deadline: None,
        over: false,
    }
}

fn maintenance(target: Target) -> Operation {
    Operation { does: Does::Maintenance, ..drain(target) }
}

fn weight(target: Target, weight: i64) -> Operation {
    Operation { does: Does::Weight(Weight::try_from(weight).unwrap()), ..drain(target) }
}

fn instance(id: &str, node: &str) -> Arc<Instance> {
    let node = Node { name: node.into(), address: None, meta: BTreeMap::default() };
    let address = Address::parse("10.0.0.1").unwrap();
    Arc::new(Instance { node: Some(node), ..Instance::bare("r", id, address) })
}

fn source(services: &[(&str, &[(&str, &str)])]) -> Source {
    let services = services.iter().map(|(name, instances)| SourceService {
        name: (*name).into(),
        tags: Arc::new([]),
        meta: Arc::default(),
        instances: instances.iter().map(|(id, node)| instance(id, node)).collect(),
        problems: Vec::new(),
        suspect: None,
    });
    let view = RegistryView::default().replaced(services.collect(), Vec::new());
    Source::new("r", 0, RegistryState::Live(view))
}

fn said(all: &[Operation]) -> Arc<Operations> {
    let mut operations = Operations::default();
    for operation in all {
        operations.put(operation.clone(), 100).unwrap();
    }
    Arc::new(operations)
}

/// How each instance of `service` stands: presence, health, weight, whether it is eligible.
fn stand(snapshot: &Snapshot, service: &str) -> Vec<(String, Presence, Health, u16, bool)> {
    let service = snapshot.service(service).unwrap();
    let eligible = |i: &Arc<Instance>| service.eligible.iter().any(|e| Arc::ptr_eq(e, i));
    let stand =
        |i: &Arc<Instance>| (i.id.to_string(), i.presence, i.health, i.weight.value(), eligible(i));
    service.instances.iter().map(stand).collect()
}

#[test]
fn drain_maintenance_and_weight_are_what_assembling_makes_of_them() {
    use Health::{Unhealthy, Unknown};
    use Presence::{Active, Draining, Leaving};
    let over = |operation: Operation| Operation { over: true, ..operation };
    for (case, operations, want) in [
        ("nothing", vec![], (Active, Unknown, 1, true)),
        ("another one", vec![drain(on_instance("b"))], (Active, Unknown, 1, true)),
        ("drain", vec![drain(on_instance("a"))], (Draining, Unknown, 1, false)),
        ("its node drains", vec![drain(on_node("n"))], (Draining, Unknown, 1, false)),
        ("maintenance", vec![maintenance(on_instance("a"))], (Active, Unhealthy, 0, false)),
        ("weight", vec![weight(on_instance("a"), 7)], (Active, Unknown, 7, true)),
        (
            "its own weight before its node's",
            vec![weight(on_instance("a"), 7), weight(on_node("n"), 9)],
            (Active, Unknown, 7, true),
        ),
        (
            "the stricter state counts",
            vec![drain(on_instance("a")), maintenance(on_node("n"))],
            (Active, Unhealthy, 0, false),
        ),
        (
            "weight and drain",
            vec![weight(on_node("n"), 9), drain(on_instance("a"))],
            (Draining, Unknown, 9, false),
        ),
        ("its deadline is over", vec![over(drain(on_instance("a")))], (Leaving, Unknown, 1, false)),
        (
            "a later word replaces the one before",
            vec![maintenance(on_instance("a")), drain(on_instance("a"))],
            (Draining, Unknown, 1, false),
        ),
    ] {
        // Even where all get work when none is healthy, nobody in maintenance does.
        let settings = ServiceSettings {
            when_none_healthy: WhenNoneHealthy::All,
            ..ServiceSettings::default()
        };
        let settings = Arc::new([("web".into(), settings)].into_iter().collect());
        let inputs =
            Inputs::new(vec![source(&[("web", &[("a", "n")])])], settings, Verdicts::default());
        let snapshot = assemble(None, &inputs.with(said(&operations)), 1).unwrap();
        let (presence, health, share, eligible) = want;
        assert_eq!(
            stand(&snapshot, "web"),
            [("a".to_owned(), presence, health, share, eligible)],
            "{case}"
        );
    }
}

#[test]
fn the_cause_tells_who_and_why() {
    let causes = |operation: Operation| {
        said(&[operation]).apply("web", instance("a", "n")).cause.to_string()
    };
    assert_eq!(causes(drain(on_instance("a"))), "drained by uid 0: disk");
    assert_eq!(causes(maintenance(on_node("n"))), "maintenance by uid 0: disk");
    assert_eq!(causes(weight(on_node("n"), 5)), "", "another weight is no cause");
    let silent = Operation { reason: "".into(), over: true, ..drain(on_instance("a")) };
    assert_eq!(causes(silent), "drained by uid 0; its deadline has passed");
}

#[test]
fn a_word_touches_the_services_that_it_is_about_and_no_other() {
    let sources = || {
        vec![source(&[
            ("web", &[("a", "n"), ("b", "m")]),
            ("db", &[("c", "n")]),
            ("other", &[("d", "m")]),
        ])]
    };
    let inputs =
        |operations| Inputs::new(sources(), Arc::default(), Verdicts::default()).with(operations);
    let first = inputs(said(&[]));
    // The same views, as the publisher has them.
    let with = |operations| Inputs { operations, ..first.clone() };
    let snapshot = assemble(None, &first, 1).unwrap();
    for (case, operation, want) in [
        ("an instance", drain(on_instance("a")), &["web"][..]),
        ("a node", drain(on_node("n")), &["db", "web"]),
        ("nobody", drain(on_node("elsewhere")), &[]),
    ] {
        let now = with(said(&[operation]));
        let next = assemble(Some((&first, &snapshot)), &now, 2);
        let mut changed = Vec::new();
        if let Some(next) = &next {
            next.changes_since(&snapshot, |(name, ..)| changed.push(name.to_string()));
            let back = assemble(Some((&now, next)), &first, 3).unwrap();
            assert!(stand(&back, "web").iter().all(|(.., eligible)| *eligible), "{case}: undone");
        }
        changed.sort();
        assert_eq!(changed, want, "{case}");
    }
}

#[test]
fn instances_that_come_to_a_drained_node_later_are_drained_too() {
    let operations = said(&[drain(on_node("n"))]);
    let inputs = |source| {
        let none = Verdicts::default();
        Inputs::new(vec![source], Arc::default(), none).with(Arc::clone(&operations))
    };
    let first = inputs(source(&[("web", &[("a", "m")])]));
    let snapshot = assemble(None, &first, 1).unwrap();
    let later = inputs(source(&[("web", &[("a", "m"), ("b", "n")])]));
    let next = assemble(Some((&first, &snapshot)), &later, 2).unwrap();
    let eligible: Vec<bool> = stand(&next, "web").iter().map(|(.., e)| *e).collect();
    assert_eq!(eligible, [true, false]);
}

#[test]
fn there_are_never_more_operations_than_may_be_and_replacing_one_needs_no_room() {
    let mut operations = Operations::default();
    operations.put(drain(on_instance("a")), 2).unwrap();
    operations.put(weight(on_instance("a"), 3), 2).unwrap();
    assert_eq!(operations.put(drain(on_instance("b")), 2), Err(Full { max: 2 }));
    operations.put(maintenance(on_instance("a")), 2).unwrap();
    let does: Vec<_> = operations.iter().map(|o| (o.number, o.does.word())).collect();
    assert_eq!(does, [(2, "weight"), (3, "maintenance")], "no number is given twice");

    assert!(operations.undo(&on_instance("b"), Aspect::State).is_none());
    assert_eq!(operations.undo(&on_instance("a"), Aspect::State).unwrap().number, 3);
    assert_eq!(operations.remove(2).unwrap().number, 2);
    assert!(operations.is_empty() && operations.instances.is_empty());
}

#[test]
fn a_deadline_passes_once_and_the_next_one_is_told() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let until = |target, seconds| Operation { deadline: Some(at(seconds)), ..drain(target) };
    let mut operations = Operations::default();
    operations.put(until(on_instance("a"), 5), 9).unwrap();
    operations.put(until(on_instance("b"), 9), 9).unwrap();
    operations.put(drain(on_instance("c")), 9).unwrap();
    assert_eq!(operations.due(), Some(at(5)));
    assert!(operations.pass(at(4)).is_empty());
    let version = operations.version;
    let passed = operations.pass(at(5));
    assert_eq!(passed.len(), 1);
    assert!(operations.version > version);
    assert!(operations.of("web", &instance("a", "n")).state.unwrap().over);
    assert!(operations.pass(at(5)).is_empty());
    assert_eq!(operations.due(), Some(at(9)));
}
