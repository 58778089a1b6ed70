//! Black-box tests: the application on real sockets, asked by real clients. One binary, so that
//! everything is linked once and all tests run beside each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed; helpers are tests too, and some tell what they measured"
)]

mod badinput;
mod checks;
mod child;
mod clients;
mod confd;
mod consul_faults;
mod consul_latency;
mod consul_real;
mod consul_storm;
mod dns_beside_consul;
mod dns_clients;
mod dns_container;
mod dns_dialects;
mod dns_express;
mod dns_forward;
mod dns_forwarder;
mod dns_scripted;
mod dns_wire;
mod documents;
mod drain;
mod examples;
mod flow;
mod galera;
mod generations;
mod go_grammar;
mod go_judge;
mod go_limits;
mod go_templates;
mod go_values;
mod http_beside_nginx;
mod http_hostile;
mod http_idle;
mod http_limits;
mod http_limits_retries;
mod http_messages;
mod http_policies;
mod http_routing;
mod http_sight;
mod http_sticky;
mod http_tunnel;
mod metadata;
mod metrics;
mod origin;
mod outlier;
mod peers;
mod process;
mod reload;
mod render_catalog;
mod render_consul_template;
mod render_crash;
mod render_writing;
mod restart;
mod rig;
mod support;
mod tcp;
mod truth;
