//! What the proxies carry to. Its own cost isn't counted, only its share of the cores.

use std::io;
use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The same small answer to every request.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n\
    Harbours, and the courses between them; the winds are not shown\n";
/// A proxy's request head is far below this; more means that something else is spoken.
const HEAD_MAX: usize = 64 << 10;

/// Answers HTTP requests without a body until the process ends.
pub(super) fn http() -> io::Result<()> {
    serve(|stream| async move {
        // A connection that fails is the proxy's to notice.
        let _ = answer(stream).await;
    })
}

/// Sends back what comes until the process ends.
pub(super) fn tcp() -> io::Result<()> {
    serve(|stream| async move {
        let _ = echo(stream).await;
    })
}

fn serve<F>(each: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&super::runtime()?, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            // An error belongs to a connection that is gone, or says that there are too many.
            if let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::task::spawn_local(each(stream));
            } else {
                tokio::task::yield_now().await;
            }
        }
    })
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut seen = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut seen).await? == 0 || seen.len() > HEAD_MAX {
            return Ok(());
        }
        while let Some(end) = memchr::memmem::find(&seen, b"\r\n\r\n") {
            seen.drain(..end + 4);
            stream.write_all(ANSWER).await?;
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&chunk[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_that_the_answer_states_is_the_length_of_its_body() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
