//! The decision: which answer a question gets. Pure; both lanes ask here.
//!
//! One policy for all dialects: a name that exists, for its records or for names below it, is never
//! NXDOMAIN (RFC 8020); each negative answer bears the SOA of the apex (RFC 2308); the question
//! comes back byte for byte; what does not fit by UDP is a subset with TC, chosen by the seed, and
//! EDNS is kept (RFC 6891 §7). What cannot be read gets FORMERR, never silence, except what is no
//! query at all (RFC 8906).

use std::net::IpAddr;

use super::answer::{Reply, Serving, bare, cookie_only};
use super::asked::Asked;
use super::cookie::{self, Cookie, Secret};
use super::edns::{Edns, extended, read_edns};
use super::opt::OptReply;
use super::rate::{Kind, Rates, Verdict};
use super::settings::Settings;
use super::wire::{CLASS_IN, Header, Question, rcode, rtype};
use super::zone::ZoneTable;

/// Largest reply by UDP to a client without EDNS (RFC 1035 §4.2.1).
const UDP_PLAIN: usize = 512;
/// Largest message by TCP (RFC 1035 §4.2.2).
const TCP_MAX: usize = 65_535;

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
    /// Say nothing: this network has had its share of replies.
    Limit,
    /// Ask an upstream: the name is not ours, and this client may.
    Forward,
    /// What was written is all that is ours, and an upstream may know how it goes on: an alias leads
    /// outside, or the client's search list does. This client may ask.
    Chase,
}

/// Who asks, and what is at hand to tell friend from foe.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// How the question came.
    pub transport: Transport,
    /// Where it came from.
    pub client: IpAddr,
    /// Chooses which record comes first, and which ones when not all fit.
    pub seed: u64,
    /// Unix time in seconds.
    pub now: u32,
    /// Secrets of cookies, the one in force first; none: cookies are ignored.
    pub secrets: &'a [Secret],
    /// Counts replies by UDP to those that `[dns] rate_limit` is for; none: nobody is limited.
    pub rates: Option<&'a Rates>,
}

/// What became of a query, for the one who carries it and for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What to do.
    pub action: Action,
    /// Type asked for, when the question could be read.
    pub qtype: Option<u16>,
    /// Code of the reply.
    pub rcode: u16,
}

/// Writes the reply to `query` into `out` and says what to do with it: [`respond_to`] without
/// cookies and limits.
pub fn respond(
    table: &ZoneTable,
    query: &[u8],
    transport: Transport,
    client: IpAddr,
    seed: u64,
    out: &mut Vec<u8>,
) -> Action {
    let asker = Asker { transport, client, seed, now: 0, secrets: &[], rates: None };
    respond_to(table, query, &asker, out).action
}

/// Writes the reply to `query` into `out` and says what to do with it.
///
/// `out` is cleared, then holds at most 65,535 bytes for TCP, or for UDP what the client says it
/// can take (RFC 6891 §6.2.3), at least 512, at most `udp_payload_max`; 512 without EDNS. Allocates
/// nothing once `out` has that capacity. Infallible: bytes that are no query give [`Action::Drop`],
/// a broken question FORMERR. With [`Action::Forward`] `out` is empty, with [`Action::Limit`] it means
/// nothing; with [`Action::Chase`] it holds the part that is ours.
pub fn respond_to(
    table: &ZoneTable,
    query: &[u8],
    asker: &Asker<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    out.clear();
    let silent = Outcome { action: Action::Drop, qtype: None, rcode: rcode::NOERROR };
    let Some(header) = Header::read(query) else { return silent };
    if header.flags & Header::QR != 0 {
        return silent;
    }
    let limited = |code| {
        let (action, qtype) = (Action::Reply, None);
        // There is nothing in it that a cookie could vouch for.
        match verdict(table.settings(), asker, code, false) {
            Verdict::Send | Verdict::Slip => Outcome { action, qtype, rcode: code },
            Verdict::Drop => Outcome { action: Action::Limit, qtype, rcode: code },
        }
    };
    match header.opcode() {
        0 => {}
        NOTIFY | UPDATE => {
            let ours = Question::read(query).is_some_and(|q| table.zone_of(q.key()).is_some());
            let code = if ours { rcode::REFUSED } else { rcode::NOTAUTH };
            bare(out, header, code);
            return limited(code);
        }
        _ => {
            bare(out, header, rcode::NOTIMP);
            return limited(rcode::NOTIMP);
        }
    }
    let Some((question, edns)) = read(query, header, asker) else {
        let opt = cookie_alone(query, header, asker);
        let code = if opt.is_some() { rcode::NOERROR } else { rcode::FORMERR };
        match opt {
            Some(opt) => cookie_only(out, header, &opt),
            None => bare(out, header, code),
        }
        return limited(code);
    };

    let settings = table.settings();
    let opt = edns.map(|edns| asker.opt(table, edns));
    let limit = asker.limit(settings, edns);
    let may_recurse = header.flags & Header::RD != 0 && may_recurse(settings, asker.client);
    let mut reply = Reply::new(out, query, &question, opt, limit);
    if may_recurse {
        reply.set(Header::RA);
    }
    let qtype = Some(question.qtype);
    if !answer(&mut reply, table, &question, edns, asker, may_recurse) {
        out.clear();
        return Outcome { action: Action::Forward, qtype, rcode: rcode::NOERROR };
    }
    if may_recurse
        && (reply.leaves()
            || reply.is(rcode::NXDOMAIN) && settings.searches(asker.client, question.key()))
    {
        let code = reply.finish();
        return Outcome { action: Action::Chase, qtype, rcode: code };
    }
    let code = reply.finish();
    let known = edns.is_some_and(|edns| asker.is_known(&edns));
    match verdict(settings, asker, code, known) {
        Verdict::Send => Outcome { action: Action::Reply, qtype, rcode: code },
        Verdict::Drop => Outcome { action: Action::Limit, qtype, rcode: code },
        Verdict::Slip => {
            let code = slip(query, &question, opt, out);
            Outcome { action: Action::Reply, qtype, rcode: code }
        }
    }
}

