//! How each credential fares at its API: whether the API takes it, how long it wants to be left
//! alone, and what it says the credential may do.
//!
//! The credential room knows what a value is and how long it lives; what an API thinks of it is known
//! here. All of it is in memory and is learned anew after a start. While all is well a request
//! reads a few atomics and takes no lock.

mod breaker;
#[cfg(test)]
mod breaker_tests;
mod evidence;
mod lately;
mod limits;
mod place;
mod probed;
mod scopes;
mod status;
#[cfg(test)]
mod tests;

pub use breaker::{BACK_OFF_LONGEST, BACK_OFF_SHORTEST, Rejected, Trial};
pub use limits::{LONGEST_LIMIT, LONGEST_LIMIT_ALONE};
pub use place::Place;
pub use probed::{Finding, ProbeReport, Probed, Proof};
pub use scopes::LeastPrivilege;
pub use status::{HealthStatus, ProbeStatus, ScopesStatus};

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_config::{host::Host, model::ResourceName};
use foldhash::HashMap;

use limits::Limits;
use place::Places;
use scopes::Scopes;

/// The health of all credentials in use.
#[derive(Debug, Default)]
pub struct Healths(ArcSwap<HashMap<ResourceName, Arc<Health>>>);

/// How one credential fares.
#[derive(Debug, Default)]
pub struct Health {
    /// What the API's 429 asked for.
    pub limits: Limits,
    /// What it may do, and what of that was of use.
    pub scopes: Scopes,
    places: Places,
}

impl Health {
    /// How it fares at one host.
    pub fn at(&self, host: &Host) -> Arc<Place> {
        self.places.at(host)
    }
}

impl Healths {
    /// That of one credential; nothing is known of a new one.
    pub fn of(&self, credential: &ResourceName) -> Arc<Health> {
        if let Some(health) = self.0.load().get(credential) {
            return Arc::clone(health);
        }
        let new = Arc::new(Health::default());
        self.0.rcu(|known| {
            let mut known = HashMap::clone(known);
            known
                .entry(credential.clone())
                .or_insert_with(|| Arc::clone(&new));
            known
        });
        // Another request may have been quicker.
        match self.0.load().get(credential) {
            Some(health) => Arc::clone(health),
            None => new,
        }
    }

    /// That of one credential, if anything is known of it.
    pub fn known(&self, credential: &str) -> Option<Arc<Health>> {
        let all = self.0.load();
        let found = all.iter().find(|(name, _)| name.as_str() == credential);
        found.map(|(_, health)| Arc::clone(health))
    }

    /// After a reload: forgets the credentials that are gone.
    pub fn retain<'c>(&self, in_use: impl IntoIterator<Item = &'c ResourceName>) {
        let in_use: Vec<_> = in_use.into_iter().collect();
        self.0.rcu(|known| {
            let kept = in_use
                .iter()
                .filter_map(|name| Some(((*name).clone(), Arc::clone(known.get(*name)?))));
            kept.collect::<HashMap<_, _>>()
        });
    }
}
