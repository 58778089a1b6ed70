use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::catalog::model::{Address, Health, Instance, Meta, Presence};
use crate::catalog::{Problem, SourceService};

fn state(generation: u64, services: usize, instances: usize) -> StateToSave {
    let service = |number: usize| SourceService {
        name: format!("s{number}").into(),
        tags: Arc::new(["t".into()]),
        meta: Arc::default(),
        instances: (0..instances)
            .map(|index| {
                Arc::new(Instance {
                    tags: Arc::new(["t".into()]),
                    meta: Meta::from([("k".into(), "ü \"v\"".into())]),
                    locality: Some("eu".into()),
                    health: Health::Healthy,
                    presence: Presence::Draining,
                    ..Instance::bare(
                        "local",
                        &format!("s{number}-{index}"),
                        Address::parse("10.0.0.1").unwrap(),
                    )
                })
            })
            .collect(),
        problems: vec!["s.toml:1:1: bad".into()],
        suspect: None,
    };
    let problem = Problem { place: "s.toml:2:1".into(), message: "bad name".into() };
    let view =
        RegistryView::default().replaced((0..services).map(service).collect(), vec![problem]);
    let heard_at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
    StateToSave {
        views: BTreeMap::from([("local".to_owned(), StoredView { view, heard_at })]),
        generation,
        verdicts: Verdicts::default(),
    }
}

fn services(views: &BTreeMap<String, StoredView>) -> Vec<SourceService> {
    let mut all: Vec<_> =
        views.values().flat_map(|v| v.view.services.values()).map(|s| (**s).clone()).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

#[test]
fn what_was_saved_is_loaded_again_to_the_last_field() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("below")).unwrap();
    assert!(store.load().views.is_empty());
    let saved = state(7, 3, 2);
    store.save(&saved).unwrap();
    let loaded = store.load();
    assert_eq!((loaded.generation, &loaded.refused[..]), (7, &[][..]));
    assert_eq!(services(&loaded.views), services(&saved.views));
    assert_eq!(loaded.views["local"].heard_at, saved.views["local"].heard_at);
    assert_eq!(loaded.views["local"].view.problems, saved.views["local"].view.problems);
}

#[test]
fn many_services_of_several_registries_are_loaded_each_for_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let mut saved = state(7, 40, 100);
    saved.views.insert("nobody".to_owned(), state(7, 0, 0).views.remove("local").unwrap());
    saved.views.insert("other".to_owned(), state(7, 2, 1).views.remove("local").unwrap());
    store.save(&saved).unwrap();
    let loaded = store.load();
    assert_eq!(loaded.refused, [""; 0]);
    for name in saved.views.keys() {
        let of = |views: &BTreeMap<String, StoredView>| {
            services(&BTreeMap::from([(name.clone(), views[name].clone())]))
        };
        assert_eq!(of(&loaded.views), of(&saved.views), "{name}");
    }
}

#[test]
fn the_format_before_is_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let service = r#"{"name":"web","tags":[],"meta":{},"instances":[]}"#;
    let body = format!(
        r#"{{"generation":7,"registries":{{"local":{{"heard_at":1,"services":[{service}],"problems":[]}}}}}}"#
    );
    let crc = crc32fast::hash(body.as_bytes());
    let head = format!(r#"{{"format":1,"length":{},"crc32":{crc}}}"#, body.len());
    fs::write(dir.path().join(CURRENT), format!("{head}\n{body}\n")).unwrap();
    let loaded = store.load();
    assert_eq!((loaded.generation, &loaded.refused[..]), (7, &[][..]));
    assert_eq!(&*services(&loaded.views)[0].name, "web");
}

#[test]
fn a_file_cut_or_garbled_anywhere_is_refused_by_name_and_the_one_before_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&state(1, 1, 1)).unwrap();
    store.save(&state(2, 1, 1)).unwrap();
    let current = dir.path().join(CURRENT);
    let whole = fs::read(&current).unwrap();
    let check = |case: String, bytes: &[u8]| {
        fs::write(&current, bytes).unwrap();
        let loaded = store.load();
        assert_eq!(loaded.generation, 1, "{case}");
        assert_eq!(loaded.refused.len(), 1, "{case}");
        assert!(loaded.refused[0].contains("state.json: "), "{case}: {:?}", loaded.refused);
    };
    for length in 0..whole.len() {
        check(format!("cut to {length}"), &whole[..length]);
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        check(format!("bit {} of byte {at}", at % 8), &bytes);
    }
}

#[test]
fn a_garbled_file_does_not_push_the_good_one_out() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.save(&state(1, 1, 1)).unwrap();
    store.save(&state(2, 1, 1)).unwrap();
    fs::write(dir.path().join(CURRENT), "garbage").unwrap();
    store.save(&state(3, 1, 1)).unwrap();
    assert_eq!(store.load().generation, 3);
    fs::write(dir.path().join(CURRENT), "garbage").unwrap();
    assert_eq!(store.load().generation, 1);
}

#[test]
fn a_file_of_another_format_is_refused_with_both_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    fs::write(dir.path().join(CURRENT), "{\"format\":3,\"length\":0,\"crc32\":0}\n\n").unwrap();
    let loaded = store.load();
    assert!(
        loaded.refused[0].contains("the format 3, this version reads up to 2"),
        "{:?}",
        loaded.refused
    );
}
