use proptest::prelude::*;

use super::super::super::edns::{Edns, read_edns};
use super::super::super::wire::{Name, put16};
use super::super::names::records;
use super::*;

const TTLS: Ttls = Ttls { min: 0, max: 86_400, negative_max: 3600 };
const ID: u16 = 0x1234;

fn key() -> Key {
    Key::new(Name::parse("web.example").unwrap().wire(), rtype::A, false, false)
}

/// A record whose owner is the question's name, or the root for EDNS.
pub(in crate::dns::forward) fn record(kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut record = if kind == rtype::OPT { vec![0] } else { vec![0xc0, 12] };
    put16(&mut record, kind);
    put16(&mut record, 1);
    record.extend(ttl.to_be_bytes());
    put16(&mut record, data.len() as u16);
    record.extend(data);
    record
}

/// A reply with these records by section.
pub(in crate::dns::forward) fn reply(key: &Key, flags: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let mut message = key.query(ID, false);
    set16(&mut message, 2, 0x8180 | flags);
    for (index, section) in sections.iter().enumerate() {
        set16(&mut message, 6 + 2 * index, section.len() as u16);
        message.extend(section.concat());
    }
    message
}

/// The data of an SOA with this minimum.
pub(in crate::dns::forward) fn soa(minimum: u32) -> Vec<u8> {
    let mut data = vec![0xc0, 12, 0xc0, 12];
    for number in [1, 3600, 600, 86_400, minimum] {
        data.extend(number.to_be_bytes());
    }
    data
}

fn read(message: &[u8]) -> Result<Stored, Wrong> {
    Stored::read(message, &key(), ID, TTLS)
}

fn edns() -> Edns {
    let mut query = key().query(1, true);
    query[11] = 1;
    let header = Header::read(&query).unwrap();
    let end = Question::read(&query).unwrap().end;
    read_edns(&query, header, end).unwrap().unwrap()
}

