//! X.509-SVIDs: the identity in a client's certificate, accepted only if the roots of its own trust
//! domain verify it.
//!
//! The same check is made twice. During the handshake [`verifier`] refuses bad certificates, so that the
//! client gets an alert. After it [`TrustDomains::check`] makes the caller, also if the session was
//! resumed and no certificate was sent again.

mod agent;
mod bundle;
mod certificate;
mod error;
#[cfg(test)]
mod tests;
mod verifier;

pub use bundle::{BundleError, validity as bundle_validity};
pub use error::{ChainFault, SvidError};
pub(super) use verifier::observed;

use std::{path::Path, sync::Arc};

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_config::{
    model::{self, BundleSource},
    spiffe::{SpiffeId, TrustDomainName},
};
use countersign_core::{certificate::HeldCertificate, chain, clock::Clock, metrics::Metrics};
use jiff::Timestamp;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use super::nearest::with_nearest;
use bundle::Bundle;
use certificate::Leaf;

/// The configured trust domains, each with a bundle of its own.
#[derive(Debug)]
pub struct TrustDomains {
    domains: Box<[Arc<TrustDomain>]>,
    clock: Clock,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct TrustDomain {
    name: TrustDomainName,
    source: BundleSource,
    /// `None` while its agent gives none: then no certificate is accepted.
    bundle: ArcSwapOption<Bundle>,
}

impl TrustDomain {
    fn file(&self) -> Option<&Path> {
        match &self.source {
            BundleSource::File(file) => Some(file),
            BundleSource::WorkloadApi(_) => None,
        }
    }

    fn socket(&self) -> Option<&Path> {
        match &self.source {
            BundleSource::File(_) => None,
            BundleSource::WorkloadApi(socket) => Some(socket),
        }
    }
}

/// A verified certificate.
#[derive(Debug)]
pub(super) struct Svid {
    pub(super) id: SpiffeId,
    pub(super) not_after: Timestamp,
    pub(super) serial: Box<str>,
    chain: Box<[CertificateDer<'static>]>,
    domain: Arc<TrustDomain>,
    /// The bundle that last verified it.
    bundle: ArcSwap<Bundle>,
}

impl Svid {
    /// The hash that identifies the caller.
    pub(super) fn key(&self) -> [u8; 32] {
        super::sha256(self.chain.first().map_or(&[], |leaf| leaf.as_ref()))
    }
}

impl TrustDomains {
    /// Reads the bundles.
    pub(super) fn load(domains: &[model::TrustDomain], clock: Clock) -> Result<Self, BundleError> {
        let load = |domain: &model::TrustDomain| {
            let bundle = match &domain.bundle {
                BundleSource::File(file) => Some(Arc::new(Bundle::read(file)?)),
                BundleSource::WorkloadApi(_) => None,
            };
            Ok(Arc::new(TrustDomain {
                name: domain.name.clone(),
                source: domain.bundle.clone(),
                bundle: ArcSwapOption::new(bundle),
            }))
        };
        Ok(Self {
            domains: domains.iter().map(load).collect::<Result<_, _>>()?,
            clock,
            changed: watch::Sender::new(()),
        })
    }

    /// The bundles' files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.domains.iter().filter_map(|domain| domain.file())
    }

    /// The bundles in force, and when the last root of each ends. An agent's bundle lies in no file, but comes by its
    /// socket.
    pub fn held(&self) -> impl Iterator<Item = HeldCertificate> {
        self.domains.iter().filter_map(|domain| {
            let file = domain.file().or_else(|| domain.socket())?;
            Some(HeldCertificate {
                name: format!("trust-domain/{}", domain.name.as_str()).into(),
                file: file.into(),
                validity: domain.bundle.load().as_ref()?.validity?,
            })
        })
    }

