//! In nginx's place: a real nginx, configured as is usual before an application, and Portolan,
//! configured to do the same, in front of the same origins, which record what they get.
//!
//! That a download under `limit_rate` takes as long behind both is shown in `http_limits_retries`,
//! what trusted proxies say in `http_beside_nginx`, and the access log in `http_sight`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan::catalog::model::Weight;
use portolan::catalog::{Instance, SourceService};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::origin::{Exchange, OK, Origin};
use crate::peers::{own_address, serving, start};
use crate::rig::{Client, Rig, header, instance, service};

/// Without a byte for so long, both cut a tunnel.
const MUTE: Duration = Duration::from_secs(2);

/// What a user of nginx writes for it.
const PORTOLAN: &str = r#"
[node]
workers = 1

[listener.web.http]
bind = ["127.0.0.1:0"]
trusted_proxies = ["0.0.0.0/0"]     # whoever comes: $proxy_add_x_forwarded_for adds to what they say
timeouts = { read = "2s", tunnel = "2s" }

[route.all]
listener = "web"
service = "u"
limit_rate = "1MiB"

[route.all.request_headers]
remove = ["X-Forwarded-Host"]
set = { Host = "$host", X-Forwarded-Proto = "$scheme", X-Forwarded-Port = "$server_port" }

[service.u]
policy = "round-robin"
keep_alive = 200
"#;

/// The same before two origins. Without `''` in the map, as it is often seen, nginx would say `close`
/// to its endpoints, and `keepalive` would be for nothing.
fn nginx_conf(at: SocketAddr, heavy: SocketAddr, light: SocketAddr) -> String {
    format!(
        "daemon off;\nmaster_process off;\nerror_log stderr warn;\npid nginx.pid;\nevents {{}}\n\
         http {{\naccess_log off;\nclient_body_temp_path body;\nproxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi;\nuwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         upstream u {{ server {heavy} weight=10; server {light}; keepalive 200; }}\n\
         server {{ listen {at}; location / {{\n\
         proxy_pass http://u;\nproxy_http_version 1.1;\n\
         proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-Proto $scheme;\n\
         proxy_set_header X-Forwarded-Port $server_port;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection $connection_upgrade;\n\
         proxy_read_timeout 2s;\nlimit_rate 1m;\n\
         }} }}\n}}\n"
    )
}

/// Both of them, before a heavy and a light origin.
struct Pair {
    origins: [Origin; 2],
    rig: Rig,
    nginx_at: SocketAddr,
    portolan_at: SocketAddr,
    _nginx: Child,
    _directory: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let origins = [Origin::start(answer).await, Origin::start(answer).await];
        let [heavy, light] = [&origins[0], &origins[1]].map(|origin| origin.address);
        let weighed = |address: SocketAddr, weight: i64| {
            let weight = Weight::try_from(weight).unwrap();
            Arc::new(Instance { weight, ..instance(&address.to_string(), address) })
        };
        let instances = vec![weighed(heavy, 10), weighed(light, 1)];
        let told = SourceService { instances, ..service("u", &[]) };
        let rig = Rig::start(PORTOLAN, vec![told]).await;
        let portolan_at = rig.address("web").await;
        // The same port, so that both tell the same one.
        let mut nginx_at = own_address();
        nginx_at.set_port(portolan_at.port());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, nginx_conf(nginx_at, heavy, light)).unwrap();
        let mut nginx =
            start(Command::new("nginx").arg("-p").arg(directory.path()).arg("-c").arg(file));
        serving(&mut nginx, nginx_at).await;
        Self { origins, rig, nginx_at, portolan_at, _nginx: nginx, _directory: directory }
    }

    /// The head that an origin got of the last request, and forgets.
    fn told(&self) -> Told {
        let text: String = self.origins.iter().map(Origin::text).collect();
        self.origins.iter().for_each(Origin::forget);
        let (head, _) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let (line, lines) = head.split_once("\r\n").unwrap_or((head, ""));
        let mut told = Told::from([("(request line)".to_owned(), vec![line.to_owned()])]);
        for line in lines.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').unwrap();
            told.entry(name.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
        }
        told
    }
}

/// Lines by their name in lower case, values of one name in their order; the first line too.
type Told = BTreeMap<String, Vec<String>>;

