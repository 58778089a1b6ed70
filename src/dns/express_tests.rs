//! The express lane with real datagrams on loopback.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::Mutex;

use tokio::runtime::Runtime;

use super::super::dialect::testing::{service, settings};
use super::super::hostile::{self, Want, ask};
use super::super::metrics::Metrics;
use super::super::tcp::framed;
use super::super::wire::rtype;
use super::super::zone::ZoneTable;
use super::*;
use crate::catalog::Snapshot;
use crate::catalog::publish::Current;
use crate::lifecycle::Lifecycle;

/// A query for this name panics, where the tests ask for it.
const TRAP: &[u8] = b"\x04trap\x03svc\0";

/// What a lane calls before it answers, in tests.
pub(super) fn trip(query: &[u8]) {
    assert!(query.get(12..12 + TRAP.len()) != Some(TRAP), "this test panics on purpose");
}

fn server(table: ZoneTable) -> (DnsServer, Lifecycle) {
    let table = Arc::new(table);
    let lifecycle = Lifecycle::new();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let current = Current::new(move || Arc::clone(&table));
    (DnsServer::new(current, metrics, lifecycle.phases()), lifecycle)
}

fn small(more: &str) -> ZoneTable {
    let web = service("web", &["a 10.0.0.1 80"]);
    let services = [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect();
    let snapshot = Snapshot { generation: 1, services, ..Snapshot::default() };
    let settings = settings(&format!("listen = []\n{more}\n[zone.svc]\n"));
    ZoneTable::compile(&settings, None, &snapshot)
}

fn udp(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

fn recv(socket: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 65_535];
    let length = socket.recv(&mut reply).unwrap();
    reply.truncate(length);
    reply
}

/// A lane that is turned on a thread of its own until the value is dropped.
struct Turning {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Turning {
    fn start(server: &DnsServer, socket: UdpSocket) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (server, stopped) = (server.clone(), Arc::clone(&stop));
        let thread = thread::spawn(move || server.lane(socket).unwrap().serve(&stopped));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Turning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn every_row_of_the_hostile_list_gets_its_answer_on_the_wire_by_both_lanes() {
    let (server, lifecycle) = server(hostile::table());
    let socket = udp("127.0.0.1:0");
    let client = udp("127.0.0.1:0");
    client.connect(socket.local_addr().unwrap()).unwrap();
    let _turning = Turning::start(&server, socket);
    let runtime = Runtime::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = listener.local_addr().unwrap();
    let (close, closing) = watch::channel(false);
    let served = runtime.spawn({
        let server = server.clone();
        async move { server.serve_tcp(listener, closing).await }
    });
    let marker = |id: u8| {
        let mut query = ask("web.service.consul", rtype::A);
        query[..2].copy_from_slice(&[0xee, id]);
        query
    };
    for (number, (case, query, transport, want)) in hostile::rows().into_iter().enumerate() {
        if transport == Transport::Udp {
            client.send(&query).unwrap();
            // Each query has its answer before the next one: what was dropped shows by the marker.
            client.send(&marker(number as u8)).unwrap();
            if !matches!(want, Want::Drop) {
                hostile::check(case, &query, &want, &recv(&client));
            }
            assert_eq!(recv(&client)[..2], [0xee, number as u8], "{case}");
        }
        // By TCP everything fits, and nothing is sent for an empty message.
        if matches!(want, Want::Cut(..)) || query.is_empty() {
            continue;
        }
        let mut stream = TcpStream::connect(tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&framed(&query)).unwrap();
        let mut length = [0; 2];
        if matches!(want, Want::Drop) {
            assert_eq!(stream.read(&mut length).unwrap(), 0, "{case} by TCP");
            continue;
        }
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        hostile::check(&format!("{case}, by TCP"), &query, &want, &reply);
    }
    let metrics = &server.inner().metrics;
    assert_eq!(metrics.dropped_short.get() + metrics.dropped_response.get(), 5);
    drop(close);
    lifecycle.advance(crate::lifecycle::Phase::Stopped);
    runtime.block_on(served).unwrap().unwrap();
}

#[test]
fn a_panic_costs_one_query_and_the_socket_is_served_on() {
    let (server, _lifecycle) = server(small(""));
    let socket = udp("127.0.0.1:0");
    let client = udp("127.0.0.1:0");
    client.connect(socket.local_addr().unwrap()).unwrap();
    let _turning = Turning::start(&server, socket);
    for _ in 0..3 {
        client.send(&ask("trap.svc", rtype::A)).unwrap();
        client.send(&ask("web.svc", rtype::A)).unwrap();
        assert!(recv(&client).ends_with(&[10, 0, 0, 1]));
    }
    assert_eq!(server.inner().metrics.dropped_panic.get(), 3);
}

#[test]
fn what_the_full_lane_has_no_room_for_is_servfail_at_once_and_counted() {
    let table = small("express_queue = 2\n[forward]\nupstreams = [\"127.0.0.1:9\"]");
    let (server, _lifecycle) = server(table);
    let socket = udp("127.0.0.1:0");
    let client = udp("127.0.0.1:0");
    client.connect(socket.local_addr().unwrap()).unwrap();
    // Nobody takes what is handed over.
    let _turning = Turning::start(&server, socket);
    for id in 0..4 {
        let mut query = ask("example.org", rtype::A);
        query[1] = id;
        client.send(&query).unwrap();
    }
    for id in [2, 3] {
        let reply = recv(&client);
        assert_eq!((reply[1], reply[3] & 15), (id, 2));
    }
    client.send(&ask("web.svc", rtype::A)).unwrap();
    assert!(recv(&client).ends_with(&[10, 0, 0, 1]), "names of ours are answered all the same");
    let metrics = &server.inner().metrics;
    assert_eq!((metrics.handed_over.get(), metrics.hand_over_refused.get()), (2, 2));
}

#[test]
fn an_upstreams_answer_leaves_by_the_address_that_was_asked() {
    let (upstream, _lifecycle) = server(small(""));
    let (there, here) = (udp("127.0.0.1:0"), udp("0.0.0.0:0"));
    let addr = there.local_addr().unwrap();
    let port = here.local_addr().unwrap().port();
    let _upstream = Turning::start(&upstream, there);
    let text = format!("listen = []\n[forward]\nupstreams = [\"{addr}\"]");
    let table = ZoneTable::compile(&settings(&text), None, &Snapshot::default());
    let (front, lifecycle) = server(table);
    let _turning = Turning::start(&front, here);
    let runtime = Runtime::new().unwrap();
    let served = runtime.spawn({
        let front = front.clone();
        async move { front.serve_handed().await }
    });
    for asked in ["127.0.0.1", "127.0.0.77"] {
        let client = udp("127.0.0.1:0");
        client.connect((asked.parse::<IpAddr>().unwrap(), port)).unwrap();
        client.send(&ask("web.svc", rtype::A)).unwrap();
        assert!(recv(&client).ends_with(&[10, 0, 0, 1]), "{asked}");
    }
    lifecycle.advance(crate::lifecycle::Phase::Stopped);
    runtime.block_on(served).unwrap();
}

#[test]
fn a_group_of_sockets_answers_every_client_and_all_of_it_closes_together() {
    let (server, lifecycle) = server(small(""));
    let first = crate::net::listen::udp(
        "127.0.0.1:0".parse().unwrap(),
        "test",
        &mut crate::net::adopt::Adopted::none(),
    )
    .unwrap();
    let address = first.local_addr().unwrap();
    let group = crate::net::listen::group(first, 3, &mut crate::net::adopt::Adopted::none());
    assert_eq!(group.len(), 3);
    let runtime = Runtime::new().unwrap();
    let served = runtime.spawn({
        let server = server.clone();
        let (_, never) = watch::channel(false);
        async move { server.serve_udp(group, 4, never).await }
    });
    for _ in 0..50 {
        let client = udp("127.0.0.1:0");
        client.send_to(&ask("web.svc", rtype::A), address).unwrap();
        assert!(recv(&client).ends_with(&[10, 0, 0, 1]));
    }
    lifecycle.advance(crate::lifecycle::Phase::Stopped);
    runtime.block_on(served).unwrap().unwrap();
    // Nobody holds the port any more.
    UdpSocket::bind(address).unwrap();
}

#[test]
fn port_zero_and_our_own_address_are_never_answered() {
    let route = {
        let (socket, client) = (udp("0.0.0.0:0"), udp("127.0.0.1:0"));
        mmsg::prepare(&socket, false, true).unwrap();
        let port = socket.local_addr().unwrap().port();
        client.send_to(b"x", ("127.0.0.9", port)).unwrap();
        let mut batch = Datagrams::new(512);
        batch.receive(&socket).unwrap();
        batch.route(0)
    };
    let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
    for (case, peer, local, want) in [
        ("a client", "10.0.0.1:4000", "0.0.0.0:53", true),
        ("port 0", "10.0.0.1:0", "0.0.0.0:53", false),
        ("our address", "10.0.0.2:53", "10.0.0.2:53", false),
        ("loopback to a wildcard", "127.0.0.1:53", "0.0.0.0:53", false),
        ("the address that was asked", "127.0.0.9:53", "0.0.0.0:53", false),
        ("another server", "10.0.0.9:53", "0.0.0.0:53", true),
    ] {
        assert_eq!(is_answerable(addr(peer), addr(local), &route), want, "{case}");
    }
}

#[test]
fn the_core_of_a_thread_is_one_that_the_process_may_use() {
    let cores = cores();
    assert_eq!(cores.len(), cores.iter().collect::<HashSet<_>>().len());
    assert!(!cores.is_empty());
    let pinned = Arc::new(Mutex::new(None));
    let told = Arc::clone(&pinned);
    let last = cores.last().copied();
    thread::spawn(move || {
        pin(last);
        *told.lock().unwrap() = Some(super::cores());
    })
    .join()
    .unwrap();
    assert_eq!(pinned.lock().unwrap().clone().unwrap(), vec![last.unwrap()]);
}
