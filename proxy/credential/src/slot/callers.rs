//! The slots of one credential with a value for each caller: one slot for each token, and so for each
//! run. No caller ever gets another's value.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use countersign_core::{bearer::Bearer, outage::Outage};

use super::Slot;

/// The most concurrent callers of one credential.
const MOST: usize = 10_000;

/// How many slots are compared to find one to evict.
const COMPARED: usize = 16;

/// By the hash of the caller's token. The lock is held only briefly, and never across an await.
#[derive(Debug, Default)]
pub(crate) struct Callers {
    slots: Mutex<HashMap<[u8; 32], Arc<Slot>>>,
    /// The outage of the issuer of their values.
    outage: Arc<Outage>,
}

impl Callers {
    /// The caller's slot; `new` makes it if there is none. If there is no room, a slot that was not used
    /// for long is evicted.
    pub(crate) fn slot(
        self: &Arc<Self>,
        caller: &impl Bearer,
        new: impl FnOnce(SlotHandle) -> Slot,
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
        let handle = SlotHandle {
            callers: Arc::downgrade(self),
            key: *caller.key(),
            outage: Arc::clone(&self.outage),
        };
        let slot = Arc::new(new(handle));
        slots.insert(*caller.key(), Arc::clone(&slot));
        drop(slots);
        if let Some(slot) = given_way {
            slot.end();
        }
        slot
    }

    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.lock().values().map(Arc::clone).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Arc<Slot>>> {
        // Consistent after each statement, so a panic elsewhere does no harm.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller's slot in its map.
#[derive(Debug)]
pub(crate) struct SlotHandle {
    callers: Weak<Callers>,
    key: [u8; 32],
    outage: Arc<Outage>,
}

impl SlotHandle {
    /// The outage that all callers of one credential share.
    pub(crate) fn outage(&self) -> Arc<Outage> {
        Arc::clone(&self.outage)
    }

    /// Removes the slot, if it is still there.
    pub(crate) fn leave(&self, slot: &Slot) {
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
