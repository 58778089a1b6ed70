//! Sockets: bound, adopted from who started us, accepted with limits, parked while idle; and the
//! way out: an HTTP client with limits.

pub mod accept;
pub mod adopt;
pub mod http;
pub mod listen;
pub mod park;
pub mod post;
pub mod tls;
