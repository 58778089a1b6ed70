use super::*;

#[test]
fn a_command_gives_its_output_and_one_that_fails_tells_both_streams() {
    let system = System::default();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(system.run("echo", &words(&["a", "b"])).unwrap(), b"a b\n");
    let failed = system.run("sh", &words(&["-c", "echo out; echo err >&2; exit 3"])).unwrap_err();
    assert!(failed.contains("exit status: 3"), "{failed}");
    assert!(failed.contains("out") && failed.contains("err"), "{failed}");
    let none = system.run("/no/such/program", &[]).unwrap_err();
    assert!(none.starts_with("exec \"/no/such/program\": "), "{none}");
}

#[test]
fn a_command_that_does_not_end_is_killed_with_all_that_it_started() {
    let system = System { plugin_timeout: Duration::from_millis(100), ..System::default() };
    let args = ["-c".to_owned(), "sleep 60 & sleep 60".to_owned()];
    let told = system.run("sh", &args).unwrap_err();
    assert_eq!(told, "exec \"sh\": did not finish in 0.1s");
}

#[test]
fn a_command_that_prints_too_much_is_refused() {
    let args = ["-c".to_owned(), "head -c 2000000 /dev/zero".to_owned()];
    let told = System::default().run("sh", &args).unwrap_err();
    assert_eq!(told, "exec \"sh\": printed more than 1048576 bytes");
}

#[test]
fn files_are_written_within_the_sandbox_and_refused_outside_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let system = System { sandbox: Some(folder.path().into()), ..System::default() };
    let file = |path: PathBuf, append: bool| FileToWrite {
        path: path.display().to_string(),
        user: String::new(),
        group: String::new(),
        mode: 0o640,
        append,
        content: b"x\n".into(),
    };
    let inside = folder.path().join("a/b.txt");
    system.write(&file(inside.clone(), false)).unwrap();
    system.write(&file(inside.clone(), true)).unwrap();
    assert_eq!(fs::read(&inside).unwrap(), b"x\nx\n");
    system.write(&file(inside.clone(), false)).unwrap();
    assert_eq!(fs::read(&inside).unwrap(), b"x\n");
    assert_eq!(fs::metadata(&inside).unwrap().permissions().mode() & 0o777, 0o640);
    let outside = other.path().join("b.txt");
    std::os::unix::fs::symlink(other.path(), folder.path().join("link")).unwrap();
    for path in [
        outside.clone(),
        folder.path().join("link/b.txt"),
        folder.path().join("../b.txt"),
        folder.path().join("new/../../b.txt"),
    ] {
        let told = system.write(&file(path.clone(), false)).unwrap_err();
        assert_eq!(told, format!("'{}' is outside of sandbox", path.display()));
    }
    assert!(!outside.exists());
    assert_eq!(system.exists(&inside), Ok(true));
    assert!(system.exists(Path::new("/etc/passwd")).is_err());
}

#[test]
fn owners_are_found_by_name_and_by_number() {
    assert_eq!(id_of("", "/etc/passwd"), Ok(None));
    assert_eq!(id_of("17", "/etc/passwd"), Ok(Some(17)));
    assert_eq!(id_of("root", "/etc/passwd"), Ok(Some(0)));
    assert!(id_of("no-such-user", "/etc/passwd").unwrap_err().contains("use its number"));
}

#[test]
fn addresses_are_told_with_their_interface() {
    let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                |-- 10.0.0.5\n        /32 host LOCAL\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
    let route = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                 eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n\
                 eth0 0000000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n";
    let found = addresses_v4(trie, route);
    let want = [("eth0", "10.0.0.5"), ("lo", "127.0.0.1")];
    assert_eq!(found, want.map(|(name, ip)| (name.to_owned(), ip.parse().unwrap())));
    let v6 = addresses_v6("fd000000000000000000000000000005 02 40 00 80     eth0\n");
    assert_eq!(v6, [("eth0".to_owned(), "fd00::5".parse().unwrap())]);
}

#[test]
fn the_host_has_a_name_and_localhost_an_address() {
    let system = System::default();
    assert!(!system.hostname().unwrap().is_empty());
    assert!(system.lookup("127.0.0.1").unwrap().contains(&"127.0.0.1".parse().unwrap()));
    assert!(system.variable("PATH").unwrap().is_some());
    assert_eq!(system.variable("NO_SUCH_VARIABLE_AT_ALL"), Ok(None));
}
