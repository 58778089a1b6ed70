//! Compared with what real Go printed: `tests/go/fmt/cases.txt`, made by `tests/go/fmt/main.go`.

use std::any::Any;

use super::super::text::Text;
use super::super::types::{FloatKind, IntKind, Named, Type, UintKind};
use super::super::value::{Object, Value};
use super::cases::cases;
use super::{NumberFormat, TooLarge, print, printf, println};

static POINT: Named =
    Named { name: "main.Point", underlying: Type::Struct("struct { X int; Y string }") };
static TAGS: Named = Named { name: "main.Tags", underlying: Type::STRINGS };
static LEVEL: Named = Named { name: "main.Level", underlying: Type::INT };
static LEVEL_TYPE: Type = Type::Named(&LEVEL);
static LEVELS: (Type, Type) = (LEVEL_TYPE, LEVEL_TYPE);
static POINT_TYPE: Type = Type::Named(&POINT);
static POINT_POINTER: Type = Type::Pointer(&POINT_TYPE);
static BYTES: Type = Type::Slice(&Type::Uint(UintKind::U8));

struct Point(i64, &'static str, Type);

impl Object for Point {
    fn type_of(&self) -> Type {
        self.2
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "X" => Some(Value::int(self.0)),
            "Y" => Some(self.1.into()),
            _ => None,
        }
    }

    fn fields(&self) -> &[&'static str] {
        &["X", "Y"]
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Tags(Value);

impl Object for Tags {
    fn type_of(&self) -> Type {
        Type::Named(&TAGS)
    }

    fn underlying(&self) -> Option<Value> {
        Some(self.0.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Level(i64);

impl Object for Level {
    fn type_of(&self) -> Type {
        LEVEL_TYPE
    }

    fn underlying(&self) -> Option<Value> {
        Some(Value::int(self.0))
    }

    fn text(&self) -> Option<Text> {
        Some(format!("level-{}", self.0).into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn level(number: i64) -> Value {
    Value::object(Level(number))
}

fn tags(names: &[&'static str]) -> Value {
    Value::object(Tags(Value::strings(names.iter().copied())))
}

fn list(items: Vec<Value>) -> Value {
    Value::list(&Type::Any, items)
}

fn bytes(bytes: &[u8]) -> Value {
    let items: Vec<_> = bytes.iter().map(|b| Value::Uint(u64::from(*b), UintKind::U8)).collect();
    Value::list(&Type::Uint(UintKind::U8), items)
}

fn single(value: f32) -> Value {
    Value::Float(f64::from(value), FloatKind::F32)
}

/// The same values as in the program that made the cases.
fn values() -> Vec<Value> {
    let int = Value::int;
    let float = Value::float;
    let text = |text: &'static str| Value::from(text);
    let mut values: Vec<Value> = [0, 7, -42, 65, 0x1F600].map(int).into();
    values.extend([
        Value::Int(i64::MIN, IntKind::I64),
        Value::Int(-5, IntKind::I8),
        Value::Uint(9, UintKind::Uint),
        Value::Uint(200, UintKind::U8),
        Value::Uint(u64::MAX, UintKind::U64),
        Value::Uint(77, UintKind::Uintptr),
    ]);
    let floats = [
        0.0,
        -0.0,
        1.0,
        -1.5,
        3.14259,
        2_592_000.0,
        1e21,
        1e-7,
        123_456_789.0,
        2.5,
        100_000.0,
        1_000_000.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        5e-324,
        f64::MAX,
    ];
    values.extend(floats.map(float));
    values.extend([single(3.4), single(16_777_216.0)]);
    values.extend(["", "hi", "a\tb\"`é世"].map(text));
    values.push(Value::String(Text::from(&b"\xff\0z"[..])));
    values.extend(["it's 100%", "tab\there", "\u{200b}\u{ad}\u{1F600}\u{feff}"].map(text));
    values.extend([
        Value::Bool(true),
        Value::Bool(false),
        Value::Nil,
        Value::strings(["a", "b c"]),
        Value::list(&Type::INT, vec![int(1), int(-2)]),
        list(vec![int(1), text("a"), Value::Nil, float(2.5)]),
        bytes(b"hi\x01"),
        Value::NilOf(&BYTES),
        Value::map(&(Type::String, Type::INT), vec![(text("b"), int(2)), (text("a"), int(1))]),
        Value::dict([("k", list(vec![int(1), Value::Nil]))]),
        Value::map(
            &(Type::INT, Type::Bool),
            vec![(int(3), Value::Bool(true)), (int(-1), Value::Bool(false))],
        ),
        Value::NilOf(&Type::STRING_MAP),
        Value::NilOf(&Type::STRINGS),
        Value::Complex(1.0, -2.5),
        Value::object(Point(1, "y", POINT_TYPE)),
        Value::object(Point(2, "z", POINT_POINTER)),
        Value::list(&POINT_TYPE, vec![Value::object(Point(3, "w", POINT_TYPE))]),
        tags(&["x", "y"]),
        level(3),
        Value::list(&LEVEL_TYPE, vec![level(1), level(2)]),
        Value::map(&LEVELS, vec![(level(2), level(1))]),
        Value::NilOf(&POINT_POINTER),
        list(vec![level(4)]),
    ]);
    values
}

/// The same arguments as in the program that made the cases.
fn arguments() -> Vec<Vec<Value>> {
    let int = Value::int;
    let float = Value::float;
    let text = |text: &'static str| Value::from(text);
    vec![
        vec![],
        vec![int(1)],
        vec![text("a")],
        vec![int(5), int(42)],
        vec![int(-5), int(42)],
        vec![int(2), float(3.14259)],
        vec![float(3.14259), int(2), int(8)],
        vec![text("x"), int(1)],
        vec![Value::Nil],
        vec![Value::Nil, int(1)],
        vec![int(1), int(2), int(3)],
        vec![Value::Int(4, IntKind::I8), Value::Uint(7, UintKind::U16)],
        vec![Value::strings(["q"]), Value::Bool(true)],
        vec![int(1_000_001), int(1)],
        vec![int(-1_000_001), int(2)],
        vec![float(3.0), float(4.0)],
        vec![Value::Uint(u64::MAX, UintKind::U64), int(1)],
    ]
}

/// What `print` and `println` are given.
fn printed() -> Vec<Vec<Value>> {
    let int = Value::int;
    let float = Value::float;
    let text = |text: &'static str| Value::from(text);
    vec![
        vec![],
        vec![int(1)],
        vec![int(1), int(2)],
        vec![text("a"), text("b")],
        vec![text("a"), int(1)],
        vec![int(1), text("a")],
        vec![int(1), int(2), text("a"), int(3), int(4)],
        vec![Value::Nil, Value::Nil],
        vec![Value::Nil, text("a"), Value::Nil],
        vec![Value::Bool(true), float(2.5)],
        vec![Value::strings(["a"]), Value::list(&Type::INT, vec![int(1)])],
        vec![tags(&["x"]), int(1)],
        vec![level(1), level(2)],
        vec![float(2_592_000.0)],
        vec![float(1e6), float(1e-5), float(123_456.0), float(1e20)],
        vec![text("a"), bytes(b"b"), text("c")],
        vec![
            Value::dict([("b", int(1)), ("a", Value::Nil)]),
            Value::object(Point(1, "p", POINT_TYPE)),
        ],
        vec![single(0.1), float(0.1)],
        vec![Value::Int(120, IntKind::I32)],
    ]
}

/// Long output is told by its length in the table.
fn shown(text: Vec<u8>) -> Vec<u8> {
    if text.len() > 1000 { format!("{} bytes", text.len()).into_bytes() } else { text }
}

fn told(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

const MAX: usize = 16 << 20;

#[test]
fn every_verb_with_every_flag_prints_every_value_as_go_does() {
    let values = values();
    let (mut compared, mut wrong) = (0, Vec::new());
    for row in cases("verb") {
        let (spec, wants) = row.split_first().unwrap();
        assert_eq!(wants.len(), values.len());
        for (value, want) in values.iter().zip(wants) {
            if want == b"-" {
                continue;
            }
            compared += 1;
            let got = printf(spec, std::slice::from_ref(value), NumberFormat::Go, MAX).unwrap();
            let got = shown(got);
            if got != *want {
                let (spec, got, want) = (told(spec), told(&got), told(want));
                wrong.push(format!("{spec} of {value:?}: {got}, Go: {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(compared > 5000, "only {compared} were compared");
}

#[test]
fn indexes_stars_and_faulty_formats_give_what_go_gives() {
    let arguments = arguments();
    let mut wrong = Vec::new();
    for row in cases("format") {
        let (format, wants) = row.split_first().unwrap();
        assert_eq!(wants.len(), arguments.len());
        for (args, want) in arguments.iter().zip(wants) {
            let got = shown(printf(format, args, NumberFormat::Go, MAX).unwrap());
            if got != *want {
                let (format, got, want) = (told(format), told(&got), told(want));
                wrong.push(format!("{format} of {args:?}: {got}, Go: {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn print_puts_spaces_between_what_is_no_string_and_println_everywhere() {
    let rows = cases("print");
    let arguments = printed();
    assert_eq!(rows.len(), arguments.len());
    for (args, row) in arguments.iter().zip(rows) {
        assert_eq!(told(&print(args, NumberFormat::Go, MAX).unwrap()), told(&row[0]), "{args:?}");
        assert_eq!(told(&println(args, NumberFormat::Go, MAX).unwrap()), told(&row[1]), "{args:?}");
    }
}

#[test]
fn plain_numbers_have_no_exponent_unless_a_verb_asks_for_one() {
    for (value, want) in [
        (2_592_000.0, "2592000"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (0.1, "0.1"),
        (-3.0, "-3"),
    ] {
        let got = print(&[Value::float(value)], NumberFormat::Plain, MAX).unwrap();
        assert_eq!(told(&got), want);
    }
    let nested = list(vec![Value::float(1e6)]);
    assert_eq!(print(&[nested], NumberFormat::Plain, MAX).unwrap(), b"[1000000]");
    let asked = printf(b"%g %e", &[Value::float(1e6), Value::float(1e6)], NumberFormat::Plain, MAX);
    assert_eq!(told(&asked.unwrap()), "1e+06 1.000000e+06");
}

#[test]
fn output_beyond_the_limit_is_an_error_and_not_built() {
    let wide = printf(b"%1000000d", &[Value::int(1)], NumberFormat::Go, 1000);
    assert_eq!(wide, Err(TooLarge { max: 1000 }));
    let many = list(vec!["0123456789".into(); 1000]);
    assert_eq!(print(&[many], NumberFormat::Go, 1000), Err(TooLarge { max: 1000 }));
}

#[test]
fn printable_is_what_go_says_of_every_code_point() {
    let sum = (0..=0x10_ffff).fold(0u64, |sum, code| {
        sum.wrapping_mul(31).wrapping_add(u64::from(super::is_printable(code)))
    });
    assert_eq!(sum.to_string().as_bytes(), cases("printable")[0][0]);
}
