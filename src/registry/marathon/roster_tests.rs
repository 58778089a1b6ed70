use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::health::{FAILS, KEPT_DOWN, KEPT_UP, NO_RESULT, PASSES};
use super::super::state::TaskState;
use super::super::testing::{list, problems, roster, service, view};
use super::*;
use crate::catalog::{Address, Health, Presence};

fn task(id: &str) -> Value {
    json!({"id": id, "host": "10.0.0.1", "ports": [31001], "state": "TASK_RUNNING", "version": "v1", "slaveId": "S-S1"})
}

fn app(id: &str, tasks: &[Value]) -> Value {
    json!({"id": id, "version": "v1", "portDefinitions": [{"port": 10001, "name": "http"}], "tasks": tasks})
}

fn checked(id: &str, alive: Option<bool>) -> Value {
    let mut own = task("t1");
    own["healthCheckResults"] = alive.map_or(json!([]), |alive| json!([{ "alive": alive }]));
    let mut app = app(id, &[own]);
    app["healthChecks"] = json!([{"protocol": "HTTP", "portIndex": 0}]);
    app
}

fn apps(all: &[Value]) -> Value {
    json!({ "apps": all })
}

fn read(roster: &mut Roster, app: &Value) -> bool {
    let body = json!({ "app": app }).to_string();
    roster.one(Kind::App, app["id"].as_str().unwrap(), body.as_bytes()).unwrap()
}

fn event(app: &str, task: &str, word: &str) -> Event {
    Event::Task { app: app.into(), task: task.into(), state: TaskState::read(word) }
}

fn health(app: &str, task: &str, healthy: bool) -> Event {
    Event::Health { app: app.into(), instance: task.into(), healthy: Some(healthy) }
}

fn presences(roster: &mut Roster, name: &str) -> Vec<(String, Presence)> {
    let service = service(roster, name);
    service.instances.iter().map(|own| (own.id.to_string(), own.presence)).collect()
}

fn cause(roster: &mut Roster, name: &str) -> (Health, String) {
    let service = service(roster, name);
    (service.instances[0].health, service.instances[0].cause.to_string())
}

#[test]
fn a_task_that_is_being_killed_leaves_at_once_and_no_answer_that_was_on_its_way_brings_it_back() {
    let mut roster = roster();
    let both = app("/web", &[task("t1"), task("t2")]);
    list(&mut roster, &apps(std::slice::from_ref(&both)));
    assert!(roster.event(&event("/web", "t1", "TASK_KILLING")));
    assert!(!roster.event(&event("/web", "t1", "TASK_KILLING")), "once");
    let leaving = vec![("t1".to_owned(), Presence::Leaving), ("t2".to_owned(), Presence::Active)];
    assert_eq!(presences(&mut roster, "web"), leaving);
    read(&mut roster, &both);
    list(&mut roster, &apps(std::slice::from_ref(&both)));
    assert_eq!(presences(&mut roster, "web"), leaving, "answers from before the event");
    assert!(roster.event(&event("/web", "t1", "TASK_KILLED")));
    assert_eq!(presences(&mut roster, "web").len(), 1);
    read(&mut roster, &both);
    assert_eq!(presences(&mut roster, "web").len(), 1, "an answer from before the event");
    read(&mut roster, &app("/web", &[task("t2")]));
    assert_eq!(presences(&mut roster, "web").len(), 1);
    read(&mut roster, &both);
    assert_eq!(presences(&mut roster, "web").len(), 2, "it is another t1 by now");
}

#[test]
fn a_task_that_is_listed_as_running_again_and_again_runs_whatever_an_event_said() {
    let mut roster = roster();
    let all = apps(&[app("/web", &[task("t1")])]);
    for word in ["TASK_KILLING", "TASK_FAILED"] {
        list(&mut roster, &all);
        assert!(roster.event(&event("/web", "t1", word)));
        list(&mut roster, &all);
        list(&mut roster, &all);
        assert_ne!(presences(&mut roster, "web"), [("t1".to_owned(), Presence::Active)], "{word}");
        list(&mut roster, &all);
        assert_eq!(presences(&mut roster, "web"), [("t1".to_owned(), Presence::Active)], "{word}");
    }
}

