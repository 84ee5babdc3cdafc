//! Why something is not permitted.

use std::{sync::Arc, time::Duration};

use countersign_config::{
    model::{Target, Workload},
    policy::{Denial, Nearest, PolicySet},
};
use countersign_core::{destination::Authority, reason::Reason};

use crate::reason;

/// Why something is not permitted.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Denied {
    /// The reason in answers and records.
    pub reason: Reason,
    /// A sentence with details for the operator; contains no secret.
    pub detail: String,
    /// For a policy miss, the rule that came nearest.
    pub nearest: Option<Nearest>,
    /// The caller's workload, if policy got that far.
    pub workload: Option<Arc<Workload>>,
    /// The target that was asked for, where there is one.
    pub target: Option<Arc<Target>>,
    /// When a retry may succeed.
    pub retry_after: Option<Duration>,
}

impl Denied {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            nearest: None,
            workload: None,
            target: None,
            retry_after: None,
        }
    }

    fn at(mut self, target: &Arc<Target>) -> Self {
        self.target = Some(Arc::clone(target));
        self
    }

    /// No target with a policy has the host.
    pub(crate) fn unmatched(policies: &PolicySet, authority: &Authority) -> Self {
        let (host, port) = (authority.host(), authority.port());
        let nearest = policies.nearest_host(host, port);
        let detail = format!("{authority} belongs to no target that a policy uses{nearest}");
        Self::new(Reason::HostUnmatched, detail)
    }

    /// A request in clear to a governed host.
    pub(crate) fn plaintext(authority: &Authority, target: &Arc<Target>) -> Self {
        let detail = format!("{authority} gets a credential, which never travels in clear");
        Self::new(Reason::PlaintextRefused, detail).at(target)
    }

    /// A governed host at a port that its target does not have.
    pub(crate) fn other_port(authority: &Authority, target: &Arc<Target>) -> Self {
        let (host, port) = (authority.host(), authority.port());
        let detail = format!(
            "{host} belongs to the target {}, which does not have the port {port}",
            target.name
        );
        Self::new(Reason::GovernedElsewhere, detail).at(target)
    }

    /// A tunnel to a host whose target is decrypted since the policy changed.
    pub(crate) fn not_carried(authority: &Authority, target: &Target) -> Self {
        let detail = format!(
            "{authority} now belongs to the target {}, and is not carried unread",
            target.name
        );
        Self::new(Reason::AccessChanged, detail)
    }

    /// A request that is not within a tunnel, to a target that is not decrypted.
    pub(crate) fn tunnel_only(authority: &Authority, target: &Arc<Target>) -> Self {
        let detail = format!(
            "{authority} belongs to the target {}, which is not decrypted: it is reached by CONNECT alone",
            target.name
        );
        Self::new(Reason::TunnelOnly, detail).at(target)
    }
}

impl From<Denial> for Denied {
    fn from(denial: Denial) -> Self {
        Self {
            reason: reason::reason(denial.reason),
            detail: denial.sentence_for_operator(),
            nearest: denial.nearest,
            workload: denial.workload,
            target: Some(denial.target),
            retry_after: None,
        }
    }
}