    /// Reads the bundles again. A bundle that cannot be used keeps its previous value and is reported.
    pub fn reload(&self) -> Vec<BundleError> {
        let reload = |domain: &Arc<TrustDomain>| match Bundle::read(domain.file()?) {
            Ok(bundle) => {
                domain.bundle.store(Some(Arc::new(bundle)));
                None
            }
            Err(error) => Some(error),
        };
        let errors = self.domains.iter().filter_map(reload).collect();
        self.changed.send_replace(());
        errors
    }

    /// Follows the agents that provide bundles, for as long as it is polled.
    pub async fn follow(&self, metrics: &Metrics) {
        let mut sockets: Vec<&Path> = self.domains.iter().filter_map(|it| it.socket()).collect();
        sockets.sort();
        sockets.dedup();
        let agents = sockets.into_iter().map(|socket| {
            let of_this = |domain: &&Arc<TrustDomain>| domain.socket() == Some(socket);
            let domains = self.domains.iter().filter(of_this).cloned().collect();
            agent::follow(socket, domains, &self.changed, metrics)
        });
        futures_util::future::join_all(agents).await;
    }

    /// Completes once every trust domain has had a bundle.
    pub async fn complete(&self) {
        let mut changes = self.changes();
        let missing = |domain: &Arc<TrustDomain>| domain.bundle.load().is_none();
        while self.domains.iter().any(missing) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.domains.len()
    }

    /// Those that have had no bundle, in a sentence each.
    pub(super) fn without_bundle(&self) -> impl Iterator<Item = String> {
        let without = |domain: &&Arc<TrustDomain>| domain.bundle.load().is_none();
        self.domains.iter().filter(without).map(|domain| {
            let name = domain.name.as_str();
            format!("the agent has not given the bundle of trust domain {name} yet")
        })
    }

    /// Notified whenever a bundle may have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Asks clients for certificates and refuses bad ones; a client may have none.
    pub fn verifier(self: &Arc<Self>) -> Arc<dyn ClientCertVerifier> {
        verifier::verifier(Arc::clone(self))
    }

    /// Every check of a chain, leaf first.
    pub(super) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<Svid, SvidError> {
        let (leaf, rest) = chain.split_first().ok_or(SvidError::Unreadable)?;
        chain::bounded(leaf, rest)?;
        let Leaf {
            id,
            not_before,
            not_after,
            serial,
        } = Leaf::parse(leaf)?;
        // The ID itself determines which roots apply: those of no other domain are used.
        let mut domains = self.domains.iter();
        let domain = domains.find(|domain| domain.name == *id.trust_domain());
        let Some(domain) = domain else {
            let domains = self.domains.iter().map(|domain| domain.name.as_str());
            let named = with_nearest(id.trust_domain().as_str(), domains).into();
            return Err(SvidError::UntrustedDomain { id, named });
        };
        let now = self.clock.now();
        if now < not_before {
            return Err(SvidError::NotYetValid {
                id,
                not_before,
                now,
            });
        }
        if not_after <= now {
            return Err(SvidError::Expired { id, not_after, now });
        }
        let Some(bundle) = domain.bundle.load_full() else {
            return Err(SvidError::NoBundle { id });
        };
        if let Err(fault) = bundle.verify(leaf, rest, now) {
            return Err(SvidError::Chain { id, fault });
        }
        Ok(Svid {
            id,
            not_after,
            serial,
            chain: chain
                .iter()
                .cloned()
                .map(CertificateDer::into_owned)
                .collect(),
            domain: Arc::clone(domain),
            bundle: ArcSwap::new(bundle),
        })
    }

    /// Whether the trust domain still accepts the certificate of an open connection: checked again when
    /// its bundle has changed; otherwise this costs two atomic loads.
    pub(super) fn confirm(&self, svid: &Svid) -> Result<(), SvidError> {
        let current = svid.domain.bundle.load();
        if let Some(current) = &*current
            && Arc::ptr_eq(&svid.bundle.load(), current)
        {
            return Ok(());
        }
        let fresh = self.check(&svid.chain)?;
        svid.bundle.store(fresh.bundle.into_inner());
        Ok(())
    }
}
