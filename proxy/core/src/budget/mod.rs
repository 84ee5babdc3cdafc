//! The budget: all memory that peers can make the gateway hold, and who holds it.
//!
//! Memory that a peer can make the gateway use is reserved from the budget first ([`Purse`], [`Charge`])
//! and released on drop. How much an account can hold depends on how much is free: all unidentified
//! connections together half of it, a workload twice of it. So the account that holds most is refused
//! first, there is always something left for later ones, and accounts need not know of each other. One
//! workload alone can have two thirds of the budget; with one that takes all it can, unidentified
//! connections can have a seventh.
//!
//! If there is too little for a workload that holds less than its fair share, unidentified connections
//! are closed for it. If that is not enough, the largest forms of the workload that holds most are
//! revoked.
//!
//! The control path (admin endpoint, reload, keys of issuers, credentials) takes nothing from the budget
//! and is never refused: it uses the memory outside the budget.

mod account;
mod machine;
mod purse;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use countersign_types::memory;

pub use account::Account;
use account::{Accounts, Class};
pub use machine::{MemoryLimit, size};
pub use purse::{Charge, Purse};

use crate::{metrics::Metrics, reason::Reason};

/// The most unidentified connections that are closed for one reservation.
const EVICTIONS: usize = 8;

/// The least that each of them releases, in bytes.
const EVICTED: usize = narrow(memory::CONNECTION);

/// The budget. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    total: usize,
    /// The total of all accounts.
    held: AtomicUsize,
    unidentified: Arc<Account>,
    accounts: Accounts,
    metrics: Metrics,
    evict: OnceLock<Evict>,
}

/// Closes one unidentified connection; false if there is none.
type Evict = Box<dyn Fn() -> bool + Send + Sync>;

/// There is not enough memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Short {
    /// The workload holds more than its fair share.
    #[error("the workload holds {held} bytes of limits.memory ({total}), more than its share")]
    Share {
        /// What it holds.
        held: usize,
        /// The whole budget.
        total: usize,
    },
    /// Other workloads hold it.
    #[error("limits.memory ({total} bytes) is used up: {held} bytes are held")]
    Others {
        /// The total of all accounts.
        held: usize,
        /// The whole budget.
        total: usize,
    },
    /// An unidentified connection needs more than they can have.
    #[error("unidentified connections hold {held} bytes of limits.memory ({total})")]
    Unidentified {
        /// What all of them hold.
        held: usize,
        /// The whole budget.
        total: usize,
    },
}

impl Budget {
    /// An unused budget of this many bytes.
    pub fn new(total: u64, metrics: &Metrics) -> Self {
        let inner = Arc::new(Inner {
            total: narrow(total),
            held: AtomicUsize::new(0),
            unidentified: Arc::new(Account::new(Class::Unidentified)),
            accounts: Accounts::default(),
            metrics: metrics.clone(),
            evict: OnceLock::new(),
        });
        let read = Arc::downgrade(&inner);
        metrics.watch_memory(move || {
            read.upgrade().map_or([0; 3], |inner| {
                let budget = Self(inner);
                let (unidentified, workloads) = budget.held();
                [budget.total(), unidentified, workloads]
            })
        });
        Self(inner)
    }

    /// Sets how unidentified connections are closed when memory is short. The first call counts.
    pub fn evict_by(&self, evict: impl Fn() -> bool + Send + Sync + 'static) {
        self.0.evict.get_or_init(|| Box::new(evict));
    }

    /// The whole budget, in bytes.
    pub fn total(&self) -> usize {
        self.0.total
    }

    /// The bytes held by unidentified connections, and by workloads.
    pub fn held(&self) -> (usize, usize) {
        let unidentified = self.0.unidentified.held();
        let held = self.0.held.load(Ordering::Relaxed);
        (unidentified, held.saturating_sub(unidentified))
    }

    /// Reserves memory for a new connection.
    ///
    /// # Errors
    /// When there is not enough, even after closing another connection.
    pub fn admit(&self) -> Result<Arc<Purse>, Short> {
        Purse::open(self, &self.0.unidentified, narrow(memory::CONNECTION))
    }

    /// Reserves memory for something of a caller with a lifetime of its own: a tunnel.
    ///
    /// # Errors
    /// When there is not enough.
    pub fn open_for(&self, account: &Arc<Account>, bytes: u64) -> Result<Arc<Purse>, Short> {
        Purse::open(self, account, narrow(bytes))
    }