/// The question and its EDNS, when there is exactly one question and both can be read.
fn read(query: &[u8], header: Header, asker: &Asker<'_>) -> Option<(Question, Option<Edns>)> {
    if header.counts[0] != 1 {
        return None;
    }
    let question = Question::read(query).filter(|question| question.qtype != rtype::OPT)?;
    let edns = read_edns(query, header, question.end).ok()?;
    let bad = edns.is_some_and(|edns| edns.cookie == Cookie::Malformed);
    (asker.secrets.is_empty() || !bad).then_some((question, edns))
}

/// What a query without a question gets, if it has a cookie: a cookie.
fn cookie_alone<'a>(query: &[u8], header: Header, asker: &Asker<'_>) -> Option<OptReply<'a>> {
    if header.counts[0] != 0 {
        return None;
    }
    let edns = read_edns(query, header, super::wire::HEADER).ok()??;
    let cookie = Some(asker.cookie(&edns)?);
    Some(OptReply { cookie, ..OptReply::plain(edns) })
}

/// Writes what the tables say. False: an upstream has to be asked.
fn answer(
    reply: &mut Reply<'_>,
    table: &ZoneTable,
    question: &Question,
    edns: Option<Edns>,
    asker: &Asker<'_>,
    may_recurse: bool,
) -> bool {
    if edns.is_some_and(|edns| edns.version != 0) {
        reply.code(rcode::BADVERS);
    } else if question.qclass != CLASS_IN || matches!(question.qtype, rtype::AXFR | rtype::IXFR) {
        reply.code(rcode::REFUSED);
        reply.extended(extended::NOT_SUPPORTED);
        return true;
    }
    if reply.is(rcode::BADVERS) {
        return true;
    }
    let key = question.key();
    let view = table.view(asker.client);
    let asked = Asked { table, view, qtype: question.qtype };
    let serving = serving(table.settings(), asker, edns.is_some());
    let backwards = table.reverse(key);
    if let Some((node, soa)) = backwards.or_else(|| table.aside(&view, key)) {
        // The names of an address are those of all zones.
        let all = || table.settings().zones.iter().all(|zone| zone.allows(asker.client));
        if backwards.is_some() && !all() {
            reply.code(rcode::REFUSED);
            reply.extended(extended::PROHIBITED);
            return true;
        }
        reply.set(Header::AA);
        if !asked.answer_node(reply, node, &serving) {
            reply.authority(soa);
        }
    } else if let Some((settings, zone)) = table.zone_of(key) {
        if settings.allows(asker.client) {
            asked.answer_zone(reply, settings, zone, question, serving);
        } else {
            reply.code(rcode::REFUSED);
            reply.extended(extended::PROHIBITED);
        }
    } else if may_recurse {
        return false;
    } else {
        reply.code(rcode::REFUSED);
        reply.extended(extended::NOT_AUTHORITATIVE);
    }
    true
}

