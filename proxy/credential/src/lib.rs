//! The credential, just in time: fetched on the first permitted request, shared by all who need
//! it, looked after while it is used, overwritten when it is let go.
//!
//! ```text
//! obtain -> slot (cache, freshness, coalescing) -> provider (what to do) -> source (where it lives)
//! ```
//!
//! Every provider goes this way, also those that rotate: a slot knows about expiry, renewal
//! ahead of time and values that an API has rejected; a provider only knows how to get one value.

mod callers;
mod error;
mod forced;
pub mod health;
mod http;
mod life;
mod provider;
mod reason;
mod revoke;
mod slot;
mod source;
pub mod state;
mod status;
#[cfg(test)]
mod tests;
pub mod vault;

pub use error::{CredentialError, IssuerFault};
pub use provider::RotationError;
pub use source::{HelperFault, SourceError};
pub use state::StateError;
pub use status::{CredentialState, CredentialStatus, CredentialsStatus};

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use countersign_config::model::{Credential, Gateway, ResourceName};
use countersign_core::{bearer::Bearer, clock::Clock, metrics::Metrics, secret::Secret};
use countersign_upstream::forward::Forwarder;
use foldhash::HashMap;
use jiff::Timestamp;

use crate::vault::Vault;
use callers::Callers;
use provider::Fetcher;
use revoke::{Revoker, Value};
use slot::{Common, Readiness, Slot};
use source::{Made, Recheck};

/// A credential's value, ready to be put on a request.
pub struct Issued {
    value: Arc<Value>,
    name: ResourceName,
    generation: u64,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    /// When it is renewed in the background, if it was used.
    renew_ahead_at: Option<Timestamp>,
    /// When a request that uses it has it renewed.
    renew_at: Option<Timestamp>,
    /// How it is noticed that its source holds another.
    recheck: Option<Recheck>,
    /// What it is of, where a source made it for us.
    made: Option<Arc<Made>>,
    /// Whether its source failed when it was asked last.
    stale: Arc<AtomicBool>,
}

impl Issued {
    /// The value. When the last holder lets go it is overwritten in memory, and revoked where it was
    /// issued if the credential asks for that: so hold it until the API has answered.
    pub fn secret(&self) -> &Secret {
        self.value.secret()
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

    /// Whether it serves although its source failed when it was asked last.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// Itself, and what it is of.
    fn made(&self) -> Option<(&Self, &Made)> {
        self.made.as_deref().map(|made| (self, made))
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
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
    http: http::Http,
    sources: source::Sources,
    state: state::State,
    rotations: provider::Rotations,
}

impl Tools {
    /// As the gateway's file says. Connects to nothing yet.
    pub fn new(gateway: &Gateway, forwarder: Arc<Forwarder>, clock: Clock) -> Self {
        let (upstream, limits) = (gateway.upstream.clone(), gateway.limits.clone());
        let vault = gateway.vault.as_ref();
        let vault = vault.map(|server| Vault::new(server, clock.clone()));
        Self {
            http: http::Http::new(forwarder, upstream, limits),
            sources: source::Sources::new(&gateway.kubernetes, vault.clone()),
            state: state::State::new(gateway, vault, clock),
            rotations: provider::Rotations::default(),
        }
    }
}

/// All credentials in use.
#[derive(Debug)]
pub struct Credentials {
    table: ArcSwap<Table>,
    common: Common,
}

/// The credentials of the revision in force.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<ResourceName, Entry>,
    /// What is not among the entries belongs to another revision, and is not entered.
    complete: bool,
}

/// A resource and the slots that were made for it.
#[derive(Debug, Clone)]
struct Entry {
    credential: Arc<Credential>,
    slots: Slots,
}

#[derive(Debug, Clone)]
enum Slots {
    /// One for all.
    Shared(Arc<Slot>),
    /// One for each caller.
    PerCaller(Arc<Callers>),
}

impl Entry {
    fn new(credential: &Arc<Credential>, common: &Common) -> Self {
        let slots = if credential.provider.is_per_caller() {
            Slots::PerCaller(Arc::default())
        } else {
            Slots::Shared(Arc::new(Slot::new(Arc::clone(credential), common)))
        };
        Self {
            credential: Arc::clone(credential),
            slots,
        }
    }

