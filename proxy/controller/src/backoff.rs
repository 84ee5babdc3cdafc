//! How long a watch waits before it asks again.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// The first attempt after a time without failures: a list that is read again, a server that was replaced.
const SOON: Duration = Duration::from_millis(500);

/// Every further one, to twice that.
const PATIENCE: Duration = Duration::from_secs(10);

/// Without a failure for so long, the next one counts as the first.
const QUIET: Duration = Duration::from_mins(1);

/// Half a second to a second for the first failure, ten to twenty for those that follow within a minute.
///
/// kube's own backoff begins anew whenever a watch says anything, and it says that it begins at each attempt: an API
/// server that is away got several requests a second for each watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calm {
    failed: Option<Instant>,
}

impl Iterator for Calm {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let again = self
            .failed
            .is_some_and(|failed| now.duration_since(failed) < QUIET);
        self.failed = Some(now);
        Some(jittered(if again { PATIENCE } else { SOON }))
    }
}

impl Backoff for Calm {
    fn reset(&mut self) {}
}

/// Once to twice this time, so that gateways that failed together do not come back together.
pub(crate) fn jittered(time: Duration) -> Duration {
    // Each has keys of its own.
    let random = RandomState::new().hash_one(()) % 1_000;
    let part = u32::try_from(random).unwrap_or_default();
    time + time * part / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events between two failures do not count.
    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_asked_every_ten_to_twenty_seconds() {
        let mut backoff = Calm::default();
        let mut waited = Duration::ZERO;
        let mut asked = 0;
        while waited < Duration::from_hours(1) {
            let wait = backoff.next().unwrap();
            if asked == 0 {
                assert!((SOON..=2 * SOON).contains(&wait), "{wait:?}");
            } else {
                assert!((PATIENCE..=2 * PATIENCE).contains(&wait), "{wait:?}");
            }
            backoff.reset();
            tokio::time::advance(wait).await;
            waited += wait;
            asked += 1;
        }
        assert!((180..=362).contains(&asked), "{asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_minute_the_next_attempt_is_soon() {
        let mut backoff = Calm::default();
        backoff.next();
        assert!(backoff.next().unwrap() >= PATIENCE);
        tokio::time::advance(QUIET).await;
        assert!(backoff.next().unwrap() <= 2 * SOON);
    }
}
