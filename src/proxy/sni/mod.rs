//! TLS that is not terminated here, or only by some routes: what a client's hello asks for decides
//! where its bytes go, those of the hello first, unchanged.
//!
//! [`Routes`] decide, `arrive` reads; what is carried then is carried by [`super::tcp`].

mod arrive;
mod routes;
mod unfit;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::front;
use super::route::Target;
use super::sticky::Visit;
use super::table::{Listener, ProxyTable};
use super::tcp::{self, Course, Incoming, TcpService};
use crate::net::stream::Stream;
use crate::net::tls::hello::Hello;
use crate::net::tls::{Handshakes, Secured, say_alert, say_plainly};
use crate::random;

use arrive::Arrived;
pub use routes::{Route, Routes};
pub(super) use unfit::unfit;

/// Nobody is known by the name that was asked for (RFC 6066 §3).
const UNRECOGNIZED_NAME: u8 = 112;
/// The client is not let in (RFC 8446 §6.2).
const ACCESS_DENIED: u8 = 49;

/// What the connections of one `tls` listener share within one worker.
#[derive(Debug)]
pub struct SniService {
    /// Who carries.
    pub tcp: Arc<TcpService>,
    /// Handshakes, for routes that terminate.
    pub handshakes: Arc<Handshakes>,
}

/// What becomes of a connection whose hello was read.
enum Verdict {
    /// It goes there; over TLS that ends here, if so.
    Goes(Box<Course>, Option<Arc<Secured>>),
    /// No route takes it.
    Unmatched,
    /// Its route does not let this client in.
    Denied,
    /// A reload took the listener away just now.
    Gone,
}

/// Reads the hello of a connection, finds its route and carries it there. Whoever says nothing that
/// can be understood in time, or asks for what nobody is known by, is told so by an alert, closed and
/// counted.
pub async fn serve(service: Arc<SniService>, came: front::Arrived) {
    let front::Arrived { mut stream, peer, told } = came;
    let tcp = &service.tcp;
    let (patience, max) = {
        let table = tcp.current.load();
        let Some(listener) = table.listener(&tcp.name) else { return };
        let Listener::Tls { config, .. } = &**listener else { return };
        (config.timeouts.hello.0, config.hello_max.0 as usize)
    };
    // Boxed: what reading needs goes with its end, while the connection may be long.
    let arriving = Box::pin(arrive::hello(&stream, max));
    let arrived = timeout(patience, arriving).await;
    let Arrived { opening, reader } = match arrived.unwrap_or(Err(arrive::Vain::Timeout)) {
        Ok(arrived) => arrived,
        Err(vain) => return refuse(tcp, &mut stream, peer, vain).await,
    };
    let hello = match reader.hello() {
        Ok(hello) => hello,
        Err(error) => return refuse(tcp, &mut stream, peer, error.into()).await,
    };
    let verdict = decide(&tcp.current.load(), &tcp.name, &hello, peer);
    let (result, alert) = match &verdict {
        Verdict::Goes(..) => ("routed", None),
        Verdict::Unmatched => ("unmatched", Some(UNRECOGNIZED_NAME)),
        Verdict::Denied => ("denied", Some(ACCESS_DENIED)),
        Verdict::Gone => return,
    };
    tcp.metrics.hello(result);
    if let Some(alert) = alert {
        let (listener, name) = (&*tcp.name, hello.name.unwrap_or_default());
        tracing::debug!(listener, %peer, result, name, "a TLS connection is refused");
        return say_alert(&mut stream, alert).await;
    }
    drop(reader);
    let Verdict::Goes(course, secured) = verdict else { return };
    let Some(secured) = secured else {
        let incoming = Incoming { stream: Stream::Plain(stream), peer, told, opening };
        return tcp::serve(Arc::clone(tcp), incoming, &course).await;
    };
    let shaken = service.handshakes.shake(&secured, stream, &opening, peer).await;
    drop((secured, opening));
    if let Some(stream) = shaken {
        let incoming = Incoming { stream, peer, told, opening: Vec::new() };
        tcp::serve(Arc::clone(tcp), incoming, &course).await;
    }
}

/// Where the client at `peer` goes that says `hello` to the listener called `name`.
fn decide(table: &ProxyTable, name: &str, hello: &Hello<'_>, peer: SocketAddr) -> Verdict {
    let Some(listener) = table.listener(name) else { return Verdict::Gone };
    let Listener::Tls { config, routes } = &**listener else { return Verdict::Gone };
    let Some(route) = routes.find(hello, peer.ip()) else { return Verdict::Unmatched };
    if !route.access.admits(peer.ip()) {
        return Verdict::Denied;
    }
    let sticky = route.config.sticky.as_ref().or(config.sticky.as_ref());
    let target = match &route.target {
        Target::Split(split) => {
            let bound = || {
                let mut visit = Visit::of(table, sticky, peer.ip())?;
                visit.bound(table, split.services()).map(|(number, _)| number)
            };
            let usable = |wanted: &_| {
                table.upstream(wanted).is_some_and(|upstream| !upstream.endpoints.is_empty())
            };
            let chosen = bound().or_else(|| split.choose(random::bits(), usable));
            // Nobody can serve it: it is the business of the first one to say so.
            split.service(chosen.unwrap_or_default())
        }
        other => other.service(0),
    };
    // The last is never so: other targets are refused with the configuration.
    let Some(target) = target else { return Verdict::Unmatched };
    let secured = table.secured(name).filter(|_| route.config.terminate).cloned();
    if route.config.terminate && secured.is_none() {
        return Verdict::Gone;
    }
    tracing::debug!(
        listener = name, %peer, route = &*route.name, name = hello.name.unwrap_or_default(),
        "a TLS connection has its route"
    );
    let course = Course {
        target: target.clone(),
        timeouts: config.timeouts.carried(),
        sticky: sticky.cloned(),
        sealed: secured.is_none(),
    };
    Verdict::Goes(Box::new(course), secured)
}

/// Tells a client why it is closed, as far as there is a word for it.
async fn refuse(
    service: &TcpService,
    stream: &mut TcpStream,
    peer: SocketAddr,
    vain: arrive::Vain,
) {
    let result = vain.word();
    service.metrics.hello(result);
    tracing::debug!(listener = &*service.name, %peer, result, why = %vain, "no hello of TLS came");
    match vain {
        arrive::Vain::Plain => say_plainly(stream).await,
        arrive::Vain::Hello(error) => say_alert(stream, error.alert()).await,
        arrive::Vain::Timeout | arrive::Vain::Closed(_) => {}
    }
}
