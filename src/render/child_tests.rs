use super::*;

fn config(text: &str) -> ExecConfig {
    toml::from_str(text).unwrap()
}

#[test]
fn the_environment_is_what_allow_and_deny_leave_with_custom_on_top() {
    let ours = [("CONSUL_A", "1"), ("VAULT_B", "2"), ("PATH", "/bin")];
    let ours = || ours.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (case, pristine, custom, allow, deny, want) in [
        ("all", false, &[][..], &[][..], &[][..], "CONSUL_A=1 PATH=/bin VAULT_B=2"),
        ("allowed", false, &[], &["CONSUL_*"], &[], "CONSUL_A=1"),
        ("denied", false, &[], &[], &["VAULT_*"], "CONSUL_A=1 PATH=/bin"),
        ("denied wins", false, &[], &["*_*"], &["VAULT_*"], "CONSUL_A=1"),
        ("custom wins", false, &["PATH=/x:y=z"], &["C*"], &["PATH"], "CONSUL_A=1 PATH=/x:y=z"),
        ("pristine", true, &["A=b"], &["*"], &[], "A=b"),
    ] {
        let config =
            EnvConfig { pristine, custom: list(custom), allow: list(allow), deny: list(deny) };
        let seen: Vec<String> = config
            .of(ours())
            .iter()
            .map(|(name, value)| format!("{}={}", name.display(), value.display()))
            .collect();
        assert_eq!(seen.join(" "), want, "{case}");
    }
    let broken = EnvConfig { custom: list(&["A"]), ..EnvConfig::default() };
    assert!(broken.problem().unwrap().contains("\"NAME=value\""));
}

/// A child that writes what happens to it into `log`. It starts nothing once it has said that it is
/// there: dash loses a signal that comes while it does.
fn telling(log: &std::path::Path, more: &str) -> ExecConfig {
    let script = format!(
        "say() {{ echo $1 >> {log}; }}; trap 'say hup' HUP; trap 'say usr1' USR1; \
         trap 'say term; kill $!; exit 7' TERM; sleep 60 & say start; while :; do wait; done",
        log = log.display()
    );
    config(&format!("command = {script:?}\n{more}"))
}

async fn until(log: &std::path::Path, wanted: &str) {
    let seen = async {
        while std::fs::read_to_string(log).unwrap_or_default().replace('\n', " ").trim() != wanted {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), seen).await.is_ok();
    assert!(in_time, "{wanted:?}, not {:?}", std::fs::read_to_string(log));
}

#[tokio::test]
async fn a_child_gets_signals_and_is_told_of_changes_by_the_one_it_listens_to() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let config = telling(&log, "reload_signal = \"HUP\"");
    let (sender, mut orders) = mpsc::channel(8);
    let told = async {
        until(&log, "start").await;
        sender.send(Order::Reload).await.unwrap();
        until(&log, "start hup").await;
        sender.send(Order::Signal(Signal::USR1)).await.unwrap();
        until(&log, "start hup usr1").await;
        sender.send(Order::End).await.unwrap();
    };
    let (ended, ()) = tokio::join!(supervise(&config, &mut orders), told);
    assert_eq!(ended, Ended::Told);
    until(&log, "start hup usr1 term").await;
}

#[tokio::test]
async fn without_a_signal_to_reload_it_is_ended_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let config = telling(&log, "splay = \"20ms\"");
    let (sender, mut orders) = mpsc::channel(8);
    let told = async {
        until(&log, "start").await;
        for _ in 0..3 {
            sender.send(Order::Reload).await.unwrap();
        }
        until(&log, "start term start").await;
        sender.send(Order::Signal(Signal::TERM)).await.unwrap();
    };
    let (ended, ()) = tokio::join!(supervise(&config, &mut orders), told);
    assert_eq!(ended, Ended::Itself(7));
}

#[tokio::test]
async fn one_that_does_not_obey_is_killed_with_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script =
        format!("trap '' TERM; (trap '' TERM; sleep 600) & echo $! > {}; wait", log.display());
    let config = config(&format!("command = {script:?}\nkill_timeout = \"50ms\""));
    let (sender, mut orders) = mpsc::channel(8);
    let pid = async {
        let pid = loop {
            if let Ok(Ok(pid)) = std::fs::read_to_string(&log).map(|text| text.trim().parse()) {
                break pid;
            }
            sleep(Duration::from_millis(5)).await;
        };
        sender.send(Order::End).await.unwrap();
        Pid::from_raw(pid).unwrap()
    };
    let (ended, pid) = tokio::join!(supervise(&config, &mut orders), pid);
    assert_eq!(ended, Ended::Told);
    // The kill has been sent; the kernel carries it out when it gets to it.
    let gone = async {
        let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the grandchild lives on");
}

#[test]
fn a_shell_stays_only_where_it_is_needed() {
    let path = OsString::from("/usr/bin:/bin");
    for (line, want) in [
        ("/usr/sbin/nginx -g 'daemon off;'", true),
        ("sleep 5", true),
        ("sleep $SECONDS \"a;b\" c\\;d", true),
        ("no-such-program x", false),
        ("exit 3", false),
        ("A=b sleep 5", false),
        ("sleep 1; sleep 2", false),
        ("sleep 1 && true", false),
        ("sleep 1 > log", false),
        ("sleep $(cat x)", false),
        ("sleep \"$(cat x)\"", false),
        ("sleep \"`cat x`\"", false),
        ("sleep '`$(;'", true),
        ("while true; do :; done", false),
        ("", false),
    ] {
        assert_eq!(is_one_program(line, &path), want, "{line:?}");
    }
}

#[tokio::test]
async fn its_end_is_told_with_its_code_and_by_a_signal_as_shells_do() {
    for (case, text, want) in [
        ("code", "command = \"exit 3\"", 3),
        ("words", "command = [\"/bin/sh\", \"-c\", \"exit 0\"]", 0),
        ("signal", "command = \"kill -KILL $$\"", 137),
        ("no program", "command = [\"/no/such/program\"]", 127),
        ("well at last", "command = \"exit 0\"\nrestart = \"on-failure\"", 0),
    ] {
        let (_sender, mut orders) = mpsc::channel(1);
        assert_eq!(supervise(&config(text), &mut orders).await, Ended::Itself(want), "{case}");
    }
}

#[tokio::test]
async fn one_that_is_to_run_always_is_started_again_after_a_pause() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let text = format!("command = \"echo run >> {}\"\nrestart = \"always\"", log.display());
    let (sender, mut orders) = mpsc::channel(8);
    let told = async {
        until(&log, "run").await;
        // A change is a reason not to wait.
        sender.send(Order::Reload).await.unwrap();
        until(&log, "run run").await;
        sender.send(Order::End).await.unwrap();
    };
    let config = config(&text);
    let (ended, ()) = tokio::join!(supervise(&config, &mut orders), told);
    assert_eq!(ended, Ended::Told);
}
