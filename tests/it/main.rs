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
mod descriptors;
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
mod h2;
mod h2_hostile;
mod haproxy_face;
mod hostile_rows;
mod http_answers;
mod http_as_nginx;
mod http_basic_auth;
mod http_beside_nginx;
mod http_beside_others;
mod http_descriptors;
mod http_hostile;
mod http_idle;
mod http_limits;
mod http_limits_retries;
mod http_messages;
mod http_policies;
mod http_registries;
mod http_routing;
mod http_sight;
mod http_slow;
mod http_slowhttptest;
mod http_sticky;
mod http_tunnel;
mod https;
mod https_clients;
mod https_hostile;
mod https_idle;
mod ingress;
mod ingress_borders;
mod ingress_migrate;
mod labels;
mod marathon_checks;
mod marathon_deploy;
mod marathon_fake;
mod marathon_lb_migrate;
mod marathon_link;
mod marathon_names;
mod marathon_payloads;
mod marathon_storm;
mod marathon_tls;
mod marathon_zk;
mod metadata;
mod metrics;
mod origin;
mod outlier;
mod peers;
mod ports;
mod process;
mod proxy_protocol;
mod proxy_protocol_out;
mod reload;
mod render_catalog;
mod render_consul_template;
mod render_crash;
mod render_writing;
mod restart;
mod rig;
mod rolling;
mod rolling_h2;
mod rolling_killed;
mod secure;
mod sni;
mod sni_servers;
mod support;
mod tcp;
mod tcp_services;
mod tcp_stream;
mod tcp_tls;
mod truth;
mod udp;
mod units;
mod upgrade;
mod upgrade_notify;
mod upgrade_refused;
mod upgrade_rights;
mod upstream_h2;
mod upstream_tls;
