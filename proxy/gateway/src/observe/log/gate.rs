//! Whether requests may be forwarded although their records may not be written soon.
//!
//! Without a sink that asks for it there is no gate. With one, a request costs one load of an atomic while there is
//! room. No thread waits: a request that must wait does so as everything asynchronous does, and for a bounded time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use countersign_config::model::WhenFull;
use tokio::sync::Notify;

/// How long a request waits for room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Closed while a sink that must not lose records is full.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Full sinks for which requests wait.
    waits: AtomicUsize,
    /// Full sinks for which requests are refused.
    refuses: AtomicUsize,
    /// The sink that filled up last.
    last: Mutex<Option<Arc<str>>>,
    opened: Notify,
}

/// The record of a request could not be written, so it is not forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sink {sink} of decision records is full and its whenFull is {when_full}, so the request was not forwarded"
)]
pub struct RecordsFull {
    sink: Arc<str>,
    when_full: &'static str,
}

impl Gate {
    /// Whether a request may be forwarded at once.
    pub(super) fn is_open(&self) -> bool {
        self.refuses.load(Ordering::Acquire) == 0 && self.waits.load(Ordering::Acquire) == 0
    }

    /// Waits until a request may be forwarded.
    ///
    /// # Errors
    /// When it may not in time, or a full sink refuses at once.
    pub(super) async fn pass(&self) -> Result<(), RecordsFull> {
        let opened = async {
            loop {
                let opened = self.opened.notified();
                if self.refuses.load(Ordering::Acquire) > 0 {
                    return Err(self.full(WhenFull::Refuse));
                }
                if self.waits.load(Ordering::Acquire) == 0 {
                    return Ok(());
                }
                opened.await;
            }
        };
        match tokio::time::timeout(PATIENCE, opened).await {
            Ok(passed) => passed,
            Err(_) => Err(self.full(WhenFull::Wait)),
        }
    }

    /// A sink is full, or is so no longer.
    pub(super) fn set(&self, when_full: WhenFull, sink: &Arc<str>, full: bool) {
        let sinks = match when_full {
            WhenFull::Drop => return,
            WhenFull::Wait => &self.waits,
            WhenFull::Refuse => &self.refuses,
        };
        if full {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(sink));
            sinks.fetch_add(1, Ordering::AcqRel);
        } else {
            sinks.fetch_sub(1, Ordering::AcqRel);
        }
        // One that waits may have to be refused now.
        self.opened.notify_waiters();
    }

    fn full(&self, when_full: WhenFull) -> RecordsFull {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        RecordsFull {
            sink: last.clone().unwrap_or_else(|| "unknown".into()),
            when_full: when_full.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_wait_for_room_for_a_while_and_are_refused_where_that_is_asked() {
        let gate = Gate::default();
        let sink: Arc<str> = "stdout".into();
        assert!(gate.is_open());
        gate.pass().await.unwrap();
        gate.set(WhenFull::Wait, &sink, true);
        assert!(!gate.is_open());
        let (passed, ()) = tokio::join!(gate.pass(), async {
            gate.set(WhenFull::Wait, &sink, false);
        });
        passed.unwrap();
        gate.set(WhenFull::Wait, &sink, true);
        let began = tokio::time::Instant::now();
        let late = gate.pass().await.unwrap_err();
        assert_eq!(began.elapsed(), PATIENCE);
        assert!(late.to_string().contains("stdout"), "{late}");
        // Another one refuses: whoever waits does not wait on.
        let (refused, ()) = tokio::join!(gate.pass(), async {
            gate.set(WhenFull::Refuse, &sink, true);
        });
        assert!(refused.unwrap_err().to_string().contains("refuse"));
        gate.set(WhenFull::Refuse, &sink, false);
        gate.set(WhenFull::Wait, &sink, false);
        gate.pass().await.unwrap();
    }
}
