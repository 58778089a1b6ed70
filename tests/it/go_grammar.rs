//! Go templates made by a grammar, with made data, rendered by us and by Go.

use portolan::render::engine::go::Limits;
use serde_json::{Value as Json, json};

use crate::go_judge::{Case, Verdict, ours, theirs};

/// Makes templates and data; the same seed makes the same ones.
struct Maker {
    state: u64,
    out: String,
    /// Variables in scope.
    variables: Vec<String>,
    /// Ranges around this place.
    ranges: usize,
    depth: usize,
    /// The template that is being made; it calls only later ones.
    template: usize,
}

/// What an expression gives, mostly.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Any,
    Int,
    String,
    Bool,
    List,
    Map,
    Float,
    Service,
}

use Kind::{Any, Bool, Float, Int, List, Map, Service, String as Str};

const KINDS: [Kind; 8] = [Any, Int, Str, Bool, List, Map, Float, Service];
const TEMPLATES: usize = 3;

impl Maker {
    fn new(seed: u64) -> Self {
        let mut maker = Self {
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            out: String::new(),
            variables: Vec::new(),
            ranges: 0,
            depth: 0,
            template: 0,
        };
        for _ in 0..4 {
            maker.below(2);
        }
        maker
    }

    fn below(&mut self, count: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    // Data.

    fn string(&mut self) -> Json {
        json!(self.pick(&["", "a", "b", "text", "é⌘", "x y", "<&>", "10", "%d", "a\nb", "\"q\""]))
    }

    fn data(&mut self, depth: usize) -> Json {
        if depth == 0 {
            return match self.below(7) {
                0 | 1 => json!(self.pick(&[0_i64, 1, 2, 7, -3, 1000, -123_456_789])),
                2 => self.string(),
                3 => json!({"$float": self.pick(&[0.0, 1.5, -2.25, 1e6, 2_592_000.0, 1e21, 1e-7])}),
                4 => json!(self.chance(50)),
                5 => self.number(),
                _ => Json::Null,
            };
        }
        let count = self.below(4);
        match self.below(9) {
            0 | 1 => self.root(depth - 1),
            2 => (0..count).map(|_| self.data(depth - 1)).collect(),
            3 => json!({"$strings": (0..count).map(|_| self.string()).collect::<Json>()}),
            4 => json!({"$ints": (0..count).map(|_| json!(self.below(9))).collect::<Json>()}),
            5 => {
                json!({"$intMap": (0..count).map(|n| json!([(["a", "b", "k", "é"][n]), n])).collect::<Json>()})
            }
            6 => {
                json!({"$byInt": (0..count).map(|n| json!([n * 7 % 5, self.data(0)])).collect::<Json>()})
            }
            7 => self.service(),
            _ => json!({"$tags": (0..count).map(|_| self.string()).collect::<Json>()}),
        }
    }

    fn number(&mut self) -> Json {
        let tag = self.pick(&["$int8", "$int64", "$uint8", "$uint", "$uint64", "$seconds"]);
        let mut object = serde_json::Map::new();
        object.insert(tag.to_owned(), json!(self.below(100)));
        Json::Object(object)
    }

    fn service(&mut self) -> Json {
        let mut fields = json!({"Name": self.string(), "Port": self.below(9000)});
        if self.chance(50) {
            fields["Tags"] = json!({"$tags": [self.string(), self.string()]});
            fields["Meta"] = json!({"$stringMap": [["k", self.string()], ["a", "b"]]});
            fields["Any"] = self.data(0);
        }
        if self.chance(30) {
            fields["Next"] = json!({"$service": {"Name": self.string()}});
        }
        json!({"$service": fields})
    }

    /// A map that has most keys, with values of the kind that the key tells.
    fn root(&mut self, depth: usize) -> Json {
        let mut map = serde_json::Map::new();
        for key in ["i", "j", "s", "t", "b", "f", "l", "m", "v", "n"] {
            if self.chance(2) {
                continue;
            }
            let value = match key {
                "i" | "j" if self.chance(97) => json!(self.below(4)),
                "s" | "t" => self.string(),
                "b" => json!(self.chance(50)),
                "f" => json!({"$float": self.pick(&[0.5, 1e6, 3.0, 1e-7])}),
                "l" if self.chance(70) => (0..=self.below(4)).map(|_| self.data(0)).collect(),
                "l" if self.chance(90) => json!({"$strings": ["p", self.string(), "q"]}),
                "l" => self.data(1),
                "m" if depth > 0 => self.root(depth - 1),
                "v" => self.service(),
                _ => self.data(depth.min(1)),
            };
            map.insert(key.to_owned(), value);
        }
        Json::Object(map)
    }

    // Templates.

    fn text(&mut self) {
        let text = self.pick(&["a", " ", "\n", " x ", "é", "{ ", "}}", "b\n  ", "\t", "<p>"]);
        self.put(text);
    }

    fn open(&mut self) {
        let open = if self.chance(12) { "{{- " } else { "{{" };
        self.put(open);
    }

    fn close(&mut self) {
        let close = if self.chance(12) { " -}}" } else { "}}" };
        self.put(close);
    }

    fn nodes(&mut self) {
        let variables = self.variables.len();
        self.depth += 1;
        for _ in 0..=self.below(3) {
            self.node();
        }
        self.depth -= 1;
        self.variables.truncate(variables);
    }

    fn node(&mut self) {
        let deep = self.depth > 4;
        match self.below(if deep { 9 } else { 16 }) {
            0 | 1 => self.text(),
            2..=6 => {
                self.open();
                let kind = self.pick(&KINDS);
                self.pipeline(kind);
                self.close();
            }
            7 => self.declaration(),
            8 if self.ranges > 0 && self.chance(40) => {
                let word = self.pick(&["{{break}}", "{{continue}}"]);
                self.put(word);
            }
            8 if self.template < TEMPLATES => {
                let later = self.template + 1 + self.below(TEMPLATES - self.template);
                self.open();
                self.put(&format!("template \"T{later}\""));
                if self.chance(2) {
                    self.put(" ");
                    let kind = self.pick(&KINDS);
                    self.pipeline(kind);
                } else if self.chance(99) {
                    self.put(" $");
                }
                self.close();
            }
            8 => self.put("{{/* comment */}}"),
            9..=11 => self.branch("if", Bool),
            12 | 13 => self.branch("with", Any),
            _ => self.range(),
        }
    }

    fn declaration(&mut self) {
        let kind = self.pick(&KINDS);
        self.open();
        if !self.variables.is_empty() && self.chance(40) {
            let at = self.below(self.variables.len());
            let name = self.variables[at].clone();
            self.put(&format!("{name} = "));
            self.pipeline(kind);
        } else {
            let name = self.pick(&["$x", "$y", "$z"]);
            self.put(&format!("{name} := "));
            self.pipeline(kind);
            self.variables.push(name.to_owned());
        }
        self.close();
    }

    fn branch(&mut self, word: &str, kind: Kind) {
        let variables = self.variables.len();
        self.open();
        self.put(&format!("{word} "));
        let named = self.chance(20);
        if named {
            self.put("$w := ");
        }
        let kind = if self.chance(30) { self.pick(&KINDS) } else { kind };
        self.pipeline(kind);
        self.close();
        if named {
            self.variables.push("$w".to_owned());
        }
        self.nodes();
        if self.chance(25) {
            self.put(&format!("{{{{else {word} "));
            self.pipeline(kind);
            self.close();
            self.nodes();
        }
        if self.chance(40) {
            self.put("{{else}}");
            self.nodes();
        }
        self.put("{{end}}");
        self.variables.truncate(variables);
    }

    fn range(&mut self) {
        let variables = self.variables.len();
        self.open();
        self.put("range ");
        let names: &[&str] = self.pick(&[&["$e"] as &[&str], &["$i", "$e"], &[], &[]]);
        if !names.is_empty() {
            self.put(&format!("{} := ", names.join(", ")));
        }
        let kind = if self.chance(85) { List } else { self.pick(&[Map, Int, Map, Any]) };
        match self.below(12) {
            0 if names.len() < 2 => self.put("seq 3"),
            1 => self.put("seq2 2"),
            2 => self.put("upTo 2"),
            _ => self.pipeline(kind),
        }
        self.close();
        self.variables.extend(names.iter().map(|name| (*name).to_owned()));
        self.ranges += 1;
        self.nodes();
        self.ranges -= 1;
        if self.chance(30) {
            self.put("{{else}}");
            self.nodes();
        }
        self.put("{{end}}");
        self.variables.truncate(variables);
    }

    // Expressions.

    fn pipeline(&mut self, kind: Kind) {
        if self.chance(10) && matches!(kind, Str | Any | Bool | Int) {
            let (stage, inner) = match kind {
                Bool => {
                    self.pick(&[("not", Any), ("eq 1", Int), ("eq \"a\"", Str), ("and 1", Bool)])
                }
                Int => self.pick(&[("len", Str), ("len", List), ("add 1", Int), ("sum 1 2", Int)]),
                _ => self.pick(&[
                    ("print", Any),
                    ("printf \"%v\"", Any),
                    ("upper", Str),
                    ("html", Any),
                    ("js", Str),
                    ("printf \"%T %v\" 1", Any),
                    ("or 0", Any),
                    ("urlquery", Any),
                    ("println", Any),
                    ("printf \"%5d|\"", Any),
                    ("printf \"%-6q|\"", Str),
                    ("and 1", Any),
                ]),
            };
            self.expression(inner);
            self.put(&format!(" | {stage}"));
        } else {
            self.expression(kind);
        }
    }

    fn argument(&mut self, kind: Kind) {
        if self.chance(25) && self.depth < 8 {
            self.put("(");
            self.depth += 1;
            self.pipeline(kind);
            self.depth -= 1;
            self.put(")");
            if kind == Map && self.chance(10) {
                self.put(".s");
            }
        } else {
            self.term(kind);
        }
    }

    fn term(&mut self, kind: Kind) {
        let kind = if self.chance(1) { self.pick(&KINDS) } else { kind };
        if !self.variables.is_empty() && kind == Any && self.chance(50) {
            let at = self.below(self.variables.len());
            let name = self.variables[at].clone();
            self.put(&name);
            if self.chance(1) {
                self.put(".s");
            }
            return;
        }
        let root = match self.below(100) {
            0..2 => "",
            2..12 => "$.m",
            _ => "$",
        };
        let (fields, constants): (&[&str], &[&str]) = match kind {
            Int => (&[".i", ".j", ".v.Port"], &["0", "1", "2", "-1", "0x10", "'a'", "3"]),
            Str => (&[".s", ".t", ".v.Name", ".v.Address"], &["\"a\"", "\"\"", "`b`", "\"é<\\n\""]),
            Bool => (&[".b"], &["true", "false"]),
            List => (&[".l", ".l", ".v.Tags"], &[]),
            Map => (&[".m", ".m", ".m", ".v.Meta"], &["$"]),
            Float => (&[".f", ".v.Weight"], &["1.5", "1e6", ".5", "1e21", "2592000.0"]),
            Service => (&[".v", ".v.Self"], &[]),
            Any => (&[".n", ".i", ".s", ".l", ".v", ".none", ".v.Any"], &[".", ".", "1", "\"x\""]),
        };
        if constants.is_empty() || self.chance(65) {
            let field = self.pick(fields);
            self.put(&format!("{root}{field}"));
        } else {
            let constant = self.pick(constants);
            self.put(constant);
        }
    }

    fn expression(&mut self, kind: Kind) {
        if self.chance(45) || self.depth > 7 {
            self.term(kind);
            return;
        }
        self.depth += 1;
        let (name, arguments): (&str, &[Kind]) = match kind {
            Int => self.pick(&[
                ("add", &[Int, Int] as &[Kind]),
                ("len", &[List]),
                ("len", &[Str]),
                ("sum", &[Int, Int, Int]),
                ("$.v.Plus", &[Int, Int]),
                ("int8 3", &[]),
                ("index (list 1 2 3 4)", &[Int]),
                ("len", &[Map]),
            ]),
            Str => self.pick(&[
                ("print", &[Any, Any] as &[Kind]),
                ("printf \"%d|%5d\"", &[Int, Int]),
                ("upper", &[Str]),
                ("printf \"%s-%q\"", &[Str, Str]),
                ("printf \"%v %T\"", &[Any, Any]),
                ("html", &[Any]),
                ("join \",\"", &[Str, Str]),
                ("slice", &[Str]),
                ("println", &[Any]),
                ("js", &[Str]),
                ("printf \"%6.2f|%g|%v\"", &[Float, Float, Float]),
                ("$.v.Join \"-\"", &[Str, Str]),
                ("urlquery", &[Any]),
                ("printf \"%x %-8v| %+v\"", &[Str, Any, Any]),
                ("echo", &[Any]),
                ("printf \"%08.3f %t %c\"", &[Float, Bool, Int]),
                ("printf \"%#v\"", &[Any]),
            ]),
            Bool => self.pick(&[
                ("eq", &[Int, Int] as &[Kind]),
                ("eq", &[Str, Str]),
                ("eq", &[Any, Any]),
                ("ne", &[Str, Str]),
                ("lt", &[Int, Int]),
                ("le", &[Float, Float]),
                ("gt", &[Str, Str]),
                ("ge", &[Int, Int]),
                ("and", &[Bool, Bool]),
                ("or", &[Bool, Any, Bool]),
                ("not", &[Any]),
                ("eq", &[Int, Int, Int]),
                ("$.v.Tags.Contains", &[Str]),
                ("lt", &[Float, Float]),
            ]),
            List => self.pick(&[
                ("list", &[Any, Any, Int] as &[Kind]),
                ("strs", &[Str, Str]),
                ("slice $.l 1", &[]),
                ("slice $.l 0 1", &[]),
                ("list", &[]),
                ("list", &[Any]),
                ("list", &[Str, Float]),
                ("slice $.l", &[]),
            ]),
            Map => self.pick(&[
                ("index", &[Map, Str] as &[Kind]),
                ("and", &[Any, Map]),
                ("nilMap", &[]),
            ]),
            Float => self.pick(&[
                ("float", &[Float] as &[Kind]),
                ("float 3", &[]),
                ("and", &[Bool, Float]),
            ]),
            Service => self.pick(&[("service", &[Str] as &[Kind]), ("or", &[Service, Any])]),
            Any => self.pick(&[
                ("index", &[Map, Str] as &[Kind]),
                ("index $.l 0", &[]),
                ("and", &[Any, Any]),
                ("any", &[Any]),
                ("or", &[Any, Any]),
                ("index $.m \"l\" 0", &[]),
                ("call twice", &[Int]),
                ("nothing", &[]),
            ]),
        };
        self.put(name);
        for argument in arguments {
            self.put(" ");
            self.argument(*argument);
        }
        if self.below(400) == 0 {
            self.put(" 1");
        }
        self.depth -= 1;
    }

    /// One slip of the finger.
    fn slip(&mut self) {
        let mut chars: Vec<char> = self.out.chars().collect();
        let at = self.below(chars.len() + 1);
        if self.chance(50) && at < chars.len() {
            chars.remove(at);
        } else {
            let c = self.pick(&[
                '{', '}', '"', '|', ' ', '.', '(', ')', '$', '-', '#', '=', ':', ',', '\'', '1',
                'x', '\n', '`',
            ]);
            chars.insert(at, c);
        }
        self.out = chars.into_iter().collect();
    }

    fn case(mut self, seed: u64) -> Case {
        let data = self.root(2);
        for template in 1..=TEMPLATES {
            self.template = template;
            self.put(&format!("{{{{define \"T{template}\"}}}}"));
            self.nodes();
            self.put("{{end}}");
        }
        self.template = 0;
        self.nodes();
        self.nodes();
        if self.chance(15) {
            self.slip();
        }
        let missing = self.pick(&["", "", "zero", "error", "default"]).to_owned();
        let texts = vec![("made".to_owned(), self.out)];
        Case { name: format!("seed {seed}"), texts, data, missing, ..Case::default() }
    }
}

/// The case that `seed` makes.
pub(crate) fn made(seed: u64) -> Case {
    Maker::new(seed).case(seed)
}

/// Addresses differ from run to run in Go; they are found by how they begin, in each case and base.
fn without_addresses(verdict: Verdict) -> Verdict {
    let replaced = |bytes: Vec<u8>| {
        let mut out = bytes;
        for (start, digits) in
            [(&b"0xc0"[..], 12), (b"0XC0", 12), (b"8246", 12), (b"30786330", 24), (b"38323436", 24)]
        {
            let mut at = 0;
            while let Some(found) = memchr::memmem::find(&out[at..], start) {
                at += found;
                let end = at + digits;
                let whole = |bytes: &[u8]| bytes[4..].iter().all(u8::is_ascii_hexdigit);
                if out.get(at..end).is_some_and(whole) {
                    out[at..end].fill(b'@');
                }
                at += 1;
            }
        }
        out
    };
    match verdict {
        Verdict::Output(bytes) => Verdict::Output(replaced(bytes)),
        Verdict::Error(phase, message) => {
            let message = replaced(message.into_bytes());
            Verdict::Error(phase, String::from_utf8_lossy(&message).into_owned())
        }
    }
}

/// Why the two may differ in `case`.
fn waived(ours: &Verdict, theirs: &Verdict) -> Option<&'static str> {
    let (Verdict::Error(_, ours), Verdict::Error(_, theirs)) = (ours, theirs) else { return None };
    if theirs.contains("nil pointer dereference") && ours.contains("nil pointer evaluating") {
        return Some("a method of a nil pointer is not called here");
    }
    if theirs.contains("type main.Seconds") && ours.contains("type int64") {
        return Some("a range over a named number gives plain numbers here");
    }
    None
}

