//! TLS handshakes one after the other, and connections over TLS that idle.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use crate::tls::{self, Tickets};

/// Time for one handshake, or one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Handshakes on `threads` at a time for `seconds`: full ones, or `resumed`. Each is over when the
/// server has sent a ticket, and so has seen the client's end of it. Nothing is asked for.
pub(super) fn handshakes(address: SocketAddr, threads: u32, seconds: u32, resumed: bool) {
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds.into());
    let all: Vec<_> = (0..threads)
        .map(|nth| std::thread::spawn(move || repeat(address, nth as u8, until, resumed)))
        .collect();
    let mut sums = (0, 0);
    for thread in all {
        let (operations, errors) = thread.join().unwrap_or((0, 1));
        sums = (sums.0 + operations, sums.1 + errors);
    }
    println!("{} {} {:.3}", sums.0, sums.1, started.elapsed().as_secs_f64());
}

fn repeat(address: SocketAddr, nth: u8, until: Instant, resumed: bool) -> (u64, u64) {
    let tickets = Tickets::new(resumed);
    let Ok(config) = tls::config(b"http/1.1", &tickets) else { return (0, 1) };
    let wanted = if resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
    let (mut operations, mut errors) = (0, 0);
    for number in 0_u32.. {
        if Instant::now() >= until {
            break;
        }
        let [.., high, low] = number.to_be_bytes();
        match handshake(address, Ipv4Addr::new(127, 128 + nth, high, low.max(1)), &config, &tickets)
        {
            Ok(kind) if kind == wanted => operations += 1,
            // The first one has nothing to resume.
            Ok(_) if number == 0 => {}
            _ => errors += 1,
        }
    }
    (operations, errors)
}

/// One handshake, from an address of its own, for ports of closed connections rest a minute.
fn handshake(
    address: SocketAddr,
    from: Ipv4Addr,
    config: &Arc<ClientConfig>,
    tickets: &Tickets,
) -> io::Result<HandshakeKind> {
    let mut stream = connect(address, from)?;
    let mut tls = tls::client(config).map_err(io::Error::other)?;
    let before = tickets.seen();
    while tls.is_handshaking() || tls.wants_write() {
        tls.complete_io(&mut stream)?;
    }
    while tickets.seen() == before {
        if tls.read_tls(&mut stream)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        tls.process_new_packets().map_err(io::Error::other)?;
    }
    tls.send_close_notify();
    tls.write_tls(&mut stream)?;
    tls.handshake_kind().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn connect(address: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&address.into(), ANSWER)?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.set_write_timeout(Some(ANSWER))?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// Opens `connections` one after the other, each with one request, and holds them until the
/// process ends.
pub(super) fn idle(address: SocketAddr, connections: u32) -> io::Result<()> {
    let config = tls::config(b"http/1.1", &Tickets::new(false)).map_err(io::Error::other)?;
    let mut held = Vec::new();
    let mut errors = 0;
    for _ in 0..connections {
        match used(address, &config) {
            Ok(stream) => held.push(stream),
            Err(_) => errors += 1,
        }
    }
    println!("{} {errors}", held.len());
    loop {
        std::thread::park();
    }
}

/// A connection on which one request was answered.
pub(crate) fn used(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let stream = connect(address, Ipv4Addr::LOCALHOST)?;
    let tls = tls::client(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(tls, stream);
    match crate::probe::ask(&mut stream, tls::NAME, "/")? {
        200 => Ok(stream),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
