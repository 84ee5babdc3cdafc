//! X.509-SVIDs: who a client's certificate says it is, believed only if the roots of its own
//! trust domain vouch for it.
//!
//! The same check stands in two places. During the handshake [`verifier`] refuses what must be
//! refused, so that the client gets an alert; after it [`TrustDomains::check`] makes the caller,
//! also when the session was resumed and no certificate was shown again.

mod bundle;
mod certificate;
mod error;
#[cfg(test)]
mod tests;
mod verifier;

pub use bundle::BundleError;
pub use error::{ChainFault, SvidError};
pub(crate) use verifier::observed;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use countersign_config::{
    model,
    spiffe::{SpiffeId, TrustDomainName},
};
use jiff::Timestamp;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::clock::Clock;
use bundle::Bundle;
use certificate::Leaf;

/// The trust domains whose workloads are known here, each with a bundle of its own.
#[derive(Debug)]
pub struct TrustDomains {
    domains: Box<[Arc<TrustDomain>]>,
    clock: Clock,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct TrustDomain {
    name: TrustDomainName,
    file: PathBuf,
    bundle: ArcSwap<Bundle>,
}

/// A certificate that was checked.
#[derive(Debug)]
pub(super) struct Svid {
    pub(super) id: SpiffeId,
    pub(super) not_after: Timestamp,
    pub(super) serial: Box<str>,
    chain: Box<[CertificateDer<'static>]>,
    domain: Arc<TrustDomain>,
    /// The bundle that it was last checked against.
    bundle: ArcSwap<Bundle>,
}

impl TrustDomains {
    /// Reads the bundles.
    pub(super) fn load(domains: &[model::TrustDomain], clock: Clock) -> Result<Self, BundleError> {
        let load = |domain: &model::TrustDomain| {
            Ok(Arc::new(TrustDomain {
                name: domain.name.clone(),
                file: domain.bundle.clone(),
                bundle: ArcSwap::from_pointee(Bundle::read(&domain.bundle)?),
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
        self.domains.iter().map(|domain| domain.file.as_path())
    }

    /// Reads the bundles again. One that cannot be used stays as it was, and is told of.
    pub fn reload(&self) -> Vec<BundleError> {
        let reload = |domain: &Arc<TrustDomain>| match Bundle::read(&domain.file) {
            Ok(bundle) => {
                domain.bundle.store(Arc::new(bundle));
                None
            }
            Err(error) => Some(error),
        };
        let errors = self.domains.iter().filter_map(reload).collect();
        self.changed.send_replace(());
        errors
    }

    /// Is told whenever a bundle may be another one.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What asks clients for certificates and refuses those that are no good; a client may have
    /// none.
    pub fn verifier(self: &Arc<Self>) -> Arc<dyn ClientCertVerifier> {
        verifier::verifier(Arc::clone(self))
    }

    /// Everything there is to check about a chain, leaf first.
    pub(super) fn check(&self, chain: &[CertificateDer<'_>]) -> Result<Svid, SvidError> {
        let (leaf, rest) = chain.split_first().ok_or(SvidError::Unreadable)?;
        let Leaf {
            id,
            not_before,
            not_after,
            serial,
        } = Leaf::parse(leaf)?;
        // The ID itself says who must vouch for it: no other domain's roots are even looked at.
        let mut domains = self.domains.iter();
        let domain = domains.find(|domain| domain.name == *id.trust_domain());
        let Some(domain) = domain else {
            return Err(SvidError::UntrustedDomain { id });
        };
        let now = self.clock.now();
        if now < not_before {
            return Err(SvidError::NotYetValid { id, not_before });
        }
        if not_after <= now {
            return Err(SvidError::Expired { id, not_after });
        }
        let bundle = domain.bundle.load_full();
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

    /// Whether the trust domain still vouches for a certificate of an open connection: checked
    /// anew when its bundle has changed, else this costs two atomic loads.
    pub(super) fn confirm(&self, svid: &Svid) -> Result<(), SvidError> {
        if Arc::ptr_eq(&svid.bundle.load(), &svid.domain.bundle.load()) {
            return Ok(());
        }
        let fresh = self.check(&svid.chain)?;
        svid.bundle.store(fresh.bundle.into_inner());
        Ok(())
    }
}
