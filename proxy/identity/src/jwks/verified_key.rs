//! The key that a token was found good with, and whether its issuer still has it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::Jwks;
use crate::{IdentifyError, keys::Fingerprint};

/// By which key of which issuer a token was found good.
#[derive(Debug)]
pub(crate) struct Vouched {
    jwks: Arc<Jwks>,
    key: Fingerprint,
    /// The generation of the keys among which it was last found; 0 is none.
    seen: AtomicU64,
}

impl Vouched {
    pub(super) fn new(jwks: Arc<Jwks>, key: Fingerprint) -> Self {
        Self {
            jwks,
            key,
            seen: AtomicU64::new(0),
        }
    }

    /// Whether the key is still its issuer's. While the keys are the same this costs two atomic
    /// loads.
    pub(crate) fn confirm(&self) -> Result<(), IdentifyError> {
        // Before the look: keys that come in between are looked at the next time.
        let generation = self.jwks.generation.load(Ordering::Acquire);
        if self.seen.load(Ordering::Relaxed) == generation {
            return Ok(());
        }
        let keys = self.jwks.keys.load();
        let Some(keys) = &*keys else {
            return Err(self.jwks.unavailable());
        };
        if !keys.has(self.key) {
            return Err(IdentifyError::KeyWithdrawn {
                issuer: Arc::clone(&self.jwks.issuer),
            });
        }
        self.seen.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// Is told whenever the issuer's keys have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.jwks.changed.subscribe()
    }

    /// Completes when the key is no longer its issuer's. That the keys are not to be had says nothing.
    pub(crate) async fn withdrawn(&self) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Err(IdentifyError::KeyWithdrawn { .. }) = self.confirm() {
                return;
            }
            if changes.changed().await.is_err() {
                // Never: the sender lives as long as `self`.
                return std::future::pending().await;
            }
        }
    }
}
