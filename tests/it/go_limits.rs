//! What no template can do, whatever it is: panic, run past its limits, give two answers.

use std::time::{Duration, Instant};

use portolan::render::engine::go::{
    ErrorKind, Limit, Limits, Options, Signature, Templates, Type, Value,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::go_grammar::made;
use crate::go_judge::{Case, Verdict, ours};
use crate::go_values::functions;

/// Small enough that a thousand cases take a moment.
const TIGHT: Limits = Limits { steps_max: 5_000, depth_max: 20, output_max: 4_000, deadline: None };

/// Renders twice within tight limits.
fn holds(text: &str, seed: u64) {
    let texts = vec![("t".to_owned(), text.to_owned())];
    let case = Case { texts, data: made(seed % 64).data, ..Case::default() };
    let first = ours(&case, TIGHT);
    if let Verdict::Output(bytes) = &first {
        assert!(bytes.len() <= 4_000, "{} bytes from {text:?}", bytes.len());
    }
    assert_eq!(first, ours(&case, TIGHT), "two answers to {text:?}");
}

const TOKENS: [&str; 64] = [
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    " ",
    " ",
    "\n",
    "(",
    ")",
    "|",
    ".",
    "$",
    "$x",
    ".l",
    ".m",
    ".v",
    ".s",
    ".i",
    "$.m",
    "if",
    "else",
    "end",
    "range",
    "with",
    "define",
    "template",
    "block",
    "break",
    "continue",
    ":=",
    "=",
    ",",
    "nil",
    "true",
    "1",
    "-1",
    "1.5",
    "'a'",
    "\"T\"",
    "`a`",
    "99999999999",
    "1i",
    "/*",
    "*/",
    "len",
    "index",
    "slice",
    "printf",
    "\"%9999999d%*d\"",
    "print",
    "call",
    "eq",
    "and",
    "or",
    "not",
    "html",
    "seq2",
    "upTo",
    "{{end}}",
    "{{range 9}}",
    "{{template \"T\" .}}",
    "{{define \"T\"}}",
    "é",
];

/// A thousand cases, always the same; with `PORTOLAN_FULL` a hundred times as many, others each time.
fn fuzzed() -> ProptestConfig {
    let full = std::env::var_os("PORTOLAN_FULL").is_some();
    ProptestConfig {
        cases: if full { 102_400 } else { 1024 },
        rng_seed: if full { RngSeed::Random } else { RngSeed::Fixed(5) },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(fuzzed())]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), seed: u64) {
        let text = format!("a{{{{{}", String::from_utf8_lossy(&bytes));
        holds(&text, seed);
        holds(&String::from_utf8_lossy(&bytes), seed);
    }

    #[test]
    fn no_tokens_make_it_panic(tokens in proptest::collection::vec(0..TOKENS.len(), 0..40), seed: u64) {
        let text: String = tokens.iter().map(|token| TOKENS[*token]).collect();
        holds(&text, seed);
        holds(&format!("{{{{{text}}}}}"), seed);
    }

    #[test]
    fn no_made_template_runs_past_its_limits(seed in 1_000_000_u64..2_000_000) {
        holds(&made(seed).texts[0].1, seed);
    }
}

/// The limit that `text` runs into, with a number to count down from as data.
fn limit(text: &str, limits: Limits) -> Limit {
    let mut functions = functions();
    functions.add("run", Signature::new(&[Type::Any], Type::String), |context, args| {
        context.execute_template("T", args[0].clone()).map(Value::from)
    });
    let options = Options { functions, ..Options::default() };
    let templates = Templates::parse("t", text, &options).unwrap();
    let error = templates.execute(Value::int(1 << 40), &(), limits).unwrap_err();
    match error.kind {
        ErrorKind::Limit(limit) => limit,
        _ => panic!("{text}: {error}"),
    }
}

