//! Everything that a running gateway consists of. Only `app` sees all of it; each part of the gateway gets
//! what it needs.

use std::sync::Arc;

use countersign_authorize::AccessControl;
use countersign_config::model::Limits;
use countersign_core::{budget::Budget, slots::Slots};
use countersign_upstream::forward::Forwarder;

use crate::{
    accept::AcceptContext,
    ca::Ca,
    lifecycle::Lifecycle,
    observe::{Happened, Recorder},
    pipeline::{CredentialServices, RequestServices},
};

/// The state of a gateway.
#[derive(Debug)]
pub(super) struct GatewayState {
    /// Proves callers, and has the policies in force.
    pub(super) access: Arc<AccessControl>,
    /// Obtains credentials, and knows their health.
    pub(super) credential: CredentialServices,
    /// Sends requests on.
    pub(super) forwarder: Arc<Forwarder>,
    /// Mints leaves.
    pub(super) ca: Arc<Ca>,
    /// Opens records.
    pub(super) recorder: Recorder,
    /// The places of client connections.
    pub(super) slots: Slots,
    /// The memory that peers may take.
    pub(super) budget: Budget,
    /// The bounds of everything.
    pub(super) limits: Arc<Limits>,
    /// The tasks that run, and the signal to end them.
    pub(super) lifecycle: Lifecycle,
}

impl GatewayState {
    /// What accepting connections takes.
    pub(super) fn accepting(&self) -> AcceptContext {
        AcceptContext {
            access: Arc::clone(&self.access),
            requests: Arc::new(self.requests()),
            forwarder: Arc::clone(&self.forwarder),
            ca: Arc::clone(&self.ca),
            recorder: self.recorder.clone(),
            slots: self.slots.clone(),
            budget: self.budget.clone(),
            limits: Arc::clone(&self.limits),
            lifecycle: self.lifecycle.clone(),
        }
    }

    /// Tells in the decision log what happened to the gateway itself.
    pub(super) fn tell(&self, happened: Happened) {
        let snapshot = self.access.snapshots.load_full();
        self.recorder.tell(snapshot.revision(), happened);
    }

    /// The open client connections.
    pub(super) fn open_connections(&self) -> usize {
        let (unidentified, identified) = self.slots.open();
        unidentified + identified
    }

    /// What the requests of proven callers go through.
    fn requests(&self) -> RequestServices {
        RequestServices::new(
            Arc::clone(&self.access),
            self.credential.clone(),
            Arc::clone(&self.forwarder),
            self.recorder.clone(),
            self.budget.clone(),
            Arc::clone(&self.limits),
            self.lifecycle.clone(),
        )
    }
}
