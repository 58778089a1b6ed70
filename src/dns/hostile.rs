//! Questions that no honest client asks, and what each gets. The numbers are those of the list of
//! hostile input that the project keeps.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use super::dialect::testing::{instance, service, service_of, settings};
use super::wire::{Name, be16, put16, rcode, rtype};
use super::zone::ZoneTable;
use super::{Action, Transport, respond};
use crate::catalog::{RegistryStatus, Snapshot};

const CLIENT: &str = "192.0.2.1";

/// A query of one question; `name` in wire format.
pub(super) fn query(name: &[u8], qtype: u16, class: u16) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    out.extend_from_slice(name);
    put16(&mut out, qtype);
    put16(&mut out, class);
    out
}

/// A query in class IN for a name in text.
pub(super) fn ask(name: &str, qtype: u16) -> Vec<u8> {
    query(Name::parse(name).unwrap().wire(), qtype, 1)
}

/// Adds an EDNS record.
pub(super) fn with_opt(mut query: Vec<u8>, payload: u16, version: u8, options: &[u8]) -> Vec<u8> {
    query[11] += 1;
    query.push(0);
    put16(&mut query, rtype::OPT);
    put16(&mut query, payload);
    query.extend_from_slice(&[0, version, 0, 0]);
    put16(&mut query, options.len() as u16);
    query.extend_from_slice(options);
    query
}

fn with(mut query: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    for (at, byte) in changes {
        query[*at] = *byte;
    }
    query
}

fn then(mut query: Vec<u8>, more: &[u8]) -> Vec<u8> {
    query.extend_from_slice(more);
    query
}

fn name_of_length(length: usize) -> Vec<u8> {
    let mut name = Vec::new();
    while name.len() + 1 < length {
        let label = (length - name.len() - 2).min(63);
        name.push(label as u8);
        name.extend(std::iter::repeat_n(b'x', label));
    }
    name.push(0);
    assert_eq!(name.len(), length);
    name
}

pub(super) fn table() -> ZoneTable {
    let settings = settings("listen = [\"10.0.0.53:53\"]\n[zone.consul]\ndialect = \"consul\"");
    let many = (0..400).map(|n| instance(&format!("i{n} 10.1.{}.{} 80", n / 200, n % 200)));
    let services = [
        service("web", &["a 10.0.0.1 80 v1.2", "b 10.0.0.2 80", "c fd00::1 80"]),
        service_of("many", many.collect()),
    ];
    let services = services.into_iter().map(|s| (Arc::clone(&s.name), Arc::new(s)));
    let snapshot = Snapshot { generation: 42, services: services.collect(), ..Snapshot::default() };
    ZoneTable::compile(&settings, None, &snapshot)
}

pub(super) fn reply(table: &ZoneTable, query: &[u8], transport: Transport) -> (Action, Vec<u8>) {
    let mut out = Vec::new();
    let client: IpAddr = CLIENT.parse().unwrap();
    let action = respond(table, query, transport, client, 5, &mut out);
    (action, out)
}

/// What a row wants.
pub(super) enum Want {
    Drop,
    /// A header and nothing else.
    Bare(u16),
    /// This code, the question, no record but EDNS.
    Code(u16),
    /// This code, and the SOA of the apex for authority.
    Soa(u16),
    /// That many answers, of this type.
    Answers(usize, RecordType),
    /// Fewer than that many answers, TC, not longer than the second number.
    Cut(usize, usize),
}

