//! The data and functions of the cases, as `tests/go/values.go` and `judge.go` have them.

use std::any::Any;
use std::sync::{Arc, Weak};

use portolan::render::engine::go::{
    Context, FloatKind, Function, FunctionError, Functions, IntKind, Named, Object, Sequence,
    Signature, Step, Text, Type, UintKind, Value,
};
use serde_json::Value as Json;

use crate::go_judge::unbase64;

const SERVICE: Named = Named { name: "main.Service", underlying: Type::Struct("struct") };
const TAGS: Named = Named { name: "main.Tags", underlying: Type::STRINGS };
const SECONDS: Named = Named { name: "main.Seconds", underlying: Type::INT64 };
const SERVICE_TYPE: Type = Type::Named(&SERVICE);
const SERVICE_POINTER: Type = Type::Pointer(&SERVICE_TYPE);

struct Service {
    name: Value,
    port: i64,
    weight: f64,
    tags: Value,
    meta: Value,
    next: Value,
    any: Value,
    /// A pointer is equal to itself alone.
    own: Weak<Self>,
}

impl Service {
    fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            port: 0,
            weight: 0.0,
            tags: Value::object(Tags(Vec::new())),
            meta: Value::NilOf(&Type::STRING_MAP),
            next: Value::NilOf(&SERVICE_POINTER),
            any: Value::Nil,
            own: Weak::new(),
        }
    }

    fn value(self) -> Value {
        Value::Object(Arc::new_cyclic(|own| Self { own: own.clone(), ..self }))
    }
}

impl Object for Service {
    fn type_of(&self) -> Type {
        SERVICE_POINTER
    }

    fn fields(&self) -> &[&'static str] {
        &["Name", "Port", "Weight", "Tags", "Meta", "Next", "Any"]
    }

    fn field(&self, name: &str) -> Option<Value> {
        Some(match name {
            "Name" => self.name.clone(),
            "Port" => Value::int(self.port),
            "Weight" => Value::float(self.weight),
            "Tags" => self.tags.clone(),
            "Meta" => self.meta.clone(),
            "Next" => self.next.clone(),
            "Any" => self.any.clone(),
            _ => return None,
        })
    }

    fn method(&self, name: &str) -> Option<Signature> {
        Some(match name {
            "Address" => Signature::new(&[], Type::String),
            "Plus" => Signature::new(&[Type::INT, Type::INT], Type::INT),
            "Join" => Signature::variadic(&[Type::String, Type::String], Type::String),
            "Fail" => Signature::new(&[Type::String], Type::String),
            "Self" => Signature::new(&[], SERVICE_POINTER),
            "Anything" => Signature::new(&[], Type::Any),
            _ => return None,
        })
    }

