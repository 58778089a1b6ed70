//! `show servers state` and `show servers conn`.

use std::fmt::Write as _;

use super::model::{Proxy, Server, Stats, Status};

/// Names of the columns of `show servers state`, of its form 1.
const STATE: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
     srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health \
     srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord \
     srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port";
/// And of `show servers conn`.
const CONN: &str = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est \
     unsafe_nb safe_nb idle_lim idle_cur idle_per_thr[1]";

/// How the servers stand, of one proxy or of all.
pub(super) fn state(stats: &Stats, proxy: Option<&Proxy>) -> String {
    let mut text = format!("1\n{STATE}\n");
    each(stats, proxy, |proxy, server| {
        let (running, admin) = match server.status {
            Status::Up | Status::Unchecked => (2, 0),
            Status::Drain => (2, 8),
            Status::Down => (0, 0),
            Status::Maintenance => (0, 1),
        };
        // Numbers of the check's result, of how it stands, and of what it is set to.
        let (status, result, health, set) = match (&server.check, server.status) {
            (None, _) => (1, 0, 2, 0),
            (Some(_), Status::Down) => (8, 2, 0, 6),
            (Some(_), _) => (6, 3, 4, 6),
        };
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "{} {} {} {} {} {running} {admin} {} {} {} {status} {result} {health} {set} 0 0 0 - {} - 0 0 - - 0",
            proxy.id,
            proxy.name,
            server.id,
            server.name,
            server.address.ip(),
            server.weight.0,
            server.weight.1,
            server.changed.as_secs(),
            server.address.port(),
        );
    });
    text
}

/// What runs at the servers, of one proxy or of all.
pub(super) fn connections(stats: &Stats, proxy: Option<&Proxy>) -> String {
    let mut text = format!("{CONN}\n");
    each(stats, proxy, |proxy, server| {
        let _ = writeln!(
            text,
            "{}/{} {}/{} {} {} - 0 {} {} 0 0 0 -1 0 0",
            proxy.name,
            server.name,
            proxy.id,
            server.id,
            server.address.ip(),
            server.address.port(),
            server.work.now,
            server.work.most,
        );
    });
    text
}

fn each(stats: &Stats, proxy: Option<&Proxy>, mut tell: impl FnMut(&Proxy, &Server)) {
    let wanted = |other: &&Proxy| proxy.is_none_or(|proxy| proxy.id == other.id);
    for proxy in stats.proxies.iter().filter(wanted) {
        proxy.servers.iter().for_each(|server| tell(proxy, server));
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_line_has_as_many_columns_as_the_header() {
        let stats = samples::stats();
        for text in [state(&stats, None), connections(&stats, None)] {
            let mut lines = text.lines().filter(|line| *line != "1");
            let columns = lines.next().unwrap().split(' ').skip(1).count();
            let rows: Vec<&str> = lines.collect();
            assert_eq!(rows.len(), 2);
            for row in rows {
                assert_eq!(row.split(' ').count(), columns, "{row}");
            }
        }
    }

    #[test]
    fn maintenance_drain_and_weights_are_told() {
        let stats = samples::stats();
        let text = state(&stats, Some(&stats.proxies[0]));
        assert!(text.contains("\n2 app 1 s1 10.0.0.1 2 0 10 20 7 6 3 4 6 "), "{text}");
        assert!(text.contains("\n2 app 2 s2 10.0.0.1 0 1 10 20 7 1 0 2 0 "), "{text}");
        assert_eq!(state(&stats, Some(&stats.proxies[1])).lines().count(), 2);
    }
}
