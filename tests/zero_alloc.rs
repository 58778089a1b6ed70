//! The pure decisions of the hot path allocate nothing once they are warm.
#![allow(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only passes on")]
#![allow(clippy::unwrap_used, reason = "a broken set-up fails the test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use portolan::catalog::assemble::{Inputs, Source, assemble};
use portolan::catalog::model::{Address, Port};
use portolan::catalog::observed::Failure;
use portolan::catalog::publish::Current;
use portolan::catalog::{
    Health, Instance, RegistryState, RegistryView, SourceService, Verdicts, Weight,
};
use portolan::dns::{Action, DnsServer, Metrics, Transport, ZoneTable, respond};
use portolan::lifecycle::Lifecycle;
use portolan::proxy::ProxyTable;
use portolan::proxy::balance::{POLICIES, PickKey};
use portolan::proxy::log::{Clock, Record, RequestLine, format};
use portolan::proxy::route::{RequestView, ServiceRef, Target, normalise};
use portolan::proxy::route_metrics::Outcome;
use portolan::proxy::sticky::cookie::{Brought, Keys};
use portolan::proxy::sticky::source::Binding;
use portolan::proxy::sticky::{self, Identity};
use portolan::proxy::table::Listener;
use portolan::proxy::upstream::tally::Step;
use portolan::random;

/// Counts what each thread allocates, so that tests beside each other don't disturb the count.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system's allocator with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates in a hundred runs, after a first one.
fn allocations(mut work: impl FnMut()) -> u64 {
    work();
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        work();
    }
    ALLOCATIONS.get() - before
}

const CONFIG: &str = "[dns]\nlisten = []\n[dns.zone.svc]\nrecords = { alias = [\"CNAME web.svc\"] }\n\
    [dns.zone.consul]\ndialect = \"consul\"\n[dns.zone.\"discover.internal\"]\ndialect = \"rancher\"\n\
    [dns.zone.mesos]\ndialect = \"mesos\"\n[dns.zone.sky]\ndialect = \"skydns\"\n\
    [dns.view.v]\nnetworks = [\"192.0.2.0/24\"]\nrecords = { \"seen.svc\" = [\"A 10.0.0.7\"] }\n\
    [locality.east]\nnetworks = [\"192.0.2.0/25\"]\n\
    [dns.forward]\nupstreams = [\"10.9.9.9\"]\n\
    [listener.web.http]\nbind = [\"127.0.0.1:0\"]\naccess_log = { to = \"stdout\" }\n\
    [route.shop]\nlistener = \"web\"\nhost = \"shop.example\"\npath = \"/api\"\nservice = \"web\"\n\
    [route.below]\nlistener = \"web\"\nhost = \"*.example\"\nservice = \"web\"\n\
    [route.any]\nlistener = \"web\"\npath = \"/big\"\nservice = \"big\"\n\
    sticky = { cookie = \"portolan\" }\n\
    [route.most]\nlistener = \"web\"\nhost = \"most.example\"\npath_regex = \"/[a-z]+/v[0-9]\"\n\
    methods = [\"GET\"]\nheaders = { x-a = \"1\" }\nquery = { q = \"a b\" }\nclients = [\"192.0.2.0/24\"]\n\
    deny = [\"192.0.2.9/32\"]\nsplit = { web = 9, big = 1 }\n\
    [service.big]\npolicy = \"round-robin\"\n[service.web]\noutlier = {}\n";

fn service(name: &str, instances: u16) -> SourceService {
    let instance = |n: u16| Instance {
        ports: Arc::new([Port { name: "".into(), number: 8080 }]),
        tags: Arc::new(["prod".into()]),
        weight: Weight::try_from(i64::from(1 + n % 3)).unwrap(),
        locality: n.is_multiple_of(2).then(|| "east".into()),
        health: Health::Healthy,
        ..Instance::bare(
            "mem",
            &format!("{name}-{n}"),
            Address::Ip(Ipv4Addr::new(10, 0, (n >> 8) as u8, n as u8).into()),
        )
    };
    SourceService {
        name: name.into(),
        tags: Arc::new(["prod".into()]),
        meta: Arc::new([("team".into(), "shop".into())].into()),
        instances: (1..=instances).map(|n| Arc::new(instance(n))).collect(),
        problems: Vec::new(),
        suspect: None,
    }
}

fn tables() -> (ZoneTable, ProxyTable) {
    tables_of(CONFIG)
}

