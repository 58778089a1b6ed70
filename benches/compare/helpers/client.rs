//! The loads that no packaged generator gives: small TCP messages, and connections that idle.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout_at;

use super::origin::STREAM;
use crate::probe;

/// Bytes of a message.
const MESSAGE: usize = 64;
/// Time for one connection's first answer.
const ANSWER: Duration = Duration::from_secs(5);

/// On each of `connections` one message is under way at any time, for `seconds`.
pub(super) fn ping_pong(address: SocketAddr, connections: u32, seconds: u32) -> io::Result<()> {
    all(connections, seconds, |until| one(address, until), 1)
}

/// On each of `connections` comes what comes, for `seconds`; an operation is a megabyte.
pub(super) fn bulk(address: SocketAddr, connections: u32, seconds: u32) -> io::Result<()> {
    all(connections, seconds, |until| stream(address, until), 1_000_000)
}

/// So many `connections` at a time, each for one message, for `seconds`.
pub(super) fn connects(address: SocketAddr, connections: u32, seconds: u32) -> io::Result<()> {
    all(connections, seconds, |until| connect(address, until), 1)
}

/// Runs `each` so many times at once and prints what was done, in units of so much.
fn all<F>(count: u32, seconds: u32, each: impl Fn(Instant) -> F, unit: u64) -> io::Result<()>
where
    F: Future<Output = (u64, u64)> + Send + 'static,
{
    let (operations, errors, took) = super::runtime()?.block_on(async {
        let mut all = tokio::task::JoinSet::new();
        let started = Instant::now();
        let until = started + Duration::from_secs(seconds.into());
        for _ in 0..count {
            all.spawn(each(until));
        }
        let each = all.join_all().await;
        let operations: u64 = each.iter().map(|(operations, _)| operations).sum();
        let errors: u64 = each.iter().map(|(_, errors)| errors).sum();
        (operations / unit, errors, started.elapsed().as_secs_f64())
    });
    println!("{operations} {errors} {took:.3}");
    Ok(())
}

/// Bytes and errors of one stream.
async fn stream(address: SocketAddr, until: Instant) -> (u64, u64) {
    let mut bytes = 0;
    let run = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&[STREAM]).await?;
        let mut piece = vec![0; 256 << 10];
        while Instant::now() < until {
            match stream.read(&mut piece).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => bytes += read as u64,
            }
        }
        io::Result::Ok(())
    };
    let grace = until + Duration::from_secs(2);
    let well = matches!(timeout_at(grace.into(), run).await, Ok(Ok(())));
    (bytes, u64::from(!well))
}

/// Connections and errors, one after the other.
async fn connect(address: SocketAddr, until: Instant) -> (u64, u64) {
    let (mut operations, mut errors) = (0, 0);
    while Instant::now() < until {
        let run = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut message = [1; MESSAGE];
            stream.write_all(&message).await?;
            stream.read_exact(&mut message).await?;
            stream.shutdown().await?;
            // The other side closes too before it counts.
            stream.read(&mut message).await
        };
        let grace = until + Duration::from_secs(2);
        match timeout_at(grace.into(), run).await {
            Ok(Ok(0)) => operations += 1,
            _ => errors += 1,
        }
    }
    (operations, errors)
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

/// Opens `connections` one after the other, each used once, and holds them until the process ends.
pub(super) fn idle(
    address: SocketAddr,
    connections: u32,
    used: impl Fn(&mut StdStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut held = Vec::new();
    let mut errors = 0;
    for _ in 0..connections {
        let stream = probe::connect(address, ANSWER);
        match stream.and_then(|mut stream| used(&mut stream).map(|()| stream)) {
            Ok(stream) => held.push(stream),
            Err(_) => errors += 1,
        }
    }
    println!("{} {errors}", held.len());
    loop {
        std::thread::park();
    }
}

/// One request over HTTP.
pub(super) fn asked(stream: &mut StdStream) -> io::Result<()> {
    match probe::get(stream, "/")? {
        200 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
