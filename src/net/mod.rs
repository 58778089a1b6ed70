//! Sockets: bound, adopted from who started us, accepted with limits, parked while idle; and the
//! way out: an HTTP client with limits.

pub mod accept;
pub mod adopt;
pub mod clients;
pub mod flows;
pub mod handover;
pub mod http;
pub mod listen;
pub mod mmsg;
pub mod notify;
pub mod park;
pub mod post;
pub mod proxy_protocol;
pub mod ready;
pub mod spare;
pub mod stream;
pub mod tls;
pub mod unix;
