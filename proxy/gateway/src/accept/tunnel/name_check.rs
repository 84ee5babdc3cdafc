//! Checks the names that a client shows inside a tunnel.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use countersign_authorize::{AccessControl, InnerTarget, ShownBy, ShownName, Verdict};
use countersign_config::host::Host;
use countersign_core::destination::Authority;
use countersign_identity::Caller;
use countersign_upstream::forward::Forwarder;

use crate::refusal::Refusal;

/// Checks the names that a client shows within one tunnel.
#[derive(Debug)]
pub(super) struct NameCheck {
    pub(super) access: Arc<AccessControl>,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) caller: Arc<Caller>,
    /// Where the tunnel goes.
    pub(super) authority: Authority,
    /// The address that was dialled for it.
    pub(super) address: SocketAddr,
    /// Whether policy granted it, for this very host.
    pub(super) granted: bool,
    /// The name in SNI, for when the tunnel is re-authorized.
    pub(super) name: Arc<OnceLock<Host>>,
}

impl NameCheck {
    /// Checks one name. `server_silent` says that the server has sent nothing yet.
    pub(super) fn check(&self, shown: &ShownName, server_silent: bool) -> Result<Verdict, Refusal> {
        if let Some(host) = &shown.host
            && shown.by == ShownBy::Tls
        {
            // The first counts; a second ClientHello (RFC 8446, section 4.1.2) names the same.
            drop(self.name.set(host.clone()));
        }
        let inner = InnerTarget {
            caller: &self.caller,
            authority: &self.authority,
            granted: self.granted,
            server_silent,
        };
        let snapshot = self.access.snapshots.load_full();
        let at_address = || self.forwarder.hosts_at(self.address);
        Ok(inner.decide(shown, &snapshot, at_address)?)
    }
}