#[test]
fn a_resident_task_that_runs_again_under_its_id_is_believed() {
    let mut roster = roster();
    let all = app("/db", &[task("t1")]);
    list(&mut roster, &apps(std::slice::from_ref(&all)));
    assert!(roster.event(&event("/db", "t1", "TASK_FINISHED")));
    assert!(!roster.event(&event("/db", "t1", "TASK_RUNNING")));
    assert!(read(&mut roster, &all));
    assert_eq!(presences(&mut roster, "db").len(), 1);
}

#[test]
fn events_of_states_that_stay_or_of_nobody_change_nothing() {
    let mut roster = roster();
    list(&mut roster, &apps(&[app("/web", &[task("t1")])]));
    for event in [
        event("/web", "t1", "TASK_RUNNING"),
        event("/web", "t1", "TASK_UNREACHABLE"),
        event("/web", "t1", "TASK_LOST"),
        event("/web", "t1", "TASK_STAGING"),
        event("/web", "t9", "TASK_KILLED"),
        event("/other", "t1", "TASK_KILLED"),
        health("/web", "t1", false),
        Event::Dirty("/web".into()),
        Event::AllDirty,
    ] {
        assert!(!roster.event(&event), "{event:?}");
    }
    assert_eq!(presences(&mut roster, "web"), [("t1".to_owned(), Presence::Active)]);
}

#[test]
fn an_event_about_health_counts_at_once_until_the_app_is_read_again() {
    let mut roster = roster();
    let well = apps(&[checked("/web", Some(true))]);
    list(&mut roster, &well);
    assert!(roster.event(&health("/web", "t1", false)));
    assert_eq!(cause(&mut roster, "web"), (Health::Unhealthy, FAILS.to_owned()));
    assert!(roster.event(&health("/web", "t1", true)));
    assert_eq!(cause(&mut roster, "web"), (Health::Healthy, PASSES.to_owned()));
    assert!(roster.event(&health("/web", "t1", false)));
    assert!(list(&mut roster, &well), "the same bytes as before the event");
    assert_eq!(cause(&mut roster, "web"), (Health::Healthy, PASSES.to_owned()));
    let mut two = checked("/web", Some(true));
    two["healthChecks"] = json!([{"protocol": "HTTP"}, {"protocol": "TCP"}]);
    list(&mut roster, &apps(&[two]));
    assert!(!roster.event(&health("/web", "t1", false)), "another check may pass");
}

#[test]
fn verdicts_are_kept_through_a_failover_until_it_has_settled() {
    let mut roster = roster();
    for (alive, kept, health) in
        [(true, KEPT_UP, Health::Healthy), (false, KEPT_DOWN, Health::Unhealthy)]
    {
        list(&mut roster, &apps(&[checked("/web", Some(alive))]));
        list(&mut roster, &apps(&[checked("/web", None)]));
        assert_eq!(cause(&mut roster, "web"), (health, kept.to_owned()));
        read(&mut roster, &checked("/web", None));
        assert_eq!(cause(&mut roster, "web"), (health, kept.to_owned()), "and kept");
        assert!(roster.settle());
        assert!(!roster.settle(), "once");
        assert_eq!(cause(&mut roster, "web"), (Health::Unhealthy, NO_RESULT.to_owned()));
        list(&mut roster, &apps(&[checked("/web", None)]));
        assert_eq!(cause(&mut roster, "web"), (Health::Unhealthy, NO_RESULT.to_owned()));
    }
    list(&mut roster, &apps(&[checked("/web", Some(true))]));
    list(&mut roster, &apps(&[checked("/web", None)]));
    assert_eq!(cause(&mut roster, "web").1, KEPT_UP, "the next failover");
}

