use super::super::message::tests::{record, reply, soa};
use super::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

#[test]
fn what_is_put_together_ends_as_its_last_part_does() {
    let ours = Key::new(name("db.svc").wire(), rtype::A, false, false);
    let theirs = Key::new(name("x.example").wire(), rtype::A, false, false);
    let alias = record(rtype::CNAME, 7, b"\x01x\x07eXample\0");
    let mut whole = Composed::of(&reply(&ours, 0x0400, [&[alias], &[], &[]]));
    assert!(whole.authoritative);
    assert_eq!(target(whole.answer.last().unwrap()), Some(name("x.example")));
    let nobody = record(rtype::SOA, 9, &soa(9));
    whole.append(&reply(&theirs, 3, [&[], &[nobody], &[]]));
    assert_eq!((whole.rcode, whole.answer.len(), whole.authority.len()), (3, 1, 1));
    assert!(whole.authoritative, "the first name is ours");
    let a = record(rtype::A, 9, &[10, 0, 0, 1]);
    assert_eq!(
        target(Composed::of(&reply(&ours, 0, [&[a], &[], &[]])).answer.last().unwrap()),
        None
    );
}

#[test]
fn a_name_from_down_the_list_is_an_alias_that_lives_as_long_as_its_shortest_record() {
    let key = Key::new(name("x.example").wire(), rtype::A, false, false);
    let query = Key::new(name("x.example.svc").wire(), rtype::A, false, false).query(1, false);
    let question = Question::read(&query).unwrap();
    for (ttl, want) in [(300, 5), (2, 2), (0, 0)] {
        let records =
            [record(rtype::A, ttl, &[10, 0, 0, 1]), record(rtype::A, 900, &[10, 0, 0, 2])];
        let found = Composed::of(&reply(&key, 0, [&records, &[], &[]]));
        let told = found.below(&question, &name("x.example"));
        assert_eq!(told.answer.len(), 3);
        let alias = &told.answer[0];
        assert_eq!(target(alias), Some(name("x.example")));
        let end = name_end(alias).unwrap();
        assert_eq!(alias[..end], *question.key());
        assert_eq!(alias[end + 4..end + 8], [0, 0, 0, want]);
    }
}
