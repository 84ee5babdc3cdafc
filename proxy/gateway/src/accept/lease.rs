//! What an open tunnel or WebSocket rests on: its caller's proof and policy's permission. Both are
//! asked again when something says that they may have changed, never by turns.

use std::sync::Arc;

use countersign_identity::Caller;
use jiff::Timestamp;

use crate::{app::Rooms, authorize::Asked, refusal::Refusal};

/// The right of one connection to stay open.
#[derive(Debug)]
pub struct Lease {
    rooms: Arc<Rooms>,
    caller: Arc<Caller>,
    asked: Asked,
}

impl Lease {
    /// A lease for what a caller was permitted just now.
    pub fn new(rooms: Arc<Rooms>, caller: Arc<Caller>, asked: Asked) -> Self {
        Self {
            rooms,
            caller,
            asked,
        }
    }

    /// Completes when the connection may not stay open, and says why.
    pub(super) async fn ended(&self) -> Refusal {
        tokio::select! {
            error = self.rooms.identifier.withdrawn(&self.caller) => error.into(),
            refusal = self.forbidden() => refusal,
        }
    }

    /// Why a connection was told to close; `None` if only because the gateway drains.
    pub(super) async fn why_closed(&self) -> Option<Refusal> {
        if self.rooms.drain.is_cancelled() {
            return None;
        }
        let proof = self.rooms.identifier.confirm(&self.caller).await;
        proof
            .err()
            .map(Refusal::from)
            .or_else(|| self.permitted().err())
    }

    /// Completes when policy does not permit it any more.
    async fn forbidden(&self) -> Refusal {
        let mut revisions = self.rooms.snapshots.changes();
        loop {
            // Before the look: a revision that comes in between is looked at too.
            revisions.mark_unchanged();
            let until = match self.permitted() {
                Ok(until) => until,
                Err(refusal) => return refusal,
            };
            let time_is_up = async {
                match until {
                    Some(until) => self.rooms.clock.until(until).await,
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

    fn permitted(&self) -> Result<Option<Timestamp>, Refusal> {
        self.asked.again(
            &self.rooms.snapshots.load_full(),
            self.caller.facts(),
            self.rooms.unmatched,
            self.rooms.clock.now(),
        )
    }
}
