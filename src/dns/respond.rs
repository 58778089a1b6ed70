//! The decision: which answer a question gets. Pure; both lanes ask here.
//!
//! One policy for all dialects: a name that exists, for its records or for names below it, is never
//! NXDOMAIN (RFC 8020); each negative answer bears the SOA of the apex (RFC 2308); the question
//! comes back byte for byte; what does not fit by UDP is a subset with TC, chosen by the seed, and
//! EDNS is kept (RFC 6891 §7). What cannot be read gets FORMERR, never silence, except what is no
//! query at all (RFC 8906).

use std::net::IpAddr;

use super::answer::{OptReply, Reply, Serving, bare};
use super::edns::read_edns;
use super::lookup::View;
use super::node::Node;
use super::set::{OWNER, RR_HEAD};
use super::settings::{Settings, ZoneSettings};
use super::wire::{CLASS_IN, Header, POINTER_MAX, Question, rcode, rtype};
use super::zone::{Found, Zone, ZoneTable};

/// Largest reply by UDP to a client without EDNS (RFC 1035 §4.2.1).
const UDP_PLAIN: usize = 512;
/// Largest message by TCP (RFC 1035 §4.2.2).
const TCP_MAX: usize = 65_535;

/// Most aliases that are followed for one question.
const CHASE_MAX: usize = 8;

/// Kinds of question other than the usual one that are known by number (RFC 1996, RFC 2136).
const NOTIFY: u16 = 4;
const UPDATE: u16 = 5;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram: the reply has to fit into what the client can take.
    Udp,
    /// A stream: the reply may have 65,535 bytes.
    Tcp,
}

/// What to do about a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send what was written.
    Reply,
    /// Say nothing: it was no query.
    Drop,
    /// Ask an upstream: the name is not ours, and this client may.
    Forward,
}

/// Writes the reply to `query` into `out` and says what to do with it.
///
/// `out` is cleared, then holds at most 65,535 bytes for TCP, or for UDP what the client says it
/// can take (RFC 6891 §6.2.3), at least 512, at most `udp_payload_max`; 512 without EDNS. `seed`
/// chooses which record comes first, and which ones when not all fit. Allocates nothing once `out`
/// has that capacity. Infallible: bytes that are no query give [`Action::Drop`], a broken question
/// FORMERR. With [`Action::Forward`] `out` is empty.
pub fn respond(
    table: &ZoneTable,
    query: &[u8],
    transport: Transport,
    client: IpAddr,
    seed: u64,
    out: &mut Vec<u8>,
) -> Action {
    out.clear();
    let Some(header) = Header::read(query) else { return Action::Drop };
    if header.flags & Header::QR != 0 {
        return Action::Drop;
    }
    match header.opcode() {
        0 => {}
        NOTIFY | UPDATE => {
            let ours = Question::read(query).is_some_and(|q| table.zone_of(q.key()).is_some());
            bare(out, header, if ours { rcode::REFUSED } else { rcode::NOTAUTH });
            return Action::Reply;
        }
        _ => {
            bare(out, header, rcode::NOTIMP);
            return Action::Reply;
        }
    }
    let readable = (header.counts[0] == 1)
        .then(|| Question::read(query))
        .flatten()
        .and_then(|question| Some((read_edns(query, header, question.end).ok()?, question)))
        .filter(|(_, question)| question.qtype != rtype::OPT);
    let Some((edns, question)) = readable else {
        bare(out, header, rcode::FORMERR);
        return Action::Reply;
    };

    let settings = table.settings();
    let payload = settings.udp_payload_max;
    let limit = match (transport, edns) {
        (Transport::Tcp, _) => TCP_MAX,
        (Transport::Udp, None) => UDP_PLAIN,
        (Transport::Udp, Some(edns)) => usize::from(edns.payload.min(payload)).max(UDP_PLAIN),
    };
    let opt = edns.map(|edns| OptReply { edns, payload, nsid: edns.nsid.then(|| table.nsid()) });
    let may_recurse = header.flags & Header::RD != 0 && may_recurse(settings, client);
    let mut reply = Reply::new(out, query, &question, opt, limit);
    if may_recurse {
        reply.set(Header::RA);
    }
    if edns.is_some_and(|edns| edns.version != 0) {
        reply.code(rcode::BADVERS);
    } else if question.qclass != CLASS_IN || matches!(question.qtype, rtype::AXFR | rtype::IXFR) {
        reply.code(rcode::REFUSED);
    } else {
        let view = table.view(client);
        let serving = serving(settings, transport, client, edns.is_some(), seed);
        let asked = Asked { table, view, qtype: question.qtype };
        let found = table.aside(&view, question.key());
        if let Some((node, soa)) = table.reverse(question.key()).or(found) {
            reply.set(Header::AA);
            if !asked.answer_node(&mut reply, node, &serving) {
                reply.authority(soa);
            }
        } else if let Some((settings, zone)) = table.zone_of(question.key()) {
            asked.answer_zone(&mut reply, settings, zone, &question, serving);
        } else if may_recurse {
            out.clear();
            return Action::Forward;
        } else {
            reply.code(rcode::REFUSED);
        }
    }
    reply.finish();
    Action::Reply
}

