//! The same bytes for HAProxy, nginx and Portolan, each in front of origins that record: what reaches
//! an origin from us is what reaches it from one of them, or is refused. `PORTOLAN_FULL` sends many
//! times as many.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::origin::{Origin, end_of_request};
use crate::peers::{own_address, serving, start};
use crate::rig::{Rig, find, header, service, within};

/// Cases that run at once, each with an origin of its own behind each server.
const LANES: usize = 8;
/// Closes behind each answer, so that no two requests of different cases share a connection.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// A request as an origin understands it, without what proxies write into it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    first: String,
    host: String,
    body: Vec<u8>,
    marks: Vec<String>,
}

/// The complete requests of one connection.
fn requests(mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(end) = end_of_request(bytes) {
        let head_end = find(bytes, b"\r\n\r\n").unwrap_or_default() + 4;
        let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
        let body = &bytes[head_end..end];
        let chunked = header(&head, "transfer-encoding").is_some();
        let marks = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-mark"));
        // In which version it goes on, and in which form of target, is each server's own affair.
        let first = head.lines().next().unwrap_or_default();
        let first = first.rsplit_once(' ').map_or(first, |(asked, _)| asked);
        let (method, target) = first.split_once(' ').unwrap_or((first, ""));
        let first = format!("{method} {}", in_origin_form(target));
        seen.push(Seen {
            first,
            host: header(&head, "host").unwrap_or_default().to_ascii_lowercase(),
            body: if chunked { data(body) } else { body.to_vec() },
            marks: marks.map(str::to_ascii_lowercase).collect(),
        });
        bytes = &bytes[end..];
    }
    seen
}

fn in_origin_form(target: &str) -> String {
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return target.to_owned();
    };
    let path = &rest[rest.find(['/', '?']).unwrap_or(rest.len())..];
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

/// What is in the chunks of a body that is well-formed.
fn data(mut body: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(line) = find(body, b"\r\n") {
        let size = String::from_utf8_lossy(&body[..line]).into_owned();
        let size = size.split(';').next().unwrap_or_default().trim().to_owned();
        let Ok(size @ 1..) = usize::from_str_radix(&size, 16) else { break };
        data.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
    data
}

/// The words with which cases begin that reach an origin from us in a form in which they come from
/// neither of the others: `docs/hostile.md` gives the reasons.
fn ours_alone() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/hostile.md")).unwrap();
    let (_, part) = page.split_once("\n## Beside HAProxy and nginx\n").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| Some(row.split_once('`')?.0.to_owned())).collect()
}

/// Whether nothing reached the origin from us that did not reach it from another server too. All cases
/// end with one more request, which those who close early do not carry; from us it may come when it
/// was not part of another one's body for them.
fn like(ours: &[Seen], others: &[Seen]) -> bool {
    let inside = |body: &[u8]| find(body, b"/smuggled").is_some();
    let apart = !others.iter().any(|other| inside(&other.body));
    let further = |one: &Seen| apart && one.first.ends_with("/smuggled") && one.body.is_empty();
    ours.iter().all(|one| others.contains(one) || further(one))
}

/// A server with a door and an origin for each lane.
struct Server {
    name: &'static str,
    lanes: Vec<(SocketAddr, Origin)>,
}

impl Server {
    /// Sends `bytes` through a lane and gives what reached its origin, request by request.
    async fn carry(&self, lane: usize, bytes: &[u8]) -> Vec<Seen> {
        let (address, origin) = &self.lanes[lane];
        let what = format!("{}: {:?}", self.name, String::from_utf8_lossy(bytes));
        let before = origin.received().len();
        let mut client = within("connect", TcpStream::connect(*address)).await.unwrap();
        // It may be closed before it has taken all; what follows shows what it took.
        let _ = client.write_all(bytes).await;
        let _ = client.shutdown().await;
        let mut rest = Vec::new();
        let _ = within(&what, client.read_to_end(&mut rest)).await;
        // What was on its way to the origin has come before this.
        let mut mark = within("connect", TcpStream::connect(*address)).await.unwrap();
        within(&what, mark.write_all(MARK.as_bytes())).await.unwrap();
        within(&what, mark.read_to_end(&mut rest)).await.unwrap();
        origin.seen(&what, |all| all[before..].iter().all(|one| one.ended)).await;
        let received = origin.received();
        let seen = received[before..].iter().flat_map(|one| requests(&one.bytes));
        seen.filter(|one| one.first != "GET /mark").collect()
    }
}

