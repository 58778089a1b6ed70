//! The real `text/template`, as a program that renders cases: the judge of ours.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use portolan::render::engine::go::{Error, ErrorKind, Limits, MissingKey, Options, Templates};
use serde_json::{Value as Json, json};

use crate::go_values::{functions, value};

/// A template with its data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Case {
    /// Where it stands, for messages.
    pub(crate) name: String,
    /// Texts with their names; the first one is executed.
    pub(crate) texts: Vec<(String, String)>,
    /// Tagged JSON, see `tests/go/values.go`.
    pub(crate) data: Json,
    /// `default`, `zero`, `error` or nothing.
    pub(crate) missing: String,
    pub(crate) left: String,
    pub(crate) right: String,
    /// Why it may differ from Go.
    pub(crate) waived: Option<String>,
}

/// What came out of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Output(Vec<u8>),
    /// `parse`, `exec`, or a word that only one side knows; and the message.
    Error(String, String),
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Output(bytes) => write!(f, "output {:?}", String::from_utf8_lossy(bytes)),
            Self::Error(phase, message) => write!(f, "{phase} error {message:?}"),
        }
    }
}

/// Renders `case` with our engine.
pub(crate) fn ours(case: &Case, limits: Limits) -> Verdict {
    let told = |error: Error| {
        let phase = match error.kind {
            ErrorKind::Parse => "parse",
            ErrorKind::Exec => "exec",
            ErrorKind::Limit(_) => "limit",
        };
        Verdict::Error(phase.to_owned(), error.message)
    };
    let options = Options {
        left: case.left.clone(),
        right: case.right.clone(),
        missing_key: match &*case.missing {
            "zero" => MissingKey::Zero,
            "error" => MissingKey::Error,
            _ => MissingKey::Default,
        },
        functions: functions(),
        ..Options::default()
    };
    let [(name, first), more @ ..] = &case.texts[..] else { panic!("{}: no text", case.name) };
    let templates = Templates::parse(name, first, &options).and_then(|mut templates| {
        for (name, text) in more {
            templates.add(name, text, &options)?;
        }
        Ok(templates)
    });
    match templates.and_then(|templates| templates.execute(value(&case.data), &(), limits)) {
        Ok(output) => Verdict::Output(output),
        Err(error) => told(error),
    }
}

/// Renders all `cases` with Go.
pub(crate) fn theirs(cases: &[Case]) -> Vec<Verdict> {
    let program = program();
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
    let mut stdin = child.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(line).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(stdin, "{line}").unwrap();
        }
    });
    let answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let verdicts: Vec<_> = answers.map(|line| verdict(&line.unwrap())).collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success(), "the judge failed");
    assert_eq!(verdicts.len(), cases.len(), "the judge answered each case");
    verdicts
}

fn line(case: &Case) -> String {
    json!({
        "texts": case.texts, "data": case.data, "missing": case.missing,
        "left": case.left, "right": case.right,
    })
    .to_string()
}

fn verdict(line: &str) -> Verdict {
    let answer: Json = serde_json::from_str(line).unwrap();
    let text = |key: &str| answer[key].as_str().unwrap().to_owned();
    if text("phase").is_empty() {
        return Verdict::Output(unbase64(&text("out")));
    }
    Verdict::Error(text("phase"), text("err"))
}

/// The bytes of `text` in base 64.
pub(crate) fn unbase64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let digits = four
            .iter()
            .filter(|c| **c != b'=')
            .map(|c| LETTERS.iter().position(|letter| letter == c).unwrap() as u32);
        let count = digits.clone().count();
        let bits = digits.fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - count));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..count]);
    }
    bytes
}

/// The judge, built once from `tests/go` by the toolchain that `scripts/install-peers` installs.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let peers = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("peers/go");
        let root = peers.join("root");
        assert!(
            root.join("bin/go").exists(),
            "Go is missing below {}; `scripts/install-peers --debian` installs it",
            peers.display()
        );
        let program = peers.join("judge");
        // Its own name until it is whole: other test processes may be building it too.
        let mine = peers.join(format!("judge-{}", std::process::id()));
        let status = Command::new(root.join("bin/go"))
            .args(["build", "-o"])
            .arg(&mine)
            .args(["judge.go", "values.go"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/go"))
            .env("GOROOT", &root)
            // Addresses of a fixed length: what is computed from them is the same then.
            .env("GOEXPERIMENT", "norandomizedheapbase64")
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-mod=mod")
            .env("GOPROXY", "off")
            .env("GOTELEMETRY", "off")
            .env("GOENV", "off")
            .env("GOPATH", peers.join("path"))
            .env("GOCACHE", peers.join("cache"))
            .env("XDG_CONFIG_HOME", peers.join("config"))
            .status()
            .unwrap();
        assert!(status.success(), "the judge did not build");
        fs::rename(&mine, &program).unwrap();
        program
    })
}
