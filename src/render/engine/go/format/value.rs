//! Values by their kind: lists, maps, structs, pointers, and what a value says of itself.

use super::super::types::{FloatKind, Type, UintKind};
use super::super::value::{List, Map, Object, Value};
use super::Printer;

/// `[]byte`, which Go treats as a plain value where it is an argument by itself.
const BYTES: Type = Type::Slice(&Type::Uint(UintKind::U8));

/// What stands for every address.
const ADDRESS: u64 = 0xc0_0000_0000;

impl Printer {
    /// One argument of a call, with `verb`.
    pub(super) fn argument(&mut self, arg: &Value, verb: char) {
        let Some(of) = arg.type_of() else {
            match verb {
                'T' | 'v' => self.pad(b"<nil>"),
                _ => self.bad_verb(None, arg, verb),
            }
            return;
        };
        match verb {
            'T' => {
                self.string(of.to_string().as_bytes(), 's');
            }
            'p' => self.pointer(of, arg, 'p'),
            _ => {
                if !self.told_by_itself(arg, verb) {
                    self.value(arg, verb, 0);
                }
            }
        }
    }

    /// Writes what the value says of itself, if it says something and `verb` asks for it.
    fn told_by_itself(&mut self, value: &Value, verb: char) -> bool {
        let Value::Object(object) = value else { return self.wraps(value, verb) };
        if self.erring {
            return false;
        }
        if verb == 'w' {
            return self.wraps(value, verb);
        }
        if self.flags.source || !matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') {
            return false;
        }
        let Some(text) = object.text() else { return false };
        self.string(text.as_bytes(), verb)
    }

    /// `%w` is none outside of errors. Plain values are refused by their own rules.
    fn wraps(&mut self, value: &Value, verb: char) -> bool {
        let simple = matches!(
            value,
            Value::Bool(_)
                | Value::Int(..)
                | Value::Uint(..)
                | Value::Float(..)
                | Value::Complex(..)
                | Value::String(_)
        ) || value.type_of() == Some(BYTES);
        if verb != 'w' || simple || self.erring {
            return false;
        }
        self.bad_verb(value.type_of(), value, verb);
        true
    }

    /// `%!d(string=hi)`: a verb that does not fit the value.
    fn bad_verb(&mut self, of: Option<Type>, value: &Value, verb: char) {
        self.erring = true;
        self.write(b"%!");
        self.write_char(verb);
        self.write(b"(");
        match of {
            Some(of) => {
                self.write(format!("{of}=").as_bytes());
                self.value(value, 'v', 0);
            }
            None => self.write(b"<nil>"),
        }
        self.write(b")");
        self.erring = false;
    }

    /// `value` within `depth` others.
    fn value(&mut self, value: &Value, verb: char, depth: usize) {
        if self.full {
            return;
        }
        if depth > 0 && self.told_by_itself(value, verb) {
            return;
        }
        let Some(of) = value.type_of() else {
            // Only an interface within another value holds nothing.
            self.write(if self.flags.source { b"interface {}(nil)" } else { b"<nil>" });
            return;
        };
        let Value::Object(object) = value else {
            return self.plain(of, value, value, verb, depth);
        };
        match object.underlying() {
            Some(plain) => self.plain(of, value, &plain, verb, depth),
            None => self.structure(of, value, object.as_ref(), verb, depth),
        }
    }

    /// `plain`, which is what `value` of the type `of` is made of.
    fn plain(&mut self, of: Type, value: &Value, plain: &Value, verb: char, depth: usize) {
        let fits = match plain {
            Value::Bool(truth) => {
                let fits = matches!(verb, 't' | 'v');
                if fits {
                    self.pad(if *truth { b"true" } else { b"false" });
                }
                fits
            }
            Value::Int(number, _) => self.integer(*number as u64, true, verb),
            Value::Uint(number, _) => self.integer(*number, false, verb),
            Value::Float(number, kind) => self.float(*number, *kind == FloatKind::F32, verb),
            Value::Complex(real, imaginary) => self.complex(*real, *imaginary, verb),
            Value::String(text) => self.string(text.as_bytes(), verb),
            Value::List(list) => {
                self.list(of, list, verb, depth);
                true
            }
            Value::Map(map) => {
                self.map(of, map, verb, depth);
                true
            }
            Value::NilOf(kind) => {
                self.nil(of, **kind, value, verb, depth);
                true
            }
            Value::Function(_) | Value::Sequence(_) => {
                self.pointer(of, value, verb);
                true
            }
            Value::Nil | Value::Object(_) => {
                self.write(b"<nil>");
                true
            }
        };
        if !fits {
            self.bad_verb(Some(of), value, verb);
        }
    }

    fn list(&mut self, of: Type, list: &List, verb: char, depth: usize) {
        if *list.element() == Type::Uint(UintKind::U8) {
            if matches!(verb, 's' | 'q' | 'x' | 'X') {
                let bytes: Vec<u8> = list.iter().map(|item| byte_of(&item)).collect();
                self.string(&bytes, verb);
                return;
            }
            if self.flags.source && depth == 0 && of == BYTES {
                return self.elements("[]byte", list, verb, depth);
            }
        }
        if self.flags.source {
            self.elements(&of.to_string(), list, verb, depth);
        } else {
            self.elements("", list, verb, depth);
        }
    }

    fn elements(&mut self, name: &str, list: &List, verb: char, depth: usize) {
        let [open, close] = if self.flags.source { [b"{", b"}"] } else { [b"[", b"]"] };
        self.write(name.as_bytes());
        self.write(open);
        for (index, item) in list.iter().enumerate() {
            self.between(index);
            self.value(&item, verb, depth + 1);
            if self.full {
                return;
            }
        }
        self.write(close);
    }

    fn map(&mut self, of: Type, map: &Map, verb: char, depth: usize) {
        let name = if self.flags.source { of.to_string() + "{" } else { "map[".to_owned() };
        self.write(name.as_bytes());
        for (index, (key, value)) in map.iter().enumerate() {
            self.between(index);
            self.value(&key, verb, depth + 1);
            self.write(b":");
            self.value(&value, verb, depth + 1);
            if self.full {
                return;
            }
        }
        self.write(if self.flags.source { b"}" } else { b"]" });
    }

    fn structure(
        &mut self,
        of: Type,
        value: &Value,
        object: &dyn Object,
        verb: char,
        depth: usize,
    ) {
        let name = match of {
            Type::Pointer(_) if depth > 0 => return self.pointer(of, value, verb),
            Type::Pointer(target) => {
                self.write(b"&");
                *target
            }
            other => other,
        };
        if self.flags.source {
            self.write(name.to_string().as_bytes());
        }
        self.write(b"{");
        for (index, field) in object.fields().iter().enumerate() {
            self.between(index);
            if self.flags.fields || self.flags.source {
                self.write(format!("{field}:").as_bytes());
            }
            self.value(&object.field(field).unwrap_or(Value::Nil), verb, depth + 1);
            if self.full {
                return;
            }
        }
        self.write(b"}");
    }

    /// What stands between two elements.
    fn between(&mut self, index: usize) {
        if index > 0 {
            self.write(if self.flags.source { b", " } else { b" " });
        }
    }

    /// The nil of the type `of`, whose make is `kind`.
    fn nil(&mut self, of: Type, kind: Type, value: &Value, verb: char, depth: usize) {
        let source = self.flags.source;
        match kind.underlying() {
            Type::Slice(_) if source && depth == 0 && of == BYTES => self.write(b"[]byte(nil)"),
            Type::Map(_) | Type::Slice(_) | Type::Any if source => {
                self.write(format!("{of}(nil)").as_bytes());
            }
            Type::Map(_) => self.write(b"map[]"),
            // A nil slice of bytes is an empty string where a string is asked for.
            Type::Slice(Type::Uint(UintKind::U8)) if matches!(verb, 's' | 'q' | 'x' | 'X') => {
                self.string(b"", verb);
            }
            Type::Slice(_) => self.write(b"[]"),
            Type::Any => self.write(b"<nil>"),
            _ => self.pointer(of, value, verb),
        }
    }

    /// An address, for `%p` and for what prints as one.
    fn pointer(&mut self, of: Type, value: &Value, verb: char) {
        let has_address = matches!(
            of.underlying(),
            Type::Slice(_) | Type::Map(_) | Type::Chan(_) | Type::Func(_) | Type::Pointer(_)
        );
        if !has_address {
            return self.bad_verb(Some(of), value, verb);
        }
        let address = if matches!(value, Value::NilOf(_)) { 0 } else { ADDRESS };
        match verb {
            'v' if self.flags.source => {
                self.write(format!("({of})(").as_bytes());
                if address == 0 {
                    self.write(b"nil");
                } else {
                    self.address(address, true);
                }
                self.write(b")");
            }
            'v' if address == 0 => self.pad(b"<nil>"),
            'v' | 'p' => self.address(address, !self.flags.sharp),
            'b' | 'o' | 'd' | 'x' | 'X' => {
                self.integer(address, false, verb);
            }
            _ => self.bad_verb(Some(of), value, verb),
        }
    }
}

fn byte_of(value: &Value) -> u8 {
    match value {
        Value::Uint(number, _) => *number as u8,
        _ => 0,
    }
}
