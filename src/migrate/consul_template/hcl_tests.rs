use proptest::prelude::*;

use super::*;

/// Items as a line that is easy to compare.
fn shown(items: &[Item]) -> String {
    let items: Vec<String> =
        items.iter().map(|item| format!("{}={}", item.key, value(&item.node.value))).collect();
    format!("{{{}}}", items.join(" "))
}

fn value(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{text:?}"),
        Value::Number(Number::Whole { value, based }) => {
            format!("{value}{}", if *based { "(based)" } else { "" })
        }
        Value::Number(Number::Broken(value)) => value.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(nodes) => {
            let nodes: Vec<String> = nodes.iter().map(|node| self::value(&node.value)).collect();
            format!("[{}]", nodes.join(" "))
        }
        Value::Block(items) => shown(items),
        Value::Nothing => "null".into(),
    }
}

#[test]
fn files_are_read_as_the_first_version_of_hcl_reads_them() {
    for (case, text, want) in [
        ("nothing", " # only a comment", "{}"),
        ("settings", "a = 1\nb = \"x\"\nc = true", "{a=1 b=\"x\" c=true}"),
        ("all kinds of comments", "a = 1 # x\n// y\n/* z\n */ b = 2", "{a=1 b=2}"),
        ("a block", "a {\n b = 1\n}", "{a={b=1}}"),
        ("a block with an equals sign", "a = {\n b = 1\n}", "{a={b=1}}"),
        ("settings on one line", "a { b = 1 c = 2 }", "{a={b=1 c=2}}"),
        ("commas between settings", "a { b = 1, c = 2, }", "{a={b=1 c=2}}"),
        ("blocks again and again", "a { }\na { }", "{a={} a={}}"),
        ("a label", "a \"x\" { b = 1 }", "{a={x={b=1}}}"),
        ("labels", "a b \"c\" { d = 1 }", "{a={b={c={d=1}}}}"),
        ("a key in quotes", "\"a\" = 1\n\"b\" { }", "{a=1 b={}}"),
        ("a dash and a dot in a key", "a-b.c = 1", "{a-b.c=1}"),
        ("octal", "a = 0600", "{a=384(based)}"),
        ("hexadecimal", "a = 0x1F", "{a=31(based)}"),
        ("negative", "a = -5", "{a=-5}"),
        ("broken", "a = 1.5e3", "{a=1500}"),
        ("zero", "a = 0", "{a=0}"),
        ("lists", "a = [1, \"b\", [true],]", "{a=[1 \"b\" [true]]}"),
        ("a list of blocks", "a = [{ b = 1 }, { b = 2 }]", "{a=[{b=1} {b=2}]}"),
        ("a list over lines", "a = [ # x\n 1,\n 2\n]", "{a=[1 2]}"),
        ("escapes", r#"a = "\"\\\n\t\u00e4\x41""#, r#"{a="\"\\\n\täA"}"#),
        ("braces with a dollar", "a = \"${b} $c {{d}}\"", "{a=\"${b} $c {{d}}\"}"),
        ("quotes in such braces", r#"a = "x ${f("y{}")} z""#, r#"{a="x ${f(\"y{}\")} z"}"#),
        ("a percent sign", "a = \"%{ if }\"", "{a=\"%{ if }\"}"),
        ("a template", r#"a = "{{key \"x/y\"}}""#, r#"{a="{{key \"x/y\"}}"}"#),
        (
            "several lines",
            "a = <<EOF\nb\n  c \"${d}\"\nEOF\ne = 1",
            r#"{a="b\n  c \"${d}\"\n" e=1}"#,
        ),
        ("its mark is indented", "a = <<EOF\nb\n  EOF\n", r#"{a="b\n"}"#),
        ("its mark within a line", "a = <<EOF\nEOFX EOF\nEOF", r#"{a="EOFX EOF\n"}"#),
        ("indented", "a = <<-EOF\n    b\n\n      c\n    EOF\n", r#"{a="b\n\n  c\n"}"#),
        ("empty lines", "a = <<EOF\nEOF\n", r#"{a=""}"#),
        ("windows", "a = 1\r\nb = <<EOF\r\nc\r\nEOF\r\n", r#"{a=1 b="c\r\n"}"#),
        ("a mark of the byte order", "\u{feff}a = 1", "{a=1}"),
        (
            "json",
            r#"{"a": {"b": [1, 2.5, null, true]}, "c": "x"}"#,
            "{a={b=[1 2.5 null true]} c=\"x\"}",
        ),
        ("json's escapes", r#"{"a": "\/\u00e4\ud83d\ude00"}"#, r#"{a="/ä😀"}"#),
    ] {
        match read(text) {
            Ok(items) => assert_eq!(shown(&items), want, "{case}"),
            Err(fault) => panic!("{case}: {}: {}", fault.place, fault.message),
        }
    }
}

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let deep = |open: &str, count: usize| format!("a = {}", open.repeat(count));
    for (case, text, place, message) in [
        ("no value", "a =", "1:4", "the end stands where a value should"),
        ("no equals sign", "a\n", "2:1", "`=` or a block is missing behind `a`"),
        ("a bare word", "a = yes", "1:5", "`yes` is no value; a text stands in quotes: \"yes\""),
        (
            "a bare time",
            "b = 1\na = 5s",
            "2:5",
            "`5s` is no number; a text stands in quotes: \"5s\"",
        ),
        ("an open text", "a = \"b", "1:6", "this text has no closing quote"),
        ("a text over two lines", "a = \"b\nc\"", "1:7", "ends on its line; for several lines"),
        ("an escape", r#"a = "\d""#, "1:6", r"`\d` is unknown; write `\\d`"),
        ("a block", "a {\n b = 1\n", "1:3", "this `{` is never closed"),
        ("a list", "a = [1, 2", "1:5", "this `[` is never closed"),
        ("a list without commas", "a = [1 2]", "1:8", "`2` stands where `,` or `]` should"),
        ("a brace", "a = 1\n}", "2:1", "`}` stands where a setting should begin"),
        ("a comment", "a = 1\n/* b", "2:1", "this comment has no end"),
        ("a mark", "a = <<EOF\nb\n", "1:5", "the line `EOF` that ends this text is missing"),
        ("no mark", "a = <<\nb\n", "1:5", "begins with <<EOF"),
        ("a number", "a = 08", "1:5", "`08` is no number"),
        ("a large number", "a = 99999999999999999999", "1:5", "is no number"),
        ("json without colon", "{\"a\" 1}", "1:6", "`:` is missing behind \"a\""),
        ("json's key", "{a: 1}", "1:2", "`a` stands where a key should"),
        ("behind json", "{} x", "1:4", "`x` stands where a setting should begin"),
        ("deep lists", &deep("[", 100), "1:69", "more than 64"),
        ("deep blocks", &deep("{ a = ", 100), "1:390", "more than 64"),
        ("deep labels", &"a ".repeat(100), "1:131", "more than 64"),
    ] {
        let fault = read(text).expect_err(case);
        assert!(fault.message.contains(message), "{case}: {}", fault.message);
        assert_eq!(fault.place.to_string(), place, "{case}: {}", fault.message);
    }
}

#[test]
fn places_are_those_of_keys_and_values() {
    let items = read("a = 1\nblock {\n  key = \"x\" other = 2 # c\n}").unwrap();
    let Value::Block(inner) = &items[1].node.value else { panic!("a block") };
    let places =
        [items[0].place, items[0].node.place, items[1].place, inner[0].place, inner[1].node.place];
    let places: Vec<String> = places.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["1:1", "1:5", "2:1", "3:3", "3:21"]);
}

fn soup() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("{".to_owned()),
        Just("}".into()),
        Just("[".into()),
        Just("]".into()),
        Just("=".into()),
        Just(":".into()),
        Just(",".into()),
        Just("\"".into()),
        Just("\\".into()),
        Just("\n".into()),
        Just("<<EOF\n".into()),
        Just("<<-E\n".into()),
        Just("EOF\n".into()),
        Just("${".into()),
        Just("#".into()),
        Just("/*".into()),
        Just("*/".into()),
        Just("0600".into()),
        Just("-".into()),
        Just("1e9".into()),
        Just("true".into()),
        Just("template".into()),
        Just("\\u12".into()),
        Just("ä".into()),
        Just("\u{0}".into()),
        any::<String>(),
    ];
    proptest::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_or_hang(text in soup()) {
        let _ = read(&text);
        let _ = read(&format!("{{{text}"));
        let _ = super::super::decode::file("f", &text);
    }

    #[test]
    fn a_text_in_quotes_is_read_back_as_it_was(text in "[^\\p{C}$]{0,40}") {
        let written = text.replace('\\', "\\\\").replace('"', "\\\"");
        let items = read(&format!("a = \"{written}\"")).unwrap();
        prop_assert_eq!(&items[0].node.value, &Value::Text(text));
    }
}
