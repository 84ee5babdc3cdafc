//! What accepting connections takes.

use std::sync::Arc;

use countersign_authorize::AccessControl;
use countersign_config::model::Limits;
use countersign_core::{budget::Budget, slots::Slots};
use countersign_upstream::forward::Forwarder;

use crate::{ca::Ca, lifecycle::Lifecycle, observe::Recorder, pipeline::RequestServices};

/// What all listeners share.
#[derive(Debug)]
pub struct AcceptContext {
    /// Proves callers, and says what may pass.
    pub access: Arc<AccessControl>,
    /// Handles the requests of proven callers. It gives no access to a credential.
    pub requests: Arc<RequestServices>,
    /// Opens tunnels, and forwards requests that no target matches.
    pub forwarder: Arc<Forwarder>,
    /// Mints leaves.
    pub ca: Arc<Ca>,
    /// Opens records.
    pub recorder: Recorder,
    /// The places of client connections.
    pub slots: Slots,
    /// The memory that peers may take.
    pub budget: Budget,
    /// The bounds of connections.
    pub limits: Arc<Limits>,
    /// The tasks of connections, and the signal to end them.
    pub lifecycle: Lifecycle,
}
