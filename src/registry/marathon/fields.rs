//! How JSON becomes records: text that is borrowed where it can be, numbers that old versions wrote
//! as text, labels, and records that count the fields nobody has heard of. Pure.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Text, borrowed from the body unless it holds escapes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

/// A whole number, or text that holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Number(pub(super) i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(i64::try_from(number).unwrap_or(i64::MAX)))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                if number.fract() == 0.0 && number.abs() < 1e15 {
                    return Ok(Number(number as i64));
                }
                Err(E::custom(format!("{number} is no whole number")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                let number = text.trim().parse().map(Number);
                number.map_err(|_| E::custom(format!("{text:?} is no whole number")))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// Labels in the order in which they stand; no value for one that is no text.
#[derive(Debug, Default)]
pub(super) struct Labels<'a>(pub(super) Vec<(Text<'a>, Option<Text<'a>>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Labels<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Labels<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels<'de>, A::Error> {
                let mut labels = Labels::default();
                while let Some((key, value)) = map.next_entry::<Text<'de>, LabelValue<'de>>()? {
                    labels.0.push((key, value.0));
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// Text, or anything else.
struct LabelValue<'a>(Option<Text<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for LabelValue<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = LabelValue<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the value of a label")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(LabelValue(Some(Text(Cow::Borrowed(text)))))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(LabelValue(Some(Text(Cow::Owned(text.to_owned())))))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(LabelValue(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(LabelValue(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(LabelValue(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(LabelValue(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(LabelValue(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(LabelValue(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(LabelValue(None))
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// A record of a JSON object: every field may be missing or `null`, one that stands twice counts the
/// second time, and those that are in neither list are counted in `ignored`.
macro_rules! record {
    (
        $(#[$doc:meta])*
        $name:ident { $($field:ident: $kind:ty = $key:literal,)+ }
        unused: $($unused:literal)*
    ) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name<'a> {
            $(pub(super) $field: Option<$kind>,)+
            /// Fields that no version of Marathon that is known here has.
            pub(super) ignored: u32,
            borrowed: std::marker::PhantomData<&'a str>,
        }

        impl<'de: 'a, 'a> serde::Deserialize<'de> for $name<'a> {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Reader<'a>(std::marker::PhantomData<&'a str>);
                impl<'de: 'a, 'a> serde::de::Visitor<'de> for Reader<'a> {
                    type Value = $name<'a>;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<Self::Value, A::Error> {
                        let mut out = $name::default();
                        while let Some(key) = map.next_key::<$crate::registry::marathon::fields::Text<'de>>()? {
                            match &*key {
                                $($key => out.$field = map.next_value().map_err(|error| {
                                    $crate::registry::marathon::fields::below($key, &error)
                                })?,)+
                                $($unused)|* => drop(map.next_value::<serde::de::IgnoredAny>()?),
                                _ => {
                                    out.ignored += 1;
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(out)
                    }
                }
                from.deserialize_map(Reader(std::marker::PhantomData))
            }
        }
    };
}
pub(super) use record;

/// The error of the value of `key`, with its place.
pub(super) fn below<E: Error>(key: &str, error: &E) -> E {
    E::custom(format_args!("`{key}`: {error}"))
}

/// The `id` at the top of an object whose rest may be missing or wrong, for those who tell of it.
pub(super) fn id_of(head: &[u8]) -> Option<String> {
    struct Reader<'f>(&'f mut Option<String>);
    impl<'de> Visitor<'de> for Reader<'_> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(key) = map.next_key::<Text<'de>>()? {
                if &*key == "id" {
                    *self.0 = map.next_value::<Text<'de>>().ok().map(|id| id.0.into_owned());
                    return Err(A::Error::custom("enough"));
                }
                map.next_value::<IgnoredAny>()?;
            }
            Ok(())
        }
    }
    let mut found = None;
    // The end is an error in any case; what was found counts.
    let _ = serde_json::Deserializer::from_slice(head).deserialize_map(Reader(&mut found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_broken_object_is_found_where_it_stands_at_its_top() {
        for (case, head, want) in [
            ("first", r#"{"id":"/a","x":"#, Some("/a")),
            ("behind others", r#"{"labels":{"id":"no"},"id":"/a\u002fb","x"#, Some("/a/b")),
            ("cut before", r#"{"labels":{"id":"no"#, None),
            ("no text", r#"{"id":7}"#, None),
            ("none", r#"{"x":1}"#, None),
            ("no object", "[", None),
        ] {
            assert_eq!(id_of(head.as_bytes()).as_deref(), want, "{case}");
        }
    }

    #[test]
    fn numbers_may_be_text_and_nothing_else() {
        for (text, want) in [
            ("7", Some(7)),
            ("\"7\"", Some(7)),
            ("7.0", Some(7)),
            ("-1", Some(-1)),
            ("7.5", None),
            ("\"x\"", None),
            ("[]", None),
            ("18446744073709551615", Some(i64::MAX)),
        ] {
            let number = serde_json::from_str::<Number>(text).ok();
            assert_eq!(number.map(|number| number.0), want, "{text}");
        }
    }

    #[test]
    fn a_label_that_is_no_text_has_no_value_and_costs_no_other() {
        let text = r#"{"a":"1","b":2,"c":null,"d":{"x":[1]},"e":[{}],"f":true,"g":1.5,"h":"\n"}"#;
        let labels: Labels<'_> = serde_json::from_str(text).unwrap();
        let told: Vec<_> = labels.0.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
        let want = [
            ("a", Some("1")),
            ("b", None),
            ("c", None),
            ("d", None),
            ("e", None),
            ("f", None),
            ("g", None),
            ("h", Some("\n")),
        ];
        assert_eq!(told, want);
    }
}