/// Where two texts part, and what each says around there.
fn parting(a: &str, b: &str) -> (usize, String, String) {
    let from = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        let bytes = &text.as_bytes()[from.saturating_sub(80)..text.len().min(from + 120)];
        String::from_utf8_lossy(bytes).into_owned()
    };
    (from, around(a), around(b))
}

/// Renders the cases of `seeds` on both sides; tells how many there were of each kind, and the
/// differences.
fn differences(seeds: std::ops::Range<u64>) -> (String, Vec<String>) {
    let limits = Limits { steps_max: 1_000_000, output_max: 8 << 20, ..Limits::default() };
    let (mut outputs, mut errors, mut waivers) = (0, 0, 0);
    let mut cases = Vec::new();
    for case in seeds.map(made) {
        match ours(&case, limits) {
            // Go has no limits: it would fill the memory with such a template.
            Verdict::Error(phase, _) if phase == "limit" => waivers += 1,
            verdict => cases.push((case, verdict)),
        }
    }
    let judged: Vec<Case> = cases.iter().map(|(case, _)| case.clone()).collect();
    let mut told = Vec::new();
    for ((case, ours), theirs) in cases.into_iter().zip(theirs(&judged)) {
        match &theirs {
            Verdict::Output(_) => outputs += 1,
            Verdict::Error(..) => errors += 1,
        }
        let ours = without_addresses(ours);
        let theirs = without_addresses(theirs);
        if ours == theirs {
            continue;
        }
        if waived(&ours, &theirs).is_some() {
            waivers += 1;
            continue;
        }
        let (text, data) = (&case.texts[0].1, &case.data);
        let (from, theirs, ours) = parting(&theirs.to_string(), &ours.to_string());
        told.push(format!(
            "{}:\n{text}\n  data {data}\n  from byte {from}\n  Go   …{theirs}\n  ours …{ours}",
            case.name
        ));
    }
    (format!("{outputs} outputs, {errors} errors, {waivers} waived"), told)
}

#[test]
fn five_hundred_made_templates_give_what_go_gives() {
    let (counts, told) = differences(0..500);
    println!("{counts}");
    assert!(told.is_empty(), "{} differ:\n{}", told.len(), told.join("\n\n"));
}

#[test]
#[ignore = "takes minutes; `make soak` runs it"]
fn a_hundred_thousand_made_templates_give_what_go_gives() {
    let mut all = Vec::new();
    for batch in 0..100 {
        let (counts, told) = differences(batch * 1000..(batch + 1) * 1000);
        println!("batch {batch}: {counts}, {} differ", told.len());
        for told in &told {
            println!("{told}");
        }
        all.extend(told);
    }
    assert!(all.is_empty(), "{} differ:\n{}", all.len(), all[..all.len().min(50)].join("\n\n"));
}
