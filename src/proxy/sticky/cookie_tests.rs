use proptest::prelude::*;

use super::*;

const NOW: u32 = 1_800_000_000;
const DAY: u32 = 24 * 3600;

fn keys(byte: u8) -> Keys {
    Keys::new(&[byte; KEY], None)
}

fn identity() -> impl Strategy<Value = Identity> {
    (any::<u64>(), any::<u64>()).prop_map(|(upstream, endpoint)| Identity { upstream, endpoint })
}

const HERE: Identity = Identity { upstream: 1, endpoint: 2 };

const fn good(identity: Identity) -> Opened {
    Opened { identity, stale: false }
}

proptest! {
    #[test]
    fn what_is_sealed_is_opened_by_every_node_with_the_key(identity in identity()) {
        let value = keys(1).seal("portolan", identity, NOW);
        prop_assert_eq!(value.len(), LENGTH);
        prop_assert!(value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        prop_assert_eq!(keys(1).open("portolan", value.as_bytes(), NOW + 60), Some(good(identity)));
    }

    #[test]
    fn any_bit_that_is_flipped_makes_it_worthless(
        identity in identity(), at in 0..LENGTH, bit in 0..8_u32,
    ) {
        let mut value = keys(1).seal("portolan", identity, NOW).into_bytes();
        value[at] ^= 1 << bit;
        prop_assert_eq!(keys(1).open("portolan", &value, NOW), None);
    }

    #[test]
    fn whatever_else_is_sent_is_refused_and_never_breaks(
        value in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        prop_assert_eq!(keys(1).open("portolan", &value, NOW), None);
    }

    #[test]
    fn nothing_of_the_identity_can_be_seen(endpoint in any::<u64>()) {
        let value = keys(1).seal("portolan", Identity { upstream: 1, endpoint }, NOW);
        let other = keys(1).seal("portolan", Identity { upstream: 1, endpoint: !endpoint }, NOW);
        let (value, other) = (BASE64.decode(value).unwrap(), BASE64.decode(other).unwrap());
        // The same time and the same service, and still no part is alike.
        for part in [0..8, 8..16, 16..20, 20..28, 28..36] {
            prop_assert_ne!(&value[part.clone()], &other[part]);
        }
    }

    #[test]
    fn what_is_left_of_other_cookies_is_what_came(
        names in proptest::collection::vec("[a-c]|portolan", 0..6),
    ) {
        let pairs: Vec<String> = names.iter().map(|name| format!("{name}=1=2")).collect();
        let kept: Vec<&str> =
            pairs.iter().map(|p| &**p).filter(|p| !p.starts_with("portolan")).collect();
        let line = pairs.join("; ");
        let left = without("portolan", [line.as_bytes()].into_iter());
        if kept.len() == pairs.len() {
            prop_assert_eq!(left, None);
        } else {
            prop_assert_eq!(String::from_utf8(left.unwrap()).unwrap(), kept.join("; "));
        }
    }
}

#[test]
fn a_cookie_for_another_name_of_another_key_or_too_old_is_refused() {
    let value = keys(1).seal("portolan", HERE, NOW);
    for (case, name, key, now, want) in [
        ("as it should be", "portolan", 1, NOW, Some(good(HERE))),
        ("another name", "portola", 1, NOW, None),
        ("another key", "portolan", 2, NOW, None),
        ("two weeks later", "portolan", 1, NOW + 14 * DAY, Some(good(HERE))),
        (
            "old enough for a fresh one",
            "portolan",
            1,
            NOW + 16 * DAY,
            Some(Opened { identity: HERE, stale: true }),
        ),
        (
            "the last second",
            "portolan",
            1,
            NOW + GOOD_FOR,
            Some(Opened { identity: HERE, stale: true }),
        ),
        ("too old", "portolan", 1, NOW + GOOD_FOR + 1, None),
        ("a clock that is a little late", "portolan", 1, NOW - AHEAD, Some(good(HERE))),
        ("from the future", "portolan", 1, NOW - AHEAD - 1, None),
    ] {
        assert_eq!(keys(key).open(name, value.as_bytes(), now), want, "{case}");
    }
}

#[test]
fn a_cookie_of_the_former_key_is_taken_and_replaced() {
    let value = keys(1).seal("portolan", HERE, NOW);
    let both = Keys::new(&[2; KEY], Some(&[1; KEY]));
    let opened = both.open("portolan", value.as_bytes(), NOW);
    assert_eq!(opened, Some(Opened { identity: HERE, stale: true }));
    let fresh = both.seal("portolan", HERE, NOW);
    assert_eq!(keys(2).open("portolan", fresh.as_bytes(), NOW), Some(good(HERE)));
    assert_eq!(keys(1).open("portolan", fresh.as_bytes(), NOW), None);
}

#[test]
fn the_cookie_is_found_among_others_and_the_first_good_one_counts() {
    let keys = keys(1);
    let sealed = keys.seal("portolan", HERE, NOW);
    let read = |lines: &[&str]| keys.read("portolan", lines.iter().map(|l| l.as_bytes()), NOW);
    let opened = Brought::Good(good(HERE));
    let forged = format!("portolan={}", "A".repeat(LENGTH));
    for (case, lines, want) in [
        ("none at all", vec![], Brought::Nothing),
        ("others", vec!["a=b; xportolan=1; portolanx=2".to_owned()], Brought::Nothing),
        ("another case", vec![format!("Portolan={sealed}")], Brought::Nothing),
        ("alone", vec![format!("portolan={sealed}")], opened),
        ("between", vec![format!("a=b; portolan={sealed};c=d")], opened),
        ("without spaces", vec![format!("a=b;portolan={sealed}")], opened),
        ("in the second line", vec!["a=b".to_owned(), format!("portolan={sealed}")], opened),
        ("behind a forged one", vec![format!("{forged}; portolan={sealed}")], opened),
        ("quoted", vec![format!("portolan=\"{sealed}\"")], Brought::Bad),
        ("empty", vec!["portolan=".to_owned()], Brought::Bad),
        ("forged", vec![forged.clone()], Brought::Bad),
        (
            "behind too many",
            vec![format!("{}portolan={sealed}", format!("{forged}; ").repeat(TRIES))],
            Brought::Bad,
        ),
    ] {
        let lines: Vec<&str> = lines.iter().map(|line| &**line).collect();
        assert_eq!(read(&lines), want, "{case}");
    }
}

#[test]
fn it_is_taken_out_and_the_others_go_on_as_they_came() {
    for (case, lines, want) in [
        ("no cookies", &[][..], None),
        ("only others", &["a=b; c=d"][..], None),
        ("alone", &["portolan=x"][..], Some("")),
        ("first", &["portolan=x; a=b; c=\"d e\""][..], Some("a=b; c=\"d e\"")),
        ("last", &["a=b;c=d; portolan=x"][..], Some("a=b;c=d")),
        ("between", &["a=b; portolan=x;  c=d"][..], Some("a=b;  c=d")),
        ("twice", &["portolan=x; a=b; portolan=y"][..], Some("a=b")),
        ("in two lines", &["a=b; portolan=x", "c=d; e=f"][..], Some("a=b; c=d; e=f")),
        ("a line of its own", &["a=b", "portolan=x"][..], Some("a=b")),
        ("a line before", &["portolan=x", "a=b"][..], Some("a=b")),
    ] {
        let left = without("portolan", lines.iter().map(|line| line.as_bytes()));
        assert_eq!(left.map(|left| String::from_utf8(left).unwrap()).as_deref(), want, "{case}");
    }
}

#[test]
fn keys_are_never_shown_and_a_cookie_says_secure_only_when_told() {
    assert_eq!(format!("{:?}", keys(1)), "Keys");
    assert_eq!(set_cookie("a", "b", false), "a=b; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(set_cookie("a", "b", true), "a=b; Path=/; HttpOnly; SameSite=Lax; Secure");
}
