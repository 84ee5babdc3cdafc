//! What decides: who calls, and what policy says of it.

use countersign_config::model::Unmatched;
use countersign_core::clock::Clock;
use countersign_identity::Identifier;

use crate::Snapshots;

/// Proves callers, and has the policies in force. Shared by all connections.
#[derive(Debug)]
pub struct AccessControl {
    /// Proves callers.
    pub identifier: Identifier,
    /// The revision in force.
    pub snapshots: Snapshots,
    /// What happens to hosts that no target matches.
    pub unmatched: Unmatched,
    /// The wall clock.
    pub clock: Clock,
}
