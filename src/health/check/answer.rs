//! One answer of HTTP/1.1, read within bounds.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::connect::in_words;

/// Longest head of an answer, interim ones included.
const HEAD_MAX: usize = 64 << 10;
/// Most header lines.
const HEADERS_MAX: usize = 100;
/// Longest line of a chunk's size.
const CHUNK_LINE_MAX: usize = 256;

/// What was read of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    /// The beginning of the body, without the framing.
    pub(super) body: Vec<u8>,
}

/// How the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// Reads one final answer, and at most `body_max` bytes of its body; none when that is 0.
///
/// # Errors
/// In words: no HTTP, too long, or the end of the connection before its time.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    body_max: usize,
) -> Result<Answer, String> {
    let mut bytes = Vec::with_capacity(1024);
    let (status, reason, framing) = loop {
        let (length, status, reason, framing) = head(stream, &mut bytes).await?;
        bytes.drain(..length);
        // 101 is final: nobody asked for another protocol.
        if status >= 200 || status == 101 {
            break (status, reason, framing);
        }
    };
    let body = match (body_max, status) {
        (0, _) | (_, 204 | 304) => Vec::new(),
        _ => body(stream, bytes, framing, body_max).await?,
    };
    Ok(Answer { status, reason, body })
}

async fn head(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> Result<(usize, u16, String, Framing), String> {
    // Only the end of a line can end a head: a byte at a time costs no more than a line at a time.
    let mut fresh = 0;
    loop {
        if bytes[fresh..].contains(&b'\n')
            && let Some(head) = parse(bytes)?
        {
            return Ok(head);
        }
        fresh = bytes.len();
        if fresh >= HEAD_MAX {
            return Err(format!("the head of the answer is longer than {} KiB", HEAD_MAX >> 10));
        }
        if more(stream, bytes).await? == 0 {
            let empty = if bytes.is_empty() { "an answer" } else { "the end of the answer's head" };
            return Err(format!("the connection was closed before {empty}"));
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(usize, u16, String, Framing)>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the answer is no HTTP: {error}")),
    };
    let mut framing = Framing::Close;
    for header in answer.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked
        {
            let length = value.parse().map_err(|_| format!("content-length is {value:?}"))?;
            framing = Framing::Length(length);
        }
    }
    let reason = answer.reason.unwrap_or_default().to_owned();
    Ok(Some((length, answer.code.unwrap_or_default(), reason, framing)))
}

/// The first `max` bytes of a body of which `bytes` are there.
async fn body(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: Vec<u8>,
    framing: Framing,
    max: usize,
) -> Result<Vec<u8>, String> {
    match framing {
        Framing::Chunked => chunks(stream, bytes, max).await,
        Framing::Close => fill(stream, bytes, max).await.map(|(body, _)| body),
        Framing::Length(length) => {
            let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(max);
            match fill(stream, bytes, wanted).await? {
                (body, true) => Ok(body),
                (_, false) => Err("the connection was closed within the body".to_owned()),
            }
        }
    }
}

/// Reads on until `wanted` bytes are there, and no more than those; false: the end came first.
async fn fill(
    stream: &mut (impl AsyncRead + Unpin),
    bytes: Vec<u8>,
    wanted: usize,
) -> Result<(Vec<u8>, bool), String> {
    let (mut bytes, there) = fill_at_least(stream, bytes, wanted).await?;
    bytes.truncate(wanted);
    Ok((bytes, there))
}

async fn chunks(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: Vec<u8>,
    max: usize,
) -> Result<Vec<u8>, String> {
    let cut = || "the connection was closed within the body".to_owned();
    let broken = || "a chunk of the body has no size".to_owned();
    let mut body = Vec::new();
    while body.len() < max {
        let line = loop {
            if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            if bytes.len() > CHUNK_LINE_MAX {
                return Err(broken());
            }
            if more(stream, &mut bytes).await? == 0 {
                return Err(cut());
            }
        };
        let size = std::str::from_utf8(&bytes[..line]).map_err(|_| broken())?;
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| broken())?;
        bytes.drain(..=line);
        if size == 0 {
            break;
        }
        let wanted = size.min(max - body.len());
        let (all, there) = fill_at_least(stream, bytes, wanted).await?;
        if !there {
            return Err(cut());
        }
        body.extend_from_slice(&all[..wanted]);
        if wanted < size {
            break;
        }
        let (all, there) = fill_at_least(stream, all, size + 2).await?;
        if !there {
            return Err(cut());
        }
        bytes = all;
        bytes.drain(..size + 2);
    }
    Ok(body)
}

/// As [`fill`], and keeps what came behind.
async fn fill_at_least(
    stream: &mut (impl AsyncRead + Unpin),
    mut bytes: Vec<u8>,
    wanted: usize,
) -> Result<(Vec<u8>, bool), String> {
    while bytes.len() < wanted {
        if more(stream, &mut bytes).await? == 0 {
            return Ok((bytes, false));
        }
    }
    Ok((bytes, true))
}

/// Reads what is there, at most a few KiB.
async fn more(stream: &mut (impl AsyncRead + Unpin), to: &mut Vec<u8>) -> Result<usize, String> {
    to.reserve(4 << 10);
    stream.take(8 << 10).read_buf(to).await.map_err(|error| in_words(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made of an answer that comes in pieces of each size.
    async fn told(text: &str, body_max: usize) -> Result<Answer, String> {
        let mut results = Vec::new();
        for size in [1, 3, 4096] {
            let pieces = text.as_bytes().chunks(size).map(<[u8]>::to_vec);
            let mut stream = Pieces(pieces.collect());
            results.push(read(&mut stream, body_max).await);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{results:?}");
        results.pop().unwrap()
    }

    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            to: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(to.remaining()));
                to.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_whatever_pieces_it_comes_in() {
        for (case, text, max, status, body) in [
            ("head only", "HTTP/1.1 200 OK\r\n\r\nrest", 0, 200, ""),
            ("length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, more", 99, 200, "hello"),
            ("a part", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 3, 200, "hel"),
            ("until the end", "HTTP/1.0 500 No\r\n\r\nbroken", 99, 500, "broken"),
            (
                "chunks",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                99,
                200,
                "abcde",
            ),
            (
                "a part of chunks",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nff\r\ndefg",
                5,
                200,
                "abcde",
            ),
            ("interim", "HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n", 9, 204, ""),
            ("lines without returns", "HTTP/1.1 200 OK\nA: b\n\n", 0, 200, ""),
        ] {
            let answer = told(text, max).await.unwrap();
            assert_eq!((answer.status, &*answer.body), (status, body.as_bytes()), "{case}");
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_in_words() {
        let long = format!("HTTP/1.1 200 OK\r\nA: {}\r\n", "x".repeat(HEAD_MAX));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
        for (case, text, want) in [
            ("nothing", "", "the connection was closed before an answer"),
            ("cut", "HTTP/1.1 200", "the connection was closed before the end of the answer's"),
            ("another protocol", "SSH-2.0-OpenSSH\r\n", "the answer is no HTTP"),
            ("too long", &long, "the head of the answer is longer than 64 KiB"),
            ("too many headers", &many, "the answer is no HTTP: too many headers"),
            ("bad length", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "content-length is"),
            (
                "a body that is cut",
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
                "the connection was closed within the body",
            ),
            (
                "chunks that are cut",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nab",
                "the connection was closed within the body",
            ),
            (
                "chunks without a size",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
                "a chunk of the body has no size",
            ),
        ] {
            let error = told(text, 64).await.unwrap_err();
            assert!(error.starts_with(want), "{case}: {error}");
        }
    }
}
