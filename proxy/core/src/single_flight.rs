//! Single flight: concurrent callers share one piece of work.
//!
//! The work runs in a task of its own. A caller that leaves neither cancels it nor makes another caller
//! start again. This matters if the work spends something that exists only once, such as a single-use
//! refresh token.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{task::AbortHandle, time::Instant};

/// The work ended without a result: it panicked, or the runtime is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the work was interrupted before it had a result")]
pub struct Cancelled;

/// The shared result of one piece of work.
pub type SharedOutcome<T> = Shared<BoxFuture<'static, Result<T, Cancelled>>>;

/// At most one piece of work at a time.
///
/// The work itself should check whether there is still something to do: between the caller's check and
/// [`SingleFlight::join`], earlier work may have completed.
#[derive(Debug)]
pub struct SingleFlight<T>(Mutex<Option<Running<T>>>);

#[derive(Debug)]
struct Running<T> {
    task: AbortHandle,
    outcome: SharedOutcome<T>,
}

impl<T: Clone + Send + Sync + 'static> Default for SingleFlight<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// No work in progress.
    pub fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Joins the work in progress, or starts it. The lock is held only to start a task, never across an
    /// await.
    pub fn join<F>(&self, start: impl FnOnce() -> F) -> SharedOutcome<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.as_ref().filter(|running| running.is_under_way()) {
            return running.outcome.clone();
        }
        let handle = tokio::spawn(start());
        let task = handle.abort_handle();
        let outcome = handle.map(|joined| joined.map_err(|_| Cancelled)).boxed();
        let outcome = outcome.shared();
        *running = Some(Running {
            task,
            outcome: outcome.clone(),
        });
        outcome
    }

    /// Drops the result of finished work, which would otherwise be kept until the next work starts.
    pub fn forget_finished(&self) {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let finished = running.take_if(|running| !running.is_under_way());
        drop(running);
        drop(finished);
    }

    /// The work in progress, if any.
    pub fn under_way(&self) -> Option<SharedOutcome<T>> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .as_ref()
            .filter(|running| running.is_under_way())
            .map(|running| running.outcome.clone())
    }
}

impl<T> Running<T> {
    fn is_under_way(&self) -> bool {
        !self.task.is_finished()
    }
}

/// When something last happened, by tokio's clock; lock-free.
#[derive(Debug)]
pub struct LastTime {
    origin: Instant,
    /// Milliseconds since `origin`, plus one; 0 means never.
    millis: AtomicU64,
}

impl LastTime {
    /// It has never happened.
    pub fn never() -> Self {
        Self {
            origin: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    /// Sets it to now.
    pub fn mark(&self) {
        self.millis.store(self.now() + 1, Ordering::Release);
    }

    /// Sets it to never.
    pub fn clear(&self) {
        self.millis.store(0, Ordering::Release);
    }

    /// How long ago it happened; `None` if it never did. Millisecond precision.
    pub fn age(&self) -> Option<Duration> {
        let marked = self.millis.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_millis(self.now().saturating_sub(marked)))
    }

    /// Whether it happened less than `limit` ago.
    pub fn within(&self, limit: Duration) -> bool {
        self.age().is_some_and(|age| age < limit)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_cancel_the_work() {
        let flight = SingleFlight::new();
        let gate = Arc::new(Semaphore::new(0));
        let starts = Arc::new(AtomicUsize::new(0));
        let work = || {
            let (gate, starts) = (Arc::clone(&gate), Arc::clone(&starts));
            async move {
                starts.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.expect("open").forget();
                7
            }
        };
        let leaver = flight.join(work);
        let stayer = flight.join(work);
        drop(leaver);
        gate.add_permits(1);
        assert_eq!(stayer.await, Ok(7));
        assert_eq!(starts.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn finished_work_is_not_joined_even_if_nobody_waited_for_it() {
        let flight = SingleFlight::new();
        let (done, finished) = tokio::sync::oneshot::channel();
        drop(flight.join(|| async move {
            done.send(()).expect("the test waits");
            1
        }));
        finished.await.expect("sent");
        while flight.under_way().is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(flight.join(|| async { 2 }).await, Ok(2));
    }

    #[tokio::test]
    async fn work_that_panics_is_lost_and_can_be_started_again() {
        let flight: SingleFlight<u8> = SingleFlight::new();
        let lost = flight.join(|| async { panic!("as the test wants") }).await;
        assert_eq!(lost, Err(Cancelled));
        assert_eq!(flight.join(|| async { 3 }).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn last_time_counts_from_its_mark() {
        let last = LastTime::never();
        assert_eq!(last.age(), None);
        assert!(!last.within(Duration::MAX));
        last.mark();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(last.age(), Some(Duration::from_secs(1)));
        assert!(!last.within(Duration::from_secs(1)));
        assert!(last.within(Duration::from_millis(1001)));
        last.clear();
        assert_eq!(last.age(), None);
    }
}