/// Number and what it is about, the query, its transport, what it gets.
type Row = (&'static str, Vec<u8>, Transport, Want);

#[test]
fn hostile_questions_get_these_answers() {
    let table = table();
    for (case, query, transport, want) in rows() {
        let (action, bytes) = reply(&table, &query, transport);
        if matches!(want, Want::Drop) {
            assert_eq!(action, Action::Drop, "{case}");
        } else {
            assert_eq!(action, Action::Reply, "{case}");
            check(case, &query, &want, &bytes);
        }
    }
}

/// Every row that has one answer by whichever lane.
pub(super) fn rows() -> Vec<Row> {
    use Transport::{Tcp, Udp};
    use Want::{Answers, Bare, Code, Cut, Drop, Soa};
    let web = || ask("web.service.consul", rtype::A);
    let many = || ask("many.service.consul", rtype::A);
    let raw = |labels: &[u8]| query(labels, rtype::A, 1);
    let rr = b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x01\x02\x03\x04";
    let deep = [&name_of_length(247)[..246], b"\x06consul\0"].concat();
    assert_eq!(deep.len(), 254);
    vec![
        ("1 empty", vec![], Udp, Drop),
        ("1 eleven bytes", web()[..11].to_vec(), Udp, Drop),
        ("2 a response", with(web(), &[(2, 0x81)]), Udp, Drop),
        ("3 header only", with(web()[..12].to_vec(), &[(5, 0)]), Udp, Bare(rcode::FORMERR)),
        ("4 two questions", with(web(), &[(5, 2)]), Udp, Bare(rcode::FORMERR)),
        ("4 65535 questions", with(web(), &[(4, 255), (5, 255)]), Udp, Bare(rcode::FORMERR)),
        ("5 no bytes", web()[..12].to_vec(), Udp, Bare(rcode::FORMERR)),
        ("5 cut in the name", web()[..20].to_vec(), Udp, Bare(rcode::FORMERR)),
        ("5 cut in the type", web()[..web().len() - 3].to_vec(), Udp, Bare(rcode::FORMERR)),
        ("6 label 0x40", raw(b"\x40a\0"), Udp, Bare(rcode::FORMERR)),
        ("6 label 0x80", raw(b"\x80a\0"), Udp, Bare(rcode::FORMERR)),
        ("7 pointer to itself", raw(b"\xc0\x0c"), Udp, Bare(rcode::FORMERR)),
        ("7 pointer past the end", raw(b"\x01a\xff\xff"), Udp, Bare(rcode::FORMERR)),
        ("8 256 octets", raw(&name_of_length(256)), Udp, Bare(rcode::FORMERR)),
        ("9 255 octets", raw(&name_of_length(255)), Udp, Code(rcode::REFUSED)),
        ("9 254 octets in the zone", raw(&deep), Udp, Soa(rcode::NXDOMAIN)),
        (
            "9 the same with NSID",
            with_opt(raw(&deep), 512, 0, b"\0\x03\0\0"),
            Udp,
            Soa(rcode::NXDOMAIN),
        ),
        ("10 trailing bytes", then(web(), &[7; 20]), Udp, Answers(2, RecordType::A)),
        ("11 IQUERY", with(web(), &[(2, 0x08)]), Udp, Bare(rcode::NOTIMP)),
        ("11 STATUS", with(web(), &[(2, 0x10)]), Udp, Bare(rcode::NOTIMP)),
        ("11 DSO", with(web(), &[(2, 0x30)]), Tcp, Bare(rcode::NOTIMP)),
        ("11 opcode 15", with(web(), &[(2, 0x78)]), Udp, Bare(rcode::NOTIMP)),
        ("12 NOTIFY, ours", with(web(), &[(2, 0x20)]), Udp, Bare(rcode::REFUSED)),
        ("12 NOTIFY, not ours", with(ask("x.org", 6), &[(2, 0x20)]), Udp, Bare(rcode::NOTAUTH)),
        ("13 UPDATE, ours", with(web(), &[(2, 0x28)]), Udp, Bare(rcode::REFUSED)),
        ("13 UPDATE, not ours", with(ask("x.org", 6), &[(2, 0x28)]), Udp, Bare(rcode::NOTAUTH)),
        ("14 class CH", query(b"\x07version\x04bind\0", rtype::TXT, 3), Udp, Code(rcode::REFUSED)),
        ("15 class ANY", query(b"\x06consul\0", rtype::SOA, 255), Udp, Code(rcode::REFUSED)),
        ("15 class NONE", query(b"\x06consul\0", rtype::SOA, 254), Udp, Code(rcode::REFUSED)),
        ("16 ANY", ask("web.service.consul", rtype::ANY), Udp, Answers(2, RecordType::A)),
        ("16 ANY at the apex", ask("consul", rtype::ANY), Udp, Answers(1, RecordType::SOA)),
        ("17 type 0", ask("web.service.consul", 0), Udp, Soa(rcode::NOERROR)),
        ("17 type 65535", ask("web.service.consul", 65535), Udp, Soa(rcode::NOERROR)),
        ("17 type MX", ask("web.service.consul", rtype::MX), Udp, Soa(rcode::NOERROR)),
        ("18 type OPT", ask("web.service.consul", rtype::OPT), Udp, Bare(rcode::FORMERR)),
        ("19 AXFR by UDP", ask("consul", rtype::AXFR), Udp, Code(rcode::REFUSED)),
        ("20 AXFR by TCP", ask("consul", rtype::AXFR), Tcp, Code(rcode::REFUSED)),
        ("21 IXFR", ask("consul", rtype::IXFR), Udp, Code(rcode::REFUSED)),
        ("22 EDNS 1", with_opt(web(), 1232, 1, b""), Udp, Code(rcode::BADVERS)),
        (
            "23 two OPTs",
            with_opt(with_opt(web(), 512, 0, b""), 512, 0, b""),
            Udp,
            Bare(rcode::FORMERR),
        ),
        (
            "24 OPT with an owner",
            with(then(web(), b"\x01a\0\0\x29\x04\xd0\0\0\0\0\0\0"), &[(11, 1)]),
            Udp,
            Bare(rcode::FORMERR),
        ),
        (
            "24 OPT as an answer",
            with(with_opt(web(), 512, 0, b""), &[(7, 1), (11, 0)]),
            Udp,
            Bare(rcode::FORMERR),
        ),
        (
            "25 option overruns",
            with_opt(web(), 1232, 0, b"\0\x0a\0\x08abc"),
            Udp,
            Bare(rcode::FORMERR),
        ),
        (
            "25 record overruns",
            {
                let mut q = with_opt(web(), 1232, 0, b"");
                let at = q.len() - 1;
                q[at] = 9;
                q
            },
            Udp,
            Bare(rcode::FORMERR),
        ),
        ("26 payload 0", with_opt(many(), 0, 0, b""), Udp, Cut(400, 512)),
        ("26 payload 100", with_opt(many(), 100, 0, b""), Udp, Cut(400, 512)),
        ("27 payload 4096", with_opt(many(), 4096, 0, b""), Udp, Cut(400, 1232)),
        ("27 payload 65535", with_opt(many(), 65535, 0, b""), Udp, Cut(400, 1232)),
        (
            "28 unknown option",
            with_opt(web(), 1232, 0, b"\xff\xf0\0\x01x"),
            Udp,
            Answers(2, RecordType::A),
        ),
        ("32 odd flags", with(web(), &[(2, 0x07), (3, 0xf0)]), Udp, Answers(2, RecordType::A)),
        (
            "33 an answer in the query",
            with(then(web(), rr), &[(7, 1)]),
            Udp,
            Answers(2, RecordType::A),
        ),
        (
            "34 65535 answers, none there",
            with(web(), &[(6, 255), (7, 255)]),
            Udp,
            Bare(rcode::FORMERR),
        ),
        ("34 65535 additional", with(web(), &[(10, 255), (11, 255)]), Udp, Bare(rcode::FORMERR)),
        ("35 outside", ask("example.org", rtype::A), Udp, Code(rcode::REFUSED)),
        ("35 root", query(b"\0", rtype::NS, 1), Udp, Code(rcode::REFUSED)),
        ("36 between", ask("service.consul", rtype::A), Udp, Soa(rcode::NOERROR)),
        ("36 between, in a tag", ask("2.web.service.consul", rtype::A), Udp, Soa(rcode::NOERROR)),
        ("36 the datacenter", ask("dc1.consul", rtype::A), Udp, Soa(rcode::NOERROR)),
        ("37 NUL, dot and 0xff", raw(b"\x03\0.\xff\x06consul\0"), Udp, Soa(rcode::NXDOMAIN)),
        ("37 the zone inside a label", raw(b"\x09a\x06consul\0\0"), Udp, Code(rcode::REFUSED)),
        ("38 mixed case", raw(b"\x03wEb\x07SerVice\x06cOnsuL\0"), Udp, Answers(2, RecordType::A)),
        ("39 too much without EDNS", many(), Udp, Cut(400, 512)),
        ("39 all by TCP", many(), Tcp, Answers(400, RecordType::A)),
        (
            "39 SRV too large",
            with_opt(ask("many.service.consul", rtype::SRV), 1232, 0, b""),
            Udp,
            Cut(400, 1232),
        ),
        (
            "39 SRV by TCP",
            ask("many.service.consul", rtype::SRV),
            Tcp,
            Answers(400, RecordType::SRV),
        ),
    ]
}

/// Whether `bytes` are the reply to `query` that its row wants.
pub(super) fn check(case: &str, query: &[u8], want: &Want, bytes: &[u8]) {
    use Want::{Answers, Bare, Code, Cut, Drop, Soa};
    assert_eq!(bytes[..2], query[..2], "{case}: id");
    assert_eq!(bytes[2] & 0x80, 0x80, "{case}: QR");
    assert_eq!(bytes[2] & 0x79, query[2] & 0x79, "{case}: opcode and RD");
    assert_eq!(bytes[3] & 0xf0, 0, "{case}: RA, Z, AD and CD are clear");
    if let Bare(code) = *want {
        assert_eq!((bytes.len(), u16::from(bytes[3] & 15)), (12, code), "{case}");
        assert_eq!(bytes[4..], [0; 8], "{case}: counts");
        return;
    }
    let message = Message::from_vec(bytes).unwrap_or_else(|e| panic!("{case}: {e}"));
    let question = 12..bytes.len().min(query.len()).min(12 + message_name(query) + 4);
    assert_eq!(bytes[question.clone()], query[question], "{case}: question");
    let asked = query[11] > 0 && be16(query, 10) != Some(0xffff);
    assert_eq!(message.edns.is_some(), asked, "{case}: EDNS");
    if let Some(edns) = &message.edns {
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232), "{case}");
    }
    let code = u16::from(message.metadata.response_code);
    let tc = message.metadata.truncation;
    match *want {
        Drop | Bare(_) => {}
        Code(want) => {
            assert_eq!(code, want, "{case}");
            assert!(message.answers.is_empty() && message.authorities.is_empty(), "{case}");
            assert!(!message.metadata.authoritative && !tc, "{case}");
        }
        Soa(want) => {
            assert_eq!(code, want, "{case}");
            assert!(message.answers.is_empty() && message.metadata.authoritative, "{case}");
            assert_eq!(message.authorities.len(), 1, "{case}");
            let soa = &message.authorities[0];
            assert_eq!(soa.record_type(), RecordType::SOA, "{case}");
            let apex = soa.name.to_string().to_lowercase();
            assert_eq!((&*apex, soa.ttl), ("consul.", 5), "{case}");
        }
        Answers(count, kind) => {
            assert_eq!(code, 0, "{case}");
            assert_eq!(message.answers.len(), count, "{case}");
            assert!(message.answers.iter().all(|r| r.record_type() == kind), "{case}");
            assert!(message.metadata.authoritative && !tc, "{case}");
        }
        Cut(all, limit) => {
            assert!(tc, "{case}: TC");
            assert!((1..all).contains(&message.answers.len()), "{case}");
            assert!(bytes.len() <= limit, "{case}: {} bytes", bytes.len());
            // What was left out is smaller than what would have fitted.
            assert!(bytes.len() + 64 > limit, "{case}: only {} bytes", bytes.len());
        }
    }
}

