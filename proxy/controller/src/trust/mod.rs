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
mod leader;
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

use std::sync::Arc;

use countersign_core::clock::Clock;
use kube::Client;
use rustls_pki_types::CertificateDer;

use self::{
    lead::{Leader, Shared},
    leader::Leadership,
};

#[cfg(feature = "pkcs12")]
pub use self::trust_store::pkcs12;
pub use self::{
    error::TrustError,
    health::Health,
    leader::LeaderTimes,
    names::AuthorityName,
    request::{CertificateRequest, RequestFailure, connected, follow_state, request},
    rotation::{Answer, Asked, Position, Step},
    settings::{GatewayAccount, TrustSettings, TrustSettingsError},
    state::{Holder, PublicAuthority, PublicState},
    webhook::follow as follow_webhook,
};

/// The part of a controller that keeps trust.
#[allow(missing_debug_implementations, reason = "it is never shown")]
pub struct Trust {
    shared: Shared,
    identity: String,
    times: LeaderTimes,
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
    /// This replica's name.
    pub identity: String,
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
            identity: parts.identity,
            times: LeaderTimes::default(),
        }
    }

    /// The same with other times for its Lease.
    #[must_use]
    pub fn with_times(mut self, times: LeaderTimes) -> Self {
        self.times = times;
        self
    }

    /// Leads, or waits to lead, until `end` completes.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let Shared {
            client,
            settings,
            health,
            ..
        } = &self.shared;
        let namespace = &settings.namespace;
        let mut leadership = Leadership::new(client.clone(), namespace, self.identity, self.times);
        let working = async {
            loop {
                leadership.acquire(|told| health.waits(told)).await;
                health.leads();
                let (leader, watches) = Leader::new(&self.shared);
                tokio::select! {
                    () = leader.work(watches) => {}
                    () = leadership.keep() => {}
                }
                tracing::warn!("this controller does not lead any more");
                health.waits(Err("it was lost".to_owned()));
            }
        };
        tokio::select! {
            () = working => {}
            () = end => {}
        }
        leadership.release().await;
    }
}
