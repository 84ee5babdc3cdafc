//! One revision, indexed for comparing it with another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use countersign_config::{
    condition::Condition,
    model::{Policy, ResourceName, Target},
    policy::PolicySet,
};

use super::{callers::Selectors, effect::rate};
use crate::space::times::Window;

/// A workload's policies for one target, in the order of their names.
pub(crate) type Grants<'p> = Vec<&'p Arc<Policy>>;

/// One revision, indexed.
#[derive(Debug)]
pub(crate) struct Revision<'p> {
    pub(crate) policies: &'p PolicySet,
    /// By workload, then by target.
    grants: BTreeMap<&'p ResourceName, BTreeMap<&'p ResourceName, Grants<'p>>>,
    /// The targets that some policy uses.
    governed: BTreeMap<&'p ResourceName, &'p Arc<Target>>,
    /// What each policy says, to compare.
    texts: BTreeMap<&'p ResourceName, String>,
    /// Each workload that a selector is of, by the selector's number.
    workloads: BTreeMap<u32, BTreeSet<&'p ResourceName>>,
}

impl<'p> Revision<'p> {
    pub(crate) fn new(policies: &'p PolicySet, selectors: &Selectors) -> Self {
        let mut grants: BTreeMap<_, BTreeMap<_, Grants<'p>>> = BTreeMap::new();
        for policy in policies.policies() {
            let named: BTreeSet<_> = policy
                .workloads
                .iter()
                .map(|workload| &workload.name)
                .collect();
            for workload in named {
                let own = grants.entry(workload).or_default();
                own.entry(&policy.target.name).or_default().push(policy);
            }
        }
        let mut workloads: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
        for workload in policies.workloads() {
            for number in selectors.numbers(workload) {
                workloads.entry(number).or_default().insert(&workload.name);
            }
        }
        let all = policies.policies().iter();
        Self {
            policies,
            grants,
            governed: all
                .clone()
                .map(|policy| (&policy.target.name, &policy.target))
                .collect(),
            texts: all
                .map(|policy| (&policy.name, policy_text(policy)))
                .collect(),
            workloads,
        }
    }

    /// The workloads of callers that match these selectors, by name.
    pub(crate) fn workloads(&self, selectors: &[u32]) -> Vec<&'p ResourceName> {
        let named = selectors
            .iter()
            .filter_map(|number| self.workloads.get(number));
        named
            .flatten()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The policies of some workloads for a target, in the order in which they are asked.
    pub(crate) fn candidates(
        &self,
        workloads: &[&ResourceName],
        target: &ResourceName,
    ) -> Grants<'p> {
        let own = workloads
            .iter()
            .filter_map(|workload| self.grants.get(*workload)?.get(target));
        own.flatten().copied().collect()
    }

    /// The targets for which some workloads have policies.
    pub(crate) fn targets(&self, workloads: &[&ResourceName]) -> BTreeSet<&'p ResourceName> {
        let own = workloads
            .iter()
            .filter_map(|workload| self.grants.get(*workload));
        own.flat_map(|targets| targets.keys().copied()).collect()
    }

    /// What the policies say, to compare.
    pub(crate) fn texts(&self, policies: &Grants<'_>) -> Vec<&str> {
        policies
            .iter()
            .map(|policy| self.texts[&policy.name].as_str())
            .collect()
    }

    pub(crate) fn governed(&self, target: &ResourceName) -> Option<&'p Arc<Target>> {
        self.governed.get(target).copied()
    }
}

/// The targets that are not the same in both, or governed in one only.
pub(crate) fn changed_targets<'p>(
    old: &Revision<'p>,
    new: &Revision<'p>,
) -> BTreeSet<&'p ResourceName> {
    let all: BTreeSet<_> = old
        .governed
        .keys()
        .chain(new.governed.keys())
        .copied()
        .collect();
    let text =
        |revision: &Revision<'p>, name| revision.governed(name).map(|target| target_text(target));
    all.into_iter()
        .filter(|name| text(old, name) != text(new, name))
        .collect()
}

/// Everything in a policy that bears on what it permits.
fn policy_text(policy: &Policy) -> String {
    let mut text = format!("{:?} {}", policy.mode, policy.target.name);
    for (slot, credential) in &policy.credentials {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "\n{slot} {} {:?} {}",
            credential.name, credential.provider, credential.target
        );
    }
    for rule in &policy.allow {
        let hosts: Vec<String> = rule.hosts.iter().map(ToString::to_string).collect();
        let _ = write!(
            text,
            "\n{hosts:?} {:?} {:?}",
            rule.methods,
            rule.paths.written()
        );
    }
    let conditions = &policy.conditions;
    let window = Window::of(conditions).map(|window| window.key());
    let when = conditions.when.as_ref().map(Condition::written);
    let _ = write!(
        text,
        "\n{window:?} {when:?} {:?}",
        conditions.rate.map(rate)
    );
    text
}

/// Everything in a target that bears on what is permitted at it.
fn target_text(target: &Target) -> String {
    let hosts: Vec<String> = target.hosts.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "{hosts:?} {:?} {} {:?}",
        target.ports, target.intercept, target.encoded_slash
    );
    for route in &target.routes {
        let host = route.host.as_ref().map(ToString::to_string);
        let attach = route
            .attach
            .as_ref()
            .map(|attach| (&attach.slot, &attach.place));
        let _ = write!(
            text,
            "\n{host:?} {:?} {} {attach:?}",
            route.paths.written(),
            route.deny.is_some()
        );
    }
    text
}
