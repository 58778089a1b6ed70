//! From what was found out to the reply that a client gets: names outside the zones, aliases that
//! lead there, and names from further down the client's search list.

use std::net::SocketAddr;
use std::sync::Arc;

use super::key::{CD, Key};
use super::message::{Age, Stored};
use super::names::records;
use super::{Asking, Failure, Resolved};
use crate::dns::answer::{Reply, bare};
use crate::dns::edns::{Edns, extended, read_edns};
use crate::dns::express::now;
use crate::dns::full::Inner;
use crate::dns::opt::OptReply;
use crate::dns::respond::{Action, Asker, Transport, respond_to};
use crate::dns::settings::Settings;
use crate::dns::wire::{
    CLASS_IN, HEADER, Header, Name, Question, be16, put16, rcode, rtype, set16,
};
use crate::dns::zone::ZoneTable;

/// How long an alias that leads down a search list may be kept at most, in seconds.
const SEARCHED_TTL: u32 = 5;

/// Who asked what, and how it wants to be told.
struct Client<'q> {
    query: &'q [u8],
    question: Question,
    flags: u16,
    edns: Option<Edns>,
    opt: Option<OptReply<'static>>,
    nsid: Option<Box<[u8]>>,
    limit: usize,
    peer: SocketAddr,
    whole: bool,
}

/// Records that were put together from several messages.
struct Composed {
    rcode: u16,
    authoritative: bool,
    answer: Vec<Vec<u8>>,
    authority: Vec<Vec<u8>>,
    reason: Option<u16>,
}

impl Inner {
    /// The reply to `query`, which takes more than the tables: see [`Action::Forward`] and
    /// [`Action::Chase`].
    pub(in crate::dns) async fn forwarded(
        &self,
        query: &[u8],
        peer: SocketAddr,
        transport: Transport,
    ) -> Vec<u8> {
        let mut own = Vec::new();
        let (settings, client, action) = {
            let table = self.table.load();
            let secrets = self.secrets.load();
            let secrets = table.settings().limits.cookies.secrets(&secrets[..]);
            let (client, seed) = (peer.ip(), crate::random::bits());
            // What is ours comes whole; what is left of it depends on what it is put beside.
            let whole = Transport::Tcp;
            let asker = Asker { transport: whole, client, seed, now: now(), secrets, rates: None };
            let action = respond_to(&table, query, &asker, &mut own).action;
            let asker = Asker { transport, ..asker };
            let Some(client) = Client::read(&table, query, peer, &asker) else {
                return unreadable(query);
            };
            if !matches!(action, Action::Forward | Action::Chase) {
                // The configuration is another one since it was handed over.
                respond_to(&table, query, &asker, &mut own);
                return own;
            }
            (Arc::clone(table.settings()), client, action)
        };
        let key = Key::of(&client.question, client.edns, client.flags);
        let rcode = Header::read(&own).map_or(rcode::NOERROR, |header| header.flags & 0xf);
        if action == Action::Chase && rcode != rcode::NXDOMAIN {
            return match self.follow(&settings, &client, &key, &own).await {
                Ok(whole) => client.compose(&whole),
                Err(failure) => client.failure(&failure),
            };
        }
        if action == Action::Chase {
            return match self.search(&settings, &client, &key).await {
                Some(found) => client.compose(&found),
                None => client.compose(&Composed::of(&own)),
            };
        }
        let resolved = self.resolve(&settings, &key, client.asking()).await;
        let missing = matches!(&resolved, Ok((reply, _)) if reply.rcode == rcode::NXDOMAIN);
        if missing
            && settings.searches(peer.ip(), client.question.key())
            && let Some(found) = self.search(&settings, &client, &key).await
        {
            return client.compose(&found);
        }
        match resolved {
            Ok((reply, age)) => client.answer(&reply, age),
            Err(failure) => client.failure(&failure),
        }
    }

    async fn resolve(&self, settings: &Arc<Settings>, key: &Key, asking: Asking<'_>) -> Resolved {
        let resolved = self.forwarder.resolve(settings, key, asking).await;
        match &resolved {
            Ok(_) => self.metrics.forwards_answered.inc(),
            Err(failure) if failure.limit => self.metrics.forwards_refused.inc(),
            Err(_) => self.metrics.forwards_failed.inc(),
        }
        resolved
    }

