//! Defaults of keys that several kinds of registries have.

use crate::units::{Period, Size};

pub(super) const fn yes() -> bool {
    true
}

pub(super) const fn two_seconds() -> Period {
    Period::from_secs(2)
}

pub(super) const fn ten_seconds() -> Period {
    Period::from_secs(10)
}

pub(super) const fn sixteen_mebibytes() -> Size {
    Size(16 << 20)
}

pub(super) const fn sixty_four_mebibytes() -> Size {
    Size(64 << 20)
}

pub(super) const fn one_hundred_thousand() -> usize {
    100_000
}

pub(super) const fn two_hundred_thousand() -> usize {
    200_000
}
