//! The last result of a schedule and how long it stays valid, in one atomic word: decisions may need it
//! thousands of times a second, and it changes twice a day.

use std::sync::atomic::{AtomicU64, Ordering};

/// A span of time over which a schedule's result is the same, in seconds since 1970, `until` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub open: bool,
    pub from: i64,
    pub until: i64,
}

/// At most one remembered [`Span`]: the start in the upper 34 bits (to the year 2514), the length in 29
/// (17 years), the result in the lowest. Length 0 means that nothing is remembered.
#[derive(Debug, Default)]
pub(super) struct Memo(AtomicU64);

const FROM_BITS: u32 = 34;
const LENGTH_BITS: u32 = 29;
const MAX_FROM: u64 = (1 << FROM_BITS) - 1;
const MAX_LENGTH: u64 = (1 << LENGTH_BITS) - 1;

impl Memo {
    pub(super) fn recall(&self, second: i64) -> Option<bool> {
        // One word holds all of it, so no ordering with other memory matters.
        let word = self.0.load(Ordering::Relaxed);
        let from = word >> (LENGTH_BITS + 1);
        let length = word >> 1 & MAX_LENGTH;
        let second = u64::try_from(second).ok()?;
        (from..from + length)
            .contains(&second)
            .then_some(word & 1 == 1)
    }

    /// Replaces the remembered span; one that does not fit is shortened or not kept.
    pub(super) fn keep(&self, span: Span) {
        let (Ok(from), Ok(until)) = (u64::try_from(span.from), u64::try_from(span.until)) else {
            return;
        };
        if from > MAX_FROM || until <= from {
            return;
        }
        let length = (until - from).min(MAX_LENGTH);
        let word = from << (LENGTH_BITS + 1) | length << 1 | u64::from(span.open);
        self.0.store(word, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_one_span_to_its_edges() {
        let memo = Memo::default();
        assert_eq!(memo.recall(0), None);
        memo.keep(Span {
            open: true,
            from: 100,
            until: 200,
        });
        assert_eq!(memo.recall(99), None);
        assert_eq!(memo.recall(100), Some(true));
        assert_eq!(memo.recall(199), Some(true));
        assert_eq!(memo.recall(200), None);
        memo.keep(Span {
            open: false,
            from: 200,
            until: 1 << 33,
        });
        assert_eq!(memo.recall(150), None);
        assert_eq!(memo.recall(200), Some(false));
        // Shortened to the longest span, which is still correct.
        assert_eq!(memo.recall(1 << 30), None);
    }

    #[test]
    fn forgets_what_does_not_fit() {
        let memo = Memo::default();
        for (from, until) in [(-5, 5), (5, 5), (1 << 34, 1 << 35)] {
            memo.keep(Span {
                open: true,
                from,
                until,
            });
            assert_eq!(memo.recall(from), None);
        }
    }
}
