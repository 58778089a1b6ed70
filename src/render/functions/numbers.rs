//! Numbers one after another, made as they are asked for.

use super::super::engine::go::types::{IntKind, Type};
use super::super::engine::go::value::{Items, Sequence, Step, Value};

/// The channel of `loop`: `int64` from `start` up to and without `stop`.
pub(super) struct Numbers {
    pub(super) start: i64,
    pub(super) stop: i64,
}

impl Sequence for Numbers {
    fn type_of(&self) -> Type {
        Type::Chan("<-chan int64")
    }

    fn steps(&self) -> Box<dyn Iterator<Item = Step> + '_> {
        Box::new((self.start..self.stop).map(|n| Step::One(Value::Int(n, IntKind::I64))))
    }
}

/// A list of `int` with a constant distance.
pub(super) struct Row {
    pub(super) start: i64,
    pub(super) step: i64,
    pub(super) count: usize,
}

impl Items for Row {
    fn len(&self) -> usize {
        self.count
    }

    fn at(&self, index: usize) -> Value {
        Value::int(self.start.wrapping_add(self.step.wrapping_mul(index as i64)))
    }
}

/// Most numbers of a [`Row`].
pub(super) const ROW_MAX: i64 = 10_000_000;

/// The numbers from `first` to `last`, both among them, upwards or downwards.
pub(super) fn row(first: i64, last: i64) -> Option<Row> {
    let step = if last < first { -1 } else { 1 };
    let count = last.checked_sub(first)?.checked_abs()?.checked_add(1)?;
    (count <= ROW_MAX).then_some(Row { start: first, step, count: count as usize })
}
