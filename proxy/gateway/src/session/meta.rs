//! What is known of a client connection before anything is proven.

use std::{net::SocketAddr, sync::Arc};

use countersign_core::{
    budget::{Budget, Purse, Short},
    slots::Slot,
};
use countersign_identity::Caller;

/// Where a connection came in, and the resources that it takes.
#[derive(Debug, Clone)]
pub struct ConnectionMeta {
    /// The listener's name.
    pub listener: Arc<str>,
    /// The peer's address; recorded, never used as identity.
    pub client: SocketAddr,
    /// Where a redirected connection was going; `None` for clients that know of the proxy.
    pub original_destination: Option<SocketAddr>,
    /// The memory that the connection takes.
    pub purse: Arc<Purse>,
    /// The connection's slot; given back after its last tunnel.
    pub slot: Arc<Slot>,
}

impl ConnectionMeta {
    /// Charges `caller` for the connection's memory from now on.
    ///
    /// # Errors
    /// When the caller holds too much already.
    pub fn charge_to(&self, caller: &Caller, budget: &Budget) -> Result<(), Short> {
        self.purse.belongs_to(caller.account(budget))
    }
}

/// Memory for something of a caller's that outlives its request, such as a tunnel.
///
/// # Errors
/// When there is none.
pub fn open_for(budget: &Budget, caller: &Caller, bytes: u64) -> Result<Arc<Purse>, Short> {
    budget.open_for(caller.account(budget), bytes)
}
