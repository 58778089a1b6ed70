//! Datagrams to and fro: the origin, and the load. Both take what is there in one go, so that the
//! server between them has the most of the cores.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

/// Bytes of a message.
const MESSAGE: usize = 64;
/// How long an answer may take, before the message is sent again and an error counted.
const LOST: Duration = Duration::from_millis(500);
/// Events taken at once.
const TOLD: usize = 64;

/// Sends back what comes until the process ends.
pub(super) fn origin() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", socket.local_addr()?);
    let mut message = [0; 2048];
    loop {
        // An error tells of a flow that has ended.
        if let Ok((length, from)) = socket.recv_from(&mut message) {
            let _ = socket.send_to(&message[..length], from);
        }
    }
}

/// One message is under way in each of `flows` at any time, for `seconds`.
pub(super) fn ping_pong(address: SocketAddr, flows: u32, seconds: u32) -> io::Result<()> {
    let ready = epoll::create(CreateFlags::CLOEXEC)?;
    let mut all = Vec::new();
    for number in 0..flows {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        epoll::add(&ready, &socket, EventData::new_u64(number.into()), EventFlags::IN)?;
        all.push((socket, Instant::now()));
    }
    let message = [1; MESSAGE];
    for (socket, _) in &all {
        socket.send(&message)?;
    }
    let started = Instant::now();
    let length = Duration::from_secs(seconds.into());
    let (mut operations, mut errors) = (0_u64, 0_u64);
    let mut events: Vec<Event> = Vec::with_capacity(TOLD);
    let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let mut looked = started;
    loop {
        events.clear();
        epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), Some(&patience))?;
        let now = Instant::now();
        if now - started >= length {
            break;
        }
        for event in &events {
            let data = event.data;
            let Some((socket, sent)) = all.get_mut(data.u64() as usize) else { continue };
            let mut answer = [0; MESSAGE];
            if matches!(socket.recv(&mut answer), Ok(MESSAGE)) {
                operations += 1;
            } else {
                errors += 1;
            }
            *sent = now;
            socket.send(&message)?;
        }
        if now - looked >= LOST {
            looked = now;
            for (socket, sent) in all.iter_mut().filter(|(_, sent)| now - *sent >= LOST) {
                errors += 1;
                *sent = now;
                socket.send(&message)?;
            }
        }
    }
    println!("{operations} {errors} {:.3}", started.elapsed().as_secs_f64());
    Ok(())
}