fn tables_of(config: &str) -> (ZoneTable, ProxyTable) {
    let loaded = portolan::config::parse("test.toml", config, Path::new(""), &|_| None).unwrap();
    let services = vec![service("web", 3), service("big", 400)];
    let view = RegistryView::default().replaced(services, Vec::new());
    let source = Source::new("mem", 0, RegistryState::Live(view));
    let inputs =
        Inputs::new(vec![source], Arc::clone(&loaded.prepared.services), Verdicts::default());
    let snapshot = assemble(None, &inputs, 1).unwrap();
    let zones = ZoneTable::compile(&loaded.prepared.dns, None, &snapshot);
    (zones, ProxyTable::compile(&loaded.prepared.proxy, None, &snapshot))
}

/// A query with recursion desired; with EDNS it asks for the NSID too.
fn query(name: &str, qtype: u8, edns: bool) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, qtype, 0, 1]);
    if edns {
        query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 3, 0, 0]);
    }
    query
}

#[test]
fn the_count_sees_an_allocation() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 100);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn an_answer_allocates_nothing() {
    let (zones, _) = tables();
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let mut out = Vec::with_capacity(65_535);
    for (case, name, qtype, rcode, answers) in [
        ("A", "web.svc", 1, 0, 3),
        ("A in capitals", "WEB.SVC", 1, 0, 3),
        ("one instance", "web-1.web.svc", 1, 0, 1),
        ("SRV and additional", "web.svc", 33, 0, 3),
        ("TXT", "web.svc", 16, 0, 1),
        ("NODATA", "web.svc", 28, 0, 0),
        ("NXDOMAIN", "nobody.svc", 1, 3, 0),
        ("the apex", "svc", 6, 0, 1),
        ("ANY", "web.svc", 255, 0, 3),
        ("PTR", "1.0.0.10.in-addr.arpa", 12, 0, 8),
        ("an alias", "alias.svc", 1, 0, 4),
        ("of a view", "seen.svc", 1, 0, 1),
        ("rancher", "web.default.default.rancher.internal", 1, 0, 3),
        ("mesos: a star", "*.web.marathon.mesos", 1, 0, 3),
        ("skydns: any", "any.web.sky", 1, 0, 3),
        ("consul", "prod.web.service.dc1.consul", 1, 0, 3),
        ("consul: SRV", "_web._tcp.service.consul", 33, 0, 3),
        ("consul: an address", "0a000009.addr.consul", 1, 0, 1),
        ("consul: ENT", "service.consul", 1, 0, 0),
        ("not ours", "example.org", 1, 5, 0),
    ] {
        for (transport, edns) in
            [(Transport::Udp, false), (Transport::Udp, true), (Transport::Tcp, true)]
        {
            let query = query(name, qtype, edns);
            let allocated = allocations(|| {
                let action = respond(&zones, &query, transport, client, random::bits(), &mut out);
                assert_eq!(action, Action::Reply);
            });
            assert_eq!((out[3] & 0xf, out[7]), (rcode, answers), "{case}");
            assert_eq!(allocated, 0, "{case}, {transport:?}, EDNS {edns}");
        }
    }
    for (case, query, transport, wanted) in [
        ("cut", query("big.svc", 1, true), Transport::Udp, Action::Reply),
        ("400 addresses", query("big.svc", 1, true), Transport::Tcp, Action::Reply),
        ("broken", query("web.svc", 1, false)[..20].to_vec(), Transport::Udp, Action::Reply),
        ("no query", vec![0; 3], Transport::Udp, Action::Drop),
        ("for others", query("example.org", 1, true), Transport::Udp, Action::Forward),
        (
            "of a container's environment",
            query("web.default.discover.internal", 1, true),
            Transport::Udp,
            Action::Reply,
        ),
        ("searched", query("web", 1, true), Transport::Udp, Action::Reply),
    ] {
        let allocated = allocations(|| {
            let client = match case {
                "searched" | "of a container's environment" => Ipv4Addr::new(10, 0, 0, 1).into(),
                _ => Ipv4Addr::LOCALHOST.into(),
            };
            let action = respond(&zones, &query, transport, client, random::bits(), &mut out);
            assert_eq!(action, wanted);
        });
        assert_eq!(allocated, 0, "{case}");
    }
}

