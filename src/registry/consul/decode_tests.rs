use super::*;

fn wish(tags: &[&str]) -> Wish {
    Wish {
        registry: "dc1".into(),
        tags: tags.iter().map(|tag| Arc::from(*tag)).collect(),
        address_tag: None,
        services_max: 3,
        instances_max: 3,
        keys_max: 3,
    }
}

#[test]
fn the_list_has_the_services_that_may_have_all_wanted_tags() {
    let body = br#"{"consul":[],"web":["prod","v1"],"a b":["prod"]}"#;
    for (case, tags, want) in [
        ("all", &[][..], &["consul", "web"][..]),
        ("tagged", &["v1", "prod"], &["web"]),
        ("nobody", &["x"], &[]),
    ] {
        let names = names(body, &wish(tags)).unwrap();
        let listed: Vec<&str> = names.tags.keys().map(AsRef::as_ref).collect();
        assert_eq!(listed, want, "{case}");
    }
    let names = names(body, &wish(&[])).unwrap();
    assert_eq!(&*names.problems[0].place, "service \"a b\"");
}

#[test]
fn a_list_is_another_one_only_when_names_or_tags_differ() {
    let read = |body: &str| names(body.as_bytes(), &wish(&[])).unwrap();
    let first = read(r#"{"web":["a","b"]}"#);
    assert_eq!(read(r#"{"web":["b","a"]}"#), first, "order is none");
    assert_ne!(read(r#"{"web":["a"]}"#), first);
    assert_eq!(read(r#"{"web":null}"#).tags.len(), 1);
}

#[test]
fn a_list_that_is_none_or_too_long_counts_for_nothing() {
    let error = names(b"[]", &wish(&[])).unwrap_err();
    assert!(error.contains("no list of services"), "{error}");
    let error = names(br#"{"a":[],"b":[],"c":[],"d":[]}"#, &wish(&[])).unwrap_err();
    assert!(error.contains("raise `max_services`"), "{error}");
}

const PAIRS: &str = r#"[{"LockIndex":1,"Key":"app/a","Flags":42,"Value":"aGVsbG8=",
    "Session":"adf4238a","CreateIndex":100,"ModifyIndex":200},
    {"LockIndex":0,"Key":"app/","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":1},
    {"LockIndex":0,"Key":"app/bin","Flags":0,"Value":"/w==","CreateIndex":1,"ModifyIndex":1}]"#;

#[test]
fn keys_have_their_values_as_text_and_what_is_no_text_is_told() {
    let read = keys(PAIRS.as_bytes(), &wish(&[]), None).unwrap();
    let key = &read.keys["app/a"];
    assert_eq!((&*key.value, key.flags, &*key.session), ("hello", 42, "adf4238a"));
    assert_eq!((key.create_index, key.modify_index, key.lock_index), (100, 200, 1));
    assert_eq!(&*read.keys["app/"].value, "");
    assert_eq!((read.keys.len(), read.problems.len()), (2, 1));
    assert!(read.problems[0].message.contains("no UTF-8"), "{:?}", read.problems);
    let again = keys(PAIRS.as_bytes(), &wish(&[]), Some(&read)).unwrap();
    assert!(Arc::ptr_eq(&again.keys["app/a"], key), "shared with before");
}