fn message_name(query: &[u8]) -> usize {
    super::wire::Question::read(query).unwrap().key().len()
}

#[test]
fn nsid_tells_node_and_generation_and_only_when_asked() {
    let table = table();
    let web = || ask("web.service.consul", rtype::A);
    let (_, asked) = reply(&table, &with_opt(web(), 1232, 0, b"\0\x03\0\0"), Transport::Udp);
    let text = b"edge-1 gen=42";
    assert!(asked.windows(text.len()).any(|window| window == text));
    let (_, plain) = reply(&table, &with_opt(web(), 1232, 0, b""), Transport::Udp);
    assert!(!plain.windows(text.len()).any(|window| window == text));
}

#[test]
fn a_name_that_a_silent_registry_could_know_is_servfail_and_known_names_are_answered() {
    let settings = settings("listen = []\n[zone.consul]\ndialect = \"consul\"");
    let web = service("web", &["a 10.0.0.1 80"]);
    let status = |name: &str, heard| RegistryStatus {
        name: name.into(),
        heard,
        stale: None,
        services: 0,
        problems: Arc::new([]),
        ..RegistryStatus::default()
    };
    let snapshot = Snapshot {
        services: [(Arc::clone(&web.name), Arc::new(web))].into_iter().collect(),
        registries: Arc::new([status("one", true), status("two", false)]),
        generation: 1,
        ..Snapshot::default()
    };
    let table = ZoneTable::compile(&settings, None, &snapshot);
    for (name, qtype, want) in [
        ("web.service.consul", rtype::A, rcode::NOERROR),
        ("web.service.consul", rtype::AAAA, rcode::NOERROR),
        ("db.service.consul", rtype::A, rcode::SERVFAIL),
        ("consul", rtype::SOA, rcode::NOERROR),
        ("0a000009.addr.consul", rtype::A, rcode::NOERROR),
    ] {
        let (_, bytes) = reply(&table, &ask(name, qtype), Transport::Udp);
        assert_eq!(u16::from(bytes[3] & 15), want, "{name}");
    }
}

