//! What the tests of this folder tell of.

use std::time::Duration;

use super::model::{Back, Check, Front, Process, Proxy, Rate, Server, Stats, Status, Target, Work};

pub(super) fn server(name: &str, id: u32, status: Status) -> Server {
    Server {
        name: name.into(),
        id,
        address: "10.0.0.1:8080".parse().unwrap(),
        status,
        weight: (10, 20),
        work: Work::default(),
        check: None,
        changed: Duration::from_secs(7),
        downs: 0,
        downtime: Duration::ZERO,
        target: Target {
            service: Some("app".into()),
            registry: "mem".into(),
            id: format!("id-{name}").into(),
        },
    }
}

/// A proxy of requests called `app` (2) with two servers, one of them in maintenance, and one that only
/// listens, called `web` (3).
pub(super) fn stats() -> Stats {
    let mut first = server("s1", 1, Status::Up);
    first.work = Work {
        now: 1,
        most: 2,
        limit: Some(9),
        total: 6,
        bytes: [10, 20],
        last: Some(Duration::from_secs(3)),
        ..Work::default()
    };
    first.check = Some(Check { status: "L7OK", took_ms: 2, text: "200, \"fine\"".into() });
    let second = server("s2", 2, Status::Maintenance);
    let front = Front {
        now: 2,
        most: 3,
        limit: 100,
        total: 4,
        rate: Rate { now: 1, most: 2 },
        classes: [1, 0, 5, 0, 0, 0],
        ..Front::default()
    };
    let back = Back { queue: [4, 5, 6], algorithm: "roundrobin", ..Back::default() };
    let app = Proxy {
        name: "app".into(),
        id: 2,
        http: true,
        front: Some(front.clone()),
        servers: vec![first, second],
        back: Some(back),
    };
    let web = Proxy {
        name: "web".into(),
        id: 3,
        http: false,
        front: Some(front),
        servers: Vec::new(),
        back: None,
    };
    let process = Process { node: "here".into(), pid: 42, workers: 2, ..Process::default() };
    Stats { process, proxies: vec![app, web] }
}
