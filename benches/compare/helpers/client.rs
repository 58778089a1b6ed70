//! The loads that no packaged generator gives: small TCP messages, and connections that idle.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::probe;

/// Bytes of a message.
const MESSAGE: usize = 64;
/// Time for one connection's first answer.
const ANSWER: Duration = Duration::from_secs(5);

/// On each of `connections` one message is under way at any time, for `seconds`.
pub(super) fn ping_pong(address: SocketAddr, connections: u32, seconds: u32) -> io::Result<()> {
    let (operations, errors, took) = super::runtime()?.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        let started = Instant::now();
        let until = started + Duration::from_secs(seconds.into());
        for _ in 0..connections {
            all.spawn(one(address, until));
        }
        let each = all.join_all().await;
        let operations: u64 = each.iter().map(|(operations, _)| operations).sum();
        let errors: u64 = each.iter().map(|(_, errors)| errors).sum();
        (operations, errors, started.elapsed().as_secs_f64())
    });
    println!("{operations} {errors} {took:.3}");
    Ok(())
}

/// Round trips and errors of one connection; it ends with its first error.
async fn one(address: SocketAddr, until: Instant) -> (u64, u64) {
    let mut operations = 0;
    let run = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut message = [1; MESSAGE];
        while Instant::now() < until {
            stream.write_all(&message).await?;
            stream.read_exact(&mut message).await?;
            operations += 1;
        }
        io::Result::Ok(())
    };
    let grace = until + Duration::from_secs(2);
    let well = matches!(timeout_at(grace.into(), run).await, Ok(Ok(())));
    (operations, u64::from(!well))
}

/// Opens `connections` one after the other, each with one request, and holds them until the
/// process ends.
pub(super) fn idle(address: SocketAddr, connections: u32) -> io::Result<()> {
    let mut held = Vec::new();
    let mut errors = 0;
    for _ in 0..connections {
        match used(address) {
            Ok(stream) => held.push(stream),
            Err(_) => errors += 1,
        }
    }
    println!("{} {errors}", held.len());
    loop {
        std::thread::park();
    }
}

fn used(address: SocketAddr) -> io::Result<StdStream> {
    let mut stream = StdStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    match probe::get(&mut stream, "/")? {
        200 => Ok(stream),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
