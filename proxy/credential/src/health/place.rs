//! How a credential fares at each host: a value may be good at one of an API's hosts alone, and what
//! is met at one says nothing about another.

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_config::host::Host;

use super::{Probed, breaker::Breaker};

/// The most hosts that are remembered for one credential; the one that came first makes room. Only a
/// wildcard has so many.
const MOST: usize = 64;

/// How one credential fares at one host.
#[derive(Debug, Default)]
pub struct Place {
    /// Opened when the API goes on rejecting it there.
    pub breaker: Breaker,
    /// What probes have shown of it there.
    pub probed: Probed,
}

/// The places of one credential.
#[derive(Debug, Default)]
pub(super) struct Places(ArcSwap<Vec<(Host, Arc<Place>)>>);

impl Places {
    /// That of one host; nothing is known of a new one.
    pub(super) fn at(&self, host: &Host) -> Arc<Place> {
        let found = |all: &[(Host, Arc<Place>)]| {
            let found = all.iter().find(|(known, _)| known == host);
            found.map(|(_, place)| Arc::clone(place))
        };
        if let Some(place) = found(&self.0.load()) {
            return place;
        }
        let new = Arc::new(Place::default());
        self.0.rcu(|all| {
            if found(all).is_some() {
                return Vec::clone(all);
            }
            let room = all.len().saturating_sub(MOST - 1);
            let mut all = all[room..].to_vec();
            all.push((host.clone(), Arc::clone(&new)));
            all
        });
        // Another request may have been quicker.
        found(&self.0.load()).unwrap_or(new)
    }

    /// All of them.
    pub(super) fn all(&self) -> Arc<Vec<(Host, Arc<Place>)>> {
        self.0.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_one_for_each_host_and_bounded() {
        let places = Places::default();
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
