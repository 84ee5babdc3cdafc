//! What is nearest to a host that no target with a policy has.

use std::sync::Arc;

use super::PolicySet;
use crate::{
    host::{Host, HostPattern},
    model::Target,
    yaml::closest,
};

/// The most hosts that are compared: a refusal must be cheap.
const COMPARED: usize = 1_000;

impl PolicySet {
    /// A clause for the operator about the target that has this host after all, or one that is like it; empty if
    /// there is none.
    pub fn nearest_host(&self, host: &Host, port: u16) -> String {
        if let Some(target) = self.governing_target(host) {
            let ports: Vec<_> = target.ports.iter().map(ToString::to_string).collect();
            return format!(
                ": the target {} has this host at the ports {}, and not at {port}",
                target.name,
                ports.join(", ")
            );
        }
        let has = |target: &&Arc<Target>| target.hosts.iter().any(|known| known.matches(host));
        if let Some(target) = self.targets.iter().find(has) {
            return format!(
                ": the target {} has it, and no AccessPolicy uses that target",
                target.name
            );
        }
        let Some(written) = host.name() else {
            return String::new();
        };
        let known = || self.hosts().take(COMPARED);
        let names: Vec<_> = known().map(|(pattern, _)| pattern.to_string()).collect();
        let alike = closest(written, names.iter().map(String::as_str));
        let alike = alike.and_then(|name| names.iter().position(|known| known == name));
        let nearest = alike.or_else(|| {
            let domains = names.iter().map(|name| common_labels(name, written));
            let (index, common) = domains
                .enumerate()
                .max_by_key(|(index, common)| (*common, std::cmp::Reverse(*index)))?;
            // All hosts have a top-level domain in common with others.
            (common > 1).then_some(index)
        });
        let nearest = nearest.and_then(|index| known().nth(index));
        nearest.map_or_else(String::new, |(pattern, target)| {
            format!(": the nearest is {pattern} of the target {}", target.name)
        })
    }

    fn hosts(&self) -> impl Iterator<Item = (&HostPattern, &Arc<Target>)> {
        self.targets
            .iter()
            .flat_map(|target| target.hosts.iter().map(move |pattern| (pattern, target)))
    }
}

/// How many labels two names have in common at their ends.
fn common_labels(one: &str, other: &str) -> usize {
    let labels = one.rsplit('.').zip(other.rsplit('.'));
    labels.take_while(|(one, other)| one == other).count()
}
