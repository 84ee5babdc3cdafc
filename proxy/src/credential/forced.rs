//! How often a value may be renewed because an API rejected it.
//!
//! Whoever uses a credential can have its API reject something, and each renewal may cost what others
//! use: a rotation ends the oldest of two living tokens. So there are few of them, for all who
//! use the credential and whatever they bring.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many there may be at once.
pub(super) const BURST: u32 = 4;

/// How long it takes until there may be another.
pub(super) const EACH: Duration = Duration::from_mins(1);

/// Rejections of one value within this time are one: requests that were under way with it meet the same.
const ONE: Duration = Duration::from_secs(1);

/// The renewals of one credential that were forced.
#[derive(Debug, Default)]
pub(super) struct Forced(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// When all that there were are forgotten.
    forgotten_at: Option<Instant>,
    /// The last one: of which generation, and when.
    last: Option<(u64, Instant)>,
}

impl Forced {
    /// Whether the value of this generation may be renewed now; then that is counted.
    pub(super) fn take(&self, generation: u64) -> bool {
        let now = Instant::now();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(last, at): (u64, Instant)| {
            last == generation && now.saturating_duration_since(at) < ONE
        };
        if taken.last.is_some_and(same) {
            return true;
        }
        let from = taken.forgotten_at.map_or(now, |at| at.max(now));
        if from > now + EACH * (BURST - 1) {
            return false;
        }
        taken.forgotten_at = Some(from + EACH);
        taken.last = Some((generation, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn renewals_are_few_however_many_are_asked_for() {
        let forced = Forced::default();
        let mut generation = 0;
        let mut asked = |times: usize| {
            let asked = (0..times).filter(|_| {
                generation += 1;
                forced.take(generation)
            });
            asked.count()
        };
        assert_eq!(asked(1_000), BURST as usize);
        tokio::time::advance(EACH.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(asked(1_000), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(asked(1_000), 1);
        tokio::time::advance(EACH * 60).await;
        assert_eq!(asked(1_000), BURST as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_were_under_way_together_force_one_renewal() {
        let forced = Forced::default();
        for _ in 0..100 {
            assert!(forced.take(1));
        }
        for generation in 2..=u64::from(BURST) {
            assert!(forced.take(generation));
        }
        assert!(!forced.take(99));
        // An equal value, found again and again, counts as well.
        let forced = Forced::default();
        for _ in 0..BURST {
            assert!(forced.take(1));
            tokio::time::advance(ONE).await;
        }
        assert!(!forced.take(1));
    }
}
