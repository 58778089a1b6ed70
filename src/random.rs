//! Fast random bits for picks and rotations: one generator per thread, no lock, no system call.
//!
//! Not for secrets. Query ids and cookies take theirs from the operating system.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    // RandomState is the standard library's way to the system's randomness; 0 would stay 0.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u64) | 1);
}

/// Sixty-four fresh bits (xorshift64*).
#[must_use]
pub fn bits() -> u64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_differ_from_call_to_call_and_every_bit_changes() {
        let (mut any, mut all) = (0, u64::MAX);
        for _ in 0..200 {
            let bits = bits();
            any |= bits;
            all &= bits;
        }
        assert_eq!((any, all), (u64::MAX, 0));
    }
}
