//! The health of each credential at its API: whether the API accepts it, how long it wants no requests,
//! and which scopes the credential has.
//!
//! The rest of this crate knows a value and its lifetime; this module knows what the API says about it.
//! Everything is in memory and learned again after a start. While all is well, a request reads a few
//! atomics and takes no lock.

mod host_health;
mod limits;
mod probed;
mod recent;
mod scopes;
mod status;
#[cfg(test)]
mod tests;

pub use host_health::{
    HostHealth,
    breaker::{
        BACK_OFF_LONGEST, BACK_OFF_SHORTEST, HalfOpenPermit, LastRejection, Rejected, Tripped,
    },
};
pub use limits::{LONGEST_LIMIT, LONGEST_LIMIT_ALONE};
pub use probed::{Finding, ProbeReport, Probed, Proof};
pub use scopes::LeastPrivilege;
pub use status::{HealthStatus, LastRejectionStatus, ProbeStatus, ScopesStatus};

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_config::{host::Host, model::ResourceName};
use foldhash::HashMap;

use host_health::HostHealths;
use limits::Limits;
use scopes::Scopes;

/// The health of all credentials in use.
#[derive(Debug, Default)]
pub struct HealthRegistry(ArcSwap<HashMap<ResourceName, Arc<Health>>>);

/// The health of one credential.
#[derive(Debug, Default)]
pub struct Health {
    /// The API's rate limits.
    pub limits: Limits,
    /// Its scopes, and which of them were needed.
    pub scopes: Scopes,
    places: HostHealths,
}

impl Health {
    /// Its health at one host.
    pub fn at(&self, host: &Host) -> Arc<HostHealth> {
        self.places.at(host)
    }
}

impl HealthRegistry {
    /// The health of one credential; empty for a new one.
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
        // Another request may have been faster.
        match self.0.load().get(credential) {
            Some(health) => Arc::clone(health),
            None => new,
        }
    }

    /// The health of one credential, if anything is known.
    pub fn known(&self, credential: &str) -> Option<Arc<Health>> {
        let all = self.0.load();
        let found = all.iter().find(|(name, _)| name.as_str() == credential);
        found.map(|(_, health)| Arc::clone(health))
    }

    /// After a reload: forgets credentials that are gone.
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
