//! An outage of something that requests wait for: told when it begins, now and then while it lasts, and
//! when it is over. Of one who does not answer at all, nobody but the first waits for long.

use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

/// Whoever takes longer than this to fail hangs, and is waited for no longer than this until it has
/// answered once.
pub const PROMPT: Duration = Duration::from_secs(1);

/// While an outage lasts the log says so once in this time.
pub(crate) const TELL_AGAIN: Duration = Duration::from_secs(30);

/// Whether there is an outage. The lock is held for a few moves in memory.
#[derive(Debug, Default)]
pub struct Outage(Mutex<Option<Lasting>>);

#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: Instant,
    told: Instant,
    hangs: bool,
}

impl Outage {
    /// Notes that an attempt that began then has failed; whether that is to be told.
    pub fn failed(&self, began: Instant) -> bool {
        let (now, hangs) = (Instant::now(), began.elapsed() >= PROMPT);
        let mut lasting = self.lock();
        let Some(lasting) = lasting.as_mut() else {
            let (since, told) = (began, now);
            *lasting = Some(Lasting { since, told, hangs });
            return true;
        };
        lasting.hangs = hangs;
        let is_due = now - lasting.told >= TELL_AGAIN;
        if is_due {
            lasting.told = now;
        }
        is_due
    }

    /// Notes an answer; for how long there was none, if there was an outage.
    pub fn over(&self) -> Option<Duration> {
        let ended = self.lock().take();
        ended.map(|lasting| lasting.since.elapsed())
    }

    /// Whether it gave no answer when it was asked last.
    pub fn hangs(&self) -> bool {
        self.lock().is_some_and(|lasting| lasting.hangs)
    }

    /// Waits for an answer; `None` if it hangs and does not give one at once. It is for the caller to
    /// see that work goes on, so that it is noticed when the answers are back.
    pub async fn patiently<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        if self.hangs() {
            return timeout(PROMPT, answer).await.ok();
        }
        Some(answer.await)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Lasting>> {
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
        // It refuses at once: that is no hanging.
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
