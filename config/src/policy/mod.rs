//! The decision: may this caller make this request now. No I/O, no clock, no allocation on the
//! permitted path.
//!
//! A request is decided in this order; the first that applies is the result:
//!
//! 1. No governed target has the host and port: [`Decision::Unmatched`].
//! 2. The caller matches no workload: [`DenyReason::WorkloadUnknown`].
//! 3. The target's first route for the request denies it ([`DenyReason::PathDenied`]), or there
//!    is none ([`DenyReason::NoRoute`]). No policy and no mode changes this.
//! 4. Of the policies for the caller's workloads and the target, in the order of the workloads'
//!    and then the policies' names: the first enforcing one that permits; otherwise the first
//!    observing one that would permit; otherwise the first observing one, which lets the request
//!    through and says why it would have refused.
//! 5. A denial, explained by the rule that came closest.
//!
//! A policy without a credential for the slot that the route needs never permits, whatever its
//! mode: there is nothing to send.

mod answer;
mod decide;
mod explain;
mod index;
mod near_host;
mod nearest;
mod parts;
mod probes;
mod recognise;
mod sentence;
#[cfg(test)]
mod tests;

pub use crate::facts::{CallerFacts, PodFacts, RequestFacts};
pub use answer::{
    Decision, Denial, DenyReason, Grant, Interception, Mismatch, Nearest, NearestRoute,
    NearestSelector,
};
pub use explain::Explanation;
pub use index::Resources;
pub use recognise::Recognised;

use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    host::{Host, HostPattern},
    model::{Credential, Policy, Target, Workload},
};
use probes::Probes;
use recognise::SelectorIndex;

/// One revision of all resources, compiled and indexed. Immutable.
#[derive(Debug)]
pub struct PolicySet {
    revision: Arc<str>,
    /// Each list is sorted by name, so that decisions do not depend on the order of files.
    workloads: Vec<Arc<Workload>>,
    targets: Vec<Arc<Target>>,
    credentials: Vec<Arc<Credential>>,
    policies: Vec<Arc<Policy>>,
    /// The targets that some policy uses.
    governed: Vec<Arc<Target>>,
    /// One host may belong to several, at different ports.
    exact_hosts: HashMap<Host, Vec<u32>>,
    /// By the part after the wildcard's label.
    wildcard_hosts: HashMap<Box<str>, Vec<(HostPattern, u32)>>,
    selectors: SelectorIndex,
    /// (workload, governed target) to policies, by index, in the order of their names.
    grants: HashMap<(u32, u32), Vec<u32>>,
    probes: Probes,
}