async fn origins() -> Vec<Origin> {
    let mut origins = Vec::new();
    for _ in 0..LANES {
        let origin = Origin::start(|mut exchange| async move {
            exchange.request().await?;
            exchange.send(ANSWER).await?;
            exchange.rest().await
        });
        origins.push(origin.await);
    }
    origins
}

async fn haproxy(directory: &Path) -> (Child, Server) {
    let mut config = "global\nmaxconn 500\ndefaults\nmode http\nretries 0\ntimeout client 2s\n\
                      timeout server 2s\ntimeout connect 2s\ntimeout http-request 2s\n\
                      timeout http-keep-alive 2s\ntimeout tunnel 2s\ntimeout client-fin 2s\n\
                      timeout server-fin 2s\n"
        .to_owned();
    let mut lanes = Vec::new();
    for (lane, origin) in origins().await.into_iter().enumerate() {
        let address = own_address();
        let at = origin.address;
        let _ = write!(
            config,
            "frontend f{lane}\nbind {address}\ndefault_backend b{lane}\nbackend b{lane}\nserver s {at}\n"
        );
        lanes.push((address, origin));
    }
    let file = directory.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("haproxy").arg("-db").arg("-f").arg(file));
    serving(&mut child, lanes[LANES - 1].0).await;
    (child, Server { name: "haproxy", lanes })
}

async fn nginx(directory: &Path) -> (Child, Server) {
    let mut config = "daemon off;\nmaster_process off;\nerror_log /dev/null;\npid nginx.pid;\n\
         events {}\nhttp {\naccess_log off;\nclient_header_timeout 2s;\nclient_body_timeout 2s;\n\
         client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
         uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\nlingering_close off;\n\
         proxy_ignore_client_abort on;\nproxy_request_buffering off;\nproxy_http_version 1.1;\n\
         proxy_set_header Host $http_host;\nproxy_read_timeout 2s;\nproxy_next_upstream off;\n"
        .to_owned();
    let mut lanes = Vec::new();
    for origin in origins().await {
        let address = own_address();
        let at = origin.address;
        let _ = writeln!(
            config,
            "server {{ listen {address}; location / {{ proxy_pass http://{at}; }} }}"
        );
        lanes.push((address, origin));
    }
    config.push('}');
    let file = directory.join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let mut child = start(Command::new("nginx").arg("-p").arg(directory).arg("-c").arg(file));
    serving(&mut child, lanes[LANES - 1].0).await;
    (child, Server { name: "nginx", lanes })
}

async fn portolan(name: &'static str, strictness: &str) -> (Rig, Server) {
    let origins = origins().await;
    let mut config = "[node]\nworkers = 1\n".to_owned();
    let mut services = Vec::new();
    for (lane, origin) in origins.iter().enumerate() {
        let _ = write!(
            config,
            "[route.r{lane}]\nlistener = \"l{lane}\"\nservice = \"s{lane}\"\n\
             [listener.l{lane}.http]\nbind = [\"127.0.0.1:0\"]\nstrictness = \"{strictness}\"\n\
             timeouts = {{ read = \"2s\", request_head = \"2s\" }}\n"
        );
        services.push(service(&format!("s{lane}"), &[origin.address]));
    }
    let rig = Rig::start(&config, services).await;
    let mut lanes = Vec::new();
    for (lane, origin) in origins.into_iter().enumerate() {
        lanes.push((rig.address(&format!("l{lane}")).await, origin));
    }
    (rig, Server { name, lanes })
}

