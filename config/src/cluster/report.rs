//! What became of the objects, for those who wrote them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Accepted, Key, Verdict};
use crate::{
    model::{Mode, ResourceName},
    policy::PolicySet,
    resource::Kind,
};

/// What a gateway makes of a cluster's objects.
#[derive(Debug, Default)]
pub struct Report {
    /// By kind, namespace and name.
    pub verdicts: Vec<Verdict>,
    /// What is in force.
    pub in_force: Accepted,
    /// What each workload may reach, by target and policy.
    pub access: BTreeMap<Key, Vec<Access>>,
    /// The names of the credentials that each policy uses.
    pub credentials: BTreeMap<Key, Vec<String>>,
}

/// Whether a credential can be used, as a gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialStanding {
    /// The credential's name, with its namespace.
    pub name: String,
    /// Whether it can; `None` if no request has needed it yet.
    pub ready: Option<bool>,
    /// One word.
    pub reason: &'static str,
    /// A sentence; never a value.
    pub message: String,
}

/// When something was used last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Used {
    /// What.
    pub key: Key,
    /// The beginning of the hour.
    pub hour: Timestamp,
}

/// What a policy lets a workload reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    /// The name of the target.
    pub target: String,
    /// The name of the policy, without its namespace if that is the workload's.
    pub policy: String,
    /// Whether the policy is enforced.
    pub mode: Mode,
}

impl Report {
    /// What became of the objects in a revision.
    pub fn new(verdicts: Vec<Verdict>, in_force: Accepted, policies: &PolicySet) -> Self {
        let mut access: BTreeMap<Key, Vec<Access>> = BTreeMap::new();
        let mut credentials: BTreeMap<Key, Vec<String>> = BTreeMap::new();
        for policy in policies.policies() {
            for workload in &policy.workloads {
                let is_own = policy.name.namespace() == workload.name.namespace();
                let name = if is_own {
                    policy.name.name()
                } else {
                    policy.name.as_str()
                };
                let granted = Access {
                    target: policy.target.name.to_string(),
                    policy: name.to_owned(),
                    mode: policy.mode,
                };
                let workload = Key::of(Kind::Workload, &workload.name);
                access.entry(workload).or_default().push(granted);
            }
            let used = policy.credentials.iter();
            let used = used.map(|(_, credential)| credential.name.to_string());
            let key = Key::of(Kind::AccessPolicy, &policy.name);
            credentials.insert(key, used.collect());
        }
        for granted in access.values_mut() {
            granted.sort();
        }
        Self {
            verdicts,
            in_force,
            access,
            credentials,
        }
    }
}

impl Key {
    /// The object of a resource's name.
    pub fn of(kind: Kind, name: &ResourceName) -> Self {
        Self {
            kind,
            namespace: name.namespace().unwrap_or_default().to_owned(),
            name: name.name().to_owned(),
        }
    }
}