#[test]
fn verdicts_are_kept_through_a_restart_of_this_process_too() {
    let mut before = roster();
    let last = view(&mut before, &apps(&[checked("/web", Some(true))]));
    let mut roster = roster();
    roster.restore(&last);
    list(&mut roster, &apps(&[checked("/web", None)]));
    assert_eq!(cause(&mut roster, "web"), (Health::Healthy, KEPT_UP.to_owned()));
    roster.settle();
    list(&mut roster, &apps(&[checked("/web", None)]));
    assert_eq!(cause(&mut roster, "web"), (Health::Unhealthy, NO_RESULT.to_owned()));
}

#[test]
fn what_did_not_change_is_shared_and_costs_no_second_reading() {
    let mut roster = roster();
    let all = |extra: &[Value]| {
        let mut all: Vec<Value> = (0..50).map(|n| app(&format!("/a{n}"), &[task("t1")])).collect();
        all.extend(extra.iter().cloned());
        apps(&all)
    };
    let first = view(&mut roster, &all(&[checked("/web", Some(true))]));
    let mut listing = roster.listing();
    listing.apps(all(&[checked("/web", Some(false))]).to_string().as_bytes()).unwrap();
    listing.end().unwrap();
    assert_eq!(listing.found.made, 1);
    assert!(roster.replace(listing));
    let second = roster.view(&first);
    let mut changed = Vec::new();
    second.services.changes_since(&first.services, |(name, _, _)| changed.push(name.to_string()));
    assert_eq!(changed, ["web"]);
    assert!(!list(&mut roster, &all(&[checked("/web", Some(false))])));
    assert!(roster.view(&second).services.same(&second.services));
}

#[test]
fn the_first_view_shares_with_the_one_that_was_on_disk() {
    let all = apps(&[app("/a", &[task("t1")]), app("/b", &[])]);
    let last = view(&mut roster(), &all);
    let mut roster = roster();
    list(&mut roster, &all);
    let now = roster.view(&last);
    let mut changed = 0;
    now.services.changes_since(&last.services, |_| changed += 1);
    assert_eq!(changed, 0);
}

#[test]
fn one_app_is_read_alone_changed_and_gone() {
    let mut roster = roster();
    list(&mut roster, &apps(&[app("/a", &[task("t1")]), app("/b", &[])]));
    assert_eq!((roster.knows("/a"), roster.knows("/c")), (Some(Kind::App), None));
    assert!(!read(&mut roster, &app("/a", &[task("t1")])));
    assert!(read(&mut roster, &app("/a", &[task("t1"), task("t2")])));
    assert_eq!(service(&mut roster, "a").instances.len(), 2);
    assert!(read(&mut roster, &app("/c", &[task("t1")])));
    assert!(roster.gone("/a"));
    assert!(!roster.gone("/a"));
    assert_eq!(roster.knows("/a"), None);
    let counts = roster.counts();
    assert_eq!((counts.apps, counts.tasks, counts.pods), (2, 1, 0));
}

