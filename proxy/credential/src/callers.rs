//! The slots of one credential of which each caller has a value of its own: one for each token, and
//! so for each run. No caller is ever given another's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::slot::Slot;
use countersign_core::{bearer::Bearer, outage::Outage};

/// The most callers of one credential at a time.
const MOST: usize = 10_000;

/// How many are compared for one to give way, when there is no room.
const COMPARED: usize = 16;

/// By the hash of the caller's token. The lock is held for a move or two in memory, and never across
/// an await.
#[derive(Debug, Default)]
pub(super) struct Callers {
    slots: Mutex<HashMap<[u8; 32], Arc<Slot>>>,
    /// The outage of whoever issues their values.
    outage: Arc<Outage>,
}

impl Callers {
    /// The caller's slot, made by `new` if there is none. Where there is no room, one that was not
    /// used for long gives way.
    pub(super) fn slot(
        self: &Arc<Self>,
        caller: &impl Bearer,
        new: impl FnOnce(Home) -> Slot,
    ) -> Arc<Slot> {
        let mut slots = self.lock();
        if let Some(slot) = slots.get(caller.key()) {
            return Arc::clone(slot);
        }
        let given_way = if slots.len() < MOST {
            None
        } else {
            // The order of a hash map is as good as random.
            let oldest = slots.iter().take(COMPARED);
            let oldest = oldest.max_by_key(|(_, slot)| slot.unused_for());
            let key = oldest.map(|(key, _)| *key);
            key.and_then(|key| slots.remove(&key))
        };
        let home = Home {
            callers: Arc::downgrade(self),
            key: *caller.key(),
            outage: Arc::clone(&self.outage),
        };
        let slot = Arc::new(new(home));
        slots.insert(*caller.key(), Arc::clone(&slot));
        drop(slots);
        if let Some(slot) = given_way {
            slot.end();
        }
        slot
    }

    pub(super) fn all(&self) -> Vec<Arc<Slot>> {
        self.lock().values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Slot>>> {
        // Whole after each statement, so a panic elsewhere spoils nothing.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a caller's slot is kept.
#[derive(Debug)]
pub(super) struct Home {
    callers: Weak<Callers>,
    key: [u8; 32],
    outage: Arc<Outage>,
}

impl Home {
    /// The outage that all callers of one credential have in common.
    pub(super) fn outage(&self) -> Arc<Outage> {
        Arc::clone(&self.outage)
    }

    /// Takes the slot out, if it is still there.
    pub(super) fn leave(&self, slot: &Slot) {
        let Some(callers) = self.callers.upgrade() else {
            return;
        };
        let mut slots = callers.lock();
        let found = slots.get(&self.key);
        if found.is_some_and(|found| std::ptr::eq(&raw const **found, slot)) {
            let left = slots.remove(&self.key);
            drop(slots);
            drop(left);
        }
    }
}