    /// The account of a service account or SPIFFE ID, in its issuer's terms.
    pub fn account_of(&self, issuer: &str, subject: &str) -> Arc<Account> {
        self.0.accounts.of(issuer, subject)
    }

    /// Reserves bytes for an account, or fails.
    fn take(&self, account: &Account, bytes: usize) -> Result<(), Short> {
        if self.try_take(account, bytes, 0) {
            return Ok(());
        }
        let evicted = self.evict(account, bytes);
        if evicted > 0 && self.try_take(account, bytes, evicted * EVICTED) {
            return Ok(());
        }
        if account.class == Class::Workload && self.preempt(account, bytes) {
            return Ok(());
        }
        let short = self.short(account, bytes);
        self.0
            .metrics
            .memory_refused(account.class.as_str(), short.code());
        Err(short)
    }

    /// Adds the bytes first and subtracts them again if they are too many, so that no two reservations
    /// get the same bytes. `coming` bytes are about to be released.
    fn try_take(&self, account: &Account, bytes: usize, coming: usize) -> bool {
        let own = account.held.fetch_add(bytes, Ordering::Relaxed);
        let all = self.0.held.fetch_add(bytes, Ordering::Relaxed);
        let free = self.0.total.saturating_sub(all).saturating_add(coming);
        let left = free.saturating_sub(bytes);
        let most = match account.class {
            Class::Unidentified => left / 2,
            Class::Workload => left.saturating_mul(2),
        };
        let may = bytes <= free && own.saturating_add(bytes) <= most;
        if !may {
            self.give(account, bytes);
        }
        may
    }

    /// Adds bytes without a check: they are already in use.
    fn count(&self, account: &Account, bytes: usize) {
        account.held.fetch_add(bytes, Ordering::Relaxed);
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, account: &Account, bytes: usize) {
        account.held.fetch_sub(bytes, Ordering::Relaxed);
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Closes unidentified connections: one for another unidentified connection; several for a workload,
    /// unless it already has its fair share.
    fn evict(&self, account: &Account, bytes: usize) -> usize {
        let Some(evict) = self.0.evict.get() else {
            return 0;
        };
        let most = match account.class {
            Class::Unidentified => 1,
            Class::Workload if account.held().saturating_add(bytes) <= self.fair_share() => {
                EVICTIONS
            }
            Class::Workload => 0,
        };
        let evicted = (0..most)
            .take_while(|_| self.0.unidentified.held() > 0 && evict())
            .count();
        for _ in 0..evicted {
            let class = Class::Unidentified.as_str();
            self.0.metrics.memory_refused(class, "evicted");
        }
        evicted
    }

    /// For a workload below its fair share, revokes the largest claims of the workload that holds most.
    /// They are released soon; until then the budget may be exceeded by a sixteenth.
    fn preempt(&self, account: &Account, bytes: usize) -> bool {
        let fair = self.fair_share();
        if account.held().saturating_add(bytes) > fair {
            return false;
        }
        let freed = self.0.accounts.revoke(account, fair, bytes);
        if freed == 0 {
            return false;
        }
        self.0
            .metrics
            .memory_refused(Class::Workload.as_str(), "memory_share");
        let all = self.0.held.load(Ordering::Relaxed).saturating_add(bytes);
        let may = all <= self.0.total + self.0.total / 16;
        if may {
            self.count(account, bytes);
        }
        may
    }

    /// The share of each workload if all of them took the same.
    fn fair_share(&self) -> usize {
        self.0.total / (self.0.accounts.count() + 1)
    }

    fn short(&self, account: &Account, bytes: usize) -> Short {
        let (total, own) = (self.0.total, account.held());
        match account.class {
            Class::Unidentified => Short::Unidentified { held: own, total },
            Class::Workload if own.saturating_add(bytes) > self.fair_share() => {
                Short::Share { held: own, total }
            }
            Class::Workload => Short::Others {
                held: self.0.held.load(Ordering::Relaxed),
                total,
            },
        }
    }
}

impl Short {
    /// The reason, for responses, records and metrics.
    pub fn reason(self) -> Reason {
        match self {
            Self::Share { .. } => Reason::MemoryShare,
            Self::Others { .. } | Self::Unidentified { .. } => Reason::MemoryShort,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::Share { .. } => "memory_share",
            Self::Others { .. } | Self::Unidentified { .. } => "memory_short",
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("total", &self.total)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

/// A configured size as `usize`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "where addresses have 32 bits, no more can be held"
)]
pub const fn narrow(bytes: u64) -> usize {
    if bytes > usize::MAX as u64 {
        usize::MAX
    } else {
        bytes as usize
    }
}
