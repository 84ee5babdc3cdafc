//! The names of what trust reads and writes in a cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The Secret with the roots and their keys, in the controller's namespace. The controller alone reads it.
pub const ROOTS_SECRET: &str = "countersign-trust";
/// The Secret with the webhook's certificate and key, in the controller's namespace.
pub const WEBHOOK_SECRET: &str = "countersign-webhook";
/// The `ConfigMap` with the public state, in the controller's namespace.
pub const STATE_CONFIG_MAP: &str = "countersign-trust";
/// The key of the public state in its `ConfigMap`, JSON.
pub const STATE_KEY: &str = "state.json";
/// The Lease of the controller that leads.
pub const LEASE: &str = "countersign-controller";
/// Who signs gateways' intermediates.
pub const INTERCEPTION_SIGNER: &str = "countersign.dev/interception";
/// Who signs gateways' serving certificates.
pub const GATEWAY_SIGNER: &str = "countersign.dev/gateway";
/// The `ClusterTrustBundle` with the interception roots.
pub const CLUSTER_TRUST_BUNDLE: &str = "countersign.dev:interception:roots";
/// The annotation by which an operator asks for a step of a rotation: authority, step, whether it is forced, and a word
/// by which the answer is found.
pub const ROTATE: &str = "countersign.dev/rotate";
/// The annotation with the time at which something was published.
pub const PUBLISHED_AT: &str = "countersign.dev/published-at";
/// The annotation with the fingerprints of the roots that were published.
pub const ROOTS: &str = "countersign.dev/roots";
/// The label of what the controller writes, and its value.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "countersign-controller");
/// The name under which the controller owns the fields that it writes.
pub const FIELD_MANAGER: &str = "countersign-controller";
/// The annotation with the pod that asks: for people, and for API servers that do not say it themselves.
pub const POD: &str = "countersign.dev/gateway-pod";

/// Which of the two authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthorityName {
    /// Apps trust it.
    Interception,
    /// Relays and the API server trust it.
    Gateways,
}

impl AuthorityName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Interception, Self::Gateways];

    /// Its name in the Secret, in the public state and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interception => "interception",
            Self::Gateways => "gateways",
        }
    }

    /// What the common name of its root begins with.
    pub(super) const fn common_name(self) -> &'static str {
        match self {
            Self::Interception => "Countersign root",
            Self::Gateways => "Countersign gateways",
        }
    }
}

impl fmt::Display for AuthorityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