    /// Our part of the answer, `own`, and where the alias leads that it ends in.
    async fn follow(
        &self,
        settings: &Arc<Settings>,
        client: &Client<'_>,
        key: &Key,
        own: &[u8],
    ) -> Result<Composed, Failure> {
        let mut whole = Composed::of(own);
        let Some(target) = whole.answer.last().and_then(|record| target(record)) else {
            return Ok(whole);
        };
        let asking = Asking { whole: true, query: &[], ..client.asking() };
        // A stub would take the alias alone for the word that there is nothing.
        let (reply, age) = self.resolve(settings, &key.about(&target), asking).await?;
        self.forwarder.0.metrics.aliases.inc();
        whole.append(&reply.plain(age));
        whole.reason = stale(&reply, age);
        Ok(whole)
    }

    /// Looks for the name of `key`, which is not there, further down the client's search list.
    /// None when it is not there either, or when nobody can say.
    async fn search(
        &self,
        settings: &Arc<Settings>,
        client: &Client<'_>,
        key: &Key,
    ) -> Option<Composed> {
        let name = Name::from_wire(key.name());
        let list = settings.search_of(client.peer.ip());
        let at = list.iter().position(|domain| name.is_in(domain) && name != *domain)?;
        let head = name.moved(list.get(at)?, &Name::root())?;
        let further = list.iter().skip(at + 1).filter_map(|domain| head.onto(domain).ok());
        // A name of one label is nobody's outside.
        let alone = (head.labels() > 1).then(|| head.clone());
        for candidate in further.chain(alone) {
            let found = match self.look(client, &candidate) {
                Some((Action::Reply, own)) => Composed::of(&own),
                Some((Action::Forward, _)) => {
                    let asking = Asking { whole: true, query: &[], ..client.asking() };
                    let (reply, age) =
                        self.resolve(settings, &key.about(&candidate), asking).await.ok()?;
                    let mut found = Composed::of(&reply.plain(age));
                    found.reason = stale(&reply, age);
                    found
                }
                Some((Action::Chase, own)) => {
                    let about = key.about(&candidate);
                    self.follow(settings, client, &about, &own).await.ok()?
                }
                _ => return None,
            };
            match found.rcode {
                rcode::NXDOMAIN => {}
                rcode::NOERROR => {
                    self.forwarder.0.metrics.searched.inc();
                    return Some(found.below(&client.question, &candidate));
                }
                _ => return None,
            }
        }
        None
    }

    /// What our tables say to `client` about `name`.
    fn look(&self, client: &Client<'_>, name: &Name) -> Option<(Action, Vec<u8>)> {
        let mut query = client.query.get(..HEADER)?.to_vec();
        for (at, count) in [(4, 1), (6, 0), (8, 0), (10, 0)] {
            set16(&mut query, at, count);
        }
        query.extend_from_slice(name.wire());
        put16(&mut query, client.question.qtype);
        put16(&mut query, CLASS_IN);
        let table = self.table.load();
        let (transport, ip, seed) = (Transport::Tcp, client.peer.ip(), crate::random::bits());
        let asker = Asker { transport, client: ip, seed, now: 0, secrets: &[], rates: None };
        let mut own = Vec::new();
        let outcome = respond_to(&table, &query, &asker, &mut own);
        // Another search would begin where this one is.
        let missing = outcome.action == Action::Chase && outcome.rcode == rcode::NXDOMAIN;
        Some((if missing { Action::Reply } else { outcome.action }, own))
    }
}

/// The reason that goes with an answer that has run out.
fn stale(reply: &Stored, age: Age) -> Option<u16> {
    match age {
        Age::Fresh(_) => None,
        Age::Stale(_) if reply.rcode == rcode::NXDOMAIN => Some(extended::STALE_NXDOMAIN),
        Age::Stale(_) => Some(extended::STALE),
    }
}

/// Where an alias leads, of a record whose names are in full.
fn target(record: &[u8]) -> Option<Name> {
    let owner = name_end(record)?;
    let wire = record.get(owner + 10..)?.to_ascii_lowercase();
    (be16(record, owner) == Some(rtype::CNAME)).then(|| Name::from_wire(&wire))
}

/// Where a name in full ends.
fn name_end(record: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *record.get(at)? {
            0 => return Some(at + 1),
            label => at += usize::from(label) + 1,
        }
    }
}

fn unreadable(query: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(header) = Header::read(query) {
        bare(&mut out, header, rcode::FORMERR);
    }
    out
}

