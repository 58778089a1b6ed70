use proptest::prelude::*;

use super::*;

fn bare(kind: Kind) -> Wish {
    Wish {
        kind,
        port: None,
        interval: None,
        timeout: None,
        fall: None,
        rise: None,
        path: None,
        status: None,
        host: None,
    }
}

#[test]
fn checks_are_read_word_by_word_and_a_semicolon_ends_one() {
    let whole = Wish {
        port: Some(Door::Name("http".into())),
        interval: Some(Period::from_secs(10)),
        timeout: Some(Period::from_millis(1500)),
        fall: Some(4),
        rise: Some(1),
        path: Some("/health?deep=1;x".into()),
        status: Some("200-399,404".into()),
        host: Some("shop.test".into()),
        ..bare(Kind::Http)
    };
    let door = |number| Wish { port: Some(Door::Number(number)), ..bare(Kind::Tcp) };
    let path = |kind, path: &str| Wish { path: Some(path.into()), ..bare(kind) };
    for (text, want) in [
        ("", vec![]),
        (" ; ;; ", vec![]),
        ("tcp", vec![bare(Kind::Tcp)]),
        ("tcp port=8080;", vec![door(8080)]),
        (
            "http /health?deep=1;x port=http interval=10s timeout=1500ms fall=4 rise=1 \
             status=200-399,404 host=shop.test",
            vec![whole],
        ),
        ("http", vec![bare(Kind::Http)]),
        (
            "http /a; tcp; https /b",
            vec![path(Kind::Http, "/a"), bare(Kind::Tcp), path(Kind::Https, "/b")],
        ),
        ("http path=/a=b ;\ttcp port=1", vec![path(Kind::Http, "/a=b"), door(1)]),
    ] {
        let (wishes, problems) = read(text);
        assert_eq!((wishes, problems), (want, vec![]), "{text:?}");
    }
}

#[test]
fn what_cannot_be_read_is_told_with_the_form_and_costs_its_own_check_only() {
    for (text, want) in [
        ("htp /", "\"htp\" is no kind of check; did you mean `http`?"),
        ("/health", "is no kind of check"),
        ("exec rm", "exec is for the configuration alone, [service.NAME] check.exec"),
        ("mysql", "mysql is for the configuration alone"),
        ("http health", "\"health\" is neither a path, which begins with /, nor KEY=VALUE"),
        ("http / intervall=1s", "\"intervall\" is no key; did you mean `interval`?"),
        ("http / interval=1", "interval: \"1\" is no length of time"),
        ("http / interval=25h", "interval: \"25h\" is longer than a day"),
        ("tcp timeout=", "timeout: \"\" is no length of time"),
        ("tcp fall=0", "fall=\"0\" is not between 1 and 1000"),
        ("tcp rise=99999999999", "rise=\"99999999999\" is not between"),
        ("tcp port=0", "port 0 is not between 1 and 65535"),
        ("tcp port=99999999999999999999", "is not between 1 and 65535"),
        ("tcp port=", "port is empty"),
        ("tcp port=1 port=2", "port stands there twice"),
        ("tcp /health", "path is for http and https"),
        ("tcp status=200", "status is for http and https"),
    ] {
        let (wishes, problems) = read(&format!("{text}; tcp"));
        assert_eq!(wishes, [bare(Kind::Tcp)], "{text}");
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].contains(want), "{text}: {problems:?}");
    }
}

#[test]
fn so_many_checks_are_read_and_no_more() {
    let (wishes, problems) = read(&"tcp; ".repeat(1000));
    assert_eq!(wishes.len(), READ_MAX);
    assert_eq!(problems, ["only the first 64 checks are read"]);
    let (wishes, problems) = read(&"x; ".repeat(1000));
    assert_eq!((wishes.len(), problems.len()), (0, READ_MAX + 1));
    let long = format!("http {}", "ü".repeat(2000));
    assert!(read(&long).1[0].len() < 400, "what is repeated is bounded");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_and_each_check_is_a_wish_or_a_problem(
        text in "((tcp|http|https|exec|/|;|=|port|interval|status|\\PC|[ \\t\\u{a0}]|[0-9]{1,22}|ms|s|h){0,4} ?){0,30}"
    ) {
        let (wishes, problems) = read(&text);
        prop_assert!(wishes.len() + problems.len() <= READ_MAX + 1);
        for wish in &wishes {
            prop_assert!(wish.interval.is_none_or(|interval| interval <= LONGEST));
        }
        for problem in &problems {
            prop_assert!(problem.len() < 1000, "{problem}");
        }
    }

    #[test]
    fn any_bytes_that_are_text_are_read(text in any::<String>()) {
        let _ = read(&text);
    }
}
