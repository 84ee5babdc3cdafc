//! Keeps watching whether an open tunnel or WebSocket is permitted: its caller's proof and policy's
//! permission. Both are checked again when they may have changed; there is no polling.

use std::sync::Arc;

use countersign_authorize::{AccessControl, OpenConnection};
use countersign_identity::Caller;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::refusal::Refusal;

/// The right of one connection to stay open.
#[derive(Debug)]
pub struct AccessGuard {
    access: Arc<AccessControl>,
    drain: CancellationToken,
    caller: Arc<Caller>,
    open: OpenConnection,
}

impl AccessGuard {
    /// A guard over what a caller was permitted just now. `drain` is cancelled when the gateway drains.
    pub fn new(
        access: Arc<AccessControl>,
        drain: CancellationToken,
        caller: Arc<Caller>,
        open: OpenConnection,
    ) -> Self {
        Self {
            access,
            drain,
            caller,
            open,
        }
    }

    /// Completes when the connection may not stay open, and says why.
    pub(super) async fn ended(&self) -> Refusal {
        tokio::select! {
            error = self.access.identifier.withdrawn(&self.caller) => error.into(),
            refusal = self.forbidden() => refusal,
        }
    }

    /// Why a connection was told to close; `None` if only because of the drain.
    pub(super) async fn why_closed(&self) -> Option<Refusal> {
        if self.drain.is_cancelled() {
            return None;
        }
        let proof = self.access.identifier.confirm(&self.caller).await;
        proof
            .err()
            .map(Refusal::from)
            .or_else(|| self.permitted().err())
    }

    /// Completes when policy does not permit it any more.
    async fn forbidden(&self) -> Refusal {
        let mut revisions = self.access.snapshots.changes();
        loop {
            // Before the check, so that a revision in between is checked too.
            revisions.mark_unchanged();
            let until = match self.permitted() {
                Ok(until) => until,
                Err(refusal) => return refusal,
            };
            let time_is_up = async {
                match until {
                    Some(until) => self.access.clock.until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as `self`.
                _ = revisions.changed() => {}
                () = time_is_up => {}
            }
        }
    }

    /// Until when policy permits it at least; `None` is until the revision changes.
    fn permitted(&self) -> Result<Option<Timestamp>, Refusal> {
        let AccessControl {
            snapshots,
            unmatched,
            clock,
            ..
        } = &*self.access;
        let snapshot = snapshots.load_full();
        let until = self
            .open
            .reauthorize(&snapshot, &self.caller, *unmatched, clock.now());
        Ok(until?)
    }
}
