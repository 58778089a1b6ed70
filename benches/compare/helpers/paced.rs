//! Requests at a rate: each connection has its turns, spread evenly, whatever the answers take.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::fleet::{self, MIDDLE};
use crate::machine::pause;
use crate::probe;

/// Time for an answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Makes `rate` requests a second over all `connections`, for `seconds`. A thread for each: to wait
/// in the kernel for the next turn is exact to some 50 µs, where a runtime's timer counts in whole
/// milliseconds and would send in bursts. Who is late sends at once, and what was missed is made up
/// for, so that a slow answer changes nothing about the rate.
pub(super) fn requests(address: SocketAddr, connections: u32, rate: u32, seconds: u32) {
    let each = Duration::from_secs(1) * connections / rate.max(1);
    // Time for all threads to be there.
    let started = Instant::now() + Duration::from_millis(20);
    let until = started + Duration::from_secs(seconds.into());
    let threads: Vec<_> = (0..connections)
        .map(|nth| {
            let first = started + each * nth / connections;
            std::thread::spawn(move || one(address, first, each, until))
        })
        .collect();
    let mut sums = (0, 0);
    for thread in threads {
        // A thread that is gone failed altogether.
        let (operations, errors) = thread.join().unwrap_or((0, 1));
        sums = (sums.0 + operations, sums.1 + errors);
    }
    let took = Instant::now().saturating_duration_since(started).as_secs_f64();
    println!("{} {} {took:.3}", sums.0, sums.1);
}

/// Requests and errors of one connection, which is opened anew after an error.
fn one(address: SocketAddr, first: Instant, each: Duration, until: Instant) -> (u64, u64) {
    let (host, path) = (fleet::host(MIDDLE), fleet::path(MIDDLE));
    let (mut operations, mut errors) = (0, 0);
    let mut stream = None;
    let mut turn = first;
    while turn < until && Instant::now() < until + ANSWER {
        pause(turn.saturating_duration_since(Instant::now()));
        if ask(&mut stream, address, &host, &path).is_ok() {
            operations += 1;
        } else {
            errors += 1;
            stream = None;
        }
        turn += each;
    }
    (operations, errors)
}

fn ask(
    stream: &mut Option<TcpStream>,
    address: SocketAddr,
    host: &str,
    path: &str,
) -> io::Result<()> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(probe::connect(address, ANSWER)?),
    };
    match probe::ask(stream, host, path)? {
        200 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
