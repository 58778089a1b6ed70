//! CPU time and memory of a process and its descendants, from `/proc`.
//!
//! Servers with workers as processes (nginx, NSD) and with threads (Knot, Envoy) are counted
//! alike: all descendants are summed, and a process's `stat` already sums its threads.

use std::fs;

use serde::Serialize;

/// CPU time used, in seconds. The kernel gives the sum exactly and splits it by samples; both are
/// told in clock ticks (10 ms on Linux).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

/// Memory in bytes. `rss` counts pages shared between processes once for each, `pss` once in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    pub(crate) pss: u64,
}

/// `root` and all its living descendants.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, stat(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
}

/// CPU time of `root` and its living descendants.
pub(crate) fn cpu(root: u32) -> Cpu {
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    tree(root).into_iter().filter_map(stat).fold(Cpu::default(), |sum, one| Cpu {
        user: sum.user + one.user_ticks as f64 / per_second,
        system: sum.system + one.system_ticks as f64 / per_second,
    })
}

/// CPU time of those threads of `root` whose names begin with `prefix`.
pub(crate) fn cpu_of(root: u32, prefix: &str) -> Cpu {
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    let threads = fs::read_dir(format!("/proc/{root}/task")).into_iter().flatten();
    let stats =
        threads.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let named =
        |text: &String| text.split_once('(').is_some_and(|(_, rest)| rest.starts_with(prefix));
    stats.filter(named).filter_map(|text| parse_stat(&text)).fold(Cpu::default(), |sum, one| Cpu {
        user: sum.user + one.user_ticks as f64 / per_second,
        system: sum.system + one.system_ticks as f64 / per_second,
    })
}

/// Memory of `root` and its living descendants.
pub(crate) fn memory(root: u32) -> Memory {
    tree(root)
        .into_iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .map(|text| rollup(&text))
        .fold(Memory::default(), |sum, one| Memory {
            rss: sum.rss + one.rss,
            pss: sum.pss + one.pss,
        })
}

#[derive(Debug, PartialEq)]
struct Stat {
    parent: u32,
    user_ticks: u64,
    system_ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in brackets may hold blanks and brackets itself: fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        user_ticks: fields.get(11)?.parse().ok()?,
        system_ticks: fields.get(12)?.parse().ok()?,
    })
}

fn rollup(text: &str) -> Memory {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .map_or(0, |kibibytes| kibibytes * 1024)
    };
    Memory { rss: field("Rss:"), pss: field("Pss:") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_brackets_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0 1 1 1";
        let want = Stat { parent: 3, user_ticks: 250, system_ticks: 50 };
        assert_eq!(parse_stat(text), Some(want));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn rss_and_pss_are_read_in_bytes_and_not_confused_with_their_parts() {
        let text = "Rss:                 100 kB\nPss:                  40 kB\nPss_Dirty:   9 kB\n";
        assert_eq!(rollup(text), Memory { rss: 102_400, pss: 40_960 });
    }

    #[test]
    fn the_time_of_a_thread_is_told_apart_by_its_name() {
        let (told, tell) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("busy-bee-1".into()).spawn(move || {
            let mut sum = 0_u64;
            while matches!(tell.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                sum = std::hint::black_box(sum.wrapping_add(1));
            }
        });
        let me = std::process::id();
        while cpu_of(me, "busy-bee").user < 0.02 {
            std::thread::yield_now();
        }
        drop(told);
        thread.unwrap().join().unwrap();
        assert_eq!(cpu_of(me, "nobody"), Cpu::default());
    }

    #[test]
    fn this_process_uses_memory_and_its_child_belongs_to_its_tree() {
        let me = std::process::id();
        assert!(memory(me).rss > 0);
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        assert!(tree(me).contains(&child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
