//! The pool of connections.
//!
//! Connections are shared only between requests with equal [`Outbound`]s. Each key has an [`Endpoint`],
//! whose lock is held for a few steps in memory (every few seconds to check each idle connection) and never
//! across an await. The endpoints are in several locked maps, so that two cores seldom meet.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use countersign_config::model::Limits;
use countersign_core::destination::Authority;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{
    endpoint::Endpoint, error::ForwardError, lock::lock, outbound::Outbound, tls::Protocol,
};

const SHARDS: usize = 16;

/// The longest interval between two sweeps.
const SLOWEST_SWEEP: Duration = Duration::from_secs(5);

/// All pooled upstream connections.
pub(super) struct Pool {
    shards: [Mutex<HashMap<Outbound, Arc<Endpoint>>>; SHARDS],
    hasher: RandomState,
    /// The protocol that each authority spoke last, so that another key need not find out again.
    protocols: moka::sync::Cache<Authority, Protocol>,
    connections: usize,
    idle_timeout: Duration,
}

impl Pool {
    /// An empty pool, and the task that closes its idle connections, which ends with it.
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let pool = Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            protocols: moka::sync::Cache::new(1024),
            connections: limits.upstream_connections,
            idle_timeout: limits.upstream_idle_timeout,
        });
        tokio::spawn(sweep_on(Arc::downgrade(&pool)));
        pool
    }

    /// The endpoint of `key`.
    pub(super) fn endpoint(&self, key: &Outbound) -> Result<Arc<Endpoint>, ForwardError> {
        let mut endpoints = self.shard(key);
        if let Some(endpoint) = endpoints.get(key) {
            return Ok(Arc::clone(endpoint));
        }
        let protocol = self.protocols.get(&key.authority);
        let endpoint = Arc::new(Endpoint::new(&key.authority, protocol, self.connections)?);
        endpoints.insert(key.clone(), Arc::clone(&endpoint));
        Ok(endpoint)
    }

    /// Remembers the protocol of an authority.
    pub(super) fn learn(&self, authority: &Authority, protocol: Protocol) {
        self.protocols.insert(authority.clone(), protocol);
    }

    /// Closes connections that were not used for the idle timeout, or that the upstream has closed.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for shard in &self.shards {
            let mut endpoints = lock(shard);
            endpoints.retain(|_, endpoint| {
                endpoint.sweep(now, self.idle_timeout);
                // The map is locked, so no request can get an endpoint that only the map holds.
                Arc::strong_count(endpoint) > 1 || !endpoint.is_empty()
            });
        }
    }

    fn shard(&self, key: &Outbound) -> MutexGuard<'_, HashMap<Outbound, Arc<Endpoint>>> {
        let hash = self.hasher.hash_one(key);
        // The inner map uses another hash.
        let at = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        lock(&self.shards[at])
    }

    #[cfg(test)]
    pub(super) fn endpoints(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

async fn sweep_on(pool: Weak<Pool>) {
    let Some(idle_timeout) = pool.upgrade().map(|pool| pool.idle_timeout) else {
        return;
    };
    let every = (idle_timeout / 4).clamp(Duration::from_millis(10), SLOWEST_SWEEP);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match pool.upgrade() {
            Some(pool) => pool.sweep(),
            None => return,
        }
    }
}
