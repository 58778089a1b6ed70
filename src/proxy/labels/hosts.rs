//! The labels that say in which mode a port is carried, and on which virtual hosts, paths and places
//! among other routes.

use super::config::MarathonLbConfig;
use super::extras::Cost;
use super::paths::Paths;
use super::target::App;
use super::wish::{Reading, Wish, cut};
use crate::proxy::config::RouteConfig;
use crate::proxy::route;

/// Weights are within this of 0.
const WEIGHT_MAX: i64 = 1_000_000;

impl Reading<'_, '_> {
    pub(super) fn mode_and_hosts(
        &mut self,
        config: &MarathonLbConfig,
        app: &App<'_>,
        wish: &mut Wish,
    ) {
        let hosts = self.get("VHOST").unwrap_or_default().to_lowercase();
        // A check that is by HTTP counts above the label (as marathon-lb has it since 1.11), be it that
        // of the port to be checked instead.
        let checked = self.get("BACKEND_HEALTHCHECK_PORT_INDEX");
        let other = checked.map(|text| text.trim().parse::<usize>());
        if matches!(other, Some(Err(_))) {
            self.tell(Cost::Told, "BACKEND_HEALTHCHECK_PORT_INDEX", "is no index of a port");
        }
        let other = other.and_then(Result::ok);
        let by_check = app.checked_by_http(self.index)
            || other.is_some_and(|other| app.checked_by_http(other));
        let mode = self.get("MODE").map(str::to_lowercase);
        wish.http = match mode.as_deref() {
            _ if by_check => true,
            Some("http") => true,
            Some("tcp") => false,
            Some(other) => {
                let what = format!("{:?} is neither tcp nor http", cut(other));
                self.tell(Cost::Port, "MODE", &what);
                true
            }
            None => !hosts.trim().is_empty(),
        };
        if hosts.trim().is_empty() {
            if self.get("PATH").is_some() {
                self.tell(Cost::Told, "PATH", "means nothing without HAPROXY_{n}_VHOST");
            }
            return;
        }
        if !wish.http {
            self.tell(Cost::Hosts, "VHOST", "needs HTTP, and HAPROXY_{n}_MODE says tcp");
            return;
        }
        self.hosts(config, &hosts, wish);
        match self.get("PATH").map(Paths::read) {
            Some(Ok(paths)) => wish.paths = Some(paths),
            // Without it the whole host would be taken.
            Some(Err(what)) => {
                self.tell(Cost::Hosts, "PATH", &format!("{what}; no virtual host is served"));
            }
            None => {}
        }
    }

    fn hosts(&mut self, config: &MarathonLbConfig, text: &str, wish: &mut Wish) {
        let hosts = text.split(',').map(str::trim).filter(|host| !host.is_empty());
        let mut refused = 0;
        for host in hosts {
            if wish.hosts.iter().any(|known| known == host) {
                continue;
            }
            if wish.hosts.len() >= config.hosts_max {
                refused += 1;
                continue;
            }
            let mut wrong = None;
            let probe = RouteConfig { host: Some(host.to_owned()), ..RouteConfig::default() };
            let known = route::host(&probe, &mut |_, what| wrong = Some(what));
            match (known, wrong) {
                (Some(route::HostRule::Exact(_)), None) => wish.hosts.push(host.to_owned()),
                (Some(_), _) => {
                    let what = format!(
                        "{:?} is taken as it is written by marathon-lb, so that nothing matches; \
                         write a [route] with host = \"*.…\"",
                        cut(host)
                    );
                    self.tell(Cost::Told, "VHOST", &what);
                }
                (None, what) => self.tell(Cost::Told, "VHOST", &what.unwrap_or_default()),
            }
        }
        if refused > 0 {
            let max = config.hosts_max;
            let what = format!(
                "{refused} hosts are beyond the first {max}; raise hosts_max in [labels.marathon-lb]"
            );
            self.tell(Cost::Told, "VHOST", &what);
        }
    }

    /// A path makes a weight of 1 of one of 0.
    pub(super) fn weight(&mut self, path: bool) -> i32 {
        let text = self.get("BACKEND_WEIGHT").map(str::trim);
        let weight = match text.map(str::parse::<i64>) {
            Some(Ok(weight)) => weight.clamp(-WEIGHT_MAX, WEIGHT_MAX),
            Some(Err(_)) => {
                self.tell(Cost::Told, "BACKEND_WEIGHT", "is no whole number, and counts as 0");
                0
            }
            None => 0,
        };
        // Within WEIGHT_MAX.
        if weight == 0 && path { 1 } else { weight as i32 }
    }
}
