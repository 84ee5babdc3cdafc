//! May this caller make this request now. The only maker of a [`Permit`].

mod again;
mod rates;
mod snapshot;
mod unread;

pub use again::Asked;
pub use rates::Rates;
pub use snapshot::{Recognition, Snapshot, Snapshots};
pub use unread::tunnel;

use std::sync::Arc;

use countersign_config::{
    model::{Attach, Credential, Route, Target},
    policy::{Decision, Denial, DenyReason, Grant, RequestFacts},
};
use countersign_core::{destination::Authority, reason::Reason};
use countersign_identity::Caller;
use countersign_upstream::forward::Outbound;
use jiff::Timestamp;

use crate::{accept::Received, refusal::Refusal};

/// Proof that policy permits one request: where it may go, and with which credential. Its fields
/// are private and `authorize` is its only maker, so that nothing is sent without it.
///
/// ```compile_fail,E0451
/// use countersign_gateway::authorize::Permit;
///
/// fn lenient<'s>(permit: Permit<'s>) -> Permit<'s> {
///     Permit { would_refuse: None, ..permit }
/// }
/// ```
#[derive(Debug)]
pub struct Permit<'s> {
    grant: Grant<'s>,
    would_refuse: Option<Reason>,
    outbound: Outbound,
}

impl<'s> Permit<'s> {
    /// What policy granted.
    pub fn grant(&self) -> &Grant<'s> {
        &self.grant
    }

    /// What the policy would have refused the request for if it did not only observe.
    pub fn would_refuse(&self) -> Option<Reason> {
        self.would_refuse
    }

    /// The route the request takes through the target.
    pub fn route(&self) -> &'s Route {
        self.grant.route()
    }

    /// The credential to attach and its place; `None` sends none.
    pub fn credential(&self) -> Option<(&'s Attach, &'s Arc<Credential>)> {
        self.grant.credential()
    }

    /// The request's right to leave: where it goes, in whose name and with which credential.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// Where the request goes.
    pub fn authority(&self) -> &Authority {
        self.outbound.authority()
    }
}

/// Decides about one request.
///
/// # Errors
/// When policy does not permit it, with the nearest miss.
pub fn authorize<'s>(
    snapshot: &'s Snapshot,
    recognition: &Recognition,
    caller: &Caller,
    received: &Received,
    now: Timestamp,
) -> Result<Permit<'s>, Refusal> {
    let authority = received.authority();
    let facts = RequestFacts {
        host: authority.host(),
        port: authority.port(),
        method: received.method(),
        path: received.path(),
    };
    let permit = permit(snapshot, recognition, caller, authority, &facts, now)?;
    if permit.grant.target().intercept {
        Ok(permit)
    } else {
        Err(unread::only_a_tunnel(authority, permit.grant.target()))
    }
}

fn permit<'s>(
    snapshot: &'s Snapshot,
    recognition: &Recognition,
    caller: &Caller,
    authority: &Authority,
    facts: &RequestFacts<'_>,
    now: Timestamp,
) -> Result<Permit<'s>, Refusal> {
    let decision = snapshot
        .policies()
        .decide(recognition.workloads(), caller.facts(), facts, now);
    let grant = match decision {
        Decision::Permit(grant) => grant,
        Decision::Deny(denial) => return Err(denial.into()),
        Decision::Unmatched => return Err(unmatched(authority)),
    };
    let over_rate = snapshot.rates().take(&grant)?;
    let outbound = Outbound::granted(&grant, authority, caller.key());
    Ok(Permit {
        grant,
        would_refuse: grant.would_deny().map(reason).or(over_rate),
        outbound,
    })
}

/// The refusal of a host that no target with a policy has.
pub fn unmatched(authority: &Authority) -> Refusal {
    Refusal::new(
        Reason::HostUnmatched,
        format!("{authority} belongs to no target that a policy uses"),
    )
}

/// The refusal of a governed host at a port that its target does not have.
pub fn other_port(authority: &Authority, target: &Target) -> Refusal {
    Refusal::new(
        Reason::GovernedElsewhere,
        format!(
            "{} belongs to the target {}, which does not have the port {}",
            authority.host(),
            target.name,
            authority.port()
        ),
    )
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self {
            reason: reason(denial.reason),
            detail: denial.sentence_for_operator(),
            nearest: denial.nearest,
            workload: denial.workload,
            target: Some(denial.target),
            retry_after: None,
        }
    }
}

/// Policy's reasons by their names in answers and records.
pub fn reason(reason: DenyReason) -> Reason {
    match reason {
        DenyReason::WorkloadUnknown => Reason::WorkloadUnknown,
        DenyReason::TargetNotGranted => Reason::TargetNotGranted,
        DenyReason::RequestNotAllowed => Reason::RequestNotAllowed,
        DenyReason::OutsideSchedule => Reason::OutsideSchedule,
        DenyReason::PolicyExpired => Reason::PolicyExpired,
        DenyReason::ConditionFalse => Reason::ConditionFalse,
        DenyReason::ConditionError => Reason::ConditionError,
        DenyReason::PathDenied => Reason::PathDenied,
        DenyReason::NoRoute => Reason::NoRoute,
        DenyReason::SlotNotGranted => Reason::SlotNotGranted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_and_answers_call_a_reason_by_one_name() {
        for denied in DenyReason::ALL {
            assert_eq!(denied.as_str(), reason(denied).facts().code);
        }
    }
}