    fn call(
        &self,
        name: &str,
        _: &mut Context<'_>,
        args: &[Value],
    ) -> Result<Value, FunctionError> {
        let own = string(&self.name);
        Ok(match name {
            "Address" => format!("{own}.service").into(),
            "Plus" => Value::int(self.port + int(&args[0]) + int(&args[1])),
            "Join" => {
                let separator = string(&args[0]);
                let parts: Vec<_> = args[1..].iter().map(string).collect();
                format!("{own}{separator}{}", parts.join(&separator)).into()
            }
            "Fail" => {
                let why = string(&args[0]);
                return Err(FunctionError::failed(format!("failed: {why}")));
            }
            "Self" => Value::Object(self.own.upgrade().expect("it is being used")),
            _ => self.any.clone(),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Tags(Vec<Value>);

impl Object for Tags {
    fn type_of(&self) -> Type {
        Type::Named(&TAGS)
    }

    fn underlying(&self) -> Option<Value> {
        Some(Value::list(&Type::String, self.0.clone()))
    }

    fn method(&self, name: &str) -> Option<Signature> {
        (name == "Contains").then(|| Signature::new(&[Type::String], Type::Bool))
    }

    fn call(&self, _: &str, _: &mut Context<'_>, args: &[Value]) -> Result<Value, FunctionError> {
        Ok(self.0.contains(&args[0]).into())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

struct Seconds(i64);

impl Object for Seconds {
    fn type_of(&self) -> Type {
        Type::Named(&SECONDS)
    }

    fn underlying(&self) -> Option<Value> {
        Some(Value::Int(self.0, IntKind::I64))
    }

    fn text(&self) -> Option<Text> {
        Some(format!("{}s", self.0).into())
    }

    fn method(&self, name: &str) -> Option<Signature> {
        match name {
            "String" => Some(Signature::new(&[], Type::String)),
            "Double" => Some(Signature::new(&[], Type::Named(&SECONDS))),
            _ => None,
        }
    }

    fn call(&self, name: &str, _: &mut Context<'_>, _: &[Value]) -> Result<Value, FunctionError> {
        Ok(match name {
            "String" => format!("{}s", self.0).into(),
            _ => Value::object(Self(2 * self.0)),
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// A channel, or an iterator with one or two values to a step.
struct Numbers {
    count: i64,
    of: Type,
    arity: usize,
}

impl Sequence for Numbers {
    fn type_of(&self) -> Type {
        self.of
    }

    fn arity(&self) -> usize {
        self.arity
    }

    fn steps(&self) -> Box<dyn Iterator<Item = Step> + '_> {
        Box::new((0..self.count).map(|n| match self.arity {
            1 => Step::One(Value::int(n)),
            _ => Step::Two(format!("k{n}").into(), Value::int(n * n)),
        }))
    }
}

fn numbers(count: &Value, of: &'static str, arity: usize) -> Value {
    let of = if of.contains("chan") { Type::Chan(of) } else { Type::Func(of) };
    Value::Sequence(Arc::new(Numbers { count: int(count), of, arity }))
}

fn channel(count: &Value) -> Value {
    numbers(count, "<-chan int", 1)
}

fn sequence(count: &Value) -> Value {
    numbers(count, "func(func(int) bool)", 1)
}

fn sequence2(count: &Value) -> Value {
    numbers(count, "func(func(string, int) bool)", 2)
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(value, _) => *value,
        other => panic!("{other:?} is no integer"),
    }
}

fn string(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_str().into_owned(),
        other => panic!("{other:?} is no string"),
    }
}

fn joined(args: &[Value]) -> Value {
    let parts: Vec<_> = args[1..].iter().map(string).collect();
    parts.join(&string(&args[0])).into()
}

fn function(
    spelling: &'static str,
    signature: Signature,
    code: impl Fn(&[Value]) -> Result<Value, FunctionError> + Send + Sync + 'static,
) -> Value {
    let function = Function::new(signature, move |_, args| code(args)).spelled(spelling);
    Value::Function(Arc::new(function))
}

fn square(factor: fn(i64) -> i64) -> Value {
    function("func(int) int", Signature::new(&[Type::INT], Type::INT), move |args| {
        Ok(Value::int(factor(int(&args[0]))))
    })
}

fn joiner() -> Value {
    const PARAMS: &[Type] = &[Type::String, Type::String];
    let signature = Signature::variadic(PARAMS, Type::String);
    function("func(string, ...string) string", signature, |args| Ok(joined(args)))
}

/// As Go's: one letter for one.
fn upper(text: &str) -> String {
    let one = |c: char| {
        let mut mapped = c.to_uppercase();
        match (mapped.next(), mapped.next(), u32::from(c)) {
            (Some(only), None, _) => only,
            (_, _, number @ 0x1f80..=0x1faf) => char::from_u32(number | 8).unwrap_or(c),
            (_, _, number @ (0x1fb3 | 0x1fc3 | 0x1ff3)) => char::from_u32(number + 9).unwrap_or(c),
            _ => c,
        }
    };
    text.chars().map(one).collect()
}

/// The functions of `judge.go`.
pub(crate) fn functions() -> Functions {
    use Type::{Any, Bool, Complex, String};
    const INT: Type = Type::INT;
    let mut all = Functions::new();
    let mut add = |name, params, variadic, result, code: fn(&[Value]) -> Value| {
        let signature = Signature { params, variadic, result, fails: false };
        all.add(name, signature, move |_, args| Ok(code(args)));
    };
    add("add", &[INT, INT], false, INT, |a| Value::int(int(&a[0]).wrapping_add(int(&a[1]))));
    add("upper", &[String], false, String, |a| upper(&string(&a[0])).into());
    add("join", &[String, String], true, String, joined);
    add("sum", &[INT, INT], true, INT, |a| Value::int(a.iter().map(int).sum()));
    add("list", &[Any], true, Type::LIST, |a| Value::list(&Any, a.to_vec()));
    add("strs", &[String], true, Type::STRINGS, |a| Value::list(&String, a.to_vec()));
    add("any", &[Any], false, Any, |a| a[0].clone());
    add("nothing", &[], false, Any, |_| Value::Nil);
    const FLOAT32: Type = Type::Float(FloatKind::F32);
    const INT8: Type = Type::Int(IntKind::I8);
    const UINT8: Type = Type::Uint(UintKind::U8);
    const UINT: Type = Type::Uint(UintKind::Uint);
    add("float", &[Type::FLOAT64], false, Type::FLOAT64, |a| a[0].clone());
    add("float32", &[FLOAT32], false, FLOAT32, |a| a[0].clone());
    add("int8", &[INT8], false, INT8, |a| a[0].clone());
    add("int64", &[Type::INT64], false, Type::INT64, |a| a[0].clone());
    add("uint8", &[UINT8], false, UINT8, |a| a[0].clone());
    add("uint", &[UINT], false, UINT, |a| a[0].clone());
    add("bool", &[Bool], false, Bool, |a| a[0].clone());
    add("cplx", &[Complex], false, Complex, |a| a[0].clone());
    add("sizes", &[Type::Map(&(String, INT))], false, INT, |a| match &a[0] {
        Value::Map(map) => Value::int(map.len() as i64),
        _ => Value::int(0),
    });
    add("count", &[Type::STRINGS], false, INT, |a| match &a[0] {
        Value::List(list) => Value::int(list.len() as i64),
        _ => Value::int(0),
    });
    const TO_INT: Type = Type::Func("func(int) int");
    add("twice", &[], false, TO_INT, |_| square(|n| 2 * n));
    const JOINER: Type = Type::Func("func(string, ...string) string");
    add("joiner", &[], false, JOINER, |_| joiner());
    add("nilMap", &[], false, Type::Map(&(String, INT)), |_| {
        Value::NilOf(&Type::Map(&(String, INT)))
    });
    const TEXT: Type = Type::Func("func() string");
    add("nilFunc", &[], false, TEXT, |_| Value::NilOf(&TEXT));
    add("upTo", &[INT], false, Type::Chan("<-chan int"), |a| channel(&a[0]));
    add("seq", &[INT], false, Type::Func("func(func(int) bool)"), |a| sequence(&a[0]));
    add("seq2", &[INT], false, Type::Func("func(func(string, int) bool)"), |a| sequence2(&a[0]));
    add("service", &[String], false, SERVICE_POINTER, |a| Service::named(&string(&a[0])).value());
    all.add("nameOf", Signature::new(&[SERVICE_POINTER], String), |_, args| name_of(args));
    all.add("plainName", Signature::new(&[SERVICE_TYPE], String), |_, args| name_of(args));
    let echo = Signature::variadic(&[Any], String);
    all.add("echo", echo, |_, args| {
        use portolan::render::engine::go::{NumberFormat, format};
        let all = [Value::list(&Any, args.to_vec())];
        let shown = format::printf(b"%#v", &all, NumberFormat::Go, usize::MAX);
        shown.map(Value::from).map_err(|error| FunctionError::failed(error.to_string()))
    });
    all.add("fail", Signature::new(&[], String), |_, _| Err(FunctionError::failed("it failed")));
    all.add("failIf", Signature::new(&[Bool], String), |_, args| match args[0] {
        Value::Bool(true) => Err(FunctionError::failed("told to")),
        _ => Ok("fine".into()),
    });
    // In Go a function may panic, and the template reports it as its error.
    all.add("panics", Signature::new(&[], String), |_, _| {
        Err(FunctionError::failed("it panicked"))
    });
    all
}

fn name_of(args: &[Value]) -> Result<Value, FunctionError> {
    const NIL: &str = "runtime error: invalid memory address or nil pointer dereference";
    match &args[0] {
        Value::Object(object) => Ok(object.field("Name").unwrap()),
        _ => Err(FunctionError::failed(NIL)),
    }
}

fn float(json: &Json) -> f64 {
    match json.as_str() {
        Some("NaN") => f64::NAN,
        Some("+Inf") => f64::INFINITY,
        Some("-Inf") => f64::NEG_INFINITY,
        Some("-0") => -0.0,
        _ => json.as_f64().unwrap(),
    }
}

fn array(json: &Json) -> &[Json] {
    json.as_array().unwrap()
}

fn list(element: &'static Type, json: &Json) -> Value {
    Value::list(element, array(json).iter().map(value).collect::<Vec<_>>())
}

fn map(types: &'static (Type, Type), json: &Json, key: impl Fn(&Json) -> Value) -> Value {
    let pairs = array(json).iter().map(|pair| (key(&pair[0]), value(&pair[1])));
    Value::map(types, pairs.collect())
}

/// The value that tagged JSON means.
pub(crate) fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::float(number.as_f64().unwrap()), Value::int)
        }
        Json::String(text) => text.as_str().into(),
        Json::Array(_) => list(&Type::Any, json),
        Json::Object(fields) => {
            if let (1, Some((tag, inner))) = (fields.len(), fields.iter().next())
                && tag.starts_with('$')
            {
                return tagged(tag, inner);
            }
            Value::dict(fields.iter().map(|(key, inner)| (key.as_str(), value(inner))))
        }
    }
}

fn tagged(tag: &str, json: &Json) -> Value {
    use IntKind::{I8, I16, I32, I64};
    use UintKind::{U8, U16, U32, U64, Uint};
    let signed = |kind| Value::Int(json.as_i64().unwrap(), kind);
    let unsigned = |kind| Value::Uint(json.as_u64().unwrap(), kind);
    match tag {
        "$int8" => signed(I8),
        "$int16" => signed(I16),
        "$int32" => signed(I32),
        "$int64" => signed(I64),
        "$uint" => unsigned(Uint),
        "$uint8" => unsigned(U8),
        "$uint16" => unsigned(U16),
        "$uint32" => unsigned(U32),
        "$uint64" => unsigned(U64),
        "$float" => Value::float(float(json)),
        "$float32" => Value::Float(f64::from(float(json) as f32), FloatKind::F32),
        "$complex" => Value::Complex(float(&json[0]), float(&json[1])),
        "$bytes" => unbase64(json.as_str().unwrap()).into(),
        "$strings" => list(&Type::String, json),
        "$ints" => list(&Type::INT, json),
        "$floats" => list(&Type::FLOAT64, json),
        "$bools" => list(&Type::Bool, json),
        "$maps" => list(&Type::MAP, json),
        "$lists" => list(&Type::LIST, json),
        "$services" => list(&SERVICE_POINTER, json),
        "$stringMap" => map(&(Type::String, Type::String), json, value),
        "$intMap" => map(&(Type::String, Type::INT), json, value),
        "$byInt" => map(&(Type::INT, Type::Any), json, value),
        "$byFloat" => map(&(Type::FLOAT64, Type::Any), json, |key| Value::float(float(key))),
        "$byUint8" => {
            map(&(Type::Uint(U8), Type::String), json, |key| Value::Uint(key.as_u64().unwrap(), U8))
        }
        "$byBool" => map(&(Type::Bool, Type::String), json, value),
        "$byAny" => map(&(Type::Any, Type::Any), json, value),
        "$tags" => Value::object(Tags(array(json).iter().map(value).collect())),
        "$seconds" => Value::object(Seconds(json.as_i64().unwrap())),
        "$nil" => Value::NilOf(match json.as_str().unwrap() {
            "*Service" => &SERVICE_POINTER,
            "[]string" => &Type::STRINGS,
            "map[string]int" => &Type::Map(&(Type::String, Type::INT)),
            "func" => &Type::Func("func() string"),
            other => panic!("no nil {other}"),
        }),
        "$service" => service(json),
        "$func" => match json.as_str().unwrap() {
            "greet" => {
                function("func() string", Signature::new(&[], Type::String), |_| Ok("hello".into()))
            }
            "square" => square(|n| n * n),
            "join" => joiner(),
            "fail" => function("func() (int, error)", Signature::new(&[], Type::INT), |_| {
                Err(FunctionError::failed("func failed"))
            }),
            other => panic!("no function {other}"),
        },
        "$chan" => channel(&value(json)),
        "$seq" => sequence(&value(json)),
        "$seq2" => sequence2(&value(json)),
        other => panic!("no tag {other}"),
    }
}

fn service(json: &Json) -> Value {
    let mut service = Service::named("");
    for (name, inner) in json.as_object().unwrap() {
        let decoded = value(inner);
        match name.as_str() {
            "Name" => service.name = decoded,
            "Port" => service.port = int(&decoded),
            "Weight" => service.weight = float(inner),
            "Tags" => service.tags = decoded,
            "Meta" => service.meta = decoded,
            "Next" => service.next = decoded,
            "Any" => service.any = decoded,
            other => panic!("no field {other}"),
        }
    }
    service.value()
}
