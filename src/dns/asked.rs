//! What a name is answered with, once it is known whose matter it is.

use std::net::IpAddr;

use super::answer::{Reply, Serving};
use super::edns::extended;
use super::lookup::View;
use super::node::Node;
use super::set::{OWNER, RR_HEAD};
use super::settings::ZoneSettings;
use super::wire::{Header, POINTER_MAX, Question, rcode, rtype};
use super::zone::{Found, Zone, ZoneTable};

/// Most aliases that are followed for one question.
const CHASE_MAX: usize = 8;

/// What is asked, of whom, and by which client.
pub(super) struct Asked<'a> {
    pub(super) table: &'a ZoneTable,
    pub(super) view: View<'a>,
    pub(super) qtype: u16,
}

impl Asked<'_> {
    /// Answers from a zone, negatively if need be.
    pub(super) fn answer_zone(
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
                reply.extended(extended::NOT_READY);
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
        if zone.stale {
            let missing = reply.is(rcode::NXDOMAIN);
            reply.extended(if missing { extended::STALE_NXDOMAIN } else { extended::STALE });
        }
        if !answered {
            reply.soa(2, &zone.soa, &settings.apex);
        }
    }

    /// Answers from the records of one name, and of the names that it is an alias of as far as
    /// they are known here. False when there is none of that type.
    pub(super) fn answer_node(
        &self,
        reply: &mut Reply<'_>,
        node: &Node,
        serving: &Serving,
    ) -> bool {
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
                Some(_) => return true,
                None => {
                    if self.table.zone_of(name).is_none() && self.table.reverse(name).is_none() {
                        reply.leave();
                    }
                    return true;
                }
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
