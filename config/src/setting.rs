//! What is known beside the resources while they are checked.

use jiff::Timestamp;

use crate::{
    model::{ClientTrust, Gateway, Listener},
    spiffe::TrustDomainName,
};

/// What is known beside the resources: without it, less is found.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The time, for what has expired or is due.
    pub now: Option<Timestamp>,
    /// The gateway that will use them.
    pub(crate) proven: Option<Proven>,
}

/// Whom and what a gateway can use.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    /// The names of its issuers.
    pub(crate) clusters: Vec<String>,
    pub(crate) trust_domains: Vec<TrustDomainName>,
    /// Whether a listener asks for certificates.
    pub(crate) asks_for_certificates: bool,
    pub(crate) has_vault: bool,
}

impl Setting {
    /// Only the time is known.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: Some(now),
            proven: None,
        }
    }

    /// The same at another time.
    #[must_use]
    pub fn later(&self, now: Timestamp) -> Self {
        Self {
            now: Some(now),
            proven: self.proven.clone(),
        }
    }

    /// The gateway is known too.
    #[must_use]
    pub fn of(self, gateway: &Gateway) -> Self {
        let clusters = gateway.issuers.iter().map(|issuer| issuer.name.clone());
        let domains = gateway.trust_domains.iter();
        Self {
            proven: Some(Proven {
                clusters: clusters.collect(),
                trust_domains: domains.map(|domain| domain.name.clone()).collect(),
                asks_for_certificates: gateway.listeners.iter().any(asks_for_certificates),
                has_vault: gateway.vault.is_some(),
            }),
            ..self
        }
    }
}

fn asks_for_certificates(listener: &Listener) -> bool {
    let tls = listener.tls.as_ref();
    tls.is_some_and(|tls| tls.client_trust == ClientTrust::Spiffe)
}