const MARK: &str = "GET /mark HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Mark: s\r\n\r\n";

/// Every way to write a request that we know of from what was written about attacks on proxies.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: String, bytes: String| cases.push((name, bytes.into_bytes()));
    let post = |lines: &str, body: &str| {
        format!("POST /p HTTP/1.1\r\nHost: a\r\nX-Mark: p\r\n{lines}\r\n{body}")
    };
    let get = |lines: &str| format!("GET /g HTTP/1.1\r\nHost: a\r\nX-Mark: g\r\n{lines}\r\n");

    for (name, lines) in [
        ("plain", ""),
        ("a header of eight bits", "X-Mark2: \u{e4}\r\n"),
        ("an empty header", "X-Mark2:\r\n"),
        ("white space around a value", "X-Mark2:\t y \t\r\n"),
        ("close", "Connection: close\r\n"),
        ("keep-alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"),
        ("hop by hop", "Connection: X-Mark2\r\nX-Mark2: y\r\n"),
        ("hop by hop: Host", "Connection: Host\r\n"),
        ("hop by hop: a length", "Connection: Content-Length\r\nContent-Length: 0\r\n"),
        ("an upgrade", "Connection: Upgrade\r\nUpgrade: foo\r\n"),
        (
            "an upgrade to h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n",
        ),
        ("expect", "Expect: 100-continue\r\n"),
        ("expect something else", "Expect: 200-ok\r\n"),
        ("a range", "Range: bytes=0-\r\n"),
        ("two Hosts", "Host: b\r\n"),
        ("the same Host twice", "Host: a\r\n"),
        ("an underscore", "X_Mark: y\r\n"),
        ("an underscore twin", "Content_Length: 9\r\n"),
        ("another twin", "Transfer_Encoding: chunked\r\n"),
        ("no colon", "X-Mark2\r\n"),
        ("no name", ": y\r\n"),
        ("a space before the colon", "X-Mark2 : y\r\n"),
        ("a space before the name", " X-Mark2: y\r\n"),
        ("parentheses", "X(y): z\r\n"),
        ("eight bits in a name", "X\u{e4}: z\r\n"),
        ("a folded line", "X-Mark2: y\r\n z\r\n"),
        ("a folded line by a tab", "X-Mark2: y\r\n\tz\r\n"),
        ("nul", "X-Mark2: y\0z\r\n"),
        ("a bare CR", "X-Mark2: y\rz\r\n"),
        ("a bare LF", "X-Mark2: y\nX-Mark3: z\r\n"),
        ("a bare LF and a space", "X-Mark2: y\n X-Mark3: z\r\n"),
        ("a control character", "X-Mark2: y\x01z\r\n"),
        ("DEL", "X-Mark2: y\x7fz\r\n"),
        ("a line of CR alone", "\r\r\n"),
        ("CR CR LF", "X-Mark2: y\r\r\n"),
    ] {
        add(format!("header: {name}"), get(lines) + SMUGGLED);
    }

    for target in [
        "/",
        "/x?y=z",
        "//x",
        "/x//y",
        "/./x",
        "/x/../y",
        "/../x",
        "/%2e%2e/x",
        "/x%2fy",
        "/x%5cy",
        "/x\\y",
        "/x%00",
        "/x%0d%0aX:%20y",
        "/x%zz",
        "/x%",
        "/x#y",
        "/x?y#z",
        "/x y",
        "/x\ty",
        "/x\x01",
        "/x\x7f",
        "/\u{e4}",
        "/x\"y",
        "/<x>",
        "/{x}",
        "/x|y",
        "/x^y",
        "/x`y",
        "*",
        "x",
        "",
        "?x",
        "http://a/x",
        "http://A/x",
        "http://a:80/x",
        "http://a:8080/x",
        "http://b/x",
        "http://a",
        "http://a?x",
        "https://a/x",
        "ftp://a/x",
        "http:///x",
        "http:/x",
        "http://a@b/x",
        "http://u@a/x",
        "a:80",
        "//a/x",
        "http://a/x#y",
        "http://a b/x",
        "http://[::1]/x",
        "HTTP://a/x",
        "/;x=y",
        "/x;../y",
    ] {
        add(
            format!("target: {target}"),
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Mark: t\r\n\r\n{SMUGGLED}"),
        );
    }

    for host in [
        "a",
        "A",
        "a:80",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "a:80:80",
        "a,b",
        "a, a",
        "a b",
        "u@a",
        "a/b",
        "a?b",
        "a#b",
        "[::1]",
        "[::1]:80",
        "[::1",
        "::1",
        "[x]",
        "a.",
        ".a",
        "a..b",
        "-a",
        "a_b",
        "\u{e4}",
        "a%20b",
        "a\\b",
        "",
        "*",
        "a;b",
        "127.0.0.1",
        "0x7f.1",
        "(a)",
        "\"a\"",
    ] {
        add(
            format!("host: {host}"),
            format!("GET /h HTTP/1.1\r\nHost: {host}\r\nX-Mark: h\r\n\r\n{SMUGGLED}"),
        );
    }

    for line in [
        "GET /l HTTP/1.0",
        "GET /l HTTP/1.2",
        "GET /l HTTP/2.0",
        "GET /l HTTP/0.9",
        "GET /l HTTP/1",
        "GET /l HTTP/11",
        "GET /l HTTP/1.10",
        "GET /l HTTP/01.1",
        "GET /l http/1.1",
        "GET /l HTP/1.1",
        "GET /l",
        "GET",
        "",
        "GET  /l HTTP/1.1",
        "GET /l  HTTP/1.1",
        "GET /l HTTP/1.1 ",
        " GET /l HTTP/1.1",
        "GET\t/l HTTP/1.1",
        "GET /l\tHTTP/1.1",
        "GET /l HTTP/1.1\t",
        "get /l HTTP/1.1",
        "G\u{e4}T /l HTTP/1.1",
        "G(T /l HTTP/1.1",
        "G:T /l HTTP/1.1",
        "FOO /l HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "OPTIONS /l HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "CONNECT /l HTTP/1.1",
        "TRACE /l HTTP/1.1",
        "HEAD /l HTTP/1.1",
        "PRI * HTTP/2.0",
        "GET /l HTTP/1.1\0",
        "GET /l\0 HTTP/1.1",
        "GET /l HTTP/1.1\x0b",
        "\r\nGET /l HTTP/1.1",
        "\r\n\r\nGET /l HTTP/1.1",
        "\nGET /l HTTP/1.1",
        "GET /l HTTP/1.1\r",
        "GET /l HTTP/+1.1",
        "GET /l HTTP/1.1.1",
    ] {
        add(format!("line: {line}"), format!("{line}\r\nHost: a\r\nX-Mark: l\r\n\r\n{SMUGGLED}"));
    }

    for length in [
        "2",
        "02",
        "+2",
        "-2",
        "0x2",
        "2 ",
        "\t2",
        "2,2",
        "2, 2",
        "2,3",
        ",2",
        "2,",
        "2;2",
        "2.0",
        "2e0",
        "\"2\"",
        "2 2",
        "0",
        "00",
        "",
        "a",
        "\u{b}2",
        "2\u{b}",
        "\u{662}",
        "18446744073709551616",
        "18446744073709551618",
        "9223372036854775808",
        "4294967298",
        "-0",
        "2\0",
        "1_0",
        "2\u{a0}",
    ] {
        add(
            format!("length: {length}"),
            post(&format!("Content-Length: {length}\r\n"), "hi") + SMUGGLED,
        );
    }
    for (name, lines) in [
        ("equal", "Content-Length: 2\r\nContent-Length: 2\r\n"),
        ("different", "Content-Length: 2\r\nContent-Length: 62\r\n"),
        ("different, the other way round", "Content-Length: 62\r\nContent-Length: 2\r\n"),
        ("three", "Content-Length: 2\r\nContent-Length: 3\r\nContent-Length: 2\r\n"),
        ("none and one", "Content-Length: \r\nContent-Length: 2\r\n"),
        ("in other letters", "content-length: 2\r\nCONTENT-LENGTH: 3\r\n"),
        ("a space before the colon", "Content-Length : 2\r\n"),
        ("a tab before the colon", "Content-Length\t: 2\r\n"),
        ("behind a fold", "X-Mark2: y\r\n Content-Length: 2\r\n"),
        ("folded", "Content-Length:\r\n 2\r\n"),
        ("of GET", "Content-Length: 2\r\nX-Mark2: get\r\n"),
    ] {
        add(format!("lengths: {name}"), post(lines, "hi") + SMUGGLED);
        let of_get = format!("GET /g HTTP/1.1\r\nHost: a\r\n{lines}\r\nhi{SMUGGLED}");
        add(format!("lengths of GET: {name}"), of_get);
    }

    // Each way to hide an encoding, with a body that is chunks for one and a length for another.
    let whole = format!("0\r\n\r\n{SMUGGLED}");
    for encoding in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: Chunked",
        "transfer-encoding: chunked",
        "Transfer-Encoding:chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding: chunked\t",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: chunked;x=y",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding:",
        "Transfer-Encoding: cow",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: \x0cchunked",
        "Transfer-Encoding: \0chunked",
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding:\n chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer_Encoding: chunked",
        "Transfer Encoding: chunked",
        "Transfer-Encoding\n: chunked",
        "\0Transfer-Encoding: chunked",
        "Transfer-Encod\u{131}ng: chunked",
        "Transfer-Encoding: chun\u{212a}ed",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "TE: chunked",
        "Transfer-Encoding: chunk\r\n ed",
        "Transfer-Encoding; chunked",
        "Transfer-Encoding chunked",
    ] {
        add(format!("encoding: {encoding}"), post(&format!("{encoding}\r\n"), &whole));
        let both = format!("Content-Length: 4\r\n{encoding}\r\n");
        add(format!("length, encoding: {encoding}"), post(&both, &whole));
        let both = format!("{encoding}\r\nContent-Length: {}\r\n", whole.len());
        add(format!("encoding, length: {encoding}"), post(&both, &whole));
        let old = format!(
            "POST /p HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n{encoding}\r\n\r\n{whole}"
        );
        add(format!("encoding of HTTP/1.0: {encoding}"), old);
    }

    for body in [
        "2\r\nhi\r\n0\r\n\r\n",
        "02\r\nhi\r\n0\r\n\r\n",
        "2\r\nhi\r\n00\r\n\r\n",
        "2 \r\nhi\r\n0\r\n\r\n",
        " 2\r\nhi\r\n0\r\n\r\n",
        "2\t\r\nhi\r\n0\r\n\r\n",
        "2;x\r\nhi\r\n0\r\n\r\n",
        "2;x=y\r\nhi\r\n0\r\n\r\n",
        "2;x=\"y\"\r\nhi\r\n0\r\n\r\n",
        "2;x=\"\r\n\"\r\nhi\r\n0\r\n\r\n",
        "2;\nxx\r\nhi\r\n0\r\n\r\n",
        "2;\rxx\r\nhi\r\n0\r\n\r\n",
        "2;\0\r\nhi\r\n0\r\n\r\n",
        "2 ; x\r\nhi\r\n0\r\n\r\n",
        "2\nhi\n0\n\n",
        "2\nhi\r\n0\r\n\r\n",
        "2\r\nhi\n0\r\n\r\n",
        "2\r\nhi\r\n0\n\n",
        "2\r\nhi\r\n0\r\n\n",
        "2\r\nhi\r\n0\n\r\n",
        "2\r\nhi\r\n0\r\n\r",
        "2\r\nhi0\r\n\r\n",
        "2\r\nhiXX0\r\n\r\n",
        "2\r\nhi\r\n0\r\nX: y\r\n\r\n",
        "2\r\nhi\r\n0\r\nContent-Length: 9\r\n\r\n",
        "2\r\nhi\r\n0\r\nX: y\n\r\n",
        "2\r\nhi\r\n0\r\n X: y\r\n\r\n",
        "2\r\nhi\r\n0\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n",
        "-2\r\nhi\r\n0\r\n\r\n",
        "+2\r\nhi\r\n0\r\n\r\n",
        "0x2\r\nhi\r\n0\r\n\r\n",
        "2g\r\nhi\r\n0\r\n\r\n",
        "\r\nhi\r\n0\r\n\r\n",
        "\r\n2\r\nhi\r\n0\r\n\r\n",
        "10000000000000002\r\nhi\r\n0\r\n\r\n",
        "100000002\r\nhi\r\n0\r\n\r\n",
        "fffffffffffffffe\r\nhi\r\n0\r\n\r\n",
        "00000000000000000002\r\nhi\r\n0\r\n\r\n",
        "2\r\nhi\r\n",
        "2\r\nhi\r\n0\r\n",
        "5\r\nhi\r\n0\r\n\r\n",
        "1\r\nhi\r\n0\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "0;x\r\n\r\n",
        "0 \r\n\r\n",
        "2\r\r\nhi\r\n0\r\n\r\n",
        "2\r\nhi\r\r\n0\r\n\r\n",
        "2_0\r\nhi\r\n0\r\n\r\n",
        "2.\r\nhi\r\n0\r\n\r\n",
        "\u{662}\r\nhi\r\n0\r\n\r\n",
    ] {
        let bytes = post("Transfer-Encoding: chunked\r\n", body) + SMUGGLED;
        add(format!("chunks: {}", body.escape_debug()), bytes);
    }

    for (name, bytes) in [
        ("bare LF", "GET /e HTTP/1.1\nHost: a\nX-Mark: e\n\n".to_owned()),
        ("bare LF in one line", "GET /e HTTP/1.1\r\nHost: a\nX-Mark: e\r\n\r\n".into()),
        ("bare LF at the end", "GET /e HTTP/1.1\r\nHost: a\r\nX-Mark: e\r\n\n".into()),
        ("bare LF before the end", "GET /e HTTP/1.1\r\nHost: a\r\nX-Mark: e\n\r\n".into()),
        ("bare CR", "GET /e HTTP/1.1\rHost: a\rX-Mark: e\r\r".into()),
        ("LF CR", "GET /e HTTP/1.1\n\rHost: a\n\r\n\r".into()),
        ("no Host", "GET /e HTTP/1.1\r\nX-Mark: e\r\n\r\n".into()),
        ("no Host in HTTP/1.0", "GET /e HTTP/1.0\r\nX-Mark: e\r\n\r\n".into()),
        ("many headers", get(&"X: y\r\n".repeat(300))),
        ("a long header", get(&format!("X: {}\r\n", "y".repeat(70_000)))),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000))),
        ("half a head", "GET /e HTTP/1.1\r\nHost: a\r\n".into()),
        ("half a body", post("Content-Length: 20\r\n", "hello")),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".into()),
        ("nothing", String::new()),
    ] {
        add(format!("ends: {name}"), bytes + SMUGGLED);
    }
    cases
}

