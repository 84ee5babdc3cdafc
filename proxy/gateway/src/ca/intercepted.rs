//! The hosts that may be intercepted.

use countersign_config::host::{Host, HostPattern};
use countersign_pki::{Names, Subtree};

/// A set of host patterns, in one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intercepted(Vec<HostPattern>);

impl Intercepted {
    /// The set of these.
    pub(super) fn new<'a>(hosts: impl Iterator<Item = &'a HostPattern>) -> Self {
        let mut hosts: Vec<_> = hosts.cloned().collect();
        hosts.sort_by_cached_key(ToString::to_string);
        hosts.dedup();
        Self(hosts)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `host` matches one of the patterns.
    pub(super) fn contains(&self, host: &Host) -> bool {
        self.0.iter().any(|pattern| pattern.matches(host))
    }

    /// Those that an intermediate for these names covers.
    pub(super) fn within(&self, names: &Names) -> Self {
        let covered = self
            .0
            .iter()
            .filter(|host| names.iter().any(|name| *name == subtree(host)));
        Self(covered.cloned().collect())
    }

    /// What an intermediate for them may issue for.
    pub(super) fn names(&self) -> Names {
        self.0.iter().map(subtree).collect()
    }
}

fn subtree(pattern: &HostPattern) -> Subtree {
    match (pattern.exact(), pattern.suffix()) {
        (Some(Host::Ip(ip)), _) => Subtree::Ip(*ip),
        (Some(Host::Name(name)), _) => Subtree::Dns(name.to_string()),
        (None, Some(suffix)) => Subtree::Dns(suffix.to_owned()),
        (None, None) => unreachable!("a pattern is either exact or has a suffix"),
    }
}
