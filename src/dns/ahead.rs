//! Fetching ahead: what the answers to a batch are made of is read before the first one is written.
//!
//! From a name to its records the way goes through half a dozen blocks of memory, each found by the
//! one before. In a table of ten thousand names most of them are in no near cache, and an answer
//! waits for each. Here all questions of a batch go that way together, one step after the other, so
//! that the processor waits for all of them at once. Nothing is decided here: who answers looks
//! everything up again, and finds it at hand.

use std::hint::black_box;

use super::node::Node;
use super::wire::{Name, Question};
use super::zone::ZoneTable;
use crate::catalog::shards::Seek;
use crate::net::mmsg::{BATCH, Datagrams};

/// Smaller batches are answered as they are: there is nothing to wait for together.
const LEAST: usize = 4;

/// Reads what stands under the names that the first `count` questions of `batch` ask for.
/// Allocates nothing.
pub(super) fn fetch(table: &ZoneTable, batch: &Datagrams, count: usize) {
    if count < LEAST {
        return;
    }
    let mut seeks: [Option<Seek<'_, Name, Node>>; BATCH] = [const { None }; BATCH];
    let mut nodes: [Option<&Node>; BATCH] = [None; BATCH];
    let mut types = [0; BATCH];
    // What is read goes into a sum, so that no read can be left out.
    let mut sum = 0u64;
    let places = seeks.iter_mut().zip(&mut types);
    for (index, (seek, qtype)) in places.take(count).enumerate() {
        let Some(question) = Question::read(batch.query(index)) else { continue };
        *qtype = question.qtype;
        let zone = table.zone_of(question.key());
        let names = zone.map_or(&table.reverse, |(_, zone)| &zone.nodes);
        *seek = Some(names.seek(question.key()));
    }
    for seek in seeks.iter_mut().flatten() {
        seek.descend();
    }
    for seek in seeks.iter().flatten() {
        sum = sum.wrapping_add(seek.head());
    }
    for seek in seeks.iter().flatten() {
        sum = sum.wrapping_add(seek.first());
    }
    for (seek, node) in seeks.iter().zip(&mut nodes) {
        let Some((name, found)) = seek.as_ref().and_then(Seek::entry) else { continue };
        sum = sum.wrapping_add(name.wire().first().map_or(0, |byte| u64::from(*byte)));
        *node = Some(found);
    }
    for node in nodes.iter().flatten() {
        sum = sum.wrapping_add(node.sets().len() as u64);
    }
    for node in nodes.iter().flatten() {
        sum = sum.wrapping_add(node.sets().first().map_or(0, |set| u64::from(set.rtype)));
    }
    for (node, qtype) in nodes.iter().zip(types) {
        let set = node.and_then(|node| node.set(qtype));
        sum = sum.wrapping_add(set.map_or(0, super::set::Set::touch));
    }
    black_box(sum);
}
