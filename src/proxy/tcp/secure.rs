//! The end towards an endpoint, in the clear or over TLS.

use std::io;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::super::out::secure::{Secure, in_words};
use super::super::upstream::Endpoint;
use super::Course;
use crate::net::stream::Stream;

/// A connection to an endpoint.
#[derive(Debug)]
pub(super) enum Socket {
    /// What is sent is what is seen on the wire.
    Plain(TcpStream),
    /// The handshake is over. Boxed: the state of TLS is much larger than a socket.
    Tls(Box<TlsStream<TcpStream>>),
}

/// How an endpoint is spoken to.
#[derive(Debug)]
pub(super) struct Manner<'a> {
    /// By TLS, if so.
    pub(super) tls: Option<&'a Secure>,
    /// What is offered by ALPN: what was agreed on with the client, for that is inside.
    protocol: Option<Vec<u8>>,
}

impl<'a> Manner<'a> {
    /// How `endpoint` is spoken to about what comes from `client`.
    pub(super) fn of(endpoint: &'a Endpoint, course: &Course, client: &Stream) -> Self {
        let tls = endpoint.way.tls.as_deref().filter(|_| !course.sealed);
        let protocol = client.protocol().filter(|_| tls.is_some());
        Self { tls, protocol: protocol.map(<[u8]>::to_vec) }
    }
}

/// What the end of a connection says about TLS to its endpoint, which broke it by `fault` if so: with
/// TLS 1.3 one may say only then that it does not like our certificate.
pub(super) fn ended(endpoint: &Endpoint, course: &Course, fault: Option<&io::Error>) {
    let Some(secure) = endpoint.way.tls.as_deref().filter(|_| !course.sealed) else { return };
    match fault {
        None => secure.succeeded(endpoint.address),
        Some(error) if error.kind() == io::ErrorKind::InvalidData => {
            secure.failed(endpoint.address, &in_words(error));
        }
        Some(_) => {}
    }
}

impl Socket {
    /// The socket, to look at it and to set its options.
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Shakes hands over `tcp` if that is the manner, and sends `opening`; the first trouble with an
    /// endpoint is told.
    pub(super) async fn over(
        tcp: TcpStream,
        endpoint: &Endpoint,
        manner: Manner<'_>,
        opening: &[u8],
    ) -> io::Result<Self> {
        let Some(secure) = manner.tls else { return Ok(Self::Plain(tcp)) };
        let shaken = secure.shake_for(tcp, endpoint.address, manner.protocol.as_deref()).await;
        let mut tls = shaken.map_err(|why| {
            secure.failed(endpoint.address, &why);
            io::Error::new(io::ErrorKind::ConnectionAborted, why)
        })?;
        if !opening.is_empty() {
            tls.write_all(opening).await?;
            tls.flush().await?;
        }
        Ok(Self::Tls(Box::new(tls)))
    }
}
