//! Black-box tests: the application on real sockets, asked by real clients. One binary, so that
//! everything is linked once and all tests run beside each other.

mod dns_forward;
mod dns_wire;
mod http_beside_nginx;
mod http_hostile;
mod http_idle;
mod http_limits;
mod http_messages;
mod http_tunnel;
mod origin;
mod peers;
mod rig;
mod documents;
mod examples;
mod support;
mod tcp;
