//! Wall-clock time as an argument, so that tests can move it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::Notify;

/// The longest that a wait relies on its timer: no event tells that the machine's clock was set.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The wall-clock time: the machine's, or one that a test sets.
///
/// Waits and idle limits use tokio's clock instead. This clock is for times that come from elsewhere,
/// such as a token's `exp` or a policy's schedule.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Manual>>);

#[derive(Debug)]
struct Manual {
    millis: AtomicI64,
    passed: Notify,
}

/// A length of time in whole seconds, such as `1d 1s`.
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [
        (seconds / 86_400, 'd'),
        (seconds / 3600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let told = units.iter().filter(|(count, _)| *count > 0);
    let told: Vec<_> = told.map(|(count, unit)| format!("{count}{unit}")).collect();
    if told.is_empty() {
        return "less than 1s".to_owned();
    }
    told.join(" ")
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `at` until it is set; clones share the time. Millisecond precision.
    pub fn manual(at: Timestamp) -> Self {
        Self(Some(Arc::new(Manual {
            millis: AtomicI64::new(at.as_millisecond()),
            passed: Notify::new(),
        })))
    }

    /// The time now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the machine's clock is read"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(manual) => Timestamp::from_millisecond(manual.millis.load(Ordering::Acquire))
                .unwrap_or(Timestamp::MAX),
        }
    }

    /// Completes at `at` or later. If the machine's clock is set meanwhile, that is noticed within a
    /// minute.
    pub async fn until(&self, at: Timestamp) {
        loop {
            // Created before the check, so that a change in between is not missed.
            let passed = self.0.as_ref().map(|manual| manual.passed.notified());
            let passed = async {
                match passed {
                    Some(passed) => passed.await,
                    None => std::future::pending().await,
                }
            };
            let Ok(left) = Duration::try_from(at.duration_since(self.now())) else {
                return;
            };
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = passed => {}
                () = tokio::time::sleep(left.min(LOOK_AGAIN)) => {}
            }
        }
    }

    /// Sets a manual clock to `at`, as a machine's clock is set: waits are not woken. Has no effect on
    /// the machine's.
    pub fn set(&self, at: Timestamp) {
        if let Some(manual) = &self.0 {
            manual.millis.store(at.as_millisecond(), Ordering::Release);
        }
    }

    /// Lets the time of a manual clock pass until `at`, and wakes waits for a time until then.
    pub fn pass(&self, at: Timestamp) {
        self.set(at);
        if let Some(manual) = &self.0 {
            manual.passed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use jiff::SignedDuration;

    use super::*;

    #[tokio::test]
    async fn who_waits_goes_on_when_time_has_passed_and_not_before() {
        let start = Timestamp::UNIX_EPOCH;
        let clock = Clock::manual(start);
        let at = start + SignedDuration::from_hours(1);
        let mut waiting = pin!(clock.until(at));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        clock.pass(at - SignedDuration::from_millis(1));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        clock.pass(at);
        waiting.await;
        clock.until(start).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_is_looked_at_again() {
        let start = Timestamp::UNIX_EPOCH;
        let clock = Clock::manual(start);
        let at = start + SignedDuration::from_hours(1);
        let began = tokio::time::Instant::now();
        let mut waiting = pin!(clock.until(at));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        clock.set(at);
        waiting.await;
        assert!(began.elapsed() <= LOOK_AGAIN);
    }
}