    fn is_for(&self, credential: &Arc<Credential>) -> bool {
        Arc::ptr_eq(&self.credential, credential) || self.credential == *credential
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        match &self.slots {
            Slots::Shared(slot) => vec![Arc::clone(slot)],
            Slots::PerCaller(callers) => callers.all(),
        }
    }
}

impl Credentials {
    /// Holds nothing yet; nothing is fetched before it is asked for. To be made within the runtime
    /// that it is used on.
    pub fn new(tools: Tools, clock: Clock) -> Self {
        Self::with_fetcher(clock, Fetcher::Provider(Arc::new(tools)))
    }

    fn with_fetcher(clock: Clock, fetcher: Fetcher) -> Self {
        Self {
            table: ArcSwap::default(),
            common: Common {
                generations: Arc::default(),
                revoker: Revoker::new(fetcher.clone(), clock.clone()),
                fetcher,
                clock,
                metrics: Metrics::new(),
            },
        }
    }

    /// The same, with its fetches counted there.
    #[must_use]
    pub fn counted_by(mut self, metrics: Metrics) -> Self {
        self.common.metrics = metrics;
        self
    }

    /// The value of a credential that all callers share, for one request.
    ///
    /// While a fresh one is held this neither waits nor allocates. Otherwise the caller joins
    /// the one fetch that is under way, or starts it; the fetch goes on if the caller leaves.
    ///
    /// # Errors
    /// When there is none, and [`CredentialError::NoToken`] where each caller has its own.
    pub async fn obtain(
        &self,
        credential: &Arc<Credential>,
    ) -> Result<Arc<Issued>, CredentialError> {
        let slot = match &self
            .table
            .load()
            .entry(credential)
            .map(|entry| &entry.slots)
        {
            Some(Slots::PerCaller(_)) => return Err(CredentialError::NoToken),
            Some(Slots::Shared(slot)) => match slot.readiness() {
                Readiness::Ready(issued) => return Ok(issued),
                Readiness::Failed(error) => return Err(error),
                Readiness::Due => Arc::clone(slot),
            },
            None => match self.enter(credential).slots {
                Slots::Shared(slot) => slot,
                Slots::PerCaller(_) => return Err(CredentialError::NoToken),
            },
        };
        slot.fetched().await
    }

    /// The same for one caller, who may have a value of its own.
    ///
    /// # Errors
    /// When there is none.
    pub async fn obtain_for<B: Bearer>(
        &self,
        credential: &Arc<Credential>,
        caller: &Arc<B>,
    ) -> Result<Arc<Issued>, CredentialError> {
        if !credential.provider.is_per_caller() {
            return self.obtain(credential).await;
        }
        if caller.token().is_none() {
            return Err(CredentialError::NoToken);
        }
        let entry = self.table.load().entry(credential).cloned();
        let slot = match entry.unwrap_or_else(|| self.enter(credential)).slots {
            Slots::Shared(slot) => slot,
            Slots::PerCaller(callers) => callers.slot(&**caller, |home| {
                Slot::new(Arc::clone(credential), &self.common)
                    .of_caller(Arc::clone(caller) as Arc<dyn Bearer>, Some(home))
            }),
        };
        match slot.readiness() {
            Readiness::Ready(issued) => Ok(issued),
            Readiness::Failed(error) => Err(error),
            Readiness::Due => slot.fetched().await,
        }
    }

