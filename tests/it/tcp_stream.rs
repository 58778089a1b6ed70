//! TCP listeners with much to carry: what streams goes from socket to socket in the kernel, and that
//! must change nothing about who learns what of whose end.

use std::net::SocketAddr;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::rig::{Client, Rig, service, within};
use crate::support::echo;
use crate::tcp::{rig, says_back};

const FROM_CLIENT: &str = "portolan_proxy_tcp_bytes_total{from=\"client\",listener=\"web\"}";
const FROM_ENDPOINT: &str = "portolan_proxy_tcp_bytes_total{from=\"endpoint\",listener=\"web\"}";
const SPLICED: &str = "portolan_proxy_tcp_spliced_bytes_total{from=\"client\",listener=\"web\"}";
const SPLICED_BACK: &str =
    "portolan_proxy_tcp_spliced_bytes_total{from=\"endpoint\",listener=\"web\"}";
const MISSED: &str = "portolan_proxy_tcp_pipes_missed_total";
const PIPES: &str = "portolan_proxy_tcp_pipes";

fn ended(end: &str) -> String {
    format!("portolan_proxy_tcp_ended_total{{end=\"{end}\",listener=\"web\"}}")
}

/// A client, and the endpoint's side of its connection, after a byte has passed.
async fn pair(rig: &Rig, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let mut client = rig.client().await.stream;
    client.write_all(b"x").await.unwrap();
    let (mut endpoint, _) = within("accept", listener.accept()).await.unwrap();
    assert_eq!(within("a byte", endpoint.read_u8()).await.unwrap(), b'x');
    (client, endpoint)
}

async fn listening() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Streams `size` bytes from one end to the other.
async fn streams(from: &mut TcpStream, to: &mut TcpStream, size: usize) {
    let piece = vec![7; 256 << 10];
    let send = async {
        for start in (0..size).step_by(piece.len()) {
            from.write_all(&piece[..piece.len().min(size - start)]).await.unwrap();
        }
    };
    let receive = async {
        let mut got = vec![0; 64 << 10];
        let mut left = size;
        while left > 0 {
            let most = got.len().min(left);
            left -= match to.read(&mut got[..most]).await.unwrap() {
                0 => panic!("{left} bytes are missing"),
                read => read,
            };
        }
    };
    within("a stream", async { tokio::join!(send, receive) }).await;
}

