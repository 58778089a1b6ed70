//! `check.grpc`: the service `grpc.health.v1.Health` says SERVING.
//!
//! One unary call over HTTP/2, plain with prior knowledge or by TLS. The two messages have one field
//! each (`HealthCheckRequest.service`, a text, and `HealthCheckResponse.status`, an enumeration), so
//! that they are written and read here, without a generator.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Method, Request, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::tracker::Observation;
use super::connect::{authority, connect};
use super::secure::{Secure, TlsConfig};
use super::{Ask, Kind, Target, check_config};

/// Longest message that is read.
const MESSAGE_MAX: usize = 4096;
/// Longest list of headers that is read.
const HEADERS_MAX: u32 = 16 << 10;
/// Longest name of a gRPC service, so that its length is one or two bytes.
const SERVICE_MAX: usize = 255;

check_config! {
    /// `[service.NAME] check.grpc`.
    pub struct Config {
        /// Whose health is asked for. Default: the server's as a whole.
        #[serde(default)]
        pub service: String,
        /// The `:authority`. Default: address and port.
        pub host: Option<String>,
        /// By TLS.
        pub tls: Option<TlsConfig>,
    }
}

/// Calls `Check`.
#[derive(Debug)]
pub(super) struct Probe {
    message: Bytes,
    host: Option<Arc<str>>,
    tls: Option<Secure>,
}

impl Kind for Config {
    type Probe = Probe;

    fn ca_file(&self) -> Option<&Path> {
        self.tls.as_ref()?.ca_file.as_deref()
    }

    fn compile(&self, base_dir: &Path) -> Result<Probe, (&'static str, String)> {
        if self.service.len() > SERVICE_MAX {
            let length = self.service.len();
            return Err(("service", format!("has {length} bytes; the most are {SERVICE_MAX}")));
        }
        if let Some(host) = &self.host
            && host.parse::<http::uri::Authority>().is_err()
        {
            return Err(("host", format!("{host:?} is no host")));
        }
        let tls = self.tls.as_ref().map(|tls| Secure::within(tls, base_dir, &[b"h2"]));
        Ok(Probe {
            message: request(&self.service),
            host: self.host.as_deref().map(Into::into),
            tls: tls.transpose()?,
        })
    }
}

impl Ask for Probe {
    async fn ask(&self, target: &Target, _: Duration) -> Observation {
        let called = match &self.tls {
            None => match connect(target).await {
                Ok(stream) => self.call(stream, target).await,
                Err(failed) => return failed,
            },
            Some(tls) => match tls.connect(target).await {
                Ok(stream) => self.call(stream, target).await,
                Err(failed) => return failed,
            },
        };
        called.unwrap_or_else(|error| Observation::failed(&format!("HTTP/2: {error}")))
    }
}

impl Probe {
    async fn call(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        target: &Target,
    ) -> Result<Observation, h2::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let authority = authority(self.host.as_ref(), target);
        let request = Request::builder()
            .method(Method::POST)
            .version(Version::HTTP_2)
            .uri(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", concat!("portolan/", env!("CARGO_PKG_VERSION")))
            .body(());
        let Ok(request) = request else {
            return Ok(Observation::failed("the address is no :authority"));
        };
        let mut builder = h2::client::Builder::new();
        builder.max_header_list_size(HEADERS_MAX).enable_push(false);
        let (client, connection) = builder.handshake::<_, Bytes>(stream).await?;
        let exchange = async {
            let mut client = client.ready().await?;
            let (response, mut body) = client.send_request(request, false)?;
            body.send_data(self.message.clone(), true)?;
            let (head, mut body) = response.await?.into_parts();
            if head.status != http::StatusCode::OK {
                return Ok(Observation::failed(&format!("HTTP status {}", head.status)));
            }
            let message = message(&mut body).await?;
            let trailers = body.trailers().await?;
            Ok(judge(&head.headers, trailers.as_ref(), &message))
        };
        tokio::select! {
            biased;
            exchanged = exchange => exchanged,
            ended = connection => {
                ended?;
                Ok(Observation::failed("the connection was closed before an answer"))
            }
        }
    }
}

