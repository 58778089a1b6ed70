//! The process is killed at every step between staging a file and having told its reader, chosen by
//! a seed: no reader ever sees a part of a file, and in the end every change was reloaded.
//!
//! The steps are fault points that only a build with debug assertions has. A short run by default;
//! a thousand deaths with `PORTOLAN_FULL=1`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::child::{Running, command};
use crate::support::{listing, replace, until, within};

/// Deaths of a short run, and of a full one.
const SHORT: u32 = 14;
const FULL: u32 = 1000;
/// A life passes about 35 steps for each change.
const STEPS_MAX: u64 = 90;
const SEED: u64 = 0x5eed_0028;
const LINES: usize = 2000;

const CONFIGURATION: &str = r#"
[node]
workers = 1
data_dir = "data"
[registry.local.file]
path = "services.toml"
[template.single]
source = "single.j2"
destination = "out/single.conf"
check = "test -s {{.src}}"
reload = 'line=$(head -n 1 out/single.conf); kill -0 $PPID && echo "$line" >> single.log'
[template.placed]
source = "placed.j2"
destination = "out/placed.conf"
write = "in-place"
reload = 'line=$(sort -u out/placed.conf | tr "\n" " "); kill -0 $PPID && echo $line >> placed.log'
"#;

/// A template of the group, which has one reload for all.
fn of_group(number: usize) -> String {
    format!(
        "[template.group{number}]\nsource = \"group.j2\"\ndestination = \"out/group{number}.conf\"\n\
         group = \"edge\"\n\
         reload = 'line=$(sort -u out/group*.conf | tr \"\\n\" \" \"); kill -0 $PPID && echo $line >> group.log'\n"
    )
}

fn lay_out(directory: &Path) -> PathBuf {
    std::fs::create_dir(directory.join("out")).unwrap();
    let version = "{% set v = service('web')[0].id %}";
    let lines = format!("{version}{{% for i in range({LINES}) %}}{{{{ v }}}}\n{{% endfor %}}");
    std::fs::write(directory.join("single.j2"), &lines).unwrap();
    std::fs::write(directory.join("placed.j2"), &lines).unwrap();
    std::fs::write(directory.join("group.j2"), format!("{version}{{{{ v }}}}\n")).unwrap();
    let file = directory.join("portolan.toml");
    let group: String = (0..3).map(of_group).collect();
    // Commands run where the process runs; it is started in this directory.
    std::fs::write(&file, format!("{CONFIGURATION}{group}")).unwrap();
    file
}

/// The next of a row of numbers that begins with the seed.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Starts the process so that it dies at the step of this number; 0: it lives.
fn start(file: &Path, step: u64) -> Running {
    let mut child = command(&["run", "--config", file.to_str().unwrap()]);
    child.current_dir(file.parent().unwrap());
    if step > 0 {
        child.env("PORTOLAN_FAULT", step.to_string());
    }
    Running::spawn(child)
}

/// Returns when every reader has been told of `version` last.
async fn told(directory: &Path, version: &str) {
    let last = |log: &str| {
        let text = std::fs::read_to_string(directory.join(log)).unwrap_or_default();
        text.lines().last().map(str::to_owned)
    };
    let all = async || {
        let logs = ["single.log", "placed.log", "group.log"];
        logs.iter().all(|log| last(log).as_deref() == Some(version)).then_some(())
    };
    until(&format!("all readers are told of {version}"), all).await;
}

/// Reads the file that is replaced by rename, again and again, and counts; panics at a part of one.
fn read_on(file: PathBuf, end: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut count = 0;
        while !end.load(Ordering::Relaxed) {
            if let Ok(text) = std::fs::read_to_string(&file) {
                let first = text.lines().next().unwrap_or_default();
                assert_eq!(text.lines().count(), LINES, "a part of a file was seen");
                assert!(text.lines().all(|line| line == first), "a mix of two files was seen");
                count += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        count
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_every_death_files_are_whole_and_in_the_end_every_change_was_reloaded() {
    if !cfg!(debug_assertions) {
        println!("skipped: a build without debug assertions has no fault points");
        return;
    }
    let deaths_wanted = if std::env::var_os("PORTOLAN_FULL").is_some() { FULL } else { SHORT };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let file = lay_out(directory);
    let end = Arc::new(AtomicBool::new(false));
    let reader = read_on(directory.join("out/single.conf"), Arc::clone(&end));
    let at = "127.0.0.1:80".parse().unwrap();
    let (mut state, mut version, mut deaths) = (SEED, 1_u32, 0);
    let name = |version: u32| format!("v{version}");
    replace(&directory.join("services.toml"), &listing("web", &[(&name(version), at)]));
    while deaths < deaths_wanted {
        let step = 1 + next(&mut state) % STEPS_MAX;
        let mut process = start(&file, step);
        loop {
            let wanted = name(version);
            tokio::select! {
                biased;
                ended = process.ended() => {
                    assert_eq!(ended.code(), None, "step {step}: {:#?}", process.said());
                    deaths += 1;
                    break;
                }
                // Whatever was to be told before the last death has been told before this.
                () = told(directory, &wanted) => {}
            }
            version += 1;
            let services = listing("web", &[(&name(version), at)]);
            replace(&directory.join("services.toml"), &services);
        }
    }
    let mut process = start(&file, 0);
    told(directory, &name(version)).await;
    // Taken back only after the reload has succeeded, so a moment later than it was seen.
    let journal = directory.join("data/reloads");
    let empty = async || (std::fs::read_dir(&journal).unwrap().count() == 0).then_some(());
    until("nothing is owed", empty).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    end.store(true, Ordering::Relaxed);
    let read = within("the reader", tokio::task::spawn_blocking(|| reader.join())).await;
    let read = read.unwrap().expect("the reader saw a part of a file");
    let group = std::fs::read_to_string(directory.join("group.log")).unwrap();
    let placed = std::fs::read_to_string(directory.join("placed.log")).unwrap();
    for line in group.lines().chain(placed.lines()) {
        assert!(
            !line.contains(' '),
            "a reader was told of files that do not belong together: {line}"
        );
    }
    let names = std::fs::read_dir(directory.join("out")).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let files = ["group0.conf", "group1.conf", "group2.conf", "placed.conf", "single.conf"];
    assert_eq!(names, files, "nothing is left staged");
    println!("{deaths} deaths, {version} changes, {read} times read");
    assert!(version > deaths / 4, "only {version} changes");
}
