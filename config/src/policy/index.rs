//! One revision of all resources, indexed so that a decision reads only what can matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use foldhash::HashMap;
use http::uri::PathAndQuery;

use super::{
    PolicySet, probes,
    recognise::{SelectorIndex, number},
};
use crate::{
    host::{Host, HostPattern},
    model::{Credential, Policy, ResourceName, Target, Workload},
    pace::yield_core_at,
    path::{CanonicalPath, EncodedSlash, PathProblem},
};

/// Validated resources, the input of a [`PolicySet`].
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// All workloads.
    pub workloads: Vec<Arc<Workload>>,
    /// All targets, including those that no policy uses.
    pub targets: Vec<Arc<Target>>,
    /// All credentials.
    pub credentials: Vec<Arc<Credential>>,
    /// All policies.
    pub policies: Vec<Arc<Policy>>,
    /// A short stable hash of the resources' text.
    pub revision: String,
}

/// The governed target of a host and port.
#[derive(Clone, Copy)]
pub(super) struct GovernedTarget<'s> {
    pub index: u32,
    pub target: &'s Arc<Target>,
    /// Whether the target names the host exactly, not by a wildcard.
    pub exact: bool,
}

impl PolicySet {
    /// Indexes validated resources.
    pub fn compile(resources: Resources) -> Self {
        let Resources {
            workloads,
            targets,
            credentials,
            policies,
            revision,
        } = resources;
        let policies = by_name(policies, |policy| &policy.name);
        // Resources that a policy refers to count even if they are missing from the list.
        let referred = policies.iter().flat_map(|policy| policy.workloads.clone());
        let workloads = by_name(workloads.into_iter().chain(referred), |workload| {
            &workload.name
        });
        let governed = by_name(
            policies.iter().map(|policy| policy.target.clone()),
            |target| &target.name,
        );
        let (exact_hosts, wildcard_hosts) = index_hosts(&governed);
        Self {
            revision: revision.into(),
            grants: index_grants(&policies, &workloads, &governed),
            selectors: SelectorIndex::new(&workloads),
            probes: probes::index(&policies),
            workloads,
            targets: by_name(targets, |target| &target.name),
            credentials: by_name(credentials, |credential| &credential.name),
            policies,
            governed,
            exact_hosts,
            wildcard_hosts,
        }
    }

    /// Frees it in short steps, so that requests can have the core in between.
    pub fn free(self) {
        drop((self.probes, self.grants));
        free_in_steps(self.policies);
        free_in_steps(self.workloads);
        free_in_steps(self.credentials);
    }

    /// A short stable hash of the resources' text.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The target of this host and port, if some policy uses it.
    pub fn target(&self, host: &Host, port: u16) -> Option<&Arc<Target>> {
        self.find(host, port).map(|found| found.target)
    }

    /// The decrypted target that names this host, and not only a wildcard that it matches, if some policy uses
    /// it.
    pub fn exact_target(&self, host: &Host, port: u16) -> Option<&Arc<Target>> {
        let found = self.find(host, port)?;
        (found.exact && found.target.intercept).then_some(found.target)
    }

    /// Checks the path of a request for this host and port: with encoded slashes, if its target keeps them.
    ///
    /// # Errors
    /// When it is not canonical.
    pub fn path(
        &self,
        host: &Host,
        port: u16,
        path: &PathAndQuery,
    ) -> Result<CanonicalPath, PathProblem> {
        match CanonicalPath::check(path) {
            Err(problem) if problem.is_encoded_slash() => {
                let target = self.target(host, port);
                let slashes = target.map_or(EncodedSlash::Refuse, |target| target.encoded_slash);
                CanonicalPath::check_with(path, slashes)
            }
            result => result,
        }
    }

    /// A target with this host, at any port, that some policy uses.
    pub fn governing_target(&self, host: &Host) -> Option<&Arc<Target>> {
        let (index, _) = self.indices(host).next()?;
        Some(&self.governed[index as usize])
    }

    /// All hosts that may be intercepted: those of targets that some policy uses.
    pub fn intercepted_hosts(&self) -> impl Iterator<Item = &HostPattern> {
        let decrypted = self.governed.iter().filter(|target| target.intercept);
        decrypted.flat_map(|target| &target.hosts)
    }

    /// The namespaces in which a selector asks about pods: of this cluster, or of any.
    pub fn namespaces_asked_about(&self, cluster: &str) -> BTreeSet<String> {
        let selectors = self
            .workloads
            .iter()
            .flat_map(|workload| &workload.selectors);
        let of_cluster = selectors.filter(|selector| {
            let named = selector.cluster.as_deref();
            selector.asks_about_pods() && named.is_none_or(|named| named == cluster)
        });
        of_cluster
            .filter_map(|selector| selector.namespace.clone())
            .collect()
    }

