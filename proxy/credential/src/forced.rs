//! How often a value may be renewed because an API rejected it.
//!
//! Whoever uses a credential can have its API reject something, and each renewal may cost what others
//! use: a rotation ends the oldest of two living tokens. So there are few of them, for all who
//! use the credential and whatever they bring. To look whether another replica has renewed it costs
//! nobody anything, and what died because one did is never kept for that bound.

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

/// What may be done about a value that was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// It may be renewed, which is counted.
    Renew,
    /// Another's renewal may be taken over.
    Look,
    /// Nothing: there was none a moment ago.
    Keep,
}

#[derive(Debug, Default)]
struct Taken {
    /// When all that there were are forgotten.
    forgotten_at: Option<Instant>,
    /// The last one: of which generation, and when.
    last: Option<(u64, Instant)>,
    /// When it was last looked whether another had renewed which generation.
    looked: Option<(u64, Instant)>,
}

impl Forced {
    /// What may be done now about the value of this generation.
    pub(super) fn take(&self, generation: u64) -> Leave {
        let now = Instant::now();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(last, at): (u64, Instant)| {
            last == generation && now.saturating_duration_since(at) < ONE
        };
        if taken.last.is_some_and(same) {
            return Leave::Renew;
        }
        let from = taken.forgotten_at.map_or(now, |at| at.max(now));
        if from > now + EACH * (BURST - 1) {
            if taken.looked.is_some_and(same) {
                return Leave::Keep;
            }
            taken.looked = Some((generation, now));
            return Leave::Look;
        }
        taken.forgotten_at = Some(from + EACH);
        taken.last = Some((generation, now));
        Leave::Renew
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
                forced.take(generation) == Leave::Renew
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
            assert_eq!(forced.take(1), Leave::Renew);
        }
        for generation in 2..=u64::from(BURST) {
            assert_eq!(forced.take(generation), Leave::Renew);
        }
        assert_eq!(forced.take(99), Leave::Look);
        // An equal value, found again and again, counts as well.
        let forced = Forced::default();
        for _ in 0..BURST {
            assert_eq!(forced.take(1), Leave::Renew);
            tokio::time::advance(ONE).await;
        }
        assert_eq!(forced.take(1), Leave::Look);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_them_each_value_is_looked_after_once_a_second() {
        let forced = Forced::default();
        for generation in 0..u64::from(BURST) {
            assert_eq!(forced.take(generation), Leave::Renew);
        }
        for generation in 10..20 {
            assert_eq!(forced.take(generation), Leave::Look);
            for _ in 0..100 {
                assert_eq!(forced.take(generation), Leave::Keep);
            }
        }
        tokio::time::advance(ONE).await;
        assert_eq!(forced.take(19), Leave::Look);
    }
}