    /// At start: says which credentials could not be kept if they were refreshed, and goes on with what an earlier process began and did not end. A token that it may
    /// have spent is taken by its issuer for a short while only.
    pub async fn resume<'c>(&self, in_use: impl IntoIterator<Item = &'c Arc<Credential>>) {
        let resuming = in_use.into_iter().map(async |credential| {
            if let Err(error) = self.common.fetcher.prove(credential).await {
                tracing::error!(
                    credential = %credential.name, %error,
                    "what a refresh brings could not be kept; none is made before it can be"
                );
                if let Slots::Shared(slot) = self.enter(credential).slots {
                    slot.note_failure(error);
                }
            } else if self.common.fetcher.was_cut_off(credential).await {
                tracing::warn!(credential = %credential.name, "a refresh was cut off; going on with it");
                // What fails is told where it fails.
                drop(self.obtain(credential).await);
            }
        });
        futures_util::future::join_all(resuming).await;
    }

    /// At the end: waits until nothing is under way that would be lost, for `limit` at most; whether
    /// that was so.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.common.fetcher.finish(limit).await
    }

    /// An API said that this value is bad: the next [`Self::obtain`] asks the source anew. Does
    /// nothing if another value has taken its place already.
    ///
    /// `false` is that it was renewed so often of late for this reason that it is not renewed now, and
    /// [`Self::obtain`] gives the same value again, unless another replica has renewed it.
    pub fn invalidate(&self, credential: &ResourceName, generation: u64) -> bool {
        let table = self.table.load();
        let Some(entry) = table.entries.get(credential) else {
            return true;
        };
        match &entry.slots {
            Slots::Shared(slot) => slot.invalidate(generation),
            // Another caller's value has another generation.
            Slots::PerCaller(callers) => {
                let all = callers.all();
                all.iter().all(|slot| slot.invalidate(generation))
            }
        }
    }

    /// Takes the credentials that policies of a new revision use, before the revision is in force:
    /// keeps the values of those that are still there unchanged, and lets all others go.
    pub fn retain<'c>(&self, in_use: impl IntoIterator<Item = &'c Arc<Credential>>) {
        let in_use: Vec<_> = in_use.into_iter().collect();
        let before = self.table.rcu(|table| {
            let entries = in_use.iter().map(|credential| {
                let entry = match table.entry(credential) {
                    Some(entry) => Entry {
                        credential: Arc::clone(credential),
                        slots: entry.slots.clone(),
                    },
                    None => Entry::new(credential, &self.common),
                };
                (credential.name.clone(), entry)
            });
            Table {
                entries: entries.collect(),
                complete: true,
            }
        });
        let kept = self.table.load();
        for entry in before.entries.values() {
            if kept.entry(&entry.credential).is_none() {
                entry.all().iter().for_each(|slot| slot.end());
            }
        }
    }

    /// Lets everything go, and waits until what has to be revoked is, for `limit` at most; whether it
    /// was. Nothing is to be obtained after this.
    pub async fn end(&self, limit: Duration) -> bool {
        self.retain([]);
        self.common.revoker.finish(limit).await
    }

    /// The entry of a credential that has none, or whose entry is of an earlier revision. What is of
    /// no revision in force, because the request took its own from the one before, serves this
    /// request and is not entered.
    fn enter(&self, credential: &Arc<Credential>) -> Entry {
        let new = Entry::new(credential, &self.common);
        let mut entered = new.clone();
        self.table.rcu(|table| {
            // Another request may have entered it in the meantime: all must share one.
            if let Some(entry) = table.entry(credential) {
                entered = entry.clone();
                return Arc::clone(table);
            }
            entered = new.clone();
            if table.complete {
                return Arc::clone(table);
            }
            let mut entries = table.entries.clone();
            entries.insert(credential.name.clone(), new.clone());
            Arc::new(Table {
                entries,
                complete: false,
            })
        });
        entered
    }
}

impl Table {
    fn entry(&self, credential: &Arc<Credential>) -> Option<&Entry> {
        let entry = self.entries.get(&credential.name);
        entry.filter(|entry| entry.is_for(credential))
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
