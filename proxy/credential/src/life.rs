//! Looking after what a slot holds: renewed ahead of its end in the background if it was used, let
//! go at its end, when it is idle, and when the run that it was made for is over.

use std::{
    future::pending,
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::{
    Issued,
    slot::{Slot, Why},
};

/// The shortest wait after a renewal that failed.
const RENEWAL_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// When to look again.
struct Due {
    /// By tokio's clock.
    idle: Instant,
    /// By the wall clock.
    moment: Option<Timestamp>,
}

impl Slot {
    /// Sees to it that somebody looks after the slot, and that what is new is seen.
    pub(super) fn look_after(self: &Arc<Self>) {
        self.changed.notify_one();
        if !self.tended.swap(true, Ordering::SeqCst) {
            tokio::spawn(tend_on(Arc::downgrade(self)));
        }
    }

    /// Does what is due; `None` when there is nothing left to look after.
    fn tend(self: &Arc<Self>) -> Option<Due> {
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
            // Only what was looked at: another value may have come.
            self.held.compare_and_swap(&held, None);
            self.flight.forget_finished();
            if unused < idle_after && self.home.is_some() {
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
            // Should a request come yet, it sees to that itself.
            Some(_) | None => None,
        };
        Some(due(renewal.into_iter().chain(held.expires_at).min()))
    }

    /// Fetches the next value beside the one that is held, unless that failed a moment ago.
    fn renew(self: &Arc<Self>) {
        if self.failing().is_none() {
            drop(self.start(Why::Ahead));
        }
    }

    /// Lets go what is held, whatever it is, and leaves the other callers' slots.
    pub(super) fn end(&self) {
        self.held.store(None);
        self.flight.forget_finished();
        self.leave();
    }

    fn leave(&self) {
        if let Some(home) = &self.home {
            home.leave(self);
        }
    }
}

/// Looks after a slot until nothing is left to look after. Does not keep it.
async fn tend_on(slot: Weak<Slot>) {
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
            match slot.tend() {
                Some(due) => due,
                // A value that came in the meantime found that somebody looks after it.
                None if slot.stays_tended() => continue,
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

/// When a renewal that is started now is tried again, should it fail: often enough to come through
/// before the end, without hammering.
fn next_attempt(held: &Issued, now: Timestamp) -> Timestamp {
    let left = held.expires_at.map(|end| end.duration_since(now));
    let pause = left.unwrap_or_default() / 4;
    now.checked_add(pause.max(RENEWAL_PAUSE))
        .unwrap_or(Timestamp::MAX)
}
