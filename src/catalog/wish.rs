//! What services ask for in their registry, by their meta: which word of theirs counts for an
//! instance. What it means is for those who are asked.

use std::borrow::Cow;
use std::sync::Arc;

use super::model::{Instance, Meta};

/// The key of the meta entry, and of the tag `KEY=VALUE`, by which a service asks for checks of its
/// instances.
pub const CHECK: &str = "portolan-check";

/// What is asked for `instance` under [`CHECK`], none when nothing is: by its own meta, else by its
/// tags (several stand behind each other), else by the `meta` of its service. What is nearer counts
/// alone, and may be empty, which asks for nothing.
#[must_use]
pub fn of<'a>(meta: &'a Meta, instance: &'a Instance) -> Option<Cow<'a, str>> {
    let of_tag = |tag: &'a Arc<str>| tag.strip_prefix(CHECK)?.strip_prefix('=');
    let asked = if let Some(own) = instance.meta.get(CHECK) {
        Cow::Borrowed(&**own)
    } else {
        let mut tags = instance.tags.iter().filter_map(of_tag);
        match (tags.next(), tags.next()) {
            (None, _) => Cow::Borrowed(&**meta.get(CHECK)?),
            (Some(one), None) => Cow::Borrowed(one),
            (Some(one), Some(two)) => {
                let all: Vec<&str> = [one, two].into_iter().chain(tags).collect();
                Cow::Owned(all.join("; "))
            }
        }
    };
    Some(asked).filter(|asked| !asked.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::model::Address;
    use super::*;

    #[test]
    fn the_nearest_word_counts_alone() {
        let meta = |text: Option<&str>| -> Meta {
            text.map(|text| (CHECK.into(), text.into())).into_iter().collect()
        };
        for (case, service, tags, own, want) in [
            ("nothing", None, &["blue"][..], None, None),
            ("the service's", Some("tcp"), &[], None, Some("tcp")),
            ("a tag", Some("tcp"), &["portolan-check=http /"], None, Some("http /")),
            ("tags", None, &["portolan-check=tcp", "portolan-check=http /"], None, {
                Some("tcp; http /")
            }),
            ("another tag", None, &["portolan-checks=tcp", "portolan-check"], None, None),
            ("its own", Some("tcp"), &["portolan-check=tcp"], Some("http /"), Some("http /")),
            ("nothing, said so", Some("tcp"), &[], Some(" "), None),
        ] {
            let instance = Instance {
                meta: meta(own),
                tags: tags.iter().map(|tag| Arc::from(*tag)).collect(),
                ..Instance::bare("r", "a", Address::parse("10.0.0.1").unwrap())
            };
            assert_eq!(of(&meta(service), &instance).as_deref(), want, "{case}");
        }
    }
}
