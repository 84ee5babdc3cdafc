//! Limits renewals that are forced by an API's rejections.
//!
//! Any user of a credential can make its API reject something, and each renewal can affect other users:
//! a rotation invalidates the older of two valid tokens. So renewals are few, for all users together.
//! Checking whether another replica has renewed it affects no one, and a value that is dead is replaced
//! regardless of this limit.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many renewals there can be at once.
pub(super) const BURST: u32 = 4;

/// The interval after which there can be another.
pub(super) const EACH: Duration = Duration::from_mins(1);

/// Rejections of one value within this time count as one: they come from concurrent requests.
const ONE: Duration = Duration::from_secs(1);

/// The forced renewals of one credential.
#[derive(Debug, Default)]
pub(super) struct Forced(Mutex<Taken>);

/// What may be done about a rejected value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectionAction {
    /// Renew it, which is counted.
    Renew,
    /// Only use another replica's renewal.
    Look,
    /// Nothing: it was done a moment ago.
    Keep,
}

#[derive(Debug, Default)]
struct Taken {
    /// When all earlier renewals are forgotten.
    forgotten_at: Option<Instant>,
    /// The last one: its generation and time.
    last: Option<(u64, Instant)>,
    /// The last check for another replica's renewal: its generation and time.
    looked: Option<(u64, Instant)>,
}

impl Forced {
    /// What may be done now about the value of this generation.
    pub(super) fn take(&self, generation: u64) -> RejectionAction {
        let now = Instant::now();
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |(last, at): (u64, Instant)| {
            last == generation && now.saturating_duration_since(at) < ONE
        };
        if taken.last.is_some_and(same) {
            return RejectionAction::Renew;
        }
        let from = taken.forgotten_at.map_or(now, |at| at.max(now));
        if from > now + EACH * (BURST - 1) {
            if taken.looked.is_some_and(same) {
                return RejectionAction::Keep;
            }
            taken.looked = Some((generation, now));
            return RejectionAction::Look;
        }
        taken.forgotten_at = Some(from + EACH);
        taken.last = Some((generation, now));
        RejectionAction::Renew
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
                forced.take(generation) == RejectionAction::Renew
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
            assert_eq!(forced.take(1), RejectionAction::Renew);
        }
        for generation in 2..=u64::from(BURST) {
            assert_eq!(forced.take(generation), RejectionAction::Renew);
        }
        assert_eq!(forced.take(99), RejectionAction::Look);
        // An equal value, fetched again and again, also counts.
        let forced = Forced::default();
        for _ in 0..BURST {
            assert_eq!(forced.take(1), RejectionAction::Renew);
            tokio::time::advance(ONE).await;
        }
        assert_eq!(forced.take(1), RejectionAction::Look);
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_them_each_value_is_looked_after_once_a_second() {
        let forced = Forced::default();
        for generation in 0..u64::from(BURST) {
            assert_eq!(forced.take(generation), RejectionAction::Renew);
        }
        for generation in 10..20 {
            assert_eq!(forced.take(generation), RejectionAction::Look);
            for _ in 0..100 {
                assert_eq!(forced.take(generation), RejectionAction::Keep);
            }
        }
        tokio::time::advance(ONE).await;
        assert_eq!(forced.take(19), RejectionAction::Look);
    }
}