/// The frame of a `HealthCheckRequest`.
fn request(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let length = service.len();
        if length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
        }
        message.put_u8(if length >= 0x80 { (length >> 7) as u8 } else { length as u8 });
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// The body, as far as it is bounded.
async fn message(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut message = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        body.flow_control().release_capacity(piece.len())?;
        if message.len() + piece.len() > MESSAGE_MAX {
            message.clear();
            break;
        }
        message.extend_from_slice(&piece);
    }
    Ok(message)
}

fn judge(head: &HeaderMap, trailers: Option<&HeaderMap>, frame: &[u8]) -> Observation {
    // An answer without a message has its status in the head.
    let field = |name: &str| {
        let found = trailers.and_then(|trailers| trailers.get(name)).or_else(|| head.get(name));
        found.and_then(|value| value.to_str().ok())
    };
    match field("grpc-status") {
        Some("0") => {}
        Some("5") => return Observation::failed("the server does not know this service"),
        Some("12") => return Observation::failed("the server has no health service"),
        Some(code) => {
            let why = field("grpc-message").unwrap_or_default();
            return Observation::failed(&format!("grpc-status {code} {why}"));
        }
        None => return Observation::failed("the answer has no grpc-status"),
    }
    match status(frame) {
        Some(1) => Observation::passed("SERVING"),
        Some(0) => Observation::failed("UNKNOWN"),
        Some(2) => Observation::failed("NOT_SERVING"),
        Some(3) => Observation::failed("SERVICE_UNKNOWN"),
        _ => Observation::failed("the answer is no HealthCheckResponse"),
    }
}

/// The status in the frame of a `HealthCheckResponse`; fields that are not known are left out.
fn status(frame: &[u8]) -> Option<u64> {
    let (prefix, mut message) = frame.split_at_checked(5)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::super::tracker::Outcome;
    use super::*;

    #[test]
    fn a_request_names_the_service_in_its_only_field() {
        assert_eq!(&request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = request(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
    }

    #[test]
    fn an_answer_is_read_with_fields_that_nobody_knows() {
        for (case, message, want) in [
            ("serving", &[8, 1][..], Some(1)),
            ("the default", &[], Some(0)),
            ("others around it", &[0x12, 1, b'x', 8, 2, 0x18, 0x80, 1], Some(2)),
            ("a fixed field", &[0x0d, 1, 2, 3, 4, 8, 1], Some(1)),
            ("cut", &[8], None),
            ("cut text", &[0x12, 9, b'x'], None),
            ("a number without end", &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255], None),
            ("a group", &[0x0b], None),
        ] {
            let mut frame = vec![0, 0, 0, 0, message.len() as u8];
            frame.extend_from_slice(message);
            assert_eq!(status(&frame), want, "{case}");
        }
        assert_eq!(status(&[0, 0, 0, 0, 9, 8, 1]), None, "another length");
        assert_eq!(status(&[1, 0, 0, 0, 2, 8, 1]), None, "compressed");
    }

    #[test]
    fn only_serving_passes_and_every_other_answer_says_why() {
        let serving = [0, 0, 0, 0, 2, 8, 1];
        let status = |code: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", code.parse().unwrap());
            headers
        };
        let none = HeaderMap::new();
        for (case, head, trailers, frame, want) in [
            ("serving", &none, Some(status("0")), &serving[..], "SERVING"),
            ("not serving", &none, Some(status("0")), &[0, 0, 0, 0, 2, 8, 2], "NOT_SERVING"),
            ("unknown", &status("5"), None, &[], "the server does not know this service"),
            ("without", &status("12"), None, &[], "the server has no health service"),
            ("other", &none, Some(status("14")), &[], "grpc-status 14"),
            ("no status", &none, None, &serving, "the answer has no grpc-status"),
            ("garbage", &none, Some(status("0")), &[1], "the answer is no HealthCheckResponse"),
        ] {
            let seen = judge(head, trailers.as_ref(), frame);
            assert_eq!(&*seen.text, want, "{case}");
            assert_eq!(seen.outcome == Outcome::Passed, want == "SERVING", "{case}");
        }
    }
}
