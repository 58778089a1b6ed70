//! Cookies, limits, access and reasons, as a client sees them.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use proptest::prelude::*;

use super::cookie::Secret;
use super::dialect::testing::{service, settings};
use super::hostile::{ask, with_opt};
use super::rate::Rates;
use super::wire::{be16, rcode, rtype};
use super::zone::ZoneTable;
use super::{Action, Asker, Transport, respond_to};
use crate::catalog::snapshot::Staleness;
use crate::catalog::{RegistryStatus, Snapshot};

const NOW: u32 = 1_700_000_000;

fn table(more: &str, registries: &[(&str, bool, bool)]) -> ZoneTable {
    let web = service("web", &["a 10.0.0.1 80"]);
    let status = |(name, heard, stale): &(&str, bool, bool)| RegistryStatus {
        name: (*name).into(),
        heard: *heard,
        stale: stale.then(|| Staleness { since: std::time::UNIX_EPOCH, why: "down".into() }),
        ..RegistryStatus::default()
    };
    let snapshot = Snapshot {
        services: [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect(),
        generation: 1,
        registries: registries.iter().map(status).collect(),
        ..Snapshot::default()
    };
    ZoneTable::compile(&settings(&format!("listen = []\n{more}")), None, &snapshot)
}

struct World {
    table: ZoneTable,
    secrets: [Secret; 2],
    rates: Rates,
}

impl World {
    fn new(more: &str) -> Self {
        let secrets = [Secret::random(), Secret::random()];
        Self { table: table(more, &[]), secrets, rates: Rates::default() }
    }

    fn ask(&self, query: &[u8], client: &str, seed: u64) -> (Action, u16, Vec<u8>) {
        let client: IpAddr = client.parse().unwrap();
        let mut out = Vec::new();
        let (transport, secrets, rates) = (Transport::Udp, &self.secrets[..], Some(&self.rates));
        let asker = Asker { transport, client, seed, now: NOW, secrets, rates };
        let outcome = respond_to(&self.table, query, &asker, &mut out);
        if outcome.action == Action::Reply {
            let low = u16::from(out[3] & 15);
            assert_eq!(low, outcome.rcode & 15, "the code that is told is the one that is sent");
        }
        (outcome.action, outcome.rcode, out)
    }
}

/// The data of an option in the reply's EDNS record, which is its last one.
fn option(reply: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let start = (12..reply.len()).find(|at| {
        let head = reply.get(*at..*at + 11);
        head.is_some_and(|head| {
            head[..3] == [0, 0, 41] && usize::from(be16(head, 9).unwrap()) + at + 11 == reply.len()
        })
    })?;
    let mut rest = &reply[start + 11..];
    while let (Some(code), Some(length)) = (be16(rest, 0), be16(rest, 2)) {
        let data = &rest[4..4 + usize::from(length)];
        if code == wanted {
            return Some(data.to_vec());
        }
        rest = &rest[4 + usize::from(length)..];
    }
    None
}

fn cookie_option(cookie: &[u8]) -> Vec<u8> {
    [&[0, 10, 0, cookie.len() as u8][..], cookie].concat()
}

fn web() -> Vec<u8> {
    ask("web.svc", rtype::A)
}

#[test]
fn a_client_gets_a_cookie_and_is_known_by_it() {
    let world = World::new("[zone.svc]");
    let ask = |cookie: &[u8], client: &str| {
        world.ask(&with_opt(web(), 1232, 0, &cookie_option(cookie)), client, 1)
    };
    // 29: the client's part alone.
    let (_, code, first) = ask(b"clients!", "192.0.2.1");
    let given = option(&first, 10).unwrap();
    assert_eq!((code, given.len(), &given[..8]), (0, 24, &b"clients!"[..]));
    assert_eq!(Message::from_vec(&first).unwrap().answers.len(), 1);
    // What comes back is honoured and renewed; a wrong one is answered with a right one (31).
    for cookie in [given.clone(), [b"clients!", &[9; 16][..]].concat()] {
        let (_, code, reply) = ask(&cookie, "192.0.2.1");
        assert_eq!((code, option(&reply, 10)), (0, Some(given.clone())));
    }
    // 30: lengths that no cookie has.
    for length in [0, 7, 9, 15, 41] {
        let (_, code, reply) = ask(&vec![1; length], "192.0.2.1");
        assert_eq!((code, reply.len()), (rcode::FORMERR, 12), "{length}");
    }
    // 3: no question, but a cookie.
    let mut bare = web()[..12].to_vec();
    bare[5] = 0;
    let query = with_opt(bare, 1232, 0, &cookie_option(b"clients!"));
    let (_, code, reply) = world.ask(&query, "192.0.2.1", 1);
    assert_eq!((code, option(&reply, 10)), (0, Some(given)));
    assert!(Message::from_vec(&reply).is_ok());
    // Who does not ask gets none.
    let (_, _, plain) = world.ask(&with_opt(web(), 1232, 0, b""), "192.0.2.1", 1);
    assert_eq!(option(&plain, 10), None);
}

#[test]
fn without_secrets_cookies_are_ignored_whatever_their_length() {
    let mut world = World::new("[zone.svc]");
    world.rates = Rates::default();
    for length in [8, 7, 24] {
        let query = with_opt(web(), 1232, 0, &cookie_option(&vec![1; length]));
        let mut out = Vec::new();
        let client = "192.0.2.1".parse().unwrap();
        let (transport, secrets) = (Transport::Udp, &[][..]);
        let asker = Asker { transport, client, seed: 1, now: NOW, secrets, rates: None };
        let outcome = respond_to(&world.table, &query, &asker, &mut out);
        assert_eq!((outcome.rcode, option(&out, 10)), (0, None), "{length}");
    }
}

#[test]
fn a_flood_is_cut_off_but_known_clients_loopback_and_tcp_are_not() {
    let world = World::new("rate_limit = 5\nrate_limit_slip = 2\n[zone.svc]");
    let cookie = |client: &str| {
        let query = with_opt(web(), 1232, 0, &cookie_option(b"clients!"));
        option(&world.ask(&query, client, 1).2, 10).unwrap()
    };
    let known = with_opt(web(), 1232, 0, &cookie_option(&cookie("198.51.100.1")));
    let outcomes = |query: &[u8], client: &str| -> Vec<(Action, u16, bool)> {
        (0..40)
            .map(|seed| {
                let (action, code, out) = world.ask(query, client, seed);
                let cut = action == Action::Reply && out[2] & 2 != 0;
                if cut || code == rcode::BADCOOKIE {
                    assert!(out.len() <= query.len() + 28, "a short reply is short");
                }
                (action, code, cut)
            })
            .collect()
    };
    let flood = outcomes(&web(), "192.0.2.1");
    assert!(flood[..5].iter().all(|o| *o == (Action::Reply, 0, false)));
    assert_eq!(flood[5..].iter().filter(|o| o.0 == Action::Limit).count(), 18);
    assert_eq!(flood[5..].iter().filter(|o| **o == (Action::Reply, 0, true)).count(), 17);
    // Who speaks of cookies and has none of ours is given one to come back with.
    let stranger = outcomes(&with_opt(web(), 1232, 0, &cookie_option(b"clients!")), "192.0.3.1");
    assert!(stranger[5..].contains(&(Action::Reply, rcode::BADCOOKIE, false)));
    for (case, query, client) in [
        ("a cookie of ours", known, "198.51.100.1"),
        ("loopback", web(), "127.0.0.1"),
        ("private networks", web(), "10.1.2.3"),
    ] {
        let all = outcomes(&query, client);
        assert!(all.iter().all(|o| *o == (Action::Reply, 0, false)), "{case}: {all:?}");
    }
    let mut out = Vec::new();
    let client = "192.0.2.1".parse().unwrap();
    let (transport, secrets, rates) = (Transport::Tcp, &[][..], Some(&world.rates));
    let asker = Asker { transport, client, seed: 1, now: NOW, secrets, rates };
    assert_eq!(respond_to(&world.table, &web(), &asker, &mut out).action, Action::Reply);
    // Broken questions are counted too, and never answered with more than they brought.
    let broken = outcomes(&web()[..20], "192.0.9.1");
    assert_eq!(broken.iter().filter(|o| o.0 == Action::Limit).count(), 18);
}

#[test]
fn a_zone_answers_those_who_may_ask_and_others_learn_that_they_may_not() {
    let world = World::new("[zone.svc]\nallow = [\"10.0.0.0/8\", \"2001:db8::/32\"]\n[zone.open]");
    for (name, qtype, client, want) in [
        ("web.svc", rtype::A, "10.9.9.9", rcode::NOERROR),
        ("web.svc", rtype::A, "::ffff:10.9.9.9", rcode::NOERROR),
        ("web.svc", rtype::A, "2001:db8::1", rcode::NOERROR),
        ("web.svc", rtype::A, "192.0.2.1", rcode::REFUSED),
        ("nobody.svc", rtype::A, "192.0.2.1", rcode::REFUSED),
        ("web.open", rtype::A, "192.0.2.1", rcode::NOERROR),
        // The names of an address would tell those of the zone.
        ("1.0.0.10.in-addr.arpa", rtype::PTR, "192.0.2.1", rcode::REFUSED),
        ("1.0.0.10.in-addr.arpa", rtype::PTR, "10.9.9.9", rcode::NOERROR),
    ] {
        let (_, code, reply) = world.ask(&with_opt(ask(name, qtype), 1232, 0, b""), client, 1);
        assert_eq!(code, want, "{name} for {client}");
        let why = option(&reply, 15).and_then(|data| be16(&data, 0));
        assert_eq!(why, (want == rcode::REFUSED).then_some(18), "{name} for {client}");
    }
}

#[test]
fn a_reply_says_why_it_is_as_it_is_to_those_who_speak_edns() {
    let (heard, silent, stale) =
        (("test", true, false), ("two", false, false), ("test", true, true));
    for (case, registries, name, qtype, code, why) in [
        ("all is well", &[heard][..], "web.svc", rtype::A, 0, None),
        ("no such name", &[heard], "no.svc", rtype::A, rcode::NXDOMAIN, None),
        ("stale", &[stale], "web.svc", rtype::A, 0, Some(3)),
        ("stale, no such type", &[stale], "web.svc", rtype::MX, 0, Some(3)),
        ("stale, no such name", &[stale], "no.svc", rtype::A, rcode::NXDOMAIN, Some(19)),
        ("not ready", &[heard, silent], "no.svc", rtype::A, rcode::SERVFAIL, Some(14)),
        ("not ours", &[heard], "example.org", rtype::A, rcode::REFUSED, Some(20)),
        ("a transfer", &[heard], "svc", rtype::AXFR, rcode::REFUSED, Some(21)),
    ] {
        let table = table("[zone.svc]", registries);
        let mut out = Vec::new();
        for (edns, query) in
            [(true, with_opt(ask(name, qtype), 1232, 0, b"")), (false, ask(name, qtype))]
        {
            let client = "192.0.2.1".parse().unwrap();
            super::respond(&table, &query, Transport::Udp, client, 1, &mut out);
            assert_eq!(u16::from(out[3] & 15), code, "{case}");
            let told = option(&out, 15).and_then(|data| be16(&data, 0));
            assert_eq!(told, why.filter(|_| edns), "{case}, EDNS {edns}");
        }
    }
}

#[test]
fn by_tcp_a_client_that_asks_learns_how_long_it_may_be_idle() {
    let table = table("tcp_idle = \"7s\"\n[zone.svc]", &[]);
    let query = with_opt(web(), 1232, 0, &[0, 11, 0, 0]);
    for (transport, want) in [(Transport::Tcp, Some(vec![0, 70])), (Transport::Udp, None)] {
        let mut out = Vec::new();
        let client = "192.0.2.1".parse().unwrap();
        super::respond(&table, &query, transport, client, 1, &mut out);
        assert_eq!(option(&out, 11), want, "{transport:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_options_a_query_has_its_reply_can_be_read_and_keeps_its_limit(
        options in prop::collection::vec(
            (prop_oneof![Just(3_u16), Just(10), Just(11), Just(15), any::<u16>()],
             prop::collection::vec(any::<u8>(), 0..45)),
            0..5,
        ),
        payload: u16, version in prop_oneof![9 => Just(0_u8), 1 => any::<u8>()],
        tcp: bool, stale: bool, times in 1..30_u64,
        name in prop_oneof![Just("web.svc"), Just("no.svc"), Just("example.org"), Just("svc")],
        qtype in prop_oneof![Just(rtype::A), Just(rtype::SRV), Just(rtype::SOA), Just(rtype::ANY)],
    ) {
        let table = table("rate_limit = 10\n[zone.svc]", &[("test", true, stale)]);
        let mut bytes = Vec::new();
        for (code, data) in &options {
            bytes.extend(code.to_be_bytes());
            bytes.extend((data.len() as u16).to_be_bytes());
            bytes.extend(data);
        }
        let query = with_opt(ask(name, qtype), payload, version, &bytes);
        let (secrets, rates) = ([Secret::random()], Rates::default());
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        for seed in 0..times {
            let client = "192.0.2.1".parse().unwrap();
            let (secrets, rates) = (&secrets[..], Some(&rates));
            let asker = Asker { transport, client, seed, now: NOW, secrets, rates };
            let mut out = Vec::new();
            let outcome = respond_to(&table, &query, &asker, &mut out);
            prop_assert!(outcome.action == Action::Reply || (!tcp && seed >= 10));
            if outcome.action != Action::Reply {
                continue;
            }
            prop_assert!(tcp || out.len() <= usize::from(payload.clamp(512, 1232)));
            let message = Message::from_vec(&out).unwrap();
            let code = u16::from(message.metadata.response_code);
            prop_assert_eq!(code, outcome.rcode);
            prop_assert_eq!(message.edns.is_some(), code != rcode::FORMERR);
            let cookie = options.iter().find(|(code, _)| *code == 10).map(|(_, data)| data.len());
            let good = |length| length == 8 || (16..=40).contains(&length);
            prop_assert_eq!(code == rcode::FORMERR, cookie.is_some_and(|length| !good(length)));
            prop_assert_eq!(option(&out, 10).is_some(), cookie.is_some_and(good));
        }
    }
}