/// Answers every request, and makes a mute tunnel for those who want a WebSocket.
async fn answer(mut exchange: Exchange) -> Option<()> {
    loop {
        let request = exchange.request().await?;
        if header(&request, "upgrade") == Some("websocket") {
            let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                             Upgrade: websocket\r\n\r\n";
            exchange.send(switching).await?;
            return exchange.rest().await;
        }
        let head_only = request.starts_with("HEAD ");
        exchange.send(if head_only { OK.trim_end_matches("ok") } else { OK }).await?;
    }
}

const REQUESTS: [(&str, &str); 24] = [
    (
        "plain",
        "GET /a/b?c=d HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
    ),
    (
        "odd headers",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nx-lower: 1\r\nX-SHOUT: 2\r\nX-Blank:  \t in the midst  \t\r\n\
         X-Latin: caf\u{e9}\r\nX-Long: 0123456789012345678901234567890123456789\r\n\r\n",
    ),
    (
        "repeated headers",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Many: 1\r\nAccept: a\r\nX-Many: 2\r\nAccept: b, c\r\n\
         x-many: 3\r\nVia: 1.1 one\r\nVia: 1.1 two\r\n\r\n",
    ),
    ("an underscore", "GET / HTTP/1.1\r\nHost: a\r\nX_Odd: 1\r\n\r\n"),
    ("a dot", "GET / HTTP/1.1\r\nHost: a\r\nX.Odd: 1\r\n\r\n"),
    ("a chain", "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n\r\n"),
    (
        "chains",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n",
    ),
    (
        "what a client says of itself",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\n\
         X-Forwarded-Host: b\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n\r\n",
    ),
    ("a port in Host", "GET / HTTP/1.1\r\nHost: Shop.Example:8080\r\n\r\n"),
    ("an IPv6 Host", "GET / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n"),
    (
        "a length",
        "POST /form HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    ),
    ("a length of 0", "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
    (
        "chunks",
        "POST /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("HTTP/1.0", "GET /old HTTP/1.0\r\nHost: a\r\nAccept: */*\r\n\r\n"),
    ("HTTP/1.0 without Host", "GET /old HTTP/1.0\r\n\r\n"),
    ("HTTP/1.0, kept", "GET /old HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
    ("HEAD", "HEAD / HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n"),
    (
        "a WebSocket",
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: http://a\r\n\r\n",
    ),
    ("the last one", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    (
        "hop by hop",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, keep-alive\r\nFoo: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\n\r\n",
    ),
    ("TE", "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers, deflate\r\n\r\n"),
    (
        "100-continue",
        "POST /form HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    ),
    (
        "cookies",
        "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=2\r\nAuthorization: Basic YTpi\r\nCookie: c=3\r\n\r\n",
    ),
    (
        "an absolute target",
        "GET http://shop.example:80/x?z HTTP/1.1\r\nHost: shop.example:80\r\n\r\n",
    ),
];

/// One header of one request that the origin gets in two ways, and why that is so.
struct Difference {
    case: &'static str,
    name: &'static str,
    nginx: &'static [&'static str],
    portolan: &'static [&'static str],
    #[expect(dead_code, reason = "for those who read the table")]
    why: &'static str,
}

const DIFFERENCES: &[Difference] = &[
    Difference {
        case: "an underscore",
        name: "x_odd",
        nginx: &[],
        portolan: &["1"],
        why: "nginx drops names with anything but letters, digits and hyphens in silence; \
              we carry every name that HTTP has, and refuse those that imitate framing",
    },
    Difference { case: "a dot", name: "x.odd", nginx: &[], portolan: &["1"], why: "the same" },
    Difference {
        case: "what a client says of itself",
        name: "x-forwarded-host",
        nginx: &["b"],
        portolan: &[],
        why: "nginx passes on what anybody says; we tell it ourselves, or nothing, as \
              here",
    },
    Difference {
        case: "chunks",
        name: "content-length",
        nginx: &["5"],
        portolan: &[],
        why: "nginx reads the whole body before it connects; we pass on what comes while \
              it comes",
    },
    Difference {
        case: "chunks",
        name: "transfer-encoding",
        nginx: &[],
        portolan: &["chunked"],
        why: "the same",
    },
    Difference {
        case: "a WebSocket",
        name: "connection",
        nginx: &["upgrade"],
        portolan: &["Upgrade"],
        why: "the case of a word that has none (RFC 9110 §7.6.1)",
    },
    Difference {
        case: "hop by hop",
        name: "foo",
        nginx: &["1"],
        portolan: &[],
        why: "what Connection names is for the next hop only (RFC 9110 §7.6.1)",
    },
    Difference {
        case: "hop by hop",
        name: "proxy-connection",
        nginx: &["keep-alive"],
        portolan: &[],
        why: "a line for the next hop that no standard knows (RFC 9110 §7.6.1)",
    },
    Difference {
        case: "100-continue",
        name: "expect",
        nginx: &[],
        portolan: &["100-continue"],
        why: "nginx says 100 by itself, whatever the endpoint will say; we let the \
              endpoint say it, before the body is sent",
    },
];

#[tokio::test]
async fn an_origin_is_told_what_nginx_tells_it() {
    let pair = Pair::start().await;
    let mut found = BTreeMap::new();
    for (case, request) in REQUESTS {
        let mut told = Vec::new();
        for address in [pair.nginx_at, pair.portolan_at] {
            let mut client = Client::connect(address).await;
            // Bytes of Latin-1, as clients send them.
            client.send(request.chars().map(|c| c as u8).collect::<Vec<_>>()).await;
            let method = request.split(' ').next().unwrap();
            let mut answer = client.answer_to(method).await;
            while answer.status == 100 {
                answer = client.answer_to(method).await;
            }
            let want = if case == "a WebSocket" { 101 } else { 200 };
            assert_eq!(answer.status, want, "{case} by {address}: {answer:?}");
            told.push(pair.told());
        }
        let (portolan, nginx) = (told.pop().unwrap(), told.pop().unwrap());
        let names: BTreeSet<&String> = nginx.keys().chain(portolan.keys()).collect();
        for name in names {
            let of = |told: &Told| told.get(name).cloned().unwrap_or_default();
            let (of_nginx, of_portolan) = (of(&nginx), of(&portolan));
            if of_nginx != of_portolan {
                found.insert((case, name.clone()), (of_nginx, of_portolan));
            }
        }
    }
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    let known = DIFFERENCES.iter().map(|known| {
        let values: (Vec<String>, Vec<String>) = (owned(known.nginx), owned(known.portolan));
        ((known.case, known.name.to_owned()), values)
    });
    let known: BTreeMap<_, _> = known.collect();
    assert_eq!(found, known, "what nginx tells, and what Portolan does; then what is known of it");
}

#[tokio::test]
async fn turns_go_by_weight_and_connections_are_kept_as_by_nginx() {
    const REQUESTS: usize = 220;
    let pair = Pair::start().await;
    for (who, address) in [("nginx", pair.nginx_at), ("Portolan", pair.portolan_at)] {
        let before = [0, 1].map(|origin: usize| pair.origins[origin].received().len());
        pair.origins.iter().for_each(Origin::forget);
        for _ in 0..REQUESTS {
            let mut client = Client::connect(address).await;
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
            assert_eq!(client.answer().await.status, 200, "{who}");
        }
        let got = [0, 1].map(|origin: usize| pair.origins[origin].text().matches("GET / ").count());
        let made =
            [0, 1].map(|origin: usize| pair.origins[origin].received().len() - before[origin]);
        println!("{who}: {got:?} requests by {made:?} connections");
        assert_eq!(got[0] + got[1], REQUESTS, "{who}");
        assert!(got[0].abs_diff(REQUESTS / 11 * 10) <= 1, "{who}: {got:?}");
        assert!(made.iter().all(|made| *made <= 3), "{who}: {made:?} connections");
    }
    drop(pair.rig);
}

#[tokio::test]
async fn a_mute_websocket_is_cut_at_the_time_at_which_nginx_cuts_it() {
    let pair = Pair::start().await;
    let mute = async |address| {
        let mut client = Client::connect(address).await;
        let upgrade =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        client.send(upgrade).await;
        assert_eq!(client.answer().await.status, 101);
        let began = Instant::now();
        assert_eq!(client.rest().await, b"");
        began.elapsed()
    };
    let (nginx, portolan) = tokio::join!(mute(pair.nginx_at), mute(pair.portolan_at));
    println!("a mute WebSocket is cut after {nginx:?} by nginx, {portolan:?} by Portolan");
    for (who, after) in [("nginx", nginx), ("Portolan", portolan)] {
        let off = after.as_secs_f64() / MUTE.as_secs_f64();
        assert!((0.9..=1.1).contains(&off), "{who}: {after:?} instead of {MUTE:?}");
    }
}
