//! Maintenance of a slot's value: renews it in the background before it expires if it was used, and
//! releases it when it expires, when it is idle, and when its caller's run is over.

use std::{
    future::pending,
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::{
    Issued,
    slot::{FetchTrigger, Slot},
};

/// The shortest wait after a renewal that failed.
const RENEWAL_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// When maintenance is due next.
struct Due {
    /// By tokio's clock.
    idle: Instant,
    /// By the wall clock.
    moment: Option<Timestamp>,
}

impl Slot {
    /// Makes sure that a maintenance task runs for the slot and notices the new value.
    pub(super) fn start_maintenance(self: &Arc<Self>) {
        self.changed.notify_one();
        if !self.maintained.swap(true, Ordering::SeqCst) {
            tokio::spawn(maintain_while_alive(Arc::downgrade(self)));
        }
    }

    /// Does what is due; `None` if there is nothing left to maintain.
    fn maintain(self: &Arc<Self>) -> Option<Due> {
        let now = self.clock.now();
        let idle_after = self.credential.idle_after;
        let unused = self.unused_for();
        let due = |moment| Due {
            idle: Instant::now() + idle_after.saturating_sub(unused),
            moment,
        };
        let held = self.held.load_full();
        let usable = held
            .as_ref()
            .filter(|held| !held.is_over(now) && unused < idle_after);
        let Some(held) = usable else {
            // Only the value that was checked: it may have been replaced.
            self.held.compare_and_swap(&held, None);
            self.flight.forget_finished();
            if unused < idle_after && self.handle.is_some() {
                return Some(due(None));
            }
            self.leave();
            return None;
        };
        let renewal = match held.renew_ahead_at {
            Some(at) if at > now => Some(at),
            Some(_) if self.used_since_obtained() => {
                self.renew();
                Some(next_attempt(held, now))
            }
            // If a request still comes, it handles that itself.
            Some(_) | None => None,
        };
        Some(due(renewal.into_iter().chain(held.expires_at).min()))
    }

    /// Fetches the next value in the background, unless that failed a moment ago.
    fn renew(self: &Arc<Self>) {
        if self.failing().is_none() {
            drop(self.start(FetchTrigger::Ahead));
        }
    }

    /// Releases the value, and removes the slot from those of the other callers.
    pub(super) fn end(&self) {
        self.held.store(None);
        self.flight.forget_finished();
        self.leave();
    }

    fn leave(&self) {
        if let Some(handle) = &self.handle {
            handle.leave(self);
        }
    }
}

/// Maintains a slot until nothing is left to maintain. Does not keep it alive.
async fn maintain_while_alive(slot: Weak<Slot>) {
    let Some((caller, clock, changed)) = slot.upgrade().map(|slot| {
        (
            slot.caller.clone(),
            slot.clock.clone(),
            Arc::clone(&slot.changed),
        )
    }) else {
        return;
    };
    let mut over = pin!(async {
        match &caller {
            Some(caller) => caller.over(&clock).await,
            None => pending().await,
        }
    });
    loop {
        let due = {
            let Some(slot) = slot.upgrade() else { return };
            match slot.maintain() {
                Some(due) => due,
                // A new value that came in the meantime relies on this task.
                None if slot.stays_maintained() => continue,
                None => return,
            }
        };
        let moment = async {
            match due.moment {
                Some(at) => clock.until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = changed.notified() => {}
            () = sleep_until(due.idle) => {}
            () = moment => {}
            () = &mut over => {
                if let Some(slot) = slot.upgrade() {
                    slot.end();
                }
                return;
            }
        }
    }
}

/// When a renewal that starts now is retried if it fails: often enough to succeed before expiry, without
/// overloading the source.
fn next_attempt(held: &Issued, now: Timestamp) -> Timestamp {
    let left = held.expires_at.map(|end| end.duration_since(now));
    let pause = left.unwrap_or_default() / 4;
    now.checked_add(pause.max(RENEWAL_PAUSE))
        .unwrap_or(Timestamp::MAX)
}