#[test]
fn each_limit_ends_an_evaluation() {
    let limits = Limits { steps_max: 100_000, depth_max: 50, output_max: 10_000, deadline: None };
    let (steps, depth, output) = (Limit::Steps(100_000), Limit::Depth(50), Limit::Output(10_000));
    for (case, text, want) in [
        ("an endless range", "{{range .}}{{end}}", steps),
        ("a range within a range", "{{range .}}{{range $}}{{end}}{{end}}", steps),
        ("a long sequence", "{{range seq .}}{{end}}", steps),
        (
            "a template that calls itself",
            "{{define \"T\"}}{{template \"T\"}}{{end}}{{template \"T\"}}",
            depth,
        ),
        ("a function that does", "{{define \"T\"}}{{run .}}{{end}}{{run .}}", depth),
        (
            "templates in ranges",
            "{{define \"T\"}}{{range 20}}{{template \"U\"}}{{end}}{{end}}{{define \"U\"}}{{range 9999}}{{end}}{{end}}{{range .}}{{template \"T\"}}{{end}}",
            steps,
        ),
        ("text in a range", "{{range .}}0123456789{{end}}", output),
        ("one wide number", "{{printf \"%99999d\" 1}}", output),
        ("a width that is an argument", "{{printf \"%*d\" 99999 1}}", output),
        ("a string that doubles", "{{$s := \"x\"}}{{range .}}{{$s = print $s $s}}{{end}}", output),
        (
            "a list of itself",
            "{{$l := list 1}}{{range .}}{{$l = list $l $l}}{{print $l}}{{end}}",
            output,
        ),
        ("escapes", "{{$s := \"<\"}}{{range .}}{{$s = html $s $s}}{{end}}", output),
    ] {
        let got = limit(text, limits);
        // The strings may also cost all steps before they are too long.
        assert!(got == want || want == output && got == steps, "{case}: {got:?}");
    }
}

#[test]
fn values_cannot_be_nested_until_dropping_them_overflows_the_stack() {
    for text in [
        "{{$l := list 1}}{{range 100000}}{{$l = list $l}}{{end}}",
        "{{$l := list 1}}{{range 100000}}{{$l = slice (list $l 1) 0 1}}{{end}}{{print $l}}",
        // Nothing is nested here.
        "{{$l := list 1 2}}{{range 100000}}{{$l = slice $l 0}}{{end}}{{len $l}}",
        "{{$l := list 1}}{{range 100000}}{{$l = list (slice (list $l) 0)}}{{end}}{{len $l}}",
    ] {
        let texts = vec![("t".to_owned(), text.to_owned())];
        let got = ours(&Case { texts, ..Case::default() }, Limits::default());
        if text.contains("$l = slice $l") {
            assert_eq!(got, Verdict::Output(b"2".to_vec()), "{text}");
            continue;
        }
        assert!(got.to_string().contains("lists and maps within each other"), "{text}: {got}");
    }
}

#[test]
fn an_evaluation_ends_at_its_deadline() {
    let deadline = Some(Instant::now() + Duration::from_millis(20));
    let limits = Limits { steps_max: u64::MAX, deadline, ..Limits::default() };
    assert_eq!(limit("{{range .}}{{len \"x\"}}{{end}}", limits), Limit::Time);
}

#[test]
fn nesting_ends_in_an_error_on_a_small_stack() {
    let deep = |open: &str, middle: &str, close: &str, count: usize| {
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    // As deep as may be parsed, and each template of the recursion that deep.
    let recursive = |open: &str, close: &str| {
        let body = deep(open, "{{template \"T\" .}}", close, 140);
        format!("{{{{define \"T\"}}}}{body}{{{{end}}}}{{{{template \"T\" .}}}}")
    };
    let parens = format!("{{{{print {}}}}}", deep("(print ", "1", ")", 140));
    let texts = [
        ("blocks", deep("{{if 1}}", "x", "{{end}}", 100_000)),
        ("parentheses", format!("{{{{{}}}}}", deep("(", "1", ")", 100_000))),
        ("open parentheses", format!("{{{{{}", "(".repeat(100_000))),
        (
            "as many arms as one likes",
            format!("{{{{if 0}}}}{}{{{{end}}}}", "{{else if 0}}".repeat(10_000)),
        ),
        ("named blocks", deep("{{block \"b\" .}}", "x", "{{end}}", 100_000)),
        ("ranges", recursive("{{range 1}}", "{{end}}")),
        ("with and recursion", recursive("{{with .}}", "{{end}}")),
        ("recursion in parentheses", recursive("{{if (print (print (print 1)))}}", "{{end}}")),
        ("as many blocks as may be", deep("{{range 1}}{{if 1}}", "x", "{{end}}{{end}}", 74)),
        ("as many parentheses as may be", parens),
    ];
    // The stack that threads of tests and of tokio have.
    let small = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        for (case, text) in texts {
            println!("{case}");
            let case = Case {
                name: case.to_owned(),
                texts: vec![("t".to_owned(), text)],
                data: serde_json::json!(1),
                ..Case::default()
            };
            let got = ours(&case, Limits::default());
            println!("{}: {}", case.name, got.to_string().chars().take(100).collect::<String>());
            assert_eq!(
                matches!(got, Verdict::Output(_)),
                case.name.starts_with("as many"),
                "{}",
                case.name
            );
        }
        let own = "{{define \"T\"}}{{print (run .)}}{{end}}{{run .}}";
        assert!(matches!(limit(own, Limits::default()), Limit::Depth(_)));
    });
    small.unwrap().join().unwrap();
}
