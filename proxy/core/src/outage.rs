//! An outage of something that requests wait for: it is logged when it begins, at intervals while it
//! lasts, and when it ends. If something hangs, only the first request waits long for it.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

/// Something that takes longer than this to fail hangs. Requests then wait no longer than this until it
/// has responded once.
pub const PROMPT: Duration = Duration::from_secs(1);

/// The interval of log lines during an outage.
pub(crate) const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The current outage, if any. The lock is held only briefly.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<OngoingOutage>>);

#[derive(Debug, Clone, Copy)]
struct OngoingOutage {
    since: Instant,
    told: Instant,
    hangs: bool,
}

impl Outage {
    /// Records that an attempt which began at this time failed; returns whether to log it.
    pub fn failed(&self, began: Instant) -> bool {
        let (now, hangs) = (Instant::now(), began.elapsed() >= PROMPT);
        let mut lasting = self.lock();
        let Some(lasting) = lasting.as_mut() else {
            let (since, told) = (began, now);
            *lasting = Some(OngoingOutage { since, told, hangs });
            return true;
        };
        lasting.hangs = hangs;
        let is_due = now - lasting.told >= LOG_INTERVAL;
        if is_due {
            lasting.told = now;
        }
        is_due
    }

    /// Records a response; returns how long the outage lasted, if there was one.
    pub fn over(&self) -> Option<Duration> {
        let ended = self.lock().take();
        ended.map(|lasting| lasting.since.elapsed())
    }

    /// Whether the last attempt hung.
    pub fn hangs(&self) -> bool {
        self.lock().is_some_and(|lasting| lasting.hangs)
    }

    /// Waits for a response; `None` if the source hangs and does not respond at once. The caller must
    /// let the work continue, so that its recovery is noticed.
    pub async fn patiently<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        if self.hangs() {
            return timeout(PROMPT, answer).await.ok();
        }
        Some(answer.await)
    }

    fn lock(&self) -> MutexGuard<'_, Option<OngoingOutage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_at_its_begin_every_half_minute_and_at_its_end() {
        let outage = Outage::default();
        assert_eq!(outage.over(), None);
        let mut told = 0;
        for _ in 0..91 {
            told += usize::from(outage.failed(Instant::now()));
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, 4, "at 0, 30, 60 and 90 s");
        assert_eq!(outage.over(), Some(Duration::from_secs(91)));
        assert!(outage.failed(Instant::now()), "another one");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_is_waited_for_once() {
        let outage = Outage::default();
        let wait = async |time| {
            let began = Instant::now();
            let answered = outage.patiently(tokio::time::sleep(time)).await;
            (answered.is_some(), began.elapsed())
        };
        let five = Duration::from_secs(5);
        assert_eq!(wait(five).await, (true, five));
        let began = Instant::now();
        // It refuses at once: it does not hang.
        outage.failed(began);
        assert_eq!(wait(five).await, (true, five));
        outage.failed(began);
        assert_eq!(outage.patiently(pending::<()>()).await, None);
        assert_eq!(wait(five).await, (false, PROMPT));
        assert_eq!(outage.patiently(ready(7)).await, Some(7));
        outage.over();
        assert_eq!(wait(five).await, (true, five));
    }
}