fn serving(
    settings: &Settings,
    transport: Transport,
    client: IpAddr,
    edns: bool,
    seed: u64,
) -> Serving {
    Serving {
        seed,
        locality: settings.localities.of(client),
        plain: transport == Transport::Udp && !edns,
        only_near: false,
        addresses_max: usize::MAX,
        records_max: usize::MAX,
        retry: transport == Transport::Udp,
    }
}

fn may_recurse(settings: &Settings, client: IpAddr) -> bool {
    settings.forward.as_ref().is_some_and(|forward| forward.allows(client))
}

/// What is asked, of whom, and by which client.
struct Asked<'a> {
    table: &'a ZoneTable,
    view: View<'a>,
    qtype: u16,
}

impl Asked<'_> {
    fn answer_zone(
        &self,
        reply: &mut Reply<'_>,
        settings: &ZoneSettings,
        zone: &Zone,
        question: &Question,
        serving: Serving,
    ) {
        let serving = serving.within(settings);
        let answered = match self.table.find(settings, zone, &self.view, question.key()) {
            Found::Missing if zone.unheard => {
                // Not an authoritative word: the registry that could know it has not spoken yet.
                reply.code(rcode::SERVFAIL);
                return;
            }
            Found::Missing => {
                reply.code(rcode::NXDOMAIN);
                false
            }
            Found::Apex(_) if matches!(self.qtype, rtype::SOA | rtype::ANY) => {
                reply.soa(1, &zone.soa, &settings.apex);
                true
            }
            Found::Apex(Some(node)) | Found::Node(node) => self.answer_node(reply, node, &serving),
            Found::Address(ip) if is_asked(ip, self.qtype) => {
                reply.answer_address(ip, settings.node_ttl);
                true
            }
            Found::Apex(None) | Found::Address(_) | Found::Bare => false,
        };
        reply.set(Header::AA);
        if !answered {
            reply.soa(2, &zone.soa, &settings.apex);
        }
    }

    /// Answers from the records of one name, and of the names that it is an alias of as far as
    /// they are known here. False when there is none of that type.
    fn answer_node(&self, reply: &mut Reply<'_>, node: &Node, serving: &Serving) -> bool {
        let (mut node, mut owner) = (node, OWNER);
        for passed in 0..CHASE_MAX {
            let set = match self.qtype {
                // One RRset is answer enough (RFC 8482 §4.1).
                rtype::ANY => node.sets().first(),
                _ => node.set(self.qtype).or_else(|| node.set(rtype::CNAME)),
            };
            let Some(set) = set else { return passed > 0 };
            let written = reply.answer(set, serving, owner);
            if set.rtype == rtype::SRV {
                reply.additional(set, &written);
            }
            let target = written.start + RR_HEAD;
            if set.rtype != rtype::CNAME
                || matches!(self.qtype, rtype::CNAME | rtype::ANY)
                || written.count == 0
                || target > POINTER_MAX
            {
                return true;
            }
            let name = set.record(0).get(RR_HEAD..).unwrap_or_default();
            match self.table.node(&self.view, name) {
                Some(next) if !std::ptr::eq(next, node) => node = next,
                _ => return true,
            }
            owner = 0xc000 | target as u16;
        }
        true
    }
}

/// Whether a question of type `qtype` asks for addresses of the family of `ip`.
const fn is_asked(ip: IpAddr, qtype: u16) -> bool {
    match ip {
        IpAddr::V4(_) => matches!(qtype, rtype::A | rtype::ANY),
        IpAddr::V6(_) => matches!(qtype, rtype::AAAA | rtype::ANY),
    }
}

/// A reply of nothing but a code to a query that was to be forwarded, EDNS kept.
pub(super) fn failure(query: &[u8], payload: u16, rcode: u16) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(header) = Header::read(query) else { return out };
    let Some(question) = Question::read(query) else {
        bare(&mut out, header, rcode);
        return out;
    };
    let edns = read_edns(query, header, question.end).ok().flatten();
    let opt = edns.map(|edns| OptReply { edns, payload, nsid: None });
    let mut reply = Reply::new(&mut out, query, &question, opt, UDP_PLAIN);
    reply.set(Header::RA);
    reply.code(rcode);
    reply.finish();
    out
}
