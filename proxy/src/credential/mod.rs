//! The credential, just in time: fetched on the first permitted request, shared by all who need
//! it, looked after while it is used, overwritten when it is let go.
//!
//! ```text
//! obtain -> slot (cache, freshness, coalescing) -> provider (what to do) -> source (where it lives)
//! ```
//!
//! Every provider goes this way, also those that rotate: a slot knows about expiry, renewal
//! ahead of time and values that an API has rejected; a provider only knows how to get one value.

mod error;
mod http;
mod provider;
mod slot;
mod source;
#[cfg(test)]
mod tests;

pub use error::CredentialError;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use countersign_config::model::{Credential, Gateway, ResourceName};
use jiff::Timestamp;

use crate::{clock::Clock, forward::Forwarder, secret::Secret};
use provider::Fetcher;
use slot::{Readiness, Slot};

/// A credential's value, ready to be put on a request.
pub struct Issued {
    secret: Secret,
    name: ResourceName,
    generation: u64,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    renew_at: Option<Timestamp>,
}

impl Issued {
    /// The value. It is overwritten in memory when the last holder lets go.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The credential's name.
    pub fn name(&self) -> &ResourceName {
        &self.name
    }

    /// Counts the values this credential has had since the process started, from 1. Another value
    /// always has another generation, so that it may stand for the value in a pool's key; a value
    /// that was only read again keeps its own.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When it was obtained.
    pub fn obtained_at(&self) -> Timestamp {
        self.obtained_at
    }

    /// From when on it is not used any more: its issuer's word or the credential's own bound,
    /// whichever comes first. `None` is no known end.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .field("obtained_at", &self.obtained_at)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What providers work with: how they reach issuers, and where secret material lives.
#[derive(Debug)]
pub struct Tools {
    #[expect(dead_code, reason = "no provider asks an issuer yet")]
    http: http::Http,
    sources: source::Sources,
}

impl Tools {
    /// As the gateway's file says. Connects to nothing yet.
    pub fn new(gateway: &Gateway, forwarder: Arc<Forwarder>) -> Self {
        let (upstream, limits) = (gateway.upstream.clone(), gateway.limits.clone());
        Self {
            http: http::Http::new(forwarder, upstream, limits),
            sources: source::Sources::new(),
        }
    }
}

/// All credentials in use.
#[derive(Debug)]
pub struct Credentials {
    entries: ArcSwap<HashMap<ResourceName, Entry>>,
    fetcher: Fetcher,
    generations: Arc<Generations>,
    clock: Clock,
}

/// A slot and the resource it was made for.
#[derive(Debug, Clone)]
struct Entry {
    credential: Arc<Credential>,
    slot: Arc<Slot>,
}

impl Entry {
    fn is_for(&self, credential: &Arc<Credential>) -> bool {
        Arc::ptr_eq(&self.credential, credential) || self.credential == *credential
    }
}

impl Credentials {
    /// Holds nothing yet; nothing is fetched before it is asked for.
    pub fn new(tools: Tools, clock: Clock) -> Self {
        Self::with_fetcher(clock, Fetcher::Provider(Arc::new(tools)))
    }

    fn with_fetcher(clock: Clock, fetcher: Fetcher) -> Self {
        Self {
            entries: ArcSwap::default(),
            fetcher,
            generations: Arc::default(),
            clock,
        }
    }

    /// The credential's value, for one request.
    ///
    /// While a fresh one is held this neither waits nor allocates. Otherwise the caller joins
    /// the one fetch that is under way, or starts it; the fetch goes on if the caller leaves.
    pub async fn obtain(
        &self,
        credential: &Arc<Credential>,
    ) -> Result<Arc<Issued>, CredentialError> {
        let slot = {
            let entries = self.entries.load();
            match entries.get(&credential.name) {
                Some(entry) if entry.is_for(credential) => match entry.slot.readiness() {
                    Readiness::Ready(issued) => return Ok(issued),
                    Readiness::Failed(error) => return Err(error),
                    Readiness::Due => Arc::clone(&entry.slot),
                },
                Some(_) | None => self.enter(credential),
            }
        };
        slot.fetched().await
    }

    /// An API said that this value is bad: the next [`Self::obtain`] asks the source anew. Does
    /// nothing if another value has taken its place already.
    pub fn invalidate(&self, credential: &ResourceName, generation: u64) {
        if let Some(entry) = self.entries.load().get(credential) {
            entry.slot.invalidate(generation);
        }
    }

    /// After a reload: keeps the values of the credentials that are still there unchanged, and
    /// lets all others go.
    pub fn retain(&self, in_use: &[Arc<Credential>]) {
        self.entries.rcu(|entries| {
            let kept = in_use.iter().filter_map(|credential| {
                let entry = entries.get(&credential.name)?;
                entry.is_for(credential).then(|| {
                    let slot = Arc::clone(&entry.slot);
                    let credential = Arc::clone(credential);
                    (credential.name.clone(), Entry { credential, slot })
                })
            });
            kept.collect::<HashMap<_, _>>()
        });
    }

    /// The slot for a credential that has none, or whose slot was made for an earlier revision.
    fn enter(&self, credential: &Arc<Credential>) -> Arc<Slot> {
        let new = Entry {
            credential: Arc::clone(credential),
            slot: Arc::new(Slot::new(
                Arc::clone(credential),
                self.fetcher.clone(),
                Arc::clone(&self.generations),
                self.clock.clone(),
            )),
        };
        let mut entered = Arc::clone(&new.slot);
        self.entries.rcu(|entries| {
            // Another request may have entered it in the meantime: all must share one slot.
            if let Some(entry) = entries
                .get(&credential.name)
                .filter(|e| e.is_for(credential))
            {
                entered = Arc::clone(&entry.slot);
                return Arc::clone(entries);
            }
            entered = Arc::clone(&new.slot);
            let mut entries = HashMap::clone(entries);
            entries.insert(credential.name.clone(), new.clone());
            Arc::new(entries)
        });
        entered
    }
}

/// How many values each credential has had. Kept when a credential goes, so that one that comes
/// back is not taken for its earlier self.
#[derive(Debug, Default)]
struct Generations(Mutex<HashMap<ResourceName, u64>>);

impl Generations {
    fn next(&self, name: &ResourceName) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        *count
    }
}
