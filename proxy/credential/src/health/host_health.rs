//! The health of a credential at each host: a value may work at only one of an API's hosts, and a
//! rejection at one host says nothing about another.

pub(super) mod breaker;

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_config::host::Host;

use self::breaker::Breaker;
use super::Probed;

/// The most hosts that are remembered for one credential; the oldest is evicted. Only a wildcard has so
/// many.
const MOST: usize = 64;

/// The health of one credential at one host.
#[derive(Debug, Default)]
pub struct HostHealth {
    /// Opens when the API keeps rejecting the credential there.
    pub breaker: Breaker,
    /// The results of probes there.
    pub probed: Probed,
}

/// The hosts of one credential.
#[derive(Debug, Default)]
pub(super) struct HostHealths(ArcSwap<Vec<(Host, Arc<HostHealth>)>>);

impl HostHealths {
    /// The entry of one host; empty for a new one.
    pub(super) fn at(&self, host: &Host) -> Arc<HostHealth> {
        let found = |all: &[(Host, Arc<HostHealth>)]| {
            let found = all.iter().find(|(known, _)| known == host);
            found.map(|(_, place)| Arc::clone(place))
        };
        if let Some(place) = found(&self.0.load()) {
            return place;
        }
        let new = Arc::new(HostHealth::default());
        self.0.rcu(|all| {
            if found(all).is_some() {
                return Vec::clone(all);
            }
            let room = all.len().saturating_sub(MOST - 1);
            let mut all = all[room..].to_vec();
            all.push((host.clone(), Arc::clone(&new)));
            all
        });
        // Another request may have been faster.
        found(&self.0.load()).unwrap_or(new)
    }

    /// All of them.
    pub(super) fn all(&self) -> Arc<Vec<(Host, Arc<HostHealth>)>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_one_for_each_host_and_bounded() {
        let places = HostHealths::default();
        let host = |n: usize| Host::parse(&format!("api-{n}.qase.io")).unwrap();
        let first = places.at(&host(0));
        assert!(Arc::ptr_eq(&first, &places.at(&host(0))));
        assert!(!Arc::ptr_eq(&first, &places.at(&host(1))));
        for n in 2..1_000 {
            places.at(&host(n));
        }
        assert_eq!(places.all().len(), MOST);
        assert!(!Arc::ptr_eq(&first, &places.at(&host(0))));
    }
}
