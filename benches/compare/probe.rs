//! One question to a server, to see that it answers, and answers what is measured.
//!
//! A port that accepts says little: Traefik accepts before its routes are there, and a server
//! that quickly answers the wrong thing would win every comparison.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::fleet::{self, MIDDLE};
use crate::helpers::handshakes;
use crate::peers::Role;
use crate::{tls, zone};

const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the server at `address` plays its role.
pub(crate) fn answers(role: Role, address: SocketAddr) -> io::Result<()> {
    match role {
        Role::Dns | Role::DnsViews => {
            // A name of the same length that isn't there must be denied, not just unanswered.
            expect(address, zone::HIT, (0, 3))?;
            expect(address, &zone::HIT.replace("svc", "non"), (3, 0))
        }
        Role::Http => match get(&mut connect(address, TIMEOUT)?, "/")? {
            200 => Ok(()),
            status => Err(wrong(format!("status {status} instead of 200"))),
        },
        Role::Https => {
            let config = tls::config(b"http/1.1", &tls::Tickets::new(false));
            handshakes::used(address, &config.map_err(io::Error::other)?).map(drop)
        }
        Role::HttpRouted => {
            let host = fleet::host(MIDDLE);
            for (path, right) in [(fleet::path(MIDDLE).as_str(), true), ("/none", false)] {
                let status = ask(&mut connect(address, TIMEOUT)?, &host, path)?;
                if (status == 200) != right {
                    return Err(wrong(format!("status {status} for {path}")));
                }
            }
            Ok(())
        }
        Role::Tcp | Role::TcpBulk => echoes(&mut connect(address, TIMEOUT)?),
        Role::Udp => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(TIMEOUT))?;
            let (message, mut echo) = ([7; 64], [0; 100]);
            socket.send(&message)?;
            let length = socket.recv(&mut echo)?;
            if echo[..length] == message { Ok(()) } else { Err(wrong("another echo".into())) }
        }
    }
}

/// Whether a message comes back on `stream`.
pub(crate) fn echoes(stream: &mut TcpStream) -> io::Result<()> {
    let message = [7; 64];
    let mut echo = [0; 64];
    stream.write_all(&message)?;
    stream.read_exact(&mut echo)?;
    if echo == message { Ok(()) } else { Err(wrong("another echo".into())) }
}

/// Whether `GET /readyz` at `address` gives 200.
pub(crate) fn ready(address: SocketAddr) -> io::Result<()> {
    match get(&mut connect(address, TIMEOUT)?, "/readyz")? {
        200 => Ok(()),
        status => Err(wrong(format!("/readyz gives {status}"))),
    }
}

/// Sends one request on a connection that stays open and reads the whole answer; gives the status.
pub(crate) fn get(stream: &mut TcpStream, path: &str) -> io::Result<u16> {
    ask(stream, "bench.test", path)
}

/// The same for another host.
pub(crate) fn ask(stream: &mut (impl Read + Write), host: &str, path: &str) -> io::Result<u16> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut seen = Vec::with_capacity(1024);
    let mut chunk = [0; 1024];
    loop {
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&chunk[..read]);
        if let Some((status, length)) = head(&seen)
            && seen.len() >= length
        {
            return Ok(status);
        }
    }
}

/// Status and length in all of an answer whose head is complete.
fn head(seen: &[u8]) -> Option<(u16, usize)> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&seen[..end]).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let body = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .unwrap_or(0);
    Some((status, end + body))
}

/// A connection on which nothing takes longer than `patience`.
pub(crate) fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What `GET path` at `address` gives, as a whole.
pub(crate) fn page(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = connect(address, TIMEOUT)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.into()),
        _ => Err(wrong(format!("{path} gives {}", text.lines().next().unwrap_or("nothing")))),
    }
}

/// Asks for the addresses of `name` and compares the response code and the number of answers.
fn expect(address: SocketAddr, name: &str, want: (u8, u16)) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.send(&question(name))?;
    let mut reply = [0; 1500];
    let length = socket.recv(&mut reply)?;
    let (Some(flags), Some(count)) = (reply.get(3), reply.get(6..8)) else {
        return Err(wrong("a short answer".into()));
    };
    let got = (flags & 15, u16::from_be_bytes([count[0], count[1]]));
    if length >= 12 && got == want {
        return Ok(());
    }
    Err(wrong(format!("{name}: response code and answers are {got:?} instead of {want:?}")))
}

/// A query for A with an EDNS size of 1232, as the load generator sends it.
fn question(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0, 0, 0]);
    query
}

fn wrong(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_complete_with_the_last_byte_of_its_body() {
        for (case, text, want) in [
            ("half a head", "HTTP/1.1 200 OK\r\nContent-", None),
            ("with a body", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel", Some((200, 43))),
            ("without one", "HTTP/1.1 204 No\r\n\r\n", Some((204, 19))),
        ] {
            assert_eq!(head(text.as_bytes()), want, "{case}");
        }
    }

    #[test]
    fn a_question_is_a_header_a_name_and_an_opt_record() {
        let query = question("a.bc");
        assert_eq!(query.len(), 12 + 6 + 4 + 11);
        assert_eq!(&query[12..18], b"\x01a\x02bc\0");
    }
}