/// `count` further cases, each made from one of `cases` by a few changes; always the same for a seed.
fn mutations(cases: &[(String, Vec<u8>)], count: usize, seed: u64) -> Vec<(String, Vec<u8>)> {
    const BYTES: &[u8] = b"\r\n\r\n \t\0:;,0129axX-_\x0b\x0c\x7f\xa0\xff/#%\"+";
    let mut state = seed | 1;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let mut made = Vec::new();
    for number in 0..count {
        let (name, bytes) = &cases[random(cases.len())];
        // The request at the end is how it is told who took what for a request.
        let last = bytes.ends_with(SMUGGLED.as_bytes());
        let end = if last { bytes.len() - SMUGGLED.len() } else { bytes.len() };
        let mut bytes = bytes[..end].to_vec();
        if bytes.len() > 2000 {
            continue;
        }
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes.insert(at, BYTES[random(BYTES.len())]),
                1 if !bytes.is_empty() => bytes[at] = BYTES[random(BYTES.len())],
                2 if !bytes.is_empty() => drop(bytes.remove(at)),
                _ => {
                    let end = (at + random(12)).min(bytes.len());
                    let piece = bytes[at.min(end)..end].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        if last {
            bytes.extend_from_slice(SMUGGLED.as_bytes());
        }
        made.push((format!("mutation {seed}/{number} of {name}"), bytes));
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_an_origin_from_us_reaches_it_from_haproxy_or_nginx_or_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (_haproxy, haproxy) = haproxy(directory.path()).await;
    let (_nginx, nginx) = nginx(directory.path()).await;
    let (_strict, strict) = portolan("strict", "strict").await;
    let (_lenient, lenient) = portolan("lenient", "lenient").await;
    let full = std::env::var_os("PORTOLAN_FULL").is_some();
    let mut cases = corpus();
    let fresh =
        || u64::from_ne_bytes(std::process::id().to_ne_bytes().repeat(2).try_into().unwrap());
    let (count, seed) = if full { (20_000, fresh()) } else { (150, 8) };
    let mutated = mutations(&cases, count, seed);
    cases.extend(mutated);
    let cases = Arc::new(cases);

    let servers = Arc::new([haproxy, nginx, strict, lenient]);
    let lanes = (0..LANES).map(|lane| {
        let (cases, servers) = (Arc::clone(&cases), Arc::clone(&servers));
        tokio::spawn(async move {
            let mut told = Vec::new();
            for number in (lane..cases.len()).step_by(LANES) {
                let bytes = &cases[number].1;
                let [haproxy, nginx, strict, lenient] = &*servers;
                let seen = tokio::join!(
                    haproxy.carry(lane, bytes),
                    nginx.carry(lane, bytes),
                    strict.carry(lane, bytes),
                    lenient.carry(lane, bytes),
                );
                told.push((number, seen));
            }
            told
        })
    });
    let mut told = Vec::new();
    for lane in lanes.collect::<Vec<_>>() {
        told.extend(lane.await.unwrap());
    }
    let known = ours_alone();
    let (mut wrong, mut counts) = (String::new(), BTreeMap::new());
    for (number, (haproxy, nginx, strict, lenient)) in told {
        let (case, bytes) = &cases[number];
        for (name, ours) in [("strict", strict), ("lenient", lenient)] {
            let how = match (ours.is_empty(), like(&ours, &haproxy), like(&ours, &nginx)) {
                (true, ..) => "refused",
                (_, true, true) => "as both",
                (_, true, _) => "as haproxy",
                (_, _, true) => "as nginx",
                _ if known.iter().any(|known| case.contains(&**known)) => "known",
                _ => {
                    let sent = String::from_utf8_lossy(bytes);
                    let _ = write!(
                        wrong,
                        "{name}: {case}: {sent:?}\n  ours {ours:?}\n  haproxy {haproxy:?}\n  nginx \
                         {nginx:?}\n"
                    );
                    "unlike both"
                }
            };
            *counts.entry((name, how)).or_insert(0) += 1;
        }
    }
    println!("{} cases: {counts:?}", cases.len());
    assert!(wrong.is_empty(), "{wrong}");
    // The comparison is worth something only where plain requests go through.
    assert!(counts[&("strict", "as both")] > 20, "{counts:?}");
}
