//! HAProxy's columns: their order, which never changes, and what kind of value each holds.

/// One column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) name: &'static str,
    /// Origin, nature and scope, one letter each, as `show stat typed` has them.
    pub(super) tag: &'static str,
    pub(super) kind: Kind,
}

/// The type of a value, as `show stat typed` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    U32,
    S32,
    U64,
}

impl Kind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Text => "str",
            Self::U32 => "u32",
            Self::S32 => "s32",
            Self::U64 => "u64",
        }
    }
}

use Kind::{S32, Text, U32, U64};

const fn column(name: &'static str, tag: &'static str, kind: Kind) -> Column {
    Column { name, tag, kind }
}

/// Every column of HAProxy 2.6, in its order. What stands behind `-` belongs to modules of its own and
/// is empty here.
pub(super) const COLUMNS: &[Column] = &[
    column("pxname", "KNS", Text),
    column("svname", "KNS", Text),
    column("qcur", "MGP", U32),
    column("qmax", "MMP", U32),
    column("scur", "MGP", U32),
    column("smax", "MMP", U32),
    column("slim", "CLP", U32),
    column("stot", "MCP", U64),
    column("bin", "MCP", U64),
    column("bout", "MCP", U64),
    column("dreq", "MCP", U64),
    column("dresp", "MCP", U64),
    column("ereq", "MCP", U64),
    column("econ", "MCP", U64),
    column("eresp", "MCP", U64),
    column("wretr", "MCP", U64),
    column("wredis", "MCP", U64),
    column("status", "SGP", Text),
    column("weight", "MaP", U32),
    column("act", "SGP", U32),
    column("bck", "SGP", U32),
    column("chkfail", "MCP", U64),
    column("chkdown", "MCP", U64),
    column("lastchg", "MAP", U32),
    column("downtime", "MCP", U32),
    column("qlimit", "CLS", U32),
    column("pid", "KGP", U32),
    column("iid", "KGS", U32),
    column("sid", "KGS", U32),
    column("throttle", "CGS", U32),
    column("lbtot", "MCP", U64),
    column("tracked", "CNS", Text),
    column("type", "CGS", U32),
    column("rate", "MRP", U32),
    column("rate_lim", "CLP", U32),
    column("rate_max", "MMP", U32),
    column("check_status", "MOP", Text),
    column("check_code", "MOP", U32),
    column("check_duration", "MDP", U64),
    column("hrsp_1xx", "MCP", U64),
    column("hrsp_2xx", "MCP", U64),
    column("hrsp_3xx", "MCP", U64),
    column("hrsp_4xx", "MCP", U64),
    column("hrsp_5xx", "MCP", U64),
    column("hrsp_other", "MCP", U64),
    column("hanafail", "MCP", U64),
    column("req_rate", "MRP", U32),
    column("req_rate_max", "MMP", U32),
    column("req_tot", "MCP", U64),
    column("cli_abrt", "MCP", U64),
    column("srv_abrt", "MCP", U64),
    column("comp_in", "MCP", U64),
    column("comp_out", "MCP", U64),
    column("comp_byp", "MCP", U64),
    column("comp_rsp", "MCP", U64),
    column("lastsess", "MAP", S32),
    column("last_chk", "MOP", Text),
    column("last_agt", "MCP", U64),
    column("qtime", "MaP", U32),
    column("ctime", "MaP", U32),
    column("rtime", "MaP", U32),
    column("ttime", "MaP", U32),
    column("agent_status", "MOP", Text),
    column("agent_code", "MOP", Text),
    column("agent_duration", "MOP", Text),
    column("check_desc", "MOP", Text),
    column("agent_desc", "MOP", Text),
    column("check_rise", "CGS", U32),
    column("check_fall", "CGS", U32),
    column("check_health", "CGS", U32),
    column("agent_rise", "MOP", Text),
    column("agent_fall", "MOP", Text),
    column("agent_health", "MOP", Text),
    column("addr", "CGS", Text),
    column("cookie", "CNS", Text),
    column("mode", "CGS", Text),
    column("algo", "CGS", Text),
    column("conn_rate", "MRP", U32),
    column("conn_rate_max", "MMP", U32),
    column("conn_tot", "MCP", U64),
    column("intercepted", "MCP", U64),
    column("dcon", "MCP", U64),
    column("dses", "MCP", U64),
    column("wrew", "MCP", U64),
    column("connect", "MCP", U64),
    column("reuse", "MCP", U64),
    column("cache_lookups", "MCP", U64),
    column("cache_hits", "MCP", U64),
    column("srv_icur", "MGP", U32),
    column("src_ilim", "CLP", U32),
    column("qtime_max", "MMP", U32),
    column("ctime_max", "MMP", U32),
    column("rtime_max", "MMP", U32),
    column("ttime_max", "MMP", U32),
    column("eint", "MCP", U64),
    column("idle_conn_cur", "MGP", U32),
    column("safe_conn_cur", "MGP", U32),
    column("used_conn_cur", "MGP", U32),
    column("need_conn_est", "MGP", U32),
    column("uweight", "MaP", U32),
    column("agg_server_status", "MGP", U32),
    column("agg_server_check_status", "MGP", U32),
    column("agg_check_status", "MGP", U32),
    column("-", "MCP", U64),
    column("ssl_sess", "MCP", U64),
    column("ssl_reused_sess", "MCP", U64),
    column("ssl_failed_handshake", "MCP", U64),
    column("h2_headers_rcvd", "MCP", U64),
    column("h2_data_rcvd", "MCP", U64),
    column("h2_settings_rcvd", "MCP", U64),
    column("h2_rst_stream_rcvd", "MCP", U64),
    column("h2_goaway_rcvd", "MCP", U64),
    column("h2_detected_conn_protocol_errors", "MCP", U64),
    column("h2_detected_strm_protocol_errors", "MCP", U64),
    column("h2_rst_stream_resp", "MCP", U64),
    column("h2_goaway_resp", "MCP", U64),
    column("h2_open_connections", "MCP", U64),
    column("h2_backend_open_streams", "MCP", U64),
    column("h2_total_connections", "MCP", U64),
    column("h2_backend_total_streams", "MCP", U64),
    column("h1_open_connections", "MCP", U64),
    column("h1_open_streams", "MCP", U64),
    column("h1_total_connections", "MCP", U64),
    column("h1_total_streams", "MCP", U64),
    column("h1_bytes_in", "MCP", U64),
    column("h1_bytes_out", "MCP", U64),
    column("h1_spliced_bytes_in", "MCP", U64),
    column("h1_spliced_bytes_out", "MCP", U64),
];

/// Where the column called `name` stands; behind the last one if there is none.
pub(super) const fn at(name: &str) -> usize {
    let mut at = 0;
    while at < COLUMNS.len() && !same(COLUMNS[at].name.as_bytes(), name.as_bytes()) {
        at += 1;
    }
    at
}

const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// How many columns there are before those of modules.
pub(super) const OWN: usize = at("-");

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_column_stands_once_and_where_haproxy_has_it() {
        let names: HashSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        for (name, place) in [
            ("pxname", 0),
            ("svname", 1),
            ("scur", 4),
            ("status", 17),
            ("type", 32),
            ("rate", 33),
            ("lastsess", 55),
            ("mode", 75),
            ("agg_check_status", 102),
        ] {
            assert_eq!(at(name), place, "{name}");
        }
        assert_eq!((OWN, COLUMNS.len()), (103, 128));
    }
}
