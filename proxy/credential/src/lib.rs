//! Credentials: fetched when the first permitted request needs one, shared by all who may use it,
//! renewed while it is used, zeroed when it is released.
//!
//! ```text
//! obtain -> slot (cache, freshness, coalescing) -> provider (how to get it) -> source (where it is stored)
//! ```
//!
//! Every provider is used in this way, including those that rotate: a slot handles expiry, early
//! renewal and values that an API has rejected; a provider only knows how to get one value.

mod error;
mod forced;
pub mod health;
mod http;
mod maintenance;
mod provider;
mod reason;
mod revocation;
mod revoke;
mod slot;
mod source;
pub mod state;
mod status;
#[cfg(test)]
mod tests;
pub mod vault;

pub use error::{CredentialError, HelperFault, IssuerFault, RotationError, SourceError};
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
use provider::Fetcher;
use revoke::{Revoker, Value};
use slot::{Readiness, Slot, SlotContext, callers::Callers};
use source::{DynamicSecret, Recheck};

/// A credential's value, ready to be put on a request.
pub struct Issued {
    value: Arc<Value>,
    name: ResourceName,
    generation: u64,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    /// When it is renewed in the background, if it was used.
    renew_ahead_at: Option<Timestamp>,
    /// When a request that uses it triggers a renewal.
    renew_at: Option<Timestamp>,
    /// How to detect a changed source.
    recheck: Option<Recheck>,
    /// The dynamic secret that it came from, if a source made one.
    dynamic_secret: Option<Arc<DynamicSecret>>,
    /// Whether the last call to its source failed.
    stale: Arc<AtomicBool>,
}

impl Issued {
    /// The value. When the last holder drops it, it is zeroed, and revoked at its issuer if the
    /// credential asks for that. So hold it until the API has responded.
    pub fn secret(&self) -> &Secret {
        self.value.secret()
    }

    /// The credential's name.
    pub fn name(&self) -> &ResourceName {
        &self.name
    }

    /// Counts the values of this credential since the process started, from 1. Another value always has
    /// another generation, so a pool key can use it in place of the value. A value that was only read
    /// again keeps its generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When it was fetched.
    pub fn obtained_at(&self) -> Timestamp {
        self.obtained_at
    }

    /// When it expires: by its issuer or by the credential's own bound, whichever is earlier. `None` if
    /// no expiry is known.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether it is used although the last call to its source failed.
    pub fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// This value and the dynamic secret it came from.
    fn dynamic_secret(&self) -> Option<(&Self, &DynamicSecret)> {
        self.dynamic_secret
            .as_deref()
            .map(|dynamic_secret| (self, dynamic_secret))
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

/// What providers need: access to issuers, and to the sources of secret material.
#[derive(Debug)]
pub struct ProviderContext {
    http: http::Http,
    sources: source::Sources,
    state: state::State,
    rotations: provider::Rotations,
}

impl ProviderContext {
    /// As the Gateway file configures it. Connects to nothing yet.
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
    common: SlotContext,
}

/// The credentials of the current revision.
#[derive(Debug, Default)]
struct Table {
    entries: HashMap<ResourceName, Entry>,
    /// Whether the table is authoritative: a credential that is not in it belongs to another revision,
    /// and is not added.
    complete: bool,
}

/// A resource and its slots.
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
    fn new(credential: &Arc<Credential>, common: &SlotContext) -> Self {
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
    /// Empty; nothing is fetched before it is asked for. To be called within the runtime that it is used
    /// on.
    pub fn new(context: ProviderContext, clock: Clock) -> Self {
        Self::with_fetcher(clock, Fetcher::Provider(Arc::new(context)))
    }

    fn with_fetcher(clock: Clock, fetcher: Fetcher) -> Self {
        Self {
            table: ArcSwap::default(),
            common: SlotContext {
                generations: Arc::default(),
                revoker: Revoker::new(fetcher.clone(), clock.clone()),
                fetcher,
                clock,
                metrics: Metrics::new(),
            },
        }
    }

    /// The same, with its fetches counted in these metrics.
    #[must_use]
    pub fn counted_by(mut self, metrics: Metrics) -> Self {
        self.common.metrics = metrics;
        self
    }

    /// The value of a credential that all callers share, for one request.
    ///
    /// With a fresh value this neither waits nor allocates. Otherwise the caller joins the fetch in
    /// progress, or starts one; the fetch continues if the caller leaves.
    ///
    /// # Errors
    /// When there is none, and [`CredentialError::NoToken`] if each caller has its own value.
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

    /// The same for one caller, which may have its own value.
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
            Slots::PerCaller(callers) => callers.slot(&**caller, |handle| {
                Slot::new(Arc::clone(credential), &self.common)
                    .of_caller(Arc::clone(caller) as Arc<dyn Bearer>, Some(handle))
            }),
        };
        match slot.readiness() {
            Readiness::Ready(issued) => Ok(issued),
            Readiness::Failed(error) => Err(error),
            Readiness::Due => slot.fetched().await,
        }
    }

    /// At start: reports the credentials whose refreshed tokens could not be stored, and continues
    /// refreshes that an earlier process did not finish. Their issuer accepts a token that was possibly
    /// spent only for a short time.
    pub async fn resume<'c>(&self, in_use: impl IntoIterator<Item = &'c Arc<Credential>>) {
        let resuming = in_use.into_iter().map(async |credential| {
            if let Err(error) = self.common.fetcher.prove(credential).await {
                tracing::error!(
                    credential = %credential.name, %error,
                    "the result of a refresh could not be stored; the gateway does not refresh before it can"
                );
                if let Slots::Shared(slot) = self.enter(credential).slots {
                    slot.note_failure(error);
                }
            } else if self.common.fetcher.was_cut_off(credential).await {
                tracing::warn!(credential = %credential.name, "a refresh was interrupted; continuing it");
                // A failure is reported where it occurs.
                drop(self.obtain(credential).await);
            }
        });
        futures_util::future::join_all(resuming).await;
    }

    /// At the end: waits, at most for `limit`, until no work is in progress that must not be lost;
    /// returns whether that succeeded.
    pub async fn finish(&self, limit: Duration) -> bool {
        self.common.fetcher.finish(limit).await
    }

    /// An API rejected this value: the next [`Self::obtain`] asks the source again. Does nothing if the
    /// value was already replaced.
    ///
    /// Returns `false` if it was renewed so often recently for this reason that it is not renewed now.
    /// [`Self::obtain`] then returns the same value again, unless another replica has renewed it.
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

    /// Prepares the credentials of a new revision before it takes effect: keeps the values of those that
    /// are unchanged, and releases all others.
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

    /// Releases everything, and waits, at most for `limit`, until revocations are done; returns whether
    /// they were. Nothing may be obtained after this.
    pub async fn end(&self, limit: Duration) -> bool {
        self.retain([]);
        self.common.revoker.finish(limit).await
    }

    /// Makes the entry of a credential that has none, or whose entry is from an earlier revision. If it
    /// belongs to no current revision, because the request began with the previous one, the entry serves
    /// only this request and is not added.
    fn enter(&self, credential: &Arc<Credential>) -> Entry {
        let new = Entry::new(credential, &self.common);
        let mut entered = new.clone();
        self.table.rcu(|table| {
            // Another request may have added it in the meantime: all must share one.
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

/// How many values each credential has had. Kept when a credential is removed, so that a later one with
/// its name does not repeat generations.
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