    /// All workloads, by name.
    pub fn workloads(&self) -> &[Arc<Workload>] {
        &self.workloads
    }

    /// All targets, including those that no policy uses, by name.
    pub fn targets(&self) -> &[Arc<Target>] {
        &self.targets
    }

    /// All policies, by name.
    pub fn policies(&self) -> &[Arc<Policy>] {
        &self.policies
    }

    /// All credentials, by name.
    pub fn credentials(&self) -> &[Arc<Credential>] {
        &self.credentials
    }

    pub(super) fn find(&self, host: &Host, port: u16) -> Option<GovernedTarget<'_>> {
        self.indices(host)
            .map(|(index, exact)| GovernedTarget {
                index,
                target: &self.governed[index as usize],
                exact,
            })
            .find(|found| found.target.ports.contains(&port))
    }

    /// The targets with this host, and whether they name it exactly; those that do come first.
    fn indices(&self, host: &Host) -> impl Iterator<Item = (u32, bool)> {
        let exact = self.exact_hosts.get(host).into_iter().flatten();
        let suffix = host.name().and_then(|name| name.split_once('.'));
        let wildcards = suffix.and_then(|(_, suffix)| self.wildcard_hosts.get(suffix));
        let matching = wildcards
            .into_iter()
            .flatten()
            .filter(move |(pattern, _)| pattern.matches(host));
        exact
            .map(|index| (*index, true))
            .chain(matching.map(|(_, index)| (*index, false)))
    }

    /// The policies for a workload and a governed target, by name.
    pub(super) fn grants(
        &self,
        workload: u32,
        target: u32,
    ) -> impl Iterator<Item = &Arc<Policy>> + Clone {
        self.grants
            .get(&(workload, target))
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|index| &self.policies[*index as usize])
    }
}

fn free_in_steps<T>(items: Vec<Arc<T>>) {
    for (index, item) in items.into_iter().enumerate() {
        yield_core_at(index);
        drop(item);
    }
}

/// Sorted by name. Validation excludes duplicates; if there is one, the first counts.
fn by_name<T>(
    items: impl IntoIterator<Item = Arc<T>>,
    name: impl Fn(&T) -> &ResourceName,
) -> Vec<Arc<T>> {
    let mut sorted = BTreeMap::new();
    for (index, item) in items.into_iter().enumerate() {
        yield_core_at(index);
        sorted.entry(name(&item).clone()).or_insert(item);
    }
    sorted.into_values().collect()
}

type HostIndex = (
    HashMap<Host, Vec<u32>>,
    HashMap<Box<str>, Vec<(HostPattern, u32)>>,
);

fn index_hosts(governed: &[Arc<Target>]) -> HostIndex {
    let mut exact: HashMap<Host, Vec<u32>> = HashMap::default();
    let mut wildcards: HashMap<Box<str>, Vec<_>> = HashMap::default();
    for (index, target) in governed.iter().enumerate() {
        for pattern in &target.hosts {
            match (pattern.exact(), pattern.suffix()) {
                (Some(host), _) => {
                    exact.entry(host.clone()).or_default().push(number(index));
                }
                (None, suffix) => wildcards
                    .entry(suffix.unwrap_or_default().into())
                    .or_default()
                    .push((pattern.clone(), number(index))),
            }
        }
    }
    (exact, wildcards)
}

fn index_grants(
    policies: &[Arc<Policy>],
    workloads: &[Arc<Workload>],
    governed: &[Arc<Target>],
) -> HashMap<(u32, u32), Vec<u32>> {
    let workload_numbers: HashMap<&ResourceName, u32> = numbers(workloads, |w| &w.name);
    let target_numbers: HashMap<&ResourceName, u32> = numbers(governed, |t| &t.name);
    let mut grants: HashMap<_, Vec<u32>> = HashMap::default();
    for (index, policy) in policies.iter().enumerate() {
        yield_core_at(index);
        let target = target_numbers[&policy.target.name];
        for workload in &policy.workloads {
            let granted = grants
                .entry((workload_numbers[&workload.name], target))
                .or_default();
            // A policy may name a workload twice.
            if granted.last() != Some(&number(index)) {
                granted.push(number(index));
            }
        }
    }
    grants
}

fn numbers<'i, T>(
    items: &'i [Arc<T>],
    name: impl Fn(&'i T) -> &'i ResourceName,
) -> HashMap<&'i ResourceName, u32> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| (name(item), number(index)))
        .collect()
}