impl<'q> Client<'q> {
    fn read(
        table: &ZoneTable,
        query: &'q [u8],
        peer: SocketAddr,
        asker: &Asker<'_>,
    ) -> Option<Self> {
        let header = Header::read(query)?;
        let question = Question::read(query)?;
        let edns = read_edns(query, header, question.end).ok()?;
        let opt = edns.map(|edns| asker.opt(table, edns));
        Some(Self {
            query,
            flags: header.flags,
            edns,
            nsid: opt.and_then(|opt| opt.nsid.map(Box::from)),
            opt: opt.map(|opt| OptReply { nsid: None, reasons: &[], ..opt }),
            limit: asker.limit(table.settings(), edns),
            peer,
            whole: asker.transport == Transport::Tcp,
            question,
        })
    }

    fn asking(&self) -> Asking<'q> {
        Asking { client: self.peer.ip(), whole: self.whole, query: self.query }
    }

    fn opt(&self) -> Option<OptReply<'_>> {
        self.opt.map(|opt| OptReply { nsid: self.nsid.as_deref(), ..opt })
    }

    fn answer(&self, reply: &Stored, age: Age) -> Vec<u8> {
        let told = (self.opt(), stale(reply, age));
        reply.reply(self.query, &self.question, told, self.limit, age)
    }

    fn failure(&self, failure: &Failure) -> Vec<u8> {
        let mut out = Vec::new();
        let reasons = failure.told.as_ref().map_or(&[][..], |told| told.reasons());
        let opt = self.opt().map(|opt| OptReply { reasons, ..opt });
        let mut reply = Reply::new(&mut out, self.query, &self.question, opt, self.limit);
        reply.set(Header::RA | (self.flags & CD));
        reply.code(failure.rcode);
        // What the upstream itself said is the better reason.
        if let Some(reason) = failure.reason.filter(|_| reasons.is_empty()) {
            reply.extended(reason);
        }
        reply.finish();
        out
    }

    /// Writes the records, as many as fit.
    fn compose(&self, all: &Composed) -> Vec<u8> {
        let opt = self.opt();
        let room = self.limit.saturating_sub(opt.as_ref().map_or(0, OptReply::room));
        let mut out = self.query.get(..self.question.end).unwrap_or_default().to_vec();
        let mut flags = Header::QR
            | Header::RA
            | (self.flags & (Header::RD | CD))
            | if all.authoritative { Header::AA } else { 0 }
            | (all.rcode & 0xf);
        let mut counts = [1, 0, 0, u16::from(opt.is_some())];
        let sections = [(1, &all.answer), (2, &all.authority)];
        for (section, record) in
            sections.into_iter().flat_map(|(section, all)| all.iter().map(move |r| (section, r)))
        {
            if out.len() + record.len() > room {
                flags |= Header::TC;
                break;
            }
            out.extend_from_slice(record);
            counts[section] += 1;
        }
        set16(&mut out, 2, flags);
        for (index, count) in counts.into_iter().enumerate() {
            set16(&mut out, 4 + index * 2, count);
        }
        if let Some(opt) = &opt {
            opt.write(&mut out, all.rcode, all.reason);
        }
        out
    }
}

impl Composed {
    /// The records of `message`; those beside the answer are left out.
    fn of(message: &[u8]) -> Self {
        let flags = Header::read(message).map_or(rcode::SERVFAIL, |header| header.flags);
        Self {
            rcode: flags & 0xf,
            authoritative: flags & Header::AA != 0,
            answer: records(message, 1).unwrap_or_default(),
            authority: records(message, 2).unwrap_or_default(),
            reason: None,
        }
    }

    /// Goes on with `message`, the answer for the name that the last alias leads to.
    fn append(&mut self, message: &[u8]) {
        let more = Self::of(message);
        self.rcode = more.rcode;
        self.answer.extend(more.answer);
        self.authority = more.authority;
    }

    /// The same for `question`, as an alias of `name`, whose records these are.
    fn below(mut self, question: &Question, name: &Name) -> Self {
        let ttl_of = |record: &Vec<u8>| {
            let at = name_end(record)? + 4;
            Some(u32::from(be16(record, at)?) << 16 | u32::from(be16(record, at + 2)?))
        };
        let ttl = self.answer.iter().chain(&self.authority).filter_map(ttl_of).min();
        let ttl = ttl.unwrap_or_default().min(SEARCHED_TTL);
        let mut alias = question.key().to_vec();
        put16(&mut alias, rtype::CNAME);
        put16(&mut alias, CLASS_IN);
        put16(&mut alias, 0);
        put16(&mut alias, ttl as u16);
        put16(&mut alias, name.wire().len() as u16);
        alias.extend_from_slice(name.wire());
        self.answer.insert(0, alias);
        self.authoritative = false;
        self
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
