use super::*;

fn read_line(line: &[&str]) -> Result<CommandLine, String> {
    let arguments: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
    read(&arguments).map_err(|refused| refused.to_string())
}

/// A value that a flag takes, by what it sets.
fn fitting(effect: Effect) -> Option<&'static str> {
    Some(match effect {
        Effect::Set(Kind::Flag, _)
        | Effect::Once
        | Effect::Dry
        | Effect::ParseOnly
        | Effect::Diff
        | Effect::Help
        | Effect::Version => return None,
        Effect::Set(Kind::Count, _) => "3",
        Effect::Set(Kind::Span, _) => "5s",
        Effect::Set(Kind::Signal, _) => "SIGHUP",
        Effect::Wait => "5s:10s",
        Effect::Template => "a:b",
        _ => "word",
    })
}

#[test]
fn every_flag_is_read_with_one_dash_and_two_with_a_sign_and_without() {
    let names = names();
    assert!(names.len() > 120, "{}", names.len());
    for name in names {
        let effect = effect(&name).unwrap();
        for dashes in ["-", "--"] {
            let flag = format!("{dashes}{name}");
            let lines = match fitting(effect) {
                Some(value) => {
                    assert!(
                        read_line(&[&flag]).unwrap_err().contains("flag needs an argument"),
                        "{flag} without a value"
                    );
                    vec![vec![flag.clone(), value.to_owned()], vec![format!("{flag}={value}")]]
                }
                None => vec![
                    vec![flag.clone()],
                    vec![format!("{flag}=true")],
                    vec![format!("{flag}=0")],
                ],
            };
            for line in lines {
                let words: Vec<&str> = line.iter().map(String::as_str).collect();
                let read = read_line(&words).unwrap_or_else(|why| panic!("{words:?}: {why}"));
                assert_eq!(
                    read.settings.top.leaves().is_empty(),
                    !matches!(effect, Effect::Set(..) | Effect::Auth | Effect::Exec | Effect::Wait),
                    "{words:?}"
                );
            }
        }
    }
}

#[test]
fn flags_set_what_the_keys_of_a_file_set() {
    for (line, path, want) in [
        (&["-consul=a:1"][..], &["consul", "address"][..], Leaf::Text("a:1".into())),
        (&["-consul-addr", "a"], &["consul", "address"], Leaf::Text("a".into())),
        (&["-consul=a", "-consul-addr=b"], &["consul", "address"], Leaf::Text("b".into())),
        (&["-auth", "u:p:q"], &["consul", "auth", "password"], Leaf::Text("p:q".into())),
        (&["-auth", "u"], &["consul", "auth", "username"], Leaf::Text("u".into())),
        (&["-ssl"], &["consul", "ssl", "enabled"], Leaf::Flag(true)),
        (&["-ssl-verify=false"], &["consul", "ssl", "verify"], Leaf::Flag(false)),
        (
            &["-retry", "10s"],
            &["consul", "retry", "max_backoff"],
            Leaf::Span(std::time::Duration::from_secs(10)),
        ),
        (&["-token=x=y"], &["consul", "token"], Leaf::Text("x=y".into())),
        (
            &["-exec", "run it"],
            &["exec", "command"],
            Leaf::Command(Command::Shell("run it".into())),
        ),
        (&["-exec-reload-signal="], &["exec", "reload_signal"], Leaf::Signal(None)),
        (&["-kill-signal=TERM"], &["kill_signal"], Leaf::Signal(Some(15))),
        (&["-wait", "1s"], &["wait", "max"], Leaf::Span(std::time::Duration::from_secs(4))),
        (&["-dedup"], &["deduplicate", "enabled"], Leaf::Flag(true)),
        (&["-vault-token", "s3cret"], &["vault", "enabled"], Leaf::Set),
        (&["-nomad-addr=x"], &["nomad", "enabled"], Leaf::Set),
    ] {
        let read = read_line(line).unwrap();
        assert_eq!(read.settings.top.leaf(path), Some(&want), "{line:?}");
    }
    let read = read_line(&["-template", "a:b:c d:e", "-config", "x", "--template=f", "-config=y"]);
    let read = read.unwrap();
    assert_eq!(read.paths, [PathBuf::from("x"), PathBuf::from("y")]);
    let (first, second) = (&read.settings.templates[0].0, &read.settings.templates[1].0);
    assert_eq!(first.command(&["command"]), Some(&Command::Shell("c d:e".into())));
    assert_eq!((second.text(&["source"]), second.text(&["destination"])), (Some("f"), None));
}

#[test]
fn what_cannot_be_read_is_told_without_secrets() {
    for (line, want) in [
        (
            &["-templat=a"][..],
            "flag provided but not defined: -templat; did you mean -template? `-help` tells all",
        ),
        (
            &["-wait", "x"],
            "invalid value \"x\" for flag -wait: \"x\" is no length of time; write it like \"30s\" or \"1m30s\"",
        ),
        (
            &["-wait", "5s:1s"],
            "invalid value \"5s:1s\" for flag -wait: \"5s:1s\" has a longest wait below the least one; swap them",
        ),
        (&["-once=maybe"], "invalid value \"maybe\" for flag -once: it must be true or false"),
        (
            &["-kill-signal", "SIGFOO"],
            "invalid value \"SIGFOO\" for flag -kill-signal: \"SIGFOO\" is no signal; write it like \"SIGHUP\", \"SIGTERM\" or \"SIGUSR1\"",
        ),
        (
            &["-consul-retry-attempts=x"],
            "invalid value \"x\" for flag -consul-retry-attempts: it must be a whole number",
        ),
        (
            &["-template", ""],
            "invalid value \"\" for flag -template: it must be source:destination or source:destination:command",
        ),
        (&["a", "b"], "extra argument(s): [\"a\", \"b\"]; a flag begins with `-`"),
        (&["-once", "x"], "extra argument(s): [\"x\"]; a flag begins with `-`"),
        (
            &["-max-stale=-5s"],
            "invalid value \"-5s\" for flag -max-stale: \"-5s\" is less than nothing",
        ),
        (
            &["-vault-retry-attempts=s3cret"],
            "invalid value \"s3cret\" for flag -vault-retry-attempts: it must be a whole number",
        ),
        (
            &["-vault-renew-token=s3cret"],
            "invalid value … for flag -vault-renew-token: it must be true or false",
        ),
    ] {
        assert_eq!(read_line(line).unwrap_err(), want, "{line:?}");
    }
    assert!(read_line(&["--"]).is_ok());
}

#[test]
fn every_flag_and_every_key_is_in_the_document() {
    const PAGE: &str = include_str!("../../../docs/consul-template.md");
    for name in names() {
        let stranger = name.starts_with("vault-") || name.starts_with("nomad-");
        assert!(stranger || PAGE.contains(&format!("`-{name}`")), "-{name}");
    }
    fn keys(schema: &[super::super::schema::Key], found: &mut Vec<&'static str>) {
        for key in schema {
            found.push(key.name);
            match key.kind {
                Kind::Block(inner) | Kind::BlockOr(inner, _)
                    if !matches!(key.name, "vault" | "nomad") =>
                {
                    keys(inner, found);
                }
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    keys(super::super::schema::TOP, &mut found);
    keys(super::super::schema::TEMPLATE, &mut found);
    let words: Vec<&str> = PAGE.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for key in found {
        assert!(words.contains(&key), "`{key}`");
    }
}
