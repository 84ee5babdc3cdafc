//! Which target has which host. Each host belongs to one target at a port; otherwise it would be
//! undefined which credential goes there.

use std::{collections::HashMap, sync::Arc};

use super::super::head::Head;
use crate::{host::HostPattern, model::Target, yaml::Findings};

/// At most this many conflicts are named for one target.
const MOST_REPORTED: usize = 16;

/// The hosts of the targets so far, indexed by what can overlap.
#[derive(Debug, Default)]
pub(in crate::validate) struct Claims {
    /// Exact hosts.
    exact: HashMap<String, Vec<Claim>>,
    /// Wildcards, by the part after their label.
    wildcards: HashMap<String, Vec<Claim>>,
    /// Exact hosts, by the part after their first label.
    below: HashMap<String, Vec<Claim>>,
}

type Claim = (HostPattern, Arc<Target>);

impl Claims {
    /// Adds the hosts of a target.
    pub(in crate::validate) fn add(&mut self, target: &Arc<Target>) {
        for host in &target.hosts {
            let claim = || (host.clone(), Arc::clone(target));
            if let Some(suffix) = host.suffix() {
                let below = self.wildcards.entry(suffix.to_owned()).or_default();
                below.push(claim());
                continue;
            }
            let written = host.to_string();
            if let Some((_, suffix)) = written.split_once('.') {
                let below = self.below.entry(suffix.to_owned()).or_default();
                below.push(claim());
            }
            self.exact.entry(written).or_default().push(claim());
        }
    }

    /// Reports the first shared host for each other target.
    pub(in crate::validate) fn check(&self, target: &Target, head: &Head<'_>, findings: &Findings) {
        let mut reported: Vec<&Target> = Vec::new();
        for (index, host) in target.hosts.iter().enumerate() {
            while reported.len() < MOST_REPORTED
                && let Some(other) = self.other(host, target, &reported)
            {
                reported.push(other);
                findings.error(
                    &head
                        .document
                        .location()
                        .key("spec")
                        .key("hosts")
                        .index(index),
                    "overlapping-targets",
                    format!("`{host}` belongs to the target `{}` as well", other.name),
                    format!(
                        "remove it from one of them, or name this target `{}` to replace the other",
                        other.name
                    ),
                );
            }
        }
    }

    /// Another target with the same host, at one of the same ports, that was not reported yet.
    fn other(&self, host: &HostPattern, target: &Target, reported: &[&Target]) -> Option<&Target> {
        let written = host.to_string();
        let (same, below, wildcards) = if let Some(suffix) = host.suffix() {
            (None, self.below.get(suffix), self.wildcards.get(suffix))
        } else {
            let suffix = written.split_once('.').map(|(_, suffix)| suffix);
            let wildcards = suffix.and_then(|suffix| self.wildcards.get(suffix));
            (self.exact.get(&written), None, wildcards)
        };
        let all = [same, below, wildcards].into_iter().flatten().flatten();
        all.filter(|(theirs, _)| theirs.overlaps(host))
            .map(|(_, other)| &**other)
            .filter(|other| target.ports.iter().any(|port| other.ports.contains(port)))
            .find(|other| !reported.iter().any(|known| known.name == other.name))
    }
}
