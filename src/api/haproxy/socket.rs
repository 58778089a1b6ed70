//! Connections to the stats socket: lines in, answers out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::HaproxyConfig;
use super::session::Session;

/// Read at once.
const CHUNK: usize = 2048;
/// Sent within one idle time.
const PIECE: usize = 64 << 10;

/// Answers line after line, until the other side or an answer ends it.
///
/// # Errors
/// The other side broke off, or was silent for too long.
pub(super) async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    config: &Arc<HaproxyConfig>,
    mut session: Session,
) -> io::Result<()> {
    let (max, idle) = (config.line_max.0 as usize, config.idle.0);
    let mut read = Vec::new();
    loop {
        let Some(line) = line(&mut stream, &mut read, max, idle).await? else {
            return Ok(());
        };
        let answer = match line {
            Ok(line) => session.line(&line).await,
            Err(told) => super::session::Answer { text: told, more: false },
        };
        send(&mut stream, answer.text.as_bytes(), idle).await?;
        if !answer.more {
            within(idle, stream.shutdown()).await?;
            // What else it sent is read, so that the close takes nothing of the answer away.
            let rest = async { while let Ok(1..) = stream.read(&mut [0; 1024]).await {} };
            let _ = timeout(idle, rest).await;
            return Ok(());
        }
    }
}

/// The next line without its end; none at the end, and an answer where it is none.
async fn line<S: AsyncRead + Unpin>(
    stream: &mut S,
    read: &mut Vec<u8>,
    max: usize,
    idle: Duration,
) -> io::Result<Option<Result<String, String>>> {
    let mut looked = 0;
    loop {
        let end = read[looked..].iter().position(|byte| *byte == b'\n').map(|at| looked + at);
        if let Some(at) = end.filter(|at| *at <= max) {
            let line: Vec<u8> = read.drain(..=at).collect();
            return Ok(Some(Ok(String::from_utf8_lossy(&line).into_owned())));
        }
        looked = read.len();
        if read.len() > max {
            return Ok(Some(Err(format!(
                "The line is longer than {max} bytes ([haproxy] line_max).\n\n"
            ))));
        }
        read.reserve(CHUNK);
        if within(idle, stream.read_buf(read)).await? == 0 {
            // Who ends its side without the end of a line has said all the same what it wants.
            let rest = String::from_utf8_lossy(&std::mem::take(read)).into_owned();
            return Ok(Some(rest).filter(|rest| !rest.trim().is_empty()).map(Ok));
        }
    }
}

/// Sends `bytes`, as long as some of them go within each idle time.
///
/// # Errors
/// The other side broke off, or took nothing.
pub(super) async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &[u8],
    idle: Duration,
) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        within(idle, stream.write_all(piece)).await?;
    }
    Ok(())
}

/// `work`, as long as it takes no longer than `idle`.
pub(super) async fn within<T>(
    idle: Duration,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout(idle, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_whole_whatever_they_come_in() {
        let (mut ours, mut theirs) = tokio::io::duplex(64);
        let mut read = Vec::new();
        let second = Duration::from_secs(5);
        theirs.write_all(b"show ").await.unwrap();
        let more = tokio::spawn(async move {
            theirs.write_all(b"stat\nquit\nrest").await.unwrap();
        });
        let mut next = async || line(&mut ours, &mut read, 100, second).await.unwrap();
        assert_eq!(next().await, Some(Ok("show stat\n".into())));
        assert_eq!(next().await, Some(Ok("quit\n".into())));
        more.await.unwrap();
        assert_eq!(next().await, Some(Ok("rest".into())));
        assert_eq!(next().await, None);
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused_at_its_limit() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
        theirs.write_all(&[b'x'; 5000]).await.unwrap();
        let told = line(&mut ours, &mut Vec::new(), 100, Duration::from_secs(5)).await.unwrap();
        let told = told.unwrap().unwrap_err();
        assert!(told.contains("longer than 100 bytes"), "{told}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_is_let_go() {
        let (mut ours, _theirs) = tokio::io::duplex(64);
        let told = line(&mut ours, &mut Vec::new(), 100, Duration::from_secs(10)).await;
        assert_eq!(told.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
