use super::*;
use crate::registry::marathon::decode;

/// Mode, ports by index, ports of the task, as lines.
fn told(app: &str, task: &str) -> Result<(Mode, Vec<String>, Vec<u16>), String> {
    let app: RawApp<'_> = decode::read(app.as_bytes()).unwrap();
    let task: RawTask<'_> = decode::read(task.as_bytes()).unwrap();
    let layout = Layout::of(&app)?;
    let ports = layout.ports.iter();
    let ports = ports.map(|p| format!("{} {} {}", p.name, p.protocol.word(), p.service_port));
    Ok((layout.mode, ports.collect(), layout.of_task(&task)?))
}

#[test]
fn ports_are_found_where_each_version_and_network_has_them() {
    let host = r#"{"ports":[31001,31002]}"#;
    let none = "{}";
    for (case, app, task, mode, ports, numbers) in [
        (
            "0.9, ports alone",
            r#"{"ports":[10001,10002],"container":null}"#,
            host,
            Mode::Host,
            vec!["port-0 tcp 10001", "port-1 tcp 10002"],
            vec![31001, 31002],
        ),
        (
            "1.0, port definitions",
            r#"{"ports":[10001,0],"portDefinitions":[{"port":10001,"protocol":"tcp","name":"http","labels":{}},{"port":0,"protocol":"udp"}]}"#,
            host,
            Mode::Host,
            vec!["http tcp 10001", "port-1 udp 0"],
            vec![31001, 31002],
        ),
        (
            "a task that tells no ports",
            r#"{"portDefinitions":[{"port":8080}],"requirePorts":true}"#,
            none,
            Mode::Host,
            vec!["port-0 tcp 8080"],
            vec![8080],
        ),
        (
            "1.4, Docker with a bridge",
            r#"{"container":{"type":"DOCKER","docker":{"image":"x","network":"BRIDGE","portMappings":[{"containerPort":80,"hostPort":0,"servicePort":10001,"protocol":"tcp","name":"http"},{"containerPort":53,"hostPort":0,"servicePort":10002,"protocol":"udp,tcp"}]}},"ports":[10001,10002],"portDefinitions":[{"port":10001},{"port":10002}],"ipAddress":null}"#,
            host,
            Mode::Bridge,
            vec!["http tcp 10001", "port-1 tcp+udp 10002"],
            vec![31001, 31002],
        ),
        (
            "1.4, Docker on the host",
            r#"{"container":{"docker":{"network":"HOST","portMappings":[]}},"ports":[10001]}"#,
            r#"{"ports":[31001]}"#,
            Mode::Host,
            vec!["port-0 tcp 10001"],
            vec![31001],
        ),
        (
            "1.4, Docker on a network of its own",
            r#"{"ipAddress":{"groups":[],"networkName":"net"},"container":{"docker":{"network":"USER","portMappings":[{"containerPort":80,"servicePort":10001},{"containerPort":0,"hostPort":0,"servicePort":10002}]}}}"#,
            r#"{"ports":[31001]}"#,
            Mode::Container,
            vec!["port-0 tcp 10001", "port-1 tcp 10002"],
            vec![80, 31001],
        ),
        (
            "0.14, an address for each task",
            r#"{"ports":[],"ipAddress":{"discovery":{"ports":[{"number":8080,"name":"http","protocol":"tcp"},{"number":"53","name":"dns","protocol":"udp"}]}}}"#,
            none,
            Mode::Container,
            vec!["http tcp 0", "dns udp 0"],
            vec![8080, 53],
        ),
        (
            "1.5, the host",
            r#"{"networks":[{"mode":"host"}],"portDefinitions":[{"port":10001,"name":"http"}],"container":{"type":"MESOS","docker":{"image":"x"},"volumes":[]}}"#,
            r#"{"ports":[31001]}"#,
            Mode::Host,
            vec!["http tcp 10001"],
            vec![31001],
        ),
        (
            "1.5, a bridge",
            r#"{"networks":[{"mode":"container/bridge"}],"container":{"portMappings":[{"containerPort":80,"hostPort":0,"servicePort":10001,"name":"http","protocol":"tcp"}]}}"#,
            r#"{"ports":[31001]}"#,
            Mode::Bridge,
            vec!["http tcp 10001"],
            vec![31001],
        ),
        (
            "1.5, a container network",
            r#"{"networks":[{"name":"net","mode":"container"}],"container":{"portMappings":[{"containerPort":80,"hostPort":null,"servicePort":10001,"name":"http"},{"containerPort":0,"hostPort":0,"servicePort":10002}]}}"#,
            r#"{"ports":[31001]}"#,
            Mode::Container,
            vec!["http tcp 10001", "port-1 tcp 10002"],
            vec![80, 31001],
        ),
        (
            "a mode that is not told is a container's",
            r#"{"networks":[{"name":"net"}]}"#,
            none,
            Mode::Container,
            vec![],
            vec![],
        ),
        (
            "more ports than are defined",
            r#"{"portDefinitions":[{"port":1}]}"#,
            host,
            Mode::Host,
            vec!["port-0 tcp 1"],
            vec![31001, 31002],
        ),
        (
            "no ports",
            r#"{"ports":[],"portDefinitions":[],"container":{}}"#,
            none,
            Mode::Host,
            vec![],
            vec![],
        ),
        (
            "null wherever Marathon may say so",
            r#"{"ports":null,"portDefinitions":null,"networks":null,"container":{"docker":null,"portMappings":null},"ipAddress":null}"#,
            r#"{"ports":null}"#,
            Mode::Host,
            vec![],
            vec![],
        ),
    ] {
        let ports: Vec<String> = ports.into_iter().map(str::to_owned).collect();
        assert_eq!(told(app, task), Ok((mode, ports, numbers)), "{case}");
    }
}

