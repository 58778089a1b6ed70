//! What the proxies carry to. Its own cost isn't counted, only its share of the cores.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The same small answer to every request.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n\
    Harbours, and the courses between them; the winds are not shown\n";
/// A proxy's request head is far below this; more means that something else is spoken.
const HEAD_MAX: usize = 64 << 10;

/// Answers HTTP requests without a body until the process ends.
pub(super) fn http() -> io::Result<()> {
    serve(StdListener::bind((Ipv4Addr::LOCALHOST, 0))?, |stream| async move {
        // A connection that fails is the proxy's to notice.
        let _ = answer(stream).await;
    })
}

/// The same on all of 127.0.0.0/8.
pub(super) fn http_everywhere() -> io::Result<()> {
    serve(everywhere()?, |stream| async move {
        let _ = answer(stream).await;
    })
}

/// Sends back what comes until the process ends; a connection that begins with [`STREAM`] gets bytes
/// instead, as many as it takes.
pub(super) fn tcp() -> io::Result<()> {
    serve(StdListener::bind((Ipv4Addr::LOCALHOST, 0))?, |stream| async move {
        let _ = echo(stream).await;
    })
}

/// A listener on every address of loopback, and on no other interface.
fn everywhere() -> io::Result<StdListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind_device(Some(b"lo"))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn serve<F>(listener: StdListener, each: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&super::runtime()?, async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        println!("127.0.0.1:{}", listener.local_addr()?.port());
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

/// What a connection begins with that wants a stream.
pub(super) const STREAM: u8 = 0xff;

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first == [STREAM] {
        return pour(stream).await;
    }
    let mut chunk = [0; 4096];
    loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&chunk[..read]).await?;
    }
}

/// Writes until nobody reads any more.
async fn pour(mut stream: TcpStream) -> io::Result<()> {
    let piece = vec![1; 256 << 10];
    loop {
        stream.write_all(&piece).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_that_is_everywhere_is_reached_by_any_address_of_loopback() {
        let listener = everywhere().unwrap();
        let port = listener.local_addr().unwrap().port();
        for address in [[127, 0, 0, 1], [127, 100, 191, 250]] {
            let client = std::net::TcpStream::connect((Ipv4Addr::from(address), port)).unwrap();
            let (_, peer) = listener.accept().unwrap();
            assert_eq!(peer, client.local_addr().unwrap());
        }
    }

    #[test]
    fn the_length_that_the_answer_states_is_the_length_of_its_body() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