#[test]
fn an_answer_that_is_none_changes_nothing() {
    let mut roster = roster();
    list(&mut roster, &apps(&[app("/a", &[task("t1")])]));
    for (body, want) in [
        ("", "ends after 0 bytes"),
        ("<html>", "'<' does not fit"),
        ("{\"app\":{\"id\":\"/a\"", "ends after 17 bytes"),
        ("{\"message\":\"no\"}", "there is none in it"),
        ("{\"app\":{\"id\":\"/b\"}}", "it is about \"/b\", not \"/a\""),
    ] {
        let error = roster.one(Kind::App, "/a", body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{body}: {error}");
    }
    assert_eq!(service(&mut roster, "a").instances.len(), 1);
    let mut listing = roster.listing();
    listing.apps(b"{\"apps\":[").unwrap();
    assert!(listing.end().unwrap_err().to_string().contains("the list of apps ends after 9 bytes"));
}

#[test]
fn an_app_that_breaks_keeps_what_it_said_before_and_says_so() {
    let mut roster = roster();
    list(&mut roster, &apps(&[app("/a", &[task("t1")])]));
    let mut broken = app("/a", &[]);
    broken["ports"] = json!("x");
    broken["portDefinitions"] = json!("x");
    assert!(list(&mut roster, &apps(&[broken.clone()])));
    let told = service(&mut roster, "a");
    assert_eq!(told.instances.len(), 1);
    assert!(told.problems[0].contains("what it said before counts: `p"), "{:?}", told.problems);
    assert!(!read(&mut roster, &broken), "the same as before");
    assert!(read(&mut roster, &app("/a", &[])));
    assert!(service(&mut roster, "a").problems.is_empty());
    assert!(read(&mut roster, &broken));
    assert_eq!(service(&mut roster, "a").problems.len(), 1);
    list(&mut roster, &apps(&[]));
    let told = roster.view(&RegistryView::default());
    assert_eq!((told.services.len(), told.problems.len()), (0, 0));
}

#[test]
fn while_an_app_without_id_is_listed_nobody_who_is_missing_is_gone() {
    let mut roster = roster();
    list(&mut roster, &apps(&[app("/a", &[task("t1")]), app("/b", &[])]));
    let told = view(&mut roster, &apps(&[app("/b", &[]), json!({"id": 7})]));
    assert_eq!(told.services.len(), 2);
    assert!(
        problems(&told).contains("no app that is missing counts as gone"),
        "{}",
        problems(&told)
    );
    assert_eq!(view(&mut roster, &apps(&[app("/b", &[])])).services.len(), 1);
}

#[test]
fn an_app_that_is_too_long_is_named_and_keeps_what_it_said() {
    let naming = Naming { app_max: 500, ..Naming::new("marathon") };
    let mut roster = Roster::new("m".into(), naming);
    list(&mut roster, &apps(&[app("/a", &[task("t1")])]));
    let mut long = app("/a", &[]);
    long["zzz"] = "x".repeat(1000).into();
    list(&mut roster, &apps(&[long]));
    let told = service(&mut roster, "a");
    assert_eq!(told.instances.len(), 1);
    assert!(told.problems[0].contains("it has more than 500 bytes; raise `app_max`"));
}

#[test]
fn more_apps_or_tasks_than_allowed_refuse_the_listing_with_the_key_to_raise() {
    let naming = Naming { apps_max: 2, tasks_max: 3, ..Naming::new("marathon") };
    let roster = Roster::new("m".into(), naming);
    let tasks: Vec<Value> = (0..4).map(|n| task(&format!("t{n}"))).collect();
    for (all, want) in [
        (
            apps(&[app("/a", &[]), app("/b", &[]), app("/c", &[])]),
            "more than 2 apps; raise `apps_max`",
        ),
        (
            apps(&[app("/a", &tasks)]),
            "more than 3 tasks; raise `tasks_max` of [registry.m.marathon]",
        ),
    ] {
        let error = roster.listing().apps(all.to_string().as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn what_was_read_while_a_listing_was_on_its_way_counts_more_than_the_listing() {
    let mut roster = roster();
    let old = app("/a", &[task("t1")]);
    let (new, gone) = (app("/new", &[]), app("/gone", &[]));
    list(&mut roster, &apps(&[old.clone(), gone.clone()]));
    let mut listing = roster.listing();
    listing.apps(apps(&[old, gone]).to_string().as_bytes()).unwrap();
    listing.end().unwrap();
    read(&mut roster, &app("/a", &[task("t1"), task("t2")]));
    read(&mut roster, &new);
    roster.gone("/gone");
    roster.event(&event("/a", "t1", "TASK_KILLED"));
    roster.replace(listing);
    assert_eq!(presences(&mut roster, "a"), [("t2".to_owned(), Presence::Active)]);
    assert_eq!((roster.knows("/new"), roster.knows("/gone")), (Some(Kind::App), None));
}

#[test]
fn an_event_that_came_while_a_listing_was_on_its_way_is_not_undone_by_it() {
    let mut roster = roster();
    let both = apps(&[app("/a", &[task("t1"), task("t2")])]);
    list(&mut roster, &both);
    let mut listing = roster.listing();
    listing.apps(both.to_string().as_bytes()).unwrap();
    listing.end().unwrap();
    roster.event(&event("/a", "t1", "TASK_KILLING"));
    roster.replace(listing);
    assert_eq!(presences(&mut roster, "a")[0], ("t1".to_owned(), Presence::Leaving));
}

#[test]
fn pods_stay_where_a_listing_tells_of_none_and_go_where_it_tells_that_there_are_none() {
    let mut roster = roster();
    let mut listing = roster.listing();
    listing.apps(b"{\"apps\":[]}").unwrap();
    listing.pods(br#"[{"id":"/p","instances":[]}]"#).unwrap();
    listing.end().unwrap();
    roster.replace(listing);
    assert_eq!(roster.knows("/p"), Some(Kind::Pod));
    list(&mut roster, &apps(&[]));
    assert_eq!((roster.knows("/p"), roster.counts().pods), (Some(Kind::Pod), 1));
    let mut listing = roster.listing();
    listing.apps(b"{\"apps\":[]}").unwrap();
    listing.no_pods();
    listing.end().unwrap();
    roster.replace(listing);
    assert_eq!((roster.knows("/p"), roster.counts().pods), (None, 0));
}

#[test]
fn one_pod_is_read_alone_changed_refused_and_gone() {
    let pod = |instances: &str| format!(r#"{{"id":"/p","instances":[{instances}]}}"#);
    let mut roster = roster();
    let mut listing = roster.listing();
    listing.apps(b"{\"apps\":[]}").unwrap();
    listing.pods(format!("[{}]", pod("")).as_bytes()).unwrap();
    listing.end().unwrap();
    roster.replace(listing);
    let own = r#"{"id":"p.instance-1","status":"STABLE","agentHostname":"10.0.0.1"}"#;
    assert!(roster.one(Kind::Pod, "/p", pod(own).as_bytes()).unwrap());
    assert!(!roster.one(Kind::Pod, "/p", pod(own).as_bytes()).unwrap());
    assert_eq!(service(&mut roster, "p").instances.len(), 1);
    for (body, want) in [
        (String::new(), "there is none in it"),
        (pod("").replace("/p", "/q"), "it is about \"/q\", not \"/p\""),
        (pod(own)[..20].to_owned(), "ends after 22 bytes"),
    ] {
        let error = roster.one(Kind::Pod, "/p", body.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(want), "{body}: {error}");
    }
    assert!(roster.too_long("/p") && !roster.too_long("/p"));
    let told = service(&mut roster, "p");
    assert_eq!(told.instances.len(), 1);
    assert!(told.problems[0].contains("raise `app_max` of its registry"), "{:?}", told.problems);
    assert!(roster.one(Kind::Pod, "/p", pod(own).as_bytes()).unwrap(), "it is one again");
    assert!(roster.gone("/p"));
    assert_eq!((roster.knows("/p"), roster.counts().pods), (None, 0));
}

#[test]
fn two_apps_of_one_name_are_one_service_of_the_first_and_the_other_is_told() {
    let mut roster = roster();
    list(&mut roster, &apps(&[app("/b/a", &[task("t1")]), app("/a.b", &[task("t2"), task("t3")])]));
    let told = service(&mut roster, "a.b");
    assert_eq!(told.instances.len(), 2);
    assert_eq!(&*told.problems[0], "app /b/a is told by no service: /a.b has the same name");
    list(&mut roster, &apps(&[app("/b/a", &[task("t1")])]));
    assert_eq!(service(&mut roster, "a.b").instances.len(), 1);
}

#[test]
fn hosts_told_by_name_get_their_addresses_when_they_are_found() {
    let mut roster = roster();
    let mut own = task("t1");
    own["host"] = "a1.shop.test".into();
    list(&mut roster, &apps(&[app("/a", &[own.clone()]), app("/b", &[task("t2")])]));
    roster.leader(Some("m1.shop.test:8080"));
    let hosts: Vec<String> = roster.hosts().iter().map(ToString::to_string).collect();
    assert_eq!(hosts, ["a1.shop.test", "m1.shop.test"]);
    assert!(!roster.resolved("a1.shop.test", None));
    assert!(roster.resolved("a1.shop.test", Some([10, 0, 0, 5].into())));
    assert!(!roster.resolved("a1.shop.test", Some([10, 0, 0, 5].into())));
    assert!(roster.resolved("m1.shop.test", Some([10, 0, 0, 6].into())));
    assert!(roster.hosts().is_empty());
    assert_eq!(roster.hosts_all().len(), 2);
    let told = service(&mut roster, "a");
    let found = Address::Ip([10, 0, 0, 5].into());
    assert_eq!(told.instances[0].address, found);
    assert_eq!(told.instances[0].node.as_ref().unwrap().address, Some(found));
    assert!(roster.resolved("a1.shop.test", Some([10, 0, 0, 9].into())), "it moved");
    list(&mut roster, &apps(&[app("/a", &[own.clone(), task("t2")]), app("/c", &[own.clone()])]));
    for name in ["a", "c"] {
        assert_eq!(
            service(&mut roster, name).instances[0].address.to_string(),
            "10.0.0.9",
            "{name}"
        );
    }
    assert_eq!(
        service(&mut roster, "marathon_leader").instances[0].address.to_string(),
        "10.0.0.6"
    );
    let mut known = own;
    known["ipAddresses"] = json!([{"ipAddress": "10.0.0.7"}]);
    list(&mut roster, &apps(&[app("/a", &[known])]));
    assert!(!roster.resolved("a1.shop.test", Some([10, 0, 0, 8].into())), "Mesos tells it");
    assert_eq!(service(&mut roster, "a").instances[0].address.to_string(), "10.0.0.7");
}

#[test]
fn an_address_that_is_found_while_a_listing_is_on_its_way_counts_behind_it_too() {
    let on = |host: &str, id: &str| {
        let mut own = task(id);
        own["host"] = host.into();
        own
    };
    let all = apps(&[app("/a", &[on("a1", "t1"), on("a2", "t2")]), app("/b", &[on("a1", "t3")])]);
    let told = |roster: &mut Roster, name: &str| -> Vec<String> {
        let told = service(roster, name).instances;
        told.iter().map(|own| own.address.to_string()).collect()
    };
    let mut roster = roster();
    list(&mut roster, &all);
    assert!(roster.resolved("a1", Some([10, 0, 0, 1].into())));
    for (a1, a2) in [(2, 3), (4, 5)] {
        let mut listing = roster.listing();
        roster.resolved("a1", Some([10, 0, 0, a1].into()));
        roster.resolved("a2", Some([10, 0, 0, a2].into()));
        listing.apps(all.to_string().as_bytes()).unwrap();
        listing.end().unwrap();
        roster.replace(listing);
        let want = [format!("10.0.0.{a1}"), format!("10.0.0.{a2}")];
        assert_eq!(told(&mut roster, "a"), want);
        assert_eq!(told(&mut roster, "b"), want[..1]);
        assert!(roster.hosts().is_empty());
    }
}

#[test]
fn an_address_costs_the_apps_on_its_host_and_no_others() {
    const APPS: usize = 1000;
    const HOSTS: usize = 500;
    let on = |app: usize| -> Vec<Value> {
        let own = |nth: usize| {
            let mut own = task(&format!("t{app}-{nth}"));
            own["host"] = format!("agent-{}", (app * 7 + nth) % HOSTS).into();
            own
        };
        (0..3).map(own).collect()
    };
    let mut roster = roster();
    let all: Vec<Value> = (0..APPS).map(|n| app(&format!("/a{n}"), &on(n))).collect();
    list(&mut roster, &apps(&all));
    roster.looked_at = 0;
    for host in roster.hosts() {
        assert!(roster.resolved(&host, Some([10, 0, 0, 1].into())));
    }
    assert_eq!(roster.looked_at, 3 * APPS, "not the number of apps for each host");
    assert!(roster.hosts().is_empty());
    assert_eq!(roster.hosts_all().len(), HOSTS);
    // Who has left a host is no more of it.
    list(&mut roster, &apps(&all[..1]));
    roster.looked_at = 0;
    for host in 0..HOSTS {
        roster.resolved(&format!("agent-{host}"), Some([10, 0, 0, 2].into()));
    }
    assert_eq!((roster.looked_at, roster.hosts_all().len()), (3, 3));
}

#[test]
fn apps_in_a_deployment_are_known_until_they_are_read_without() {
    let mut roster = roster();
    let mut deploying = app("/a", &[]);
    deploying["deployments"] = json!([{"id": "d"}]);
    list(&mut roster, &apps(&[deploying, app("/b", &[])]));
    assert_eq!(roster.deploying(), ["/a".into()]);
    read(&mut roster, &app("/a", &[]));
    assert!(roster.deploying().is_empty());
}

/// What is, as a scripted Marathon would hold it: apps with their tasks and those tasks' health.
type Truth = BTreeMap<String, BTreeMap<String, (bool, Option<bool>)>>;

#[derive(Debug, Clone)]
enum Step {
    /// A task of an app begins, with a result of its health check or none.
    Begin(u8, u8, Option<bool>),
    Kill(u8, u8),
    End(u8, u8),
    Check(u8, u8, bool),
    Remove(u8),
    /// One app, or everything, is read; or nothing, for the event is lost.
    Read(u8),
    List,
}

fn step() -> impl Strategy<Value = Step> {
    let (app, task) = (0..4u8, 0..4u8);
    prop_oneof![
        (app.clone(), task.clone(), any::<Option<bool>>())
            .prop_map(|(a, t, h)| Step::Begin(a, t, h)),
        (app.clone(), task.clone()).prop_map(|(a, t)| Step::Kill(a, t)),
        (app.clone(), task.clone()).prop_map(|(a, t)| Step::End(a, t)),
        (app.clone(), task, any::<bool>()).prop_map(|(a, t, h)| Step::Check(a, t, h)),
        app.clone().prop_map(Step::Remove),
        app.prop_map(Step::Read),
        Just(Step::List),
    ]
}

/// Apps 0 and 1 are a pair, app 2 has health checks, as has app 1.
fn told(id: &str, tasks: &BTreeMap<String, (bool, Option<bool>)>) -> Value {
    let own = tasks.iter().map(|(id, (killing, alive))| {
        let mut own = task(id);
        own["state"] = if *killing { "TASK_KILLING" } else { "TASK_RUNNING" }.into();
        own["healthCheckResults"] = alive.map_or(json!([]), |alive| json!([{ "alive": alive }]));
        own
    });
    let mut app = app(id, &own.collect::<Vec<_>>());
    if id == "/a0" || id == "/a1" {
        app["labels"] =
            json!({"HAPROXY_DEPLOYMENT_GROUP": "pair", "HAPROXY_DEPLOYMENT_STARTED_AT": id});
    }
    if id == "/a1" || id == "/a2" {
        app["healthChecks"] = json!([{"protocol": "HTTP"}]);
    }
    app
}

fn listed(truth: &Truth) -> Value {
    apps(&truth.iter().map(|(id, tasks)| told(id, tasks)).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn after_any_history_the_view_is_that_of_a_fresh_listing(steps in prop::collection::vec(step(), 0..60)) {
        let mut truth = Truth::new();
        let mut roster = roster();
        let mut serial = 0;
        for step in steps {
            match step {
                Step::Begin(a, t, health) => {
                    serial += 1;
                    let tasks = truth.entry(format!("/a{a}")).or_default();
                    let prefix = format!("t{t}.");
                    if !tasks.keys().any(|id| id.starts_with(&prefix)) {
                        tasks.insert(format!("t{t}.{serial}"), (false, health));
                    }
                    // The stream tells of it, and whoever listens reads the app.
                    read(&mut roster, &told(&format!("/a{a}"), tasks));
                }
                Step::Kill(a, t) | Step::End(a, t) => {
                    let id = format!("/a{a}");
                    let Some(tasks) = truth.get_mut(&id) else { continue };
                    let Some(task) = tasks.keys().find(|id| id.starts_with(&format!("t{t}."))).cloned() else { continue };
                    let word = if matches!(step, Step::Kill(..)) { "TASK_KILLING" } else { "TASK_KILLED" };
                    if word == "TASK_KILLING" {
                        tasks.get_mut(&task).unwrap().0 = true;
                    } else {
                        tasks.remove(&task);
                    }
                    roster.event(&event(&id, &task, word));
                    let now = roster.view(&RegistryView::default());
                    for service in now.services.values() {
                        for own in service.instances.iter().filter(|own| *own.id == *task) {
                            prop_assert!(word == "TASK_KILLING" && own.presence == Presence::Leaving);
                        }
                    }
                }
                Step::Check(a, t, alive) => {
                    let id = format!("/a{a}");
                    let Some(tasks) = truth.get_mut(&id) else { continue };
                    let Some(task) = tasks.keys().find(|id| id.starts_with(&format!("t{t}."))).cloned() else { continue };
                    tasks.get_mut(&task).unwrap().1 = Some(alive);
                    roster.event(&health(&id, &task, alive));
                }
                Step::Remove(a) => {
                    truth.remove(&format!("/a{a}"));
                }
                Step::Read(a) => {
                    let id = format!("/a{a}");
                    match truth.get(&id) {
                        Some(tasks) => drop(read(&mut roster, &told(&id, tasks))),
                        None => _ = roster.gone(&id),
                    }
                }
                Step::List => drop(list(&mut roster, &listed(&truth))),
            }
        }
        list(&mut roster, &listed(&truth));
        let mut fresh = super::super::testing::roster();
        list(&mut fresh, &listed(&truth));
        let (is, wanted) = (roster.view(&RegistryView::default()), fresh.view(&RegistryView::default()));
        let all = |view: &RegistryView| {
            let mut all: Vec<_> = view.services.iter().map(|(name, service)| (name.clone(), SourceService::clone(service))).collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        prop_assert_eq!(all(&is), all(&wanted));
        prop_assert_eq!(roster.counts(), fresh.counts());
        // What a cache of bytes hides shows when everything is made anew.
        prop_assert!(!list(&mut roster, &listed(&truth)));
    }

    #[test]
    fn no_payload_makes_it_panic_and_every_other_app_is_still_told(
        at in any::<prop::sample::Index>(),
        byte: u8,
        cut: prop::sample::Index,
    ) {
        let broken = json!({
            "id": "/b", "version": "v", "labels": {"HAPROXY_DEPLOYMENT_GROUP": "g", "A": "b"}, "ports": [1],
            "portDefinitions": [{"port": 1, "name": "n", "protocol": "tcp"}], "networks": [{"mode": "host"}],
            "healthChecks": [{"protocol": "HTTP", "portIndex": 0}], "deployments": [{"id": "d"}],
            "readinessChecks": [{"name": "r"}], "readinessCheckResults": [{"name": "r", "taskId": "t", "ready": true}],
            "container": {"docker": {"network": "BRIDGE", "portMappings": [{"containerPort": 1}]}},
            "tasks": [task("t")]
        });
        let mut broken = broken.to_string().into_bytes();
        let place = at.index(broken.len());
        broken[place] = byte;
        let mut body = b"{\"apps\":[{\"id\":\"/a\"},".to_vec();
        body.extend(&broken);
        body.extend(b",{\"id\":\"/c\"}]}");
        let mut roster = roster();
        let mut listing = roster.listing();
        let cut = cut.index(body.len());
        let fed = listing.apps(&body[..cut]).and_then(|()| listing.apps(&body[cut..])).and_then(|()| listing.end());
        if fed.is_ok() {
            roster.replace(listing);
            prop_assert!(roster.knows("/a").is_some());
        }
        let _ = roster.one(Kind::App, "/b", &body);
        let _ = roster.one(Kind::Pod, "/b", &body);
        let _ = Event::read("", &broken);
        let _ = Event::read("status_update_event", &broken);
    }
}
