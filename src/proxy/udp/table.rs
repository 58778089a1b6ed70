//! Flows by their key and by when they were used last. Pure: the time comes in.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// No slot.
const NONE: u32 = u32::MAX;

/// What makes datagrams a flow: who sends them, and to which address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The client.
    pub(super) client: SocketAddr,
    /// The address that it sends to, where the socket is bound to a wildcard.
    pub(super) asked: Option<IpAddr>,
}

/// Names a flow for as long as it is there, and nobody after it: what comes late for one that has
/// ended does not reach the next one in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// As one number, below 2^63.
    #[must_use]
    pub(super) const fn number(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// From that number.
    #[must_use]
    pub(super) const fn of(number: u64) -> Self {
        Self { slot: number as u32, generation: (number >> 32) as u32 }
    }
}

/// The flows of one worker at one listener. Every operation takes the same time however many there
/// are.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
    /// Ends of the list in order of use.
    oldest: u32,
    newest: u32,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// The neighbours in order of use.
    older: u32,
    newer: u32,
    entry: Option<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    key: Key,
    used: u64,
    value: T,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            oldest: NONE,
            newest: NONE,
        }
    }
}

impl<T> Table<T> {
    /// Whether there is none.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The flow of `key`.
    #[must_use]
    pub(super) fn find(&self, key: &Key) -> Option<Token> {
        let slot = *self.by_key.get(key)?;
        let generation = self.slots.get(slot as usize)?.generation;
        Some(Token { slot, generation })
    }

    /// A flow that is still there.
    #[must_use]
    pub(super) fn get(&self, token: Token) -> Option<&T> {
        Some(&self.entry(token)?.value)
    }

    /// The same, to change it.
    #[must_use]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        let entry = slot.entry.as_mut().filter(|_| slot.generation == token.generation)?;
        Some(&mut entry.value)
    }

    fn entry(&self, token: Token) -> Option<&Entry<T>> {
        let slot = self.slots.get(token.slot as usize)?;
        slot.entry.as_ref().filter(|_| slot.generation == token.generation)
    }

    /// Begins the flow of `key`, which has none, at `now`: `value` is told its name.
    pub(super) fn begin(&mut self, key: Key, now: u64, value: T) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            let empty = Slot { generation: 0, older: NONE, newer: NONE, entry: None };
            self.slots.push(empty);
            self.slots.len() as u32 - 1
        });
        let mut generation = 0;
        if let Some(room) = self.slots.get_mut(slot as usize) {
            room.entry = Some(Entry { key, used: now, value });
            generation = room.generation;
        }
        self.by_key.insert(key, slot);
        self.link(slot);
        Token { slot, generation }
    }

    /// It is used at `now`.
    pub(super) fn touch(&mut self, token: Token, now: u64) {
        let Some(slot) = self.slots.get_mut(token.slot as usize) else { return };
        let Some(entry) = slot.entry.as_mut().filter(|_| slot.generation == token.generation)
        else {
            return;
        };
        entry.used = now;
        if self.newest != token.slot {
            self.unlink(token.slot);
            self.link(token.slot);
        }
    }

    /// The flow that was used longest ago, and when.
    #[must_use]
    pub(super) fn oldest(&self) -> Option<(Token, u64)> {
        let slot = self.slots.get(self.oldest as usize)?;
        let used = slot.entry.as_ref()?.used;
        Some((Token { slot: self.oldest, generation: slot.generation }, used))
    }

    /// Ends a flow, if it is still there.
    pub(super) fn end(&mut self, token: Token) -> Option<T> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1) & (u32::MAX >> 1);
        self.by_key.remove(&entry.key);
        self.unlink(token.slot);
        self.free.push(token.slot);
        Some(entry.value)
    }

    /// The names of all flows, in no order that means anything. Takes time.
    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> {
        let slots = self.slots.iter().zip(0..);
        slots
            .filter(|(slot, _)| slot.entry.is_some())
            .map(|(slot, number)| Token { slot: number, generation: slot.generation })
    }

    fn link(&mut self, slot: u32) {
        let before = std::mem::replace(&mut self.newest, slot);
        if let Some(last) = self.slots.get_mut(before as usize) {
            last.newer = slot;
        } else {
            self.oldest = slot;
        }
        if let Some(own) = self.slots.get_mut(slot as usize) {
            (own.older, own.newer) = (before, NONE);
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(own) = self.slots.get(slot as usize) else { return };
        let (older, newer) = (own.older, own.newer);
        match self.slots.get_mut(older as usize) {
            Some(neighbour) => neighbour.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(neighbour) => neighbour.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client: u16) -> Key {
        Key { client: SocketAddr::from(([192, 0, 2, 1], client)), asked: None }
    }

    #[test]
    fn flows_are_found_by_their_key_and_end_in_the_order_in_which_they_were_used() {
        let mut table = Table::default();
        assert!(table.oldest().is_none() && table.is_empty());
        let [a, b, c] = [1, 2, 3].map(|n| table.begin(key(n), u64::from(n), n));
        assert_eq!((table.find(&key(2)), table.get(b)), (Some(b), Some(&2)));
        let elsewhere = Key { asked: Some([127, 0, 0, 2].into()), ..key(2) };
        assert_eq!(table.find(&elsewhere), None, "the same client, another address of ours");
        assert_eq!(table.oldest(), Some((a, 1)));
        table.touch(a, 10);
        assert_eq!(table.oldest(), Some((b, 2)));
        table.touch(a, 11);
        table.touch(c, 12);
        table.touch(b, 13);
        let mut order = Vec::new();
        while let Some((oldest, used)) = table.oldest() {
            order.push((table.end(oldest).unwrap(), used));
        }
        assert_eq!(order, [(1, 11), (3, 12), (2, 13)]);
        assert!(table.is_empty() && table.newest == NONE);
    }

    #[test]
    fn a_name_that_is_out_of_date_reaches_nobody() {
        let mut table = Table::default();
        let first = table.begin(key(1), 0, "first");
        assert_eq!(table.end(first), Some("first"));
        let second = table.begin(key(2), 0, "second");
        assert_eq!(first.slot, second.slot, "slots are used again");
        assert_eq!(table.get(first), None);
        assert_eq!((table.get_mut(first).is_none(), table.end(first)), (true, None));
        table.touch(first, 9);
        assert_eq!(table.oldest(), Some((second, 0)));
        assert_eq!(Token::of(second.number()), second);
        assert!(second.number() >> 63 == 0);
        assert_eq!(table.tokens().collect::<Vec<_>>(), [second]);
    }

    #[test]
    fn any_row_of_uses_leaves_the_list_whole() {
        let mut table = Table::default();
        let mut order: Vec<u16> = Vec::new();
        let mut seed = 7_u32;
        for step in 0..5000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let client = (seed >> 16) as u16 % 40;
            match (table.find(&key(client)), seed >> 30) {
                (Some(token), 0) => {
                    table.end(token);
                    order.retain(|known| *known != client);
                }
                (Some(token), _) => {
                    table.touch(token, step);
                    order.retain(|known| *known != client);
                    order.push(client);
                }
                (None, _) => {
                    table.begin(key(client), step, client);
                    order.push(client);
                }
            }
            let oldest = table.oldest().and_then(|(token, _)| table.get(token).copied());
            assert_eq!((oldest, table.by_key.len()), (order.first().copied(), order.len()));
        }
        let mut left = Vec::new();
        while let Some((token, _)) = table.oldest() {
            left.extend(table.end(token));
        }
        assert_eq!(left, order);
    }
}
