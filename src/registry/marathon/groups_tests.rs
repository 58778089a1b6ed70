use serde_json::{Value, json};

use super::super::testing::{list, roster, service};
use super::*;

/// An app of the pair `shop`, with `tasks` as (id, state, alive).
fn app(id: &str, labels: Value, checked: bool, tasks: &[(&str, &str, Option<bool>)]) -> Value {
    let tasks: Vec<Value> = tasks
        .iter()
        .map(|(id, state, alive)| {
            let results: Vec<Value> = alive.iter().map(|alive| json!({"alive": alive})).collect();
            json!({"id": id, "host": "10.0.0.1", "ports": [31001], "state": state, "healthCheckResults": results})
        })
        .collect();
    let mut labels = labels;
    labels["HAPROXY_DEPLOYMENT_GROUP"] = "shop".into();
    let checks = if checked { json!([{"protocol": "HTTP", "portIndex": 0}]) } else { json!([]) };
    json!({
        "id": id, "version": id, "labels": labels, "healthChecks": checks,
        "portDefinitions": [{"port": 10001}], "tasks": tasks
    })
}

const UP: Option<bool> = Some(true);

fn presences(apps: &[Value]) -> Vec<String> {
    let mut roster = roster();
    list(&mut roster, &json!({ "apps": apps }));
    let told = service(&mut roster, "shop");
    told.instances.iter().map(|own| format!("{} {:?}", own.id, own.presence)).collect()
}

#[test]
fn the_first_old_tasks_are_drained_as_far_as_new_ones_are_well() {
    let old = [("o1", "TASK_RUNNING", UP), ("o2", "TASK_RUNNING", UP), ("o3", "TASK_RUNNING", UP)];
    let killing =
        [("o1", "TASK_KILLING", UP), ("o2", "TASK_RUNNING", UP), ("o3", "TASK_RUNNING", UP)];
    let well = [("n1", "TASK_RUNNING", UP), ("n2", "TASK_RUNNING", UP)];
    let ill = [("n1", "TASK_RUNNING", UP), ("n2", "TASK_RUNNING", None)];
    let dead = [("n1", "TASK_RUNNING", Some(false)), ("n2", "TASK_RUNNING", Some(false))];
    let all = [("n1", "TASK_RUNNING", UP), ("n2", "TASK_RUNNING", UP), ("n3", "TASK_RUNNING", UP)];
    let staging = [("n1", "TASK_STAGING", None), ("n2", "TASK_STAGING", None)];
    let at = |started: &str, target: Option<&str>| {
        let mut labels = json!({"HAPROXY_DEPLOYMENT_STARTED_AT": started});
        if let Some(target) = target {
            labels["HAPROXY_DEPLOYMENT_TARGET_INSTANCES"] = target.into();
        }
        labels
    };
    let first = || at("2016-02-01T10:00:00.5", None);
    let later = || at("2016-02-01T10:00:01", Some("3"));
    for (case, apps, drained) in [
        (
            "two of three",
            vec![app("/b", first(), true, &old), app("/a", later(), true, &well)],
            vec!["o1", "o2"],
        ),
        (
            "only what is well",
            vec![app("/b", first(), true, &old), app("/a", later(), true, &ill)],
            vec!["o1"],
        ),
        (
            "nothing is well",
            vec![app("/b", first(), true, &old), app("/a", later(), true, &dead)],
            vec![],
        ),
        (
            "all",
            vec![app("/b", first(), true, &old), app("/a", later(), true, &all)],
            vec!["o1", "o2", "o3"],
        ),
        (
            "without checks, what runs",
            vec![app("/b", first(), false, &old), app("/a", later(), false, &well)],
            vec!["o1", "o2"],
        ),
        (
            "without checks, what is staged",
            vec![app("/b", first(), false, &old), app("/a", later(), false, &staging)],
            vec![],
        ),
        (
            "the old one has no label of time",
            vec![app("/b", json!({}), true, &old), app("/a", later(), true, &well)],
            vec!["o1", "o2"],
        ),
        (
            "never below what is aimed at",
            vec![app("/b", first(), true, &killing), app("/a", later(), true, &well)],
            vec!["o2"],
        ),
        ("alone", vec![app("/b", first(), true, &old)], vec![]),
        (
            "no target is one",
            vec![app("/b", first(), true, &old), app("/a", at("2017", None), true, &ill)],
            vec!["o1"],
        ),
    ] {
        let told = presences(&apps);
        let is: Vec<&str> = told.iter().filter_map(|line| line.strip_suffix(" Draining")).collect();
        assert_eq!(is, drained, "{case}: {told:?}");
        let reversed: Vec<Value> = apps.iter().rev().cloned().collect();
        assert_eq!(presences(&reversed), told, "{case}: the order in which they are listed");
    }
}

