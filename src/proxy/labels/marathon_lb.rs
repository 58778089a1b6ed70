//! Which ports of an app the balancer serves, by groups and `ENABLED`.

use std::collections::BTreeSet;

use super::Labelled;
use super::config::MarathonLbConfig;
use super::fragments::Port;
use super::known::{All, truth};
use super::target::App;
use super::wish::{self, Labels, cut};
use crate::catalog::model::Service;

/// Most problems of one app that are told.
const PROBLEMS_MAX: usize = 50;

/// Most characters of one.
const PROBLEM_MAX: usize = 400;

/// Reads the labels of `service`.
pub(super) fn read(config: &MarathonLbConfig, service: &Service) -> Labelled {
    let mut labelled = Labelled::default();
    let all = All::of(&service.meta);
    let labels = all.group.is_some() || !all.ports.is_empty() || !all.unknown.is_empty();
    let everybody = config.group.iter().any(|group| group == "*");
    if !labels && !everybody {
        return labelled;
    }
    let app = App::of(service);
    if !labels && (app.service_ports.is_none() || app.pod()) {
        return labelled;
    }
    let same = |id: &String| id.trim_start_matches('/') == app.id.trim_start_matches('/');
    if config.except.iter().any(same) {
        return labelled;
    }
    // A registry that knows no service ports has those that labels name.
    let indexes: BTreeSet<usize> = match &app.service_ports {
        Some(ports) => (0..ports.len()).collect(),
        None => all.ports.keys().copied().collect(),
    };
    let none = Labels::new();
    let mut served = false;
    for index in indexes {
        let labels = all.ports.get(&index).unwrap_or(&none);
        if !everybody && !selected(config, index, labels, all.group, &mut labelled.problems) {
            continue;
        }
        served = true;
        let enabled = labels.get("ENABLED").map_or(!config.strict, |text| {
            if truth(text).is_none() {
                labelled.problems.push(format!(
                    "HAPROXY_{index}_ENABLED: {:?} counts as false, as it does with marathon-lb; \
                     write true",
                    cut(text)
                ));
            }
            truth(text) == Some(true)
        });
        if !enabled || (app.datagrams(index) && labels.is_empty()) {
            continue;
        }
        if app.datagrams(index) {
            labelled.problems.push(format!(
                "HAPROXY_{index}_…: the port is for UDP, which marathon-lb does not carry; write a \
                 [listener.NAME.udp]"
            ));
            continue;
        }
        let Some(wish) = wish::read(config, &app, index, labels, &mut labelled.problems) else {
            continue;
        };
        let target = app.target(index);
        Port { config, app: &app, wish: &wish, target }.add(&mut labelled);
    }
    if served {
        unused(&all, &app, &mut labelled.problems);
    }
    labelled.problems.iter_mut().for_each(|problem| *problem = tidy(problem));
    if labelled.problems.len() > PROBLEMS_MAX {
        let more = labelled.problems.len() - PROBLEMS_MAX;
        labelled.problems.truncate(PROBLEMS_MAX);
        labelled.problems.push(format!("and {more} more"));
    }
    labelled
}

/// One line of a length that can be shown: names of labels are whatever somebody wrote.
fn tidy(problem: &str) -> String {
    let mut text = String::with_capacity(problem.len().min(PROBLEM_MAX));
    for c in problem.chars().take(PROBLEM_MAX) {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

/// Whether the groups of a port, or else those of its app, have one of ours.
fn selected(
    config: &MarathonLbConfig,
    index: usize,
    labels: &Labels<'_>,
    of_app: Option<&str>,
    problems: &mut Vec<String>,
) -> bool {
    let own = labels.get("GROUP").copied();
    let groups = own.or(of_app).unwrap_or_default();
    let ours = |group: &str| config.group.iter().any(|known| known == group);
    if groups.split(',').any(ours) {
        return true;
    }
    if let Some(group) = groups.split(',').find(|group| ours(group.trim())) {
        let name = if own.is_some() { format!("{index}_GROUP") } else { "GROUP".into() };
        problems.push(format!(
            "HAPROXY_{name}: {:?} has spaces around it, which marathon-lb takes for a part of it; \
             take them away",
            cut(group)
        ));
    }
    false
}

/// Labels that nothing looks at.
fn unused(all: &All<'_>, app: &App<'_>, problems: &mut Vec<String>) {
    for name in &all.unknown {
        problems.push(format!(
            "{}: there is no such label; those of a port are written HAPROXY_0_VHOST, with the \
             port's index",
            cut(name)
        ));
    }
    let Some(ports) = &app.service_ports else { return };
    for index in all.ports.keys().filter(|index| **index >= ports.len()) {
        let count = ports.len();
        problems.push(format!("HAPROXY_{index}_…: the app has {count} service ports, from 0 on"));
    }
}

#[cfg(test)]
#[path = "marathon_lb_tests.rs"]
mod tests;
