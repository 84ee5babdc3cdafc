//! What is known beside the resources while they are checked.

use jiff::Timestamp;

use crate::{
    model::{ClientTrust, Gateway, Governance, Listener},
    spiffe::TrustDomainName,
};

/// What is known beside the resources: without it, less is found.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The time, for what has expired or is due.
    pub now: Option<Timestamp>,
    /// The gateway that will use them.
    pub(crate) proven: Option<Proven>,
    /// What resources must say.
    pub(crate) governance: Option<Governance>,
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
    /// The names of the issuers whose API servers are asked about pods.
    pub(crate) asks_about_pods: Vec<String>,
}

impl Setting {
    /// Only the time is known.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now: Some(now),
            ..Self::default()
        }
    }

    /// The same at another time.
    #[must_use]
    pub fn later(&self, now: Timestamp) -> Self {
        Self {
            now: Some(now),
            ..self.clone()
        }
    }

    /// The gateway is known too.
    #[must_use]
    pub fn of(self, gateway: &Gateway) -> Self {
        let clusters = gateway.issuers.iter().map(|issuer| issuer.name.clone());
        let domains = gateway.trust_domains.iter();
        let asked = gateway.issuers.iter().filter(|it| it.pod_facts.is_some());
        Self {
            proven: Some(Proven {
                clusters: clusters.collect(),
                trust_domains: domains.map(|domain| domain.name.clone()).collect(),
                asks_for_certificates: gateway.listeners.iter().any(asks_for_certificates),
                has_vault: gateway.vault.is_some(),
                asks_about_pods: asked.map(|issuer| issuer.name.clone()).collect(),
            }),
            governance: gateway.governance.clone(),
            ..self
        }
    }
}

fn asks_for_certificates(listener: &Listener) -> bool {
    let tls = listener.tls.as_ref();
    tls.is_some_and(|tls| tls.client_trust == ClientTrust::Spiffe)
}