#[test]
fn a_network_or_port_that_is_none_refuses_the_app() {
    for (app, task, want) in [
        (r#"{"networks":[{"mode":"magic"}]}"#, "{}", "its network mode \"magic\" is none of"),
        (
            r#"{"container":{"docker":{"network":"WEAVE"}}}"#,
            "{}",
            "its Docker network \"WEAVE\" is none",
        ),
        (r#"{"ports":[70000]}"#, "{}", "port 70000 is not between 1 and 65535"),
        (r#"{"ports":[1]}"#, r#"{"ports":[-1]}"#, "port -1 is not between 1 and 65535"),
    ] {
        let error = told(app, task).unwrap_err();
        assert!(error.contains(want), "{app}: {error}");
    }
}

#[test]
fn odd_names_and_protocols_of_ports_cost_themselves() {
    let app = r#"{"portDefinitions":[{"name":"a b"},{"name":"x"},{"name":"x","protocol":"sctp"},{"name":""}]}"#;
    let app: RawApp<'_> = decode::read(app.as_bytes()).unwrap();
    let layout = Layout::of(&app).unwrap();
    let names: Vec<&str> = layout.ports.iter().map(|port| &*port.name).collect();
    assert_eq!(names, ["port-0", "x", "port-2", "port-3"]);
    assert_eq!(layout.problems.len(), 3, "{:#?}", layout.problems);
    assert!(
        layout.problems[1].contains("another port is called \"x\" too; it is called \"port-2\"")
    );
    assert!(layout.problems[2].contains("protocol \"sctp\" is neither"));
    let ports = layout.ports(&[4, 0, 2, 1]);
    let told: Vec<(&str, u16)> = ports.iter().map(|port| (&*port.name, port.number)).collect();
    assert_eq!(told, [("port-0", 4), ("port-2", 2), ("port-3", 1)], "by their indexes");
}

#[test]
fn who_names_no_port_means_that_of_index_0_whatever_the_ports_are_called() {
    let app = r#"{"portDefinitions":[{"name":"http"},{"name":"admin"},{}]}"#;
    let app: RawApp<'_> = decode::read(app.as_bytes()).unwrap();
    let layout = Layout::of(&app).unwrap();
    for (numbers, want) in [(&[1, 2, 3][..], Some(1)), (&[0, 2, 3], Some(2)), (&[], None)] {
        let ports = layout.ports(numbers);
        let address = crate::catalog::Address::parse("10.0.0.1").unwrap();
        let instance =
            crate::catalog::Instance { ports, ..crate::catalog::Instance::bare("m", "t", address) };
        assert_eq!(instance.port(""), want, "{numbers:?}");
    }
    let more: Vec<String> =
        layout.ports(&[1, 2, 3, 4]).iter().map(|port| port.name.to_string()).collect();
    assert_eq!(more, ["http", "admin", "port-2", "port-3"]);
}
