//! What the requests of all connections share.

use std::sync::Arc;

use countersign_authorize::AccessControl;
use countersign_config::model::Limits;
use countersign_core::budget::Budget;
use countersign_credential::{Credentials, health::HealthRegistry};
use countersign_upstream::forward::Forwarder;

use crate::{lifecycle::Lifecycle, observe::Recorder, probe::Prober};

/// Obtains credentials, and knows their health.
#[derive(Debug, Clone)]
pub struct CredentialServices {
    /// Obtains them.
    pub credentials: Arc<Credentials>,
    /// Their health.
    pub health: Arc<HealthRegistry>,
    /// Finds out whether they work.
    pub prober: Arc<Prober>,
}

/// What the steps of a request use. Only the pipeline can access the fields: `accept` passes it on and
/// cannot reach a credential.
#[derive(Debug)]
pub struct RequestServices {
    pub(super) access: Arc<AccessControl>,
    pub(super) credential: CredentialServices,
    pub(super) forwarder: Arc<Forwarder>,
    pub(super) recorder: Recorder,
    pub(super) budget: Budget,
    pub(super) limits: Arc<Limits>,
    pub(super) lifecycle: Lifecycle,
}

impl RequestServices {
    /// The services of one gateway.
    pub fn new(
        access: Arc<AccessControl>,
        credential: CredentialServices,
        forwarder: Arc<Forwarder>,
        recorder: Recorder,
        budget: Budget,
        limits: Arc<Limits>,
        lifecycle: Lifecycle,
    ) -> Self {
        Self {
            access,
            credential,
            forwarder,
            recorder,
            budget,
            limits,
            lifecycle,
        }
    }
}
