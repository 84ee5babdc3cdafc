//! Wall-clock time as an argument, so that tests can move it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use jiff::Timestamp;

/// Tells the wall-clock time: the machine's, or one that a test sets.
///
/// Waits and idle limits use tokio's clock instead; this one is for moments that others wrote
/// down, such as a token's `exp` or a policy's schedule.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `at` until it is moved; clones move together. Millisecond
    /// precision.
    pub fn manual(at: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(at.as_millisecond()))))
    }

    /// The time now.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place where the machine's clock is read"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(millis) => Timestamp::from_millisecond(millis.load(Ordering::Acquire))
                .unwrap_or(Timestamp::MAX),
        }
    }

    /// Moves a manual clock to `at`; does nothing to the machine's.
    pub fn set(&self, at: Timestamp) {
        if let Some(millis) = &self.0 {
            millis.store(at.as_millisecond(), Ordering::Release);
        }
    }
}
