//! A CA whose intermediate a signer in the cluster signs. The key is made here and stays here; what is asked for, and
//! when, is decided in `app`.

use std::{sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use countersign_config::host::Host;
use countersign_core::certificate::{HeldCertificate, Validity};
use countersign_pki::{CaKey, Names, fingerprint};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::sync::watch;

use super::{
    Ca, CaError, Clock, Source, intercepted::Intercepted, intermediate::Intermediate,
    serve::ServerTemplate,
};

/// How long a connection may wait for an intermediate that covers its host.
const WAIT: Duration = Duration::from_secs(5);

/// What is to be signed, and how it stands.
pub(super) struct Signer {
    name: String,
    pub(super) wanted: watch::Sender<Intercepted>,
    root: ArcSwapOption<CertificateDer<'static>>,
    /// Counts the intermediates.
    taken: watch::Sender<u64>,
    problem: ArcSwap<String>,
}

/// Why what a signer sent cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignedError {
    /// Not what was asked for.
    #[error("the signer {signer} sent something that cannot be used: {reason}")]
    Unusable {
        /// Its name.
        signer: String,
        /// What is wrong.
        reason: String,
    },
}

impl Signer {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            wanted: watch::Sender::new(Intercepted::new(std::iter::empty())),
            root: ArcSwapOption::empty(),
            taken: watch::Sender::new(0),
            problem: ArcSwap::from_pointee(format!("{name} has not signed it yet")),
        }
    }

    pub(super) fn root(&self) -> Option<CertificateDer<'static>> {
        self.root.load().as_deref().cloned()
    }

    /// Where the root is, for people.
    pub(super) fn root_place(&self) -> String {
        match self.root.load().as_deref() {
            None => self.name.clone(),
            Some(root) => format!("{} (SHA-256 {})", self.name, fingerprint(root)),
        }
    }

    pub(super) fn not_signed(&self) -> CaError {
        CaError::NotSigned(String::clone(&self.problem.load()))
    }
}

impl Ca {
    /// A CA whose intermediate this signer signs. Until it did, nothing can be intercepted.
    pub fn of_signer(signer: &str, clock: Clock, leaves: u64) -> Result<Self, CaError> {
        let source = Source::Signer(Signer::new(signer));
        Ok(Self::new(source, clock, ServerTemplate::new()?, leaves))
    }

    /// The names that an intermediate must permit now, and how another set is noticed; `None` for a CA of our own.
    pub fn wanted(&self) -> Option<(Names, impl Future<Output = ()> + Send + use<>)> {
        let Source::Signer(signer) = &self.source else {
            return None;
        };
        let mut changes = signer.wanted.subscribe();
        let names = changes.borrow_and_update().names();
        let changed = async move {
            // The sender is as old as the CA.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        Some((names, changed))
    }

    /// Puts an intermediate into force that was signed for `key` and these names: the chain, PEM, with the root last.
    ///
    /// # Errors
    /// When it is not the key's, not a CA's, or not valid now. What was in force stays so.
    pub fn take_signed(
        &self,
        chain: &[u8],
        key: CaKey,
        names: &Names,
    ) -> Result<Validity, SignedError> {
        let Source::Signer(signer) = &self.source else {
            return Err(SignedError::Unusable {
                signer: String::new(),
                reason: "this CA is in a directory".to_owned(),
            });
        };
        let unusable = |reason: &str| SignedError::Unusable {
            signer: signer.name.clone(),
            reason: reason.to_owned(),
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|_| unusable("it is no PEM"))?;
        let [certificate, .., root] = chain.as_slice() else {
            return Err(unusable("it has no root"));
        };
        let now = self.clock.now();
        let hosts = signer.wanted.borrow().clone();
        // Whatever policy asks for since then comes with the next one.
        let hosts = if hosts.names() == *names {
            hosts
        } else {
            hosts.within(names)
        };
        let mut issuing = self.lock_issuing();
        issuing.generation += 1;
        let intermediate = Intermediate::signed(certificate, key, hosts, issuing.generation, now)
            .map_err(|reason| unusable(&reason))?;
        let validity = intermediate.validity();
        self.intermediate.store(Some(Arc::new(intermediate)));
        self.leaves.invalidate_all();
        signer.root.store(Some(Arc::new(root.clone())));
        signer.taken.send_modify(|taken| *taken += 1);
        drop(issuing);
        Ok(validity)
    }

    /// Says why there is no other intermediate.
    pub fn not_signed_because(&self, why: &str) {
        if let Source::Signer(signer) = &self.source {
            signer.problem.store(Arc::new(why.to_owned()));
        }
    }

    /// Why nothing can be intercepted now, if something should be.
    pub fn waits_for(&self) -> Option<String> {
        let Source::Signer(signer) = &self.source else {
            return None;
        };
        let now = self.clock.now();
        let is_there = self
            .intermediate
            .load()
            .as_ref()
            .is_some_and(|it| it.is_valid(now));
        let waits = !is_there && !signer.wanted.borrow().is_empty();
        waits.then(|| format!("the intermediate: {}", signer.problem.load()))
    }

    /// Waits for an intermediate that covers the host, if policy wants that one.
    pub(super) async fn leaf_when_signed(
        &self,
        signer: &Signer,
        host: &Host,
    ) -> Result<Arc<ServerConfig>, CaError> {
        let mut taken = signer.taken.subscribe();
        let waiting = async {
            loop {
                match self.leaf(host) {
                    Err(CaError::NotIntercepted(_) | CaError::NotSigned(_))
                        if signer.wanted.borrow().contains(host) =>
                    {
                        if taken.changed().await.is_err() {
                            return Err(signer.not_signed());
                        }
                    }
                    other => return other,
                }
            }
        };
        tokio::time::timeout(WAIT, waiting)
            .await
            .unwrap_or_else(|_| Err(signer.not_signed()))
    }

    /// What a signer signed, with its root.
    pub(super) fn signed_certificates(&self, signer: &Signer) -> Vec<HeldCertificate> {
        let held = |name: &str, certificate: &[u8]| {
            Some(HeldCertificate {
                name: name.into(),
                file: std::path::Path::new(&signer.name).into(),
                validity: Validity::of(certificate)?,
            })
        };
        let intermediate = self.intermediate.load();
        let root = signer.root.load();
        let each = [
            root.as_deref().and_then(|it| held("ca/root", it)),
            intermediate
                .as_ref()
                .and_then(|it| held("ca/intermediate", it.certificate())),
        ];
        each.into_iter().flatten().collect()
    }
}
