//! The decision: may this caller make this request now. No I/O, no clock, no allocation on the
//! permitted path.

use std::{collections::BTreeMap, sync::Arc};

use http::Method;
use jiff::Timestamp;
use smallvec::SmallVec;

use crate::{
    host::Host,
    model::{Attach, Credential, Mode, Policy, Route, Target, Workload},
    path::CanonicalPath,
};

/// What is known of a caller, all of it proven.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerFacts {
    /// The name of the issuer that vouched for its token.
    pub cluster: Option<Arc<str>>,
    /// Its service account's namespace.
    pub namespace: Option<Arc<str>>,
    /// Its service account.
    pub service_account: Option<Arc<str>>,
    /// Its SPIFFE ID.
    pub spiffe_id: Option<Arc<str>>,
    /// Its pod's name.
    pub pod: Option<Arc<str>>,
    /// What the Kubernetes API says of its pod; `None` when it was not asked.
    pub kubernetes: Option<Arc<PodFacts>>,
}

/// What the Kubernetes API says of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its container images, by digest.
    pub images: Vec<String>,
    /// The node it runs on.
    pub node: Option<String>,
    /// The Job that owns it.
    pub job: Option<String>,
    /// The `CronJob` that owns that Job.
    pub cron_job: Option<String>,
}

/// What is decided about.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The canonical host.
    pub host: &'a Host,
    /// The port.
    pub port: u16,
    /// The method.
    pub method: &'a Method,
    /// The path, proven canonical, and the query.
    pub path: &'a CanonicalPath,
}

/// One revision of all resources, compiled and indexed. Immutable.
#[derive(Debug)]
pub struct PolicySet(());

/// The workloads a caller was recognised as, in one revision. Made once a connection and
/// revision, so that decisions need not match selectors again.
#[derive(Debug, Clone)]
pub struct Recognised {
    #[expect(dead_code, reason = "filled in with the policy set")]
    workloads: SmallVec<[u32; 4]>,
}

/// What may be done with a connection to a host, before any request was seen.
#[derive(Debug, Clone)]
pub enum Interception {
    /// Decrypt: the host is governed, and requests will be decided one by one.
    Intercept(Arc<Target>),
    /// No target with a policy has this host and port.
    Unmatched,
    /// The host matches only by a wildcard, and nothing is granted there to this caller, so that
    /// no certificate is made for it.
    Refuse(Denial),
}

/// The answer to one request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// It may go.
    Permit(Grant<'s>),
    /// It may not.
    Deny(Denial),
    /// No target with a policy has this host and port.
    Unmatched,
}

/// Why and how a request may go.
#[derive(Debug, Clone, Copy)]
pub struct Grant<'s> {
    /// The workload in whose name.
    pub workload: &'s Arc<Workload>,
    /// The policy that permits it (or observes it).
    pub policy: &'s Arc<Policy>,
    /// The index of the allow rule that matched; `None` if an observing policy let it through.
    pub rule: Option<usize>,
    /// What an enforced policy would have refused it for; only with [`Mode::Observe`].
    pub would_deny: Option<DenyReason>,
    /// The target.
    pub target: &'s Arc<Target>,
    /// The target's route, already checked not to be a denied one.
    pub route: &'s Route,
    /// The credential to attach and where; `None` sends none.
    pub credential: Option<(&'s Attach, &'s Arc<Credential>)>,
}

impl Grant<'_> {
    /// The mode of the policy.
    pub fn mode(&self) -> Mode {
        self.policy.mode
    }
}

/// Why a request may not go. Each is stable: it is in records, metrics and answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DenyReason {
    /// The caller is no known workload.
    WorkloadUnknown,
    /// No policy grants the workload this target.
    TargetNotGranted,
    /// A policy grants the target, but no rule this request.
    RequestNotAllowed,
    /// A rule matched outside of the policy's schedule.
    OutsideSchedule,
    /// A rule matched after the policy's `notAfter`.
    PolicyExpired,
    /// A rule matched and `when` was false.
    ConditionFalse,
    /// A rule matched and `when` could not be evaluated.
    ConditionError,
    /// The target denies this path to every workload.
    PathDenied,
    /// The target has no route for this request.
    NoRoute,
    /// The route needs a slot that the policy fills with no credential.
    SlotNotGranted,
}

/// A refusal by policy, with the nearest miss.
#[derive(Debug, Clone)]
pub struct Denial {
    /// Why.
    pub reason: DenyReason,
    /// The workload the caller was recognised as, if any.
    pub workload: Option<Arc<Workload>>,
    /// The target.
    pub target: Arc<Target>,
    /// The rule that came nearest, if any policy speaks of this workload and target.
    pub nearest: Option<Nearest>,
}

/// The rule that came nearest to permitting, and what kept it from it.
#[derive(Debug, Clone)]
pub struct Nearest {
    /// Its policy.
    pub policy: Arc<Policy>,
    /// Its index; `None` if the policy as a whole did not apply.
    pub rule: Option<usize>,
    /// What did not match; never empty.
    pub mismatches: Vec<Mismatch>,
}

/// One thing that did not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The key in the resource: `methods`, `paths`, `hosts`, `schedule`, `notAfter`, `when`...
    pub what: &'static str,
    /// What the policy wants.
    pub expected: String,
    /// What the request has. The query's values are not shown.
    pub actual: String,
}

impl PolicySet {
    /// A short stable hash of the resources' text.
    pub fn revision(&self) -> &str {
        unimplemented!()
    }

    /// The target that has this host and port and that some policy uses.
    pub fn target(&self, _host: &Host, _port: u16) -> Option<&Arc<Target>> {
        unimplemented!()
    }

    /// Which workloads this caller is.
    pub fn recognise(&self, _caller: &CallerFacts) -> Recognised {
        unimplemented!()
    }

    /// Whether a connection to `host` may be decrypted for this caller.
    pub fn interception(&self, _who: &Recognised, _host: &Host, _port: u16) -> Interception {
        unimplemented!()
    }

    /// The decision for one request. Rates are not counted here: the caller of this function
    /// holds the counters.
    pub fn decide(
        &self,
        _who: &Recognised,
        _caller: &CallerFacts,
        _request: &RequestFacts<'_>,
        _now: Timestamp,
    ) -> Decision<'_> {
        unimplemented!()
    }

    /// All hosts that may be intercepted: those of targets that some policy uses.
    pub fn governed_hosts(&self) -> impl Iterator<Item = &crate::host::HostPattern> {
        std::iter::empty()
    }

    /// All workloads.
    pub fn workloads(&self) -> &[Arc<Workload>] {
        unimplemented!()
    }

    /// All policies.
    pub fn policies(&self) -> &[Arc<Policy>] {
        unimplemented!()
    }

    /// All credentials.
    pub fn credentials(&self) -> &[Arc<Credential>] {
        unimplemented!()
    }
}