impl Asker<'_> {
    /// What this client is told by EDNS.
    pub(super) fn opt<'t>(&self, table: &'t ZoneTable, edns: Edns) -> OptReply<'t> {
        let idle = table.settings().tcp_idle.as_millis() / 100;
        OptReply {
            nsid: edns.nsid.then(|| table.nsid()),
            keepalive: (edns.keepalive && self.transport == Transport::Tcp)
                .then(|| u16::try_from(idle).unwrap_or(u16::MAX)),
            cookie: self.cookie(&edns),
            ..OptReply::plain(edns)
        }
    }

    /// Largest reply that this client takes, in bytes.
    pub(super) fn limit(&self, settings: &Settings, edns: Option<Edns>) -> usize {
        match (self.transport, edns) {
            (Transport::Tcp, _) => TCP_MAX,
            (Transport::Udp, None) => UDP_PLAIN,
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.payload.min(settings.udp_payload_max)).max(UDP_PLAIN)
            }
        }
    }

    /// The client's part of its cookie and a fresh one of ours.
    fn cookie(&self, edns: &Edns) -> Option<[u8; cookie::CLIENT + cookie::SERVER]> {
        let (secret, Cookie::Told { client, .. }) = (self.secrets.first()?, edns.cookie) else {
            return None;
        };
        let mut both = [0; cookie::CLIENT + cookie::SERVER];
        both[..cookie::CLIENT].copy_from_slice(&client);
        let ours = cookie::make(secret, client, self.client, self.now);
        both[cookie::CLIENT..].copy_from_slice(&ours);
        Some(both)
    }

    /// Whether the client has brought back a cookie of ours.
    fn is_known(&self, edns: &Edns) -> bool {
        let Cookie::Told { client, server, length } = edns.cookie else { return false };
        let server = server.get(..usize::from(length)).unwrap_or_default();
        cookie::is_ours(self.secrets, client, server, self.client, self.now)
    }
}

/// What becomes of a reply with this code. Who comes by TCP, or is known, is who he says he is.
fn verdict(settings: &Settings, asker: &Asker<'_>, code: u16, known: bool) -> Verdict {
    let Some(rates) = asker.rates.filter(|_| asker.transport == Transport::Udp) else {
        return Verdict::Send;
    };
    let limits = &settings.limits;
    if known || !limits.counts(asker.client) {
        return Verdict::Send;
    }
    let kind = match code {
        rcode::NOERROR => Kind::Answer,
        rcode::NXDOMAIN => Kind::Negative,
        _ => Kind::Error,
    };
    rates.count(asker.client, kind, asker.now, (limits.rate, limits.slip), asker.seed)
}

/// The short reply that leads an honest client on: a cookie to come back with for those who know
/// what that is, TC for all others.
fn slip(query: &[u8], question: &Question, opt: Option<OptReply<'_>>, out: &mut Vec<u8>) -> u16 {
    let mut reply = Reply::new(out, query, question, opt, UDP_PLAIN);
    if opt.is_some_and(|opt| opt.cookie.is_some()) {
        reply.code(rcode::BADCOOKIE);
    } else {
        reply.set(Header::TC);
    }
    reply.finish()
}

fn serving(settings: &Settings, asker: &Asker<'_>, edns: bool) -> Serving {
    let udp = asker.transport == Transport::Udp;
    Serving {
        seed: asker.seed,
        locality: settings.localities.of(asker.client),
        plain: udp && !edns,
        only_near: false,
        addresses_max: usize::MAX,
        records_max: usize::MAX,
        retry: udp,
    }
}

fn may_recurse(settings: &Settings, client: IpAddr) -> bool {
    settings.forward.as_ref().is_some_and(|forward| forward.allows(client))
}

/// Writes a reply of nothing but a code to a query that was to be forwarded, EDNS kept, and why.
pub(super) fn failure(query: &[u8], rcode: u16, extended: Option<u16>, out: &mut Vec<u8>) {
    out.clear();
    let Some(header) = Header::read(query) else { return };
    let Some(question) = Question::read(query) else {
        bare(out, header, rcode);
        return;
    };
    let edns = read_edns(query, header, question.end).ok().flatten();
    let mut reply = Reply::new(out, query, &question, edns.map(OptReply::plain), UDP_PLAIN);
    reply.set(Header::RA);
    reply.code(rcode);
    if let Some(extended) = extended {
        reply.extended(extended);
    }
    reply.finish();
}
