//! A bag of records: which there are, and how many tell each.

use std::sync::Arc;

use super::node::Record;

/// Records in a chunk before it is split into two.
const CHUNK_MAX: usize = 256;

/// A sorted bag of records in chunks that versions share: a change copies one chunk, so that an
/// address with a hundred thousand services costs hardly more than one with a hundred.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted(Vec<Arc<Vec<(Record, u32)>>>);

impl Counted {
    /// The bag of `records`; who is there several times is told by several.
    pub(super) fn of(mut records: Vec<Record>) -> Self {
        // Stable, for that finds stretches that are in order already.
        records.sort();
        let mut counted: Vec<(Record, u32)> = Vec::with_capacity(records.len());
        for record in records {
            match counted.last_mut() {
                Some((last, count)) if *last == record => *count += 1,
                _ => counted.push((record, 1)),
            }
        }
        if counted.len() <= CHUNK_MAX {
            counted.shrink_to_fit();
            return Self(vec![Arc::new(counted)]);
        }
        let mut rest = counted.into_iter();
        let mut chunks = Vec::with_capacity(rest.len().div_ceil(CHUNK_MAX));
        while rest.len() > 0 {
            chunks.push(Arc::new(rest.by_ref().take(CHUNK_MAX).collect()));
        }
        Self(chunks)
    }

    /// How many different records are in it.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|chunk| chunk.len()).sum()
    }

    /// Whether nothing is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Its records in their order, each once, and how many tell it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Record, u32)> {
        self.0.iter().flat_map(|chunk| chunk.iter().map(|(record, count)| (record, *count)))
    }

    /// The last of its records.
    pub(super) fn last(&self) -> Option<&Record> {
        self.0.last()?.last().map(|(record, _)| record)
    }

    /// Counts `data` up or down by `by`. Returns whether anything is another than before.
    pub(super) fn add(&mut self, data: Record, by: i64) -> bool {
        let at = self.0.partition_point(|chunk| chunk.last().is_some_and(|last| last.0 < data));
        if at == self.0.len() {
            if by <= 0 {
                return false;
            }
            match self.0.last_mut() {
                Some(last) if last.len() < CHUNK_MAX => {
                    Arc::make_mut(last).push((data, count(0, by)));
                }
                _ => self.0.push(Arc::new(vec![(data, count(0, by))])),
            }
            return true;
        }
        let chunk = Arc::make_mut(&mut self.0[at]);
        match chunk.binary_search_by(|known| known.0.cmp(&data)) {
            Ok(index) => {
                chunk[index].1 = count(chunk[index].1, by);
                if chunk[index].1 == 0 {
                    chunk.remove(index);
                }
                if chunk.is_empty() {
                    self.0.remove(at);
                }
                by != 0
            }
            Err(_) if by <= 0 => false,
            Err(index) => {
                chunk.insert(index, (data, count(0, by)));
                if chunk.len() > CHUNK_MAX {
                    let upper = chunk.split_off(CHUNK_MAX / 2);
                    self.0.insert(at + 1, Arc::new(upper));
                }
                true
            }
        }
    }
}

impl PartialEq for Counted {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

fn count(now: u32, by: i64) -> u32 {
    debug_assert!(i64::from(now) + by >= 0, "a record is taken out that was never put in");
    u32::try_from(i64::from(now) + by).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::node::Data;
    use super::super::wire::Name;
    use super::*;

    #[test]
    fn a_bag_holds_what_was_put_in_whatever_the_order() {
        let name = |n: u32| Record::from(Data::Ptr(Name::parse(&format!("s{n}.x")).unwrap()));
        let (mut up, mut down) = (Counted::default(), Counted::default());
        for n in 0..2000 {
            up.add(name(n), 1);
            down.add(name(1999 - n), 1);
        }
        let frozen = up.clone();
        for n in (0..2000).step_by(3) {
            up.add(name(n), -1);
            down.add(name(n), -1);
        }
        assert!(up == down);
        let whole = Counted::of((0..2000).filter(|n| n % 3 != 0).map(name).collect());
        assert!(up == whole && up != frozen);
        assert!(up.iter().map(|(record, _)| record).is_sorted());
        assert_eq!(up.iter().count(), 2000 - 667);
        assert_eq!(frozen.iter().count(), 2000, "an older version changed");
    }
}
