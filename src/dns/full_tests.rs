//! The server with real sockets on loopback.

use std::net::{TcpListener as StdListener, UdpSocket as StdSocket};
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::super::dialect::testing::{service, settings};
use super::super::hostile::ask;
use super::super::tcp::framed;
use super::super::wire::rtype;
use super::*;
use crate::catalog::Snapshot;
use crate::lifecycle::Lifecycle;

struct Running {
    server: DnsServer,
    lifecycle: Lifecycle,
    close: watch::Sender<bool>,
    udp: SocketAddr,
    tcp: SocketAddr,
    ends: [tokio::task::JoinHandle<io::Result<()>>; 2],
    table: Arc<Mutex<Arc<ZoneTable>>>,
}

fn table(more: &str, address: &str) -> Arc<ZoneTable> {
    let web = service("web", &[&format!("a {address} 80")]);
    let services = [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect();
    let snapshot = Snapshot { generation: 1, services, ..Snapshot::default() };
    Arc::new(ZoneTable::compile(
        &settings(&format!("listen = []\n{more}\n[zone.svc]")),
        None,
        &snapshot,
    ))
}

fn start(more: &str) -> Running {
    let published = Arc::new(Mutex::new(table(more, "10.0.0.1")));
    let read = Arc::clone(&published);
    let lifecycle = Lifecycle::new();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    let current = Current::new(move || Arc::clone(&read.lock().unwrap()));
    let server = DnsServer::new(current, metrics, lifecycle.phases());
    let socket = StdSocket::bind("127.0.0.1:0").unwrap();
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let (udp, tcp) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
    let (close, closing) = watch::channel(false);
    let (a, b, closing2) = (server.clone(), server.clone(), closing.clone());
    let ends = [
        tokio::spawn(async move { a.serve_udp(vec![socket], 1, closing).await }),
        tokio::spawn(async move { b.serve_tcp(listener, closing2).await }),
    ];
    let c = server.clone();
    tokio::spawn(async move { c.serve_handed().await });
    Running { server, lifecycle, close, udp, tcp, ends, table: published }
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(query, server).await.unwrap();
    let mut reply = vec![0; 1500];
    let length = socket.recv(&mut reply).await.unwrap();
    reply.truncate(length);
    reply
}

async fn read_reply(stream: &mut TcpStream) -> Vec<u8> {
    let length = stream.read_u16().await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn it_answers_from_the_table_of_the_moment_while_draining_and_ends_when_stopped() {
    let running = start("");
    let web = ask("web.svc", rtype::A);
    assert!(by_udp(running.udp, &web).await.ends_with(&[10, 0, 0, 1]));
    *running.table.lock().unwrap() = table("", "10.0.0.2");
    assert!(by_udp(running.udp, &web).await.ends_with(&[10, 0, 0, 2]));
    running.lifecycle.advance(Phase::Draining);
    assert!(by_udp(running.udp, &web).await.ends_with(&[10, 0, 0, 2]));
    running.lifecycle.advance(Phase::Stopped);
    for end in running.ends {
        end.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_socket_can_be_closed_alone_and_open_connections_are_served_to_their_end() {
    let running = start("");
    let mut stream = TcpStream::connect(running.tcp).await.unwrap();
    let query = framed(&ask("web.svc", rtype::A));
    stream.write_all(&query).await.unwrap();
    read_reply(&mut stream).await;
    running.close.send(true).unwrap();
    let [udp, tcp] = running.ends;
    udp.await.unwrap().unwrap();
    stream.write_all(&query).await.unwrap();
    assert!(read_reply(&mut stream).await.ends_with(&[10, 0, 0, 1]));
    drop(stream);
    tcp.await.unwrap().unwrap();
}

#[tokio::test]
async fn ten_queries_in_a_row_by_tcp_get_ten_replies_however_they_are_cut() {
    let running = start("");
    let mut stream = TcpStream::connect(running.tcp).await.unwrap();
    let mut bytes = Vec::new();
    for id in 0..10 {
        let mut query = ask("web.svc", rtype::A);
        query[1] = id;
        bytes.extend(framed(&query));
    }
    for part in bytes.chunks(7) {
        stream.write_all(part).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    for id in 0..10 {
        assert_eq!(read_reply(&mut stream).await[1], id);
    }
    assert_eq!(running.server.0.metrics.tcp_connections.get(), 1);
}

#[tokio::test]
async fn connections_that_say_nothing_useful_are_closed() {
    let running = start("tcp_idle = \"200ms\"");
    for (case, bytes) in [
        ("a length of zero", &[0, 0][..]),
        ("a response", &[0, 12, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("ten bytes of many, then nothing", &[255, 255, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("half a length", &[0]),
        ("nothing", &[]),
    ] {
        let mut stream = TcpStream::connect(running.tcp).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty(), "{case}: {rest:?}");
    }
    assert_eq!(running.server.0.metrics.tcp_timeouts.get(), 1);
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_when_no_other_is_idle() {
    let running = start("tcp_max_connections = 1");
    let query = framed(&ask("web.svc", rtype::A));
    let mut first = TcpStream::connect(running.tcp).await.unwrap();
    first.write_all(&query).await.unwrap();
    read_reply(&mut first).await;
    // Half a query: this one is not idle.
    first.write_all(&query[..5]).await.unwrap();
    let metrics = &running.server.0.metrics;
    while running.server.0.places.idle() > 0 {
        tokio::task::yield_now().await;
    }
    let mut second = TcpStream::connect(running.tcp).await.unwrap();
    let mut rest = Vec::new();
    let _ = second.read_to_end(&mut rest).await;
    assert_eq!((metrics.tcp_refused.get(), metrics.tcp_evicted.get()), (1, 0));
    first.write_all(&query[5..]).await.unwrap();
    read_reply(&mut first).await;
}

#[tokio::test]
async fn the_connection_that_was_idle_for_longest_makes_room_for_a_new_one() {
    let running = start("tcp_max_connections = 3");
    let query = framed(&ask("web.svc", rtype::A));
    let mut open = Vec::new();
    for _ in 0..6 {
        let mut stream = TcpStream::connect(running.tcp).await.unwrap();
        stream.write_all(&query).await.unwrap();
        read_reply(&mut stream).await;
        open.push(stream);
        // Its reply may be here before it waits again.
        while running.server.0.places.idle() < open.len().min(3) {
            tokio::task::yield_now().await;
        }
    }
    let metrics = &running.server.0.metrics;
    assert_eq!((metrics.tcp_refused.get(), metrics.tcp_evicted.get()), (0, 3));
    for (number, stream) in open.iter_mut().enumerate() {
        if number < 3 {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "{number} was not closed");
        } else {
            stream.write_all(&query).await.unwrap();
            read_reply(stream).await;
        }
    }
}

#[tokio::test]
async fn one_client_does_not_take_the_places_of_all() {
    let running = start("tcp_max_per_client = 2");
    let query = framed(&ask("web.svc", rtype::A));
    let connect = async |from: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(from.parse().unwrap()).unwrap();
        let mut stream = socket.connect(running.tcp).await.unwrap();
        let _ = stream.write_all(&query).await;
        let answered = stream.read_u16().await.is_ok();
        (stream, answered)
    };
    let (_first, one) = connect("127.0.0.2:0").await;
    let (_second, two) = connect("127.0.0.2:0").await;
    let (_third, three) = connect("127.0.0.2:0").await;
    let (_other, other) = connect("127.0.0.3:0").await;
    assert_eq!([one, two, three, other], [true, true, false, true]);
    assert_eq!(running.server.0.metrics.tcp_refused.get(), 1);
}

#[tokio::test]
async fn questions_that_wait_for_an_upstream_do_not_hold_up_those_behind_them() {
    // An upstream that never answers.
    let silent = StdListener::bind("127.0.0.1:0").unwrap();
    let running = start("tcp_pipeline = 3");
    *running.table.lock().unwrap() = {
        let web = service("web", &["a 10.0.0.1 80"]);
        let services = [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect();
        let snapshot = Snapshot { generation: 1, services, ..Snapshot::default() };
        let text = format!(
            "listen = []\ntcp_pipeline = 3\n[zone.svc]\n\
             [forward]\nupstreams = [\"{}\"]\ntimeout = \"60s\"",
            silent.local_addr().unwrap()
        );
        Arc::new(ZoneTable::compile(&settings(&text), None, &snapshot))
    };
    let mut stream = TcpStream::connect(running.tcp).await.unwrap();
    let mut bytes = Vec::new();
    for id in 0..5 {
        let mut query = ask("example.org", rtype::A);
        query[1] = id;
        bytes.extend(framed(&query));
    }
    bytes.extend(framed(&ask("web.svc", rtype::A)));
    stream.write_all(&bytes).await.unwrap();
    for id in [3, 4] {
        let refused = read_reply(&mut stream).await;
        assert_eq!((refused[1], refused[3] & 15), (id, 2), "beyond the limit it is SERVFAIL");
    }
    assert!(read_reply(&mut stream).await.ends_with(&[10, 0, 0, 1]));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go_and_others_are_served_meanwhile() {
    let running = start("tcp_idle = \"300ms\"");
    let mut slow = TcpStream::connect(running.tcp).await.unwrap();
    let query = framed(&ask("web.svc", rtype::A));
    let many = query.repeat(1000);
    let flood = async {
        // Fails when the other side has had enough.
        while slow.write_all(&many).await.is_ok() {}
    };
    let other = async {
        let mut stream = TcpStream::connect(running.tcp).await.unwrap();
        while running.server.0.metrics.tcp_timeouts.get() == 0 {
            stream.write_all(&query).await.unwrap();
            assert!(read_reply(&mut stream).await.ends_with(&[10, 0, 0, 1]));
        }
    };
    tokio::join!(flood, other);
}

#[tokio::test]
async fn names_outside_come_back_from_the_upstream_by_both_transports() {
    // The upstream is another server of ours, with a zone that the first one lacks.
    let upstream = start("");
    for (tcp, addr) in [(false, upstream.udp), (true, upstream.tcp)] {
        let front = start("");
        *front.table.lock().unwrap() = Arc::new(ZoneTable::compile(
            &settings(&format!("listen = []\n[forward]\nupstreams = [\"{addr}\"]")),
            None,
            &Snapshot::default(),
        ));
        let query = ask("wEb.svc", rtype::A);
        let reply = if tcp {
            let mut stream = TcpStream::connect(front.tcp).await.unwrap();
            stream.write_all(&framed(&query)).await.unwrap();
            read_reply(&mut stream).await
        } else {
            by_udp(front.udp, &query).await
        };
        assert_eq!(reply[..2], query[..2]);
        assert_eq!(reply[12..query.len()], query[12..]);
        assert!(reply.ends_with(&[10, 0, 0, 1]));
        assert_eq!(front.server.0.metrics.forwards_answered.get(), 1);
    }
}
