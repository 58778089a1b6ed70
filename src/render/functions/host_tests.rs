use super::super::engine::go::{Limits, Options, Templates, Value};
use super::testing::{Sample, Still, render, render_with};
use super::*;
use std::sync::Arc;

fn host() -> Host {
    Host::new(Arc::new(Sample), Arc::new(Still::default()))
}

#[test]
fn what_was_asked_is_known_afterwards_and_what_is_missing_too() {
    let host = host();
    let template = r#"{{service "web" | len}}{{range service "later"}}x{{end}}{{key "app/name"}}"#;
    assert_eq!(render_with(Dialect::ConsulTemplate, template, &host).unwrap(), "2shop");
    let asked: Vec<(String, bool)> = host
        .asked()
        .into_iter()
        .map(|(query, answered)| match query {
            Query::Service(query) => (query.name.to_string(), answered),
            Query::Key(path, _) => (path, answered),
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [("later", false), ("web", true), ("app/name", true)];
    assert_eq!(asked, want.map(|(name, answered)| (name.to_owned(), answered)));
    assert!(host.waits());
}

#[test]
fn a_missing_key_and_an_empty_safe_listing_wait_and_their_careful_relatives_do_not() {
    for (template, waits) in [
        (r#"{{key "none"}}"#, true),
        (r#"{{keyExists "none"}}"#, false),
        (r#"{{keyOrDefault "none" "x"}}"#, false),
        (r#"{{ls "none"}}"#, false),
        (r#"{{safeLs "none"}}"#, true),
        (r#"{{tree "none"}}"#, false),
        (r#"{{safeTree "none"}}"#, true),
        (r#"{{safeTree "app"}}"#, false),
        (r#"{{service "none"}}"#, false),
        (r#"{{service "later"}}"#, true),
    ] {
        let host = host();
        render_with(Dialect::ConsulTemplate, template, &host).unwrap();
        assert_eq!(host.waits(), waits, "{template}");
    }
}

#[test]
fn a_denied_function_is_there_and_refuses() {
    let denied = ["plugin".to_owned()];
    let options =
        Options { functions: functions(Dialect::ConsulTemplate, &denied), ..Options::default() };
    let templates = Templates::parse("t", r#"{{plugin "echo"}}"#, &options).unwrap();
    let told = templates.execute(Value::Nil, &host(), Limits::default()).unwrap_err().to_string();
    assert!(told.contains("error calling plugin: function is disabled"), "{told}");
}

#[test]
fn a_sealed_world_refuses_everything() {
    for (dialect, template) in [
        (Dialect::ConsulTemplate, r#"{{env "HOME"}}"#),
        (Dialect::ConsulTemplate, r#"{{plugin "echo"}}"#),
        (Dialect::ConsulTemplate, r#"{{"x" | writeToFile "/tmp/x" "" "" "0644"}}"#),
        (Dialect::ConsulTemplate, "{{sockaddr}}"),
        (Dialect::Confd, "{{hostname}}"),
        (Dialect::Confd, r#"{{fileExists "/"}}"#),
        (Dialect::Confd, r#"{{lookupIfaceIPV4 "lo"}}"#),
    ] {
        let sealed = Host::new(Arc::new(Unheard), Arc::new(Sealed));
        let told = render_with(dialect, template, &sealed).unwrap_err();
        assert!(told.contains("may not be"), "{template}: {told}");
    }
}

#[test]
fn a_file_is_written_as_the_template_says() {
    let world = Arc::new(Still::default());
    let host = Host::new(Arc::new(Sample), world.clone());
    let template = r#"{{"text" | writeToFile "/x" "u" "g" "0600" "append, newline"}}"#;
    render_with(Dialect::ConsulTemplate, template, &host).unwrap();
    let written = host::locked(&world.written).clone();
    let want = FileToWrite {
        path: "/x".into(),
        user: "u".into(),
        group: "g".into(),
        mode: 0o600,
        append: true,
        content: b"text\n".into(),
    };
    assert_eq!(written, [want]);
}

#[test]
fn a_map_changes_in_place_and_never_holds_itself() {
    for (template, want) in [
        (
            r"{{$d := sprig_dict}}{{range .words}}{{$_ := sprig_set $d . (len .)}}{{end}}{{$d}}",
            "map[a:1 b:1 ccc:3]",
        ),
        (
            r#"{{$d := sprig_dict "a" 1}}{{$_ := sprig_set $d "self" $d}}{{$d}}"#,
            "map[a:1 self:map[a:1]]",
        ),
        (
            r#"{{$d := sprig_dict}}{{$l := sprig_list $d}}{{$_ := sprig_set $d "l" $l}}{{$d}}"#,
            "map[l:[map[]]]",
        ),
        (r#"{{$m := parseJSON "{}"}}{{$n := sprig_set $m "a" 1}}{{$m}}{{$n}}"#, "map[]map[a:1]"),
        (
            r#"{{$d := sprig_dict "a" 1}}{{$_ := sprig_merge $d (sprig_dict "b" 2)}}{{$d}}"#,
            "map[a:1 b:2]",
        ),
    ] {
        assert_eq!(render(Dialect::ConsulTemplate, template).unwrap(), want, "{template}");
    }
}

#[test]
fn work_that_grows_is_limited() {
    for template in [
        r"{{range loop 1000000000}}{{end}}",
        r#"{{sprig_repeat 1000000000 "x"}}"#,
        r"{{sprig_seq 1 9000000}}",
        r#"{{indent 100000000 "a\nb"}}"#,
        r#"{{printf "%1000000d" 1 | replaceAll " " (printf "%1000000d" 1)}}"#,
        r"{{sprig_untilStep 0 100000000 1}}",
        r#"{{define "t"}}{{executeTemplate "t"}}{{end}}{{executeTemplate "t"}}"#,
    ] {
        let told = render(Dialect::ConsulTemplate, template).unwrap_err();
        let limited = ["steps", "larger than", "at most", "depth"];
        assert!(limited.iter().any(|word| told.contains(word)), "{template}: {told}");
    }
}

#[test]
fn values_nested_a_million_deep_are_an_error_and_no_crash() {
    for template in [
        "{{$l := sprig_list}}{{range loop 1000000}}{{$l = sprig_list $l}}{{end}}{{len $l}}",
        "{{$l := sprig_list}}{{range loop 1000000}}{{$l = sprig_append (sprig_list) $l}}{{end}}",
        r#"{{$d := sprig_dict}}{{range loop 1000000}}{{$d = sprig_dict "a" $d}}{{end}}{{len $d}}"#,
        r#"{{range loop 1000000}}{{scratch.MapSet "a" "b" (scratch.Get "a")}}{{end}}"#,
    ] {
        let told = render(Dialect::ConsulTemplate, template).unwrap_err();
        assert!(told.contains("nested more than 100 deep"), "{template}: {told}");
    }
}

#[test]
fn the_older_confd_counts_only_upwards() {
    assert_eq!(render(Dialect::LegacyConfd, "{{seq 3 1}}{{seq 1 2}}").unwrap(), "[][1 2]");
    assert_eq!(render(Dialect::Confd, "{{seq 3 1}}").unwrap(), "[3 2 1]");
}
