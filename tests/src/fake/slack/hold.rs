//! Holding a refresh at a moment that a test chooses.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// When a call is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It was received, and nothing was done.
    BeforeActing,
    /// It was done, and nothing was answered.
    AfterActing,
}

/// A call that is held, or will be.
#[derive(Debug, Clone)]
pub struct Hold {
    at: Moment,
    gates: Arc<Gates>,
}

#[derive(Debug)]
struct Gates {
    reached: Semaphore,
    released: Semaphore,
}

impl Hold {
    /// Waits until the call is there.
    pub async fn reached(&self) {
        spend(&self.gates.reached).await;
    }

    /// Lets the call go on.
    pub fn release(&self) {
        self.gates.released.add_permits(1);
    }
}

/// The calls that are to be held.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Option<Hold>>);

/// What becomes of one call.
pub(super) struct Taken(Option<Hold>);

impl Holds {
    pub(super) fn next(&self, at: Moment) -> Hold {
        let hold = Hold {
            at,
            gates: Arc::new(Gates {
                reached: Semaphore::new(0),
                released: Semaphore::new(0),
            }),
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(hold.clone());
        hold
    }

    pub(super) fn take(&self) -> Taken {
        Taken(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

impl Taken {
    pub(super) async fn reach(&self, moment: Moment) {
        if let Some(hold) = self.0.as_ref().filter(|hold| hold.at == moment) {
            hold.gates.reached.add_permits(1);
            spend(&hold.gates.released).await;
        }
    }
}

/// Waits for a permit and uses it up.
async fn spend(gate: &Semaphore) {
    // The gate is never closed.
    if let Ok(permit) = gate.acquire().await {
        permit.forget();
    }
}
