//! Sockets: bound, adopted from who started us, accepted with limits, parked while idle.

pub mod accept;
pub mod adopt;
pub mod listen;
pub mod park;