#[test]
fn a_turn_of_the_express_lane_allocates_nothing() {
    let (zones, _) = tables();
    let zones = Arc::new(zones);
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let current = Current::new(move || Arc::clone(&zones));
    let server = DnsServer::new(current, metrics, Lifecycle::new().phases());
    for (listen, from) in [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
        let bind = |ip: &str| UdpSocket::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
        let (socket, client) = (bind(listen), bind(from));
        let port = socket.local_addr().unwrap().port();
        client.connect((from.parse::<IpAddr>().unwrap(), port)).unwrap();
        let mut lane = server.lane(socket).unwrap();
        let mut queries: Vec<Vec<u8>> =
            ["web.svc", "nobody.svc", "big.svc"].iter().map(|name| query(name, 1, true)).collect();
        // With a cookie, and what is no query.
        let mut known = query("web.svc", 1, true);
        let length = known.len();
        known[length - 5] = 16;
        known.extend([0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
        queries.extend([known, vec![0; 3]]);
        let mut reply = [0; 4096];
        let allocated = allocations(|| {
            for query in &queries {
                client.send(query).unwrap();
            }
            let mut taken = 0;
            while taken < queries.len() {
                taken += lane.turn().unwrap();
            }
            for _ in 1..queries.len() {
                assert!(client.recv(&mut reply).unwrap() > 12);
            }
        });
        assert_eq!(allocated, 0, "{listen}");
    }
}

#[test]
fn a_pick_allocates_nothing() {
    let (_, proxy) = tables();
    for name in ["web", "big"] {
        let upstream = proxy.upstream(&ServiceRef::parse(name)).unwrap();
        let mut now_micros = 1;
        let allocated = allocations(|| {
            now_micros += 1000;
            let key = PickKey::new(random::bits(), now_micros);
            let endpoint = upstream.pick(key).unwrap();
            let work = endpoint.begin();
            assert_eq!(endpoint.observed().is_some(), name == "web");
            endpoint.answered(200, 1500, now_micros);
            endpoint.answered(503, 1500, now_micros);
            endpoint.tally().connected(true);
            endpoint.tally().passed([10, 20]);
            endpoint.tally().took(Step::Total, 900);
            endpoint.tally().failed(true);
            endpoint.failed(Failure::Connect);
            endpoint.succeeded();
            drop(work);
            let other = upstream.pick_another(key, &[endpoint.address]).unwrap();
            assert_ne!(other.address, endpoint.address);
        });
        assert_eq!(allocated, 0, "{name}");
    }
}

#[test]
fn a_place_near_by_hash_and_under_a_limit_allocates_nothing_with_any_policy() {
    for (policy, _) in POLICIES {
        let hash_on = match *policy {
            "maglev" => "hash_on = \"header:X-User\"\n",
            "ring-hash" => "hash_on = \"cookie:id\"\n",
            _ => "",
        };
        let config = format!(
            "[node]\nlocality = \"east\"\n[listener.l.tcp]\nbind = [\"127.0.0.1:0\"]\n\
             service = \"big\"\n[service.big]\npolicy = \"{policy}\"\nnear = \"70%\"\n\
             slow_start = \"1h\"\nmax_connections = 2\n{hash_on}"
        );
        let (_, proxy) = tables_of(&config);
        let upstream = proxy.upstream(&ServiceRef::parse("big")).unwrap();
        let request = http::Request::get("/").header("x-user", "7").header("cookie", "a=b; id=7");
        let request = request.body(()).unwrap().into_parts().0;
        // One client over and over, so that the limit is met.
        let held: Vec<_> = (0..3)
            .map(|now| {
                let key = upstream.key(Ipv4Addr::LOCALHOST.into(), Some(&request), now);
                upstream.take(key, &[]).unwrap().1
            })
            .collect();
        let allocated = allocations(|| {
            let key = upstream.key(Ipv4Addr::LOCALHOST.into(), Some(&request), 7);
            let (endpoint, work) = upstream.take(key, &[]).unwrap();
            assert!(endpoint.in_flight() <= 2);
            drop(work);
        });
        assert_eq!(allocated, 0, "{policy}");
        drop(held);
    }
}

#[test]
fn a_route_allocates_nothing() {
    let (_, proxy) = tables();
    let listener = Arc::clone(proxy.listener("web").unwrap());
    let Listener::Http { routes, .. } = &*listener else { unreachable!("it is an HTTP listener") };
    let mut headers = http::HeaderMap::new();
    headers.insert("x-a", http::HeaderValue::from_static("1"));
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    for (host, path, query, wanted) in [
        ("shop.example", "/api", "", Some("shop")),
        ("SHOP.example:8080", "/api/users/17", "", Some("shop")),
        ("shop.example.", "/apis", "", Some("below")),
        ("a.b.example", "/x/y/z", "", Some("below")),
        ("[::1]:80", "/big/x", "", Some("any")),
        ("most.example", "/some/v1", "p&q=a+b", Some("most")),
        ("most.example", "/some/v1", "p&q=a+c", Some("below")),
        ("", "/none", "", None),
    ] {
        let allocated = allocations(|| {
            let path = normalise(path).unwrap();
            let view =
                RequestView { host, path: &path, query, method: "GET", headers: &headers, client };
            let route = routes.route(&view);
            assert_eq!(route.map(|route| &*route.name), wanted);
            if let Some(route) = route {
                assert!(route.access.admits(client));
                if let Target::Split(split) = &route.target {
                    let some = |service: &ServiceRef| proxy.upstream(service).is_some();
                    assert!(split.choose(random::bits(), some).is_some());
                }
            }
        });
        assert_eq!(allocated, 0, "{host} {path}");
    }
}

#[test]
fn a_line_of_the_access_log_and_the_counters_of_a_route_allocate_nothing() {
    let (_, proxy) = tables();
    let rule = proxy.listener("web").unwrap().log().unwrap();
    let metrics = portolan::proxy::metrics::Metrics::register(&prometheus::Registry::new());
    let metrics = metrics.unwrap().listener("web");
    let record = Record {
        listener: "web",
        route: Some("shop"),
        client: Ipv4Addr::LOCALHOST.into(),
        request: RequestLine::Read { method: b"GET", target: b"/a/\"b?c=d", protocol: b"HTTP/1.1" },
        host: Some(b"shop.example"),
        status: 200,
        bytes_in: 0,
        bytes_out: 1234,
        duration: 98_765,
        connect: Some(1),
        first_byte: Some(2),
        added: Some(3),
        service: Some("web"),
        instance: Some("web-1"),
        endpoint: Some(([10, 0, 0, 1], 80).into()),
        attempts: 1,
        generation: 7,
        trace_id: None,
        request_id: None,
        user_agent: Some(b"a \xff\n"),
        referer: Some("ü".as_bytes()),
        forwarded_for: None,
        tls_version: Some("TLSv1.3"),
        tls_cipher: Some("TLS_AES_256_GCM_SHA384"),
        sni: Some("shop.example"),
        refused: None,
        error: None,
    };
    let mut clock = Clock::default();
    let now = std::time::SystemTime::now();
    let mut out = Vec::with_capacity(4096);
    let allocated = allocations(|| {
        out.clear();
        clock.set(now);
        rule.line(&record, &clock, &mut out);
        format::combined(&record, &clock, &mut out);
        metrics.request(200);
        metrics.route(None).count(&Outcome {
            status: 200,
            fault: None,
            duration: 98_765,
            response: Some(2),
            added: Some(3),
            bytes: [1, 2],
        });
    });
    assert_eq!(allocated, 0);
}

#[test]
fn to_know_a_client_again_allocates_nothing() {
    let (_, proxy) = tables();
    let wanted = ServiceRef::parse("big");
    let index = proxy.index(&wanted).unwrap();
    assert!(proxy.index(&ServiceRef::parse("web")).is_none(), "nothing sticky leads there");
    let endpoint = &proxy.upstream(&wanted).unwrap().endpoints[7];
    let identity = Identity::of(&wanted, endpoint);
    let keys = Keys::new(&[1; 32], None);
    let good = format!("theme=dark; portolan={}", keys.seal("portolan", identity, 1000));
    let forged = format!("portolan={}", "A".repeat(48));
    let lines = [good.as_bytes(), forged.as_bytes()];
    let allocated = allocations(|| {
        let Brought::Good(opened) = keys.read("portolan", lines.into_iter(), 1000) else {
            unreachable!("it is good")
        };
        assert_eq!(index.endpoint(opened.identity.endpoint).unwrap().address, endpoint.address);
        assert_eq!(keys.read("portolan", [lines[1]].into_iter(), 1000), Brought::Bad);
    });
    assert_eq!(allocated, 0, "by cookie");

    let metrics = sticky::Metrics::register(&prometheus::Registry::new()).unwrap();
    let sources = metrics.sources(1000, [1, 2]);
    let mut now = 1;
    let allocated = allocations(|| {
        now += 1;
        let client = Ipv4Addr::from(0x0a00_0000 + now as u32 % 7).into();
        let key = sources.key(client, index.upstream);
        let binding = Binding { key, endpoint: identity.endpoint, until: now + 50 };
        match sources.find(key, now) {
            Some(known) => sources.saw(Binding { until: now + 60, ..known }),
            None => sources.bind(binding, now),
        }
    });
    assert_eq!(allocated, 0, "by address");
}
