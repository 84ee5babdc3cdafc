//! Caches which rights the gateway lacks at a store: that changes only when a person changes it, and
//! asking costs the store more than the answer is worth.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use countersign_config::model::ResourceName;
use tokio::time::Instant;

use super::StateError;

/// How long a refusal is cached.
const REMEMBER: Duration = Duration::from_secs(5);

/// By credential.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<ResourceName, (Instant, StateError)>>);

impl Refusals {
    /// Fails with a cached refusal.
    pub(super) fn recent(&self, credential: &ResourceName) -> Result<(), StateError> {
        let refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match refusals.get(credential) {
            Some((at, error)) if at.elapsed() < REMEMBER => Err(error.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// Caches it, and returns it.
    pub(super) fn note(&self, credential: &ResourceName, error: StateError) -> StateError {
        let mut refusals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.insert(credential.clone(), (Instant::now(), error.clone()));
        error
    }
}