#[test]
fn where_both_colours_stay_the_one_that_was_scaled_last_grows() {
    let tasks = |prefix: &str, count: usize| -> Vec<(String, &str, Option<bool>)> {
        (0..count).map(|n| (format!("{prefix}{n}"), "TASK_RUNNING", UP)).collect()
    };
    let (old, new) = (tasks("o", 3), tasks("n", 2));
    let list = |tasks: &[(String, &'static str, Option<bool>)]| -> Vec<(String, &'static str, Option<bool>)> { tasks.to_vec() };
    let with = |id: &str,
                started: &str,
                scaled: &str,
                tasks: &[(String, &'static str, Option<bool>)]| {
        let tasks = list(tasks);
        let tasks: Vec<(&str, &str, Option<bool>)> =
            tasks.iter().map(|(id, state, up)| (&**id, *state, *up)).collect();
        let labels = json!({
            "HAPROXY_DEPLOYMENT_STARTED_AT": started, "HAPROXY_DEPLOYMENT_TARGET_INSTANCES": "4",
            "HAPROXY_DEPLOYMENT_NEW_INSTANCES": "2"
        });
        let mut app = app(id, labels, true, &tasks);
        app["versionInfo"] = json!({"lastScalingAt": scaled, "lastConfigChangeAt": scaled});
        app
    };
    let forward = [with("/b", "1", "1", &old), with("/a", "2", "2", &new)];
    let told = presences(&forward);
    assert!(told.contains(&"o0 Draining".to_owned()), "{told:?}");
    assert_eq!(told.iter().filter(|line| line.ends_with("Draining")).count(), 1, "{told:?}");
    let back = [with("/b", "1", "3", &old), with("/a", "2", "2", &new)];
    let told = presences(&back);
    assert!(told.contains(&"n0 Draining".to_owned()), "{told:?}");
    assert_eq!(told.iter().filter(|line| line.ends_with("Draining")).count(), 1, "{told:?}");

    // Whose drained tasks are killed is scaled last, and does not grow by that.
    let mut roster = roster();
    let mut draining = |started: &str, blue: (i64, &str), green: (i64, &str)| {
        let mut apps = [with("/b", "1", blue.1, &old), with("/a", started, green.1, &new)];
        (apps[0]["instances"], apps[1]["instances"]) = (blue.0.into(), green.0.into());
        self::list(&mut roster, &json!({ "apps": apps }));
        let told = service(&mut roster, "shop").instances;
        let drains = told.iter().find(|own| own.presence == Presence::Draining);
        drains.map(|own| own.id.to_string()).unwrap_or_default()
    };
    assert_eq!(draining("2", (4, "1"), (2, "2")), "o0");
    assert_eq!(draining("2", (3, "3"), (2, "2")), "o0", "it was scaled down");
    assert_eq!(draining("2", (3, "4"), (2, "2")), "o0", "nothing but the time has changed");
    assert_eq!(draining("2", (4, "5"), (2, "2")), "n0", "it was scaled up");
    assert_eq!(draining("2", (4, "5"), (1, "6")), "n0", "the other one was scaled down");
    assert_eq!(draining("7", (4, "5"), (1, "7")), "o0", "the other one is another one");
}

#[test]
fn a_pair_asks_for_what_its_newer_app_asks_for_and_for_no_port_that_stands_in() {
    let mut blue = app("/shop-blue", json!({"HAPROXY_GROUP": "old", "team": "x"}), false, &[]);
    let mut green = app(
        "/shop-green",
        json!({"HAPROXY_GROUP": "new", "HAPROXY_DEPLOYMENT_ALT_PORT": "20002", "HAPROXY_DEPLOYMENT_STARTED_AT": "2016", "team": "y"}),
        false,
        &[("n1", "TASK_RUNNING", None)],
    );
    blue["portDefinitions"] = json!([{"port": 10001}, {"port": 10002}]);
    green["portDefinitions"] = json!([{"port": 20002}, {"port": 10003}]);
    let mut roster = roster();
    list(&mut roster, &json!({"apps": [blue, green]}));
    let of = |service: &SourceService, key: &str| service.meta.get(key).map(ToString::to_string);
    let pair = service(&mut roster, "shop");
    assert_eq!(of(&pair, "HAPROXY_GROUP").as_deref(), Some("new"));
    assert_eq!(of(&pair, "marathon.app").as_deref(), Some("/shop"));
    assert_eq!(of(&pair, "marathon.kind").as_deref(), Some("group"));
    assert_eq!(of(&pair, "marathon.service-ports").as_deref(), Some("10001,10003"));
    for (name, team) in [("shop-blue", "x"), ("shop-green", "y")] {
        let own = service(&mut roster, name);
        assert_eq!(of(&own, "team").as_deref(), Some(team));
        assert!(own.meta.keys().all(|key| !key.starts_with("HAPROXY_")), "{:?}", own.meta);
    }
    let own = service(&mut roster, "shop-green");
    assert_eq!(own.instances[0].presence, Presence::Active, "names of its own stay as they are");
}

#[test]
fn an_apps_own_service_keeps_what_asks_no_balancer_for_anything() {
    let told = |keys: &[&str]| -> Meta {
        keys.iter().map(|key| ((*key).into(), format!("of {key}").into())).collect()
    };
    let wishes = ["HAPROXY_", "HAPROXY_0_VHOST", "HAPROXY_DEPLOYMENT_GROUP", "HAPROXY_GROUP"];
    let own = ["HAPROXY", "X_HAPROXY_GROUP", "haproxy_group", "marathon.app", "team"];
    let all = [&wishes[..], &own, &["marathon.service-ports"]].concat();
    assert_eq!(without_wishes(&told(&all)), told(&own));
    assert_eq!(without_wishes(&told(&wishes)), Meta::new());
}

#[test]
fn a_pair_stays_at_the_service_port_that_it_has_whichever_of_both_is_the_stand_in() {
    let ports = |blue: &[u16], green: &[u16], labels: &[(&str, &str)]| {
        let definitions =
            |ports: &[u16]| -> Value { ports.iter().map(|port| json!({ "port": port })).collect() };
        let mut newer = json!({
            "HAPROXY_DEPLOYMENT_ALT_PORT": "20001", "HAPROXY_DEPLOYMENT_STARTED_AT": "2016"
        });
        for (key, text) in labels {
            newer[*key] = (*text).into();
        }
        let mut old = app("/shop-blue", json!({}), false, &[]);
        let mut new = app("/shop-green", newer, false, &[]);
        old["portDefinitions"] = definitions(blue);
        new["portDefinitions"] = definitions(green);
        let mut roster = roster();
        list(&mut roster, &json!({"apps": [old, new]}));
        service(&mut roster, "shop").meta["marathon.service-ports"].to_string()
    };
    let label: &[(&str, &str)] = &[("HAPROXY_0_PORT", "10001")];
    for (case, told, want) in [
        ("the newer one stands in", ports(&[10_001], &[20_001], &[]), "10001"),
        ("swapped: the older one does", ports(&[20_001], &[10_001], &[]), "20001"),
        ("another port beside", ports(&[20_001, 7], &[10_001, 8], &[]), "20001,8"),
        ("none of both", ports(&[10_001], &[10_002], &[]), "10002"),
        ("the newer one has more", ports(&[10_001], &[20_001, 10_003], &[]), "10001,10003"),
        ("what a label says is no stand-in", ports(&[20_001], &[10_001], label), "10001"),
        ("the same, forward", ports(&[10_001], &[20_001], label), "20001"),
    ] {
        assert_eq!(told, want, "{case}");
    }
}

#[test]
fn a_pair_takes_the_name_of_one_of_its_own_apps_and_of_nobody_else() {
    let mut roster = roster();
    let own = app("/shop", json!({"HAPROXY_GROUP": "a"}), false, &[("o1", "TASK_RUNNING", None)]);
    let blue = app(
        "/shop-blue",
        json!({"HAPROXY_DEPLOYMENT_STARTED_AT": "2016"}),
        false,
        &[("n1", "TASK_RUNNING", None)],
    );
    list(&mut roster, &json!({"apps": [own, blue]}));
    assert_eq!(service(&mut roster, "shop").instances.len(), 2);
    let other = json!({"id": "/shop", "tasks": []});
    list(&mut roster, &json!({"apps": [other, blue]}));
    assert_eq!(service(&mut roster, "shop").instances.len(), 0);
    let beside = service(&mut roster, "shop_group");
    assert_eq!(beside.instances.len(), 1);
    assert_eq!(beside.meta.get("marathon.app").map(|id| &**id), Some("/shop"));
    list(&mut roster, &json!({"apps": [blue]}));
    assert_eq!(service(&mut roster, "shop").instances.len(), 1);
    let view = roster.view(&crate::catalog::RegistryView::default());
    assert!(view.services.get("shop_group").is_none());
}