/// Writes into `from` until nothing more is taken for a while: every buffer on the way is full, and
/// whoever carries waits for `from`'s other side to read. Gives how much that was.
async fn fills(from: &TcpStream) -> usize {
    let piece = vec![7; 256 << 10];
    let mut written = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_millis(300), from.writable()).await {
        written += from.try_write(&piece).unwrap_or(0);
    }
    written
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut piece = vec![0; 64 << 10];
    within("an end", async {
        loop {
            match stream.read(&mut piece).await {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_kernel_moves_what_streams_and_small_messages_are_copied() {
    let (listener, address) = listening().await;
    let rig = rig("", &[address]).await;
    let (mut client, mut endpoint) = pair(&rig, &listener).await;
    for _ in 0..100 {
        client.write_all(&[1; 64]).await.unwrap();
        endpoint.read_exact(&mut [0; 64]).await.unwrap();
    }
    assert_eq!(rig.metric(SPLICED).await, Some(0.0));
    const SIZE: usize = 64 << 20;
    streams(&mut client, &mut endpoint, SIZE).await;
    let spliced = rig.metric(SPLICED).await.unwrap();
    assert!(spliced > SIZE as f64 / 2.0, "{spliced}");
    streams(&mut endpoint, &mut client, SIZE).await;
    let spliced = rig.metric(SPLICED_BACK).await.unwrap();
    assert!(spliced > SIZE as f64 / 2.0, "{spliced}");
    rig.metric_is(FROM_CLIENT, (SIZE + 1 + 6400) as f64).await;
    rig.metric_is(FROM_ENDPOINT, SIZE as f64).await;
    // After a few small ones they are copied again.
    for _ in 0..10 {
        client.write_all(&[1; 64]).await.unwrap();
        endpoint.read_exact(&mut [0; 64]).await.unwrap();
    }
    let before = rig.metric(SPLICED).await;
    for _ in 0..100 {
        client.write_all(&[1; 64]).await.unwrap();
        endpoint.read_exact(&mut [0; 64]).await.unwrap();
    }
    assert_eq!(rig.metric(SPLICED).await, before);
}

#[tokio::test]
async fn without_pipes_and_beyond_their_limit_everything_arrives_by_copy() {
    let (listener, address) = listening().await;
    let rig = rig("[limits]\npipes = 0\n", &[address]).await;
    let (mut client, mut endpoint) = pair(&rig, &listener).await;
    streams(&mut client, &mut endpoint, 8 << 20).await;
    assert_eq!((rig.metric(SPLICED).await, rig.metric(PIPES).await), (Some(0.0), Some(0.0)));
    drop((client, endpoint, rig));

    let rig = crate::tcp::rig("[limits]\npipes = 1\n", &[address]).await;
    let mut pairs = Vec::new();
    for _ in 0..3 {
        let (mut client, mut endpoint) = pair(&rig, &listener).await;
        streams(&mut client, &mut endpoint, 8 << 20).await;
        pairs.push((client, endpoint));
    }
    // Nobody reads: one pipe is full and waits, and there is no second one.
    let mut sent = Vec::new();
    for (client, _) in &pairs {
        sent.push(fills(client).await);
    }
    assert_eq!(rig.metric(PIPES).await, Some(1.0));
    assert!(rig.metric(MISSED).await.unwrap() > 0.0);
    for ((_, endpoint), sent) in pairs.iter_mut().zip(sent) {
        let mut got = vec![0; sent];
        within("all of it", endpoint.read_exact(&mut got)).await.unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
    }
    for (client, endpoint) in &mut pairs {
        streams(client, endpoint, 1 << 20).await;
    }
    assert_eq!(rig.metric(PIPES).await, Some(1.0), "it is there for the next one");
}

#[tokio::test]
async fn an_end_behind_a_stream_is_passed_on_after_its_last_byte() {
    let (listener, address) = listening().await;
    let rig = rig("", &[address]).await;
    for by_client in [true, false] {
        let (client, endpoint) = pair(&rig, &listener).await;
        let (mut from, mut to) = if by_client { (client, endpoint) } else { (endpoint, client) };
        streams(&mut from, &mut to, 4 << 20).await;
        // The end comes while a pipe is full and waits.
        let sent = fills(&from).await;
        from.shutdown().await.unwrap();
        let mut got = Vec::new();
        within("the end", to.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got.len(), sent, "by_client {by_client}");
        // The other direction goes on.
        streams(&mut to, &mut from, 4 << 20).await;
        drop(to);
        assert_eq!(within("the other end", from.read(&mut [0])).await.unwrap(), 0);
    }
    rig.metric_is(&ended("whole"), 2.0).await;
}

#[tokio::test]
async fn a_reset_is_passed_on_while_the_kernel_moves_bytes_whoever_breaks_and_whoever_reads() {
    let (listener, address) = listening().await;
    let rig = rig("", &[address]).await;
    // Who breaks, and whether what it has sent waits for a side that does not read, or it does not
    // read itself while the other side sends.
    for (by_client, case) in
        [(true, "sender"), (false, "sender"), (true, "reader"), (false, "reader")]
    {
        let (client, endpoint) = pair(&rig, &listener).await;
        let (mut breaks, mut learns) =
            if by_client { (client, endpoint) } else { (endpoint, client) };
        if case == "sender" {
            streams(&mut breaks, &mut learns, 4 << 20).await;
            fills(&breaks).await;
        } else {
            streams(&mut learns, &mut breaks, 4 << 20).await;
            fills(&learns).await;
        }
        breaks.set_zero_linger().unwrap();
        drop(breaks);
        if case == "sender" {
            assert!(is_reset(&mut learns).await, "by_client {by_client}, {case}");
        } else {
            let broken = within("the break", async {
                while learns.writable().await.is_ok() {
                    if let Err(error) = learns.try_write(&[0; 1 << 10])
                        && error.kind() != std::io::ErrorKind::WouldBlock
                    {
                        return error.kind();
                    }
                }
                std::io::ErrorKind::Other
            });
            let kind = broken.await;
            let want = [std::io::ErrorKind::ConnectionReset, std::io::ErrorKind::BrokenPipe];
            assert!(want.contains(&kind), "by_client {by_client}, {case}: {kind:?}");
        }
    }
    rig.metric_is(&ended("client"), 2.0).await;
    rig.metric_is(&ended("endpoint"), 2.0).await;
}

#[tokio::test]
async fn a_break_after_an_end_is_noticed_while_nobody_says_anything() {
    let (listener, address) = listening().await;
    let rig = rig("", &[address]).await;
    for by_client in [true, false] {
        let (client, endpoint) = pair(&rig, &listener).await;
        let (mut breaks, mut learns) =
            if by_client { (client, endpoint) } else { (endpoint, client) };
        breaks.shutdown().await.unwrap();
        assert_eq!(within("the end", learns.read(&mut [0])).await.unwrap(), 0);
        breaks.set_zero_linger().unwrap();
        drop(breaks);
        // It is told by a reset: whoever writes learns it at once.
        let broken = within("the break", learns.ready(tokio::io::Interest::ERROR)).await.unwrap();
        assert!(broken.is_error(), "by_client {by_client}");
    }
}

#[tokio::test]
async fn a_connection_is_not_older_than_its_lifetime_however_much_it_has_to_say() {
    let rig = rig("timeouts = { lifetime = \"1s\" }", &[echo().await]).await;
    let mut client = rig.client().await;
    let began = tokio::time::Instant::now();
    let busy = within("the lifetime", async {
        loop {
            if client.stream.write_all(b"x").await.is_err() {
                return;
            }
            match client.stream.read(&mut [0; 8]).await {
                Ok(1..) => {}
                Ok(0) => panic!("a clean end would look like a whole answer"),
                Err(_) => return,
            }
        }
    });
    busy.await;
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    rig.metric_is(&ended("lifetime"), 1.0).await;
    says_back(&mut rig.client().await, "a new one").await;
}

#[tokio::test]
async fn an_idle_connection_is_counted_as_one_that_was_closed_for_that() {
    let rig = rig("timeouts = { idle = \"200ms\" }", &[echo().await]).await;
    let mut client = rig.client().await;
    says_back(&mut client, "hello").await;
    assert!(client.is_reset().await);
    rig.metric_is(&ended("idle"), 1.0).await;
}

/// Short, 256 MB; with `PORTOLAN_FULL`, 10 GB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_64_connections_carry_arrives_while_instances_come_and_go() {
    const CONNECTIONS: u64 = 64;
    let whole = std::env::var_os("PORTOLAN_FULL").is_some();
    let each = if whole { (10 << 30) / CONNECTIONS } else { (256 << 20) / CONNECTIONS } as usize;
    let (one, two) = (echo().await, echo().await);
    let rig = rig("", &[one, two]).await;
    let address = rig.address("web").await;
    // Nobody ends before there were changes enough to tell.
    let (changed, enough) = watch::channel(0);
    let mut carrying = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let mut enough = enough.clone();
        carrying.spawn(async move {
            let (mut read, mut write) = Client::connect(address).await.stream.into_split();
            let writing = tokio::spawn(async move {
                let mut sum = Sha256::new();
                let mut state = connection + 1;
                let mut piece = vec![0; 64 << 10];
                for number in 1..=each / piece.len() {
                    if number == each / piece.len() {
                        within("changes", enough.wait_for(|changes| *changes > 10)).await.unwrap();
                    }
                    fill(&mut piece, &mut state);
                    sum.update(&piece);
                    write.write_all(&piece).await.unwrap();
                }
                write.shutdown().await.unwrap();
                sum.finalize()
            });
            let (mut got, mut sum, mut piece) = (0, Sha256::new(), vec![0; 64 << 10]);
            loop {
                let count = within("bytes", read.read(&mut piece)).await.unwrap();
                if count == 0 {
                    break;
                }
                got += count;
                sum.update(&piece[..count]);
            }
            assert_eq!(got, each, "bytes are missing");
            assert!(writing.await.unwrap() == sum.finalize(), "other bytes came back");
        });
    }
    let mut changes = 0;
    while !carrying.is_empty() {
        let instances = [vec![one], vec![two], vec![one, two]];
        rig.tell(vec![service("web", &instances[changes % 3])]).await;
        changes += 1;
        changed.send_replace(changes);
        while let Some(done) = carrying.try_join_next() {
            done.unwrap();
        }
    }
    let all = (each as u64 * CONNECTIONS) as f64;
    rig.metric_is(FROM_CLIENT, all).await;
    rig.metric_is(FROM_ENDPOINT, all).await;
    let spliced = rig.metric(SPLICED).await.unwrap();
    println!("{changes} changes, {:.0} % moved by the kernel", spliced * 100.0 / all);
}

/// Bytes that are not those of any other place (xorshift).
fn fill(piece: &mut [u8], state: &mut u64) {
    for word in piece.as_chunks_mut::<8>().0 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *word = state.to_le_bytes();
    }
}