#[test]
fn names_outside_are_forwarded_for_those_who_may_and_refused_for_the_world() {
    let settings = settings(
        "listen = []\n[zone.consul]\n[forward]\nupstreams = [\"192.0.2.53\"]\nallow = [\"10.0.0.0/8\"]",
    );
    let table = ZoneTable::compile(&settings, None, &Snapshot::default());
    let outside = || ask("example.org", rtype::A);
    for (case, query, client, want) in [
        ("allowed", outside(), "10.1.1.1", None),
        ("allowed, mapped", outside(), "::ffff:10.1.1.1", None),
        (
            "allowed, no recursion wanted",
            with(outside(), &[(2, 0)]),
            "10.1.1.1",
            Some(rcode::REFUSED),
        ),
        ("the world", outside(), "192.0.2.1", Some(rcode::REFUSED)),
        ("a zone of ours", ask("x.consul", rtype::A), "10.1.1.1", Some(rcode::NXDOMAIN)),
        (
            "an unknown address backwards",
            ask("9.9.9.10.in-addr.arpa", rtype::PTR),
            "10.1.1.1",
            None,
        ),
        ("a transfer", ask("example.org", rtype::AXFR), "10.1.1.1", Some(rcode::REFUSED)),
    ] {
        let mut out = vec![1, 2, 3];
        let client: IpAddr = client.parse().unwrap();
        let action = respond(&table, &query, Transport::Udp, client, 1, &mut out);
        match want {
            None => assert_eq!((action, out.len()), (Action::Forward, 0), "{case}"),
            Some(code) => {
                assert_eq!(action, Action::Reply, "{case}");
                assert_eq!(u16::from(out[3] & 15), code, "{case}");
            }
        }
    }
}
