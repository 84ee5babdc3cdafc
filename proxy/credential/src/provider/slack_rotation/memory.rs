//! What this process remembers of rotations: recent refusals by Slack, so that it is not asked again and
//! again, and a pair that is not stored yet, so that it is not lost.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use countersign_config::model::ResourceName;
use tokio::time::Instant;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use super::RotationError;
use crate::state::{Fingerprint, StateDocument};

#[derive(Debug, Default)]
pub(crate) struct Memory {
    entries: Mutex<HashMap<ResourceName, Entry>>,
    under_way: TaskTracker,
}

#[derive(Debug, Default)]
struct Entry {
    /// Tokens that Slack refused.
    refused: Vec<Refused>,
    /// Why there is no point in asking: for this client, or for all.
    held_off: Option<Refused>,
    /// A pair that is not durable yet, and what it was bought with.
    unsaved: Option<(Fingerprint, StateDocument)>,
    /// Whether a task tries to store it.
    is_kept_at: bool,
}

#[derive(Debug)]
struct Refused {
    what: Fingerprint,
    error: RotationError,
    until: Instant,
}

impl Memory {
    /// A fetch is in progress until this is dropped.
    pub(super) fn begin(&self) -> TaskTrackerToken {
        self.under_way.token()
    }

    /// Waits, at most for `limit`, until no fetch is in progress; returns whether that succeeded.
    pub(crate) async fn finish(&self, limit: Duration) -> bool {
        self.under_way.close();
        let waiting = tokio::time::timeout(limit, self.under_way.wait());
        waiting.await.is_ok()
    }

    /// Slack said that this token is dead.
    pub(super) fn refuse(&self, name: &ResourceName, what: Fingerprint, error: RotationError) {
        let now = Instant::now();
        let mut entries = self.entries();
        let refused = &mut entries.entry(name.clone()).or_default().refused;
        refused.retain(|known| known.until > now && known.what != what);
        refused.push(Refused {
            what,
            error,
            until: now + RotationError::refused_for(),
        });
    }

    /// A recent refusal of this token by Slack.
    pub(super) fn refusal(&self, name: &ResourceName, what: &Fingerprint) -> Option<RotationError> {
        let now = Instant::now();
        let entries = self.entries();
        let mut refused = entries.get(name)?.refused.iter();
        let known = refused.find(|known| known.until > now && known.what == *what)?;
        Some(known.error.clone())
    }

    /// Slack wants no requests of this client for a while, if the error says so.
    pub(super) fn hold_off(&self, name: &ResourceName, client: Fingerprint, error: &RotationError) {
        if let Some(wait) = error.wait() {
            self.entries().entry(name.clone()).or_default().held_off = Some(Refused {
                what: client,
                error: error.clone(),
                until: Instant::now() + wait,
            });
        }
    }

    /// Why there is no point in asking now.
    pub(super) fn held_off(
        &self,
        name: &ResourceName,
        client: &Fingerprint,
    ) -> Option<RotationError> {
        let entries = self.entries();
        let held = entries.get(name)?.held_off.as_ref()?;
        (held.until > Instant::now() && held.what == *client).then(|| held.error.clone())
    }

    /// Remembers a pair until it can be stored.
    pub(super) fn save_later(
        &self,
        name: &ResourceName,
        spent: Fingerprint,
        document: StateDocument,
    ) {
        self.entries().entry(name.clone()).or_default().unsaved = Some((spent, document));
    }

    /// What the unstored pair was bought with.
    pub(super) fn unsaved_from(&self, name: &ResourceName) -> Option<Fingerprint> {
        let entries = self.entries();
        let (spent, _) = entries.get(name)?.unsaved.as_ref()?;
        Some(spent.clone())
    }

    /// Takes the unstored pair.
    pub(super) fn take_unsaved(&self, name: &ResourceName) -> Option<(Fingerprint, StateDocument)> {
        self.entries().get_mut(name)?.unsaved.take()
    }

    /// Whether the unstored pair was bought with the token that would be spent next.
    pub(super) fn is_next(&self, name: &ResourceName, kept: &StateDocument) -> Option<Fingerprint> {
        let entries = self.entries();
        let (spent, next) = entries.get(name)?.unsaved.as_ref()?;
        let continues = kept
            .pair
            .as_ref()
            .is_some_and(|pair| pair.spends() == *spent);
        let begins = next.seeds.contains(spent) && !kept.seeds.contains(spent);
        (continues || begins).then(|| spent.clone())
    }

    /// The credentials with unstored pairs.
    pub(super) fn unsaved(&self) -> Vec<ResourceName> {
        let entries = self.entries();
        let unsaved = entries.iter().filter(|(_, entry)| entry.unsaved.is_some());
        unsaved.map(|(name, _)| name.clone()).collect()
    }

    /// Whether the process is ending.
    pub(super) fn is_ending(&self) -> bool {
        self.under_way.is_closed()
    }

    /// Whether no other task tries to store this credential's pair; if so the caller does from now on.
    pub(super) fn begin_keeping(&self, name: &ResourceName) -> bool {
        let mut entries = self.entries();
        let entry = entries
            .get_mut(name)
            .filter(|entry| entry.unsaved.is_some());
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.is_kept_at, true))
    }

    /// No task tries any more.
    pub(super) fn end_keeping(&self, name: &ResourceName) {
        if let Some(entry) = self.entries().get_mut(name) {
            entry.is_kept_at = false;
        }
    }

    /// There is no problem with this credential.
    pub(super) fn forget(&self, name: &ResourceName) {
        self.entries().remove(name);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ResourceName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
