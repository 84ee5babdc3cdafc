//! Trust without hands: the controller makes the roots, signs what gateways need, and publishes what clients must
//! trust. It renews all of it long before it ends.
//!
//! The keys of the roots are in one Secret, which the controller alone reads. A gateway makes its own key and asks by a
//! `CertificateSigningRequest`, so no key travels. Of several controllers one leads; the others only show the webhook's
//! certificate.

mod authority;
mod bundle;
mod error;
mod health;
mod lead;
pub mod names;
mod publish;
mod request;
mod roots;
mod rotate;
mod rotation;
mod secret;
mod settings;
mod sign;
mod state;
mod trust_store;
mod watching;
mod webhook;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use countersign_core::clock::Clock;
use kube::Client;
use rustls_pki_types::CertificateDer;

use self::{
    lead::{Leader, Shared},
    names::LEASE,
};
use crate::lease::{Election, Timing};

#[cfg(feature = "pkcs12")]
pub use self::trust_store::pkcs12;
pub use self::{
    error::TrustError,
    health::Health,
    names::AuthorityName,
    request::{CertificateRequest, RequestFailure, connected, follow_state, request},
    rotation::{Answer, Asked, Position, Step},
    settings::{GatewayAccount, TrustSettings, TrustSettingsError},
    state::{Holder, PublicAuthority, PublicState},
    webhook::follow as follow_webhook,
};

/// How long a leader that was lost is missed at most.
const LEASE_DURATION: Duration = Duration::from_secs(15);

/// The part of a controller that keeps trust.
#[allow(missing_debug_implementations, reason = "it is never shown")]
pub struct Trust {
    shared: Shared,
    timing: Timing,
}

/// What trust is kept with.
#[allow(missing_debug_implementations, reason = "it is never shown")]
pub struct TrustParts {
    /// Of the API server.
    pub client: Client,
    /// The settings.
    pub settings: TrustSettings,
    /// The roots that clients trust anyhow.
    pub system: Vec<CertificateDer<'static>>,
    /// By which certificates are valid.
    pub clock: Clock,
    /// Where it is said how trust is.
    pub health: Health,
    /// Whether the webhook's certificate is kept.
    pub webhook: bool,
}

impl Trust {
    /// For a cluster.
    pub fn new(parts: TrustParts) -> Self {
        Self {
            shared: Shared {
                client: parts.client,
                settings: Arc::new(parts.settings),
                system: parts.system,
                clock: parts.clock,
                health: parts.health,
                webhook: parts.webhook,
            },
            timing: Timing::of_lease(LEASE_DURATION),
        }
    }

    /// The same with other times for its Lease.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Leads, or waits to lead, until `end` completes.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let Shared {
            client,
            settings,
            health,
            clock,
            ..
        } = &self.shared;
        let election = Election::new(client.clone(), &settings.namespace, LEASE, clock.clone())
            .with(self.timing);
        let work = || {
            let (leader, watches) = Leader::new(&self.shared);
            leader.work(watches)
        };
        election.lead(|role| health.is(role), work, end).await;
    }
}
