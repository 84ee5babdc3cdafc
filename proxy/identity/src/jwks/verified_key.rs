//! The key that verified a token, and whether its issuer still has it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::Jwks;
use crate::{IdentifyError, keys::Fingerprint};

/// Which key of which issuer verified a token.
#[derive(Debug)]
pub(crate) struct VerifiedKey {
    jwks: Arc<Jwks>,
    key: Fingerprint,
    /// The generation of the key set in which it was last found; 0 is none.
    seen: AtomicU64,
}

impl VerifiedKey {
    pub(super) fn new(jwks: Arc<Jwks>, key: Fingerprint) -> Self {
        Self {
            jwks,
            key,
            seen: AtomicU64::new(0),
        }
    }

    /// Whether its issuer still has the key. While the keys do not change this costs two atomic loads.
    pub(crate) fn confirm(&self) -> Result<(), IdentifyError> {
        // Read before the check: keys that change in between are checked next time.
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

    /// Notified whenever the issuer's keys have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.jwks.changed.subscribe()
    }

    /// Completes when the issuer no longer has the key. Keys that are not available do not count as
    /// withdrawn.
    pub(crate) async fn withdrawn(&self) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if let Err(IdentifyError::KeyWithdrawn { .. }) = self.confirm() {
                return;
            }
            if changes.changed().await.is_err() {
                // Unreachable: the sender lives as long as `self`.
                return std::future::pending().await;
            }
        }
    }
}