#[test]
fn how_long_a_reply_may_be_kept_depends_on_its_records() {
    let a = |ttl| record(rtype::A, ttl, &[10, 0, 0, 1]);
    let cname = |ttl| record(rtype::CNAME, ttl, b"\x01x\0");
    let authority = |ttl, minimum| record(rtype::SOA, ttl, &soa(minimum));
    type Case<'a> = (&'a str, u16, [&'a [Vec<u8>]; 3], u32, Worth);
    let ns = record(rtype::NS, 50, b"\x01n\0");
    let cases: &[Case] = &[
        ("an answer", 0, [&[a(300)], &[], &[]], 300, Worth::Answer),
        ("the lowest counts", 0, [&[cname(60), a(300)], &[], &[]], 60, Worth::Answer),
        ("others' do not", 0, [&[a(300)], std::slice::from_ref(&ns), &[a(1)]], 300, Worth::Answer),
        ("nothing", 0, [&[a(0)], &[], &[]], 0, Worth::Answer),
        ("huge", 0, [&[a(0x7fff_ffff)], &[], &[]], 86_400, Worth::Answer),
        ("negative", 0, [&[a(0x8000_0000)], &[], &[]], 0, Worth::Answer),
        ("no such name", 3, [&[], &[authority(300, 60)], &[]], 60, Worth::Answer),
        ("the SOA's own", 3, [&[], &[authority(30, 60)], &[]], 30, Worth::Answer),
        ("no such type", 0, [&[], &[authority(300, 60)], &[]], 60, Worth::Answer),
        ("an alias of nothing", 3, [&[cname(20)], &[authority(300, 60)], &[]], 20, Worth::Answer),
        ("for a year", 3, [&[], &[authority(9_999_999, 9_999_999)], &[]], 3600, Worth::Answer),
        ("without SOA", 3, [&[], &[], &[]], 0, Worth::Answer),
        ("empty", 0, [&[], &[], &[]], 0, Worth::Answer),
        ("an alias alone", 0, [&[cname(20)], &[], &[]], 0, Worth::Answer),
        ("leads elsewhere", 0, [&[], std::slice::from_ref(&ns), &[]], 0, Worth::Nothing),
        ("cannot", 2, [&[], &[], &[]], 0, Worth::Nothing),
        ("will not", 5, [&[], &[authority(300, 60)], &[]], 0, Worth::Nothing),
        ("cut", 0x200, [&[a(300)], &[], &[]], 300, Worth::Truncated),
        (
            "a code with high bits",
            0,
            [&[a(9)], &[], &[record(rtype::OPT, 0x0100_0000, &[])]],
            0,
            Worth::Nothing,
        ),
    ];
    for (case, flags, sections, ttl, worth) in cases {
        let stored = read(&reply(&key(), *flags, *sections)).unwrap();
        assert_eq!((stored.ttl, stored.worth()), (*ttl, *worth), "{case}");
    }
    let raised = Ttls { min: 30, max: 60, negative_max: 10 };
    for (case, sections, ttl) in [
        ("raised", [&[a(1)][..], &[], &[]], 30),
        ("lowered", [&[a(100)], &[], &[]], 60),
        ("both", [&[], &[authority(1, 1)], &[]], 10),
    ] {
        let stored = Stored::read(&reply(&key(), 0, sections), &key(), ID, raised).unwrap();
        assert_eq!(stored.ttl, ttl, "{case}");
    }
}

#[test]
fn what_is_not_the_reply_to_the_question_is_told_apart() {
    let good = reply(&key(), 0, [&[record(rtype::A, 9, &[10, 0, 0, 1])], &[], &[]]);
    assert!(read(&good).is_ok());
    let with = |at: usize, value: u8| {
        let mut other = good.clone();
        other[at] = value;
        other
    };
    let question = key().query(0, false).len();
    for (case, message, want) in [
        ("nothing", vec![], Wrong::Id),
        ("half a header", good[..11].to_vec(), Wrong::Id),
        ("another id", with(1, 0), Wrong::Id),
        ("a query", with(2, 1), Wrong::Id),
        ("another kind", with(2, 0x91), Wrong::Id),
        ("another name", with(13, b'x'), Wrong::Question),
        ("another type", with(question - 3, 28), Wrong::Question),
        ("another class", with(question - 1, 3), Wrong::Question),
        ("no question", with(5, 0), Wrong::Question),
        ("two questions", with(5, 2), Wrong::Question),
        ("a record too many", with(7, 2), Wrong::Garbled),
        ("cut", good[..good.len() - 1].to_vec(), Wrong::Garbled),
        ("a pointer to itself", with(question + 1, question as u8), Wrong::Garbled),
        ("a pointer ahead", with(question + 1, 200), Wrong::Garbled),
        ("a pointer into the header", with(question + 1, 2), Wrong::Garbled),
        ("EDNS in the answer", with(question + 3, 41), Wrong::Garbled),
    ] {
        assert_eq!(read(&message).err(), Some(want), "{case}");
    }
    let mut shouted = good.clone();
    shouted[13..16].make_ascii_uppercase();
    assert!(read(&shouted).is_ok(), "letter case does not matter");
    let mut bare = good[..12].to_vec();
    bare[3] = 0x81;
    bare[5] = 0;
    bare[7] = 0;
    assert_eq!(read(&bare).unwrap().worth(), Worth::Nothing, "who cannot read repeats nothing");
}

#[test]
fn clients_get_their_id_their_spelling_ttls_of_now_and_edns_of_ours() {
    let reason = [0, 15, 0, 4, 0, 6, b'h', b'i'];
    let cookie = [0, 10, 0, 2, 1, 2];
    let opt = record(rtype::OPT, 0x8000, &[&cookie[..], &reason].concat());
    let late = record(rtype::A, 5, &[9, 9, 9, 9]);
    let message = reply(
        &key(),
        0x0420,
        [
            &[record(rtype::A, 300, &[10, 0, 0, 1])],
            &[record(rtype::NS, 10, b"\x01n\0")],
            &[record(rtype::A, 5, &[10, 0, 0, 2]), opt, late],
        ],
    );
    let stored = read(&message).unwrap();
    let mut query = key().query(0xabcd, false);
    query[13..16].make_ascii_uppercase();
    let question = Question::read(&query).unwrap();
    set16(&mut query, 2, 0x0110);
    let told = stored.reply(&query, &question, (None, None), 512, Age::Fresh(7));
    assert_eq!(told[..2], [0xab, 0xcd]);
    assert_eq!(told[2..4], [0x81, 0x90], "neither AA nor AD, which was not asked for; CD is");
    assert_eq!(told[4..12], [0, 1, 0, 1, 0, 1, 0, 1], "what stood behind EDNS is gone");
    assert_eq!(told[12..question.end], query[12..question.end]);
    let ttls = |message: &[u8]| -> Vec<u32> {
        stored.marks.iter().map(|mark| ttl(message, usize::from(mark.ttl_at)).unwrap()).collect()
    };
    assert_eq!(ttls(&told), [293, 3, 0]);
    assert_eq!(ttls(&stored.reply(&query, &question, (None, None), 512, Age::Stale(30))), [30; 3]);
    set16(&mut query, 2, 0x0120);
    let opt = Some(OptReply::plain(edns()));
    let told = stored.reply(&query, &question, (opt, Some(3)), 512, Age::Fresh(0));
    assert_eq!(told[3] & 0x20, 0x20, "AD for those who know it");
    assert_eq!(told[11], 2);
    let (ours, theirs) = told.split_at(told.len() - reason.len());
    assert_eq!(theirs, reason, "the upstream's reason, and not its cookie");
    assert!(ours.ends_with(&[0, 15, 0, 2, 0, 3]));
}

#[test]
fn what_does_not_fit_is_left_out_from_the_end() {
    let many: Vec<Vec<u8>> = (0..40).map(|n| record(rtype::A, 9, &[10, 0, 0, n])).collect();
    let query = key().query(1, false);
    let question = Question::read(&query).unwrap();
    let fit = |sections, limit| {
        let stored = read(&reply(&key(), 0, sections)).unwrap();
        let told = stored.reply(&query, &question, (None, None), limit, Age::Fresh(0));
        assert!(told.len() <= limit);
        let header = Header::read(&told).unwrap();
        (header.counts, header.flags & Header::TC != 0)
    };
    assert_eq!(fit([&many, &[], &[]], 65_535), ([1, 40, 0, 0], false));
    assert_eq!(fit([&many, &[], &[]], 512), ([1, 30, 0, 0], true));
    assert_eq!(fit([&many[..20], &[], &many], 512), ([1, 20, 0, 10], false), "it may be less");
    assert_eq!(fit([&many[..20], &many, &[]], 512), ([1, 20, 10, 0], true));
}

#[test]
fn records_stand_alone_with_their_names_in_full() {
    let mx = record(rtype::MX, 9, &[0, 5, 1, b'm', 0xc0, 12]);
    let text = record(rtype::TXT, 9, &[2, 0xc0, 12]);
    let message = reply(&key(), 0, [&[mx], &[], &[text]]);
    let name = b"\x03web\x07example\0";
    let whole = records(&message, 1).unwrap();
    let want = [name, &[0, 15, 0, 1, 0, 0, 0, 9, 0, 17, 0, 5, 1, b'm'][..], name].concat();
    assert_eq!(whole, [want]);
    let want = [name, &[0, 16, 0, 1, 0, 0, 0, 9, 0, 3, 2, 0xc0, 12][..]].concat();
    assert_eq!(records(&message, 3).unwrap(), [want], "text is no name");
    assert_eq!(records(&message[..40], 1), None);
}

/// Whatever is read can be told, within the limit, and is read again as the same.
fn survives(message: &[u8], limit: usize) -> Result<(), TestCaseError> {
    let _ = records(message, 1);
    let Ok(stored) = read(message) else { return Ok(()) };
    let _ = (stored.worth(), stored.size(), stored.reasons().len());
    let query = key().query(7, true);
    let question = Question::read(&query).unwrap();
    for (age, opt) in [(Age::Fresh(9), None), (Age::Stale(30), Some(OptReply::plain(edns())))] {
        let told = stored.reply(&query, &question, (opt, Some(3)), limit, age);
        prop_assert!(told.len() <= limit.max(512), "{} bytes", told.len());
        prop_assert!(Stored::read(&told, &key(), 7, TTLS).is_ok());
        prop_assert!((1..4).all(|section| records(&told, section).is_some()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        limit in 512..1500_usize,
    ) {
        survives(&bytes, limit)?;
        // With a beginning that is believed.
        let mut message = reply(&key(), 0, [&[], &[], &[]]);
        for (at, byte) in bytes.iter().take(4).enumerate() {
            message[6 + at] = *byte % 4;
        }
        message.extend(&bytes);
        survives(&message, limit)?;
    }

    #[test]
    fn good_replies_with_some_bytes_changed_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        records in 0..60_u8,
        limit in 512..1500_usize,
    ) {
        let answers: Vec<_> = (0..records).map(|n| record(rtype::A, 9, &[10, 0, 0, n])).collect();
        let authority = [record(rtype::SOA, 300, &soa(60))];
        let opt = [record(rtype::OPT, 0, &[0, 15, 0, 2, 0, 3])];
        let mut message = reply(&key(), 0, [&answers, &authority, &opt]);
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        survives(&message, limit)?;
    }
}
